package dispatcher

import "time"

// capacity is that of Dispatcher.Capacity, as far as the lane, which is locked, can tell. More than it sends within a second is not called for at once.
func (l *lane) capacity(now time.Time, queueAge time.Duration) (n int, open bool) {
	g, b := &l.gate, &l.gate.breaker
	switch {
	case b.state == breakerGone, b.state == breakerParked && now.Before(b.until), now.Before(g.hold):
		if l.owes == NoReason {
			l.owes = Parked // what waits in the retry topics is to be fetched when it opens
		}
		return 0, false
	case b.state == breakerParked && l.inFlight == 0 && l.queue.length == 0:
		return 1, true // the probe
	case b.state != breakerOpen:
		return 0, true
	}
	size := l.batchSize(now) // of what one request carries
	n = (int(g.limit.value)-l.inFlight)*size - l.queue.length
	within := func(pace float64) int { return max(1, int(pace))*size - l.queue.length }
	if b.failures == 0 && l.drain.latency < queueAge.Seconds()/2 { // else what waits for an attempt to end waits for too long
		n = max(n, int(l.drain.pace.now(now))*size-l.queue.length)
	}
	if g.ramp.active(now) {
		n = min(n, within(g.ramp.pace(now)))
	}
	if g.rate.perSecond > 0 {
		if n = min(n, within(g.rate.own())); g.rate.next(now).Sub(now) > queueAge/2 {
			n = 0
		}
	}
	return max(0, n), true
}
