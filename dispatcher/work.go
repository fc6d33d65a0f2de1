package dispatcher

import (
	"time"
)

// wakeLaneAt lets the lane's queue go on at a time that no end of an attempt announces. The lane is locked.
func (d *Dispatcher) wakeLaneAt(l *lane, at, now time.Time) {
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
		d.resume(l, false, false)
		d.wakeLine()
	})
}

// start makes the attempt that the lane, which is locked, has begun.
func (d *Dispatcher) start(l *lane, del *Delivery, unproven bool) {
	d.working.Add(1)
	go d.work(l, l.req, del, unproven)
}

// resume begins what attempts of the lane's queue may begin, the first with the place it was handed, the others with
// places they can get. The caller then calls wakeLine.
func (d *Dispatcher) resume(l *lane, placed, unproven bool) {
	now := time.Now()
	var over []settled
	l.mu.Lock()
	d.refreshShare(l, now)
	for {
		var ok bool
		if ok, over = d.ready(l, now, over); !ok {
			break
		}
		if !placed {
			unproven = l.unproven(now)
			if placed = d.slots.acquire(l, unproven); !placed {
				break
			}
		}
		d.start(l, d.next(l, now), unproven)
		placed = false
	}
	l.mu.Unlock()
	d.settleAll(over)
	if placed {
		d.slots.release(unproven)
	}
}

// wakeLine hands free places to the lanes in line.
func (d *Dispatcher) wakeLine() {
	for {
		l, unproven := d.slots.wake()
		if l == nil {
			return
		}
		d.resume(l, true, unproven)
	}
}

// ready brings a delivery that may be attempted now to the front of the queue; false where there is none. What is
// decided without an attempt on the way is added to over, and what has to wait is woken. The lane is locked.
func (d *Dispatcher) ready(l *lane, now time.Time, over []settled) (bool, []settled) {
	for l.head != nil {
		if d.stopping.Load() {
			return false, d.flush(l, now, over)
		}
		del := l.head
		if del.Claimed() { // given up on while it waited, and settled by whoever did so
			d.take(l)
			continue
		}
		sub, version := l.sub, d.dir.Version()
		if l.version != version {
			sub = d.dir.Lookup(l.key.account, l.key.subscription)
		}
		if out, done := d.judge(del, sub, now); done {
			d.take(l)
			over = append(over, settled{del, out})
			continue
		}
		l.version = version
		if !l.sub.Same(sub) {
			d.adopt(l, sub, now)
		}
		if l.req.blocked != "" {
			return false, d.flush(l, now, over)
		}
		switch v, at, reason := l.admit(now); v {
		case verdictGo:
			return true, over
		case verdictWait:
			d.wakeLaneAt(l, at, now)
			return false, over
		case verdictDefer:
			if reason == RetryAfter && at.Sub(now) <= d.cfg.Lanes.QueueAge {
				d.wakeLaneAt(l, at, now)
				return false, over
			}
			return false, d.flush(l, now, over)
		case verdictDead:
			return false, d.flush(l, now, over)
		}
	}
	return false, over
}

// next takes the delivery that ready has brought to the front. The lane is locked, and holds a place.
func (d *Dispatcher) next(l *lane, now time.Time) *Delivery {
	del := d.take(l)
	l.begin(now)
	return del
}

// work makes attempts of one lane, one after the other, for as long as there are any that may begin and no other lane
// waits for a place.
func (d *Dispatcher) work(l *lane, req *request, del *Delivery, unproven bool) {
	defer d.working.Done()
	if req.target.TLS {
		deepen()
	}
	for del != nil {
		begun := time.Now()
		out := d.attempt(req, del, begun)
		now := begun.Add(out.Took)
		d.attempts.Add(1)

		l.mu.Lock()
		l.inFlight--
		l.used = now
		l.ended(now, out.Took)
		if req == l.req { // else it tells of a configuration that is no more
			d.learn(l, &out, begun, now)
		}
		keep := out.Result != Delivered || l.sample(now)
		more, over := d.ready(l, now, nil)
		again := l.unproven(now)
		yield := d.slots.waiting.Load() > 0 || unproven != again // the place's kind must fit the lane
		var next *Delivery
		if more && !yield {
			next = d.next(l, now)
			more = l.head != nil && l.inFlight < int(l.health.limit)
		}
		req = l.req
		l.mu.Unlock()

		if keep {
			d.recent.add(del, &out, now)
		}
		d.settle(del, &out)
		d.settleAll(over)
		if del = next; del == nil {
			d.slots.release(unproven)
		}
		switch {
		case more && yield:
			d.slots.lineUp(l, again)
		case more:
			d.resume(l, false, false)
		}
		if del == nil || more {
			d.wakeLine()
		}
	}
}

// deepen makes the stack of a new goroutine as large as TLS needs. It would become that anyway, but by being copied
// again and again from under all of crypto/tls, which was a fifteenth of a delivery's CPU over HTTPS (cmd/bench).
//
//go:noinline
func deepen() {
	var room [5 << 10]byte
	keepRoom(&room)
}

//go:noinline
func keepRoom(*[5 << 10]byte) {}

// learn lets the lane's health follow an outcome. The lane is locked.
func (d *Dispatcher) learn(l *lane, out *Outcome, begun, now time.Time) {
	switch {
	case out.cause != NoReason:
		if out.retryAfter > 0 {
			l.health.holdUntil(now.Add(out.retryAfter))
		}
		if l.health.failure(now, begun, out.cause, out.Status, &d.cfg.Lanes) {
			l.parkedAt = now
			d.parkLog.parked(l, now)
		}
	case out.Result == Dead && out.Reason == Gone:
		if l.health.state != laneGone {
			l.health.state, l.parkedAt = laneGone, now
			d.parkLog.gone(l, now)
		}
	case out.Attempted && out.Result != Delivered && l.health.state != laneOpen:
		l.health.abandonProbe(now) // a permanent status tells of the event; only a 2xx un-parks
	case out.Attempted: // delivered, or a permanent status: the receiver answers, and means it
		if l.health.success(now, l.maximum(&d.cfg.Lanes)) {
			d.parkLog.unparked(l, now, out.Result.String())
		}
	default:
		l.health.abandonProbe(now)
	}
}
