package dispatcher

import "time"

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
	if at.IsZero() || !l.alarm.at.IsZero() && !l.alarm.at.After(at) {
		return
	}
	l.alarm.at = at
	if l.alarm.timer != nil {
		l.alarm.timer.Reset(at.Sub(now))
		return
	}
	l.alarm.timer = time.AfterFunc(at.Sub(now), func() {
		l.mu.Lock()
		l.alarm.at = time.Time{}
		l.mu.Unlock()
		w.resume(l)
	})
}

// resume lets a lane go on that may not have to wait any longer.
func (w *workers) resume(l *lane) {
	now := time.Now()
	l.mu.Lock()
	w.follower.refreshShare(l, now)
	w.proceed(l, nil, noPermit, now)
}

// proceed lets a lane, which is locked, advance. It unlocks the lane and settles what has been decided.
func (w *workers) proceed(l *lane, arriving *Delivery, p permit, now time.Time) (begun run, to *lane) {
	var over []settled
	begun, to = w.advance(l, arriving, p, now, &over)
	l.mu.Unlock()
	w.outcomes.settleAll(over)
	return begun, to
}

// serve lets the lane, which was handed a permit, begin an attempt with it. Where it has none any more, the permit goes on to
// the next one, until there is an attempt or nobody needs the permit.
func (w *workers) serve(l *lane) (begun run) {
	for l != nil && begun.del == nil {
		l.mu.Lock()
		begun, l = w.proceed(l, nil, freshPermit, time.Now())
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
