package subscriptions

import (
	"context"
	"hash/maphash"
	"iter"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"fanout/event"
)

// Directory is the snapshot of all subscriptions, kept up to date by [Directory.Run]. Its readers may be called at any
// time from any goroutine; before Ready is closed, they know nothing and absence means nothing.
type Directory struct {
	log       *zap.Logger
	client    redis.UniversalClient
	intervals intervals

	table    table          // who wants what
	problems problems       // what does not validate
	fresh    *freshness     // how good the table is
	file     *snapshotFile  // the table on disk
	guard    *lossGuard     // what speaks against believing Redis
	record   *recorder      // writes down what changes
	applier  *applier       // brings the table to what is stored
	accounts *accountReader // reads what is stored
	loads    *reconciler    // reads all of it
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
	d := &Directory{log: log, client: client, intervals: defaultIntervals}
	d.table.seed = maphash.MakeSeed()
	d.fresh = newFreshness(log, &d.intervals)
	d.guard = &lossGuard{log: log}
	d.record = &recorder{log: log, client: client}
	d.file = &snapshotFile{
		path: path, named: cfg.SnapshotFile != "", origin: cfg.origin(), catalogue: cfg.Catalogue,
		log: log, intervals: &d.intervals, table: &d.table, fresh: d.fresh, dirty: newSignal(),
	}
	d.applier = &applier{
		log: log, reader: cfg.Reader(), table: &d.table, problems: &d.problems, fresh: d.fresh, dirty: d.file.dirty,
		observer: observer{problems: &d.problems, fresh: d.fresh},
	}
	d.accounts = &accountReader{client: client, record: d.record, applier: d.applier}
	d.loads = &reconciler{
		client: client, log: log, intervals: &d.intervals, accounts: d.accounts, applier: d.applier, table: &d.table,
		record: d.record, guard: d.guard, fresh: d.fresh, full: newSignal(),
	}
	if reg != nil {
		if err := reg.Register(&collector{d}); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// Run keeps the snapshot up to date until ctx is done: it reads the snapshot file, loads everything from Redis, follows
// the changes, and loads everything again every five minutes. Redis may come, hang and go as it likes. At the end it
// writes the snapshot file and closes the connections. It is called once, and returns nil.
//
// With a snapshot file it is ready once every change since has been applied. Where the stream does not have them all, it
// is ready once everything is loaded; and where Redis fails, with the file as it is.
func (d *Directory) Run(ctx context.Context) error {
	f := &follower{
		client: d.client, log: d.log, intervals: &d.intervals, accounts: d.accounts, applier: d.applier,
		guard: d.guard, fresh: d.fresh, loads: d.loads, released: d.applier.lanes.Released, suspected: make(suspectedRemovals),
	}
	if file, ok := d.file.read(d.applier.fill); ok {
		f.position, f.youngestRead, f.verify = file.position, millis(file.position), file.position != ""
		f.gap = file.foreign || file.position == streamStart // how much has come and been trimmed since, nothing tells
		if file.position != "" {
			d.loads.full.ask()
		}
	}
	d.file.sweep()
	var group sync.WaitGroup
	group.Go(func() { f.run(ctx) })
	group.Go(func() { d.loads.run(ctx) })
	group.Go(func() { d.file.run(ctx) })
	// A blocking read would hold the stop up for a second.
	context.AfterFunc(ctx, func() { _ = d.client.Close() })
	group.Wait()
	return nil
}

// LaneObserver is told, on every instance, what opens the lane of a subscription. Its functions may be nil; they must not block.
type LaneObserver struct {
	Changed  func(account, id string)     // another version of a subscription that was known is in force, whoever changed it
	Released func(account, id, by string) // somebody has released it: see [Store.Release]; by is the actor that said so, or empty
}

// ObserveLanes sets who is told. It is set before Run.
func (d *Directory) ObserveLanes(o LaneObserver) { d.applier.lanes = o }

// Observe has changed called for each change that this Directory sees, in order for each account. It must not block and must not
// call the Directory. A first load finds no changes, and a change that an instance has made and announced as an actor's is
// told by that instance; that a stored version is not valid, or is again, is always told. It is set before Run.
func (d *Directory) Observe(changed func(Changed)) { d.applier.observer.notify = changed }

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
func (d *Directory) AcceptShrink() { d.loads.accept() }

// Refresh reads the accounts again, now. When it returns nil, what was in Redis before the call is in force. An observer is not
// told of it: whoever asks for it has changed them.
func (d *Directory) Refresh(ctx context.Context, accounts ...string) error {
	return d.accounts.refresh(ctx, accounts, nil, func(s stored) {
		s.told = true
		d.applier.apply(s, func(string) bool { return true })
	})
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
