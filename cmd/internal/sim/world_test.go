package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"fanout/config"
	"fanout/consumer"
	"fanout/dispatcher"
	"fanout/dispatcher/resolve/dnstest"
	"fanout/egress"
	"fanout/event"
	"fanout/subscriptions"
	"fanout/topic"
)

// world is everything around fanout, and the instances in it.
type world struct {
	t     *testing.T
	seed  uint64
	plan  plan
	dice  *rand.Rand
	begun time.Time
	trace []string

	kafka     *kfake.Cluster
	brokers   kfake.VirtualNetwork
	redis     *miniredis.Miniredis
	names     *dnstest.Server
	receivers map[string]*receiver // by account/subscription
	hosts     map[string]*receiver // by address
	serving   sync.WaitGroup

	cfg        config.Config
	admin      *topic.Cluster // whose network is well
	store      *subscriptions.Store
	instances  []*instance // that run
	ever       []*instance // also those that have ended, or will
	started    atomic.Int64
	ending     sync.WaitGroup
	judge      *judge
	sent       int
	replays    int
	late       []*receiver // whose subscriptions are made while records are read; those that are not made yet come last
	backfills  int
	emptied    atomic.Bool // Redis is, and nobody has filled it again
	closed     atomic.Bool
	rolled     bool // instances that start know the names that the plan adds
	faults     int  // that may repeat deliveries
	twice      int  // deliveries that may come once more, since offsets were lost
	transacted int
	named      bool          // events have an id of their producer's, all of them
	down       time.Duration // how long receivers were, at most
	stood      time.Duration // how long nobody worked
	flooded    string        // the account that has far more to send than the others; empty: none
	troubled   atomic.Bool   // there was one
}

// plan is the size of a simulation.
type plan struct {
	schedule  []time.Duration
	parkMax   time.Duration
	maxAge    time.Duration
	instances int // at most
	least     int // instances at the beginning
	steps     int
	pause     time.Duration   // between steps, on average
	events    int             // a step, at most
	before    time.Duration   // the first record: partitions that move then repeat nothing
	outage    time.Duration   // of receivers, at most
	stands    []time.Duration // for how long nobody may work
	rotation  time.Duration   // for which a secret signs on that was replaced
	prompt    time.Duration   // within which what nothing holds up is delivered; 0: that is not looked at
	happens   []fault         // what goes wrong, or somebody does
	moods     []mood          // of receivers; none: all
	lastly    func(*world)    // what happens before all comes to its end; nil: nothing
	adds      []event.Row     // event names that the instances get one after the other; the first ones start without them
}

// short has a schedule of minutes, so that a seed takes a second or two.
var short = plan{
	schedule: []time.Duration{5 * time.Second, 20 * time.Second, 40 * time.Second, 40 * time.Second, time.Minute}, parkMax: time.Minute, maxAge: 5 * time.Minute,
	instances: 3, steps: 8, pause: 6 * time.Second, events: 25, happens: faults,
	outage: 2 * time.Minute, stands: []time.Duration{time.Minute, 4 * time.Minute}, rotation: time.Minute,
}

// long has the real schedule.
var long = plan{
	schedule: config.Default().Delivery.Schedule, parkMax: config.Default().Lanes.ParkMax, maxAge: config.Default().Delivery.MaxAge,
	instances: 3, steps: 40, pause: 20 * time.Second, events: 50, happens: faults,
	outage: 24 * time.Hour, stands: []time.Duration{time.Hour, 10 * time.Hour, 30 * time.Hour, 100 * time.Hour, 8 * 24 * time.Hour}, rotation: subscriptions.RotationLasts,
}

const group = "fanout"

var sources = []string{"channel.email", "channel.sms"}

func newWorld(t *testing.T, seed uint64, p plan) *world {
	t.Helper()
	w := &world{
		t: t, seed: seed, plan: p, dice: rand.New(rand.NewPCG(seed, 22)), begun: time.Now(),
		receivers: make(map[string]*receiver), hosts: make(map[string]*receiver), redis: miniredis.NewMiniRedis(), names: dnstest.New(nil),
	}
	var err error
	if w.kafka, err = kfake.NewCluster(kfake.NumBrokers(len(brokerPorts)), kfake.Ports(brokerPorts...), kfake.ListenFn(w.brokers.Listen), kfake.SeedTopics(2, sources...)); err != nil {
		t.Fatal(err)
	}
	w.cfg = config.Default()
	w.cfg.Kafka.Brokers, w.cfg.Kafka.Partitions, w.cfg.Kafka.RetryPartitions, w.cfg.Kafka.Replication = brokerAddresses(), 2, 1, 1
	w.cfg.Kafka.Start = "earliest"
	for _, name := range sources {
		w.cfg.Sources = append(w.cfg.Sources, topic.SourceConfig{Topic: name})
	}
	w.cfg.Events = p.adds
	w.cfg.Redis.URL = "redis://" + redisAddress
	w.cfg.Egress = egress.Config{AllowHTTP: true}
	w.cfg.Delivery.Schedule, w.cfg.Delivery.MaxAge, w.cfg.Lanes.ParkMax = p.schedule, p.maxAge, p.parkMax
	dir := t.TempDir()
	w.cfg.Redis.SnapshotFile = filepath.Join(dir, "snapshot")
	if err := os.WriteFile(filepath.Join(dir, "resolv.conf"), []byte("nameserver 127.0.0.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	own := newNetwork(w.open)
	w.manage()
	if w.store, err = subscriptions.NewStore(w.cfg.Redis, subscriptions.WithDial(own.dial)); err != nil {
		t.Fatal(err)
	}
	w.judge = newJudge(w)
	w.subscribe()
	return w
}

// manage connects to Kafka as somebody who is no instance.
func (w *world) manage() {
	var err error
	if w.admin, err = topic.NewCluster(w.cfg.Topic(), topic.WithDial(newNetwork(w.open).dial)); err != nil {
		w.t.Fatal(err)
	}
}

// note adds a line to the trace.
func (w *world) note(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf("%9s  ", time.Since(w.begun).Round(time.Millisecond))+fmt.Sprintf(format, args...))
}

// trouble notes that something goes wrong which may repeat deliveries.
func (w *world) trouble() {
	w.faults++
	w.troubled.Store(true)
}

// open connects to what is at an address.
func (w *world) open(ctx context.Context, kind, address string) (net.Conn, error) {
	if address == redisAddress {
		return w.redis.Dial()
	}
	if address == nameServer {
		return dnstest.Network{address: w.names}.Dial(ctx, kind, address)
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if host == "127.0.0.1" || host == "localhost" {
		return w.brokers.DialContext(ctx, kind, address)
	}
	r := w.hosts[host]
	if r == nil {
		return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	}
	near, far := net.Pipe()
	w.serving.Go(func() { r.serve(far) })
	return near, nil
}

// subscribe makes the accounts' subscriptions, and a receiver for each.
func (w *world) subscribe() {
	for _, account := range accounts {
		for k := range 1 + w.dice.IntN(3) {
			m := mood(w.dice.IntN(int(moods)))
			if len(w.plan.moods) > 0 {
				m = w.plan.moods[w.dice.IntN(len(w.plan.moods))]
			}
			if len(w.plan.adds) > 0 { // many retries, each of which another instance may take
				m = []mood{flaky, asksLater, away}[w.dice.IntN(3)]
			}
			if k == 0 {
				m = well
			}
			limit, extra := 0, ""
			if w.dice.IntN(3) == 0 {
				limit = 1 + w.dice.IntN(4)
				extra = fmt.Sprintf(`,"maxInFlight":%d`, limit)
			}
			id := fmt.Sprintf("s%d", k)
			r := newReceiver(w.seed, account+"/"+id, m, limit)
			r.made.Store(true)
			if w.dice.IntN(3) == 0 {
				r.batch = 2 + w.dice.IntN(6)
				extra += fmt.Sprintf(`,"batch":{"max":%d,"wait":"%dms"}`, r.batch, w.dice.IntN(3000))
			}
			if w.dice.IntN(3) == 0 {
				r.notification = []string{"welcome", "promo-*"}[w.dice.IntN(2)]
				extra += fmt.Sprintf(`,"notificationIds":[%q]`, r.notification)
			}
			if w.dice.IntN(2) == 0 {
				extra += r.sign()
			}
			if m == held {
				extra += `,"paused":true`
			}
			w.reach(r, extra)
			w.put(r, r.stored())
			w.note("%s is %v%s", r.name, m, extra)
		}
	}
	w.prepare()
}

// reach gives the receiver an address, and its subscription that address and the further keys.
func (w *world) reach(r *receiver, extra string) {
	n := len(w.hosts) + 1
	host, address := fmt.Sprintf("h%d.test", n), fmt.Sprintf("44.0.0.%d", n)
	r.troubled = func() bool { return w.troubled.Load() }
	r.instances = func() int { return int(w.started.Load()) }
	w.receivers[r.name], w.hosts[address] = r, r
	w.names.Set(host+".", address)
	r.json = fmt.Sprintf(`{"url":"http://%s/hook","events":["*"]%s}`, host, extra)
}

// put stores what the receiver's subscription is.
func (w *world) put(r *receiver, json string) {
	account, id := split(r.name)
	if _, err := w.store.Put(w.t.Context(), account, id, []byte(json)); err != nil {
		w.t.Fatal(err)
	}
}

// instance is one fanout.
type instance struct {
	name       string
	net        *network
	reg        *prometheus.Registry
	directory  *subscriptions.Directory
	dispatcher *dispatcher.Dispatcher
	consumer   *consumer.Consumer
	stop       context.CancelFunc
	ended      chan struct{}
	logs       *observer.ObservedLogs
	killed     bool
	failed     error // why it ended by itself, once ended is closed
	old        bool  // it lacks the names that the plan adds
}

// start starts an instance as cmd/fanout does.
func (w *world) start() {
	w.t.Helper()
	i := &instance{name: fmt.Sprintf("i%d", w.started.Add(1)), net: newNetwork(w.open), reg: prometheus.NewRegistry(), ended: make(chan struct{})}
	core, logs := observer.New(zapcore.WarnLevel)
	i.logs = logs
	log := zap.New(core)
	cfg := w.cfg
	if i.old = len(w.plan.adds) > 0 && !w.rolled; i.old {
		cfg.Events = nil
	}
	cfg.Redis.Catalogue = cfg.Catalogue()
	var err error
	if i.directory, err = subscriptions.New(cfg.Redis, log, i.reg, subscriptions.WithDial(i.net.dial)); err != nil {
		w.t.Fatal(err)
	}
	receivers := cfg.Dispatcher("fanout/sim")
	receivers.Network.ResolvConf = filepath.Join(filepath.Dir(cfg.Redis.SnapshotFile), "resolv.conf")
	receivers.Network.Hosts, receivers.Network.Dial = os.DevNull, i.net.dial
	peers, err := subscriptions.NewPeers(cfg.Redis, log, func() subscriptions.Demand { return i.dispatcher.Demand() }, subscriptions.WithDial(i.net.dial))
	if err != nil {
		w.t.Fatal(err)
	}
	i.dispatcher, err = dispatcher.New(receivers, i.directory, log, i.reg, dispatcher.WithShare(peers.Share),
		dispatcher.WithLaneObserver(func(e dispatcher.LaneEvent) { i.consumer.FollowLane(e) }))
	if err != nil {
		w.t.Fatal(err)
	}
	consuming := cfg.Consumer()
	consuming.Instance = i.name
	if i.consumer, err = consumer.New(consuming, i.dispatcher, log, i.reg, topic.WithDial(i.net.dial)); err != nil {
		w.t.Fatal(err)
	}
	i.directory.ObserveLanes(subscriptions.LaneObserver{Changed: i.consumer.FollowChange, Released: func(account, id, _ string) { i.dispatcher.Release(account, id) }})
	ctx, stop := context.WithCancel(context.WithoutCancel(w.t.Context()))
	i.stop = stop
	w.ending.Go(func() { i.run(ctx, peers) })
	w.instances, w.ever = append(w.instances, i), append(w.ever, i)
	w.note("%s starts", i.name)
}

// run is the instance's life. What sends ends before what it needs.
func (i *instance) run(ctx context.Context, peers *subscriptions.Peers) {
	defer close(i.ended)
	rest, end := context.WithCancel(context.WithoutCancel(ctx))
	var directing, dispatching sync.WaitGroup
	directing.Go(func() { _ = i.directory.Run(rest) })
	directing.Go(func() { _ = peers.Run(rest) })
	sending, last := context.WithCancel(rest)
	dispatching.Go(func() { _ = i.dispatcher.Run(sending) })
	select {
	case <-i.directory.Ready():
		i.failed = i.consumer.Run(ctx)
	case <-ctx.Done():
	}
	last()
	dispatching.Wait()
	end()
	directing.Wait()
}

// supervise starts another instance for each that has ended by itself, as systemd and Kubernetes do: one that is started while
// a source topic does not exist says so and ends.
func (w *world) supervise() {
	w.t.Helper()
	for _, i := range slices.Clone(w.instances) {
		select {
		case <-i.ended:
			if _, ok := errors.AsType[*topic.MissingTopicsError](i.failed); !ok {
				w.wrong("%s has ended by itself: %v", i.name, i.failed)
			}
			w.note("%s has ended: %v", i.name, i.failed)
			w.forget(i)
			w.judge.balanced(i)
			w.start()
		default:
		}
	}
}

// halt stops an instance, and waits for its end.
func (w *world) halt(i *instance) {
	w.t.Helper()
	w.note("%s is stopped", i.name)
	i.stop()
	<-i.ended
	w.forget(i)
	w.judge.balanced(i)
}

// kill ends an instance at this point: nothing of it reaches anybody any more.
func (w *world) kill(i *instance) {
	w.note("%s is killed", i.name)
	w.trouble()
	i.killed = true
	i.net.kill()
	i.stop()
	w.forget(i)
}

func (w *world) forget(gone *instance) {
	rest := w.instances[:0]
	for _, i := range w.instances {
		if i != gone {
			rest = append(rest, i)
		}
	}
	w.instances = rest
}

// close ends everything. What still runs after it would keep the bubble from ending.
func (w *world) close() {
	w.closed.Store(true)
	for _, i := range w.ever {
		i.net.kill()
		i.stop()
	}
	w.ending.Wait()
	w.admin.Close()
	_ = w.store.Close()
	w.kafka.Close()
	w.redis.Close()
	w.serving.Wait()
	time.Sleep(time.Minute) // in which the clients of Redis that are closed end trying to dial, and requests that are late arrive
}

// wrong says what is wrong, with what is needed to see it again.
func (w *world) wrong(format string, args ...any) {
	w.t.Helper()
	w.t.Errorf("seed %d: %s\n\n%s\n%s", w.seed, fmt.Sprintf(format, args...), strings.Join(w.trace, "\n"), w.logs())
}

// logs are the last warnings and errors of the last instances.
func (w *world) logs() string {
	var b strings.Builder
	for _, i := range w.ever[max(0, len(w.ever)-w.plan.instances-1):] {
		all := i.logs.All()
		for _, e := range all[max(0, len(all)-8):] {
			fmt.Fprintf(&b, "%9s  %s: %s %v\n", e.Time.Sub(w.begun).Round(time.Millisecond), i.name, e.Message, e.ContextMap())
		}
	}
	return b.String()
}

// eventually waits until something holds.
func (w *world) eventually(within time.Duration, what string, holds func() error) bool {
	w.t.Helper()
	deadline := time.Now().Add(within)
	err := errors.New("never asked")
	for err != nil {
		if err = holds(); err == nil {
			return true
		}
		if time.Now().After(deadline) {
			w.wrong("%s: not within %v: %v", what, within, err)
			return false
		}
		time.Sleep(min(5*time.Second, within/20))
	}
	return true
}
