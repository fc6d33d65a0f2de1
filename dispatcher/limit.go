package dispatcher

import "time"

// minLimit is the in-flight limit that a lane starts with, where its maximum allows.
const minLimit = 8

// limit is how many attempts of a lane may be in flight at once, between 1 and a maximum. It grows by one for each success
// until the first failure and then by one for each round of successes, and is halved when attempts fail: additive
// increase, multiplicative decrease. It has no clock: it is told the time.
type limit struct {
	value   float64
	failed  bool      // there was a failure: growth is additive from then on
	lowered time.Time // when it was last halved
}

func newLimit(maximum int) limit { return limit{value: float64(min(minLimit, maximum))} }

// reached says whether no more attempts than these may be in flight.
func (l *limit) reached(inFlight int) bool { return inFlight >= int(l.value) }

// raise notes a success.
func (l *limit) raise(maximum int) {
	step := 1.0
	if l.failed {
		step = 1 / l.value
	}
	l.value = min(l.value+step, float64(maximum))
}

// lower notes the failure of an attempt that began at the time begun. It reports false where the limit stays: all attempts
// that were in flight together tell of one fault, for which it is halved once.
func (l *limit) lower(now, begun time.Time) bool {
	if begun.Before(l.lowered) {
		return false
	}
	l.value, l.failed, l.lowered = max(1, l.value/2), true, now
	return true
}

// reopen sets the limit of a lane that was parked: it grows from two by one for each success.
func (l *limit) reopen(maximum int) { l.value, l.failed = float64(min(2, maximum)), false }

// restricted says whether failures hold the limit below what a fresh lane would have.
func (l *limit) restricted(maximum int) bool {
	return l.failed && int(l.value) < min(minLimit, maximum)
}
