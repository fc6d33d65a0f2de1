package dispatcher

import (
	"sync"
	"sync/atomic"
)

// slots is the process-wide bound on attempts under way (delivery.max_in_flight). Lanes whose receivers are not proven
// (health.unproven) may together hold half of it, so that no number of hanging receivers takes the places of the others.
//
// Where there is room, acquiring and releasing is one atomic addition. Where there is none, a lane waits in line, and
// whoever releases hands its place to the first one that may have it.
type slots struct {
	limit, unprovenLimit int64
	used, unproven       atomic.Int64
	room                 atomic.Int64 // of limit, for those with proven receivers; see trim
	waiting              atomic.Int64 // lanes in line

	mu   sync.Mutex // guards all below, and lane.inLine
	line [2][]*lane // those with proven receivers first; an entry whose lane has left that line is void
	turn int        // places handed out
}

// place says in which line a lane waits.
type place uint8

const (
	notInLine place = iota
	inProvenLine
	inUnprovenLine
)

// unprovenTurn lets every so many-th place go to the line of the unproven first: with all places taken by receivers
// that are slow but well, the others would else never get to prove themselves.
const unprovenTurn = 8

func newSlots(limit int) *slots {
	s := &slots{limit: int64(limit), unprovenLimit: int64(max(1, limit/2))}
	s.room.Store(min(s.limit, trimStart))
	return s
}

func (s *slots) tryAcquire(unproven bool) bool {
	if used := s.used.Add(1); used > s.limit || !unproven && used-s.unproven.Load() > s.room.Load() {
		s.used.Add(-1)
		return false
	}
	if unproven && s.unproven.Add(1) > s.unprovenLimit {
		s.unproven.Add(-1)
		s.used.Add(-1)
		return false
	}
	return true
}

// acquire takes a place for the lane, or puts it in line and returns false: wake hands it a place later. The caller
// then calls wake.
func (s *slots) acquire(l *lane, unproven bool) bool {
	if s.tryAcquire(unproven) {
		return true
	}
	s.lineUp(l, unproven)
	return false
}

// lineUp puts the lane in line for a place; one that waits among the unproven and has proved itself changes over. The
// caller then calls wake, lest the last place was released meanwhile.
func (s *slots) lineUp(l *lane, unproven bool) {
	to := inProvenLine
	if unproven {
		to = inUnprovenLine
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.inLine == to || l.inLine == inProvenLine {
		return
	}
	if l.inLine == notInLine {
		s.waiting.Add(1)
	}
	l.inLine = to
	s.line[to-1] = append(s.line[to-1], l)
}

// lined says whether the lane waits for a place.
func (s *slots) lined(l *lane) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return l.inLine != notInLine
}

// release gives a place back. The caller then calls wake.
func (s *slots) release(unproven bool) {
	if unproven {
		s.unproven.Add(-1)
	}
	s.used.Add(-1)
}

// wake takes a free place for the first lane in line that may have one; nil where there is none of either. Whoever
// releases or lines up calls it until it returns nil: a lane that lined up while the last place was being released is
// seen by one of the two, since waiting is raised before the one looks and used is lowered before the other does. An
// attempt to acquire that fails raises used for a moment and may hide a free place: whoever made it calls wake too.
func (s *slots) wake() (l *lane, unproven bool) {
	if s.waiting.Load() == 0 {
		return nil, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	order := [...]place{inProvenLine, inUnprovenLine}
	if s.turn%unprovenTurn == 0 {
		order = [...]place{inUnprovenLine, inProvenLine}
	}
	for _, at := range order {
		unproven = at == inUnprovenLine
		if l = s.first(at); l != nil && s.tryAcquire(unproven) {
			s.line[at-1] = s.line[at-1][1:]
			l.inLine = notInLine
			s.turn++
			s.waiting.Add(-1)
			return l, unproven
		}
	}
	return nil, false
}

// first is the first lane of a line, after the void entries in front of it.
func (s *slots) first(at place) *lane {
	line := s.line[at-1]
	for len(line) > 0 && line[0].inLine != at {
		line[0] = nil
		line = line[1:]
	}
	s.line[at-1] = line
	if len(line) == 0 {
		return nil
	}
	return line[0]
}
