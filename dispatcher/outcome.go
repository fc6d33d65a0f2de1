package dispatcher

import "time"

// Result says what became of a delivery, for now or for good. It is a metric label: a closed set.
type Result uint8

// The outcomes (docs/contract.md#outcomes-and-reasons).
const (
	Delivered Result = iota // 2xx
	Retry                   // an attempt failed; the next one comes at the schedule's next step
	Deferred                // no attempt was spent; it is due again later
	Dead                    // given up on, with its reason
	Discarded               // its subscription is gone, off, or no longer wants it
	Abandoned               // given up on a lost partition: another member reads the record again
	results
)

// ResultNames lists every outcome.
func ResultNames() (names []string) {
	for r := range results {
		names = append(names, r.String())
	}
	return names
}

// String is the outcome's metric label.
func (r Result) String() string {
	return [results]string{"delivered", "retry", "deferred", "dead", "discarded", "abandoned"}[r]
}

// Outcome is the result of an attempt, or of the decision not to attempt. It is plain data: the consumer settles it.
type Outcome struct {
	Result Result
	Reason Reason
	Status int    // HTTP status of the attempt; 0 where there was none
	Detail string // at most 512 bytes of readable text; names no secret and no internal address

	// NotBefore is, for Retry, the earliest time of the next attempt. For Deferred it is when the cause ends, as far as that
	// is known: the delivery may be attempted as soon as its lane lets it.
	NotBefore time.Time

	Attempted bool          // a POST was made, or tried
	Took      time.Duration // of the attempt
	Response  []byte        // at most 1 KiB of the response body, unless it was delivered; owned by the receiver

	Batch        string // the webhook-id of the batch that the delivery went out in; empty where it went out by itself
	BatchSize    int    // how many deliveries it had
	BatchMax     int    // as in Delivery, after the attempt
	BatchRefused bool   // the same

	hold   time.Duration // for how long the receiver asked the whole lane to wait
	cause  Reason        // what was wrong with the attempt, also where it was the last one; NoReason where it was answered well
	lookup uint64        // the look-up of DNS that failed, which other attempts may have waited for too; 0: none
	ours   bool          // what was wrong is a fault of our own: the attempt is not spent, and the delivery waits again
}
