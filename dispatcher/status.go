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
		if s := d.status(l, now); keep == nil || keep(&s) {
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
	return d.status(l, time.Now()), true
}

// status is the state of the lane, which is locked.
func (d *Dispatcher) status(l *lane, now time.Time) LaneStatus {
	cfg, g := &d.cfg.Lanes, &l.gate
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
	if suspended := d.halt.why.Load(); suspended != nil {
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
	case l.owes == Rate:
		return "more is due than maxPerSecond allows: some waits in the retry topics", time.Time{}
	case l.owes == QueueFull:
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
