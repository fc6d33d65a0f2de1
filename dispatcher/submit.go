package dispatcher

import (
	"context"
	"time"
)

// Submit takes a delivery to its lane. Its Settler is called exactly once, perhaps before Submit returns.
func (d *Dispatcher) Submit(del *Delivery) {
	now := time.Now()
	if d.halt.stopping.Load() {
		d.outcomes.settleWithout(del, settlement(del, d.halt.stopReason(), ""))
		return
	}
	sub := del.sub
	if sub == nil {
		sub = d.follower.dir.Lookup(del.Account, del.Subscription)
	}
	if reason := unwanted(del, sub, now, &d.cfg.Delivery); reason != NoReason { // no lane is made for it
		d.outcomes.settleWithout(del, unwantedOutcome(del, sub, reason, &d.cfg.Delivery))
		return
	}
	del.alone = sub.Batch().Max > 0 && isStrange(del)
	l := d.lanes.get(laneKey{del.Account, del.Subscription})
	if !l.sub.Same(sub) {
		// What it was planned with may be older than what the lane has seen since: the directory decides.
		sub = d.follower.lookup(l)
		if reason := unwanted(del, sub, now, &d.cfg.Delivery); reason != NoReason {
			l.mu.Unlock()
			d.outcomes.settleWithout(del, unwantedOutcome(del, sub, reason, &d.cfg.Delivery))
			return
		}
		d.follower.adopt(l, sub, now)
	}
	if l.gate.rate.perSecond > 0 {
		l.arrivals.count(now, 1)
	}
	l.used = now
	d.workers.proceed(l, del, noPermit, now)
}

// Capacity is how many more deliveries of a subscription its lane takes now without deferring any, of those that wait in the retry
// topics. open is false where they are better left there: the lane sends nothing for a while, or they would not be sent at all.
// LaneOpened, or LaneProbeDue, is told once that has changed.
func (d *Dispatcher) Capacity(account, subscription string) (n int, open bool) {
	sub := d.follower.dir.Lookup(account, subscription)
	if sub == nil || !sub.Enabled() || sub.Paused() || sub.Invalid() != "" {
		return 0, false
	}
	now := time.Now()
	if d.halt.suspended() || d.halt.stopping.Load() || d.backlog.accountExceeds(d.lanes.accounts.find(account), now) {
		return 0, true
	}
	l := d.lanes.find(laneKey{account, subscription})
	if l == nil {
		return minLimit, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.evicted {
		return minLimit, true
	}
	d.follower.adopt(l, sub, now)
	if l.req.blocked != "" {
		return 0, false
	}
	if n, open = l.capacity(now, d.cfg.Lanes.QueueAge); open && d.backlog.exceedsAllowance(l, now) {
		n = 0
	}
	return n, open
}

// accountAgain is how often WaitForAccount looks again.
const accountAgain = 2 * time.Millisecond

// WaitForCapacity returns when more should be read from Kafka, or with ctx's cause when that is done. What waits here
// within its account's allowance is bounded by it; what an account has waiting beyond that does not count.
func (d *Dispatcher) WaitForCapacity(ctx context.Context) error { return d.backlog.wait(ctx) }

// WaitForAccount returns when an account should be given more than others wait for: when no more of it waits here than its
// allowance. It returns ctx's cause when that is done.
func (d *Dispatcher) WaitForAccount(ctx context.Context, account string) error {
	for d.halt.suspended() || d.backlog.accountExceeds(d.lanes.accounts.find(account), time.Now()) {
		select {
		case <-time.After(accountAgain):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// Suspend holds everything back, since a fault of our own keeps attempts from being made: no attempt begins, nothing
// that waits grows older, and WaitForCapacity waits. why says so in words, for people; an empty one ends it.
func (d *Dispatcher) Suspend(why string) {
	d.halt.suspend(why)
	d.backlog.wake()
}

// Release opens the lane of a subscription on this instance: a cool-down and the hold of a Retry-After end, and deliveries
// go out at a growing pace. What its configuration says stays: a pause, and the stop that a 410 brought. LaneOpened is told
// in any case, so that what waits elsewhere is fetched.
func (d *Dispatcher) Release(account, subscription string) {
	const why = "released"
	now := time.Now()
	if l := d.lanes.find(laneKey{account, subscription}); l != nil {
		l.mu.Lock()
		if l.gate.release(now, l.maximum(&d.cfg.Lanes)) {
			d.reporter.report(l, LaneUnparked, why, now)
		}
		l.owed.reason = NoReason
		l.mu.Unlock()
		defer d.workers.resume(l)
	}
	d.reporter.tell(LaneEvent{Account: account, Subscription: subscription, Kind: LaneOpened, Why: why, OwnWaits: true})
}
