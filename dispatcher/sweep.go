package dispatcher

import (
	"maps"
	"time"
)

// sweepQueues defers what has waited in a lane for longer than its bound. Waiting for a place that other lanes hold
// does not count. It also wakes a queue that nothing holds back any more, since a changed configuration or share of
// the rate announces itself to nobody.
func (d *Dispatcher) sweepQueues(now time.Time) {
	d.agingMu.Lock()
	lanes := d.aging
	d.aging = nil
	d.agingMu.Unlock()
	var over []settled
	keep := lanes[:0]
	for _, l := range lanes {
		lined := d.slots.lined(l)
		idle := false
		l.mu.Lock()
		d.refreshShare(l, now)
		if !lined {
			over, idle = d.shed(l, now, over)
		}
		if l.head != nil && !l.slow && d.crowds(l, now) { // nothing may be read that would find it out
			d.markSlow(l)
		}
		if l.head != nil {
			keep = append(keep, l)
		} else {
			l.listed = false
		}
		l.mu.Unlock()
		d.settleAll(over)
		clear(over)
		over = over[:0]
		if idle {
			d.resume(l, false, false)
			d.wakeLine()
		}
	}
	clear(lanes[len(keep):])
	d.agingMu.Lock()
	d.aging = append(keep, d.aging...)
	d.agingMu.Unlock()
}

// shed defers the head of the queue for as long as it is too old. It reports whether the queue could go on. The lane
// is locked.
func (d *Dispatcher) shed(l *lane, now time.Time, over []settled) ([]settled, bool) {
	for l.head != nil {
		v, at, reason := l.admit(now)
		switch {
		case v == verdictGo:
			return over, true
		case v == verdictDead:
			return d.flush(l, now, over), false
		case now.Sub(l.head.queued) <= d.cfg.Lanes.QueueAge:
			return over, false
		case v == verdictWait:
			at = time.Time{} // that is when to ask again, not how long it will take
		}
		del := d.take(l)
		if !del.Claimed() {
			over = append(over, settled{del, d.deferral(l, del, now, reason, at)})
		}
	}
	return over, false
}

// orphaned says that a 410 need not be remembered any more: its subscription is gone, and one that comes in its place is
// another configuration.
func (d *Dispatcher) orphaned(key laneKey, l *lane) bool {
	return l.health.state == laneGone && d.dir.Lookup(key.account, key.subscription) == nil
}

// evictIdle forgets the lanes of a shard that have no work and nothing to remember.
func (d *Dispatcher) evictIdle(s *laneShard, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.most = max(s.most, len(s.lanes))
	keep := idleAfter
	if len(s.lanes) > crowded {
		keep = crowdedAfter
	}
	for key, l := range s.lanes {
		l.mu.Lock()
		unused := now.Sub(l.used)
		if l.inFlight == 0 && l.head == nil && !l.listed && unused > keep && (l.idle(now, unused, &d.cfg.Lanes) || d.orphaned(key, l)) {
			l.evicted = true
			if l.timer != nil {
				l.timer.Stop()
			}
			delete(s.lanes, key)
		}
		l.mu.Unlock()
	}
	// A map keeps the memory of the most it ever held.
	if s.most > 256 && len(s.lanes) < s.most/4 {
		lanes := make(map[laneKey]*lane, len(s.lanes))
		maps.Copy(lanes, s.lanes)
		s.lanes, s.most = lanes, len(lanes)
	}
}
