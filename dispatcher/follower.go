package dispatcher

import (
	"time"

	"fanout/subscriptions"
)

// whyChanged is why a lane is open that follows another configuration.
const whyChanged = "configuration changed"

// follower lets lanes follow the directory, and the shares that this instance has of their rates. The lanes are locked.
type follower struct {
	dir      Directory
	renderer *Renderer
	cfg      *LanesConfig
	share    func(account, subscription string) float64 // of maxPerSecond, this instance's; nil: all of it
	reporter *laneReporter
}

// adopt lets the lane follow the subscription, where its configuration is another one.
func (f *follower) adopt(l *lane, sub *subscriptions.Subscription, now time.Time) {
	if l.sub.Same(sub) {
		return
	}
	first := l.sub == nil
	l.sub = sub.Clone() // what lies beside it in the directory must not be kept
	l.req = f.renderer.request(l.sub)
	l.shrunk = sizeCap{}
	opened := l.gate.renew(now, l.maximum(f.cfg), sub.MaxPerSecond())
	f.refreshShare(l, now)
	if opened {
		f.reporter.report(l, LaneUnparked, whyChanged, now)
	}
	if !first {
		l.owed.opened = whyChanged
	}
}

// refreshShare asks for the share of its rate that the lane has.
func (f *follower) refreshShare(l *lane, now time.Time) {
	if f.share != nil && l.gate.rate.perSecond > 0 {
		l.gate.rate.setShare(now, f.share(l.key.account, l.key.subscription))
	}
}

// lookup is the lane's subscription as it is now; nil where there is none.
func (f *follower) lookup(l *lane) *subscriptions.Subscription {
	return f.dir.Lookup(l.key.account, l.key.subscription)
}

// wanted is the subscription for which the lane's next delivery, which has waited, is attempted or put off: as it is now. Where
// the delivery is unwanted, the second value says why.
func (f *follower) wanted(l *lane, del *Delivery, now time.Time, cfg *DeliveryConfig) (*subscriptions.Subscription, Reason) {
	sub, version := l.sub, f.dir.Version()
	if l.version != version {
		sub = f.lookup(l)
	}
	if reason := unwanted(del, sub, now, cfg); reason != NoReason {
		return sub, reason
	}
	l.version = version
	f.adopt(l, sub, now)
	return sub, NoReason
}

// follow lets a lane follow the directory although nothing arrives.
func (f *follower) follow(l *lane, now time.Time) {
	version := f.dir.Version()
	if l.version == version || l.queue.length > 0 {
		return
	}
	if sub := f.lookup(l); sub != nil && sub.Enabled() && sub.Invalid() == "" {
		l.version = version
		f.adopt(l, sub, now)
	}
}

// orphaned says that a 410, or a pause, need not be remembered any more: the subscription is gone, and one that comes in its
// place is another configuration.
func (f *follower) orphaned(l *lane) bool {
	return f.lookup(l) == nil && (l.gate.breaker.state == breakerGone || l.owed.reason != NoReason)
}
