package dispatcher

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"fanout/subscriptions"
)

// LaneStatus is what a lane is doing, for operators.
type LaneStatus struct {
	Account, Subscription string

	State string    // open, limited or parked: the label of fanout_lanes
	Why   string    // in words; empty where there is nothing to say
	Since time.Time // since when it is parked, or fails; zero where it does neither
	Until time.Time // the end of the cool-down, or of what Retry-After asked for; zero where neither is under way

	InFlight     int
	Limit        int // attempts allowed at once, for now
	Maximum      int // what Limit may grow to
	Queued       int
	OldestQueued time.Time // since when the first one waits; zero where none does
	Failures     int       // in a row
	Pace         float64   // attempts that ended a second, smoothed over 2 s
	MaxPerSecond float64   // this instance's part of the subscription's; 0 where it asks for no bound
}

// Lanes are the lanes that exist and that keep wants, by account and subscription; nil wants all. A subscription that
// has none is idle and well: nothing waits, nothing is under way and nothing has to be remembered.
func (d *Dispatcher) Lanes(keep func(*LaneStatus) bool) []LaneStatus {
	now := time.Now()
	var all []LaneStatus
	d.eachLane(func(l *lane) {
		if s := l.status(now, &d.cfg.Lanes); keep == nil || keep(&s) {
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
	key := laneKey{account, subscription}
	s := d.shard(key)
	s.mu.Lock()
	l := s.lanes[key]
	s.mu.Unlock()
	if l == nil {
		return LaneStatus{}, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status(time.Now(), &d.cfg.Lanes), true
}

func (l *lane) status(now time.Time, cfg *LanesConfig) LaneStatus {
	s := LaneStatus{
		Account: l.key.account, Subscription: l.key.subscription, State: l.state(now, cfg),
		InFlight: l.inFlight, Limit: int(l.health.limit), Maximum: l.maximum(cfg), Queued: l.queued,
		Failures: l.health.failures, Pace: l.pace.now(now),
	}
	if l.head != nil {
		s.OldestQueued = l.head.queued
	}
	if l.health.failures > 0 {
		s.Since = l.health.since
	}
	if l.sub != nil && l.sub.MaxPerSecond() > 0 {
		s.MaxPerSecond = l.rate()
	}
	s.Why, s.Until = l.why(now, cfg)
	return s
}

// why is the reason of the state, for people, and when it ends if that is known.
func (l *lane) why(now time.Time, cfg *LanesConfig) (string, time.Time) {
	h := &l.health
	switch {
	case l.sub != nil && l.sub.Paused():
		return "paused by its configuration", time.Time{}
	case h.state == laneGone:
		return "410 Gone: nothing is sent until the subscription's configuration changes", time.Time{}
	case now.Before(h.hold):
		return "the receiver asked for a pause (Retry-After)", h.hold
	case h.state == laneProbe:
		return "parked, a probe is under way: " + h.why(), time.Time{}
	case h.state == laneParked && now.Before(h.until):
		return "parked: " + h.why(), h.until
	case h.state == laneParked:
		return "parked, the next delivery is a probe: " + h.why(), time.Time{}
	case h.ramping(now):
		return "coming back at a growing pace, now " + strconv.Itoa(int(h.rampPace(now))) + " attempts a second", time.Time{}
	case h.failures > 0:
		return h.why(), time.Time{}
	case h.limited(now, l.maximum(cfg)):
		return "held to " + strconv.Itoa(int(h.limit)) + " attempts at once after failures", time.Time{}
	default:
		return "", time.Time{}
	}
}

// Demand is how much waits here for each subscription that shares a maxPerSecond with other instances: what is queued,
// or under way, and what a second brings. What is deferred waits in Kafka, and comes up wherever its partition is then.
// Idle ones are left out.
func (d *Dispatcher) Demand() subscriptions.Demand {
	demand := make(subscriptions.Demand)
	now := time.Now()
	d.eachLane(func(l *lane) {
		if l.sub == nil || l.sub.MaxPerSecond() <= 0 {
			return
		}
		waiting := float64(l.queued + l.inFlight)
		if waiting += l.arrivals.now(now); waiting >= 0.01 {
			demand[subscriptions.DemandKey(l.key.account, l.key.subscription)] = waiting
		}
	})
	return demand
}
