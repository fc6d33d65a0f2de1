package operate

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"fanout/dispatcher"
	"fanout/topic"
)

// FindQuery selects deliveries by what a customer, or an operator, knows of them. Empty selects all.
type FindQuery struct {
	Account, Subscription, Event       string
	ID                                 string // webhook-id
	TrackingID, NotificationID, UserID string
	Any                                string // one of these four
	Outcome                            string // of one of its attempts
	Status                             int    // likewise
	Since, Until                       time.Time
	Limit                              int    // deliveries; 0: no bound
	Cursor                             string // of the answer before

	// Patience, if not 0, ends a search that takes longer. The answer has then what was found so far, and where to go on.
	Patience time.Duration
}

// Found is an answer, the newest delivery first.
type Found struct {
	Deliveries []*FoundDelivery `json:"deliveries"`
	Cursor     string           `json:"cursor,omitempty"` // there are more: where to go on
	Since      time.Time        `json:"since,omitzero"`   // nothing is known of what was attempted before
	Gaps       []Gap            `json:"gaps,omitempty"`   // attempts that were not recorded
	Read       int64            `json:"read"`             // records

	Unfinished bool `json:"-"` // the query's patience ended it: the cursor says where to go on
}

// Gap is a range of source records of which attempts were not recorded, both ends included.
type Gap struct {
	Source string    `json:"source"` // topic/partition
	From   int64     `json:"from"`
	To     int64     `json:"to"`
	Time   time.Time `json:"time"` // when that was noted
}

// FoundDelivery is a delivery and those of its attempts that were found.
type FoundDelivery struct {
	ID             string          `json:"id"`
	Account        string          `json:"account"`
	Subscription   string          `json:"subscription"`
	Event          string          `json:"event"`
	TrackingID     string          `json:"trackingId,omitempty"`
	NotificationID string          `json:"notificationId,omitempty"`
	UserID         string          `json:"userId,omitempty"`
	Channel        string          `json:"channel,omitempty"`
	Origin         string          `json:"origin"`
	Outcome        string          `json:"outcome"` // of the newest attempt that was found
	Reason         string          `json:"reason,omitempty"`
	Time           time.Time       `json:"time"`              // of that
	Attempts       []topic.Attempt `json:"attempts"`          // the newest first
	Waiting        *Waiting        `json:"waiting,omitempty"` // where it waits, where that was looked for
	Dead           *Waiting        `json:"dead,omitempty"`    // its last dead letter, likewise
}

// OfEvents says whether the query names something of an event, so that source records can be looked through for it.
func (q *FindQuery) OfEvents() bool {
	return q.Account != "" && q.TrackingID+q.UserID+q.NotificationID != "" || q.Any != ""
}

// Search is Find, and then Follow. Where there is no attempts topic, and the query is of events, it has found nothing.
func Search(ctx context.Context, c *topic.Cluster, q *FindQuery, done *atomic.Int64, total func(int64)) (*Found, error) {
	found, err := Find(ctx, c, q, done, total)
	if errors.Is(err, ErrNoAttempts) && q.OfEvents() {
		return &Found{Deliveries: []*FoundDelivery{}}, nil
	}
	if err != nil {
		return nil, err
	}
	return found, Follow(ctx, c, q, found, done, total)
}

// Open says that the newest attempt that was found did not end it.
func (d *FoundDelivery) Open() bool {
	return d.Outcome == dispatcher.Retry.String() || d.Outcome == dispatcher.Deferred.String()
}

// partial says that there may be attempts that were not found, before or after those that were.
func (d *FoundDelivery) partial(q *FindQuery) bool {
	oldest := &d.Attempts[len(d.Attempts)-1]
	return d.Open() || oldest.Stage != dispatcher.StageFirst.String() || q.Outcome != "" || q.Status != 0
}

// errEnough ends a search that has found what was asked for.
var errEnough = errors.New("enough")

// Find looks through the attempts topic from its end. It is ErrNoAttempts where there is none.
func Find(ctx context.Context, c *topic.Cluster, q *FindQuery, done *atomic.Int64, total func(int64)) (*Found, error) {
	ranges, err := findRanges(ctx, c, q)
	if err != nil {
		return nil, err
	}
	if total != nil {
		total(topic.Total(ranges))
	}
	if done == nil {
		done = new(atomic.Int64)
	}
	before := done.Load()
	bounded, end := ctx, func() {}
	if q.Patience > 0 {
		bounded, end = context.WithTimeout(ctx, q.Patience)
	}
	defer end()
	f := finder{q: q, selects: q.matcher(), byID: make(map[string]*FoundDelivery), out: &Found{Deliveries: []*FoundDelivery{}, Since: q.Since}}
	rest, err := c.NewestAttempts(bounded, ranges, done, f.wanted, f.attempt)
	switch {
	case errors.Is(err, errEnough):
		f.out.Cursor = cursorOf(rest)
	case err != nil && bounded.Err() != nil && ctx.Err() == nil:
		f.out.Cursor, f.out.Unfinished = cursorOf(rest), true
	case err != nil:
		return nil, err
	}
	f.out.Read = done.Load() - before
	if first, err := firstAttempt(ctx, c); err == nil && first.After(f.out.Since) {
		f.out.Since = first
	}
	return f.out, nil
}

// findRanges is where the attempts lie that a query asks for.
func findRanges(ctx context.Context, c *topic.Cluster, q *FindQuery) (map[int]topic.Range, error) {
	name := c.Config().Names().Attempts
	ranges, err := c.Ranges(ctx, name, q.Since)
	if topic.NoTopic(err) {
		return nil, ErrNoAttempts
	}
	if err != nil {
		return nil, err
	}
	if !q.Until.IsZero() {
		later, err := c.Ranges(ctx, name, q.Until.Add(topic.ClockSlack))
		if err != nil {
			return nil, err
		}
		for id, r := range ranges {
			ranges[id] = topic.Range{From: r.From, To: max(r.From, min(r.To, later[id].From))}
		}
	}
	return afterCursor(ranges, q.Cursor)
}

// finder gathers what is found, by delivery.
type finder struct {
	q       *FindQuery
	selects func(key, value []byte) bool
	byID    map[string]*FoundDelivery

	mu  sync.Mutex // guards out.Gaps
	out *Found
}

// wanted says whether a record may be asked for. It is called from several goroutines.
func (f *finder) wanted(key, value []byte) bool {
	if g, ok := topic.ParseAttemptsGap(value); ok {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.out.Gaps = append(f.out.Gaps, Gap{g.Source, g.From, g.To, time.UnixMilli(g.Time)})
		return false
	}
	return f.selects(key, value)
}

func (f *finder) attempt(a *topic.AttemptAt) error {
	if !f.q.selects(&a.Attempt) {
		return nil
	}
	d := f.byID[a.ID]
	if d == nil {
		if f.q.Limit > 0 && len(f.out.Deliveries) >= f.q.Limit {
			return errEnough
		}
		d = &FoundDelivery{
			ID: a.ID, Account: a.Account, Subscription: a.Subscription, Event: a.Event, TrackingID: a.TrackingID, NotificationID: a.NotificationID,
			UserID: a.UserID, Channel: a.Channel, Origin: a.Origin, Outcome: a.Outcome, Reason: a.Reason, Time: time.UnixMilli(a.Time),
		}
		f.byID[a.ID] = d
		f.out.Deliveries = append(f.out.Deliveries, d)
	}
	d.Attempts = append(d.Attempts, a.Attempt)
	return nil
}

// matcher passes over, by its key and the bytes of its value, a record that cannot be what is asked for. It is called for every record that is
// read, so it takes nothing apart.
func (q *FindQuery) matcher() func(key, value []byte) bool {
	var needles [][]byte
	for key, text := range map[string]string{
		"id": q.ID, "subscription": q.Subscription, "event": q.Event, "trackingId": q.TrackingID, "notificationId": q.NotificationID, "userId": q.UserID,
		"outcome": q.Outcome,
	} {
		if text != "" {
			needles = append(needles, topic.AttemptText(key, text))
		}
	}
	if q.Status != 0 {
		needles = append(needles, strconv.AppendInt([]byte(`"status":`), int64(q.Status), 10))
	}
	if q.Any != "" {
		needles = append(needles, bytes.TrimPrefix(topic.AttemptText("", q.Any), []byte(`"":`)))
	}
	slices.SortFunc(needles, func(a, b []byte) int { return cmp.Compare(len(b), len(a)) }) // the rarest first, as a rule
	account := []byte(q.Account)
	return func(key, value []byte) bool {
		if len(account) > 0 && !bytes.Equal(key, account) {
			return false
		}
		for _, needle := range needles {
			if !bytes.Contains(value, needle) {
				return false
			}
		}
		return true
	}
}

// selects judges an attempt whose JSON was parsed: anybody may have written it.
func (q *FindQuery) selects(a *topic.Attempt) bool {
	for _, pair := range [...][2]string{
		{q.Account, a.Account},
		{q.Subscription, a.Subscription},
		{q.Event, a.Event},
		{q.ID, a.ID},
		{q.TrackingID, a.TrackingID},
		{q.NotificationID, a.NotificationID},
		{q.UserID, a.UserID},
		{q.Outcome, a.Outcome},
	} {
		if pair[0] != "" && pair[0] != pair[1] {
			return false
		}
	}
	if q.Any != "" && !slices.Contains([]string{a.ID, a.TrackingID, a.NotificationID, a.UserID}, q.Any) {
		return false
	}
	at := time.UnixMilli(a.Time)
	return (q.Status == 0 || q.Status == a.Status) && !at.Before(q.Since) && (q.Until.IsZero() || at.Before(q.Until))
}

// Follow looks for what became of the deliveries that were found: all their attempts, also those that the query did not ask for, and where
// those lie that have not ended. It reads the topics only where something is open or may be missing.
func Follow(ctx context.Context, c *topic.Cluster, q *FindQuery, found *Found, done *atomic.Int64, total func(int64)) error {
	traces := make(map[string]*Trace)
	oldest := time.Now()
	for _, d := range found.Deliveries {
		if d.partial(q) || d.Outcome == dispatcher.Dead.String() {
			traces[d.ID] = new(Trace)
		}
		oldest = earlier(oldest, time.UnixMilli(d.Attempts[len(d.Attempts)-1].Time))
	}
	if len(traces) == 0 {
		return nil
	}
	since := q.Since
	if since.IsZero() || since.After(oldest) {
		since = oldest
	}
	if _, err := FindTraces(ctx, c, TraceConfig{
		Since: since.Add(-topic.ClockSlack), Attempts: true, Want: func(id string) *Trace { return traces[id] }, Done: done, Total: total,
	}); err != nil {
		return err
	}
	for _, d := range found.Deliveries {
		if t := traces[d.ID]; t != nil {
			d.follow(t)
		}
	}
	return nil
}

// follow takes in what a trace says.
func (d *FoundDelivery) follow(t *Trace) {
	if len(t.Attempts) >= len(d.Attempts) {
		d.Attempts = slices.Clone(t.Attempts)
		slices.Reverse(d.Attempts)
		newest := &d.Attempts[0]
		d.Outcome, d.Reason, d.Time = newest.Outcome, newest.Reason, time.UnixMilli(newest.Time)
	}
	if d.Open() {
		d.Waiting = t.Waiting
	}
	d.Dead = t.Dead
}
