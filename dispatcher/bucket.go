package dispatcher

import "time"

// bucket is a token bucket: it spaces events to a rate, in tokens a second. It has no clock: it is told the time.
type bucket struct {
	tokens float64
	at     time.Time // when tokens was right; zero: never asked, and one token is there
}

// next is when the bucket has a token, at the given rate and with no more than burst of them saved up. The zero time says
// that it has one now.
func (b *bucket) next(now time.Time, rate, burst float64) time.Time {
	if b.at.IsZero() {
		b.tokens, b.at = 1, now
	}
	if now.After(b.at) {
		b.tokens = min(b.tokens+rate*now.Sub(b.at).Seconds(), burst)
		b.at = now
	}
	if b.tokens >= 1 {
		return time.Time{}
	}
	// A microsecond more, so that rounding does not leave a timer a hair too early.
	return now.Add(time.Duration((1-b.tokens)/rate*float64(time.Second)) + time.Microsecond)
}

// take uses a token that next has seen.
func (b *bucket) take() { b.tokens-- }
