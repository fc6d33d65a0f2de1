package dispatcher

import "time"

// gate decides when attempts of one lane may begin. It knows what their outcomes tell of the receiver, and what the
// subscription asks for. It has no clock, no lock and does no I/O: it is told the time, and its lane guards it.
type gate struct {
	limit   limit
	breaker breaker
	hold    time.Time // the end of what a Retry-After asked for; zero: nothing did
	ramp    ramp
	rate    rate
	lookup  uint64 // the look-up of DNS whose failure it last learned of; 0: none
}

func newGate(maximum int, r rate) gate { return gate{limit: newLimit(maximum), rate: r} }

// renew lets the gate follow a changed configuration. A stop for 410, a cool-down and a Retry-After belonged to the old one:
// they end. It reports whether the lane opens by it.
func (g *gate) renew(now time.Time, maximum int, perSecond float64) (opened bool) {
	was := *g
	*g = newGate(maximum, was.rate)
	g.rate.perSecond, g.lookup, g.breaker.parkedAt = perSecond, was.lookup, was.breaker.parkedAt
	g.limit.lowered = now // attempts in flight tell nothing of the new configuration
	if first := was.limit.value == 0; !first && was.breaker.state == breakerOpen && was.breaker.failures == 0 {
		g.limit.value = min(was.limit.value, float64(maximum))
	}
	return was.breaker.state != breakerOpen
}

// admission is what becomes of a lane's next delivery.
type admission struct {
	kind   admissionKind
	reason Reason    // what it waits for, or is settled for
	until  time.Time // of admitWait: when to ask again, zero: when something changes; of admitSettle: until when the cause lasts, if that is known
}

type admissionKind uint8

const (
	admitStart  admissionKind = iota // its attempt may begin
	admitWait                        // it waits in the lane
	admitSettle                      // it is settled without an attempt
	admitForm                        // it waits in the lane for others, to go out with them
	admitDrop                        // whoever submitted it has settled it
)

// admit decides whether an attempt may begin at the time now, with so many in flight. Where the answer is to wait and
// gives no time, the end of an attempt that is in flight changes it.
func (g *gate) admit(now time.Time, inFlight int, cfg *LanesConfig) admission {
	b := &g.breaker
	switch {
	case b.state == breakerGone:
		return admission{kind: admitSettle, reason: Gone}
	case b.state == breakerParked && now.Before(b.until) && !g.hold.After(b.until):
		return admission{kind: admitSettle, reason: Parked, until: b.until}
	case b.state == breakerProbing && inFlight > 0:
		return admission{kind: admitWait, reason: Parked}
	case g.hold.Sub(now) > cfg.QueueAge:
		return admission{kind: admitSettle, reason: RetryAfter, until: g.hold}
	case now.Before(g.hold):
		return admission{kind: admitWait, reason: RetryAfter, until: g.hold}
	case b.state != breakerOpen && inFlight > 0: // what was in flight when it parked; the probe begins when that has ended
		return admission{kind: admitWait, reason: Parked}
	case b.state == breakerOpen && g.limit.reached(inFlight):
		return admission{kind: admitWait, reason: QueueFull}
	}
	if b.state == breakerOpen {
		if at := g.ramp.next(now); at.After(now) {
			return admission{kind: admitWait, reason: QueueFull, until: at}
		}
	}
	if at := g.rate.next(now); at.After(now) {
		return admission{kind: admitWait, reason: Rate, until: at}
	}
	return admission{kind: admitStart}
}

// admitTest decides the same for a test event. Somebody wants to see what the receiver answers, so nothing but the
// in-flight limit and the rate holds it back.
func (g *gate) admitTest(now time.Time, inFlight int) admission {
	if g.limit.reached(inFlight) {
		return admission{kind: admitWait, reason: QueueFull}
	}
	if at := g.rate.next(now); at.After(now) {
		return admission{kind: admitWait, reason: Rate, until: at}
	}
	return admission{kind: admitStart}
}

// begin notes that an attempt begins; admit has allowed it.
func (g *gate) begin() {
	g.breaker.begin()
	g.ramp.take()
	g.rate.take()
}

// learn follows the outcome of an attempt that was begun at the time begun. It says what changes for the lane by it, and why in
// words; why is empty where nothing does.
func (g *gate) learn(out *Outcome, begun, now time.Time, maximum int, cfg *LanesConfig) (change LaneEventKind, why string) {
	switch {
	case out.lookup != 0 && out.lookup == g.lookup: // one failure, however many waited for it
		g.breaker.withoutAnswer(now)
	case out.cause != NoReason:
		g.lookup = out.lookup
		if out.hold > 0 {
			g.holdUntil(now.Add(out.hold))
		}
		if g.failed(now, begun, out.cause, out.Status, cfg) {
			return LaneParked, g.breaker.why()
		}
	case out.Result == Dead && out.Reason == Gone:
		if g.breaker.gone(now) {
			return LaneStopped, "410 Gone"
		}
	case out.Result == Delivered, out.Attempted && g.breaker.state == breakerOpen: // or a permanent status: the receiver answers, and means it
		if g.succeeded(now, maximum) {
			return LaneUnparked, out.Result.String()
		}
	default: // a permanent status tells of the event, and a break-off of nothing: only a 2xx opens a parked lane
		g.breaker.withoutAnswer(now)
	}
	return 0, ""
}

// succeeded notes a 2xx. It reports whether the lane opens by it.
func (g *gate) succeeded(now time.Time, maximum int) (opened bool) {
	if opened = g.breaker.success(); opened {
		g.limit.reopen(maximum)
		g.ramp.start(now)
	}
	g.limit.raise(maximum)
	return opened
}

// failed notes an attempt, begun at the time begun, that has to be made again. It reports whether the lane parks by it.
func (g *gate) failed(now, begun time.Time, cause Reason, status int, cfg *LanesConfig) (parked bool) {
	if g.breaker.state != breakerGone && g.limit.lower(now, begun) {
		g.ramp.setBack(later(now, g.hold))
	}
	parked = g.breaker.failure(now, cause, status, cfg)
	if g.breaker.state == breakerParked {
		g.limit.value = 1
	}
	return parked
}

// holdUntil notes a Retry-After: nothing is sent before, and then at a growing pace.
func (g *gate) holdUntil(until time.Time) {
	if until.After(g.hold) {
		g.hold = until
		g.ramp.start(until)
	}
}

// release ends a cool-down and a hold; what waited is sent at a growing pace. It reports whether the lane opens by it.
func (g *gate) release(now time.Time, maximum int) (opened bool) {
	if opened = g.breaker.release(); opened {
		g.limit.reopen(maximum)
		g.ramp.start(now)
	}
	if g.hold.After(now) {
		g.hold = now
		g.ramp.start(now)
	}
	return opened
}

// limited says whether failures or a Retry-After hold the lane below what its maximum allows.
func (g *gate) limited(now time.Time, maximum int) bool {
	return g.limit.restricted(maximum) || now.Before(g.hold) || g.ramp.active(now)
}

// forgetFailures is how long the failures of a lane that did not park are remembered after its last delivery.
const forgetFailures = time.Minute

// forgettable says whether the gate may be forgotten, its lane having been without work for the given time: a new one
// would allow no more, or nobody has asked for so long that a few attempts to learn it again cost less. A 410 is never
// forgotten.
func (g *gate) forgettable(now time.Time, unused time.Duration, cfg *LanesConfig) bool {
	b := &g.breaker
	switch {
	case now.Before(g.hold) || g.ramp.active(now) || g.rate.next(now).After(now):
		return false
	case b.state == breakerOpen:
		return b.failures == 0 || unused > forgetFailures
	case b.state == breakerGone:
		return false
	default:
		return unused > cfg.ParkMax && now.Sub(b.until) > cfg.ParkMax
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
