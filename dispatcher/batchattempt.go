package dispatcher

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"time"

	"fanout/dispatcher/post"
)

// attemptBatch is attempt for several deliveries in one POST, or one in a batch of its own.
func (d *Dispatcher) attemptBatch(r run) run {
	begun := time.Now()
	r.members = slices.DeleteFunc(r.members, func(del *Delivery) bool { return !del.begin() })
	var outs []Outcome
	made := len(r.members) > 0
	if made {
		var putBack putBackReason
		if outs, putBack = d.sender.attemptBatch(r.req, r.members, begun); putBack != staysOut {
			return d.putBatchBack(r, putBack)
		}
		d.attempts.Add(1)
	}
	next, to, over, keep := d.batchEnded(r, outs, begun)
	if keep {
		d.outcomes.recent.add(r.members[0], &outs[0], time.Now())
	}
	for i := range outs {
		d.outcomes.settle(r.members[i], &outs[i])
	}
	d.outcomes.settleAll(over)
	if next.del == nil {
		next = d.serve(to)
	}
	return next
}

// batchEnded lets the lane learn what a batch led to, which is the same for each of its deliveries, and go on. keep says
// whether it is kept for Recent.
func (d *Dispatcher) batchEnded(r run, outs []Outcome, begun time.Time) (next run, to *lane, over []settled, keep bool) {
	l, p, now := r.lane, usedPermit, begun
	if len(outs) > 0 {
		now = begun.Add(outs[0].Took)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inFlight--
	l.used = now
	switch {
	case r.del.Stage == stageTest:
	case len(outs) == 0:
		l.gate.breaker.withoutAnswer(now) // if it was the probe, another one may go
	default:
		d.ended(l, now, outs[0].Took, len(outs))
		if r.req == l.req { // else it tells of a configuration that is not in force any more
			d.learn(l, &outs[0], begun, now)
		}
		keep = outs[0].Result != Delivered || l.sample(now)
	}
	if r.kept {
		d.permits.forTest.Store(false)
		p = noPermit
	}
	next, to = d.advance(l, nil, p, now, &over)
	return next, to, over, keep
}

// putBackReason is why the deliveries of a batch wait again, no attempt being spent.
type putBackReason uint8

const (
	staysOut   putBackReason = iota // they do not
	faultOurs                       // it failed because of a fault of our own
	batchLarge                      // 413, and a smaller one may be taken
)

// putBatchBack lets the deliveries of a batch wait again, in their order and before all others, and returns the attempt that
// has its permit then.
func (d *Dispatcher) putBatchBack(r run, why putBackReason) run {
	now := time.Now()
	l := r.lane
	var over []settled
	l.mu.Lock()
	l.inFlight--
	l.used = now
	l.gate.breaker.withoutAnswer(now)
	if why == batchLarge && r.req == l.req {
		l.shrunk.shrink(len(r.members), now)
	}
	for _, del := range slices.Backward(r.members) {
		del.wait()
		since := now
		if why == batchLarge { // it is not the first time that it is its turn
			since = del.queued
		}
		l.queue.pushFront(del, since)
		d.waits(l, del, now)
	}
	next, to := d.advance(l, nil, usedPermit, now, &over)
	l.mu.Unlock()
	d.outcomes.settleAll(over)
	if next.del == nil {
		next = d.serve(to)
	}
	return next
}

// maxKeptBody bounds the memory of a body that is used again.
const maxKeptBody = 256 << 10

// attemptBatch makes one POST with several deliveries, begun at the time begun, and says what it led to for each of them, or
// why they have to wait again.
func (s *sender) attemptBatch(req *request, members []*Delivery, begun time.Time) ([]Outcome, putBackReason) {
	first := members[0]
	x, _ := bufferPool.Get().(*buffers)
	defer bufferPool.Put(x)
	if cap(x.body) > maxKeptBody {
		x.body = nil
	}
	x.body = appendBatch(x.body[:0], members)
	id := batchID(members)
	trace, end := Trace{}, func(Outcome) {}
	if s.tracer != nil {
		trace, end = s.tracer.Batch(members, id, req.target.Host, req.target.Port, begun)
	}
	x.head = req.appendHead(x.head[:0], id, x.body, trace, begun.Unix())
	x.resp.Status, x.resp.RetryAfter = 0, ""
	deadline := begun.Add(s.cfg.Timeout)
	if first.Stage == stageTest {
		deadline = asTest(first).begin(x.head, x.body, deadline)
	}
	err := s.exchange.Do(&req.target, x.head, x.body, deadline, &x.resp)
	took := time.Since(begun)
	s.seconds.Observe(took.Seconds())
	s.sizes.Observe(float64(len(members)))
	outs := s.batchOutcomes(members, id, err, &x.resp, begun, took)
	if s.isOurs(&req.target, first, begun, err, &x.resp) {
		end(Outcome{Result: Deferred, Reason: Network, Detail: outs[0].Detail, ours: true})
		return nil, faultOurs
	}
	end(outs[0])
	if err == nil && len(members) > 1 && tooLarge(x.resp.Status) {
		return nil, batchLarge
	}
	return outs, staysOut
}

// batchOutcomes is what an answer means for each delivery of a batch.
func (s *sender) batchOutcomes(members []*Delivery, id string, err error, resp *post.Response, begun time.Time, took time.Duration) []Outcome {
	outs := make([]Outcome, len(members))
	var response []byte // the same for all
	note := ""
	if len(members) > 1 {
		note = " (one of " + strconv.Itoa(len(members)) + " in " + id + ")"
	}
	for i, del := range members {
		out := &outs[i]
		*out = verdictInBatch(s.cfg, del, len(members), err, resp, begun.Add(took))
		out.Took, out.Batch, out.BatchSize = took, id, len(members)
		if out.Attempted = !canceled(err) && out.Reason != BlockedDestination; !out.Attempted {
			out.Batch, out.BatchSize = "", 0
			continue
		}
		if out.Result != Delivered {
			out.Detail = strings.TrimSpace(strings.ToValidUTF8(out.Detail[:min(len(out.Detail), maxDetail-len(note))], "") + note)
		}
		if out.Result != Delivered || del.Stage == stageTest {
			if response == nil {
				response = bytes.Clone(resp.Body)
			}
			out.Response = response
		}
	}
	return outs
}
