package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fanout/consumer/registry"
	"fanout/dispatcher"
	"fanout/event"
)

// Trace is what the topics tell of one delivery. Its zero value knows nothing.
type Trace struct {
	Attempts  []Attempt `json:"attempts,omitempty"` // from the attempts topic, by time, where they are asked for
	Delivered bool      `json:"delivered,omitempty"`
	Discarded string    `json:"discarded,omitempty"` // the reason
	Waiting   *Waiting  `json:"waiting,omitempty"`
	Dead      *Waiting  `json:"dead,omitempty"` // the last dead letter; Due is when it died
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

// TraceConfig says what Trace looks for.
type TraceConfig struct {
	Since    time.Time                     // nothing older is read
	Want     func(webhookID string) *Trace // nil: not asked for; called from several goroutines, and what it answers is changed under Trace's lock
	Attempts bool                          // keep every attempt, not only what follows from them
	Done     *atomic.Int64                 // counts offsets; may be nil
	Total    func(int64)                   // told how many offsets there are to read; may be nil
}

// ErrNoAttempts says that the attempts topic does not exist: what was delivered cannot be known.
var ErrNoAttempts = errors.New("the attempts topic does not exist; set attempts.topic: true, and what happens from then on is known")

// clockSlack is how far the clocks of producers, brokers and instances may be apart: what came of a record may bear a time
// a little before it.
const clockSlack = time.Minute

// queue is a retry or replay topic.
type queue struct {
	delay    time.Duration // after which its records come up
	progress map[int]Progress
}

// queues are those of the topics that deliveries wait in, with how far their groups have come.
func (a *Admin) queues(ctx context.Context, topics map[string]int) (map[string]queue, error) {
	ladder := newLadder(a.cfg.TopicPrefix, a.cfg.Schedule, a.cfg.ParkMin, a.cfg.ParkMax)
	replay := newNames(a.cfg.TopicPrefix).replay
	queues := make(map[string]queue)
	for topic, partitions := range topics {
		delay, tier := ladder.tierDelay(topic)
		group := a.cfg.Kafka.Group + ".replay"
		if tier {
			group = a.cfg.Kafka.Group + ".retry." + formatDelay(delay)
		} else if topic != replay {
			continue
		}
		progress, err := a.Committed(ctx, group, topic, partitionIDs(partitions))
		if err != nil {
			return nil, err
		}
		queues[topic] = queue{delay, progress}
	}
	return queues, nil
}

// Trace finds out, from the attempts, retry, replay and dead-letter topics, where deliveries are. knows says whether
// there is an attempts topic.
func (a *Admin) Trace(ctx context.Context, cfg TraceConfig) (knows bool, err error) {
	counts, err := a.Partitions(ctx)
	if err != nil {
		return false, err
	}
	// All groups first, and then how far the topics reach: a delivery that moves meanwhile is seen where it was, where it
	// goes, or in both, and never in neither.
	queues, err := a.queues(ctx, counts)
	if err != nil {
		return false, err
	}
	names := newNames(a.cfg.TopicPrefix)
	t := &tracer{cfg: cfg}
	type job struct {
		topic  string
		ranges map[int]Range
		each   func(*Message) error
	}
	var jobs []job
	for topic := range counts {
		q, waits := queues[topic]
		var each func(*Message) error
		switch {
		case topic == names.attempts:
			knows = true
			each = t.attempt
		case topic == names.deadLetter:
			each = t.dead
		case waits:
			each = func(m *Message) error { return t.waiting(m, q.delay, q.progress) }
		default:
			continue
		}
		ranges, err := a.Ranges(ctx, topic, cfg.Since)
		if err != nil {
			return false, err
		}
		jobs = append(jobs, job{topic, ranges, each})
	}
	if cfg.Total != nil {
		total := int64(0)
		for _, j := range jobs {
			total += Total(j.ranges)
		}
		cfg.Total(total)
	}
	for _, j := range jobs {
		if err := a.Scan(ctx, j.topic, j.ranges, cfg.Done, j.each); err != nil {
			return false, err
		}
	}
	return knows, nil
}

type tracer struct {
	cfg TraceConfig
	mu  sync.Mutex // guards every Trace
}

func (t *tracer) attempt(m *Message) error {
	if t.cfg.Want(string(m.Key)) == nil { // before the value is taken apart
		return nil
	}
	a, ok := ParseAttempt(m.Value)
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
	if t.cfg.Attempts {
		i, _ := slices.BinarySearchFunc(tr.Attempts, a, func(x, y Attempt) int { return int(x.Time - y.Time) })
		tr.Attempts = slices.Insert(tr.Attempts, i, a)
	}
	return nil
}

func (t *tracer) waiting(m *Message, delay time.Duration, progress map[int]Progress) error {
	if p, ok := progress[m.Partition]; ok && p.Settled(m.Offset) {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if tr := t.cfg.Want(m.Header(headerWebhookID)); tr != nil {
		// Until a tier's group has committed, its record is there beside the one that came of it.
		if tr.Waiting == nil || !m.Time.Before(tr.Waiting.appended) {
			tr.Waiting = place(m, m.Time.Add(delay))
		}
	}
	return nil
}

func (t *tracer) dead(m *Message) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	tr := t.cfg.Want(m.Header(headerWebhookID))
	if tr == nil {
		return nil
	}
	at := m.Time
	if ms, err := decodeTime(m.Header(headerDeadAt)); err == nil {
		at = ms
	}
	if tr.Dead == nil || tr.Dead.Due.Before(at) {
		tr.Dead = place(m, at)
	}
	return nil
}

func place(m *Message, due time.Time) *Waiting {
	return &Waiting{
		Topic: m.Topic, Partition: m.Partition, Offset: m.Offset, Due: due, appended: m.Time,
		Reason: m.Header(headerReason), Detail: m.Header(headerDetail), Status: m.Header(headerStatus), Attempts: m.Header(headerAttempts),
	}
}

// Decoders turns source records into events, as the configuration maps them.
type Decoders struct {
	cfg     *Config
	byTo    map[string]*event.Decoder
	framed  map[string]bool
	schemas *registry.Registry
}

// NewDecoders compiles the mappings of the configured sources, or of the default ones. The caller closes what it gets.
func NewDecoders(cfg *Config) (*Decoders, error) {
	sources := cfg.Sources
	if len(sources) == 0 {
		sources = DefaultSources()
	}
	byTopic, err := decoders(sources)
	if err != nil {
		return nil, err
	}
	schemas, err := newSchemas(cfg, nil, nil)
	if err != nil {
		return nil, err
	}
	return &Decoders{cfg, byTopic, framed(sources), schemas}, nil
}

// Close gives the schema registry's connections back.
func (d *Decoders) Close() {
	if d.schemas != nil {
		d.schemas.Close()
	}
}

// Source says whether the topic is a source.
func (d *Decoders) Source(topic string) bool { return d.byTo[topic] != nil }

// Framed says whether the topic is a source whose values carry a schema's id: they are no text.
func (d *Decoders) Framed(topic string) bool { return d.framed[topic] }

// Decode is the event of a source record. The error is event.ErrIgnored, is registry.ErrUnavailable where nothing can be
// said of the record, or says why the record is malformed.
func (d *Decoders) Decode(ctx context.Context, m *Message) (event.Event, dispatcher.Record, error) {
	rec := dispatcher.Record{
		Origin:     dispatcher.Origin{Topic: m.Topic, Partition: m.Partition, Offset: m.Offset},
		AppendedAt: m.Time, TraceParent: traceValue(m.Header(headerTraceParent)), TraceState: traceValue(m.Header(headerTraceState)),
	}
	decoder := d.byTo[m.Topic]
	if decoder == nil {
		return event.Event{}, rec, fmt.Errorf("topic %s is no source of this configuration", m.Topic)
	}
	if len(m.Value) > d.cfg.MaxEventBytes {
		return event.Event{}, rec, tooLarge(len(m.Value), d.cfg.MaxEventBytes)
	}
	value := m.Value
	if d.framed[m.Topic] {
		var err error
		if value, err = d.schemas.JSON(ctx, value, d.cfg.MaxEventBytes); err != nil {
			return event.Event{}, rec, err
		}
	}
	ev, err := decoder.Decode(value)
	return ev, rec, err
}

func tooLarge(size, limit int) error {
	return fmt.Errorf("it has %d bytes; max_event_bytes is %d", size, limit)
}

// Read reads one record; nil where the offset holds none that may be read.
func (a *Admin) Read(ctx context.Context, origin dispatcher.Origin) (*Message, error) {
	ranges, err := a.Ranges(ctx, origin.Topic, time.Time{})
	if err != nil {
		return nil, err
	}
	r, ok := ranges[origin.Partition]
	switch {
	case !ok:
		return nil, fmt.Errorf("topic %s has no partition %d; it has 0 to %d", origin.Topic, origin.Partition, len(ranges)-1)
	case origin.Offset < r.From || origin.Offset >= r.To:
		return nil, fmt.Errorf("%s/%d has no offset %d; it has %d to %d", origin.Topic, origin.Partition, origin.Offset, r.From, r.To-1)
	}
	var found *Message
	err = a.Scan(ctx, origin.Topic, map[int]Range{origin.Partition: {origin.Offset, origin.Offset + 1}}, nil, func(m *Message) error {
		if m.Offset == origin.Offset {
			found = m
		}
		return nil
	})
	return found, err
}

// Backlog is what waits in the retry tiers and on the replay topic for one subscription: records by topic.
type Backlog struct {
	Account      string         `json:"account"`
	Subscription string         `json:"subscription"`
	Waiting      map[string]int `json:"waiting"`
	Oldest       time.Time      `json:"oldest"` // when the first of them was appended
}

// Backlogs reads what the groups have not settled of the retry and replay topics, by key.
func (a *Admin) Backlogs(ctx context.Context, done *atomic.Int64, total func(int64)) (map[string]*Backlog, error) {
	counts, err := a.Partitions(ctx)
	if err != nil {
		return nil, err
	}
	queues, err := a.queues(ctx, counts)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex // guards all
	all := make(map[string]*Backlog)
	for topic, q := range queues {
		ranges, err := a.Ranges(ctx, topic, time.Time{})
		if err != nil {
			return nil, err
		}
		for id, p := range q.progress {
			r := ranges[id]
			r.From = min(max(r.From, p.Offset), r.To)
			ranges[id] = r
		}
		if total != nil {
			total(Total(ranges))
		}
		if err := a.Scan(ctx, topic, ranges, done, func(m *Message) error {
			if p, ok := q.progress[m.Partition]; ok && p.Settled(m.Offset) {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			b := all[string(m.Key)]
			if b == nil {
				account, subscription, _ := cutLast(string(m.Key)) // a subscription's id has no slash
				b = &Backlog{Account: account, Subscription: subscription, Waiting: make(map[string]int), Oldest: m.Time}
				all[string(m.Key)] = b
			}
			b.Waiting[topic]++
			b.Oldest = earlier(b.Oldest, m.Time)
			return nil
		}); err != nil {
			return nil, err
		}
	}
	return all, nil
}
