package dispatcher

import (
	"strconv"
	"sync/atomic"
	"time"

	"fanout/event"
	"fanout/subscriptions"
)

// Stage says where a delivery came from. It is a metric label: a closed set.
type Stage uint8

// The stages. Each is a label of the metrics (docs/contract.md#metrics).
const (
	StageFirst  Stage = iota // planned from a source record
	StageRetry               // read from a retry topic
	StageReplay              // read from the replay topic
	stages

	stageTest = stages // a test event: it is not read anywhere, and never settled by a consumer
)

// String is the stage's metric label.
func (s Stage) String() string {
	return [stages + 1]string{"first", "retry", "replay", "test"}[s]
}

// Origin is the source record a delivery was planned from. It stays the same for as long as the delivery lives.
type Origin struct {
	Topic     string
	Partition int
	Offset    int64
}

// String is the form of the fanout-origin header: topic/partition/offset.
func (o Origin) String() string {
	return o.Topic + "/" + strconv.Itoa(o.Partition) + "/" + strconv.FormatInt(o.Offset, 10)
}

// Delivery is one event for one subscription: everything a retry record carries. It names its subscription rather
// than holding its URL or secrets, so that a change takes effect on the next attempt.
//
// A Delivery belongs to the Dispatcher from Submit until its Settler is called with it.
type Delivery struct {
	ID           string // webhook-id, the same for ever
	Account      string
	Subscription string
	Event        event.Name
	Body         []byte // the request body, byte for byte; shared by the deliveries of one event, never written to

	Attempts  int       // POSTs made so far
	NotBefore time.Time // zero: at once
	FirstSeen time.Time // when fanout first planned it; max_age counts from here
	Origin    Origin

	TraceParent string // of the source record; see Trace
	TraceState  string

	Replay     string // the name of the replay that sent it out again; empty otherwise
	DeadLetter string // partition/offset of the dead letter it was replayed from
	Replays    int    // how often it has been replayed

	BatchMax     int  // what the batch of its next attempt may not exceed; 0: the subscription's
	BatchRefused bool // its last answer was a 4xx that halves, in a batch
	Uncertain    bool // too old, and read again since its topic's offsets were lost: it may have been delivered

	Stage      Stage
	Tier       time.Duration // the delay of the retry tier it was read from; 0: of none
	AppendedAt time.Time     // when the record it was read from was appended to Kafka
	Last       Last          // what the last attempt or decision led to, for the headers of the next record

	Settler Settler // whoever submitted it

	state  uint32                      // atomic, one of those below; a plain word, so that a delivery may be copied before it is submitted
	sub    *subscriptions.Subscription // as Plan matched it; nil: look it up
	parts  int64                       // what it counts for what waits; see backlog
	alone  bool                        // it cannot be in a batch with others; see isStrange
	next   *Delivery                   // in its lane's queue
	queued time.Time                   // when it entered that
}

// trace is what the delivery's producer said.
func (d *Delivery) trace() Trace { return Trace{d.TraceParent, d.TraceState} }

// States of a delivery. Once claimed it stays so.
const (
	deliveryWaits uint32 = iota
	deliveryBegun        // an attempt is being made
	deliveryClaimed
)

// Claim takes the right to settle the delivery; it is given once. The submitter claims a delivery that it gives up on,
// or settles; a claimed one that still waits is not attempted any more.
func (d *Delivery) Claim() bool {
	return d.ClaimWaiting() || atomic.CompareAndSwapUint32(&d.state, deliveryBegun, deliveryClaimed)
}

// ClaimWaiting is Claim for a delivery of which no attempt is being made: none is made any more.
func (d *Delivery) ClaimWaiting() bool {
	return atomic.CompareAndSwapUint32(&d.state, deliveryWaits, deliveryClaimed)
}

// begin notes that an attempt is being made; false where the delivery has been claimed.
func (d *Delivery) begin() bool {
	return atomic.CompareAndSwapUint32(&d.state, deliveryWaits, deliveryBegun)
}

// wait notes that the attempt has ended and another one is to be made.
func (d *Delivery) wait() { atomic.CompareAndSwapUint32(&d.state, deliveryBegun, deliveryWaits) }

// Claimed says whether the delivery has been settled, or given up on.
func (d *Delivery) Claimed() bool { return atomic.LoadUint32(&d.state) == deliveryClaimed }

// Last is what is known of the attempt or decision before: fanout-reason, fanout-detail, fanout-status.
type Last struct {
	Reason Reason
	Detail string
	Status int
}

// Settler takes a delivery's outcome. The Dispatcher calls Settle exactly once for each submitted delivery, from any
// goroutine. Settle must not block and must not panic; when it returns the Dispatcher has forgotten the delivery.
type Settler interface {
	Settle(del *Delivery, out Outcome)
}
