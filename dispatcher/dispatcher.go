package dispatcher

import (
	"context"
	"sync"
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
// A delivery is submitted to its lane. The admitter decides what becomes of it, the workers carry that out and make the attempts,
// and outcomes tells how they ended.
type Dispatcher struct {
	cfg      Config
	planner  *Planner
	renderer *Renderer
	network  *reach.Monitor // nil: every failure is the receiver's

	lanes    *lanes
	halt     halt
	backlog  *backlog
	reporter laneReporter
	follower follower
	workers  workers
	outcomes outcomes
}

// sweepEvery is how often the lanes are looked at whose queues may have waited for too long. A sweep also visits
// sweepShards shards of lanes and accounts: each of them is visited about once a second.
const (
	sweepEvery  = 100 * time.Millisecond
	sweepShards = 7
	sweepSecond = int(time.Second / sweepEvery)
)

// Option changes a Dispatcher that is made.
type Option func(*options)

type options struct {
	share     func(account, subscription string) float64 // of maxPerSecond; nil: all of it
	observers []func(LaneEvent)
	tracer    Tracer   // nil: none
	exchange  Exchange // nil: a client of the Dispatcher's own
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
	d := &Dispatcher{cfg: cfg, planner: NewPlanner(dir), renderer: renderer, lanes: newLanes()}
	accounts, m := &d.lanes.accounts.count, newMetrics(reg, &d.cfg, d.lanes)
	permits := newSemaphore(cfg.Delivery.MaxInFlight, accounts)
	d.backlog = newBacklog(&cfg.Lanes, accounts, &d.halt)
	d.reporter.log, d.reporter.observers = log, o.observers
	d.outcomes.log, d.outcomes.tests = log, m.tests
	d.outcomes.recent.init()
	if prober, ok := o.exchange.(reach.Prober); ok {
		d.network = reach.NewMonitor(prober, d.Suspend, log, reg)
	}
	d.follower = follower{dir: dir, renderer: renderer, cfg: &d.cfg.Lanes, share: o.share, reporter: &d.reporter}
	d.workers = workers{
		admitter: admitter{cfg: &d.cfg, follower: &d.follower, halt: &d.halt, backlog: d.backlog, permits: permits},
		follower: &d.follower, reporter: &d.reporter, permits: permits, backlog: d.backlog, outcomes: &d.outcomes,
		sender: sender{
			cfg: &d.cfg.Delivery, exchange: o.exchange, tracer: o.tracer, seconds: m.attempts, sizes: m.batches, network: d.network, stopping: make(chan struct{}),
		},
	}
	return d, nil
}

// Planner plans the deliveries that are to be submitted.
func (d *Dispatcher) Planner() *Planner { return d.planner }

// Renderer writes requests as the Dispatcher sends them.
func (d *Dispatcher) Renderer() *Renderer { return d.renderer }

// Run keeps the lanes' clocks until ctx is done. Then attempts in flight are broken off, and they, what waits and what
// is still submitted are deferred (shutdown). When it returns, every delivery submitted before has been settled.
func (d *Dispatcher) Run(ctx context.Context) error {
	var watching sync.WaitGroup
	defer watching.Wait()
	if d.network != nil {
		watching.Go(func() { _ = d.network.Run(ctx) }) // it returns no error
	}
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	tuner := newTuner()
	for turn := 0; ; turn++ {
		select {
		case <-ctx.Done():
			d.halt.stopping.Store(true)
			d.workers.stop(d.lanes.list())
			return nil
		case now := <-tick.C:
			d.workers.sweep(now)
			for i := range sweepShards {
				d.visit((sweepShards*turn+i)%laneShards, now)
			}
			if turn%sweepSecond == 0 {
				d.workers.permits.refresh()
			}
			if turn%tuneTurns == 0 {
				d.workers.permits.tune(tuner, now, d.workers.attempts.Load())
			}
			d.workers.wakeWaiters() // the limit, or the shares, may have grown
		}
	}
}

// visit looks after the lanes and accounts of a shard: it samples their loads, tells which lanes are open again, and forgets
// those that have no work and nothing to remember.
func (d *Dispatcher) visit(shard int, now time.Time) {
	d.lanes.accounts.sweep(shard, now)
	d.lanes.visit(shard, now, func(l *lane) {
		l.load.sample()
		if l.owed.reason == NoReason {
			return
		}
		if d.follower.follow(l, now); !d.halt.suspended() {
			d.reporter.tellOpened(l, now, &d.cfg.Lanes)
		}
	}, func(l *lane, unused time.Duration) bool {
		return l.forgettable(now, unused, &d.cfg.Lanes) || d.follower.orphaned(l)
	})
}
