package dispatcher

import (
	"sync"
	"time"

	"fanout/subscriptions"
	"fanout/webhook"
)

type laneKey struct{ account, subscription string }

// clone is the key in a string of its own: a delivery's are pieces of something larger.
func (k laneKey) clone() laneKey {
	both := k.account + k.subscription
	return laneKey{both[:len(k.account)], both[len(k.account):]}
}

// lane is what the deliveries of one subscription share: the gate that says when attempts may begin, and the queue. It
// exists while there is work or something to remember.
type lane struct {
	waiter // among the lanes of its account that wait for a permit

	key     laneKey
	account *account

	mu sync.Mutex // guards all below
	configuration
	gate     gate
	queue    queue
	backlog  laneBacklog
	drain    drain
	shrunk   sizeCap // the size of its batches
	arrivals meter   // deliveries submitted, where there is a maxPerSecond
	alarm    alarm
	owed     owed
	inFlight int
	used     time.Time // when it last had work
	sampled  time.Time // when a success was last kept for Recent
	listed   bool      // the sweep knows of its queue
	evicted  bool      // it is forgotten: look it up again
}

// configuration is what a lane was last told by the directory.
type configuration struct {
	sub     *subscriptions.Subscription
	req     *request // made from sub: what its POSTs have in common
	version uint64   // of the directory, when sub was last looked up for what waits
}

// alarm is set to when a lane goes on although no end of an attempt announces it.
type alarm struct {
	timer *time.Timer
	at    time.Time // zero: it is not set
}

// owed is what a lane has yet to tell of what it deferred: that it is welcome again.
type owed struct {
	reason   Reason    // why it was deferred; NoReason: nothing is owed
	opened   string    // why the lane is open again; empty where nothing has opened it
	probeDue time.Time // the end of the cool-down that LaneProbeDue was last told of
}

// maximum is how many attempts may ever be in flight at once.
func (l *lane) maximum(cfg *LanesConfig) int {
	if l.sub != nil && l.sub.MaxInFlight() > 0 {
		return min(cfg.MaxInFlight, l.sub.MaxInFlight())
	}
	return cfg.MaxInFlight
}

// unwanted is why a delivery is settled whatever its lane says: its subscription is gone or does not want the event any
// more, the delivery is too old, or this instance does not know the event while another one does. NoReason says that it is not.
func unwanted(del *Delivery, sub *subscriptions.Subscription, now time.Time, cfg *DeliveryConfig) Reason {
	expired := now.Sub(del.FirstSeen) > cfg.maxAge(del.Event)
	switch {
	case sub == nil:
		return Deleted
	case !sub.Enabled():
		return Disabled
	case !del.Event.Known() && expired:
		return Expired
	case !del.Event.Known(): // whether it is selected, only those can say that know it
		return UnknownEvent
	case !sub.Events().Has(del.Event) || sub.Filters() && !sub.WantsNotification(webhook.NotificationID(del.Body)) && del.Stage != stageTest:
		return Deselected
	case sub.Invalid() != "":
		return InvalidSubscription
	case expired:
		return Expired
	default:
		return NoReason
	}
}

// admit decides what becomes of the lane's next delivery, which is wanted.
func (l *lane) admit(del *Delivery, now time.Time, cfg *LanesConfig) admission {
	switch {
	case del.Stage == stageTest:
		return l.gate.admitTest(now, l.inFlight)
	case l.req.blocked != "":
		return admission{kind: admitSettle, reason: BlockedDestination}
	case l.sub.Paused():
		return admission{kind: admitSettle, reason: Paused, until: now.Add(cfg.ParkMin)}
	default:
		return l.gate.admit(now, l.inFlight, cfg)
	}
}

// begin notes that an attempt begins.
func (l *lane) begin(del *Delivery) {
	l.inFlight++
	if del.Stage == stageTest {
		l.gate.rate.take()
		return
	}
	l.gate.begin()
}

// learn lets the lane follow the outcome of an attempt that was begun at the time begun, and reports what changes by it.
func (l *lane) learn(out *Outcome, begun, now time.Time, cfg *LanesConfig, reporter *laneReporter) {
	change, why := l.gate.learn(out, begun, now, l.maximum(cfg), cfg)
	if why == "" {
		return
	}
	reporter.report(l, change, why, now)
	if change == LaneUnparked {
		l.owed.opened = "delivered"
	}
}

// sample says whether a success is kept for Recent: not more than four a second of one lane.
func (l *lane) sample(now time.Time) bool {
	if now.Sub(l.sampled) < 250*time.Millisecond {
		return false
	}
	l.sampled = now
	return true
}

// estimatedDrain is until when a delivery that finds no room should stay away.
// short says that permits are what it lacks.
func (l *lane) estimatedDrain(now time.Time, short bool) time.Time {
	limit, most := 0.0, 0.0
	if l.gate.breaker.failures == 0 && !short { // what the lane could do says little of one that fails, or is kept from it
		limit = l.gate.limit.value
	}
	if l.gate.rate.perSecond > 0 {
		most = l.gate.rate.own()
	}
	size := float64(l.batchSize(now)) // of what one attempt carries
	return l.drain.estimate(now, l.queue.length, limit*size, most*size)
}

// capacity is that of Dispatcher.Capacity, as far as the lane, which is locked, can tell. More than it sends within a second is not called for at once.
func (l *lane) capacity(now time.Time, queueAge time.Duration) (n int, open bool) {
	g, b := &l.gate, &l.gate.breaker
	switch {
	case b.state == breakerGone, b.state == breakerParked && now.Before(b.until), now.Before(g.hold):
		if l.owed.reason == NoReason {
			l.owed.reason = Parked // what waits in the retry topics is to be fetched when it opens
		}
		return 0, false
	case b.state == breakerParked && l.inFlight == 0 && l.queue.length == 0:
		return 1, true // the probe
	case b.state != breakerOpen:
		return 0, true
	}
	size := l.batchSize(now) // of what one request carries
	n = (int(g.limit.value)-l.inFlight)*size - l.queue.length
	within := func(pace float64) int { return max(1, int(pace))*size - l.queue.length }
	if b.failures == 0 && l.drain.latency < queueAge.Seconds()/2 { // else what waits for an attempt to end waits for too long
		n = max(n, int(l.drain.pace.now(now))*size-l.queue.length)
	}
	if g.ramp.active(now) {
		n = min(n, within(g.ramp.pace(now)))
	}
	if g.rate.perSecond > 0 {
		if n = min(n, within(g.rate.own())); g.rate.next(now).Sub(now) > queueAge/2 {
			n = 0
		}
	}
	return max(0, n), true
}

// forgettable says whether the lane, which has been without work for the given time, has nothing to remember. What it owes
// because of a pause it remembers for as long as that lasts.
func (l *lane) forgettable(now time.Time, unused time.Duration, cfg *LanesConfig) bool {
	return l.gate.forgettable(now, unused, cfg) && (l.owed.reason == NoReason || !l.sub.Paused() && unused > cfg.ParkMax)
}

// state is what fanout_lanes counts it under.
func (l *lane) state(now time.Time, cfg *LanesConfig) string {
	switch {
	case l.gate.breaker.state != breakerOpen:
		return "parked"
	case l.gate.limited(now, l.maximum(cfg)) || l.sub != nil && l.sub.Paused():
		return "limited"
	default:
		return "open"
	}
}
