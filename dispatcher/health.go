package dispatcher

import (
	"math"
	"strconv"
	"time"
)

// minLimit is the in-flight limit a lane starts with, where its maximum allows (DESIGN.md section 3, Lanes).
const minLimit = 8

// The ramp after a lane comes back: what waited drains at a growing pace, not as a stampede. It begins at rampStart
// attempts a second, doubles every rampDouble, and ends once it is beyond rampEnd.
const (
	rampStart  = 20.0
	rampDouble = 2 * time.Second
	rampEnd    = 10_000.0
)

// health is what a lane knows of its receiver, and decides from it. It is a pure state machine: no clock, no lock, no
// I/O; every method is told the time. The lane guards it.
type health struct {
	limit       float64   // attempts allowed at once; 1 ≤ limit ≤ the lane's maximum
	failed      bool      // a failure has been seen: growth is additive from then on
	proven      bool      // the last attempt that ended was a success
	alive       time.Time // the last success, or when the first of the attempts under way began
	lowered     time.Time // when the limit was last lowered: one decrease for all attempts begun before
	failures    int       // in a row
	since       time.Time // the first failure of the row
	cause       Reason    // of the last failure
	status      int       // of the last failure
	state       laneState
	until       time.Time     // end of the cool-down, while parked
	cooldown    time.Duration // the current one
	hold        time.Time     // Retry-After: nothing is sent before
	rampFrom    time.Time     // zero: no ramp
	rampTokens  float64
	rampUpdated time.Time
}

// laneState is a lane's state as the metric and the operators name it.
type laneState uint8

const (
	laneOpen   laneState = iota
	laneParked           // cooling down; nothing is sent
	laneProbe            // cooled down; one attempt at a time finds out whether the receiver is back
	laneGone             // 410: nothing is sent until the configuration changes
)

func newHealth(maximum int) health {
	return health{limit: float64(min(minLimit, maximum))}
}

// verdict is the decision whether an attempt may begin now.
type verdict uint8

const (
	verdictGo    verdict = iota // an attempt may begin
	verdictWait                 // not now: the in-flight limit or the pace forbids it, an end of an attempt or time allows it
	verdictDefer                // not before a time that lies further away than a queue should hold
	verdictDead                 // never, until the configuration changes
)

// admit decides whether an attempt may begin now, with inFlight of them under way. The time is the earliest moment at
// which asking again makes sense; zero means when an attempt ends. The reason belongs to verdictDefer.
func (h *health) admit(now time.Time, inFlight int) (verdict, time.Time, Reason) {
	switch h.state {
	case laneGone:
		return verdictDead, time.Time{}, Gone
	case laneParked:
		if now.Before(h.until) && !h.hold.After(h.until) {
			return verdictDefer, h.until, Parked
		}
	case laneProbe:
		if inFlight > 0 {
			return verdictWait, time.Time{}, Parked
		}
	case laneOpen:
	}
	if now.Before(h.hold) {
		return verdictDefer, h.hold, RetryAfter
	}
	if h.state != laneOpen {
		if inFlight > 0 { // what was under way when it parked; the probe comes when it has ended
			return verdictWait, time.Time{}, Parked
		}
		return verdictGo, time.Time{}, NoReason
	}
	if inFlight >= int(h.limit) {
		return verdictWait, time.Time{}, QueueFull
	}
	if at := h.rampNext(now); at.After(now) {
		return verdictWait, at, QueueFull
	}
	return verdictGo, time.Time{}, NoReason
}

// begin notes that an attempt begins, with inFlight under way before it; admit has allowed it.
func (h *health) begin(now time.Time, inFlight int) {
	if inFlight == 0 {
		h.alive = now
	}
	if h.state == laneParked {
		h.state = laneProbe
	}
	if !h.rampFrom.IsZero() {
		h.rampTokens--
	}
}

// success notes a 2xx. It reports whether the lane was un-parked by it.
func (h *health) success(now time.Time, maximum int) (unparked bool) {
	if h.state == laneParked || h.state == laneProbe {
		unparked = true
		h.state, h.cooldown = laneOpen, 0
		h.limit, h.failed = float64(min(2, maximum)), false
		h.startRamp(now)
	}
	h.failures, h.proven, h.alive = 0, true, now
	grow := 1.0
	if h.failed {
		grow = 1 / h.limit
	}
	h.limit = min(h.limit+grow, float64(maximum))
	return unparked
}

// failure notes an attempt, begun at the given time, that has to be made again. It reports whether the lane parks.
func (h *health) failure(now, begun time.Time, reason Reason, status int, cfg *LanesConfig) (parked bool) {
	if h.failures == 0 {
		h.since = now
	}
	h.failures++
	h.cause, h.status, h.proven = reason, status, false
	if h.state == laneGone {
		return false
	}
	// All attempts that were under way together tell of one trouble: the limit is halved once for them.
	if !begun.Before(h.lowered) {
		h.limit, h.failed, h.lowered = max(1, h.limit/2), true, now
		if !h.rampFrom.IsZero() {
			h.rampFrom = h.rampFrom.Add(rampDouble)
			if begins := h.rampBegins(now); h.rampFrom.After(begins) {
				h.rampFrom = begins
			}
		}
	}
	switch {
	case h.state == laneProbe:
		h.cooldown = min(2*h.cooldown, cfg.ParkMax)
	case h.state == laneOpen && h.failures >= cfg.ParkAfter:
		h.cooldown = cfg.ParkMin
		parked = true
	default:
		return false
	}
	h.state, h.until, h.limit = laneParked, now.Add(h.cooldown), 1
	return parked
}

// abandonProbe notes that an attempt ended without an answer about the receiver: if it was the probe, the next one may go.
func (h *health) abandonProbe(now time.Time) {
	if h.state == laneProbe {
		h.state, h.until = laneParked, now
	}
}

// why is the cause of the trouble, for people.
func (h *health) why() string {
	text := strconv.Itoa(h.failures) + " failures in a row since " + h.since.UTC().Format(time.RFC3339) + ", last: " + h.cause.String()
	if h.status != 0 {
		text += " " + strconv.Itoa(h.status)
	}
	return text
}

// holdUntil notes a Retry-After: the whole lane waits, and comes back at a growing pace.
func (h *health) holdUntil(until time.Time) {
	if until.After(h.hold) {
		h.hold = until
		h.startRamp(until)
	}
}

// rampBegins is when a ramp that has to begin anew does: not before the hold ends.
func (h *health) rampBegins(now time.Time) time.Time {
	if h.hold.After(now) {
		return h.hold
	}
	return now
}

func (h *health) startRamp(at time.Time) {
	h.rampFrom, h.rampUpdated, h.rampTokens = at, at, 1
}

// rampNext is the time at which the ramp allows the next attempt; not after now: at once.
func (h *health) rampNext(now time.Time) time.Time {
	if h.rampFrom.IsZero() {
		return time.Time{}
	}
	pace := h.rampPace(now)
	if pace > rampEnd {
		h.rampFrom = time.Time{}
		return time.Time{}
	}
	if now.After(h.rampUpdated) {
		h.rampTokens = min(h.rampTokens+pace*now.Sub(h.rampUpdated).Seconds(), max(1, pace/20))
		h.rampUpdated = now
	}
	if h.rampTokens >= 1 {
		return time.Time{}
	}
	return now.Add(time.Duration((1-h.rampTokens)/pace*float64(time.Second)).Round(time.Millisecond) + time.Millisecond)
}

// rampPace is how many attempts a second the ramp allows.
func (h *health) rampPace(now time.Time) float64 {
	return rampStart * math.Exp2(now.Sub(h.rampFrom).Seconds()/rampDouble.Seconds())
}

func (h *health) ramping(now time.Time) bool {
	return !h.rampFrom.IsZero() && h.rampPace(now) <= rampEnd
}

// stallAfter is how long a lane with attempts under way may go without a success before it counts as stalled.
const stallAfter = 500 * time.Millisecond

// stalled says that attempts are under way and none has succeeded for a while.
func (h *health) stalled(now time.Time, inFlight int) bool {
	return inFlight > 0 && now.Sub(h.alive) > stallAfter
}

// unproven says that the next attempt may well hold its place until the time-out. A receiver that nothing is known of
// gets one attempt on credit, lest many receivers that hang keep it from ever proving itself.
func (h *health) unproven(now time.Time, inFlight int) bool {
	return !h.proven && (inFlight > 0 || h.failures > 0) || h.stalled(now, inFlight)
}

// limited says that the lane is held below what its maximum allows, by failures or by a Retry-After.
func (h *health) limited(now time.Time, maximum int) bool {
	return h.failed && int(h.limit) < min(minLimit, maximum) || now.Before(h.hold) || h.ramping(now)
}

// forgetFailures is how long the failures of a lane that did not park are remembered after its last delivery.
const forgetFailures = time.Minute

// idle says that the state may be forgotten, the lane having been without work for the given time: it holds nothing
// that a fresh one would not, or nobody has asked for so long that a few attempts to learn it anew cost less. A 410 is
// never forgotten.
func (h *health) idle(now time.Time, unused time.Duration, cfg *LanesConfig) bool {
	switch {
	case now.Before(h.hold) || h.ramping(now):
		return false
	case h.state == laneOpen:
		return h.failures == 0 || unused > forgetFailures
	case h.state == laneGone:
		return false
	default:
		return unused > cfg.ParkMax && now.Sub(h.until) > cfg.ParkMax
	}
}
