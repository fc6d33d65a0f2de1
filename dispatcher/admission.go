package dispatcher

import (
	"time"

	"fanout/subscriptions"
)

// whyChanged is why a lane is open that follows another configuration.
const whyChanged = "configuration changed"

// adopt lets the lane, which is locked, follow a changed configuration.
func (d *Dispatcher) adopt(l *lane, sub *subscriptions.Subscription, now time.Time) {
	first := l.sub == nil
	l.sub = sub.Clone() // what lies beside it in the directory must not be kept
	l.req = d.renderer.request(l.sub)
	l.shrunk = sizeCap{}
	opened := l.gate.renew(now, l.maximum(&d.cfg.Lanes), sub.MaxPerSecond())
	d.refreshShare(l, now)
	if opened {
		d.reporter.report(l, LaneUnparked, whyChanged, now)
	}
	if !first {
		l.opened = whyChanged
	}
}

// refreshShare asks for the share of its rate that the lane, which is locked, has.
func (d *Dispatcher) refreshShare(l *lane, now time.Time) {
	if d.share != nil && l.gate.rate.perSecond > 0 {
		l.gate.rate.setShare(now, d.share(l.key.account, l.key.subscription))
	}
}

// admit decides what becomes of the next delivery of the lane, which is locked. One that arrives has been found wanted;
// what has waited follows the directory as it is now.
func (d *Dispatcher) admit(l *lane, del *Delivery, arrives bool, now time.Time) (admission, *subscriptions.Subscription) {
	sub := l.sub
	switch {
	case del.Claimed(): // given up on while it waited
		return admission{kind: admitDrop}, sub
	case d.halt.stopping.Load():
		return admission{kind: admitSettle, reason: d.halt.stopReason()}, sub
	case arrives || del.Stage == stageTest:
	default:
		version := d.dir.Version()
		if l.version != version {
			sub = d.dir.Lookup(l.key.account, l.key.subscription)
		}
		if reason := unwanted(del, sub, now, &d.cfg.Delivery); reason != NoReason {
			return admission{kind: admitSettle, reason: reason}, sub
		}
		if l.version = version; !l.sub.Same(sub) {
			d.adopt(l, sub, now)
		}
	}
	if d.halt.suspended() {
		return admission{kind: admitWait, reason: Network}, sub
	}
	adm := l.admit(del, now, &d.cfg.Lanes)
	if adm.kind == admitWait && del.Stage != stageTest && (d.backlog.full(l, now) || d.waited(l, del, arrives, now) > d.cfg.Lanes.QueueAge) {
		adm.kind = admitSettle
		if adm.reason != RetryAfter { // it was when to ask again, not how long the cause lasts
			adm.until = time.Time{}
		}
	}
	return adm, sub
}

// withoutPermit decides the same where the lane would let the delivery go and there is no permit. Nobody is to blame for that
// while the account has no more waiting than its allowance, or uses no more permits than others may: it waits.
func (d *Dispatcher) withoutPermit(l *lane, del *Delivery, arrives bool, now time.Time) admission {
	exceeds := d.waited(l, del, arrives, now) > d.cfg.Lanes.QueueAge && d.permits.exceedsShare(l.account) && d.backlog.exceedsAllowance(l, now)
	if del.Stage != stageTest && (exceeds || d.backlog.full(l, now)) {
		return admission{kind: admitSettle, reason: QueueFull, until: l.estimatedDrain(now, true)}
	}
	return admission{kind: admitWait, reason: QueueFull}
}

// waited is for how long the delivery has waited, the time not counted for which everything was suspended, or for which it may
// wait for others to go out with.
func (d *Dispatcher) waited(l *lane, del *Delivery, arrives bool, now time.Time) time.Duration {
	if arrives {
		return 0
	}
	return d.halt.waited(del.queued, now) - l.req.batch.Wait
}
