package dispatcher

import (
	"encoding/json"
	"time"

	"fanout/subscriptions"
	"fanout/webhook"
)

// A subscription may ask for several deliveries in one POST (docs/contract.md#batches). They wait in the lane's queue until
// a batch is due, and go out together: one request has one permit, one place in the lane and one token of the rate. Each of
// them is settled for itself.

// keepShrunk is for how long a 413 keeps the size of a lane's batches down.
const keepShrunk = time.Hour

// sizeCap is the size of a lane's batches that a 413 has left.
type sizeCap struct {
	most  int // deliveries
	until time.Time
}

// shrink notes that a batch of so many was too large. What is in force may be smaller.
func (s *sizeCap) shrink(n int, now time.Time) {
	half := max(1, n/2)
	if now.Before(s.until) {
		half = min(half, s.most)
	}
	*s = sizeCap{half, now.Add(keepShrunk)}
}

// batches says whether the lane's deliveries go out in batches.
func (l *lane) batches() bool { return l.req != nil && l.req.batch.Max > 0 }

// together is how many deliveries the lane sends in one request, where there are enough.
func (l *lane) together() int {
	if !l.batches() {
		return 1
	}
	if l.shrunk.most > 0 {
		return min(l.shrunk.most, l.req.batch.Max)
	}
	return l.req.batch.Max
}

// batchSize is how many deliveries the lane's next batch may have. A parked lane is probed with one.
func (l *lane) batchSize(now time.Time) int {
	switch {
	case !l.batches() || l.gate.breaker.state != breakerOpen:
		return 1
	case now.Before(l.shrunk.until):
		return min(l.shrunk.most, l.req.batch.Max)
	default:
		return l.req.batch.Max
	}
}

// mostTogether is how many deliveries a batch may have that the delivery is in.
func (c *DeliveryConfig) mostTogether(del *Delivery) int {
	switch {
	case del.alone, del.BatchRefused && del.Attempts >= len(c.Schedule): // its last attempt: it does not die with others
		return 1
	case del.BatchMax > 0:
		return del.BatchMax
	default:
		return subscriptions.MaxBatch
	}
}

// isStrange says whether the body of a delivery cannot be an element of an array with others: a stranger may have written it
// into a retry topic.
func isStrange(del *Delivery) bool {
	return del.Stage != StageFirst && (len(del.Body) == 0 || del.Body[0] != '{' || !json.Valid(del.Body))
}

// batchDue is when the lane, which is locked, sends its next batch: at once where it is full or, pressed, what has been read
// needs room, else when its oldest delivery has waited for long enough. Where it is due, its first delivery is next in the queue.
func (l *lane) batchDue(now time.Time, cfg *DeliveryConfig, pressed bool) (at time.Time) {
	q := &l.queue
	if first := q.head(); first == nil || first.Stage == stageTest {
		return now
	}
	size, waiting := l.batchSize(now), q.length-q.tests
	full := q.bytes+waiting*webhook.ElementOverhead >= cfg.MaxBatchBytes || pressed
	for _, kind := range [...]queueKind{q.turn, queueFirst, queueAgain} {
		del := q.waiting[kind].head
		if del == nil || kind == queueTest {
			continue
		}
		due := del.queued.Add(l.req.batch.Wait)
		if full || !due.After(now) || waiting >= min(size, cfg.mostTogether(del)) {
			q.turn = kind
			return now
		}
		if at.IsZero() || due.Before(at) {
			at = due
		}
	}
	if q.tests > 0 { // it does not wait for those that wait for others
		q.turn = queueTest
		return now
	}
	return at
}

// appendBatch appends the body of a batch.
func appendBatch(b []byte, members []*Delivery) []byte {
	b = append(b, '[')
	for i, del := range members {
		if i > 0 {
			b = append(b, ',')
		}
		b = webhook.AppendElement(b, del.ID, del.Body)
	}
	return append(b, ']')
}

// batchID is the webhook-id of a batch.
func batchID(members []*Delivery) string {
	ids := make([]string, len(members))
	for i, del := range members {
		ids[i] = del.ID
	}
	return webhook.BatchID(ids)
}
