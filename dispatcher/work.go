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
	working  sync.WaitGroup // the goroutines; added to under a lane's lock, and not while stopping
}

// run is an attempt that has begun: its lane has let the delivery go, and there is a permit for it.
type run struct {
	lane *lane
	req  *request
	del  *Delivery
	kept bool // the permit is the one that is kept for test events

	members []*Delivery // del and what goes out with it, where the lane sends batches
}

// permit says what whoever lets a lane advance holds for it.
type permit uint8

const (
	noPermit    permit = iota
	usedPermit         // that of an attempt which has ended: the lane may keep it if it is its turn again
	freshPermit        // one that the lane was just handed
)

// advance carries out what becomes of the deliveries of the lane, which is locked, one after the other, until it has none
// left or the next one waits. arriving comes after those that wait; nil: there is none.
//
// Where the caller holds a permit, the first attempt that begins has it and is returned; every other one begins in a
// goroutine of its own. Where none begins with it, the permit is passed on: to is the lane that has it then, and the caller
// has to let that advance; nil where nobody needs it.
//
// What is settled without an attempt is added to over. The caller settles it once the lane is unlocked.
func (w *workers) advance(l *lane, arriving *Delivery, p permit, now time.Time, over *[]settled) (begun run, to *lane) {
	if arriving != nil && (l.queue.length > 0 || l.batches() && arriving.Stage != stageTest) {
		l.queue.push(arriving, now)
		w.waits(l, arriving, now)
		arriving = nil
	}
	for {
		del, adm, sub := w.admitter.next(l, arriving, now)
		if del == nil {
			break
		}
		arrives, had, r := del == arriving, p, run{lane: l, req: l.req, del: del}
		if del.Stage == stageTest {
			r.req = asTest(del).req
		}
		if adm.kind == admitStart {
			var ok bool
			var next *lane
			if ok, r.kept, next = w.permitFor(l, del, p); !ok {
				adm = w.admitter.withoutPermit(l, del, arrives, now)
			}
			if next != nil {
				to = next
			}
			p = noPermit
		}
		if adm.kind == admitWait || adm.kind == admitForm {
			if arrives {
				l.queue.push(del, now)
				w.waits(l, del, now)
			}
			w.wakeAt(l, adm.until, now)
			break
		}
		if arrives {
			arriving = nil
		} else {
			w.backlog.remove(l, l.queue.pop(), now)
		}
		switch {
		case adm.kind == admitSettle:
			*over = append(*over, settled{del, w.admitter.outcome(l, sub, del, adm, now)})
			continue
		case adm.kind != admitStart: // dropped
			continue
		case r.req.batch.Max > 0:
			r.members = w.admitter.batch(l, del, now, over)
			r.del = r.members[0]
		}
		l.begin(r.del)
		if had == noPermit {
			w.start(r)
		} else {
			begun = r
		}
	}
	if p != noPermit {
		to = w.permits.release(l)
	}
	return begun, to
}

// permitFor gets a permit for the delivery, or keeps the one that there is. Where one has to be passed on, to is the lane that
// has it then. Without one, the lane waits for its turn.
func (w *workers) permitFor(l *lane, del *Delivery, p permit) (ok, kept bool, to *lane) {
	switch {
	case p == freshPermit:
		return true, false, nil
	case p == usedPermit:
		if to = w.permits.pass(l); to == l {
			return true, false, nil
		}
		return false, false, to
	case del.Stage == stageTest:
		kept, ok = w.permits.acquireForTest(l)
		return ok, kept, nil
	default:
		return w.permits.acquire(l), false, nil
	}
}

// waits notes that the queue of the lane, which is locked, has a delivery more.
func (w *workers) waits(l *lane, del *Delivery, now time.Time) {
	w.backlog.add(l, del, now)
	if !l.listed {
		l.listed = true
		w.queued.add(l)
	}
}

// wakeAt lets the lane, which is locked, go on at a time that no end of an attempt announces.
func (w *workers) wakeAt(l *lane, at, now time.Time) {
	if at.IsZero() || !l.wakeAt.IsZero() && !l.wakeAt.After(at) {
		return
	}
	l.wakeAt = at
	if l.timer != nil {
		l.timer.Reset(at.Sub(now))
		return
	}
	l.timer = time.AfterFunc(at.Sub(now), func() {
		l.mu.Lock()
		l.wakeAt = time.Time{}
		l.mu.Unlock()
		w.resume(l)
	})
}

// resume lets a lane go on that may not have to wait any longer.
func (w *workers) resume(l *lane) {
	now := time.Now()
	l.mu.Lock()
	w.follower.refreshShare(l, now)
	w.submit(l, nil, now)
}

// submit lets a lane, which is locked, go on with the delivery that arrives; nil: none does. It unlocks the lane.
func (w *workers) submit(l *lane, arriving *Delivery, now time.Time) {
	var over []settled
	w.advance(l, arriving, noPermit, now, &over)
	l.mu.Unlock()
	w.outcomes.settleAll(over)
}

// serve lets the lane, which was handed a permit, begin an attempt with it. Where it has none any more, the permit goes on to
// the next one, until there is an attempt or nobody needs the permit.
func (w *workers) serve(l *lane) (begun run) {
	for l != nil && begun.del == nil {
		now := time.Now()
		var over []settled
		handed := l
		handed.mu.Lock()
		begun, l = w.advance(handed, nil, freshPermit, now, &over)
		handed.mu.Unlock()
		w.outcomes.settleAll(over)
	}
	return begun
}

// wakeWaiters hands out the permits that have become free without anybody giving one back.
func (w *workers) wakeWaiters() {
	for l := w.permits.next(); l != nil; l = w.permits.next() {
		if r := w.serve(l); r.del != nil {
			w.start(r)
		}
	}
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
	var over []settled
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
	next, to := w.advance(l, nil, usedPermit, now, &over)
	l.mu.Unlock()
	return w.goOn(next, to, over)
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

// sweep lets each lane go on that has a queue: deliveries there may have grown too old, and a changed configuration or share of
// the rate announces itself to nobody.
func (w *workers) sweep(now time.Time) {
	lanes := w.queued.take()
	var over []settled
	left := lanes[:0]
	for _, l := range lanes {
		l.mu.Lock()
		w.follower.refreshShare(l, now)
		w.advance(l, nil, noPermit, now, &over)
		w.backlog.count(l, waiting{}, now) // its allowance follows its pace, which nobody else tells
		if l.listed = l.queue.length > 0; l.listed {
			left = append(left, l)
		}
		l.mu.Unlock()
		w.outcomes.settleAll(over)
		clear(over)
		over = over[:0]
	}
	clear(lanes[len(left):])
	w.queued.add(left...)
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
