package event

// Name is an event name: what a subscription selects. The zero Name is no event.
type Name uint8

// The eight event names of the product page (spec/events-webhook.txt).
const (
	EmailOpen Name = iota + 1
	EmailClick
	EmailFailed
	SMSFailed
	CallFailed
	PushFailed
	WebPushFailed
	InAppWebFailed
	names // one more than the last
)

// row is a line of the table in DESIGN.md section 2.
type row struct {
	name, channel, rawType, payloadType, description string
}

//nolint:gochecknoglobals // a constant table
var table = [names]row{
	EmailOpen:      {"EMAIL_OPEN", "EMAIL", "OPEN", "OPEN", "Triggered when a recipient opens an email notification"},
	EmailClick:     {"EMAIL_CLICK", "EMAIL", "CLICK", "CLICK", "Triggered when a recipient clicks a link in an email notification"},
	EmailFailed:    {"EMAIL_FAILED", "EMAIL", "FAILED", "EMAIL_FAILED", "Triggered when an email notification fails to deliver"},
	SMSFailed:      {"SMS_FAILED", "SMS", "FAILED", "SMS_FAILED", "Triggered when an SMS notification fails to deliver"},
	CallFailed:     {"CALL_FAILED", "CALL", "FAILED", "CALL_FAILED", "Triggered when a call notification fails"},
	PushFailed:     {"PUSH_FAILED", "PUSH", "FAILED", "PUSH_FAILED", "Triggered when a mobile push notification fails to deliver"},
	WebPushFailed:  {"WEB_PUSH_FAILED", "WEB_PUSH", "FAILED", "WEB_PUSH_FAILED", "Triggered when a web push notification fails to deliver"},
	InAppWebFailed: {"INAPP_WEB_FAILED", "INAPP_WEB", "FAILED", "INAPP_WEB_FAILED", "Triggered when an in-app web notification fails to deliver"},
}

// row is the name's line; a blank one for what is no event name.
func (n Name) row() *row {
	if n >= names {
		n = 0
	}
	return &table[n]
}

// String is the name as subscriptions and records spell it: EMAIL_OPEN. It is empty for what is no event name.
func (n Name) String() string { return n.row().name }

// Channel is the event's channel, in the raw event as in the payload: EMAIL.
func (n Name) Channel() string { return n.row().channel }

// RawType is the raw event's type: OPEN, CLICK or FAILED.
func (n Name) RawType() string { return n.row().rawType }

// PayloadType is the payload's eventType: OPEN, CLICK, EMAIL_FAILED.
func (n Name) PayloadType() string { return n.row().payloadType }

// Description is the product page's sentence about the event.
func (n Name) Description() string { return n.row().description }

// ParseName is the inverse of String. It minds the case: a subscription is written by a program.
func ParseName(s string) (Name, bool) {
	for n := EmailOpen; n < names; n++ {
		if table[n].name == s {
			return n, true
		}
	}
	return 0, false
}

// Names are the eight event names in the product page's order. The slice is the caller's.
func Names() []Name { return AllNames.Names() }

// Lookup finds the event name of a raw channel and type, without regard to ASCII case. The name is zero where the
// table has no row; known says whether the channel is one of the six at all.
func Lookup(channel, rawType string) (name Name, known bool) {
	for n := EmailOpen; n < names; n++ {
		if !equalFold(table[n].channel, channel) {
			continue
		}
		if equalFold(table[n].rawType, rawType) {
			return n, true
		}
		known = true
	}
	return 0, known
}

// equalFold is strings.EqualFold for ASCII letters alone: "ſms" is no channel.
func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
