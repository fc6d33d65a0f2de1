package dispatcher

import (
	"time"

	"fanout/dispatcher/webhook"
	"fanout/event"
	"fanout/subscriptions"
)

// Record is what Plan needs to know of the record that an event was decoded from.
type Record struct {
	Origin      Origin
	AppendedAt  time.Time
	TraceParent string
	TraceState  string
}

// Plan appends the event's deliveries to dst, one for each subscription that wants it; none for an unmatched event.
// It sends nothing.
func (d *Dispatcher) Plan(dst []Delivery, ev *event.Event, rec *Record, now time.Time) []Delivery {
	var buf [16]*subscriptions.Subscription
	subs := d.dir.Match(buf[:0], ev.Account, ev.Name)
	if len(subs) == 0 {
		return dst
	}
	body := Body(ev)
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

// Body is the request body of an event: the payload of DESIGN.md section 2.
func Body(ev *event.Event) []byte {
	size := len(`{"eventType":"","trackingId":"","notificationId":"","channel":"","userId":""}`) + 40 +
		len(ev.TrackingID) + len(ev.NotificationID) + len(ev.UserID)
	return webhook.AppendPayload(make([]byte, 0, size), ev.Name.PayloadType(), ev.TrackingID, ev.NotificationID, ev.Name.Channel(), ev.UserID)
}

// WebhookID is a delivery's webhook-id: a pure function of the event's identity and the subscription.
func WebhookID(ev *event.Event, origin Origin, subscription string) string {
	if ev.ID != "" {
		return webhook.EventID(ev.Account, ev.Name.String(), ev.ID, subscription)
	}
	return webhook.OffsetID(origin.Topic, origin.Partition, origin.Offset, subscription)
}
