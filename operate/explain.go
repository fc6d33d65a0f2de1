package operate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fanout/dispatcher"
	"fanout/event"
	"fanout/subscriptions"
	"fanout/topic"
)

// ExplainConfig says what an Explainer asks besides Kafka.
type ExplainConfig struct {
	Directory *subscriptions.Directory
	// Load reads an account's subscriptions into the Directory; nil: the Directory keeps itself up to date.
	Load     func(ctx context.Context, account string) error
	Renderer *dispatcher.Renderer
	Reveal   bool // show the values of the subscriptions' own headers
	// Lane says how a subscription's lane is; nil: nothing is said of lanes.
	Lane func(context.Context, *subscriptions.Subscription) string
	// Clock writes the times in Where; nil: RFC 3339 in UTC.
	Clock func(time.Time) string
	// Progress is told of each scan of topics; nil: nobody is told.
	Progress func(what string) (done *atomic.Int64, total func(int64), end func())
}

// Explained says who gets a record, who does not and why.
type Explained struct {
	Record        string                  `json:"record"` // topic/partition/offset; empty for an event that is not recorded
	Appended      time.Time               `json:"appended,omitzero"`
	Result        string                  `json:"result"` // event, ignored, malformed, unmatched
	Problem       string                  `json:"problem,omitempty"`
	Event         map[string]string       `json:"event,omitempty"`
	Committed     *bool                   `json:"committed,omitempty"`  // the record is settled, says the group
	Subscriptions []ExplainedSubscription `json:"subscriptions"`        // of the account; empty without an event
	DeadLetter    string                  `json:"deadLetter,omitempty"` // of a malformed record
}

// ExplainedSubscription is what a record means for one subscription of its account.
type ExplainedSubscription struct {
	Subscription string `json:"subscription"`
	Match        bool   `json:"match"` // a delivery is planned for it
	Why          string `json:"why"`
	Problem      string `json:"problem,omitempty"` // why the delivery would become a dead letter at once
	ID           string `json:"webhookId,omitempty"`
	Where        string `json:"where,omitempty"`
	Lane         string `json:"lane,omitempty"`
	Curl         string `json:"curl,omitempty"`
	Trace        *Trace `json:"trace,omitempty"`
}

// NotASourceError says that a record is of no source topic, and does not come from one.
type NotASourceError struct {
	Topic  string
	Origin string // the topic that the record says it comes from; empty where it says nothing
}

// Error implements error.
func (e *NotASourceError) Error() string {
	text := "topic " + e.Topic + " is not a source of the configuration"
	if e.Origin != "" {
		text += ", nor is " + e.Origin + ", which the record says it comes from"
	}
	return text
}

// ErrNoRecord says that a place within a topic holds no record that may be read.
var ErrNoRecord = errors.New("is not a record: it is a transaction marker, belongs to an aborted transaction, or was compacted away")

// Explainer says who gets a record, who does not and why (docs/contract.md#commands). It sends nothing.
type Explainer struct {
	cluster *topic.Cluster
	sources *topic.Sources
	planner *dispatcher.Planner
	cfg     ExplainConfig
}

// NewExplainer makes an Explainer. Close it.
func NewExplainer(c *topic.Cluster, cfg ExplainConfig) (*Explainer, error) {
	sources, err := c.Config().NewSources(nil, nil)
	if err != nil {
		return nil, err
	}
	if cfg.Clock == nil {
		cfg.Clock = func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	}
	if cfg.Progress == nil {
		cfg.Progress = func(string) (*atomic.Int64, func(int64), func()) { return nil, nil, func() {} }
	}
	return &Explainer{cluster: c, sources: sources, planner: dispatcher.NewPlanner(cfg.Directory), cfg: cfg}, nil
}

// Close gives the schema registry's connections back.
func (e *Explainer) Close() { e.sources.Close() }

// Event explains a raw event as if it were read now from the source topic. The error is why it is malformed, where it is.
func (e *Explainer) Event(ctx context.Context, source string, value []byte) (*Explained, error) {
	if !e.sources.Has(source) {
		return nil, &NotASourceError{Topic: source}
	}
	return e.explain(ctx, &topic.Record{Partition: topic.Partition{Topic: source}, Offset: -1, Time: time.Now(), Value: value})
}

// Record explains a record of a source topic. Of a retry record or a dead letter it explains the record that it comes from.
func (e *Explainer) Record(ctx context.Context, at dispatcher.Origin) (*Explained, error) {
	r, err := e.read(ctx, at)
	if err != nil {
		return nil, err
	}
	if e.sources.Has(at.Topic) {
		return e.explain(ctx, r)
	}
	origin, err := topic.ParseOrigin(r.Header(topic.HeaderOrigin))
	if err != nil {
		return nil, &NotASourceError{Topic: at.Topic}
	}
	if !e.sources.Has(origin.Topic) { // anybody may have written it, and that it comes from itself
		return nil, &NotASourceError{Topic: at.Topic, Origin: origin.Topic}
	}
	if r, err = e.read(ctx, origin); err != nil {
		return nil, err
	}
	return e.explain(ctx, r)
}

func (e *Explainer) read(ctx context.Context, at dispatcher.Origin) (*topic.Record, error) {
	r, err := e.cluster.Read(ctx, at)
	if err == nil && r == nil {
		err = fmt.Errorf("%s %w", at, ErrNoRecord)
	}
	return r, err
}

// mostExplained is how many records are explained of those that a query finds.
const mostExplained = 5

// Find explains the records that a query leads to, the newest first: those of the deliveries that it finds, else those of
// the sources. more is how many of the sources' records were left out.
func (e *Explainer) Find(ctx context.Context, q *FindQuery) (all []*Explained, more int, err error) {
	deliveries := *q
	deliveries.Limit = 4 * mostExplained // several may be of one record
	done, total, end := e.cfg.Progress("looking through attempts")
	found, err := Search(ctx, e.cluster, &deliveries, done, total)
	end()
	if err != nil {
		return nil, 0, err
	}
	seen := make(map[string]bool)
	for _, d := range found.Deliveries {
		origin, err := topic.ParseOrigin(d.Origin)
		if err != nil || seen[d.Origin] || len(all) == mostExplained {
			continue
		}
		seen[d.Origin] = true
		one, err := e.Record(ctx, origin)
		if err != nil {
			return nil, 0, err
		}
		all = append(all, one)
	}
	if len(all) == 0 && q.OfEvents() {
		return e.FindRecords(ctx, q)
	}
	return all, 0, nil
}

// FindRecords explains the records of the sources that a query, which must be of events, selects, the newest first. more is how many were left
// out.
func (e *Explainer) FindRecords(ctx context.Context, q *FindQuery) (all []*Explained, more int, err error) {
	done, total, end := e.cfg.Progress("looking through the sources")
	records, err := findRecords(ctx, e.cluster, q, done, total)
	end()
	if err != nil {
		return nil, 0, err
	}
	for _, r := range records[:min(len(records), mostExplained)] {
		one, err := e.explain(ctx, r)
		if err != nil {
			return nil, 0, err
		}
		all = append(all, one)
	}
	return all, len(records) - len(all), nil
}

func (e *Explainer) explain(ctx context.Context, r *topic.Record) (*Explained, error) {
	out := &Explained{Subscriptions: []ExplainedSubscription{}}
	recorded := r.Offset >= 0
	if recorded {
		out.Record, out.Appended = r.Origin().String(), r.Time
		progress, err := e.cluster.Progress(ctx, e.cluster.Config().Kafka.Group, r.Topic, []int{r.ID})
		if err != nil {
			return nil, err
		}
		p, ok := progress[r.ID]
		settled := ok && p.Settled(r.Offset)
		out.Committed = &settled
	}
	ev, err := e.sources.Decode(ctx, r)
	switch {
	case errors.Is(err, topic.ErrRegistryUnavailable):
		return nil, err
	case errors.Is(err, event.ErrIgnored):
		out.Result, out.Problem = "ignored", "no event name stands for its type, or it has no value; it is counted, and nothing is sent"
		return out, nil
	case err != nil:
		out.Result, out.Problem = "malformed", err.Error()
		if recorded {
			out.DeadLetter, err = e.deadLetter(ctx, r)
		}
		return out, err
	}
	out.Event = map[string]string{
		"account": ev.Account, "name": ev.Name.String(), "trackingId": ev.TrackingID, "notificationId": ev.NotificationID, "userId": ev.UserID, "id": ev.ID,
	}
	rec := r.Metadata()
	return out, e.match(ctx, out, &ev, &rec)
}

// deadLetter finds the dead letter of a malformed record.
func (e *Explainer) deadLetter(ctx context.Context, r *topic.Record) (string, error) {
	origin := r.Origin().String()
	letters := e.cluster.DeadLetters()
	filter := topic.Filter{Reasons: []string{dispatcher.MalformedEvent.String()}, Since: r.Time.Add(-time.Minute)}
	ranges, err := letters.Ranges(ctx, &filter)
	if err != nil {
		return "", err
	}
	var mu sync.Mutex // guards found
	found := ""
	err = letters.Each(ctx, &filter, ranges, nil, func(d *topic.DeadLetter) error {
		if d.Origin == origin {
			mu.Lock()
			defer mu.Unlock()
			found = d.Position()
		}
		return nil
	})
	return found, err
}

// match explains the event for each subscription of its account.
func (e *Explainer) match(ctx context.Context, out *Explained, ev *event.Event, rec *dispatcher.RecordMetadata) error {
	if e.cfg.Load != nil {
		if err := e.cfg.Load(ctx, ev.Account); err != nil {
			return err
		}
	}
	planned := e.planner.Plan(nil, ev, rec, time.Now())
	out.Result = "event"
	if len(planned) == 0 {
		out.Result = "unmatched"
	}
	byID, traces := make(map[string]*dispatcher.Delivery), make(map[string]*Trace)
	for i := range planned {
		byID[planned[i].Subscription] = &planned[i]
		if out.Committed != nil {
			traces[planned[i].ID] = new(Trace)
		}
	}
	knows := false
	if len(traces) > 0 {
		var err error
		if knows, err = FindTraces(ctx, e.cluster, TraceConfig{
			Since: rec.AppendedAt.Add(-time.Minute), Attempts: true, Want: func(id string) *Trace { return traces[id] },
		}); err != nil {
			return err
		}
	}
	for _, sub := range e.cfg.Directory.Account(ev.Account) {
		d := byID[sub.ID()]
		if d == nil {
			out.Subscriptions = append(out.Subscriptions, ExplainedSubscription{Subscription: sub.ID(), Why: whyNot(e.cluster.Config().Catalogue, sub, ev)})
			continue
		}
		s := e.matched(ctx, sub, d)
		if t := traces[d.ID]; t != nil {
			s.Trace, s.Where = t, t.Where(knows, *out.Committed, e.cfg.Clock)
		}
		out.Subscriptions = append(out.Subscriptions, s)
	}
	return nil
}

// matched explains a delivery for the subscription that it is planned for.
func (e *Explainer) matched(ctx context.Context, sub *subscriptions.Subscription, d *dispatcher.Delivery) ExplainedSubscription {
	s := ExplainedSubscription{Subscription: sub.ID(), Match: true, Why: "selects " + d.Event.String(), ID: d.ID}
	if sub.Paused() {
		s.Why += "; it is paused, so the delivery is held back"
	}
	s.Curl, s.Problem = e.request(sub, d)
	if e.cfg.Lane != nil {
		s.Lane = e.cfg.Lane(ctx, sub)
	}
	return s
}

// request is the delivery's request, or what is wrong with it.
func (e *Explainer) request(sub *subscriptions.Subscription, d *dispatcher.Delivery) (curl, problem string) {
	if bad := sub.Invalid(); bad != "" { // its URL and headers may be the good ones, or not be known at all
		return "", "invalid_subscription: " + strings.TrimPrefix(bad, "invalid subscription: ") + "; an instance that knows an earlier, valid version goes on with that"
	}
	curl, blocked := e.cfg.Renderer.Curl(sub, d, time.Now(), e.cfg.Reveal)
	if blocked != "" {
		return "", "blocked_destination: " + blocked
	}
	return curl, ""
}

// whyNot says why no delivery is planned for a subscription.
func whyNot(c *event.Catalogue, sub *subscriptions.Subscription, ev *event.Event) string {
	if !sub.Enabled() {
		return "disabled"
	}
	var selected []string
	for _, name := range sub.Events().Names(c) {
		selected = append(selected, name.String())
	}
	why := "does not select " + ev.Name.String() + "; it selects " + cmp.Or(strings.Join(selected, ", "), "nothing that is known here")
	if sub.Events().Has(ev.Name) && !sub.WantsNotification(ev.NotificationID) {
		return "notificationId " + ev.NotificationID + " is not in " + strings.Join(sub.NotificationIDs(), ", ")
	}
	if bad := sub.Invalid(); bad != "" {
		why += "; invalid: " + strings.TrimPrefix(bad, "invalid subscription: ")
	}
	return why
}

// Where says where a delivery is. knows says that its attempts would be known, committed that its record is settled.
func (t *Trace) Where(knows, committed bool, clock func(time.Time) string) string {
	switch {
	case t.Delivered:
		return "delivered"
	case t.Waiting != nil && (t.Dead == nil || t.Waiting.Due.After(t.Dead.Due)): // one that was due before has not been committed yet
		text := fmt.Sprintf("waiting in %s, due %s", t.Waiting.Topic, clock(t.Waiting.Due))
		if t.Waiting.Reason != "" {
			text += fmt.Sprintf(", after %s attempts: %s %s", t.Waiting.Attempts, t.Waiting.Reason, t.Waiting.Detail)
		}
		return text
	case t.Dead != nil:
		return fmt.Sprintf("dead since %s: %s (%s), dead letter %d/%d", clock(t.Dead.Due), t.Dead.Reason, t.Dead.Detail, t.Dead.Partition, t.Dead.Offset)
	case t.Discarded != "":
		return "discarded: " + t.Discarded
	case !committed:
		return "pending: the record is not settled yet"
	case knows:
		return "settled, and nothing more is known: it was attempted before attempts.topic was on, or the subscription did not match then"
	}
	return "settled: delivered or discarded; attempts.topic: true would tell which"
}
