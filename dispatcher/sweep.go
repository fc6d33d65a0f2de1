package dispatcher

import (
	"sync"
	"time"
)

// sweepList is the lanes whose queues are looked at every sweepEvery. It is safe for concurrent use.
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

// sweep lets each lane go on that has a queue: deliveries there may have grown too old, and a changed configuration or share of
// the rate announces itself to nobody.
func (w *workers) sweep(now time.Time) {
	lanes := w.queued.take()
	var over []settled
	left := lanes[:0]
	for _, l := range lanes {
		l.mu.Lock()
		w.follower.refreshShare(l, now)
		w.advance(l, nil, noPermit, now, &over)
		w.backlog.count(l, waiting{}, now) // its allowance follows its pace, which nobody else tells
		if l.listed = l.queue.length > 0; l.listed {
			left = append(left, l)
		}
		l.mu.Unlock()
		w.outcomes.settleAll(over)
		clear(over)
		over = over[:0]
	}
	clear(lanes[len(left):])
	w.queued.add(left...)
}
