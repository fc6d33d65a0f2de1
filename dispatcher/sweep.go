package dispatcher

import "sync"

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
