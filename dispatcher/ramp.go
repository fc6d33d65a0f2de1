package dispatcher

import (
	"math"
	"time"
)

// The ramp begins at rampStart attempts a second, doubles every rampDouble, and is over once it is beyond rampEnd.
const (
	rampStart  = 20.0
	rampDouble = 2 * time.Second
	rampEnd    = 10_000.0
)

// ramp is the growing pace of a lane that opened again, so that what waited for it does not arrive all at once. The zero
// ramp holds nothing back. It has no clock: it is told the time.
type ramp struct {
	from   time.Time // zero: no ramp
	bucket bucket
}

// start begins a ramp at the given time, which may lie ahead.
func (r *ramp) start(at time.Time) { r.from, r.bucket = at, bucket{tokens: 1, at: at} }

// setBack slows a ramp down by one doubling, after a failure; it does not begin before the time earliest.
func (r *ramp) setBack(earliest time.Time) {
	if r.from.IsZero() {
		return
	}
	if r.from = r.from.Add(rampDouble); r.from.After(earliest) {
		r.from = earliest
	}
}

// next is when the ramp allows the next attempt. The zero time says now.
func (r *ramp) next(now time.Time) time.Time {
	if r.from.IsZero() {
		return time.Time{}
	}
	pace := r.pace(now)
	if pace > rampEnd {
		r.from = time.Time{}
		return time.Time{}
	}
	return r.bucket.next(now, pace, max(1, pace/20))
}

// take notes that an attempt begins.
func (r *ramp) take() {
	if !r.from.IsZero() {
		r.bucket.take()
	}
}

// pace is how many attempts a second the ramp allows at the time now.
func (r *ramp) pace(now time.Time) float64 {
	return rampStart * math.Exp2(now.Sub(r.from).Seconds()/rampDouble.Seconds())
}

// active says whether the ramp still holds the lane back.
func (r *ramp) active(now time.Time) bool { return !r.from.IsZero() && r.pace(now) <= rampEnd }
