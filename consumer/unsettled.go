package consumer

import (
	"sync/atomic"
	"time"

	"fanout/dispatcher"
	"fanout/topic"
)

// unsettledRecord is a record that was read and is not settled. It is the settler of its deliveries.
type unsettledRecord struct {
	entry      *entry      // nil: a portion of a large event
	large      *largeEvent // of an event that makes very many deliveries, and of each portion of it
	flow       *flow
	size       int64
	time       time.Time
	pending    atomic.Int32 // deliveries and writes that are not done, and one for the reader until it has planned all
	deliveries []dispatcher.Delivery
	one        [1]dispatcher.Delivery // backs deliveries: most records have one
}

// flow is shared by the records of one stage on their way from read to settled.
type flow struct {
	stage   dispatcher.Stage
	settler *settler
	budgets []*budget
}

// deliveryBytes is about what one delivery costs while it waits.
const deliveryBytes = 512

// recordBytes is about what a record costs while it is not settled.
func recordBytes(r *topic.Record) int64 {
	n := len(r.Value) + len(r.Key) + deliveryBytes
	for i := range r.Headers {
		n += len(r.Headers[i].Key) + len(r.Headers[i].Value)
	}
	return int64(n)
}

// newUnsettled begins to hold a record's part of the budgets; done gives it back.
func newUnsettled(e *entry, f *flow, size int64, at time.Time) *unsettledRecord {
	r := &unsettledRecord{entry: e, flow: f, size: size, time: at}
	r.pending.Store(1)
	for _, b := range f.budgets {
		b.take(size)
	}
	return r
}

// grow notes that the record costs more than was known. Only its reader may, before it has planned all.
func (r *unsettledRecord) grow(bytes int64) {
	r.size += bytes
	for _, b := range r.flow.budgets {
		b.grow(bytes)
	}
}

// hold adds to what must be done before the record is settled.
func (r *unsettledRecord) hold() { r.pending.Add(1) }

// done takes one off. The last one settles the record.
func (r *unsettledRecord) done() {
	if r.pending.Add(-1) > 0 {
		return
	}
	for _, b := range r.flow.budgets {
		b.release(r.size)
	}
	if r.entry == nil {
		r.large.settled(r)
		return
	}
	r.entry.record.Store(nil)
}

// Settle implements dispatcher.Settler. A delivery that was given up on meanwhile is settled already: what its attempt led to makes no
// difference any more.
func (r *unsettledRecord) Settle(d *dispatcher.Delivery, out dispatcher.Outcome) {
	if d.Claim() {
		r.flow.settler.settle(r, d, out)
	}
}

// settleAll settles the record's deliveries that are not settled yet.
func (r *unsettledRecord) settleAll(out dispatcher.Outcome) {
	for _, part := range r.parts() {
		for i := range part.deliveries {
			part.Settle(&part.deliveries[i], out)
		}
	}
}

// deferWaiting defers the record's deliveries of which no attempt is being made.
func (r *unsettledRecord) deferWaiting(now time.Time) {
	for _, part := range r.parts() {
		for i := range part.deliveries {
			if d := &part.deliveries[i]; d.ClaimWaiting() {
				r.flow.settler.settle(part, d, deferredByShutdown(now))
			}
		}
	}
}

// deferredByShutdown sends a delivery to the first tier, since its partition is given up.
func deferredByShutdown(now time.Time) dispatcher.Outcome {
	return dispatcher.Outcome{Result: dispatcher.Deferred, Reason: dispatcher.Shutdown, NotBefore: now}
}

// parts are the records that have the record's deliveries: itself, or the portions of a large event.
func (r *unsettledRecord) parts() []*unsettledRecord {
	if r.large != nil {
		return r.large.open()
	}
	return []*unsettledRecord{r}
}

// abandon gives up on the record: its partition is another member's, who reads it again.
func (r *unsettledRecord) abandon() {
	if r.large != nil {
		r.large.abandon()
	}
	r.settleAll(dispatcher.Outcome{Result: dispatcher.Abandoned})
}
