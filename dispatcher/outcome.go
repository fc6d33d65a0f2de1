package dispatcher

import "time"

// Result is what became of a delivery, for now or for good. It is a metric label: a closed set.
type Result uint8

// The outcomes of section 8 of the design.
const (
	Delivered Result = iota // 2xx
	Retry                   // an attempt failed; the next one comes at the schedule's next step
	Deferred                // no attempt was spent; it comes up again later
	Dead                    // given up on, with its reason
	Discarded               // its subscription is gone, off, or no longer wants it
	Abandoned               // given up on a lost partition: another member reads the record again
	results
)

// String is the outcome's metric label.
func (r Result) String() string {
	return [results]string{"delivered", "retry", "deferred", "dead", "discarded", "abandoned"}[r]
}

// Reason says why. The lists are closed (DESIGN.md section 4).
type Reason uint8

// The reasons. NoReason belongs to Delivered and Abandoned.
const (
	NoReason Reason = iota

	// Dead.
	MalformedEvent
	AttemptsExhausted
	Expired
	Gone
	PermanentStatus
	BlockedDestination
	InvalidSubscription

	// Retry.
	StatusFailed
	Timeout
	DNS
	Connect
	TLS
	Connection

	// Deferred.
	QueueFull
	Parked
	Paused
	Rate
	RetryAfter
	Shutdown

	// Discarded.
	Deleted
	Disabled
	Deselected

	reasons
)

func reasonNames() *[reasons]string {
	return &reasonTable
}

//nolint:gochecknoglobals // a constant table
var reasonTable = [reasons]string{
	"", "malformed_event", "attempts_exhausted", "expired", "gone", "permanent_status", "blocked_destination", "invalid_subscription",
	"status", "timeout", "dns", "connect", "tls", "connection",
	"queue", "parked", "paused", "rate", "retry_after", "shutdown",
	"deleted", "disabled", "deselected",
}

// String is the reason as headers and metric labels carry it; empty for NoReason.
func (r Reason) String() string { return reasonNames()[r] }

// ParseReason is the inverse of String; unknown text is NoReason and false.
func ParseReason(s string) (Reason, bool) {
	for i, name := range reasonNames() {
		if name == s && s != "" {
			return Reason(i), true
		}
	}
	return NoReason, false
}

// Outcome is what an attempt, or the decision not to attempt, led to. It is plain data: the consumer settles it.
type Outcome struct {
	Result Result
	Reason Reason
	Status int    // HTTP status of the attempt; 0 where there was none
	Detail string // at most 512 bytes of readable text; names no secret and no internal address

	// For Retry and Deferred: the earliest time of the next attempt.
	NotBefore time.Time
	// LaneWait says that NotBefore is the lane's wait (parked, paused, queue), which goes to the shortest tier that covers it,
	// rather than the delivery's own, which goes to the longest tier that is not longer.
	LaneWait bool

	Attempted bool          // a POST was made, or tried
	Took      time.Duration // of the attempt
	Response  []byte        // at most 1 KiB of the response body, unless it was delivered; owned by the receiver

	retryAfter time.Duration // what the receiver asked the lane to wait
	cause      Reason        // what was wrong with the attempt, also where it was the last one; NoReason where it was answered well
}
