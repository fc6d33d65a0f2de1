package dispatcher

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"fanout/subscriptions"
)

// LaneStatus is a lane's state, for operators.
type LaneStatus struct {
	Account, Subscription string

	State string    // open, limited or parked: the label of fanout_lanes
	Why   string    // in words; empty where there is nothing to say
	Since time.Time // since when it is parked, or fails; zero where it does neither
	Until time.Time // the end of the cool-down, or of what Retry-After asked for; zero where neither is under way

	InFlight     int
	Limit        int // attempts allowed at once, for now
	Maximum      int // what Limit may grow to
	Batch        int // deliveries in one request, at most, for now; 0: each goes out by itself
	Queued       int
	OldestQueued time.Time // since when the first one waits; zero where none does
	Failures     int       // in a row
	Pace         float64   // deliveries whose attempts ended a second, smoothed over 2 s
	MaxPerSecond float64   // this instance's part of the subscription's; 0 where it asks for no bound
}

// Lanes are the lanes that exist and that keep wants, by account and subscription; nil wants all. A subscription that
// has none is idle and well: nothing waits, nothing is under way and nothing has to be remembered.
func (d *Dispatcher) Lanes(keep func(*LaneStatus) bool) []LaneStatus {
	now := time.Now()
	var all []LaneStatus
	d.lanes.each(func(l *lane) {
		if s := l.status(now, &d.cfg.Lanes, &d.halt); keep == nil || keep(&s) {
			all = append(all, s)
		}
	})
	slices.SortFunc(all, func(a, b LaneStatus) int {
		return cmp.Or(cmp.Compare(a.Account, b.Account), cmp.Compare(a.Subscription, b.Subscription))
	})
	return all
}

// Lane is one subscription's lane; false where it has none.
func (d *Dispatcher) Lane(account, subscription string) (LaneStatus, bool) {
	l := d.lanes.find(laneKey{account, subscription})
	if l == nil {
		return LaneStatus{}, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status(time.Now(), &d.cfg.Lanes, &d.halt), true
}

// status is the state of the lane, which is locked.
func (l *lane) status(now time.Time, cfg *LanesConfig, h *halt) LaneStatus {
	g := &l.gate
	s := LaneStatus{
		Account: l.key.account, Subscription: l.key.subscription, State: l.state(now, cfg),
		InFlight: l.inFlight, Limit: int(g.limit.value), Maximum: l.maximum(cfg), Queued: l.queue.length,
		OldestQueued: l.queue.oldest(), Failures: g.breaker.failures, Pace: l.drain.pace.now(now),
	}
	if l.batches() {
		s.Batch = l.batchSize(now)
	}
	if g.breaker.failures > 0 {
		s.Since = g.breaker.since
	}
	if g.rate.perSecond > 0 {
		s.MaxPerSecond = g.rate.own()
	}
	s.Why, s.Until = l.why(now, cfg)
	if suspended := h.why.Load(); suspended != nil {
		s.Why, s.Until = "nothing is sent: "+*suspended, time.Time{}
	}
	return s
}

// why is the reason of the state, for people, and when it ends if that is known.
func (l *lane) why(now time.Time, cfg *LanesConfig) (string, time.Time) {
	g := &l.gate
	b := &g.breaker
	switch {
	case b.state == breakerGone:
		return "410 Gone: nothing is sent until its configuration changes", time.Time{}
	case l.sub != nil && l.sub.Paused():
		return "paused by its configuration", time.Time{}
	case now.Before(g.hold):
		return "the receiver asked for a pause (Retry-After)", g.hold
	case b.state == breakerProbing:
		return "parked, a probe is in flight: " + b.why(), time.Time{}
	case b.state == breakerParked && now.Before(b.until):
		return "parked: " + b.why(), b.until
	case b.state == breakerParked:
		return "parked, the next delivery is a probe: " + b.why(), time.Time{}
	case g.ramp.active(now):
		return "opened again, at a growing pace: now " + strconv.Itoa(int(g.ramp.pace(now))) + " attempts a second", time.Time{}
	case b.failures > 0:
		return b.why(), time.Time{}
	case g.limited(now, l.maximum(cfg)):
		return "held to " + strconv.Itoa(int(g.limit.value)) + " attempts at once after failures", time.Time{}
	case l.batches() && now.Before(l.shrunk.until):
		return "held to " + strconv.Itoa(l.batchSize(now)) + " deliveries in one request: the receiver answered 413 to more", l.shrunk.until
	case l.owed.reason == Rate:
		return "more is due than maxPerSecond allows: some waits in the retry topics", time.Time{}
	case l.owed.reason == QueueFull:
		return "more is due than the receiver answers in time: some waits in the retry topics", time.Time{}
	default:
		return "", time.Time{}
	}
}

// Demand is how much waits here for each subscription that shares a maxPerSecond with other instances: what is queued
// or in flight, and what a second brings. What is deferred waits in Kafka, and is due wherever its partition is then.
// Idle ones are left out.
func (d *Dispatcher) Demand() subscriptions.Demand {
	demand := make(subscriptions.Demand)
	now := time.Now()
	d.lanes.each(func(l *lane) {
		if l.gate.rate.perSecond <= 0 {
			return
		}
		waiting := float64(l.queue.length + l.inFlight)
		if waiting += l.arrivals.now(now); waiting >= 0.01 {
			demand[subscriptions.DemandKey(l.key.account, l.key.subscription)] = waiting
		}
	})
	return demand
}

// Recent is what is remembered of a subscription's attempts on this instance, the newest first: its last failures,
// successes (at most some a second are kept) and decisions not to attempt.
func (d *Dispatcher) Recent(account, subscription string) []Attempt {
	return d.outcomes.recent.of(account, subscription)
}

// Watch begins to follow the outcomes that keep wants; nil wants all. keep is called in the goroutine that settles: it
// must be quick, and must not hold on to its arguments. Up to buffer outcomes wait to be received; what finds no room
// is dropped and counted, since nobody's delivery waits for an onlooker.
func (d *Dispatcher) Watch(buffer int, keep func(*Delivery, *Outcome) bool) *Watcher {
	return d.outcomes.watchers.watch(buffer, keep)
}

// NetworkFault is the fault of our own that keeps anything from being sent, in words, and since when; empty where there is
// none.
func (d *Dispatcher) NetworkFault() (why string, since time.Time) {
	if d.network == nil {
		return "", time.Time{}
	}
	return d.network.Fault()
}

// Suspended reports whether everything is held back.
func (d *Dispatcher) Suspended() bool { return d.halt.suspended() }
