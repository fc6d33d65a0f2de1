package dispatcher

import "time"

// queue is what waits in a lane. First attempts, what was planned before (retries and replays) and test events wait
// beside one another, each first in, first out, and take turns: none of them waits for the backlog of another.
type queue struct {
	waiting [queueKinds]fifo
	turn    queueKind // whose turn is next
	length  int
	tests   int // of length
	bytes   int // of bodies
}

type queueKind uint8

const (
	queueFirst queueKind = iota
	queueAgain
	queueTest
	queueKinds
)

func kindOf(d *Delivery) queueKind {
	switch d.Stage {
	case StageFirst:
		return queueFirst
	case stageTest:
		return queueTest
	default:
		return queueAgain
	}
}

// fifo is a list of deliveries, linked through them.
type fifo struct{ head, tail *Delivery }

// head is the delivery whose turn is next; nil where nothing waits.
func (q *queue) head() *Delivery {
	for range queueKinds {
		if d := q.waiting[q.turn].head; d != nil {
			return d
		}
		q.turn = (q.turn + 1) % queueKinds
	}
	return nil
}

// pop removes head, which there must be.
func (q *queue) pop() *Delivery {
	d := q.head()
	f := &q.waiting[q.turn]
	if f.head = d.next; f.head == nil {
		f.tail = nil
	}
	d.next = nil
	if q.turn == queueTest {
		q.tests--
	}
	q.turn = (q.turn + 1) % queueKinds
	q.length--
	q.bytes -= len(d.Body)
	return d
}

// take removes the next delivery, other than a test event, for which fits is true; nil where there is none.
func (q *queue) take(fits func(*Delivery) bool) *Delivery {
	for range queueKinds {
		if d := q.waiting[q.turn].head; d != nil && q.turn != queueTest && fits(d) {
			return q.pop()
		}
		q.turn = (q.turn + 1) % queueKinds
	}
	return nil
}

// push adds a delivery that begins to wait at the time now.
func (q *queue) push(d *Delivery, now time.Time) {
	f := q.count(d, now)
	d.next = nil
	if f.tail == nil {
		f.head = d
	} else {
		f.tail.next = d
	}
	f.tail = d
}

// pushFront adds a delivery that has waited before, and comes first again.
func (q *queue) pushFront(d *Delivery, now time.Time) {
	f := q.count(d, now)
	if d.next = f.head; f.tail == nil {
		f.tail = d
	}
	f.head = d
}

// count notes that a delivery begins to wait, and returns the list that it belongs to.
func (q *queue) count(d *Delivery, now time.Time) *fifo {
	d.queued = now
	kind := kindOf(d)
	if kind == queueTest {
		q.tests++
	}
	q.length++
	q.bytes += len(d.Body)
	return &q.waiting[kind]
}

// oldest is since when the one waits that has waited longest; zero where nothing waits.
func (q *queue) oldest() (at time.Time) {
	for i := range q.waiting {
		if d := q.waiting[i].head; d != nil && (at.IsZero() || d.queued.Before(at)) {
			at = d.queued
		}
	}
	return at
}
