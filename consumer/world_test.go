package consumer_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"
	"go.uber.org/zap/zaptest/observer"

	"fanout/consumer"
	"fanout/dispatcher"
	"fanout/egress"
	"fanout/event"
	"fanout/subscriptions"
	"fanout/topic"
)

// directory is a fixed set of subscriptions, which a test may change.
type directory struct {
	mu   sync.Mutex
	subs map[string]*subscriptions.Subscription // by account/id

	asked atomic.Uint64
}

// Version is another one each time: its answers may change.
func (d *directory) Version() uint64 { return d.asked.Add(1) }

func (d *directory) set(t *testing.T, account, id, json string) {
	t.Helper()
	sub, bad := subscriptions.Parse(account, id, []byte(json))
	if bad != nil {
		t.Fatalf("subscription %s/%s: %v", account, id, bad)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.subs[account+"/"+id] = sub
}

func (d *directory) Match(dst []*subscriptions.Subscription, account string, name event.Name, notificationID string) []*subscriptions.Subscription {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.subs {
		if s.Account() == account && s.Enabled() && s.Events().Has(name) && s.WantsNotification(notificationID) {
			dst = append(dst, s)
		}
	}
	return dst
}

func (d *directory) Lookup(account, id string) *subscriptions.Subscription {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.subs[account+"/"+id]
}

// received is one request at the receiver.
type received struct {
	header http.Header
	body   string
	at     time.Time
}

// receiver answers as a test tells it to, by path.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	requests map[string][]received // by path
	answer   map[string]func(http.ResponseWriter, *http.Request, string)
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{requests: make(map[string][]received), answer: make(map[string]func(http.ResponseWriter, *http.Request, string))}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		r.requests[req.URL.Path] = append(r.requests[req.URL.Path], received{req.Header.Clone(), string(body), time.Now()})
		answer := r.answer[req.URL.Path]
		r.mu.Unlock()
		if answer != nil {
			answer(w, req, string(body))
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) on(path string, h http.HandlerFunc) {
	r.onBody(path, func(w http.ResponseWriter, req *http.Request, _ string) { h(w, req) })
}

func (r *receiver) onBody(path string, h func(http.ResponseWriter, *http.Request, string)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer[path] = h
}

func (r *receiver) got(path string) []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clip(r.requests[path]) // what came is not changed
}

// world is an embedded Kafka, a receiver, and one instance of dispatcher and consumer between them.
type world struct {
	t       *testing.T
	cluster *kfake.Cluster
	dir     *directory
	recv    *receiver
	cfg     consumer.Config
	dcfg    dispatcher.Config
	client  *kafka.Client
	logs    *observer.ObservedLogs // warnings and errors of the instance that was started last
}

// newWorld lets the test run beside others: most of them wait most of the time.
func newWorld(t *testing.T, topics ...string) *world {
	t.Helper()
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, topics...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	schedule := []time.Duration{200 * time.Millisecond, 300 * time.Millisecond}
	w := &world{
		t: t, cluster: cluster, dir: &directory{subs: make(map[string]*subscriptions.Subscription)}, recv: newReceiver(t),
		dcfg: dispatcher.Config{
			Delivery: dispatcher.DeliveryConfig{
				Timeout: 2 * time.Second, ConnectTimeout: time.Second, Schedule: schedule, MaxAge: time.Hour,
				PermanentStatuses: []int{410}, MaxInFlight: 256,
			},
			Lanes: dispatcher.LanesConfig{
				MaxInFlight: 64, Queue: 1000, QueueAge: 2 * time.Second, ParkAfter: 10, ParkMin: 500 * time.Millisecond, ParkMax: time.Second,
			},
			Egress:    egress.Config{AllowHTTP: true, AllowCIDRs: []string{"127.0.0.0/8"}},
			UserAgent: "fanout/test",
		},
		cfg: consumer.Config{
			Config: topic.Config{
				Kafka:  topic.KafkaConfig{Brokers: cluster.ListenAddrs(), Group: "fanout", CreateTopics: true, Partitions: 2, RetryPartitions: 2, Replication: 1, Start: "earliest"},
				Prefix: "fanout", Schedule: schedule, ParkMin: 500 * time.Millisecond, ParkMax: time.Second, MaxAge: time.Hour, MaxEventBytes: 262144,
			},
			ShutdownTimeout: 5 * time.Second,
		},
		// The default transport keeps what it knows of a port, which another test's cluster may have had.
		client: &kafka.Client{Addr: kafka.TCP(cluster.ListenAddrs()...), Transport: &kafka.Transport{}},
	}
	t.Cleanup(w.client.Transport.(*kafka.Transport).CloseIdleConnections)
	for _, name := range topics {
		w.cfg.Sources = append(w.cfg.Sources, topic.SourceConfig{Topic: name})
	}
	return w
}

// instance is a running dispatcher and consumer.
type instance struct {
	w    *world
	reg  *prometheus.Registry
	d    *dispatcher.Dispatcher
	c    *consumer.Consumer
	stop context.CancelFunc
	done chan error
}

func (w *world) start() *instance {
	w.t.Helper()
	i := w.startUnready()
	w.until("ready", func() bool { return i.c.Ready() == nil })
	return i
}

func (w *world) startUnready() *instance {
	w.t.Helper()
	core, logs := observer.New(zap.WarnLevel)
	w.logs = logs
	log := zaptest.NewLogger(w.t, zaptest.WrapOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core { return zapcore.NewTee(c, core) })))
	reg := prometheus.NewRegistry()
	var c *consumer.Consumer
	d, err := dispatcher.New(w.dcfg, w.dir, log, reg, dispatcher.WithLaneObserver(func(e dispatcher.LaneEvent) { c.FollowLane(e) }))
	if err != nil {
		w.t.Fatal(err)
	}
	c, err = consumer.New(w.cfg, d, log, reg)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(w.t.Context())
	i := &instance{w: w, reg: reg, d: d, c: c, stop: stop, done: make(chan error, 1)}
	dctx, dstop := context.WithCancel(context.WithoutCancel(ctx))
	var dispatching sync.WaitGroup
	dispatching.Go(func() { _ = d.Run(dctx) })
	go func() {
		err := c.Run(ctx)
		dstop()
		dispatching.Wait()
		i.done <- err
	}()
	w.t.Cleanup(func() { stop(); <-i.done; i.done <- nil })
	return i
}

// ended says whether the instance has ended by itself.
func (i *instance) ended() bool {
	select {
	case err := <-i.done:
		i.done <- err
		return true
	default:
		return false
	}
}

// end stops the instance and checks its loss account.
func (i *instance) end() {
	i.w.t.Helper()
	i.stop()
	select {
	case err := <-i.done:
		if err != nil {
			i.w.t.Errorf("run: %v", err)
		}
		i.done <- nil
	case <-time.After(20 * time.Second):
		i.w.t.Fatal("the instance did not stop")
	}
	i.balanced()
}

// balanced checks the loss account (docs/contract.md#loss-account).
func (i *instance) balanced() {
	i.w.t.Helper()
	for _, stage := range []string{"first", "retry", "replay"} {
		planned, settled, open := i.sum("fanout_deliveries_total", "stage", stage), i.sum("fanout_outcomes_total", "stage", stage), i.sum("fanout_in_flight", "stage", stage)
		if planned != settled+open {
			i.w.t.Errorf("stage %s: planned %v, settled %v, in flight %v", stage, planned, settled, open)
		}
	}
}

// sum adds up a metric's series that have all the labels given, as name, value, name, value.
func (i *instance) sum(name string, labels ...string) float64 {
	i.w.t.Helper()
	families, err := i.reg.Gather()
	if err != nil {
		i.w.t.Fatal(err)
	}
	total := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if hasLabels(m, labels) {
				total += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return total
}

func hasLabels(m *dto.Metric, want []string) bool {
	for i := 0; i < len(want); i += 2 {
		found := false
		for _, l := range m.GetLabel() {
			found = found || l.GetName() == want[i] && l.GetValue() == want[i+1]
		}
		if !found {
			return false
		}
	}
	return true
}

func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			w.t.Fatalf("not within 30s: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// asked counts the requests of a kind that the broker gets from now on.
func (w *world) asked(kind kmsg.Key, counts func(kmsg.Request) bool) *atomic.Int64 {
	n := new(atomic.Int64)
	w.cluster.ControlKey(kind.Int16(), func(r kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		if counts(r) {
			n.Add(1)
		}
		return nil, nil, false
	})
	return n
}

func (w *world) produce(topic string, partition int, records ...kafka.Record) {
	w.t.Helper()
	res, err := w.client.Produce(w.t.Context(), &kafka.ProduceRequest{
		Topic: topic, Partition: partition, RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(records...),
	})
	if err == nil {
		err = res.Error
	}
	if err != nil {
		w.t.Fatalf("produce to %s: %v", topic, err)
	}
}

func rawEvent(account string, n int) kafka.Record {
	value := fmt.Sprintf(`{"accountId":%q,"channel":"EMAIL","type":"OPEN","trackingId":"t%d","notificationId":"welcome","userId":"u"}`, account, n)
	return kafka.Record{Key: kafka.NewBytes([]byte(account)), Value: kafka.NewBytes([]byte(value))}
}

// records reads everything that a topic holds.
func (w *world) records(topic string) []kafka.Message {
	w.t.Helper()
	var all []kafka.Message
	for partition := range 2 {
		res, err := w.client.ListOffsets(w.t.Context(), &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: {kafka.LastOffsetOf(partition)}}})
		if err != nil {
			w.t.Fatal(err)
		}
		end := res.Topics[topic][0].LastOffset
		if end == 0 {
			continue
		}
		r := kafka.NewReader(kafka.ReaderConfig{Brokers: w.cluster.ListenAddrs(), Topic: topic, Partition: partition, MaxWait: 100 * time.Millisecond})
		for next := int64(0); next < end; {
			m, err := r.ReadMessage(w.t.Context())
			if err != nil {
				w.t.Fatal(err)
			}
			all = append(all, m)
			next = m.Offset + 1
		}
		_ = r.Close()
	}
	return all
}

func header(m *kafka.Message, name string) string {
	for _, h := range m.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

func headerInt(t *testing.T, m *kafka.Message, name string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(header(m, name), 10, 64)
	if err != nil {
		t.Fatalf("header %s: %v", name, err)
	}
	return n
}
