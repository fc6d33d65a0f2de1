package event

import "unique"

// Name is an event name: what a subscription selects. It is comparable, and equal to another that a catalogue with the same row
// gives. The zero Name is not an event.
type Name struct {
	handle unique.Handle[row]
}

// row is a line of the table in docs/contract.md#event-names, or one that the configuration adds.
type row struct {
	name, channel, rawType, payloadType, description string

	bit uint8 // in a Set: the row's index in the catalogue
}

// unknownBit is the bit of names that the catalogue does not hold. No Set has it.
const unknownBit = 255

// The eight event names that are built in (docs/contract.md#event-names). What a subscription selects is kept by their order: a new one comes last.
//
//nolint:gochecknoglobals // a constant table
var (
	builtIn = new(Catalogue) // what the nil Catalogue holds: it is first, and each of the others adds itself

	EmailOpen      = builtIn.add("EMAIL_OPEN", "EMAIL", "OPEN", "OPEN", "Triggered when a recipient opens an email notification")
	EmailClick     = builtIn.add("EMAIL_CLICK", "EMAIL", "CLICK", "CLICK", "Triggered when a recipient clicks a link in an email notification")
	EmailFailed    = builtIn.add("EMAIL_FAILED", "EMAIL", "FAILED", "EMAIL_FAILED", "Triggered when an email notification fails to deliver")
	SMSFailed      = builtIn.add("SMS_FAILED", "SMS", "FAILED", "SMS_FAILED", "Triggered when an SMS notification fails to deliver")
	CallFailed     = builtIn.add("CALL_FAILED", "CALL", "FAILED", "CALL_FAILED", "Triggered when a call notification fails")
	PushFailed     = builtIn.add("PUSH_FAILED", "PUSH", "FAILED", "PUSH_FAILED", "Triggered when a mobile push notification fails to deliver")
	WebPushFailed  = builtIn.add("WEB_PUSH_FAILED", "WEB_PUSH", "FAILED", "WEB_PUSH_FAILED", "Triggered when a web push notification fails to deliver")
	InAppWebFailed = builtIn.add("INAPP_WEB_FAILED", "INAPP_WEB", "FAILED", "INAPP_WEB_FAILED", "Triggered when an in-app web notification fails to deliver")
)

// row is the name's line; a blank one for what is not an event name.
func (n Name) row() row {
	if n == (Name{}) {
		return row{bit: unknownBit}
	}
	return n.handle.Value()
}

// String is the name as subscriptions and records spell it: EMAIL_OPEN. It is empty for what is not an event name.
func (n Name) String() string { return n.row().name }

// Channel is the event's channel, in the raw event as in the payload: EMAIL.
func (n Name) Channel() string { return n.row().channel }

// RawType is the raw event's type: OPEN, CLICK or FAILED.
func (n Name) RawType() string { return n.row().rawType }

// PayloadType is the payload's eventType: OPEN, CLICK, EMAIL_FAILED.
func (n Name) PayloadType() string { return n.row().payloadType }

// Description is the product page's sentence about the event, or the configuration's.
func (n Name) Description() string { return n.row().description }

// Known is false for the zero Name, and for one that [Catalogue.ParseAny] took though the catalogue does not hold it.
func (n Name) Known() bool { return n.row().bit != unknownBit }

// equalFold is strings.EqualFold for ASCII letters alone: "ſms" is not a channel.
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
