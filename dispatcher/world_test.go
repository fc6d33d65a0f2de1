package dispatcher_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"fanout/dispatcher"
	"fanout/dispatcher/post"
	"fanout/egress"
	"fanout/event"
	"fanout/subscriptions"
)

// directory is a set of subscriptions, which a test may change.
type directory struct {
	mu   sync.RWMutex
	subs map[[2]string]*subscriptions.Subscription

	version atomic.Uint64
}

func (d *directory) Version() uint64 { return 1 + d.version.Load() }

func (d *directory) Match(dst []*subscriptions.Subscription, account string, name event.Name, notificationID string) []*subscriptions.Subscription {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, s := range d.subs {
		if s.Account() == account && s.Enabled() && s.Events().Has(name) && s.WantsNotification(notificationID) {
			dst = append(dst, s)
		}
	}
	return dst
}

func (d *directory) Lookup(account, id string) *subscriptions.Subscription {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.subs[[2]string{account, id}]
}

// answer is what a receiver does with one request.
type answer struct {
	status     int // 0: err
	err        error
	after      time.Duration
	retryAfter string
}

var (
	ok   = answer{status: 204, after: time.Millisecond}
	hang = answer{after: time.Hour}
	gone = answer{status: 410, after: time.Millisecond}
)

// request is one that a receiver got.
type request struct {
	at   time.Time
	head string
	id   string
	body string
}

// outcome is one settlement.
type outcome struct {
	dispatcher.Outcome
	at time.Time
}

// world is a Dispatcher whose receivers live in memory, known by their subscription's id.
type world struct {
	t   testing.TB
	dir *directory
	d   *dispatcher.Dispatcher
	cfg dispatcher.Config

	mu       sync.Mutex // guards all below
	answers  map[string]func() answer
	judges   map[string]func(body string) answer // instead, where the answer depends on the body
	requests map[string][]request
	inFlight map[string]int
	most     map[string]int
	all, top int // in flight in all, and the most
	bodies   int
	outcomes map[*dispatcher.Delivery][]outcome
	calls    map[*dispatcher.Delivery]int
	onSettle func(*dispatcher.Delivery, dispatcher.Outcome)
	closed   chan struct{}
	n        int
	finished int // delivered, of what circulates
	events   map[string][]dispatcher.LaneEvent
	open     map[string]bool   // lanes that may be fetched for
	deferred map[string][]tier // in the retry topics
	stopper  func()
	resubmit func(*dispatcher.Delivery) // instead of the own Dispatcher's Submit
}

func config() dispatcher.Config {
	return dispatcher.Config{
		Delivery: dispatcher.DeliveryConfig{
			Timeout: 10 * time.Second, ConnectTimeout: 3 * time.Second,
			Schedule: []time.Duration{5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 10 * time.Hour},
			MaxAge:   72 * time.Hour, PermanentStatuses: []int{410}, MaxInFlight: 2048, MaxBatchBytes: 1 << 20,
		},
		Lanes: dispatcher.LanesConfig{
			MaxInFlight: 64, Queue: 1000, QueueAge: 2 * time.Second, ParkAfter: 10, ParkMin: 30 * time.Second, ParkMax: time.Hour,
		},
		UserAgent: "fanout/test",
	}
}

func newWorld(tb testing.TB, cfg dispatcher.Config, opts ...dispatcher.Option) *world {
	tb.Helper()
	return newWorldWith(tb, cfg, nil, nil, opts...)
}

func newWorldWith(tb testing.TB, cfg dispatcher.Config, log *zap.Logger, reg prometheus.Registerer, opts ...dispatcher.Option) *world {
	tb.Helper()
	w := &world{
		t: tb, cfg: cfg, dir: &directory{subs: make(map[[2]string]*subscriptions.Subscription)},
		answers: make(map[string]func() answer), judges: make(map[string]func(string) answer), requests: make(map[string][]request),
		inFlight: make(map[string]int), most: make(map[string]int),
		outcomes: make(map[*dispatcher.Delivery][]outcome), calls: make(map[*dispatcher.Delivery]int), closed: make(chan struct{}),
		events: make(map[string][]dispatcher.LaneEvent), open: make(map[string]bool), deferred: make(map[string][]tier),
	}
	var err error
	w.d, err = dispatcher.New(cfg, w.dir, log, reg, append([]dispatcher.Option{dispatcher.WithExchange(dispatcher.ExchangeFunc(w.exchange)), dispatcher.WithLaneObserver(w.laneEvent)}, opts...)...)
	if err != nil {
		tb.Fatal(err)
	}
	return w
}

// run runs the Dispatcher; the returned function stops it, as attempts that are broken off by its client would be.
func (w *world) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := w.d.Run(ctx); err != nil {
			w.t.Errorf("Run: %v", err)
		}
	}()
	w.stopper = sync.OnceFunc(func() {
		cancel()
		close(w.closed)
		<-done
	})
	return w.stopper
}

// tiers are the retry topics' delays.
func (w *world) tiers() []time.Duration {
	all := append(slices.Clone(w.cfg.Delivery.Schedule), w.cfg.Lanes.ParkMin, w.cfg.Lanes.ParkMax)
	slices.Sort(all)
	return slices.Compact(all)
}

// done is how many deliveries are delivered, where they circulate.
func (w *world) done() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.finished
}

// circulate takes the part of the retry topics: what is to be attempted again is due after its tier's delay, or fetched
// from there once its lane is open again.
func (w *world) circulate() {
	w.onSettle = func(del *dispatcher.Delivery, out dispatcher.Outcome) {
		again := retried(del)
		name := host(del.Account + "/" + del.Subscription)
		var delay time.Duration
		switch {
		case out.Result == dispatcher.Delivered:
			w.mu.Lock()
			w.finished++
			w.mu.Unlock()
			w.fetch(name, 2)
			return
		case out.Reason == dispatcher.Shutdown:
			return
		case out.Result == dispatcher.Retry:
			again.Attempts++
			again.BatchMax, again.BatchRefused = out.BatchMax, out.BatchRefused
			again.NotBefore = out.NotBefore
			delay = w.longestWithin(time.Until(out.NotBefore))
		case out.Result == dispatcher.Deferred:
			wait := time.Until(out.NotBefore)
			if del.Last.Reason == out.Reason {
				wait = max(wait, 2*del.Tier)
			}
			delay = w.shortestCovering(wait)
			w.mu.Lock()
			w.open[name] = false
			w.mu.Unlock()
		default:
			return
		}
		again.Last.Reason = out.Reason
		w.again(again, delay, out.Result == dispatcher.Deferred)
	}
}

// tier is a delivery in a retry topic.
type tier struct {
	del *dispatcher.Delivery
	due *time.Timer
}

// laneEvent notes which lanes are open. The Dispatcher must not be called from here.
func (w *world) laneEvent(e dispatcher.LaneEvent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	name := host(e.Account + "/" + e.Subscription)
	w.events[name] = append(w.events[name], e)
	switch e.Kind {
	case dispatcher.LaneOpened:
		w.open[name] = true
		go w.fetch(name, 16)
	case dispatcher.LaneProbeDue:
		w.open[name] = true
		go w.fetch(name, 1)
	case dispatcher.LaneParked, dispatcher.LaneStopped:
		w.open[name] = false
	case dispatcher.LaneUnparked:
	}
}

// fetch brings forward what an open lane deferred, a few at a time: as they are delivered, more follow.
func (w *world) fetch(name string, n int) {
	for range n {
		w.mu.Lock()
		var del *dispatcher.Delivery
		for list := w.deferred[name]; w.open[name] && del == nil && len(list) > 0; list = w.deferred[name] {
			w.deferred[name] = list[1:]
			if list[0].due.Stop() { // else it is on its way
				del = list[0].del
			}
		}
		w.mu.Unlock()
		if del == nil {
			return
		}
		w.comesUp(del)
	}
}

func (w *world) longestWithin(wait time.Duration) time.Duration {
	tiers := w.tiers()
	best := tiers[0]
	for _, d := range tiers {
		if d <= wait+50*time.Millisecond {
			best = d
		}
	}
	return best
}

func (w *world) shortestCovering(wait time.Duration) time.Duration {
	tiers := w.tiers()
	for _, d := range tiers {
		if d >= wait {
			return d
		}
	}
	return tiers[len(tiers)-1]
}

// retried is what a retry record makes of the delivery.
func retried(del *dispatcher.Delivery) *dispatcher.Delivery {
	return &dispatcher.Delivery{
		ID: del.ID, Account: del.Account, Subscription: del.Subscription, Event: del.Event, Body: del.Body,
		Attempts: del.Attempts, NotBefore: del.NotBefore, FirstSeen: del.FirstSeen, Stage: dispatcher.StageRetry, Settler: del.Settler,
		BatchMax: del.BatchMax, BatchRefused: del.BatchRefused,
	}
}

// again submits the delivery when it is due, or lets it make another round where its own wait is not over.
func (w *world) again(del *dispatcher.Delivery, delay time.Duration, deferred bool) {
	del.Tier = delay
	w.mu.Lock()
	defer w.mu.Unlock()
	due := time.AfterFunc(delay, func() {
		if wait := time.Until(del.NotBefore); wait > 50*time.Millisecond {
			w.again(del, w.longestWithin(wait), false)
			return
		}
		w.comesUp(del)
	})
	if name := host(del.Account + "/" + del.Subscription); deferred {
		w.deferred[name] = append(w.deferred[name], tier{del, due})
	}
}

func (w *world) comesUp(del *dispatcher.Delivery) {
	if w.resubmit != nil {
		w.resubmit(del)
		return
	}
	w.d.Submit(del)
}

func contains(text, part string) bool { return strings.Contains(text, part) }

// split reads the name of a subscription in tests: account/id, or the id of one of account a.
func split(name string) (account, id string) {
	if account, id, found := strings.Cut(name, "/"); found {
		return account, id
	}
	return "a", name
}

// host is the first label of the name of a subscription's receiver.
func host(name string) string { return strings.ReplaceAll(strings.TrimPrefix(name, "a/"), "/", "-") }

// set configures a subscription; extra is more JSON members.
func (w *world) set(name, extra string) *subscriptions.Subscription {
	w.t.Helper()
	return w.put(name, fmt.Sprintf(`{"url":"https://%s.example.com/hook","events":["*"]%s}`, host(name), extra))
}

func (w *world) put(name, json string) *subscriptions.Subscription {
	w.t.Helper()
	account, id := split(name)
	sub, err := subscriptions.Parse(account, id, []byte(json))
	if err != nil {
		w.t.Fatalf("subscription %s: %v", name, err)
	}
	w.dir.mu.Lock()
	defer w.dir.mu.Unlock()
	w.dir.subs[[2]string{account, id}] = sub
	w.dir.version.Add(1)
	return sub
}

func (w *world) remove(name string) {
	account, id := split(name)
	w.dir.mu.Lock()
	defer w.dir.mu.Unlock()
	delete(w.dir.subs, [2]string{account, id})
	w.dir.version.Add(1)
}

// on makes the receiver answer so from now on.
func (w *world) on(name string, f func() answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers[host(name)] = f
}

func always(a answer) func() answer { return func() answer { return a } }

func (w *world) exchange(t *egress.Target, head, body []byte, deadline time.Time, resp *post.Response) error {
	id, _, _ := strings.Cut(t.Host, ".")
	w.mu.Lock()
	w.inFlight[id]++
	w.all++
	w.most[id] = max(w.most[id], w.inFlight[id])
	w.top = max(w.top, w.all)
	_, webhookID, _ := strings.Cut(string(head), "webhook-id: ")
	webhookID, _, _ = strings.Cut(webhookID, "\r\n")
	w.requests[id] = append(w.requests[id], request{time.Now(), string(head), webhookID, string(body)})
	w.bodies += len(body)
	a := ok
	if f := w.answers[id]; f != nil {
		a = f()
	}
	if f := w.judges[id]; f != nil {
		a = f(string(body))
	}
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.inFlight[id]--
		w.all--
	}()
	late := time.Until(deadline) < a.after
	wait := time.NewTimer(min(a.after, time.Until(deadline)))
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-w.closed:
		return &post.Error{Kind: post.Canceled, Detail: "the client is closed"}
	}
	switch {
	case late:
		return &post.Error{Kind: post.Timeout, Detail: "no answer within 10s"}
	case a.err != nil:
		return a.err
	}
	resp.Status, resp.RetryAfter = a.status, a.retryAfter
	return nil
}

// Settle implements dispatcher.Settler. What was given up on meanwhile is settled already.
func (w *world) Settle(del *dispatcher.Delivery, out dispatcher.Outcome) {
	w.mu.Lock()
	if w.calls[del]++; w.calls[del] > 1 {
		w.t.Errorf("delivery %s of %s was settled %d times, now %+v", del.ID, del.Subscription, w.calls[del], out)
	}
	if !del.Claim() {
		w.mu.Unlock()
		return
	}
	w.outcomes[del] = append(w.outcomes[del], outcome{out, time.Now()})
	f := w.onSettle
	w.mu.Unlock()
	if f != nil {
		f(del, out)
	}
}

// delivery is a fresh delivery for a subscription.
func (w *world) delivery(name string) *dispatcher.Delivery {
	w.mu.Lock()
	w.n++
	n := w.n
	w.mu.Unlock()
	account, id := split(name)
	return &dispatcher.Delivery{
		ID: fmt.Sprintf("msg_%d", n), Account: account, Subscription: id, Event: event.EmailOpen, Body: []byte(`{"eventType":"OPEN"}`),
		FirstSeen: time.Now(), Settler: w,
	}
}

func (w *world) submit(id string) *dispatcher.Delivery {
	del := w.delivery(id)
	w.d.Submit(del)
	return del
}

func (w *world) submitN(id string, n int) (all []*dispatcher.Delivery) {
	for range n {
		all = append(all, w.submit(id))
	}
	return all
}

// outcome is the delivery's only one.
func (w *world) outcome(del *dispatcher.Delivery) outcome {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.outcomes[del]); n != 1 {
		w.t.Fatalf("delivery %s of %s was settled %d times: %v", del.ID, del.Subscription, n, w.outcomes[del])
	}
	return w.outcomes[del][0]
}

// count counts the deliveries with that outcome and reason; every one must have been settled once.
func (w *world) count(all []*dispatcher.Delivery, result dispatcher.Result, reason dispatcher.Reason) (n int) {
	w.t.Helper()
	for _, del := range all {
		if out := w.outcome(del); out.Result == result && out.Reason == reason {
			n++
		}
	}
	return n
}

func (w *world) got(name string) []request {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.requests[host(name)]
}

func (w *world) settled(del *dispatcher.Delivery) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.outcomes[del]) > 0
}

// atRest checks that nothing is held of anything: places, queues, counts.
func (w *world) atRest() {
	w.t.Helper()
	if used, waiting := w.d.UsedPermits(); used != 0 || waiting != 0 {
		w.t.Errorf("%d permits are in use, and %d lanes wait for one, want none", used, waiting)
	}
	if counted, beyond := w.d.Waiting(); counted != 0 || beyond != 0 {
		w.t.Errorf("%d deliveries wait, and %d beyond allowances, want none", counted, beyond)
	}
	for _, l := range w.d.Lanes(nil) {
		if l.InFlight != 0 || l.Queued != 0 {
			w.t.Errorf("lane %s has %d in flight and %d queued, want none", l.Subscription, l.InFlight, l.Queued)
		}
	}
}
