package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/valyala/fasthttp"

	"fanout/cmd/internal/lab"
)

// plainWorkers is how many requests the plain pipeline has in flight at most.
const plainWorkers = 64

// plainPipeline is the yardstick plain of docs/contract.md#targets: what one writes first, with a Reader a partition,
// encoding/json, crypto/hmac and fasthttp. It signs; it commits nothing, retries nothing, and has no lanes.
type plainPipeline struct {
	host *fasthttp.HostClient
	url  string
	key  []byte
	urls map[string]string // by account
	left atomic.Int64      // events that are not delivered yet
	done context.CancelFunc

	began atomic.Int64 // when the first request began, in Unix nanoseconds
	cpu   atomic.Int64 // of this process, then
}

type plainEvent struct {
	AccountID      string `json:"accountId"`
	Channel        string `json:"channel"`
	Type           string `json:"type"`
	TrackingID     string `json:"trackingId"`
	NotificationID string `json:"notificationId"`
	UserID         string `json:"userId"`
}

type plainPayload struct {
	EventType      string `json:"eventType"`
	TrackingID     string `json:"trackingId"`
	NotificationID string `json:"notificationId"`
	Channel        string `json:"channel"`
	UserID         string `json:"userId"`
}

// runPlain takes what a topic holds through the plain pipeline, and says what that cost this process.
func (w *world) runPlain(ctx context.Context, topic, url, addr string, ld load) (figure, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := newPlain(url, addr, ld.accounts())
	p.done = cancel
	p.left.Store(int64(ld.events))
	if err := p.run(ctx, w.kafka.Brokers(), topic, ld.partitions); err != nil {
		return figure{}, err
	}
	if left := p.left.Load(); left > 0 {
		return figure{}, fmt.Errorf("%d events are left: %w", left, context.Cause(ctx))
	}
	took := time.Since(time.Unix(0, p.began.Load()))
	usage, err := lab.SelfUsage()
	return newFigure(int64(ld.events), took, usage.CPU-time.Duration(p.cpu.Load())), err
}

func newPlain(url, addr string, accounts int) *plainPipeline {
	p := &plainPipeline{
		host: &fasthttp.HostClient{Addr: addr, MaxConns: plainWorkers, NoDefaultUserAgentHeader: true},
		url:  url, key: []byte("0123456789abcdef0123456789abcdef"), urls: make(map[string]string),
	}
	for i := range accounts {
		p.urls[account(i)] = fmt.Sprintf("%s/hooks/%d", url, i)
	}
	return p
}

// run reads and delivers until ctx is done.
func (p *plainPipeline) run(ctx context.Context, brokers []string, topic string, partitions int) error {
	defer p.host.CloseIdleConnections()
	messages := make(chan kafka.Message, 10*plainWorkers)
	var running sync.WaitGroup
	failed := make(chan error, partitions+plainWorkers)
	for id := range partitions {
		running.Go(func() { p.end(failed, p.read(ctx, brokers, topic, id, messages)) })
	}
	for range plainWorkers {
		running.Go(func() { p.end(failed, p.work(ctx, messages)) })
	}
	running.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

const plainPart = "plain-pipeline"

// plainProcess is the part of that name: the plain pipeline as a process of its own, until it is ended.
func plainProcess(ctx context.Context, args []string, _ io.Writer) error {
	fs := flag.NewFlagSet(plainPart, flag.ContinueOnError)
	listen := fs.String("listen", "127.0.0.1:0", "address; that something listens there says that it has started")
	brokers := fs.String("brokers", "", "of Kafka, with commas")
	topic := fs.String("topic", "", "to read")
	partitions := fs.Int("partitions", 6, "of the topic")
	to := fs.String("to", "", "host:port of the receiver")
	accounts := fs.Int("accounts", 1000, "with one webhook each")
	if err := fs.Parse(args); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := newPlain("http://"+*to, *to, *accounts)
	p.done = cancel
	p.left.Store(math.MaxInt64)
	ln, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	defer ln.Close()
	return p.run(ctx, strings.Split(*brokers, ","), *topic, *partitions)
}

// end ends the run with the error, if there is one.
func (p *plainPipeline) end(failed chan<- error, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		failed <- err
		p.done()
	}
}

func (p *plainPipeline) read(ctx context.Context, brokers []string, topic string, partition int, to chan<- kafka.Message) error {
	reader := kafka.NewReader(kafka.ReaderConfig{Brokers: brokers, Topic: topic, Partition: partition, MinBytes: 1, MaxBytes: 1 << 20, MaxWait: 250 * time.Millisecond})
	defer reader.Close()
	for {
		m, err := reader.ReadMessage(ctx)
		if err != nil {
			return err
		}
		select {
		case to <- m:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *plainPipeline) work(ctx context.Context, from <-chan kafka.Message) error {
	request, response := &fasthttp.Request{}, &fasthttp.Response{}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m := <-from:
			if err := p.began1st(); err != nil {
				return err
			}
			if err := p.deliver(&m, request, response); err != nil {
				return err
			}
			if p.left.Add(-1) == 0 {
				p.done()
			}
		}
	}
}

// began1st notes when the first request begins, and what this process had used by then.
func (p *plainPipeline) began1st() error {
	if p.began.Load() != 0 {
		return nil
	}
	usage, err := lab.SelfUsage()
	if err == nil && p.began.CompareAndSwap(0, time.Now().UnixNano()) {
		p.cpu.Store(int64(usage.CPU))
	}
	return err
}

func (p *plainPipeline) deliver(m *kafka.Message, request *fasthttp.Request, response *fasthttp.Response) error {
	var ev plainEvent
	if err := json.Unmarshal(m.Value, &ev); err != nil {
		return err
	}
	body, err := json.Marshal(plainPayload{ev.Type, ev.TrackingID, ev.NotificationID, ev.Channel, ev.UserID})
	if err != nil {
		return err
	}
	id := "msg_" + strconv.Itoa(m.Partition) + "_" + strconv.FormatInt(m.Offset, 10)
	timestamp := strconv.FormatInt(time.Now().Unix(), 10)
	mac := hmac.New(sha256.New, p.key)
	fmt.Fprintf(mac, "%s.%s.%s", id, timestamp, body)
	request.Reset()
	request.SetRequestURI(p.urls[ev.AccountID])
	request.Header.SetMethod(fasthttp.MethodPost)
	request.Header.SetContentType("application/json")
	request.Header.SetUserAgent(sampleAgent)
	request.Header.Set("webhook-id", id)
	request.Header.Set("webhook-timestamp", timestamp)
	request.Header.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	request.SetBodyRaw(body)
	if err := p.host.Do(request, response); err != nil {
		return err
	}
	return wantSuccess(response.StatusCode())
}

// plain is the part of that name: fanout beside the plain pipeline, in turns.
func plain(ctx context.Context, args []string, out io.Writer) error {
	return besidePlain(ctx, "plain", 1000, args, out, func(ld load) []variant { return []variant{{name: "fanout", load: ld}} })
}

// batches is the part named batch: deliveries one by one and in batches of several sizes, beside the plain pipeline.
func batches(ctx context.Context, args []string, out io.Writer) error {
	return besidePlain(ctx, "batch", 100, args, out, func(ld load) []variant {
		all := []variant{{name: "max 1", load: ld}}
		for db, size := range []int{10, 100, 1000} {
			v := variant{name: "max " + strconv.Itoa(size), load: ld, db: db + 1, batched: true}
			v.load.batch = size
			all = append(all, v)
		}
		return all
	})
}

// besidePlain runs the variants in turns with the plain pipeline, which takes the same events.
func besidePlain(ctx context.Context, name string, subscriptions int, args []string, out io.Writer, variants func(load) []variant) error {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	var ld load
	ld.flags(fs)
	if err := fs.Set("subscriptions", strconv.Itoa(subscriptions)); err != nil {
		return err
	}
	pairs := fs.Int("pairs", 3, "how often they take turns")
	attempts := fs.Bool("attempts", false, "with attempts.topic: true")
	w, end, err := begin(ctx, fs, args, nil)
	if err != nil {
		return err
	}
	defer end()
	nginx, err := w.lab.Nginx(ctx)
	if err != nil {
		return err
	}
	w.attempts = *attempts
	all := variants(ld)
	for i := range all {
		if err := w.store(ctx, all[i].load, all[i].db, nginx.URL()); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "%s; %d events, %d subscriptions, signed; nginx answers 204\n", machine(), ld.events, ld.subscriptions)
	rounds := make([][]ran, 0, *pairs)
	for i := range *pairs {
		round, err := w.besidePlain(ctx, nginx, fmt.Sprintf("bench.%s.%d", name, i), ld, all)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%d  plain %6.0f/s %5.1f µs", i+1, round[0].pace, micros(round[0].cpu))
		for j, r := range round[1:] {
			fmt.Fprintf(out, "   %s %6.0f/s %5.1f µs %d MiB", all[j].name, r.pace, micros(r.cpu), r.peak>>20)
		}
		fmt.Fprintln(out)
		rounds = append(rounds, round)
	}
	fmt.Fprintln(out, summary(name, append([]variant{{name: "plain"}}, all...), rounds))
	return nil
}

// besidePlain is one turn: the plain pipeline, and then each variant.
func (w *world) besidePlain(ctx context.Context, nginx *lab.Nginx, topic string, ld load, all []variant) ([]ran, error) {
	if err := w.produce(ctx, topic, ld); err != nil {
		return nil, err
	}
	base, err := w.runPlain(ctx, topic, nginx.URL(), nginx.Addr(), ld)
	if err != nil {
		return nil, fmt.Errorf("plain: %w", err)
	}
	round := []ran{{figure: base}}
	for j := range all {
		own := fmt.Sprintf("%s.%d", topic, j)
		r, err := w.variant(ctx, nginx, &all[j], own)
		for again := 0; again < maxAgain && errors.Is(err, errDeferred); again++ {
			r, err = w.variant(ctx, nginx, &all[j], fmt.Sprintf("%s.%d", own, again))
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", all[j].name, err)
		}
		round = append(round, r)
	}
	return round, nil
}
