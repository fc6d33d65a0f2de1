package dispatcher

import "time"

// enqueue lets the delivery wait in the lane, if its bounds allow. The lane is locked.
func (d *Dispatcher) enqueue(l *lane, del *Delivery, now time.Time) bool {
	if l.queued >= d.cfg.Lanes.Queue || l.queued > 0 && l.bytes+len(del.Body) > maxLaneBytes {
		return false
	}
	if !l.slow && d.crowds(l, now) {
		d.markSlow(l)
	}
	if l.slow {
		if d.slowQueued.Load() >= maxSlowQueued {
			return false
		}
		d.slowQueued.Add(1)
	} else {
		d.addWaiting(1)
	}
	l.push(del, now)
	if !l.listed {
		l.listed = true
		d.agingMu.Lock()
		d.aging = append(d.aging, l)
		d.agingMu.Unlock()
	}
	return true
}

// crowds says whether the lane's queue keeps others from being read: it takes clearly more of the room than its part
// of the traffic, or its receiver answers nobody. Where all lanes are equally slow, or one has all the traffic, none does: reading waits for them.
func (d *Dispatcher) crowds(l *lane, now time.Time) bool {
	const queue, sample = 32, 200
	waiting, all := d.waiting.Load(), d.submitted.Load()
	mine, total := l.submitted, all-l.comparedTo
	switch {
	case waiting < d.roomLimit/2:
		return false
	case l.health.stalled(now, l.inFlight):
		return true
	case l.queued < queue || total < sample:
		return false
	}
	l.submitted, l.comparedTo = 0, all
	return 2*uint64(l.queued)*total > 3*mine*uint64(waiting)
}

// markSlow takes the lane's queue out of what Room counts, until it is empty. The lane is locked.
func (d *Dispatcher) markSlow(l *lane) {
	l.slow = true
	d.slowQueued.Add(int64(l.queued))
	d.addWaiting(-int64(l.queued))
}

// take removes the first delivery of the queue. The lane is locked.
func (d *Dispatcher) take(l *lane) *Delivery {
	del := l.pop()
	if l.slow {
		d.slowQueued.Add(-1)
		if l.queued == 0 {
			l.slow = false
		}
	} else {
		d.addWaiting(-1)
	}
	return del
}

// settled is a delivery with its outcome, kept until the lane is unlocked.
type settled struct {
	del *Delivery
	out Outcome
}

// flush empties the queue of a lane that sends nothing for now. The lane is locked.
func (d *Dispatcher) flush(l *lane, now time.Time, over []settled) []settled {
	for l.head != nil {
		if del := d.take(l); !del.Claimed() {
			over = append(over, settled{del, d.heldOutcome(l, del, now)})
		}
	}
	return over
}

// heldOutcome is what becomes of a delivery of a lane that sends nothing for now.
func (d *Dispatcher) heldOutcome(l *lane, del *Delivery, now time.Time) Outcome {
	if d.stopping.Load() {
		return shutdownOutcome(now)
	}
	if l.req.blocked != "" {
		return blockedOutcome(l.req)
	}
	v, at, reason := l.admit(now)
	if v == verdictDead {
		return goneOutcome()
	}
	if reason == NoReason {
		reason = QueueFull
	}
	return d.deferral(l, del, now, reason, at)
}

// deferral puts a delivery off without spending an attempt. The lane is locked.
func (d *Dispatcher) deferral(l *lane, del *Delivery, now time.Time, reason Reason, until time.Time) Outcome {
	out := Outcome{Result: Deferred, Reason: reason, Status: del.Last.Status, NotBefore: until}
	switch reason {
	case Parked:
		out.LaneWait = true
		out.Detail = "parked: " + l.health.why()
		if !until.After(now) { // a probe is out: should it fail, this is when the next one goes
			out.NotBefore = now.Add(max(l.health.cooldown, d.cfg.Lanes.ParkMin))
		}
	case Paused:
		// As it waits longer it comes up less often: a pause has no known end.
		out.LaneWait = true
		out.NotBefore = now.Add(min(max(now.Sub(del.FirstSeen), d.cfg.Lanes.ParkMin), d.cfg.Lanes.ParkMax))
	case RetryAfter:
	default:
		out.NotBefore = now.Add(l.backlogWait(now))
	}
	return out
}

func (d *Dispatcher) settle(del *Delivery, out *Outcome) {
	for _, o := range d.observe {
		o(del, *out)
	}
	if d.watchers.list.Load() != nil {
		seen := *out // only then does it have to be on the heap
		d.watchers.tell(del, &seen)
	}
	del.Settler.Settle(del, *out)
}

// decided settles what was decided without an attempt.
func (d *Dispatcher) decided(del *Delivery, out *Outcome) {
	if out.Result != Discarded {
		d.recent.add(del, out, time.Now())
	}
	d.settle(del, out)
}

func (d *Dispatcher) settleAll(over []settled) {
	for i := range over {
		d.decided(over[i].del, &over[i].out)
	}
}
