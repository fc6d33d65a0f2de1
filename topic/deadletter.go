package topic

import (
	"maps"
	"math"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/segmentio/kafka-go"

	"fanout/dispatcher"
	"fanout/event"
	"fanout/webhook"
)

// DeadLetter is a record of the dead-letter topic, as its headers tell. A malformed one has no account, subscription,
// event or webhook-id: it precedes any delivery.
type DeadLetter struct {
	Partition    int               `json:"partition"`
	Offset       int64             `json:"offset"`
	DeadAt       time.Time         `json:"deadAt"`
	Reason       string            `json:"reason"`
	Status       int               `json:"status,omitempty"`
	Detail       string            `json:"detail"`
	Account      string            `json:"account,omitempty"`
	Subscription string            `json:"subscription,omitempty"`
	Event        string            `json:"event,omitempty"`
	ID           string            `json:"id,omitempty"` // webhook-id
	Attempts     int               `json:"attempts"`
	FirstSeen    *time.Time        `json:"firstSeen,omitempty"`
	Group        string            `json:"group,omitempty"` // the consumer group that gave up on it
	Origin       string            `json:"origin"`
	Replays      int               `json:"replays"`
	Replay       string            `json:"replay,omitempty"`     // the replay whose delivery this was
	From         string            `json:"deadLetter,omitempty"` // and the dead letter that it had sent
	Trace        string            `json:"traceparent,omitempty"`
	Key          []byte            `json:"key,omitempty"`
	Value        []byte            `json:"value,omitempty"`
	Headers      map[string][]byte `json:"headers,omitempty"`   // of a malformed record, its own
	Truncated    bool              `json:"truncated,omitempty"` // the broker refused the whole value as too large

	TraceState string    `json:"-"`
	AppendedAt time.Time `json:"-"` // by the broker's clock, as far as the topic tells; DeadAt is by the instance's
}

// Malformed says that it is an undecodable record rather than a delivery.
func (d *DeadLetter) Malformed() bool { return d.Reason == dispatcher.MalformedEvent.String() }

// Clone is the dead letter in memory of its own.
func (d *DeadLetter) Clone() *DeadLetter {
	own := *d
	own.Key, own.Value, own.Headers = slices.Clone(d.Key), slices.Clone(d.Value), maps.Clone(d.Headers)
	for name, value := range own.Headers {
		own.Headers[name] = slices.Clone(value)
	}
	return &own
}

// Position is partition/offset.
func (d *DeadLetter) Position() string { return position(d.Partition, d.Offset) }

// ReadDeadLetter reads the headers, in one pass, into d. It takes what it can: anybody may write to the topic. Key, value and
// headers lie in the record's memory.
func ReadDeadLetter(r *Record, d *DeadLetter) {
	*d = DeadLetter{Partition: r.ID, Offset: r.Offset, DeadAt: r.Time, AppendedAt: r.Time, Key: r.Key, Value: r.Value}
	for i := range r.Headers {
		h := &r.Headers[i]
		switch v := h.Value; h.Key {
		case HeaderWebhookID:
			d.ID = string(v)
		case HeaderAccount:
			d.Account = string(v)
		case HeaderSubscription:
			d.Subscription = string(v)
		case HeaderEvent:
			d.Event = string(v)
		case HeaderAttempts:
			d.Attempts = orZero(decodeCount(string(v)))
		case HeaderFirstSeen:
			if t, err := DecodeTime(string(v)); err == nil {
				d.FirstSeen = &t
			}
		case HeaderGroup:
			d.Group = Clip(string(v), maxGroup)
		case HeaderOrigin:
			d.Origin = string(v)
		case HeaderReason:
			d.Reason = reasonText(v)
		case HeaderDetail:
			d.Detail = string(v)
		case HeaderStatus:
			d.Status = orZero(decodeStatus(string(v)))
		case HeaderDeadAt:
			if t, err := DecodeTime(string(v)); err == nil {
				d.DeadAt = t
			}
		case HeaderTruncated:
			d.Truncated = true
		case HeaderReplays:
			d.Replays = orZero(decodeCount(string(v)))
		case HeaderReplay:
			d.Replay = string(v)
		case HeaderDeadLetter:
			d.From = string(v)
		case HeaderTraceParent:
			d.Trace = traceValue(string(v))
		case HeaderTraceState:
			d.TraceState = traceValue(string(v))
		}
	}
	if d.Malformed() {
		// Headers that its producer wrote under our names are not an identity: the record must not show up among an account's dead letters.
		d.ID, d.Account, d.Subscription, d.Event = "", "", "", ""
		d.Headers = make(map[string][]byte)
		for _, h := range r.Headers {
			if !ourHeader(h.Key) {
				d.Headers[h.Key] = h.Value
			}
		}
	}
}

// orZero is a number, or 0 where it could not be read.
func orZero(n int, err error) int {
	if err != nil {
		return 0
	}
	return n
}

// reasonText is the reason without an allocation where it is one of ours.
func reasonText(v []byte) string {
	if r, ok := dispatcher.ParseReason(string(v)); ok {
		return r.String()
	}
	return string(v)
}

// ourHeader says whether dead-lettering added the header to a malformed record.
func ourHeader(key string) bool {
	switch key {
	case HeaderGroup, HeaderOrigin, HeaderReason, HeaderDetail, HeaderDeadAt, HeaderReplays, HeaderTruncated:
		return true
	}
	return false
}

// Filter selects dead letters by what their headers say. Its zero value selects all.
type Filter struct {
	Account      string
	Subscription string
	Event        string
	Group        string // the consumer group that gave up on them
	Reasons      []string
	Statuses     []int
	Since, Until time.Time // of death; Until is exclusive
	Partitions   []int
	Offsets      *Range
	IDs          []string // webhook-ids, or partition/offset of the dead letter
	// Identities are, by partition/offset, those of the dead letters that are meant; nil: whichever lie there.
	Identities map[string]string
}

// Identity tells a dead letter from another that lies in its place since the topic was made again, or in another cluster.
func (d *DeadLetter) Identity() string { return d.ID + " " + d.Origin + " " + UnixMilli(d.DeadAt) }

// Matcher says which dead letters are selected: a file of exported dead letters may hold a million ids.
func (f *Filter) Matcher() func(*DeadLetter) bool {
	ids := make(map[string]bool, len(f.IDs))
	for _, id := range f.IDs {
		ids[id] = true
	}
	return func(d *DeadLetter) bool {
		return (f.Account == "" || d.Account == f.Account) &&
			(f.Subscription == "" || d.Subscription == f.Subscription) &&
			(f.Event == "" || d.Event == f.Event) &&
			(f.Group == "" || d.Group == f.Group) &&
			(len(f.Reasons) == 0 || slices.Contains(f.Reasons, d.Reason)) &&
			(len(f.Statuses) == 0 || slices.Contains(f.Statuses, d.Status)) &&
			(f.Since.IsZero() || !d.DeadAt.Before(f.Since)) &&
			(f.Until.IsZero() || d.DeadAt.Before(f.Until)) &&
			(f.Offsets == nil || d.Offset >= f.Offsets.From && d.Offset < f.Offsets.To) &&
			(len(ids) == 0 || ids[d.ID] || ids[d.Position()]) &&
			(f.Identities == nil || f.Identities[d.Position()] == d.Identity())
	}
}

// Usable says whether the dead letter makes a delivery: whether DecodeDelivery takes the record that a replay makes of it. What
// that refused would come back as a malformed record, which cannot be replayed.
func (d *DeadLetter) Usable() bool {
	_, named := event.BuiltIn().ParseAny(d.Event) // whoever takes it up says whether it is known
	_, err := ParseOrigin(d.Origin)
	return err == nil && len(d.Origin) <= maxHeaderBytes && named && webhook.ValidID(d.ID) && event.ValidAccount(d.Account) &&
		event.ValidSubscription(d.Subscription) && len(d.Value) > 0 && utf8.Valid(d.Value)
}

// Delivery is the delivery that the dead letter, which must be Usable, tells of, in memory of its own.
func (d *DeadLetter) Delivery() dispatcher.Delivery {
	event, _ := event.BuiltIn().ParseAny(d.Event)
	origin, _ := ParseOrigin(d.Origin)
	return dispatcher.Delivery{
		ID: d.ID, Account: d.Account, Subscription: d.Subscription, Event: event, Body: slices.Clone(d.Value), Origin: origin,
		TraceParent: d.Trace, TraceState: d.TraceState, DeadLetter: d.Position(), Replays: min(d.Replays, math.MaxInt32-1),
	}
}

// ReplayRecord is the record of the replay topic by which the group sends the dead letter, which must be Usable, out again. The delivery begins again,
// with its original webhook-id and origin (docs/contract.md#replayed-deliveries).
func (d *DeadLetter) ReplayRecord(group, name string, now time.Time) kafka.Record {
	event, _ := event.BuiltIn().ParseAny(d.Event)
	origin, _ := ParseOrigin(d.Origin)
	reason, _ := dispatcher.ParseReason(d.Reason)
	again := dispatcher.Delivery{
		ID: d.ID, Account: d.Account, Subscription: d.Subscription, Event: event, Body: slices.Clone(d.Value), FirstSeen: now, Origin: origin,
		TraceParent: d.Trace, TraceState: d.TraceState, Replay: name, DeadLetter: d.Position(), Replays: min(d.Replays, math.MaxInt32-1) + 1,
	}
	return ReplayRecord(group, &again, &dispatcher.Outcome{Reason: reason, Status: d.Status, Detail: Clip(d.Detail, MaxDetail)}, now)
}

// ReplayRecord is the record of the replay topic by which the group sends a delivery, which names its replay. out is what is known of the last
// attempt.
func ReplayRecord(group string, d *dispatcher.Delivery, out *dispatcher.Outcome, now time.Time) kafka.Record {
	return kafka.Record{Time: now, Key: kafka.NewBytes(RecordKey(d)), Value: kafka.NewBytes(d.Body), Headers: DeliveryHeaders(group, d, out, now)}
}
