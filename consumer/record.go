package consumer

import (
	"sync/atomic"
	"time"

	"fanout/dispatcher"
)

// record is a record that was read and is not settled: the settler of its deliveries.
type record struct {
	entry      *entry
	p          *partition
	size       int64
	time       time.Time
	pending    atomic.Int32 // deliveries and writes that are not done, and one for the reader until it has planned all
	deliveries []dispatcher.Delivery
	one        [1]dispatcher.Delivery // backs deliveries: most records have one
}

// deliveryBytes is about what one delivery costs while it waits.
const deliveryBytes = 512

// size is about what a message costs while its record is not settled.
func (m *message) size() int64 {
	n := len(m.value) + len(m.key) + deliveryBytes
	if m.unframed != nil {
		n += len(m.unframed.json)
	}
	for i := range m.headers {
		n += len(m.headers[i].Key) + len(m.headers[i].Value)
	}
	return int64(n)
}

// take takes the record's room in the windows; done gives it back.
func (r *record) take() {
	r.p.c.window.take(r.size)
	if r.p.stage == dispatcher.StageReplay {
		r.p.c.replays.take(r.size)
	}
}

// grow notes that the record costs more than was known. Only its reader may, before it has planned all.
func (r *record) grow(bytes int64) {
	r.size += bytes
	r.p.c.window.bytes.Add(bytes)
}

// hold adds to what must be done before the record is settled.
func (r *record) hold() { r.pending.Add(1) }

// done takes one off. The last one settles the record.
func (r *record) done() {
	if r.pending.Add(-1) == 0 {
		r.p.c.window.release(r.size)
		if r.p.stage == dispatcher.StageReplay {
			r.p.c.replays.release(r.size)
		}
		r.entry.record.Store(nil)
	}
}

// Settle implements dispatcher.Settler. A delivery that was given up on meanwhile is settled already: what its attempt
// led to makes no difference any more.
func (r *record) Settle(d *dispatcher.Delivery, out dispatcher.Outcome) {
	if d.Claim() {
		r.p.c.settle(r, d, out)
	}
}
