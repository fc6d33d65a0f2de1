package dispatcher

import (
	"time"

	"fanout/subscriptions"
)

// Submit takes a delivery to its lane. Its Settler is called exactly once, perhaps before Submit returns.
func (d *Dispatcher) Submit(del *Delivery) {
	now := time.Now()
	sub := del.sub
	if sub == nil {
		sub = d.dir.Lookup(del.Account, del.Subscription)
	}
	if out, over := d.judge(del, sub, now); over {
		d.decided(del, &out)
		return
	}
	l := d.lane(laneKey{del.Account, del.Subscription})
	if d.stopping.Load() || !l.sub.Same(sub) {
		// What it was planned with may be older than what the lane has seen since: the directory decides.
		sub = d.dir.Lookup(del.Account, del.Subscription)
		if out, over := d.judge(del, sub, now); over {
			l.mu.Unlock()
			d.decided(del, &out)
			return
		}
		if !l.sub.Same(sub) {
			d.adopt(l, sub, now)
		}
	}
	if out, over := d.submit(l, del, now); over { // unlocks
		d.decided(del, &out)
	}
	if d.slots.waiting.Load() > 0 {
		d.wakeLine()
	}
}

// judge decides what needs no lane: a subscription that is gone or does not want the event any more, and age.
func (d *Dispatcher) judge(del *Delivery, sub *subscriptions.Subscription, now time.Time) (Outcome, bool) {
	switch {
	case d.stopping.Load():
		return shutdownOutcome(now), true
	case sub == nil:
		return Outcome{Result: Discarded, Reason: Deleted}, true
	case !sub.Enabled():
		return Outcome{Result: Discarded, Reason: Disabled}, true
	case !sub.Events().Has(del.Event):
		return Outcome{Result: Discarded, Reason: Deselected}, true
	case sub.Invalid() != "":
		return Outcome{Result: Dead, Reason: InvalidSubscription, Detail: clip(sub.Invalid())}, true
	case now.Sub(del.FirstSeen) > d.cfg.Delivery.maxAge(del.Event):
		return Outcome{Result: Dead, Reason: Expired, Status: del.Last.Status, Detail: clip("older than " + d.cfg.Delivery.maxAge(del.Event).String() + " since it was first planned")}, true
	}
	return Outcome{}, false
}

// adopt makes the lane follow a changed configuration. A stop for 410, a cool-down and a Retry-After were the old
// configuration's: they end. The lane is locked.
func (d *Dispatcher) adopt(l *lane, sub *subscriptions.Subscription, now time.Time) {
	first := l.sub == nil
	l.sub = sub.Clone() // what lies beside it in the directory is not to be held
	l.req = newRequest(l.sub, d.rules, d.cfg.UserAgent)
	d.refreshShare(l, now)
	if first {
		l.health = newHealth(l.maximum(&d.cfg.Lanes))
		return
	}
	if l.health.state != laneOpen {
		d.parkLog.unparked(l, now, "configuration changed")
	}
	limit := min(l.health.limit, float64(l.maximum(&d.cfg.Lanes)))
	if l.health.failures > 0 || l.health.state != laneOpen {
		limit = newHealth(l.maximum(&d.cfg.Lanes)).limit
	}
	l.health = health{limit: limit, lowered: now, alive: now}
}

// refreshShare asks for the lane's share of its rate. It falls at once, and rises over a few seconds: the others learn
// a little later that less is theirs. The lane is locked.
func (d *Dispatcher) refreshShare(l *lane, now time.Time) {
	if d.share == nil || l.sub == nil || l.sub.MaxPerSecond() <= 0 {
		return
	}
	share := d.share(l.key.account, l.key.subscription)
	if !l.sharedAt.IsZero() {
		share = min(share, l.share+now.Sub(l.sharedAt).Seconds()/4)
	}
	l.share, l.sharedAt = share, now
}

// submit attempts the delivery, queues it, or says what becomes of it without. It unlocks the lane.
func (d *Dispatcher) submit(l *lane, del *Delivery, now time.Time) (out Outcome, over bool) {
	defer l.mu.Unlock()
	l.used = now
	l.submitted++
	d.submitted.Add(1)
	if l.sub.MaxPerSecond() > 0 {
		l.arrivals.count(now)
	}
	if l.req.blocked != "" {
		return blockedOutcome(l.req), true
	}
	v, at, reason := l.admit(now)
	if l.head != nil && v == verdictGo { // others wait in front of it
		v, reason = verdictWait, QueueFull
	}
	switch v {
	case verdictDead:
		return goneOutcome(), true
	case verdictDefer:
		if reason != RetryAfter || at.Sub(now) > d.cfg.Lanes.QueueAge || !d.enqueue(l, del, now) {
			return d.deferral(l, del, now, reason, at), true
		}
		d.wakeLaneAt(l, at, now)
	case verdictWait:
		if !d.enqueue(l, del, now) {
			return d.deferral(l, del, now, reason, time.Time{}), true
		}
		d.wakeLaneAt(l, at, now)
	case verdictGo:
		if unproven := l.unproven(now); d.slots.tryAcquire(unproven) {
			l.begin(now)
			d.start(l, del, unproven)
		} else if !d.enqueue(l, del, now) {
			return d.deferral(l, del, now, QueueFull, time.Time{}), true
		} else {
			d.slots.lineUp(l, unproven) // Submit wakes the line
		}
	}
	return Outcome{}, false
}
