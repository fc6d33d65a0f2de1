package dispatcher

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// workers carry out what is admitted: a goroutine that makes an attempt holds a permit, and when the attempt has ended the permit
// goes to whoever is next, and the goroutine with it.
type workers struct {
	admitter admitter
	follower *follower
	reporter *laneReporter
	permits  *semaphore
	backlog  *backlog
	outcomes *outcomes
	sender   sender
	queued   sweepList // the lanes in which something waits

	attempts atomic.Uint64  // that have ended
	working  sync.WaitGroup // the goroutines; added to under a lane's lock or by Run, and never once stop waits
}

func (w *workers) start(r run) {
	w.working.Add(1)
	go w.work(r)
}

// work makes attempts, one after the other, for as long as there is one for its permit.
func (w *workers) work(r run) {
	defer w.working.Done()
	if r.req.target.TLS {
		growStack()
	}
	for r.del != nil {
		r = w.attempt(r)
	}
}

// growStack makes the stack of a new goroutine as large as TLS needs. It would become that anyway, but by being copied
// again and again from under all of crypto/tls, which was a fifteenth of a delivery's CPU over HTTPS (cmd/proof/bench).
//
//go:noinline
func growStack() {
	var stack [5 << 10]byte
	keepStack(&stack)
}

//go:noinline
func keepStack(*[5 << 10]byte) {}

// attempt makes an attempt, and returns the one that has its permit then. A delivery that was claimed since its lane let it go is
// passed over.
func (w *workers) attempt(r run) run {
	if r.members != nil {
		return w.attemptBatch(r)
	}
	begun := time.Now()
	var out Outcome
	deliveries := 0
	if r.del.begin() {
		if out = w.sender.attempt(r.req, r.del, begun); out.ours {
			return w.putBack(r, []*Delivery{r.del}, false)
		}
		deliveries = 1
	}
	next, to, over, keep := w.ended(r, &out, deliveries, begun)
	if keep {
		w.outcomes.recent.add(r.del, &out, begun.Add(out.Took))
	}
	if deliveries > 0 {
		w.outcomes.settle(r.del, &out)
	}
	return w.goOn(next, to, over)
}

// attemptBatch is attempt for several deliveries in one POST, or one in a batch of its own.
func (w *workers) attemptBatch(r run) run {
	begun := time.Now()
	r.members = slices.DeleteFunc(r.members, func(del *Delivery) bool { return !del.begin() })
	first, outs := new(Outcome), []Outcome(nil)
	if len(r.members) > 0 {
		var large bool
		if outs, large = w.sender.attemptBatch(r.req, r.members, begun); outs == nil {
			return w.putBack(r, r.members, large)
		}
		first = &outs[0]
	}
	next, to, over, keep := w.ended(r, first, len(outs), begun)
	if keep {
		w.outcomes.recent.add(r.members[0], first, time.Now())
	}
	for i := range outs {
		w.outcomes.settle(r.members[i], &outs[i])
	}
	return w.goOn(next, to, over)
}

// ended lets the lane learn what an attempt led to, which is the same for each of its deliveries, and go on. keep says whether it is
// kept for Recent. Of no deliveries, none was made.
func (w *workers) ended(r run, out *Outcome, deliveries int, begun time.Time) (next run, to *lane, over []settled, keep bool) {
	l, p, now := r.lane, usedPermit, begun.Add(out.Took)
	if deliveries > 0 {
		w.attempts.Add(1)
	}
	l.mu.Lock()
	l.inFlight--
	l.used = now
	switch {
	case r.del.Stage == stageTest:
	case deliveries == 0:
		l.gate.breaker.withoutAnswer(now) // if it was the probe, another one may go
	default:
		l.drain.ended(now, out.Took, deliveries)
		l.account.ended.Add(int64(deliveries) * w.backlog.parts(l.together()))
		if r.req == l.req { // else it tells of a configuration that is not in force any more
			l.learn(out, begun, now, &w.admitter.cfg.Lanes, w.reporter)
		}
		keep = out.Result != Delivered || l.sample(now)
	}
	if r.kept {
		w.permits.forTest.Store(false)
		p = noPermit
	}
	next, to = w.advance(l, nil, p, now, &over)
	l.mu.Unlock()
	return next, to, over, keep
}

// putBack lets the deliveries of an attempt wait again, in their order and before all others, and returns the attempt that has its
// permit then. It tells nothing of the receiver, but for a batch that was too large.
func (w *workers) putBack(r run, members []*Delivery, large bool) run {
	now := time.Now()
	l := r.lane
	l.mu.Lock()
	l.inFlight--
	l.used = now
	l.gate.breaker.withoutAnswer(now)
	if large && r.req == l.req {
		l.shrunk.shrink(len(members), now)
	}
	for _, del := range slices.Backward(members) {
		del.wait()
		since := now
		if large { // it is not the first time that it is its turn
			since = del.queued
		}
		l.queue.pushFront(del, since)
		w.waits(l, del, now)
	}
	next, to := w.proceed(l, nil, usedPermit, now)
	return w.goOn(next, to, nil)
}

// goOn settles what an attempt's lane has decided since, and returns the attempt that has its permit: next, or one of the lane
// that the permit has gone to.
func (w *workers) goOn(next run, to *lane, over []settled) run {
	w.outcomes.settleAll(over)
	if next.del == nil {
		next = w.serve(to)
	}
	return next
}

// stop breaks off all attempts and settles what waits. A lane's lock orders it with whoever submits or resumes: they either see
// that everything is halted, or what they queued or began is seen here.
func (w *workers) stop(lanes []*lane) {
	close(w.sender.stopping)
	w.sender.exchange.Close()
	for _, l := range lanes {
		w.resume(l)
	}
	w.working.Wait()
}
