package dispatcher

import (
	"strconv"
	"time"
)

// breaker stops a lane whose attempts fail again and again: it parks. It has no clock: it is told the time.
//
//	open    → parked   after park_after failures in a row, for a cool-down of park_min
//	parked  → probing  when an attempt begins, at the end of the cool-down at the earliest
//	probing → parked   when that attempt fails, for twice the cool-down, park_max at most
//	probing → open     when it succeeds
//	any     → gone     by a 410, for as long as the configuration stays
type breaker struct {
	state    breakerState
	failures int           // in a row
	since    time.Time     // the first failure of the row
	cause    Reason        // of the last failure
	status   int           // of the last failure; 0: there was none
	cooldown time.Duration // the current one
	until    time.Time     // the end of the cool-down, while parked
	parkedAt time.Time     // when it last left the state open
}

type breakerState uint8

const (
	breakerOpen    breakerState = iota // attempts may begin. Electricians would say closed
	breakerParked                      // cooling down, or the next attempt is the probe
	breakerProbing                     // one attempt finds out whether the receiver is back
	breakerGone                        // 410: nothing is sent until the configuration changes
)

// begin notes that an attempt begins.
func (b *breaker) begin() {
	if b.state == breakerParked {
		b.state = breakerProbing
	}
}

// success notes a 2xx. It reports whether the lane opens by it.
func (b *breaker) success() (opened bool) {
	b.failures = 0
	return b.release()
}

// failure notes an attempt that has to be made again. It reports whether the lane parks by it.
func (b *breaker) failure(now time.Time, cause Reason, status int, cfg *LanesConfig) (parked bool) {
	if b.failures == 0 {
		b.since = now
	}
	b.failures++
	b.cause, b.status = cause, status
	switch {
	case b.state == breakerProbing:
		b.cooldown = min(2*b.cooldown, cfg.ParkMax)
	case b.state == breakerOpen && b.failures >= cfg.ParkAfter:
		b.cooldown, b.parkedAt, parked = cfg.ParkMin, now, true
	default:
		return false
	}
	b.state, b.until = breakerParked, now.Add(b.cooldown)
	return parked
}

// withoutAnswer notes that an attempt ended and told nothing of the receiver. If it was the probe, the next one may go.
func (b *breaker) withoutAnswer(now time.Time) {
	if b.state == breakerProbing {
		b.state, b.until = breakerParked, now
	}
}

// gone notes a 410. It reports false where there was one before.
func (b *breaker) gone(now time.Time) bool {
	if b.state == breakerGone {
		return false
	}
	if b.state == breakerOpen {
		b.parkedAt = now
	}
	b.state = breakerGone
	return true
}

// release ends a cool-down. It reports whether the lane opens by it.
func (b *breaker) release() (opened bool) {
	if opened = b.state == breakerParked || b.state == breakerProbing; opened {
		b.state, b.cooldown, b.failures = breakerOpen, 0, 0
	}
	return opened
}

// why is the cause of the trouble, for people.
func (b *breaker) why() string {
	failures := " failures"
	if b.failures == 1 {
		failures = " failure"
	}
	text := strconv.Itoa(b.failures) + failures + " in a row since " + b.since.UTC().Format(time.RFC3339) + ", last: " + b.cause.String()
	if b.status != 0 {
		text += " " + strconv.Itoa(b.status)
	}
	return text
}
