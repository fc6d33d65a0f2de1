package dispatcher

import (
	"sync"
	"time"
)

// sweepList is the lanes whose queues are looked at every sweepEvery.
type sweepList struct {
	mu    sync.Mutex // guards lanes
	lanes []*lane    // each once: lane.listed says that it is there
}

func (s *sweepList) add(lanes ...*lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lanes = append(s.lanes, lanes...)
}

func (s *sweepList) take() []*lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	lanes := s.lanes
	s.lanes = nil
	return lanes
}

// sweepQueues lets each lane go on that has a queue: deliveries there may have grown too old, and a changed configuration or
// share of the rate announces itself to nobody.
func (d *Dispatcher) sweepQueues(now time.Time) {
	lanes := d.sweep.take()
	var over []settled
	left := lanes[:0]
	for _, l := range lanes {
		l.mu.Lock()
		d.refreshShare(l, now)
		d.advance(l, nil, noPermit, now, &over)
		d.backlog.count(l, waiting{}, now) // its allowance follows its pace, which nobody else tells
		if l.listed = l.queue.length > 0; l.listed {
			left = append(left, l)
		}
		l.mu.Unlock()
		d.outcomes.settleAll(over)
		clear(over)
		over = over[:0]
	}
	clear(lanes[len(left):])
	d.sweep.add(left...)
}

// visit looks after the lanes and accounts of a shard: it samples their loads, tells which lanes are open again, and forgets
// those that have no work and nothing to remember.
func (d *Dispatcher) visit(shard int, now time.Time) {
	d.lanes.accounts.sweep(shard, now)
	d.lanes.visit(shard, now, func(l *lane) {
		l.load.sample()
		if l.owes != NoReason {
			d.follow(l, now)
			d.tellOpened(l, now)
		}
	}, func(l *lane, unused time.Duration) bool {
		return l.forgettable(now, unused, &d.cfg.Lanes) || d.orphaned(l)
	})
}

// follow lets a lane, which is locked, follow the directory although nothing arrives.
func (d *Dispatcher) follow(l *lane, now time.Time) {
	if version := d.dir.Version(); l.version != version && l.queue.length == 0 {
		sub := d.dir.Lookup(l.key.account, l.key.subscription)
		if sub != nil && sub.Enabled() && sub.Invalid() == "" {
			if l.version = version; !l.sub.Same(sub) {
				d.adopt(l, sub, now)
			}
		}
	}
}

// tellOpened tells that what the lane, which is locked, has deferred is welcome again, once that is so.
func (d *Dispatcher) tellOpened(l *lane, now time.Time) {
	if l.queue.length > 0 || l.sub.Paused() || l.req.blocked != "" || d.halt.suspended() {
		return
	}
	if adm := l.gate.admit(now, l.inFlight, &d.cfg.Lanes); adm.kind != admitStart {
		return
	}
	if b := &l.gate.breaker; b.state != breakerOpen {
		if !l.probeDue.Equal(b.until) {
			l.probeDue = b.until
			d.reporter.report(l, LaneProbeDue, "the cool-down is over", now)
		}
		return
	}
	if l.opened == "" {
		l.opened = "it has room again"
	}
	d.reporter.report(l, LaneOpened, l.opened, now)
	l.owes, l.opened = NoReason, ""
}

// orphaned says that a 410, or a pause, need not be remembered any more: its subscription is gone, and one that comes in its
// place is another configuration.
func (d *Dispatcher) orphaned(l *lane) bool {
	return d.dir.Lookup(l.key.account, l.key.subscription) == nil && (l.gate.breaker.state == breakerGone || l.owes != NoReason)
}
