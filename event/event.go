// Package event holds the noun that everything else shares: a raw channel event, decoded and validated.
//
// It promises that a record value is exactly one of three things: an [Event], ignored ([ErrIgnored]) or malformed
// ([*MalformedError]). It imports nothing of fanout's.
package event

import "time"

// Event is a raw event, decoded and validated (docs/contract.md#raw-events).
//
// Its strings may alias the record value they were decoded from: the value must not be changed while the event, or
// anything planned from it, lives.
type Event struct {
	Account        string // accountId: at most 256 bytes, no control characters
	Name           Name
	TrackingID     string
	NotificationID string
	UserID         string
	ID             string    // the producer's own event id; empty where it gave none
	OccurredAt     time.Time // zero where the producer gave none
	Extra          []Extra   // the payload's further keys that the record has a value for, in the payload's order
}
