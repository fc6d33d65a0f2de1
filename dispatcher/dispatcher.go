package dispatcher

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"fanout/dispatcher/post"
	"fanout/dispatcher/reach"
	"fanout/event"
	"fanout/subscriptions"
)

// Directory answers who wants an event. Its answers are immutable, and a subscription whose configuration has not
// changed is the Same every time.
type Directory interface {
	// Match appends the enabled subscriptions of the account that selected the event and, where they name notifications, its
	// notification.
	Match(dst []*subscriptions.Subscription, account string, name event.Name, notificationID string) []*subscriptions.Subscription
	// Lookup is the subscription as it is now; nil where there is none.
	Lookup(account, id string) *subscriptions.Subscription
	// Version is another number once an answer of the two may be another one.
	Version() uint64
}

// Dispatcher brings deliveries to their outcome. All methods are safe for concurrent use.
//
// A delivery is submitted to its lane. The lane decides what becomes of it (admission), advance carries that out, and work
// makes the attempts. A goroutine that makes an attempt holds a permit; when it has ended, the permit goes to whoever is
// next, and the goroutine with it.
type Dispatcher struct {
	cfg Config
	dir Directory

	planner  *Planner
	renderer *Renderer
	sender   sender

	lanes    *lanes
	halt     halt
	permits  *semaphore
	backlog  *backlog
	sweep    sweepList
	reporter laneReporter
	outcomes outcomes

	share    func(account, subscription string) float64 // of maxPerSecond; nil: all of it
	attempts atomic.Uint64                              // that have ended
	working  sync.WaitGroup                             // goroutines that make attempts; added to under a lane's lock, and not while stopping
}

// sweepEvery is how often the lanes are looked at whose queues may have waited for too long. A sweep also visits
// sweepShards shards of lanes and accounts: each of them is visited about once a second.
const (
	sweepEvery  = 100 * time.Millisecond
	sweepShards = 7
	sweepSecond = int(time.Second / sweepEvery)
)

// accountAgain is how often WaitForAccount looks again.
const accountAgain = 2 * time.Millisecond

// Option changes a Dispatcher that is made.
type Option func(*options)

type options struct {
	share    func(account, subscription string) float64 // of maxPerSecond; nil: all of it
	observe  func(LaneEvent)                            // nil: nobody listens
	tracer   Tracer                                     // nil: none
	exchange Exchange                                   // nil: a client of the Dispatcher's own
}

// WithShare sets what part of a subscription's maxPerSecond this instance may use, 0 to 1. It is asked a few times a
// second for each limited lane with work.
func WithShare(share func(account, subscription string) float64) Option {
	return func(o *options) { o.share = share }
}

// WithTracer has each attempt traced.
func WithTracer(t Tracer) Option {
	return func(o *options) { o.tracer = t }
}

// WithExchange sets what makes the HTTP exchanges, instead of a client of the Dispatcher's own.
func WithExchange(x Exchange) Option {
	return func(o *options) { o.exchange = x }
}

// New makes a Dispatcher. Its Run must be running while deliveries are submitted. A nil log or reg is fine.
func New(cfg Config, dir Directory, log *zap.Logger, reg prometheus.Registerer, opts ...Option) (*Dispatcher, error) {
	renderer, err := NewRenderer(cfg.Egress, cfg.UserAgent)
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = zap.NewNop()
	}
	var o options
	for _, option := range opts {
		option(&o)
	}
	if o.exchange == nil {
		if o.exchange, err = post.New(cfg.Client(renderer.rules)); err != nil {
			return nil, err
		}
	}
	d := &Dispatcher{cfg: cfg, dir: dir, planner: NewPlanner(dir), renderer: renderer, lanes: newLanes(), share: o.share}
	d.permits = newSemaphore(cfg.Delivery.MaxInFlight, &d.lanes.accounts.count)
	d.backlog = newBacklog(&cfg.Lanes, &d.lanes.accounts.count, &d.halt)
	m := newMetrics(reg, &d.cfg, d.lanes)
	d.reporter.log, d.reporter.observe = log, o.observe
	d.outcomes.log, d.outcomes.tests = log, m.tests
	d.outcomes.recent.init()
	d.sender = sender{
		cfg: &d.cfg.Delivery, exchange: o.exchange, tracer: o.tracer, seconds: m.attempts, sizes: m.batches, stopping: make(chan struct{}),
	}
	if prober, ok := o.exchange.(reach.Prober); ok {
		d.sender.network = reach.NewMonitor(prober, d.followNetwork, log, reg)
	}
	return d, nil
}

// followNetwork holds everything back while there is a fault of our own.
func (d *Dispatcher) followNetwork(fault string) {
	if fault != "" {
		d.Suspend(fault)
	} else {
		d.Resume()
	}
}

// NetworkFault is the fault of our own that keeps anything from being sent, in words, and since when; empty where there is
// none.
func (d *Dispatcher) NetworkFault() (why string, since time.Time) {
	if d.sender.network == nil {
		return "", time.Time{}
	}
	return d.sender.network.Fault()
}

// Suspended reports whether everything is held back.
func (d *Dispatcher) Suspended() bool { return d.halt.suspended() }

// Planner plans the deliveries that are to be submitted.
func (d *Dispatcher) Planner() *Planner { return d.planner }

// Renderer writes requests as the Dispatcher sends them.
func (d *Dispatcher) Renderer() *Renderer { return d.renderer }

// Run keeps the lanes' clocks until ctx is done. Then attempts in flight are broken off, and they, what waits and what
// is still submitted are deferred (shutdown). When it returns, every delivery submitted before has been settled.
func (d *Dispatcher) Run(ctx context.Context) error {
	defer d.watchNetwork(ctx)()
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	tuner := newTuner()
	for turn := 0; ; turn++ {
		select {
		case <-ctx.Done():
			d.stop()
			return nil
		case now := <-tick.C:
			d.sweepQueues(now)
			for i := range sweepShards {
				d.visit((sweepShards*turn+i)%laneShards, now)
			}
			if turn%sweepSecond == 0 {
				d.permits.refresh()
			}
			if turn%tuneTurns == 0 {
				d.permits.limit.Store(tuner.tuneConcurrency(now, d.permits.limit.Load(), d.permits.maximum, d.attempts.Load(), d.permits.waiting.Load() > 0))
			}
			d.wakeWaiters() // the limit, or the shares, may have grown
		}
	}
}

// watchNetwork looks after the network until ctx is done; the function that it returns waits for the end of that.
func (d *Dispatcher) watchNetwork(ctx context.Context) (wait func()) {
	var watching sync.WaitGroup
	if d.sender.network != nil {
		watching.Go(func() { _ = d.sender.network.Run(ctx) }) // it returns no error
	}
	return watching.Wait
}

// stop settles everything. A lane's lock orders it with whoever submits or resumes: they either see stopping, or
// what they queued or began is seen here.
func (d *Dispatcher) stop() {
	d.halt.stopping.Store(true)
	close(d.sender.stopping)
	d.sender.exchange.Close()
	for _, l := range d.lanes.list() {
		d.resume(l)
	}
	d.working.Wait()
}

// WaitForCapacity returns when more should be read from Kafka, or with ctx's cause when that is done. What waits here
// within its account's allowance is bounded by it; what an account has waiting beyond that does not count.
func (d *Dispatcher) WaitForCapacity(ctx context.Context) error { return d.backlog.wait(ctx) }

// WaitForAccount returns when an account should be given more than others wait for: when no more of it waits here than its
// allowance. It returns ctx's cause when that is done.
func (d *Dispatcher) WaitForAccount(ctx context.Context, account string) error {
	for d.halt.suspended() || d.backlog.accountExceeds(d.lanes.accounts.find(account), time.Now()) {
		select {
		case <-time.After(accountAgain):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// Suspend holds everything back, since a fault of our own keeps attempts from being made: no attempt begins, nothing
// that waits grows older, and WaitForCapacity waits. why says so in words, for people. Resume ends it.
func (d *Dispatcher) Suspend(why string) {
	d.halt.suspend(why)
	d.backlog.wake()
}

// Resume ends what Suspend began.
func (d *Dispatcher) Resume() {
	d.halt.resume()
	d.backlog.wake()
}

// Release opens the lane of a subscription on this instance: a cool-down and the hold of a Retry-After end, and deliveries
// go out at a growing pace. What its configuration says stays: a pause, and the stop that a 410 brought. LaneOpened is told
// in any case, so that what waits elsewhere is fetched.
func (d *Dispatcher) Release(account, subscription string) {
	const why = "released"
	now := time.Now()
	if l := d.lanes.find(laneKey{account, subscription}); l != nil {
		l.mu.Lock()
		parked := l.gate.breaker.state == breakerParked || l.gate.breaker.state == breakerProbing
		l.gate.release(now, l.maximum(&d.cfg.Lanes))
		if parked {
			d.reporter.report(l, LaneUnparked, why, now)
		}
		l.owes = NoReason
		l.mu.Unlock()
		defer d.resume(l)
	}
	d.reporter.tell(LaneEvent{Account: account, Subscription: subscription, Kind: LaneOpened, Why: why, OwnWaits: true})
}
