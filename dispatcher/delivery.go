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

// The stages of section 8 of the design.
const (
	StageFirst  Stage = iota // planned from a source record
	StageRetry               // read from a retry topic
	StageReplay              // read from the replay topic
	stages
)

// String is the stage's metric label.
func (s Stage) String() string {
	return [stages]string{"first", "retry", "replay"}[s]
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

	Stage      Stage
	AppendedAt time.Time // when the record it was read from was appended to Kafka
	Last       Last      // what the last attempt or decision led to, for the headers of the next record

	Settler Settler // whoever submitted it

	claimed uint32                      //nolint:modernize // atomic; a plain word, so that a delivery may be copied before it is submitted
	sub     *subscriptions.Subscription // as Plan matched it; nil: look it up
	next    *Delivery                   // in its lane's queue
	queued  time.Time                   // when it entered it
}

// trace is what the delivery's producer said.
func (d *Delivery) trace() Trace { return Trace{d.TraceParent, d.TraceState} }

// Claim takes the right to settle the delivery; it is given once. The submitter claims a delivery that it gives up on,
// or settles; a claimed one that still waits is not attempted any more.
func (d *Delivery) Claim() bool { return atomic.CompareAndSwapUint32(&d.claimed, 0, 1) }

// Claimed says whether the delivery has been settled, or given up on.
func (d *Delivery) Claimed() bool { return atomic.LoadUint32(&d.claimed) == 1 }

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
