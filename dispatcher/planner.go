package dispatcher

import (
	"iter"
	"math"
	"slices"
	"time"

	"fanout/event"
	"fanout/subscriptions"
	"fanout/webhook"
)

// RecordMetadata tells a Planner of the record that an event was decoded from.
type RecordMetadata struct {
	Origin      Origin
	AppendedAt  time.Time
	TraceParent string
	TraceState  string
}

// Planner says which deliveries an event makes. It sends nothing and needs nothing but a Directory. It is safe for
// concurrent use.
type Planner struct {
	dir Directory
}

// NewPlanner makes a Planner.
func NewPlanner(dir Directory) *Planner { return &Planner{dir: dir} }

// Plan appends the event's deliveries to dst, one for each subscription that wants it; none for an unmatched event.
// They were first seen at the time now.
func (p *Planner) Plan(dst []Delivery, ev *event.Event, rec *RecordMetadata, now time.Time) []Delivery {
	dst, _ = p.PlanSome(dst, ev, rec, now, math.MaxInt)
	return dst
}

// PlanSome is Plan where an event may have more deliveries than should be submitted at once: it appends them where there are
// at most so many, and none where there are more. The second value is how many there are.
func (p *Planner) PlanSome(dst []Delivery, ev *event.Event, rec *RecordMetadata, now time.Time, most int) ([]Delivery, int) {
	var buf [16]*subscriptions.Subscription
	subs := p.dir.Match(buf[:0], ev.Account, ev.Name, ev.NotificationID)
	if n := len(subs); n == 0 || n > most {
		return dst, n
	}
	return appendDeliveries(dst, subs, Body(ev), ev, rec, now), len(subs)
}

// Portions are the event's deliveries in portions of at most size. A portion is the caller's. Of a change of the
// subscriptions meanwhile nothing is seen: an attempt follows it anyway.
func (p *Planner) Portions(ev *event.Event, rec *RecordMetadata, now time.Time, size int) iter.Seq[[]Delivery] {
	return func(yield func([]Delivery) bool) {
		subs := p.dir.Match(nil, ev.Account, ev.Name, ev.NotificationID)
		body := Body(ev)
		for portion := range slices.Chunk(subs, size) {
			if !yield(appendDeliveries(make([]Delivery, 0, len(portion)), portion, body, ev, rec, now)) {
				return
			}
		}
	}
}

func appendDeliveries(dst []Delivery, subs []*subscriptions.Subscription, body []byte, ev *event.Event, rec *RecordMetadata, now time.Time) []Delivery {
	for _, sub := range subs {
		dst = append(dst, Delivery{
			ID:           WebhookID(ev, rec.Origin, sub.ID()),
			Account:      sub.Account(),
			Subscription: sub.ID(),
			Event:        ev.Name,
			Body:         body,
			FirstSeen:    now,
			Origin:       rec.Origin,
			TraceParent:  rec.TraceParent,
			TraceState:   rec.TraceState,
			Stage:        StageFirst,
			AppendedAt:   rec.AppendedAt,
			sub:          sub,
		})
	}
	return dst
}

// Body is the request body of an event: its payload (docs/contract.md#payload), the further keys that the configuration names
// included.
func Body(ev *event.Event) []byte {
	size := len(`{"eventType":"","trackingId":"","notificationId":"","channel":"","userId":""}`) + 40 +
		len(ev.TrackingID) + len(ev.NotificationID) + len(ev.UserID)
	for i := range ev.Extra {
		size += len(`,"":""`) + len(ev.Extra[i].Key) + len(ev.Extra[i].Value)
	}
	body := webhook.AppendPayload(make([]byte, 0, size), ev.Name.PayloadType(), ev.TrackingID, ev.NotificationID, ev.Name.Channel(), ev.UserID)
	for i := range ev.Extra {
		e := &ev.Extra[i]
		body = webhook.AppendKey(body, e.Key, e.Value, !e.Text)
	}
	return body
}

// WebhookID is a delivery's webhook-id: a pure function of the event's identity and the subscription.
func WebhookID(ev *event.Event, origin Origin, subscription string) string {
	if ev.ID != "" {
		return webhook.EventID(ev.Account, ev.Name.String(), ev.ID, subscription)
	}
	return webhook.OffsetID(origin.Topic, origin.Partition, origin.Offset, subscription)
}
