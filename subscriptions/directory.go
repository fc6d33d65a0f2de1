package subscriptions

import (
	"hash/maphash"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"fanout/event"
)

// Directory is the snapshot of all subscriptions, kept up to date by [Directory.Run]. Its readers may be called at any
// time from any goroutine; before Ready is closed, they know nothing and absence means nothing.
type Directory struct {
	cfg       Config
	log       *zap.Logger
	client    redis.UniversalClient
	intervals intervals

	table table

	writing writing

	problems problems
	guard    lossGuard
	fresh    *freshness

	record recorder
	file   *snapshotFile

	full     signal      // asks for a full load
	accepted atomic.Bool // the next full load is taken whatever it holds
	lanes    LaneObserver
	counts   [states]atomic.Int64

	changed func(Changed) // nil: nobody observes
}

// writing guards the table's writing side, and keeps what was read earlier from being applied over what was read
// later. Reads of Redis overlap: a full load reads a batch while another is applied, and changes are read in between.
//
// Each read notes the clock before it asks. When it has its answer, it leaves out the accounts that a read begun after
// it has applied meanwhile: that one saw all that this one saw, and more. (It may have been answered before this one.
// What was written between the two answers is announced after it, and read again.)
type writing struct {
	mu       sync.Mutex
	clock    uint64
	inFlight int
	changes  int               // of them, reads of announced accounts
	applied  map[string]uint64 // account → clock of the read that was applied; kept while a read it may concern is in flight
}

// intervals are how long the directory waits; tests shorten them.
type intervals struct {
	reconcile time.Duration // between full loads
	refused   time.Duration // between full loads while one is refused
	ask       time.Duration // between the two questions before a drop
	retry     time.Duration // after a failure
	start     time.Duration // how long a start with a snapshot file waits for a Redis that has not answered
	patience  time.Duration // the same once it has answered, and fails
	write     time.Duration // from a change to the snapshot file's writing
	writeMany time.Duration // the same for a large snapshot
}

//nolint:gochecknoglobals // a constant
var defaultIntervals = intervals{
	reconcile: 5 * time.Minute, refused: 30 * time.Second, ask: 2 * time.Second, retry: 250 * time.Millisecond,
	start: time.Second, patience: 10 * time.Second, write: time.Second, writeMany: 6 * time.Second,
}

// New makes a Directory that knows nothing yet. It does not need a Redis. A nil logger and a nil registerer work.
func New(cfg Config, log *zap.Logger, reg prometheus.Registerer, opts ...Option) (*Directory, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	path, err := cfg.snapshotPath()
	if err != nil {
		return nil, err
	}
	client, err := newClient(&cfg, -1, opts...)
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = zap.NewNop()
	}
	d := &Directory{
		cfg: cfg, log: log, client: client,
		intervals: defaultIntervals,
		guard:     lossGuard{log: log}, problems: problems{byAccount: make(map[string]map[string]*problem)}, full: newSignal(),
	}
	d.table.seed = maphash.MakeSeed()
	d.fresh = newFreshness(log, &d.intervals)
	d.record = recorder{log: log, client: client}
	d.file = &snapshotFile{
		path: path, named: cfg.SnapshotFile != "", origin: cfg.origin(), catalogue: cfg.Catalogue,
		log: log, intervals: &d.intervals, table: &d.table, fresh: d.fresh, dirty: newSignal(),
	}
	if reg != nil {
		if err := reg.Register(&collector{d}); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// LaneObserver is told, on every instance, what opens the lane of a subscription. Its functions may be nil; they must not block.
type LaneObserver struct {
	Changed  func(account, id string)     // another version of a subscription that was known is in force, whoever changed it
	Released func(account, id, by string) // somebody has released it: see [Store.Release]; by is the actor that said so, or empty
}

// ObserveLanes sets who is told. It is set before Run.
func (d *Directory) ObserveLanes(o LaneObserver) { d.lanes = o }

// Match appends to dst the account's subscriptions that an event of that name makes a delivery for: enabled, the name is
// selected, and the notification is, where they name any. Paused and invalid ones are among them; what becomes of the delivery is the dispatcher's to say.
// It allocates nothing where dst has room.
func (d *Directory) Match(dst []*Subscription, account string, name event.Name, notificationID string) []*Subscription {
	return d.table.match(dst, account, name, notificationID)
}

// Lookup returns a subscription, enabled or not; nil where there is none.
func (d *Directory) Lookup(account, id string) *Subscription { return d.table.lookup(account, id) }

// Version counts changes: as long as it stays, so do the answers of Match and Lookup. It starts at 1.
func (d *Directory) Version() uint64 { return 1 + d.table.version.Load() }

// Account returns the account's subscriptions, sorted by id. The slice is the caller's.
func (d *Directory) Account(account string) []*Subscription {
	subs := d.table.account(account)
	list := make([]*Subscription, len(subs))
	for i := range subs {
		list[i] = &subs[i]
	}
	return list
}

// All yields every subscription, account by account, in no order of accounts. What changes meanwhile may be seen or not.
func (d *Directory) All() iter.Seq[*Subscription] { return d.table.all() }

// Len counts the subscriptions, disabled and invalid ones included.
func (d *Directory) Len() int { return d.table.len() }

// Ready is closed once the subscriptions are known, from Redis or from the snapshot file.
func (d *Directory) Ready() <-chan struct{} { return d.fresh.ready }

// Loaded says whether Ready is closed.
func (d *Directory) Loaded() bool { return d.fresh.isReady() }

// RecordChanges has the Directory write down when it sees an account really change, for as long as keep says. It is set before
// Run. Only what serves does so: whoever merely looks must not write.
func (d *Directory) RecordChanges(keep time.Duration) { d.record.keep = keep }

// AcceptShrink makes this instance take what Redis holds, at once and however little it is. See [Store.AcceptShrink]
// for all instances.
func (d *Directory) AcceptShrink() {
	d.accepted.Store(true)
	d.full.ask()
}

// signal asks another goroutine for something, once however often it is asked for before that one comes to it.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

func (s signal) ask() {
	select {
	case s <- struct{}{}:
	default:
	}
}
