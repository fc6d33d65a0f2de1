package operate

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"sync"
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

// found is what the topics hold of one delivery.
type found struct{ trace Trace }

// FindResend finds the delivery and its body, and refuses what is on its way.
func FindResend(ctx context.Context, c *topic.Cluster, cfg ResendConfig) (*Resend, error) {
	f := new(found)
	if _, err := FindTraces(ctx, c, TraceConfig{Attempts: true, Want: func(id string) *Trace {
		if id == cfg.ID {
			return &f.trace
		}
		return nil
	}}); err != nil {
		return nil, err
	}
	if w := f.trace.Waiting; w != nil {
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
func (f *found) delivery(ctx context.Context, c *topic.Cluster, id string) (*Resend, error) {
	was := f.was()
	if dead := f.trace.Dead; dead != nil {
		letter, err := c.DeadLetters().Get(ctx, dead.Partition, dead.Offset)
		if err != nil {
			return nil, err
		}
		if letter != nil && letter.ID == id && letter.Usable() {
			return newResend(letter.Delivery(), was, "dead letter"), nil
		}
	}
	if n := len(f.trace.Attempts); n > 0 {
		d, err := fromSource(ctx, c, &f.trace.Attempts[n-1])
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
	case len(f.trace.Attempts) == 0 && f.trace.Dead == nil:
		return nil, ErrNoDelivery
	}
	return nil, ErrNoBody
}

func (f *found) was() string {
	switch t := &f.trace; {
	case t.Delivered:
		return dispatcher.Delivered.String()
	case t.Dead != nil:
		return dispatcher.Dead.String()
	case t.Discarded != "":
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

// fromQueues looks for the delivery in what has been settled of the topics that deliveries wait in; nil where it is in none.
func fromQueues(ctx context.Context, c *topic.Cluster, id string) (last *dispatcher.Delivery, where string, err error) {
	sizes, err := c.Sizes(ctx)
	if err != nil {
		return nil, "", err
	}
	queues, err := findQueues(ctx, c, sizes)
	if err != nil {
		return nil, "", err
	}
	var mu sync.Mutex // guards last and where
	for name := range queues {
		ranges, err := c.Ranges(ctx, name, time.Time{})
		if err != nil {
			return nil, "", err
		}
		if err := c.Scan(ctx, name, ranges, nil, func(m *topic.Record) error {
			if m.Header(topic.HeaderWebhookID) != id {
				return nil
			}
			own := m.Clone()
			if d, err := topic.DecodeDelivery(c.Config().Catalogue, &own, dispatcher.StageReplay); err == nil {
				mu.Lock()
				defer mu.Unlock()
				last, where = &d, name
			}
			return nil
		}); err != nil {
			return nil, "", err
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
