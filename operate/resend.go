package operate

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"

	"fanout/dispatcher"
	"fanout/event"
	"fanout/subscriptions"
	"fanout/topic"
)

// ResendConfig says which delivery is sent again (docs/contract.md#resend).
type ResendConfig struct {
	ID      string // webhook-id
	Account string // only a delivery of this account; empty: of any
	Name    string // on the record it sends
	// Wants says why the subscription would not get it: deleted, disabled or deselected; empty where it would.
	Wants func(account, subscription string, name event.Name) string
	Done  *atomic.Int64 // counts the offsets that are read; may be nil
}

// Resend is a delivery that can be sent again.
type Resend struct {
	ID           string    `json:"id"`
	Account      string    `json:"account"`
	Subscription string    `json:"subscription"`
	Event        string    `json:"event"`
	Origin       string    `json:"origin"`
	Name         string    `json:"name"`
	Was          string    `json:"was"`  // delivered, dead, or discarded: what became of it before; empty: not known
	Body         string    `json:"body"` // where the body is from: dead letter, source record, or a topic that it has waited in
	Time         time.Time `json:"time,omitzero"`
	Receiver     *Receiver `json:"receiver,omitempty"` // where it does not get it at once, and that was looked for

	delivery dispatcher.Delivery
}

// Reasons not to resend. Each is said to people as it is.
var (
	ErrNoDelivery = errors.New("nothing is known of such a delivery: neither attempts, nor a dead letter, nor a record that waits")
	ErrNoBody     = errors.New("its body is gone: neither its source record, nor a dead letter, nor a record that it has waited in is left")
)

// BusyError says that the delivery is on its way already.
type BusyError struct{ Where string }

// Error implements error.
func (e *BusyError) Error() string { return e.Where + "; `fanout release` brings forward what waits" }

// UnwantedError says that what is sent would be discarded.
type UnwantedError struct{ Why string }

// Error implements error.
func (e *UnwantedError) Error() string { return "it would be discarded: " + e.Why }

// past is what the topics hold of one delivery.
type past struct {
	attempts []topic.Attempt // the newest first
	waiting  *Waiting
	dead     *topic.DeadLetter // the newest, without its body
}

// findPast looks for a delivery from the ends of the topics backwards, since what is sent again is most often of today. It ends at its
// first attempt; where that is not found, at the topics' beginnings. Where it waits is looked at first: what came of it meanwhile is found then.
func findPast(ctx context.Context, c *topic.Cluster, id string, done *atomic.Int64) (*past, error) {
	f := new(past)
	if err := f.findWaiting(ctx, c, id, done); err != nil || f.waiting != nil {
		return f, err
	}
	first, err := f.findAttempts(ctx, c, id, done)
	if err != nil {
		return nil, err
	}
	filter := topic.Filter{IDs: []string{id}}
	if !first.IsZero() {
		filter.Since = first.Add(-topic.ClockSlack)
	}
	letters := c.DeadLetters()
	ranges, err := letters.Ranges(ctx, &filter)
	if err != nil {
		return nil, err
	}
	err = letters.Newest(ctx, &filter, ranges, done, func(d *topic.DeadLetter) error {
		f.dead = d
		return errEnough
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	return f, nil
}

// findAttempts returns when the first attempt was made; zero where it was not found.
func (f *past) findAttempts(ctx context.Context, c *topic.Cluster, id string, done *atomic.Int64) (first time.Time, err error) {
	ranges, err := findRanges(ctx, c, &FindQuery{ID: id})
	if errors.Is(err, ErrNoAttempts) {
		return first, nil
	}
	if err != nil {
		return first, err
	}
	_, err = c.NewestAttempts(ctx, ranges, done, topic.OfDelivery(id), func(a *topic.AttemptAt) error {
		if a.ID != id {
			return nil // anybody may have written it
		}
		f.attempts = append(f.attempts, a.Attempt)
		if a.Stage == dispatcher.StageFirst.String() {
			first = time.UnixMilli(a.Time)
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return first, err
	}
	return first, nil
}

// findWaiting looks for it in all that the groups have not settled of the topics that deliveries wait in.
func (f *past) findWaiting(ctx context.Context, c *topic.Cluster, id string, done *atomic.Int64) error {
	sizes, err := c.Sizes(ctx)
	if err != nil {
		return err
	}
	queues, err := findQueues(ctx, c, sizes)
	if err != nil {
		return err
	}
	var found Trace
	t := &tracer{cfg: TraceConfig{Want: func(of string) *Trace {
		if of == id {
			return &found
		}
		return nil
	}}}
	for name, q := range queues {
		ranges, err := q.unsettled(ctx, c, name)
		if err != nil {
			return err
		}
		if err := c.Scan(ctx, name, ranges, done, func(m *topic.Record) error { return t.waiting(m, q.delay, q.progress) }); err != nil {
			return err
		}
	}
	f.waiting = found.Waiting
	return nil
}

// FindResend finds the delivery and its body, and refuses what is on its way.
func FindResend(ctx context.Context, c *topic.Cluster, cfg ResendConfig) (*Resend, error) {
	f, err := findPast(ctx, c, cfg.ID, cfg.Done)
	if err != nil {
		return nil, err
	}
	if w := f.waiting; w != nil {
		return nil, &BusyError{fmt.Sprintf("it waits in %s, due %s", w.Topic, w.Due.UTC().Format(time.RFC3339))}
	}
	r, err := f.delivery(ctx, c, cfg.ID)
	if err != nil {
		return nil, err
	}
	if cfg.Account != "" && r.Account != cfg.Account {
		return nil, ErrNoDelivery // of somebody else's nothing is said
	}
	if err := inFlight(ctx, c, r.delivery.Origin); err != nil {
		return nil, err
	}
	if why := cfg.Wants(r.Account, r.Subscription, r.delivery.Event); why != "" {
		return nil, &UnwantedError{why}
	}
	r.Name = cfg.Name
	return r, nil
}

// delivery is the delivery as it can be sent again: from its dead letter, its source record, or a record that it has waited in.
func (f *past) delivery(ctx context.Context, c *topic.Cluster, id string) (*Resend, error) {
	was := f.was()
	if dead := f.dead; dead != nil {
		letter, err := c.DeadLetters().Get(ctx, dead.Partition, dead.Offset)
		if err != nil {
			return nil, err
		}
		if letter != nil && letter.ID == id && letter.Usable() {
			return newResend(letter.Delivery(), was, "dead letter"), nil
		}
	}
	if len(f.attempts) > 0 {
		d, err := fromSource(ctx, c, &f.attempts[0])
		if err != nil {
			return nil, err
		}
		if d != nil {
			return newResend(*d, was, "source record"), nil
		}
	}
	d, name, err := fromQueues(ctx, c, id)
	switch {
	case err != nil:
		return nil, err
	case d != nil:
		return newResend(*d, was, name), nil
	case len(f.attempts) == 0 && f.dead == nil:
		return nil, ErrNoDelivery
	}
	return nil, ErrNoBody
}

// was is what became of it before: delivered if it ever was.
func (f *past) was() string {
	ended := func(how dispatcher.Result) bool {
		return slices.ContainsFunc(f.attempts, func(a topic.Attempt) bool { return a.Outcome == how.String() })
	}
	switch {
	case ended(dispatcher.Delivered):
		return dispatcher.Delivered.String()
	case f.dead != nil:
		return dispatcher.Dead.String()
	case ended(dispatcher.Discarded):
		return dispatcher.Discarded.String()
	}
	return ""
}

func newResend(d dispatcher.Delivery, was, body string) *Resend {
	return &Resend{
		ID: d.ID, Account: d.Account, Subscription: d.Subscription, Event: d.Event.String(), Origin: d.Origin.String(), Was: was, Body: body, delivery: d,
	}
}

// fromSource makes the delivery of its source record; nil where that is gone, or makes another one by now.
func fromSource(ctx context.Context, c *topic.Cluster, a *topic.Attempt) (*dispatcher.Delivery, error) {
	origin, err := topic.ParseOrigin(a.Origin)
	if err != nil {
		return nil, nil //nolint:nilnil // somebody else's record
	}
	held, err := c.Ranges(ctx, origin.Topic, time.Time{})
	if topic.NoTopic(err) {
		return nil, nil //nolint:nilnil // it is gone
	}
	if err != nil {
		return nil, err
	}
	if r, ok := held[origin.Partition]; !ok || origin.Offset < r.From || origin.Offset >= r.To {
		return nil, nil //nolint:nilnil // it has expired
	}
	m, err := c.Read(ctx, origin)
	if err != nil || m == nil {
		return nil, err
	}
	sources, err := c.Config().NewSources(nil, nil)
	if err != nil {
		return nil, err
	}
	defer sources.Close()
	ev, err := sources.Decode(ctx, m)
	if errors.Is(err, topic.ErrRegistryUnavailable) {
		return nil, err
	}
	if err != nil || dispatcher.WebhookID(&ev, origin, a.Subscription) != a.ID {
		return nil, nil //nolint:nilnil // another record lies there now, or another mapping reads it
	}
	rec := m.Metadata()
	return &dispatcher.Delivery{
		ID: a.ID, Account: ev.Account, Subscription: a.Subscription, Event: ev.Name, Body: dispatcher.Body(&ev), Origin: origin,
		TraceParent: rec.TraceParent, TraceState: rec.TraceState,
	}, nil
}

// fromQueues looks for the delivery in the topics that deliveries wait in, from their ends backwards; nil where it is in none.
func fromQueues(ctx context.Context, c *topic.Cluster, id string) (last *dispatcher.Delivery, where string, err error) {
	sizes, err := c.Sizes(ctx)
	if err != nil {
		return nil, "", err
	}
	queues, err := findQueues(ctx, c, sizes)
	if err != nil {
		return nil, "", err
	}
	var at time.Time
	for name := range queues {
		m, err := c.NewestRecord(ctx, name, func(m *topic.Record) bool { return m.Header(topic.HeaderWebhookID) == id })
		if err != nil {
			return nil, "", err
		}
		if m == nil || m.Time.Before(at) {
			continue
		}
		if d, err := topic.DecodeDelivery(c.Config().Catalogue, m, dispatcher.StageReplay); err == nil {
			last, where, at = &d, name, m.Time
		}
	}
	return last, where, nil
}

// inFlight refuses a delivery whose source record is not settled: it may be under way.
func inFlight(ctx context.Context, c *topic.Cluster, origin dispatcher.Origin) error {
	progress, err := c.Progress(ctx, c.Config().Kafka.Group, origin.Topic, []int{origin.Partition})
	if err != nil {
		if topic.NoTopic(err) {
			return nil // a source that is gone has nothing under way
		}
		return err
	}
	if p, ok := progress[origin.Partition]; ok && !p.Settled(origin.Offset) {
		return &BusyError{"it may be in flight: its source record is not committed yet"}
	}
	return nil
}

// Send writes the delivery to the replay topic.
func (r *Resend) Send(ctx context.Context, c *topic.Cluster) error {
	name := c.Config().Names().Replay
	n, err := c.PartitionCount(ctx, name)
	if err != nil {
		return fmt.Errorf("topic %s: %w", name, err)
	}
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(r.ID))
	p := topic.Partition{Topic: name, ID: int(hash.Sum32() % uint32(n))}
	if _, err := c.Produce(ctx, p, []kafka.Record{replayRecord(c.Config().Kafka.Group, &r.delivery, r.Name, nil)}); err != nil {
		return fmt.Errorf("write to %s: %w", name, err)
	}
	r.Time = time.Now().UTC()
	return nil
}

// replayRecord is the record by which the group sends a delivery again as a new one: with its webhook-id and its origin, and nothing else of its past
// but what is known of its last attempt.
func replayRecord(group string, d *dispatcher.Delivery, name string, last *dispatcher.Outcome) kafka.Record {
	now := time.Now()
	again := dispatcher.Delivery{
		ID: d.ID, Account: d.Account, Subscription: d.Subscription, Event: d.Event, Body: d.Body, FirstSeen: now, Origin: d.Origin,
		TraceParent: d.TraceParent, TraceState: d.TraceState, Replay: name, DeadLetter: d.DeadLetter, Replays: d.Replays + 1,
	}
	if last == nil {
		last = new(dispatcher.Outcome)
	}
	return topic.ReplayRecord(group, &again, last, now)
}

// ResendName is the name under which one delivery is sent again at that time.
func ResendName(now time.Time) string { return "resend-" + now.UTC().Format("20060102-150405.000") }

// Unwanted says why a subscription, nil where there is none, would not get what is sent to it again; empty where it would.
func Unwanted(sub *subscriptions.Subscription, name event.Name) string {
	switch {
	case sub == nil:
		return "there is no such subscription any more (deleted)"
	case !sub.Enabled():
		return "the subscription is off (disabled)"
	case !sub.Events().Has(name):
		return "the subscription does not select " + name.String() + " any more (deselected)"
	}
	return ""
}
