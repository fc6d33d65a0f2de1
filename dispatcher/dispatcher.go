package dispatcher

import (
	"context"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"fanout/dispatcher/egress"
	"fanout/dispatcher/post"
	"fanout/event"
	"fanout/subscriptions"
)

// Directory answers who wants an event. Its answers are immutable, and a subscription whose configuration has not
// changed is the Same every time.
type Directory interface {
	// Match appends the enabled subscriptions of the account that selected the event.
	Match(dst []*subscriptions.Subscription, account string, name event.Name) []*subscriptions.Subscription
	// Lookup is the subscription as it is now; nil where there is none.
	Lookup(account, id string) *subscriptions.Subscription
	// Version is another number once an answer of the two may be another one.
	Version() uint64
}

// Observer is told of each outcome, in the goroutine that settles it: it must not block.
type Observer func(*Delivery, Outcome)

// Dispatcher plans deliveries and brings them to their outcome. All methods are safe for concurrent use.
type Dispatcher struct {
	cfg     Config
	log     *zap.Logger
	dir     Directory
	rules   *egress.Rules
	client  *post.Client
	post    exchangeFunc // client.Do
	slots   *slots
	metrics *metrics
	observe []Observer
	tracer  Tracer                                     // nil: none
	share   func(account, subscription string) float64 // of maxPerSecond; nil: all of it

	seed   maphash.Seed
	shards [64]laneShard

	submitted atomic.Uint64
	attempts  atomic.Uint64 // that have ended
	roomLimit int64
	waiting   atomic.Int64 // deliveries queued in lanes that are not slow
	roomMu    sync.Mutex   // guards room
	room      chan struct{}

	slowQueued atomic.Int64 // deliveries queued in slow lanes, all together

	agingMu sync.Mutex // guards aging
	aging   []*lane    // lanes that had a queue since the last sweep

	stopping atomic.Bool
	working  sync.WaitGroup // attempts; added to under a lane's lock, and not while stopping
	parkLog  parkLogger
	recent   recents
	watchers watchers
}

type laneShard struct {
	mu    sync.Mutex // guards all below
	lanes map[laneKey]*lane
	most  int // lanes held since the map was made
	_     [32]byte
}

// maxSlowQueued bounds what waits in all slow lanes together; beyond it their deliveries are deferred at once.
const maxSlowQueued = 20_000

// sweepEvery is how often queues are searched for what has waited too long.
const sweepEvery = 100 * time.Millisecond

// idleAfter is how long a lane without work, and with nothing to remember, is kept; crowdedAfter the same where a shard
// holds more than crowded of them. Making it anew costs a few microseconds, keeping it more than a KiB: where each of a
// million subscriptions has an event now and then, those of ten seconds were most of the memory.
const (
	idleAfter    = 10 * time.Second
	crowdedAfter = 500 * time.Millisecond
	crowded      = 512
)

// sweepShards is how many shards are searched for idle lanes at each sweep: each shard once in 0.8 s.
const sweepShards = 8

// Option changes a Dispatcher.
type Option func(*Dispatcher)

// WithObserver adds an observer of outcomes.
func WithObserver(o Observer) Option {
	return func(d *Dispatcher) { d.observe = append(d.observe, o) }
}

// WithShare sets what part of a subscription's maxPerSecond this instance may use, 0 to 1. It is asked a few times a
// second for each limited lane with work.
func WithShare(share func(account, subscription string) float64) Option {
	return func(d *Dispatcher) { d.share = share }
}

// WithTracer has each attempt traced.
func WithTracer(t Tracer) Option {
	return func(d *Dispatcher) { d.tracer = t }
}

// WithClient sets the HTTP client; tests trust other certificates and resolve other names with it.
func WithClient(c *post.Client) Option {
	return func(d *Dispatcher) { d.client = c }
}

// New makes a Dispatcher. Its Run must be running while deliveries are submitted. A nil log or reg is fine.
func New(cfg Config, dir Directory, log *zap.Logger, reg prometheus.Registerer, opts ...Option) (*Dispatcher, error) {
	rules, err := egress.New(cfg.Egress)
	if err != nil {
		return nil, fmt.Errorf("egress: %w", err)
	}
	if log == nil {
		log = zap.NewNop()
	}
	d := &Dispatcher{
		cfg: cfg, log: log, dir: dir, rules: rules,
		slots: newSlots(cfg.Delivery.MaxInFlight),
		seed:  maphash.MakeSeed(),
		room:  make(chan struct{}),
		// A single lane's queue must never overflow just because reading is faster than delivering.
		roomLimit: int64(max(1, cfg.Lanes.Queue*3/4)),
	}
	for i := range d.shards {
		d.shards[i].lanes = make(map[laneKey]*lane)
	}
	d.recent.init()
	d.metrics = newMetrics(reg, d)
	d.parkLog.log = log
	for _, o := range opts {
		o(d)
	}
	if d.client == nil {
		d.client = post.New(post.Config{ConnectTimeout: cfg.Delivery.ConnectTimeout, Egress: rules})
	}
	if d.post == nil {
		d.post = d.client.Do
	}
	return d, nil
}

// Run keeps the lanes' clocks until ctx is done. Then attempts under way are broken off, and they, what waits and what
// is still submitted are deferred (shutdown). When it returns every delivery submitted before has been settled.
func (d *Dispatcher) Run(ctx context.Context) error {
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	trim := newTrim()
	// One ticker: with two that are due at once, a synctest bubble breaks the race detector's state (golang/go#78156).
	for turn := 0; ; turn++ {
		select {
		case <-ctx.Done():
			d.stop()
			return nil
		case now := <-sweep.C:
			d.sweepQueues(now)
			for i := range sweepShards {
				d.evictIdle(&d.shards[(sweepShards*turn+i)%len(d.shards)], now)
			}
			if turn%trimTurns == 0 {
				d.slots.room.Store(trim.room(now, d.slots.room.Load(), d.slots.limit, d.attempts.Load(), d.slots.waiting.Load() > 0))
				d.wakeLine()
			}
		}
	}
}

// stop settles everything. A lane's lock orders it with whoever submits or resumes: they either see stopping, or
// what they queued or began is seen here.
func (d *Dispatcher) stop() {
	d.stopping.Store(true)
	d.client.Close()
	now := time.Now()
	d.eachLane(func(l *lane) {
		if l.timer != nil {
			l.timer.Stop()
		}
		d.settleAll(d.flush(l, now, nil))
	})
	d.working.Wait()
}

func (d *Dispatcher) shard(key laneKey) *laneShard {
	h := maphash.String(d.seed, key.account)*31 + maphash.String(d.seed, key.subscription)
	return &d.shards[h%uint64(len(d.shards))]
}

// lane is the key's lane, locked.
func (d *Dispatcher) lane(key laneKey) *lane {
	s := d.shard(key)
	for {
		s.mu.Lock()
		l := s.lanes[key]
		if l == nil {
			key = key.clone()
			l = &lane{key: key, share: 1, comparedTo: d.submitted.Load()}
			s.lanes[key] = l
		}
		s.mu.Unlock()
		l.mu.Lock()
		if !l.evicted {
			return l
		}
		l.mu.Unlock()
	}
}
