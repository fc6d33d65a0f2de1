package dispatcher

import (
	"math"
	"time"
)

// meter is how many of something happen a second, smoothed over the last two seconds.
type meter struct {
	value float64
	at    time.Time
}

const smoothing = 2.0 // seconds

func (m *meter) now(now time.Time) float64 {
	gap := now.Sub(m.at).Seconds()
	if gap <= 0 {
		return m.value
	}
	return m.value * math.Exp(-gap/smoothing)
}

func (m *meter) count(now time.Time, n int) {
	m.value = m.now(now) + float64(n)/smoothing
	if now.After(m.at) {
		m.at = now
	}
}

// maxDrain bounds an estimate: a receiver that has become faster need not wait for an old one.
const maxDrain = 5 * time.Minute

// drain estimates how long a lane needs for what waits for it, here and in the retry topics.
type drain struct {
	pace    meter     // of deliveries whose attempts ended
	latency float64   // of an attempt, in seconds, smoothed
	until   time.Time // when the last delivery that was deferred for lack of room will have been attempted
}

// ended notes the end of an attempt that took so long, with so many deliveries.
func (d *drain) ended(now time.Time, took time.Duration, deliveries int) {
	const weight = 0.125
	d.pace.count(now, deliveries)
	d.latency += weight * (took.Seconds() - d.latency)
}

// estimate is when a delivery that finds no room now will find some: what was deferred before it is served first, so that
// each makes few rounds through the retry topics. queued is how many wait in the lane; limit is how many attempts may be
// in flight at once, 0 where that says nothing of the pace; most bounds the pace, 0 for no bound.
func (d *drain) estimate(now time.Time, queued int, limit, most float64) time.Time {
	// The measured pace says little of a lane that was idle until now.
	pace := max(d.pace.now(now), 1)
	if d.latency > 0 {
		pace = max(pace, limit/d.latency)
	}
	if most > 0 {
		pace = min(pace, most)
	}
	if d.until.Before(now) {
		d.until = now.Add(time.Duration(float64(queued) / pace * float64(time.Second)))
	}
	d.until = d.until.Add(time.Duration(float64(time.Second) / pace))
	if latest := now.Add(maxDrain); d.until.After(latest) {
		d.until = latest
	}
	return d.until
}
