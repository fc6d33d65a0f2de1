package operate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
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
	Again       bool    // also what an earlier replay, of another name, has sent, or was delivered since; of each webhook-id the newest
	Rate        float64 // records a second; 0 means no bound
	MaxFailures int     // it stops when more deliveries than that have failed again; 0 means no bound
	// Gone says that the delivery's subscription does not exist; nil: nobody knows. It may be called from several
	// goroutines.
	Gone func(account, subscription string) bool
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

// unplaced is the position of a delivery that was not a dead letter.
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
		for topic.Sleep(ctx, 500*time.Millisecond) {
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
	ids := slices.Collect(maps.Keys(ranges))
	for time.Now().Before(deadline) && topic.Sleep(ctx, 500*time.Millisecond) {
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
			topic.Sleep(ctx, time.Second) // one more look at the retry topics
			return
		}
	}
}
