package dispatcher

import "time"

// Submit takes a delivery to its lane. Its Settler is called exactly once, perhaps before Submit returns.
func (d *Dispatcher) Submit(del *Delivery) {
	now := time.Now()
	if d.halt.stopping.Load() {
		out := settlement(del, d.halt.stopReason(), "")
		d.outcomes.settleWithout(del, &out)
		return
	}
	sub := del.sub
	if sub == nil {
		sub = d.dir.Lookup(del.Account, del.Subscription)
	}
	if reason := unwanted(del, sub, now, &d.cfg.Delivery); reason != NoReason { // no lane is made for it
		out := unwantedOutcome(del, sub, reason, &d.cfg.Delivery)
		d.outcomes.settleWithout(del, &out)
		return
	}
	del.alone = sub.Batch().Max > 0 && isStrange(del)
	l := d.lanes.get(laneKey{del.Account, del.Subscription})
	if !l.sub.Same(sub) {
		// What it was planned with may be older than what the lane has seen since: the directory decides.
		sub = d.dir.Lookup(del.Account, del.Subscription)
		if reason := unwanted(del, sub, now, &d.cfg.Delivery); reason != NoReason {
			l.mu.Unlock()
			out := unwantedOutcome(del, sub, reason, &d.cfg.Delivery)
			d.outcomes.settleWithout(del, &out)
			return
		}
		if !l.sub.Same(sub) {
			d.adopt(l, sub, now)
		}
	}
	l.used = now
	if l.gate.rate.perSecond > 0 {
		l.arrivals.count(now, 1)
	}
	var over []settled
	d.advance(l, del, noPermit, now, &over)
	l.mu.Unlock()
	d.outcomes.settleAll(over)
}
