package dispatcher

import (
	"cmp"
	"slices"
	"time"

	"fanout/subscriptions"
	"fanout/webhook"
)

// admitter decides what becomes of the deliveries of a lane, which is locked. It sends nothing and settles nothing.
type admitter struct {
	cfg      *Config
	follower *follower
	halt     *halt
	backlog  *backlog
	permits  *semaphore
}

// next is the lane's next delivery, and what becomes of it for that subscription; nil where there is none. arriving comes
// after those that wait; nil: there is none.
func (a *admitter) next(l *lane, arriving *Delivery, now time.Time) (del *Delivery, adm admission, sub *subscriptions.Subscription) {
	due := now
	if l.batches() {
		due = l.batchDue(now, &a.cfg.Delivery, a.backlog.presses())
	}
	if del = l.queue.head(); del == nil {
		del = arriving
	}
	if del == nil {
		return nil, admission{}, nil
	}
	if adm, sub = a.admit(l, del, del == arriving, now); adm.kind == admitStart && due.After(now) {
		adm = admission{kind: admitForm, until: due}
	}
	return del, adm, sub
}

// admit decides about a delivery. One that arrives has been found wanted; what has waited follows the directory as it is now.
func (a *admitter) admit(l *lane, del *Delivery, arrives bool, now time.Time) (admission, *subscriptions.Subscription) {
	sub := l.sub
	switch {
	case del.Claimed(): // given up on while it waited
		return admission{kind: admitDrop}, sub
	case a.halt.stopping.Load():
		return admission{kind: admitSettle, reason: a.halt.stopReason()}, sub
	case arrives || del.Stage == stageTest:
	default:
		var reason Reason
		if sub, reason = a.follower.wanted(l, del, now, &a.cfg.Delivery); reason != NoReason {
			return admission{kind: admitSettle, reason: reason}, sub
		}
	}
	if a.halt.suspended() {
		return admission{kind: admitWait, reason: Network}, sub
	}
	adm := l.admit(del, now, &a.cfg.Lanes)
	if adm.kind == admitWait && del.Stage != stageTest && (a.backlog.full(l, now) || a.waitedTooLong(l, del, arrives, now)) {
		adm.kind = admitSettle
		if adm.reason != RetryAfter { // it was when to ask again, not how long the cause lasts
			adm.until = time.Time{}
		}
	}
	return adm, sub
}

// withoutPermit decides the same where the lane would let the delivery go and there is no permit. Nobody is to blame for that
// while the account has no more waiting than its allowance, or uses no more permits than others may: it waits.
func (a *admitter) withoutPermit(l *lane, del *Delivery, arrives bool, now time.Time) admission {
	exceeds := a.waitedTooLong(l, del, arrives, now) && a.permits.exceedsShare(l.account) && a.backlog.exceedsAllowance(l, now)
	if del.Stage != stageTest && (exceeds || a.backlog.full(l, now)) {
		return admission{kind: admitSettle, reason: QueueFull, until: l.estimatedDrain(now, true)}
	}
	return admission{kind: admitWait, reason: QueueFull}
}

// waitedTooLong says whether the delivery has waited for more than lanes.queue_age, the time not counted for which it may wait for
// others to go out with.
func (a *admitter) waitedTooLong(l *lane, del *Delivery, arrives bool, now time.Time) bool {
	return !arrives && a.halt.waited(del.queued, now)-l.req.batch.Wait > a.cfg.Lanes.QueueAge
}

// outcome is that of a delivery which is settled without an attempt.
func (a *admitter) outcome(l *lane, sub *subscriptions.Subscription, del *Delivery, adm admission, now time.Time) Outcome {
	switch adm.reason {
	case Deleted, Disabled, Deselected, InvalidSubscription, Expired:
		return unwantedOutcome(del, sub, adm.reason, &a.cfg.Delivery)
	default:
		return l.settle(del, adm.reason, adm.until, now, &a.cfg.Lanes)
	}
}

// batch takes from the lane's queue the deliveries that go out together with the first one: those that follow it, as far as they
// fit. What is not wanted any more is added to over.
func (a *admitter) batch(l *lane, first *Delivery, now time.Time, over *[]settled) []*Delivery {
	members := []*Delivery{first}
	if first.Stage == stageTest {
		return members
	}
	cfg := &a.cfg.Delivery
	size := min(l.batchSize(now), cfg.mostTogether(first))
	bytes := len("[]") + len(first.Body) + webhook.ElementOverhead
	fits := func(del *Delivery) bool {
		return len(members) < min(size, cfg.mostTogether(del)) && bytes+len(del.Body)+webhook.ElementOverhead <= cfg.MaxBatchBytes
	}
	for del := l.queue.take(fits); del != nil; del = l.queue.take(fits) {
		a.backlog.remove(l, del, now)
		if del.Claimed() {
			continue
		}
		if reason := unwanted(del, l.sub, now, cfg); reason != NoReason {
			*over = append(*over, settled{del, a.outcome(l, l.sub, del, admission{kind: admitSettle, reason: reason}, now)})
			continue
		}
		members = append(members, del)
		size = min(size, cfg.mostTogether(del))
		bytes += len(del.Body) + webhook.ElementOverhead
	}
	slices.SortStableFunc(members, func(a, b *Delivery) int { return cmp.Compare(a.queued.UnixNano(), b.queued.UnixNano()) })
	return members
}
