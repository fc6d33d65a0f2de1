package letters

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"fanout/topic"
)

// Config says how an index is built.
type Config struct {
	File   string      // where it is kept; empty: in memory only
	Rate   int         // bytes a second that are read at most; 0: MaxRate
	Memory int64       // bytes that it takes at most; 0: MaxMemory
	Busy   func() bool // whether deliveries wait, which go first; nil: they never do
	// Every is how long it waits until it looks again at what is new; 0: LookEvery. Whoever asks reads what has died since.
	Every time.Duration
}

// LookEvery is how often an index looks at what is new, unless told otherwise.
const LookEvery = 5 * time.Second

// MaxRate is how many bytes a second are read, unless told otherwise.
const MaxRate = 10 << 20

// Times of a Builder.
const (
	busyPause = time.Second // between two pages of 256 KiB while deliveries wait: it goes on, but slowly
	failPause = 5 * time.Second
	saveEvery = time.Minute // where something has changed, and as long again for each saveBytes
	saveBytes = 8 << 20
)

// Builder reads the dead-letter topic into an Index, and keeps it up to date. Run is its goroutine.
type Builder struct {
	cfg     Config
	cluster *topic.Cluster
	log     *zap.Logger
	index   *Index
	limit   *rate.Limiter

	suspect atomic.Bool // somebody has found that it is wrong

	// Run's alone.
	opened  bool      // the file was looked at
	topic   string    // its id
	saved   time.Time // zero: not since it was begun
	changed bool      // since it was saved

	mu     sync.Mutex // guards all below
	status Status
}

// Status says how far an index is.
type Status struct {
	Records  int64 // offsets that the topic holds; -1: not known yet
	Unread   int64 // of them, how many the index has not read yet
	FileSize int64 // bytes of the file as it was written last; 0: it was not
}

// NewBuilder makes one that has read nothing. A nil logger is silent.
func NewBuilder(c *topic.Cluster, cfg Config, log *zap.Logger) *Builder {
	if cfg.Rate <= 0 {
		cfg.Rate = MaxRate
	}
	if cfg.Every <= 0 {
		cfg.Every = LookEvery
	}
	if cfg.Busy == nil {
		cfg.Busy = func() bool { return false }
	}
	if log == nil {
		log = zap.NewNop()
	}
	return &Builder{
		cfg: cfg, cluster: c, log: log, index: NewIndex(cfg.Memory), limit: rate.NewLimiter(rate.Limit(cfg.Rate), max(cfg.Rate/10, 1)), status: Status{Records: -1},
	}
}

// Index is what it builds.
func (b *Builder) Index() *Index { return b.index }

// Status says how far it is.
func (b *Builder) Status() Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.status
}

// Suspect has it made again: what lies at a place is not what it says.
func (b *Builder) Suspect() { b.suspect.Store(true) }

// Run builds until ctx is done, and writes the file then. What cannot be read now is read later.
func (b *Builder) Run(ctx context.Context) error {
	defer b.save(true)
	for {
		wait := b.cfg.Every
		if err := b.round(ctx); err != nil && ctx.Err() == nil {
			b.log.Debug("dead letters are not indexed; trying again", zap.Error(err))
			wait = failPause
		}
		if !topic.Sleep(ctx, wait) {
			return nil
		}
	}
}

// round reads what the topic holds now.
func (b *Builder) round(ctx context.Context) error {
	ranges, err := b.look(ctx)
	if err != nil || len(ranges) == 0 {
		return err
	}
	unsaved := b.saved.IsZero()
	reached := b.index.Reached()
	for id, r := range ranges {
		if err := b.read(ctx, id, topic.Range{From: max(r.From, reached[id]), To: r.To}); err != nil {
			return err
		}
	}
	b.save(unsaved) // once it has caught up, and then now and again
	return nil
}

// look says what the topic holds, and begins again where it is another one than before, or was cut.
func (b *Builder) look(ctx context.Context) (map[int]topic.Range, error) {
	ranges, err := b.cluster.DeadLetters().Ranges(ctx, new(topic.Filter))
	if err != nil {
		return nil, err
	}
	if len(ranges) == 0 { // there is no such topic
		b.note(ranges)
		return nil, nil
	}
	id, err := b.cluster.TopicID(ctx, b.cluster.Config().Names().DeadLetter)
	if err != nil {
		return nil, err
	}
	b.open(id)
	starts := make(map[int]int64, len(ranges))
	reached := b.index.Reached()
	for id, r := range ranges {
		starts[id] = r.From
		if reached[id] > r.To {
			b.restart("the topic's log was cut")
			break
		}
	}
	b.index.begins(starts)
	if _, bytes, full := b.index.Size(); full && bytes < b.index.memory/2 {
		b.restart("there is room for the accounts that did not fit")
	}
	b.note(ranges)
	return ranges, nil
}

// open takes up the file of the topic with that id, unless it is the one that is known.
func (b *Builder) open(id string) {
	was, opened := b.topic, b.opened
	b.topic, b.opened = id, true
	switch {
	case opened && was != id:
		b.restart("the topic was made again")
	case opened && b.suspect.Swap(false):
		b.restart("it does not agree with the topic")
	case opened || b.cfg.File == "":
	default:
		sweep(b.cfg.File)
		switch err := b.index.load(b.cfg.File, id); {
		case err == nil:
			b.saved = time.Now()
			accounts, bytes, _ := b.index.Size()
			b.log.Info("index of dead letters read from its file", zap.Int("accounts", accounts), zap.Int64("bytes", bytes))
		case !errors.Is(err, fs.ErrNotExist):
			b.log.Warn("index of dead letters begins again", zap.String("file", b.cfg.File), zap.NamedError("why", err))
		}
	}
}

// Metrics are what tells how far an index is.
func (b *Builder) Metrics() []prometheus.Collector {
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "fanout_dead_letter_index_" + name, Help: help}, value)
	}
	return []prometheus.Collector{
		gauge("unread_records", "Records of the dead-letter topic that the index has not read yet; -1 before the topic was looked at.", func() float64 {
			if s := b.Status(); s.Records >= 0 {
				return float64(s.Unread)
			}
			return -1
		}),
		gauge("bytes", "Memory that the index of the dead-letter topic takes.", func() float64 {
			_, bytes, _ := b.index.Size()
			return float64(bytes)
		}),
		gauge("accounts", "Accounts that the index of the dead-letter topic knows.", func() float64 {
			accounts, _, _ := b.index.Size()
			return float64(accounts)
		}),
	}
}

// restart forgets everything.
func (b *Builder) restart(why string) {
	b.index.mu.Lock()
	b.index.clear()
	b.index.mu.Unlock()
	b.saved = time.Time{}
	b.log.Warn("index of dead letters begins again", zap.String("why", why))
}

// note takes down how far the index is.
func (b *Builder) note(ranges map[int]topic.Range) {
	unread := b.index.unread(ranges)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.status.Records, b.status.Unread = topic.Total(ranges), unread
}

// read reads a part of one partition.
func (b *Builder) read(ctx context.Context, partition int, r topic.Range) error {
	if r.From >= r.To {
		return nil
	}
	fetcher := b.cluster.FetcherAhead(topic.Partition{Topic: b.cluster.Config().Names().DeadLetter, ID: partition})
	var all []entry
	for at := r.From; at < r.To; {
		if b.cfg.Busy() && !topic.Sleep(ctx, busyPause) {
			return context.Cause(ctx)
		}
		page, err := fetcher.Fetch(ctx, at)
		if topic.OutOfRange(err) {
			return nil // records that were deleted meanwhile are left out the next time
		}
		if err != nil {
			return err
		}
		size, d := page.Size(), new(topic.DeadLetter)
		all = all[:0]
		err = page.Each(ctx, func(record *topic.Record) bool {
			if record.Offset >= r.To {
				return false
			}
			topic.ReadDeadLetter(record, d)
			all = append(all, entry{record.Offset, d.DeadAt, d.Account, d.Subscription, d.Reason})
			return true
		})
		next := min(page.Next(), r.To)
		page.Close()
		b.index.take(partition, all, next)
		b.progressed(next - at)
		if err != nil {
			return err
		}
		if next <= at {
			return nil // a transaction is open
		}
		at = next
		b.changed = true
		b.save(false)
		if err := b.spend(ctx, size); err != nil {
			return err
		}
	}
	return nil
}

// progressed takes down that so many offsets more were read.
func (b *Builder) progressed(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.status.Unread = max(0, b.status.Unread-n)
}

// spend waits until so many bytes may be read.
func (b *Builder) spend(ctx context.Context, size int) error {
	for size > 0 {
		n := min(size, b.limit.Burst())
		if err := b.limit.WaitN(ctx, n); err != nil {
			return err
		}
		size -= n
	}
	return nil
}

// save writes the file, where something has changed and it is due, or now.
func (b *Builder) save(now bool) {
	_, bytes, _ := b.index.Size()
	due := time.Since(b.saved) >= saveEvery*time.Duration(1+bytes/saveBytes)
	if b.cfg.File == "" || !b.changed || !now && !due {
		return
	}
	b.saved = time.Now()
	size, err := b.index.save(b.cfg.File, b.topic)
	if err != nil {
		b.log.Warn("index of dead letters is not written; going on", zap.Error(err))
		return
	}
	b.changed = false
	b.mu.Lock()
	defer b.mu.Unlock()
	b.status.FileSize = size
}
