package operate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
	"golang.org/x/time/rate"

	"fanout/dispatcher"
	"fanout/topic"
)

// ReplayConfig says what a replay sends, and how.
type ReplayConfig struct {
	Name        string // on each record it sends; the same name again goes on where it ended
	Filter      topic.Filter
	Again       bool    // also what an earlier replay, of another name, has sent
	Rate        float64 // records a second; 0 means no bound
	MaxFailures int     // it stops when more deliveries than that have failed again; 0 means no bound
	// Gone says that the delivery's subscription does not exist; nil: nobody knows. It may be called from several
	// goroutines.
	Gone func(account, subscription string) bool
}

// ReplayPlan is what a replay would send, and what it would not and why.
type ReplayPlan struct {
	Name      string            `json:"name"`
	Send      int               `json:"send"`
	Groups    []DeadLetterCount `json:"groups"`    // of what it would send, by reason and subscription
	Sent      int               `json:"sent"`      // by this name before
	Replayed  int               `json:"replayed"`  // by other replays before; left out unless told otherwise
	Own       int               `json:"own"`       // dead letters of this replay's own deliveries
	Later     int               `json:"later"`     // died after this name began
	Delivered int               `json:"delivered"` // delivered meanwhile, the attempts topic says; left out unless told otherwise
	Malformed int               `json:"malformed"` // they are mended and sent to their source topic instead
	Unusable  int               `json:"unusable"`  // their headers do not make a delivery
	Gone      int               `json:"gone"`      // of Send: their subscription does not exist, so they will be discarded
	NotFound  int               `json:"notFound"`  // of the filter's IDs: no dead letter that the filter selects is one of these
	Began     time.Time         `json:"began,omitzero"`

	ranges map[int]topic.Range
	skip   map[position]bool
	again  map[uint64]time.Time // when a webhook-id was resent or backfilled last
	seen   map[int]topic.Range  // how far the replay topic was read
}

// position is where a dead letter lies, and what tells it from one that lay there before the topic was made again.
type position struct {
	partition int
	offset    int64
	id        uint64 // of its webhook-id
}

func positionOf(d *topic.DeadLetter) position { return position{d.Partition, d.Offset, idHash(d.ID)} }

func idHash(id string) uint64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, id) // a hash takes everything
	return h.Sum64()
}

// Replay sends dead letters out again, through the replay topic and to their own subscription only.
type Replay struct {
	cluster *topic.Cluster
	letters *topic.DeadLetters
	cfg     ReplayConfig
	names   topic.Names

	sent     atomic.Int64
	taken    atomic.Int64
	failures atomic.Int64
	sending  atomic.Int64 // nanoseconds
}

// ErrTooManyFailures ends a replay whose deliveries fail again.
var ErrTooManyFailures = errors.New("too many of the replayed deliveries fail again")

// ErrRunning ends a replay when another process sends under the same name: both would send the same.
var ErrRunning = errors.New("a replay of this name is running elsewhere")

// NewReplay makes a replay. Nothing is read before Plan, nothing written before Run.
func NewReplay(c *topic.Cluster, cfg ReplayConfig) *Replay {
	return &Replay{cluster: c, letters: c.DeadLetters(), cfg: cfg, names: c.Config().Names()}
}

// Sent is how many records have been sent.
func (r *Replay) Sent() int64 { return r.sent.Load() }

// Taken is how many records another replay has sent since the plan was made, so that this one did not.
func (r *Replay) Taken() int64 { return r.taken.Load() }

// Failures is how many of the deliveries are known to have failed again.
func (r *Replay) Failures() int64 { return r.failures.Load() }

// Sending is how long Run has been writing, or waiting for its rate; looking at outcomes is not in it.
func (r *Replay) Sending() time.Duration { return time.Duration(r.sending.Load()) }

// Plan finds out exactly what Run would send. The end offsets are those of now: what dies later, be it of this replay's
// own making, is not sent by it.
func (r *Replay) Plan(ctx context.Context, done *atomic.Int64, total func(int64)) (*ReplayPlan, error) {
	p := &ReplayPlan{Name: r.cfg.Name, Groups: []DeadLetterCount{}, skip: make(map[position]bool), again: make(map[uint64]time.Time)}
	var err error
	if p.ranges, err = r.letters.Ranges(ctx, &r.cfg.Filter); err != nil {
		return nil, err
	}
	if total == nil {
		total = func(int64) {}
	}
	total(topic.Total(p.ranges))
	others, err := r.readSent(ctx, p)
	if err != nil {
		return nil, err
	}
	delivered, err := r.readDelivered(ctx, p.ranges, done, total)
	if err != nil {
		return nil, err
	}
	type key struct{ account, subscription, reason string }
	groups := make(map[key]*DeadLetterCount)
	found := make(map[string]bool)
	var mu sync.Mutex // guards p's counts, p.skip, groups and found
	err = r.letters.Each(ctx, &r.cfg.Filter, p.ranges, done, func(d *topic.DeadLetter) error {
		usable := d.Usable()
		gone := usable && r.cfg.Gone != nil && r.cfg.Gone(d.Account, d.Subscription)
		at := positionOf(d)
		mu.Lock()
		defer mu.Unlock()
		if len(r.cfg.Filter.IDs) > 0 {
			found[d.ID], found[d.Position()] = true, true
		}
		switch {
		case p.skip[at]:
			p.Sent++
			return nil
		case d.Malformed():
			p.Malformed++
		case d.Replay == r.cfg.Name && d.Replay != "":
			p.Own++
		case !p.Began.IsZero() && d.DeadAt.After(p.Began):
			p.Later++
		case (others[at] || p.again[at.id].After(d.DeadAt)) && !r.cfg.Again:
			p.Replayed++
		case !usable:
			p.Unusable++
		case delivered[d.ID].After(d.DeadAt):
			p.Delivered++
		default:
			p.Send++
			if gone {
				p.Gone++
			}
			k := key{d.Account, d.Subscription, d.Reason}
			g := groups[k]
			if g == nil {
				g = &DeadLetterCount{Account: k.account, Subscription: k.subscription, Reason: k.reason, First: d.DeadAt, Last: d.DeadAt}
				groups[k] = g
			}
			g.Count++
			g.First, g.Last = earlier(g.First, d.DeadAt), later(g.Last, d.DeadAt)
			return nil
		}
		p.skip[at] = true
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, id := range r.cfg.Filter.IDs {
		if !found[id] {
			p.NotFound++
		}
	}
	for _, g := range groups {
		p.Groups = append(p.Groups, *g)
	}
	slices.SortFunc(p.Groups, largestFirst)
	return p, nil
}

// readSent reads the replay topic: what this name has sent goes to p.skip, what others have to the result. Nothing else
// keeps account, so a replay can be killed at any point.
func (r *Replay) readSent(ctx context.Context, p *ReplayPlan) (map[position]bool, error) {
	others := make(map[position]bool)
	var mu sync.Mutex // guards others and p
	seen, err := r.news(ctx, r.names.Replay, nil, func(m *topic.Record) error {
		at, err := sentPosition(m)
		if err != nil {
			return nil // somebody else's record
		}
		mu.Lock()
		defer mu.Unlock()
		if m.Header(topic.HeaderReplay) == r.cfg.Name {
			p.skip[at] = true
			if p.Began.IsZero() || m.Time.Before(p.Began) {
				p.Began = m.Time
			}
		} else {
			others[at] = true
			if at.partition < 0 {
				p.again[at.id] = later(p.again[at.id], m.Time)
			}
		}
		return nil
	})
	if topic.NoTopic(err) {
		err = nil
	}
	p.seen = seen
	return others, err
}

// news reads what lies in a topic behind what was seen of it, and returns what is seen then.
func (r *Replay) news(ctx context.Context, name string, seen map[int]topic.Range, each func(*topic.Record) error) (map[int]topic.Range, error) {
	now, err := r.cluster.Ranges(ctx, name, time.Time{})
	if err != nil {
		return seen, err
	}
	fresh := make(map[int]topic.Range)
	for id, n := range now {
		if n.To > seen[id].To {
			fresh[id] = topic.Range{From: max(n.From, seen[id].To), To: n.To}
		}
	}
	if err := r.cluster.Scan(ctx, name, fresh, nil, each); err != nil {
		return seen, err
	}
	return now, nil
}

// readDelivered reads from the attempts topic, where there is one, when those of the selected deliveries that succeeded
// last did so. The topic may hold far more than fits in memory, the dead letters are read first for that.
func (r *Replay) readDelivered(ctx context.Context, letters map[int]topic.Range, done *atomic.Int64, total func(int64)) (map[string]time.Time, error) {
	if r.cfg.Again {
		return nil, nil //nolint:nilnil // nothing is left out for it
	}
	if _, err := r.cluster.PartitionCount(ctx, r.names.Attempts); topic.NoTopic(err) {
		return nil, nil //nolint:nilnil // nothing is known
	}
	delivered := make(map[string]time.Time)
	first := time.Now()
	var mu sync.Mutex // guards delivered and first
	total(topic.Total(letters))
	if err := r.letters.Each(ctx, &r.cfg.Filter, letters, done, func(d *topic.DeadLetter) error {
		mu.Lock()
		defer mu.Unlock()
		delivered[d.ID], first = time.Time{}, earlier(first, d.DeadAt)
		return nil
	}); err != nil || len(delivered) == 0 {
		return nil, err
	}
	ranges, err := r.cluster.Ranges(ctx, r.names.Attempts, first.Add(-topic.ClockSlack))
	if err != nil {
		return nil, err
	}
	total(topic.Total(ranges))
	err = r.cluster.Scan(ctx, r.names.Attempts, ranges, done, func(m *topic.Record) error {
		if m.Header(topic.HeaderOutcome) != dispatcher.Delivered.String() {
			return nil
		}
		if a, ok := topic.ParseAttempt(m.Value); ok {
			mu.Lock()
			defer mu.Unlock()
			if last, asked := delivered[a.ID]; asked {
				delivered[a.ID] = later(last, time.UnixMilli(a.Time))
			}
		}
		return nil
	})
	return delivered, err
}

// sentPosition is which dead letter a record of the replay topic was made of. One that was resent or backfilled has none, and is
// known by its webhook-id.
func sentPosition(m *topic.Record) (position, error) {
	from := m.Header(topic.HeaderDeadLetter)
	if from == "" && m.Header(topic.HeaderReplay) != "" {
		return unplaced(m.Header(topic.HeaderWebhookID)), nil
	}
	at, err := parsePosition(from)
	at.id = idHash(m.Header(topic.HeaderWebhookID))
	return at, err
}

// unplaced is the position of a delivery that was no dead letter.
func unplaced(id string) position { return position{-1, -1, idHash(id)} }

func parsePosition(s string) (position, error) {
	partition, offset, ok := strings.Cut(s, "/")
	if !ok {
		return position{}, errors.New("want partition/offset")
	}
	p, err := strconv.ParseUint(partition, 10, 31)
	if err != nil {
		return position{}, errors.New("want partition/offset")
	}
	o, err := strconv.ParseUint(offset, 10, 63)
	if err != nil {
		return position{}, errors.New("want partition/offset")
	}
	return position{partition: int(p), offset: int64(o)}, nil
}

// Run sends what the plan holds, without what another replay has sent since. When it is interrupted or killed, another
// Run with a new Plan and the same name goes on; nothing is sent twice but what was being written at that moment. It is
// ErrRunning where that other Run has begun before this one has ended.
func (r *Replay) Run(ctx context.Context, plan *ReplayPlan) error {
	return r.run(ctx, plan.seen, func(ctx context.Context, put func(outbound) error) error {
		return r.letters.Each(ctx, &r.cfg.Filter, plan.ranges, nil, func(d *topic.DeadLetter) error {
			if plan.skip[positionOf(d)] || !d.Usable() {
				return nil
			}
			return put(outbound{at: positionOf(d), record: d.ReplayRecord(r.cluster.Config().Kafka.Group, r.cfg.Name, time.Now()), size: len(d.Value) + len(d.Key)})
		})
	})
}

// feed puts what is to be sent, from any goroutine.
type feed func(ctx context.Context, put func(outbound) error) error

// run sends what the feed puts; seen is how far the replay topic was read for it.
func (r *Replay) run(ctx context.Context, seen map[int]topic.Range, feed feed) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var watching sync.WaitGroup
	defer watching.Wait()
	if r.cfg.MaxFailures > 0 {
		watch, err := r.watch(ctx)
		if err != nil {
			return err
		}
		watching.Go(func() {
			if err := watch(); err != nil {
				cancel(err)
			}
		})
	}
	begun := time.Now()
	err := r.send(ctx, seen, feed)
	r.sending.Store(int64(time.Since(begun)))
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if err == nil && r.cfg.MaxFailures > 0 {
		r.await(ctx)
		err = context.Cause(ctx)
	}
	cancel(nil)
	return err
}

// sendBatch is how many records are written at once: few enough that a kill leaves little in doubt. sendBytes bounds them
// too: a topic's max.message.bytes is the bound of a whole batch.
const (
	sendBatch = 200
	sendBytes = 512 << 10
)

// lookEvery is how often a replay looks at what others send meanwhile.
const lookEvery = time.Second

// outbound is a replay record, and the dead letter it is made of.
type outbound struct {
	at     position
	record kafka.Record
	size   int
}

func (r *Replay) send(ctx context.Context, seen map[int]topic.Range, feed feed) error {
	partitions, err := r.cluster.PartitionCount(ctx, r.names.Replay)
	if err != nil {
		return fmt.Errorf("topic %s: %w", r.names.Replay, err)
	}
	s := &sender{r: r, partitions: partitions, limit: rate.NewLimiter(rate.Inf, 1), batch: sendBatch, seen: seen, mine: make(map[position]bool), theirs: make(map[position]bool)}
	if r.cfg.Rate > 0 {
		s.batch = max(1, min(sendBatch, int(r.cfg.Rate/20)))
		s.limit = rate.NewLimiter(rate.Limit(r.cfg.Rate), s.batch)
	}
	if err := s.look(ctx); err != nil {
		return err
	}
	queue := make(chan outbound, s.batch)
	reading := make(chan error, 1)
	go func() {
		defer close(queue)
		reading <- feed(ctx, func(o outbound) error {
			for _, h := range o.record.Headers {
				o.size += len(h.Key) + len(h.Value)
			}
			select {
			case queue <- o:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
	}()
	for o := range queue {
		if len(s.pending) == s.batch || s.bytes+o.size > sendBytes {
			if err := s.flush(ctx); err != nil {
				return err
			}
		}
		s.pending, s.bytes = append(s.pending, o), s.bytes+o.size
	}
	if err := <-reading; err != nil {
		return err
	}
	return s.flush(ctx)
}

// sender writes a replay's records, in batches.
type sender struct {
	r          *Replay
	partitions int
	limit      *rate.Limiter
	batch      int
	pending    []outbound
	bytes      int // of pending
	flushed    int // batches

	looked       time.Time
	seen         map[int]topic.Range // of the replay topic
	mine, theirs map[position]bool
}

// look reads what has come to the replay topic. What another replay has sent is not sent again, unless that is asked for.
func (s *sender) look(ctx context.Context) error {
	first := s.looked.IsZero()
	running := false
	var mu sync.Mutex // guards running and s.theirs
	seen, err := s.r.news(ctx, s.r.names.Replay, s.seen, func(m *topic.Record) error {
		at, err := sentPosition(m)
		if err != nil || s.mine[at] {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		ours := m.Header(topic.HeaderReplay) == s.r.cfg.Name
		running = running || ours && !first
		s.theirs[at] = s.theirs[at] || ours || !s.r.cfg.Again
		return nil
	})
	if err != nil {
		return err
	}
	if running {
		return ErrRunning
	}
	s.seen, s.looked = seen, time.Now()
	return nil
}

func (s *sender) flush(ctx context.Context) error {
	if time.Since(s.looked) > lookEvery {
		if err := s.look(ctx); err != nil {
			return err
		}
	}
	now := time.Now()
	records := make([]kafka.Record, 0, len(s.pending))
	for i := range s.pending {
		o := &s.pending[i]
		if s.theirs[o.at] {
			s.r.taken.Add(1)
			continue
		}
		s.mine[o.at] = true
		o.record.Time = now
		records = append(records, o.record)
	}
	s.pending, s.bytes = s.pending[:0], 0
	if len(records) == 0 {
		return nil
	}
	if err := s.limit.WaitN(ctx, len(records)); err != nil {
		return err
	}
	s.flushed++
	if _, err := s.r.cluster.Produce(ctx, topic.Partition{Topic: s.r.names.Replay, ID: s.flushed % s.partitions}, records); err != nil {
		return fmt.Errorf("write to %s: %w; do the same again (--name %s) to go on", s.r.names.Replay, err, s.r.cfg.Name)
	}
	s.r.sent.Add(int64(len(records)))
	return nil
}

// watch looks from now on, in the retry and dead-letter topics, for first attempts of this replay that failed. The
// function that it returns blocks until there are too many or ctx is done.
func (r *Replay) watch(ctx context.Context) (func() error, error) {
	sizes, err := r.cluster.Sizes(ctx)
	if err != nil {
		return nil, err
	}
	retries := r.cluster.Config().RetryTopics()
	at := make(map[string]map[int]topic.Range)
	for name := range sizes {
		if _, tier := retries.Delay(name); tier || name == r.names.DeadLetter {
			if at[name], err = r.cluster.Ranges(ctx, name, time.Time{}); err != nil {
				return nil, err
			}
		}
	}
	var mu sync.Mutex // guards failed
	failed := make(map[string]bool)
	return func() error {
		for sleep(ctx, 500*time.Millisecond) {
			for name, seen := range at {
				// Where it cannot be read it is looked at again.
				at[name], _ = r.news(ctx, name, seen, func(m *topic.Record) error {
					if m.Header(topic.HeaderReplay) == r.cfg.Name && failedAgain(m, name == r.names.DeadLetter) {
						mu.Lock()
						defer mu.Unlock()
						failed[cmp.Or(m.Header(topic.HeaderDeadLetter), m.Header(topic.HeaderWebhookID))] = true // once, however often it is put off again
						r.failures.Store(int64(len(failed)))
					}
					return nil
				})
			}
			if n := r.failures.Load(); n > int64(r.cfg.MaxFailures) {
				return fmt.Errorf("%w: %d of them have, the bound is %d", ErrTooManyFailures, n, r.cfg.MaxFailures)
			}
		}
		return nil
	}, nil
}

// failedAgain says whether a record of a replay's own delivery tells of a receiver that still fails: it is dead, its
// first attempt failed, or none was made since so many others had failed that the lane is parked.
func failedAgain(m *topic.Record, dead bool) bool {
	return dead || m.Header(topic.HeaderAttempts) == "1" || m.Header(topic.HeaderReason) == dispatcher.Parked.String()
}

// awaitOutcomes bounds how long a replay that has sent everything looks at what comes of it.
const awaitOutcomes = 15 * time.Second

// await returns when the group has settled the replay topic, so that the watch has seen what there was to see.
func (r *Replay) await(ctx context.Context) {
	deadline := time.Now().Add(awaitOutcomes)
	ranges, err := r.cluster.Ranges(ctx, r.names.Replay, time.Time{})
	if err != nil {
		return
	}
	var ids []int
	for id := range ranges {
		ids = append(ids, id)
	}
	for time.Now().Before(deadline) && sleep(ctx, 500*time.Millisecond) {
		progress, err := r.cluster.Progress(ctx, r.cluster.Config().RetryGroup(), r.names.Replay, ids)
		if err != nil {
			continue
		}
		open := false
		for id, rg := range ranges {
			p := progress[id]
			open = open || rg.To > rg.From && p.Offset < rg.To
		}
		if !open {
			sleep(ctx, time.Second) // one more look at the retry topics
			return
		}
	}
}

// sleep waits; false means that ctx was done before.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
