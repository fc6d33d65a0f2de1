package operate

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fanout/dispatcher"
	"fanout/topic"
)

// Trace is what the topics tell of one delivery. Its zero value knows nothing.
type Trace struct {
	Attempts  []topic.Attempt `json:"attempts,omitempty"` // from the attempts topic, by time, where they are asked for
	Delivered bool            `json:"delivered,omitempty"`
	Discarded string          `json:"discarded,omitempty"` // the reason
	Waiting   *Waiting        `json:"waiting,omitempty"`
	Dead      *Waiting        `json:"dead,omitempty"` // the last dead letter; Due is when it died

	batch *Batch // that its last request was; nil: it went out by itself, or not at all
	sent  int64  // when that was, Unix ms
}

// Batch is a request with the deliveries of a subscription that asks for batches.
type Batch struct {
	ID   string `json:"batch"`     // its webhook-id
	Size int    `json:"batchSize"` // how many deliveries it had; 0: not known
}

// Waiting is a record that a delivery lies in.
type Waiting struct {
	Topic     string    `json:"topic"`
	Partition int       `json:"partition"`
	Offset    int64     `json:"offset"`
	Due       time.Time `json:"due"`
	Reason    string    `json:"reason,omitempty"`
	Detail    string    `json:"detail,omitempty"`
	Status    string    `json:"status,omitempty"`
	Attempts  string    `json:"attempts,omitempty"`

	appended time.Time
}

// TraceConfig says what FindTraces looks for.
type TraceConfig struct {
	Since    time.Time                     // nothing older is read
	Want     func(webhookID string) *Trace // nil: not asked for; called from several goroutines, and what it answers is changed under Trace's lock
	Gap      func(topic.AttemptsGap)       // told of each mark of attempts that could not be recorded; nil: nobody asks; called under Trace's lock
	Attempts bool                          // keep every attempt, not only what follows from them
	Done     *atomic.Int64                 // counts offsets; may be nil
	Total    func(int64)                   // told how many offsets there are to read; may be nil
}

// ErrNoAttempts says that the attempts topic does not exist: what was delivered cannot be known.
var ErrNoAttempts = errors.New("the attempts topic does not exist; set attempts.topic: true, and what happens from then on is known")

// queue is a retry or replay topic.
type queue struct {
	delay    time.Duration // after which its records come up
	progress map[int]topic.Progress
}

// findQueues are those of the topics that deliveries wait in, with how far their group has come.
func findQueues(ctx context.Context, c *topic.Cluster, sizes map[string]int) (map[string]queue, error) {
	cfg := c.Config()
	retries, replay := cfg.RetryTopics(), cfg.Names().Replay
	queues := make(map[string]queue)
	for name, size := range sizes {
		delay, tier := retries.Delay(name)
		if !tier && name != replay {
			continue
		}
		progress, err := c.Progress(ctx, cfg.RetryGroup(), name, slices.Collect(partitionIDs(size)))
		if err != nil {
			return nil, err
		}
		queues[name] = queue{delay, progress}
	}
	return queues, nil
}

// partitionIDs are the numbers of the partitions of a topic of that size.
func partitionIDs(size int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for id := range size {
			if !yield(id) {
				return
			}
		}
	}
}

// FindTraces finds out, from the attempts, retry, replay and dead-letter topics, where deliveries are. knows says whether
// there is an attempts topic.
func FindTraces(ctx context.Context, c *topic.Cluster, cfg TraceConfig) (knows bool, err error) {
	sizes, err := c.Sizes(ctx)
	if err != nil {
		return false, err
	}
	// All groups first, and then how far the topics reach: a delivery that moves meanwhile is seen where it was, where it
	// goes, or in both, and never in neither.
	queues, err := findQueues(ctx, c, sizes)
	if err != nil {
		return false, err
	}
	names := c.Config().Names()
	t := &tracer{cfg: cfg}
	type job struct {
		name   string
		ranges map[int]topic.Range
		wanted func(key, value []byte) bool
		each   func(*topic.Record) error
	}
	var jobs []job
	for name := range sizes {
		q, waits := queues[name]
		var wanted func(key, value []byte) bool
		var each func(*topic.Record) error
		switch {
		case name == names.Attempts:
			knows = true
			wanted, each = t.wanted, t.attempt
		case name == names.DeadLetter:
			each = t.dead
		case waits:
			each = func(m *topic.Record) error { return t.waiting(m, q.delay, q.progress) }
		default:
			continue
		}
		ranges, err := c.Ranges(ctx, name, cfg.Since)
		if err != nil {
			return false, err
		}
		jobs = append(jobs, job{name, ranges, wanted, each})
	}
	if cfg.Total != nil {
		total := int64(0)
		for _, j := range jobs {
			total += topic.Total(j.ranges)
		}
		cfg.Total(total)
	}
	for _, j := range jobs {
		if err := c.ScanWanted(ctx, j.name, j.ranges, cfg.Done, j.wanted, j.each); err != nil {
			return false, err
		}
	}
	return knows, nil
}

type tracer struct {
	cfg TraceConfig

	mu   sync.Mutex // guards every Trace, and
	last *Batch     // the batch that was read last: most often the next record is of it too
}

// batch is the one that the attempt was made in; nil: none. The lock is held.
func (t *tracer) batch(a *topic.Attempt) *Batch {
	if a.Batch == "" {
		return nil
	}
	if t.last == nil || t.last.ID != a.Batch {
		t.last = &Batch{a.Batch, a.BatchSize}
	}
	return t.last
}

// wanted passes over, by its value, an attempt that nobody asks for.
func (t *tracer) wanted(_, value []byte) bool {
	id, ok := topic.AttemptID(value)
	return !ok || t.cfg.Want(string(id)) != nil
}

func (t *tracer) attempt(m *topic.Record) error {
	if m.Value == nil {
		return nil
	}
	if len(m.Headers) == 0 {
		if g, ok := topic.ParseAttemptsGap(m.Value); ok && t.cfg.Gap != nil {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.cfg.Gap(g)
		}
		return nil
	}
	if t.cfg.Want(m.Header(topic.HeaderWebhookID)) == nil { // before the value is taken apart
		return nil
	}
	a, ok := topic.ParseAttempt(m.Value)
	if !ok {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	tr := t.cfg.Want(a.ID)
	if tr == nil {
		return nil
	}
	switch a.Outcome {
	case dispatcher.Delivered.String():
		tr.Delivered = true
	case dispatcher.Discarded.String():
		tr.Discarded = a.Reason
	}
	if a.Attempt > 0 && a.Time >= tr.sent {
		tr.batch, tr.sent = t.batch(&a), a.Time
	}
	if t.cfg.Attempts {
		i, _ := slices.BinarySearchFunc(tr.Attempts, a, func(x, y topic.Attempt) int { return int(x.Time - y.Time) })
		tr.Attempts = slices.Insert(tr.Attempts, i, a)
	}
	return nil
}

func (t *tracer) waiting(m *topic.Record, delay time.Duration, progress map[int]topic.Progress) error {
	if p, ok := progress[m.ID]; ok && p.Settled(m.Offset) {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if tr := t.cfg.Want(m.Header(topic.HeaderWebhookID)); tr != nil {
		// Until a tier's group has committed, its record is there beside the one that came of it.
		if tr.Waiting == nil || !m.Time.Before(tr.Waiting.appended) {
			tr.Waiting = place(m, m.Time.Add(delay))
		}
	}
	return nil
}

func (t *tracer) dead(m *topic.Record) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	tr := t.cfg.Want(m.Header(topic.HeaderWebhookID))
	if tr == nil {
		return nil
	}
	at := m.Time
	if ms, err := topic.DecodeTime(m.Header(topic.HeaderDeadAt)); err == nil {
		at = ms
	}
	if tr.Dead == nil || tr.Dead.Due.Before(at) {
		tr.Dead = place(m, at)
	}
	return nil
}

func place(m *topic.Record, due time.Time) *Waiting {
	return &Waiting{
		Topic: m.Topic, Partition: m.ID, Offset: m.Offset, Due: due, appended: m.Time,
		Reason: m.Header(topic.HeaderReason), Detail: m.Header(topic.HeaderDetail), Status: m.Header(topic.HeaderStatus), Attempts: m.Header(topic.HeaderAttempts),
	}
}

// commitWait is how long it takes until what was settled is committed: instances do that twice a second.
const commitWait = 1200 * time.Millisecond

// queued is a record that a delivery waits in.
type queued struct {
	topic     string
	partition int
	offset    int64
	id        digest
}

// findWaiting finds out which of the webhook-ids that are asked for lie in the retry tiers or on the replay topic, and are not settled. Where there
// are any it looks once more: what was settled a moment ago is not committed yet.
func findWaiting(ctx context.Context, c *topic.Cluster, asked func(digest) bool) (map[digest]bool, error) {
	sizes, err := c.Sizes(ctx)
	if err != nil {
		return nil, err
	}
	queues, err := findQueues(ctx, c, sizes)
	if err != nil {
		return nil, err
	}
	all, err := findQueued(ctx, c, queues, asked)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	if !topic.Sleep(ctx, commitWait) {
		return nil, context.Cause(ctx)
	}
	if queues, err = findQueues(ctx, c, sizes); err != nil {
		return nil, err
	}
	waiting := make(map[digest]bool)
	for _, q := range all {
		if p, ok := queues[q.topic].progress[q.partition]; !ok || !p.Settled(q.offset) {
			waiting[q.id] = true
		}
	}
	return waiting, nil
}

// findQueued reads what the groups have not settled of the queues, for the webhook-ids that are asked for.
func findQueued(ctx context.Context, c *topic.Cluster, queues map[string]queue, asked func(digest) bool) (all []queued, err error) {
	var mu sync.Mutex // guards all
	for name, q := range queues {
		ranges, err := q.unsettled(ctx, c, name)
		if err != nil {
			return nil, err
		}
		if err := c.Scan(ctx, name, ranges, nil, func(m *topic.Record) error {
			if p, ok := q.progress[m.ID]; ok && p.Settled(m.Offset) {
				return nil
			}
			if id := digestOf(m.Header(topic.HeaderWebhookID)); asked(id) {
				mu.Lock()
				defer mu.Unlock()
				all = append(all, queued{name, m.ID, m.Offset, id})
			}
			return nil
		}); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// unsettled is the part of the queue's topic behind what its group has committed.
func (q *queue) unsettled(ctx context.Context, c *topic.Cluster, name string) (map[int]topic.Range, error) {
	ranges, err := c.Ranges(ctx, name, time.Time{})
	if err != nil {
		return nil, err
	}
	for id, p := range q.progress {
		r := ranges[id]
		r.From = min(max(r.From, p.Offset), r.To)
		ranges[id] = r
	}
	return ranges, nil
}

// Backlog is what waits in the retry tiers and on the replay topic for one subscription: records by topic.
type Backlog struct {
	Account      string         `json:"account"`
	Subscription string         `json:"subscription"`
	Waiting      map[string]int `json:"waiting"`
	Oldest       time.Time      `json:"oldest"` // when the first of them was appended
}

// findBacklogs reads what the groups have not settled of the retry and replay topics, by key.
func findBacklogs(ctx context.Context, c *topic.Cluster, done *atomic.Int64, total func(int64)) (map[string]*Backlog, error) {
	sizes, err := c.Sizes(ctx)
	if err != nil {
		return nil, err
	}
	queues, err := findQueues(ctx, c, sizes)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex // guards all
	all := make(map[string]*Backlog)
	for name, q := range queues {
		ranges, err := q.unsettled(ctx, c, name)
		if err != nil {
			return nil, err
		}
		if total != nil {
			total(topic.Total(ranges))
		}
		if err := c.Scan(ctx, name, ranges, done, func(m *topic.Record) error {
			if p, ok := q.progress[m.ID]; ok && p.Settled(m.Offset) {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			b := all[string(m.Key)]
			if b == nil {
				account, subscription := topic.ParseKey(m.Key)
				b = &Backlog{Account: account, Subscription: subscription, Waiting: make(map[string]int), Oldest: m.Time}
				all[string(m.Key)] = b
			}
			b.Waiting[name]++
			b.Oldest = earlier(b.Oldest, m.Time)
			return nil
		}); err != nil {
			return nil, err
		}
	}
	return all, nil
}
