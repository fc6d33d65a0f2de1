package dispatcher

import (
	"time"

	"fanout/subscriptions"
)

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
func (d *Dispatcher) advance(l *lane, arriving *Delivery, p permit, now time.Time, over *[]settled) (begun run, to *lane) {
	if arriving != nil && (l.queue.length > 0 || l.batches() && arriving.Stage != stageTest) {
		d.enqueue(l, arriving, now)
		arriving = nil
	}
	for {
		due := now
		if l.batches() {
			due = d.batchDue(l, now)
		}
		del, arrives := l.queue.head(), false
		if del == nil {
			if del, arrives = arriving, true; del == nil {
				break
			}
		}
		adm, sub := d.admit(l, del, arrives, now)
		if adm.kind == admitStart && due.After(now) {
			adm = admission{kind: admitForm, until: due}
		}
		had, r := p, run{lane: l, req: l.req, del: del}
		if del.Stage == stageTest {
			r.req = asTest(del).req
		}
		if adm.kind == admitStart {
			var ok bool
			var next *lane
			if ok, r.kept, next = d.permitFor(l, del, p); !ok {
				adm = d.withoutPermit(l, del, arrives, now)
			}
			if p == usedPermit && !ok {
				to = next
			}
			p = noPermit
		}
		if adm.kind == admitWait || adm.kind == admitForm {
			if arrives {
				d.enqueue(l, del, now)
			}
			d.wakeAt(l, adm.until, now)
			break
		}
		if arrives {
			arriving = nil
		} else {
			d.dequeue(l, now)
		}
		if adm.kind == admitStart && r.req.batch.Max > 0 {
			d.fill(l, &r, now, over)
		}
		switch {
		case adm.kind == admitSettle:
			*over = append(*over, settled{del, d.outcome(l, sub, del, adm, now)})
		case adm.kind != admitStart: // dropped
		case had == noPermit:
			l.begin(r.del)
			d.working.Add(1)
			go d.work(r)
		default:
			l.begin(r.del)
			begun = r
		}
	}
	if p != noPermit {
		to = d.permits.release(l)
	}
	return begun, to
}

// permitFor gets a permit for the delivery, or keeps the one that there is. Where one has to be passed on, to is the lane that
// has it then. Without one, the lane waits for its turn.
func (d *Dispatcher) permitFor(l *lane, del *Delivery, p permit) (ok, kept bool, to *lane) {
	switch {
	case p == freshPermit:
		return true, false, nil
	case p == usedPermit:
		if to = d.permits.pass(l); to == l {
			return true, false, nil
		}
		return false, false, to
	case del.Stage == stageTest:
		kept, ok = d.permits.acquireForTest(l)
		return ok, kept, nil
	default:
		return d.permits.acquire(l), false, nil
	}
}

// outcome is that of a delivery which the lane has decided to settle.
func (d *Dispatcher) outcome(l *lane, sub *subscriptions.Subscription, del *Delivery, adm admission, now time.Time) Outcome {
	switch adm.reason {
	case Deleted, Disabled, Deselected, InvalidSubscription, Expired:
		return unwantedOutcome(del, sub, adm.reason, &d.cfg.Delivery)
	default:
		return l.settle(del, adm.reason, adm.until, now, &d.cfg.Lanes)
	}
}

// enqueue lets a delivery wait in the lane, which is locked.
func (d *Dispatcher) enqueue(l *lane, del *Delivery, now time.Time) {
	l.queue.push(del, now)
	d.waits(l, del, now)
}

// waits notes that the queue of the lane, which is locked, has a delivery more.
func (d *Dispatcher) waits(l *lane, del *Delivery, now time.Time) {
	d.backlog.add(l, del, now)
	if !l.listed {
		l.listed = true
		d.sweep.add(l)
	}
}

// dequeue takes the next delivery from the queue of the lane, which is locked.
func (d *Dispatcher) dequeue(l *lane, now time.Time) { d.backlog.remove(l, l.queue.pop(), now) }

// wakeAt lets the lane, which is locked, go on at a time that no end of an attempt announces.
func (d *Dispatcher) wakeAt(l *lane, at, now time.Time) {
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
		d.resume(l)
	})
}

// resume lets a lane go on that may not have to wait any longer.
func (d *Dispatcher) resume(l *lane) {
	now := time.Now()
	var over []settled
	l.mu.Lock()
	d.refreshShare(l, now)
	d.advance(l, nil, noPermit, now, &over)
	l.mu.Unlock()
	d.outcomes.settleAll(over)
}

// serve lets the lane, which was handed a permit, begin an attempt with it. Where it has none any more, the permit goes on to
// the next one, until there is an attempt or nobody needs the permit.
func (d *Dispatcher) serve(l *lane) (begun run) {
	for l != nil && begun.del == nil {
		now := time.Now()
		var over []settled
		handed := l
		handed.mu.Lock()
		begun, l = d.advance(handed, nil, freshPermit, now, &over)
		handed.mu.Unlock()
		d.outcomes.settleAll(over)
	}
	return begun
}

// wakeWaiters hands out the permits that have become free without anybody giving one back. Only Run calls it.
func (d *Dispatcher) wakeWaiters() {
	for l := d.permits.next(); l != nil; l = d.permits.next() {
		if r := d.serve(l); r.del != nil {
			d.working.Add(1)
			go d.work(r)
		}
	}
}

// work makes attempts, one after the other, for as long as there is one for its permit.
func (d *Dispatcher) work(r run) {
	defer d.working.Done()
	if r.req.target.TLS {
		growStack()
	}
	for r.del != nil {
		r = d.attempt(r)
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
func (d *Dispatcher) attempt(r run) run {
	if r.members != nil {
		return d.attemptBatch(r)
	}
	begun := time.Now()
	var out Outcome
	made := r.del.begin()
	if made {
		if out = d.sender.attempt(r.req, r.del, begun); out.ours {
			return d.putBack(r)
		}
		d.attempts.Add(1)
	}
	now := begun.Add(out.Took)

	l, p, keep := r.lane, usedPermit, false
	var over []settled
	l.mu.Lock()
	l.inFlight--
	l.used = now
	switch {
	case r.del.Stage == stageTest:
	case !made:
		l.gate.breaker.withoutAnswer(now) // if it was the probe, another one may go
	default:
		d.ended(l, now, out.Took, 1)
		if r.req == l.req { // else it tells of a configuration that is not in force any more
			d.learn(l, &out, begun, now)
		}
		keep = out.Result != Delivered || l.sample(now)
	}
	if r.kept {
		d.permits.forTest.Store(false)
		p = noPermit
	}
	next, to := d.advance(l, nil, p, now, &over)
	l.mu.Unlock()

	if keep {
		d.outcomes.recent.add(r.del, &out, now)
	}
	if made {
		d.outcomes.settle(r.del, &out)
	}
	d.outcomes.settleAll(over)
	if next.del == nil {
		next = d.serve(to)
	}
	return next
}

// putBack lets a delivery wait again whose attempt failed because of a fault of our own, and returns the attempt that has its
// permit then. It tells nothing of the receiver.
func (d *Dispatcher) putBack(r run) run {
	now := time.Now()
	l := r.lane
	var over []settled
	l.mu.Lock()
	l.inFlight--
	l.used = now
	l.gate.breaker.withoutAnswer(now)
	r.del.wait()
	l.queue.pushFront(r.del, now)
	d.waits(l, r.del, now)
	next, to := d.advance(l, nil, usedPermit, now, &over)
	l.mu.Unlock()
	d.outcomes.settleAll(over)
	if next.del == nil {
		next = d.serve(to)
	}
	return next
}

// ended notes the end of an attempt of the lane, which is locked, that took so long, with so many deliveries.
func (d *Dispatcher) ended(l *lane, now time.Time, took time.Duration, deliveries int) {
	l.drain.ended(now, took, deliveries)
	l.account.ended.Add(int64(deliveries) * d.backlog.parts(l.together()))
}

// learn lets the lane, which is locked, follow the outcome of an attempt.
func (d *Dispatcher) learn(l *lane, out *Outcome, begun, now time.Time) {
	change, why := l.gate.learn(out, begun, now, l.maximum(&d.cfg.Lanes), &d.cfg.Lanes)
	if why == "" {
		return
	}
	d.reporter.report(l, change, why, now)
	if change == LaneUnparked {
		l.opened = "delivered"
	}
}
