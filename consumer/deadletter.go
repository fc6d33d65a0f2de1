package consumer

import (
	"slices"
	"strconv"
	"time"

	"fanout/dispatcher"
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
	Origin       string            `json:"origin"`
	Replays      int               `json:"replays"`
	Replay       string            `json:"replay,omitempty"`     // the replay whose delivery this was
	From         string            `json:"deadLetter,omitempty"` // and the dead letter that it had sent
	Trace        string            `json:"traceparent,omitempty"`
	Key          []byte            `json:"key,omitempty"`
	Value        []byte            `json:"value,omitempty"`
	Headers      map[string][]byte `json:"headers,omitempty"`   // of a malformed record, its own
	Truncated    bool              `json:"truncated,omitempty"` // the broker refused the whole value as too large

	traceState string
}

// Malformed says that it is an undecodable record rather than a delivery.
func (d *DeadLetter) Malformed() bool { return d.Reason == dispatcher.MalformedEvent.String() }

// Position is partition/offset.
func (d *DeadLetter) Position() string {
	return strconv.Itoa(d.Partition) + "/" + strconv.FormatInt(d.Offset, 10)
}

// readDeadLetter reads the headers, in one pass. It takes what it can: anybody may write to the topic.
func readDeadLetter(m *Message, d *DeadLetter) {
	*d = DeadLetter{Partition: m.Partition, Offset: m.Offset, DeadAt: m.Time, Key: m.Key, Value: m.Value}
	for i := range m.Headers {
		h := &m.Headers[i]
		switch v := h.Value; h.Key {
		case headerWebhookID:
			d.ID = string(v)
		case headerAccount:
			d.Account = string(v)
		case headerSubscription:
			d.Subscription = string(v)
		case headerEvent:
			d.Event = string(v)
		case headerAttempts:
			d.Attempts = orZero(decodeCount(string(v)))
		case headerFirstSeen:
			if t, err := decodeTime(string(v)); err == nil {
				d.FirstSeen = &t
			}
		case headerOrigin:
			d.Origin = string(v)
		case headerReason:
			d.Reason = reasonText(v)
		case headerDetail:
			d.Detail = string(v)
		case headerStatus:
			d.Status = orZero(decodeStatus(string(v)))
		case headerDeadAt:
			if t, err := decodeTime(string(v)); err == nil {
				d.DeadAt = t
			}
		case headerTruncated:
			d.Truncated = true
		case headerReplays:
			d.Replays = orZero(decodeCount(string(v)))
		case headerReplay:
			d.Replay = string(v)
		case headerDeadLetter:
			d.From = string(v)
		case headerTraceParent:
			d.Trace = traceValue(string(v))
		case headerTraceState:
			d.traceState = traceValue(string(v))
		}
	}
	if d.Malformed() {
		// What its producer wrote under our names is no identity: it must not show up among an account's dead letters.
		d.ID, d.Account, d.Subscription, d.Event = "", "", "", ""
		d.Headers = make(map[string][]byte)
		for _, h := range m.Headers {
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

// ourHeader says whether burying added the header to a malformed record.
func ourHeader(key string) bool {
	switch key {
	case headerOrigin, headerReason, headerDetail, headerDeadAt, headerReplays, headerTruncated:
		return true
	}
	return false
}

// Filter selects dead letters by what their headers say. Its zero value selects all.
type Filter struct {
	Account      string
	Subscription string
	Event        string
	Reasons      []string
	Statuses     []int
	Since, Until time.Time // of death; Until is exclusive
	Partitions   []int
	Offsets      *Range
	IDs          []string // webhook-ids, or partition/offset of the dead letter
	// Identities are, by partition/offset, those of the dead letters that are meant; nil: whichever lie there.
	Identities map[string]string
}

// Identity tells a dead letter from another that lies in its place since the topic was made anew, or in another cluster.
func (d *DeadLetter) Identity() string { return d.ID + " " + d.Origin + " " + unixMilli(d.DeadAt) }

// Match says whether the dead letter is selected.
func (f *Filter) Match(d *DeadLetter) bool { return f.matcher()(d) }

// matcher is Match for many: a file of exported dead letters may hold a million ids.
func (f *Filter) matcher() func(*DeadLetter) bool {
	ids := make(map[string]bool, len(f.IDs))
	for _, id := range f.IDs {
		ids[id] = true
	}
	return func(d *DeadLetter) bool {
		return (f.Account == "" || d.Account == f.Account) &&
			(f.Subscription == "" || d.Subscription == f.Subscription) &&
			(f.Event == "" || d.Event == f.Event) &&
			(len(f.Reasons) == 0 || slices.Contains(f.Reasons, d.Reason)) &&
			(len(f.Statuses) == 0 || slices.Contains(f.Statuses, d.Status)) &&
			(f.Since.IsZero() || !d.DeadAt.Before(f.Since)) &&
			(f.Until.IsZero() || d.DeadAt.Before(f.Until)) &&
			(f.Offsets == nil || d.Offset >= f.Offsets.From && d.Offset < f.Offsets.To) &&
			(len(ids) == 0 || ids[d.ID] || ids[d.Position()]) &&
			(f.Identities == nil || f.Identities[d.Position()] == d.Identity())
	}
}
