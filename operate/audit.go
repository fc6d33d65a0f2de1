package operate

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fanout/dispatcher"
	"fanout/event"
	"fanout/topic"
)

// AuditState is what became of a delivery, as an audit finds it.
type AuditState string

// The states. Missing is what must never be.
const (
	AuditDelivered AuditState = "delivered"
	AuditWaiting   AuditState = "waiting" // in a retry tier, or on the replay topic
	AuditDead      AuditState = "dead"
	AuditDiscarded AuditState = "discarded"
	AuditPending   AuditState = "pending"               // its record is not committed yet
	AuditChanged   AuditState = "configuration changed" // the account was changed after the record was written
	AuditUnknown   AuditState = "cannot be judged"      // its attempts were not recorded, or are not kept any more
	AuditMissing   AuditState = "missing"
)

// AuditStates lists the states in the order they are shown.
func AuditStates() []AuditState {
	return []AuditState{AuditDelivered, AuditWaiting, AuditDead, AuditDiscarded, AuditPending, AuditChanged, AuditUnknown, AuditMissing}
}

// ChangeSlack is how much earlier than a record a change may be that was not in force yet when the record was planned: a
// change takes up to a second, and the clocks of Redis and of the producer differ.
const ChangeSlack = 5 * time.Second

// Audited is one delivery that a record of the audited range asks for.
type Audited struct {
	ID           string            `json:"id"`
	Account      string            `json:"account"`
	Subscription string            `json:"subscription"`
	Event        event.Name        `json:"-"`
	EventName    string            `json:"event"`
	Origin       dispatcher.Origin `json:"-"`
	OriginText   string            `json:"origin"`
	Time         time.Time         `json:"time"`
	State        AuditState        `json:"state"`
	Why          string            `json:"why,omitempty"`

	*Batch // its last request; nil: it went out by itself, or not at all
}

// AuditConfig says what is audited.
type AuditConfig struct {
	Topic  string
	Ranges map[int]topic.Range
	// Plan plans a record again: the dispatcher's Plan.
	Plan func(dst []dispatcher.Delivery, ev *event.Event, rec *dispatcher.RecordMetadata, now time.Time) []dispatcher.Delivery
	// Changed says whether the account's configuration was changed at or after the time; nil: nobody knows.
	Changed func(account string, since time.Time) bool
	// ChangesSince is since when Changed knows; zero: always. Of what is older, and would be missing, nothing can be said.
	ChangesSince time.Time
	// Keep selects the deliveries that are accounted for; nil: all.
	Keep  func(*dispatcher.Delivery) bool
	Done  *atomic.Int64 // counts offsets; may be nil
	Total func(int64)   // told how many more offsets there are; may be nil
}

// Audit is an account of a range of source offsets.
type Audit struct {
	Records    int                `json:"records"`
	Events     int                `json:"events"`
	Ignored    int                `json:"ignored"`
	Malformed  int                `json:"malformed"`
	Unmatched  int                `json:"unmatched"`
	States     map[AuditState]int `json:"states"`
	NoCommit   bool               `json:"-"` // the group has committed nothing of the topic: nothing can be missing yet
	Deliveries []Audited          `json:"-"` // by origin
}

// auditRow is what is kept of a delivery while the topics are read: a million of them have to fit in memory.
type auditRow struct {
	trace        Trace
	why          string // it may be missing, or
	unknown      bool   // it cannot be judged
	id           string
	account      string
	subscription string
	event        event.Name
	partition    int32
	pending      bool
	offset       int64
	time         int64 // Unix ms
}

// NewAudit plans the range again and finds out what became of each delivery. The error is ErrNoAttempts where there is no attempts
// topic.
func NewAudit(ctx context.Context, c *topic.Cluster, cfg AuditConfig) (*Audit, error) {
	sources, err := c.Config().NewSources(nil, nil)
	if err != nil {
		return nil, err
	}
	defer sources.Close()
	var partitions []int
	for id := range cfg.Ranges {
		partitions = append(partitions, id)
	}
	progress, err := c.Progress(ctx, c.Config().Kafka.Group, cfg.Topic, partitions)
	if err != nil {
		return nil, err
	}
	if cfg.Total != nil {
		cfg.Total(topic.Total(cfg.Ranges))
	}
	out := &Audit{States: make(map[AuditState]int)}
	rows := make(map[string]*auditRow)
	oldest := time.Now()
	var mu sync.Mutex // guards out, rows and oldest
	err = c.Scan(ctx, cfg.Topic, cfg.Ranges, cfg.Done, func(m *topic.Record) error {
		ev, err := sources.Decode(ctx, m)
		if errors.Is(err, topic.ErrRegistryUnavailable) {
			return err
		}
		var planned []dispatcher.Delivery
		if err == nil {
			rec := m.Metadata()
			planned = cfg.Plan(nil, &ev, &rec, m.Time)
		}
		p, ok := progress[m.ID]
		pending := !ok || !p.Settled(m.Offset)
		mu.Lock()
		defer mu.Unlock()
		out.Records++
		oldest = earlier(oldest, m.Time)
		switch {
		case errors.Is(err, event.ErrIgnored):
			out.Ignored++
		case err != nil:
			out.Malformed++
		case len(planned) == 0:
			out.Unmatched++
		default:
			out.Events++
		}
		for i := range planned {
			d := &planned[i]
			if cfg.Keep != nil && !cfg.Keep(d) {
				continue
			}
			switch row := rows[d.ID]; { // the same event written twice is one delivery
			case row != nil:
				row.pending = row.pending && pending
			default:
				rows[d.ID] = &auditRow{
					id: d.ID, account: d.Account, subscription: d.Subscription, event: d.Event, pending: pending,
					partition: int32(m.ID), // Kafka numbers them with 32 bits
					offset:    m.Offset, time: m.Time.UnixMilli(),
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var gaps []topic.AttemptsGap
	knows, err := FindTraces(ctx, c, TraceConfig{
		Since: oldest.Add(-topic.ClockSlack), Done: cfg.Done, Total: cfg.Total,
		Gap: func(g topic.AttemptsGap) { gaps = append(gaps, g) },
		Want: func(id string) *Trace {
			if row := rows[id]; row != nil {
				return &row.trace
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	if !knows {
		return nil, ErrNoAttempts
	}
	if err := findMalformed(ctx, c, &cfg, rows, oldest.Add(-topic.ClockSlack)); err != nil {
		return nil, err
	}
	leaveOutGaps(&cfg, rows, gaps)
	if err := explainMissing(ctx, c, &cfg, rows); err != nil {
		return nil, err
	}
	out.NoCommit = out.Records > 0 && len(progress) == 0
	out.close(cfg, rows)
	return out, nil
}

// findMalformed looks for deliveries of which nothing is known among the malformed records. One may be right by now, since its schema was
// registered or its mapping mended, and was malformed when it was read.
func findMalformed(ctx context.Context, c *topic.Cluster, cfg *AuditConfig, rows map[string]*auditRow, since time.Time) error {
	missing := make(map[string][]*auditRow) // by origin
	for _, row := range rows {
		if state, _ := row.state(cfg.Changed, time.UnixMilli(row.time)); state == AuditMissing || state == AuditChanged {
			origin := dispatcher.Origin{Topic: cfg.Topic, Partition: int(row.partition), Offset: row.offset}.String()
			missing[origin] = append(missing[origin], row)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	letters := c.DeadLetters()
	filter := topic.Filter{Reasons: []string{dispatcher.MalformedEvent.String()}, Since: since}
	ranges, err := letters.Ranges(ctx, &filter)
	if err != nil {
		return err
	}
	var mu sync.Mutex // guards the rows
	return letters.Each(ctx, &filter, ranges, nil, func(d *topic.DeadLetter) error {
		mu.Lock()
		defer mu.Unlock()
		for _, row := range missing[d.Origin] {
			row.trace.Dead = &Waiting{Topic: c.Config().Names().DeadLetter, Partition: d.Partition, Offset: d.Offset, Due: d.DeadAt, Reason: d.Reason}
		}
		return nil
	})
}

// leaveOutGaps notes which of the deliveries that would be missing are of records whose attempts could not be recorded, or older than what is
// known of changes.
func leaveOutGaps(cfg *AuditConfig, rows map[string]*auditRow, gaps []topic.AttemptsGap) {
	for _, row := range rows {
		for _, g := range gaps {
			if g.Source == cfg.Topic+"/"+strconv.Itoa(int(row.partition)) && g.From <= row.offset && row.offset <= g.To {
				row.unknown, row.why = true, "attempts of its record could not be recorded: the attempts topic could not be written"
			}
		}
		if !row.unknown && !cfg.ChangesSince.IsZero() && time.UnixMilli(row.time).Before(cfg.ChangesSince) {
			row.unknown, row.why = true, "which subscriptions were there is known only from "+cfg.ChangesSince.UTC().Format(time.RFC3339)+" on"
		}
	}
}

// explainMissing looks once more, at all that the topics hold, where deliveries are missing: what was kept since a later
// time than theirs, and what bears an earlier one, is said. It makes none of them less missing: an id that comes again has
// another record's past.
func explainMissing(ctx context.Context, c *topic.Cluster, cfg *AuditConfig, rows map[string]*auditRow) error {
	older := make(map[string]*Trace)
	for id, row := range rows {
		if state, _ := row.state(cfg.Changed, time.UnixMilli(row.time)); state == AuditMissing {
			older[id] = new(Trace)
		}
	}
	if len(older) == 0 {
		return nil
	}
	if _, err := FindTraces(ctx, c, TraceConfig{Want: func(id string) *Trace { return older[id] }, Done: cfg.Done, Total: cfg.Total}); err != nil {
		return err
	}
	since, err := firstAttempt(ctx, c)
	if err != nil {
		return err
	}
	for id, t := range older {
		row := rows[id]
		switch {
		case t.Delivered || t.Waiting != nil || t.Dead != nil || t.Discarded != "":
			row.why = "what is known of its id is older than its record: does a producer's clock run ahead?"
		case since.IsZero():
			row.why = "the attempts topic is empty"
		case time.UnixMilli(row.time).Before(since.Add(-topic.ClockSlack)):
			row.unknown = true
			row.why = "its record is older than all that the attempts topic holds, which is from " + since.UTC().Format(time.RFC3339) + " on"
		}
	}
	return nil
}

// firstAttempt is the time of the first record of the attempts topic; zero where it is empty.
func firstAttempt(ctx context.Context, c *topic.Cluster) (first time.Time, err error) {
	name := c.Config().Names().Attempts
	ranges, err := c.Ranges(ctx, name, time.Time{})
	if err != nil {
		return first, err
	}
	for id, r := range ranges {
		ranges[id] = topic.Range{From: r.From, To: min(r.From+1, r.To)}
	}
	var mu sync.Mutex // guards first
	err = c.Scan(ctx, name, ranges, nil, func(m *topic.Record) error {
		mu.Lock()
		defer mu.Unlock()
		if first.IsZero() || m.Time.Before(first) {
			first = m.Time
		}
		return nil
	})
	return first, err
}

// close decides each delivery's state.
func (out *Audit) close(cfg AuditConfig, rows map[string]*auditRow) {
	out.Deliveries = make([]Audited, 0, len(rows))
	for _, row := range rows {
		origin := dispatcher.Origin{Topic: cfg.Topic, Partition: int(row.partition), Offset: row.offset}
		d := Audited{
			ID: row.id, Account: row.account, Subscription: row.subscription, Event: row.event, EventName: row.event.String(),
			Origin: origin, OriginText: origin.String(), Time: time.UnixMilli(row.time), Batch: row.trace.batch,
		}
		d.State, d.Why = row.state(cfg.Changed, d.Time)
		out.States[d.State]++
		out.Deliveries = append(out.Deliveries, d)
	}
	slices.SortFunc(out.Deliveries, func(a, b Audited) int {
		if a.Origin.Partition != b.Origin.Partition {
			return a.Origin.Partition - b.Origin.Partition
		}
		if a.Origin.Offset != b.Origin.Offset {
			return int(a.Origin.Offset - b.Origin.Offset)
		}
		return strings.Compare(a.Subscription, b.Subscription)
	})
}

func (row *auditRow) state(changed func(string, time.Time) bool, at time.Time) (AuditState, string) {
	t := &row.trace
	switch {
	case t.Delivered:
		return AuditDelivered, ""
	case t.Waiting != nil:
		return AuditWaiting, "in " + t.Waiting.Topic + ", due " + t.Waiting.Due.UTC().Format(time.RFC3339) + ", " + t.Waiting.Reason
	case t.Dead != nil:
		return AuditDead, t.Dead.Reason
	case t.Discarded != "":
		return AuditDiscarded, t.Discarded
	case row.pending:
		return AuditPending, ""
	case changed != nil && changed(row.account, at):
		return AuditChanged, ""
	case row.unknown:
		return AuditUnknown, row.why
	}
	return AuditMissing, row.why
}
