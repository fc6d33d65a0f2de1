package dispatcher

import "time"

// rate holds a lane to its subscription's maxPerSecond, or to what of it is this instance's. It has no clock: it is told
// the time.
type rate struct {
	perSecond float64 // maxPerSecond; 0: no bound
	share     float64 // of it, this instance's: 0 to 1
	sharedAt  time.Time
	bucket    bucket
}

// own is this instance's part, in attempts a second. It is never 0: each instance must be able to begin.
func (r *rate) own() float64 { return max(r.perSecond*r.share, 0.0001) }

// next is when the rate allows the next attempt. The zero time says now.
func (r *rate) next(now time.Time) time.Time {
	if r.perSecond <= 0 {
		return time.Time{}
	}
	own := r.own()
	// Credit for 50 ms keeps the pace through timers that are late, and lets no burst through.
	return r.bucket.next(now, own, 1+own/20)
}

// take notes that an attempt begins.
func (r *rate) take() {
	if r.perSecond > 0 {
		r.bucket.take()
	}
}

// setShare changes the instance's share. It falls at once and rises over a few seconds: the other instances learn a
// little later that less is theirs.
func (r *rate) setShare(now time.Time, share float64) {
	if !r.sharedAt.IsZero() {
		share = min(share, r.share+now.Sub(r.sharedAt).Seconds()/4)
	}
	r.share, r.sharedAt = share, now
}
