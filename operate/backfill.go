package operate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"fanout/dispatcher"
	"fanout/event"
	"fanout/topic"
)

// BackfillConfig says what a backfill plans again, and how it sends it (docs/contract.md#backfill).
type BackfillConfig struct {
	Name         string // on each record it sends; the same name again goes on where it ended
	Topic        string
	Account      string
	Subscription string
	Since, Until time.Time // of the source records; Until is exclusive, and zero means the end of now
	Again        bool      // also what was delivered, waits, or cannot be judged
	Rate         float64   // records a second; 0 means no bound
	MaxFailures  int       // it stops when more first attempts than that have failed; 0 means no bound
	// Plan plans a record again: the dispatcher's Plan.
	Plan func(dst []dispatcher.Delivery, ev *event.Event, rec *dispatcher.RecordMetadata, now time.Time) []dispatcher.Delivery
	// Waits is told of the partitions whose end the group has not reached, now and then; it may be nil.
	Waits func(partitions int)
	Done  *atomic.Int64 // counts offsets; may be nil
	Total func(int64)   // told how many more offsets there are; may be nil
}

// BackfillPlan is what a backfill would send, and what it would not and why.
type BackfillPlan struct {
	Name         string    `json:"name"`
	Topic        string    `json:"topic"`
	Account      string    `json:"account"`
	Subscription string    `json:"subscription"`
	Records      int       `json:"records"`   // of the range
	Matched      int       `json:"matched"`   // deliveries that the subscription wants; the same event twice is one
	Send         int       `json:"send"`      // of these
	Sent         int       `json:"sent"`      // by this name before
	Delivered    int       `json:"delivered"` // says the attempts topic
	Waiting      int       `json:"waiting"`   // in a retry tier or on the replay topic
	Dead         int       `json:"dead"`      // they are replayed, not backfilled
	Unknown      int       `json:"unknown"`   // the attempts topic does not reach back so far
	Reach        time.Time `json:"reach,omitzero"`
	Receiver     *Receiver `json:"receiver,omitempty"` // where it does not get them at once, and that was looked for

	ranges map[int]topic.Range
	skip   map[string]bool     // webhook-ids
	seen   map[int]topic.Range // how far the replay topic was read
}

// Backfill plans source records again for one subscription that did not get them, and sends them through the replay topic. The
// webhook-ids are those that they would have had.
type Backfill struct {
	cfg    BackfillConfig
	replay *Replay
}

// NewBackfill makes a backfill. Nothing is read before Plan, nothing written before Run.
func NewBackfill(c *topic.Cluster, cfg BackfillConfig) *Backfill {
	return &Backfill{cfg: cfg, replay: NewReplay(c, ReplayConfig{Name: cfg.Name, Again: cfg.Again, Rate: cfg.Rate, MaxFailures: cfg.MaxFailures})}
}

// Sent is how many records have been sent.
func (b *Backfill) Sent() int64 { return b.replay.Sent() }

// Taken is how many records another backfill has sent since the plan was made, so that this one did not.
func (b *Backfill) Taken() int64 { return b.replay.Taken() }

// Failures is how many of the deliveries are known to have failed.
func (b *Backfill) Failures() int64 { return b.replay.Failures() }

// Sending is how long Run has been writing, or waiting for its rate.
func (b *Backfill) Sending() time.Duration { return b.replay.Sending() }

// wanted is a delivery that the range asks for.
type wanted struct {
	trace Trace
	at    time.Time // when its record was appended
	sent  bool      // by this name
}

// Plan finds out exactly what Run would send. It takes each partition's end as it is now, and returns once the group has committed all
// up to it: before that, nobody can know what is being delivered anyway.
func (b *Backfill) Plan(ctx context.Context) (*BackfillPlan, error) {
	p := &BackfillPlan{Name: b.cfg.Name, Topic: b.cfg.Topic, Account: b.cfg.Account, Subscription: b.cfg.Subscription, skip: make(map[string]bool)}
	var err error
	if p.ranges, err = b.ranges(ctx); err != nil {
		return nil, err
	}
	if err := b.awaitCommits(ctx, p.ranges); err != nil {
		return nil, err
	}
	rows := make(map[string]*wanted)
	oldest := time.Now()
	var mu sync.Mutex // guards p, rows and oldest
	b.total(topic.Total(p.ranges))
	err = b.each(ctx, p.ranges, b.cfg.Done, func() {
		mu.Lock()
		defer mu.Unlock()
		p.Records++
	}, func(d *dispatcher.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		row := rows[d.ID]
		if row == nil {
			row = &wanted{at: d.AppendedAt}
			rows[d.ID] = row
		}
		row.at, oldest = earlier(row.at, d.AppendedAt), earlier(oldest, d.AppendedAt)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := b.trace(ctx, p, rows, oldest.Add(-topic.ClockSlack)); err != nil {
		return nil, err
	}
	p.judge(rows, b.cfg.Again)
	return p, nil
}

// ranges are the offsets of the source topic that the times mean now.
func (b *Backfill) ranges(ctx context.Context) (map[int]topic.Range, error) {
	c := b.replay.cluster
	ranges, err := c.Ranges(ctx, b.cfg.Topic, b.cfg.Since)
	if err != nil || b.cfg.Until.IsZero() {
		return ranges, err
	}
	ends, err := c.OffsetsAt(ctx, topic.Partitions(b.cfg.Topic, len(ranges)), b.cfg.Until.UnixMilli())
	if err != nil {
		return nil, err
	}
	for id, r := range ranges {
		if end := ends[topic.Partition{Topic: b.cfg.Topic, ID: id}]; end >= 0 {
			r.To = max(r.From, min(r.To, end))
			ranges[id] = r
		}
	}
	return ranges, nil
}

// Pauses of a backfill that waits for the group.
const (
	lookForCommit = 250 * time.Millisecond
	sayWaits      = time.Minute // and every minute
)

// awaitCommits returns once the group has committed all of the ranges: what an attempt led to is then in the attempts topic.
func (b *Backfill) awaitCommits(ctx context.Context, ranges map[int]topic.Range) error {
	c := b.replay.cluster
	said := time.Now()
	for {
		var ids []int
		for id, r := range ranges {
			if r.To > r.From {
				ids = append(ids, id)
			}
		}
		progress, err := c.Progress(ctx, c.Config().Kafka.Group, b.cfg.Topic, ids)
		if err != nil {
			return err
		}
		open := 0
		for _, id := range ids {
			if p, ok := progress[id]; !ok || p.Offset < ranges[id].To {
				open++
			}
		}
		if open == 0 {
			return nil
		}
		if time.Since(said) >= sayWaits && b.cfg.Waits != nil {
			b.cfg.Waits(open)
			said = time.Now()
		}
		if !topic.Sleep(ctx, lookForCommit) {
			return context.Cause(ctx)
		}
	}
}

func (b *Backfill) total(n int64) {
	if b.cfg.Total != nil {
		b.cfg.Total(n)
	}
}

// each calls record for each record of the ranges, and delivery for each that the subscription wants, from one goroutine a partition.
func (b *Backfill) each(ctx context.Context, ranges map[int]topic.Range, done *atomic.Int64, record func(), delivery func(*dispatcher.Delivery) error) error {
	c := b.replay.cluster
	sources, err := c.Config().NewSources(nil, nil)
	if err != nil {
		return err
	}
	defer sources.Close()
	return c.Scan(ctx, b.cfg.Topic, ranges, done, func(m *topic.Record) error {
		if !b.cfg.Until.IsZero() && !m.Time.Before(b.cfg.Until) || m.Time.Before(b.cfg.Since) {
			return nil
		}
		record()
		ev, err := sources.Decode(ctx, m)
		if errors.Is(err, topic.ErrRegistryUnavailable) {
			return err
		}
		if err != nil || ev.Account != b.cfg.Account {
			return nil //nolint:nilerr // what is not an event of the account makes no delivery for it
		}
		rec := m.Metadata()
		planned := b.cfg.Plan(nil, &ev, &rec, time.Now())
		for i := range planned {
			if planned[i].Subscription == b.cfg.Subscription {
				if err := delivery(&planned[i]); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// trace finds out what became of what is wanted.
func (b *Backfill) trace(ctx context.Context, p *BackfillPlan, rows map[string]*wanted, since time.Time) error {
	c := b.replay.cluster
	knows, err := FindTraces(ctx, c, TraceConfig{
		Since: since, Done: b.cfg.Done, Total: b.cfg.Total,
		Want: func(id string) *Trace {
			if row := rows[id]; row != nil {
				return &row.trace
			}
			return nil
		},
	})
	if err != nil {
		return err
	}
	p.Reach = time.Now()
	if knows {
		if p.Reach, err = attemptsReach(ctx, c); err != nil {
			return err
		}
	}
	var mu sync.Mutex // guards the rows
	p.seen, err = b.replay.news(ctx, b.replay.names.Replay, nil, func(m *topic.Record) error {
		if m.Header(topic.HeaderReplay) == b.cfg.Name {
			mu.Lock()
			defer mu.Unlock()
			if row := rows[m.Header(topic.HeaderWebhookID)]; row != nil {
				row.sent = true
			}
		}
		return nil
	})
	if topic.NoTopic(err) {
		err = nil
	}
	return err
}

// firstSlack is how much later than a record the first attempt of all may be that was recorded.
const firstSlack = 10 * time.Second

// attemptsReach is the time from which on the attempts topic has what was decided.
func attemptsReach(ctx context.Context, c *topic.Cluster) (time.Time, error) {
	ranges, err := c.Ranges(ctx, c.Config().Names().Attempts, time.Time{})
	if err != nil {
		return time.Time{}, err
	}
	first, err := firstAttempt(ctx, c)
	if err != nil || first.IsZero() {
		return time.Now(), err
	}
	for _, r := range ranges {
		if r.From > 0 { // its older records have expired
			return first, nil
		}
	}
	return first.Add(-firstSlack), nil
}

// judge decides what is sent.
func (p *BackfillPlan) judge(rows map[string]*wanted, again bool) {
	p.Matched = len(rows)
	for id, row := range rows {
		t := &row.trace
		switch {
		case row.sent:
			p.Sent++
		case t.Waiting != nil:
			p.Waiting++
		case t.Delivered && !again:
			p.Delivered++
		case t.Dead != nil && !t.Delivered && !again:
			p.Dead++
		case !t.Delivered && t.Dead == nil && t.Discarded == "" && row.at.Before(p.Reach) && !again:
			p.Unknown++
		default:
			p.Send++
			continue
		}
		p.skip[id] = true
	}
}

// Run sends what the plan holds. When it is interrupted or killed, another Run with a new Plan and the same name goes on; nothing
// is sent twice but what was being written at that moment. It is ErrRunning where that other Run has begun before this one has ended.
func (b *Backfill) Run(ctx context.Context, plan *BackfillPlan) error {
	return b.replay.run(ctx, plan.seen, func(ctx context.Context, put func(outbound) error) error {
		var mu sync.Mutex              // guards given
		given := make(map[string]bool) // an event that lies in the range twice is one delivery
		return b.each(ctx, plan.ranges, nil, func() {}, func(d *dispatcher.Delivery) error {
			mu.Lock()
			twice := given[d.ID]
			given[d.ID] = true
			mu.Unlock()
			if twice || plan.skip[d.ID] {
				return nil
			}
			return put(outbound{at: unplaced(d.ID), record: replayRecord(b.replay.cluster.Config().Kafka.Group, d, b.cfg.Name, nil), size: len(d.Body)})
		})
	})
}

// DefaultBackfillName is the name of a backfill that was given none.
func DefaultBackfillName(now time.Time) string {
	return "backfill-" + now.UTC().Format("20060102-150405")
}

// Lines say what is not sent, and why, one a line; for people.
func (p *BackfillPlan) Lines() []string {
	var lines []string
	for _, one := range []struct {
		n    int
		text string
	}{
		{p.Sent, "not sent: this backfill sent them before"},
		{p.Delivered, "not sent: delivered, says the attempts topic (--again sends them)"},
		{p.Waiting, "not sent: they wait in a retry topic or the replay topic"},
		{p.Dead, "not sent: dead letters; `fanout deadletter replay` sends them"},
		{p.Unknown, "not sent: the attempts topic does not reach back so far, so nobody knows whether they were delivered (--again sends them)"},
	} {
		if one.n > 0 {
			lines = append(lines, fmt.Sprintf("%8d %s", one.n, one.text))
		}
	}
	return lines
}
