package dispatcher

import (
	"container/heap"
	"sync"
	"sync/atomic"
	"time"
)

// semaphore holds the permits of the process: the right to have an attempt in flight (delivery.max_in_flight). They are
// shared by account first, then by lane: mayTake says who may take one that is free, and where none is, the next one goes to
// the account, and of that to the lane, with the smallest load.
//
// While nobody waits, taking and giving back is a few atomic additions. With waiters the lock decides, and a permit that is
// given back goes to the first of them at once.
type semaphore struct {
	maximum  int64        // permits
	limit    atomic.Int64 // how many of them may be in use; tuneConcurrency moves it
	used     atomic.Int64
	accounts *atomic.Int64 // how many share them

	waiting atomic.Int64 // lanes; changed under mu
	mu      sync.Mutex   // guards all below, and the waiter of each lane and account
	waiters waiters      // accounts that have lanes which wait
	turns   uint64

	forTest atomic.Bool // the permit beside all others that is kept for test events is in use
}

// waiter is an entry of waiters: an account, or a lane.
type waiter struct {
	load load

	lane     *lane    // one of the two
	account  *account // is set
	order    int64    // of load, when it was last put in its place
	turn     uint64   // first come, first served among equals
	position int      // in waiters, from 1; 0: it does not wait
}

// waiters is a heap, the smallest load first.
//
//nolint:recvcheck // heap.Interface wants both
type waiters []*waiter

func (ws waiters) Len() int { return len(ws) }

func (ws waiters) Less(i, j int) bool {
	if ws[i].order != ws[j].order {
		return ws[i].order < ws[j].order
	}
	return ws[i].turn < ws[j].turn
}

func (ws waiters) Swap(i, j int) {
	ws[i], ws[j] = ws[j], ws[i]
	ws[i].position, ws[j].position = i+1, j+1
}

// Push implements heap.Interface.
func (ws *waiters) Push(x any) {
	w, _ := x.(*waiter)
	*ws = append(*ws, w)
	w.position = len(*ws)
}

// Pop implements heap.Interface.
func (ws *waiters) Pop() any {
	last := len(*ws) - 1
	w := (*ws)[last]
	(*ws)[last] = nil
	*ws = (*ws)[:last]
	w.position = 0
	return w
}

// enter adds the waiter, behind those with the same load.
func (ws *waiters) enter(w *waiter, turn uint64) {
	w.order, w.turn = w.load.now(), turn
	heap.Push(ws, w)
}

func (ws *waiters) leave(w *waiter) { heap.Remove(ws, w.position-1) }

// first is the waiter with the smallest load.
func (ws *waiters) first() *waiter {
	w := (*ws)[0]
	for range len(*ws) { // loads change while nobody looks
		now := w.load.now()
		if now == w.order {
			break
		}
		w.order = now
		heap.Fix(ws, 0)
		w = (*ws)[0]
	}
	return w
}

func newSemaphore(permits int, accounts *atomic.Int64) *semaphore {
	s := &semaphore{maximum: int64(permits), accounts: accounts}
	s.limit.Store(min(s.maximum, tuneStart))
	return s
}

// allows says whether the lane may take one of so many free permits. more is added to the loads: it is what is not held any
// more, or not yet.
func (s *semaphore) allows(l *lane, limit, free, more int64) bool {
	mine, lanes := l.load.now()+more, l.account.load.now()+more
	if mine <= 0 && lanes <= 0 {
		return free > 0
	}
	share := 1000 * limit / max(1, s.accounts.Load())
	return mayTake(lanes, share, limit, free) && mayTake(mine, share/max(1, l.account.lanes.Load()), limit, free)
}

// exceedsShare says whether the account has lately used more permits than an equal share of them, rounded up.
func (s *semaphore) exceedsShare(a *account) bool {
	return int64(a.load.average.Load()) > 1000*share(s.limit.Load(), s.accounts.Load())
}

// take takes a free permit for the lane, if it may.
func (s *semaphore) take(l *lane) bool {
	for {
		used, limit := s.used.Load(), s.limit.Load()
		if !s.allows(l, limit, limit-used, 0) {
			return false
		}
		if s.used.CompareAndSwap(used, used+1) {
			l.load.held.Add(1)
			l.account.load.held.Add(1)
			return true
		}
	}
}

// acquire takes a permit for the lane, or lets it wait: release, pass or next hands it one later.
func (s *semaphore) acquire(l *lane) bool {
	if s.waiting.Load() == 0 && s.take(l) {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// It waits before it looks again: whoever gives a permit back meanwhile sees that it does. And it does not overtake.
	s.enter(l)
	return s.grant(l) == l
}

// release gives the lane's permit back. It returns the lane that has a permit instead, if one has waited.
func (s *semaphore) release(l *lane) *lane {
	s.free(l)
	if s.waiting.Load() == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reorder(l)
	return s.grant(nil)
}

// pass is for a lane whose attempt has ended and that could begin another. It returns the lane which has the permit now:
// the same one, or the first of the waiters where the lane has to wait for its turn; nil where the lane has more than it may
// and nobody can have the permit instead.
func (s *semaphore) pass(l *lane) *lane {
	if s.waiting.Load() == 0 {
		limit := s.limit.Load()
		if s.allows(l, limit, limit-s.used.Load()+1, -1000) {
			return l
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free(l)
	s.enter(l)
	s.reorder(l)
	return s.grant(nil)
}

// next takes a permit for the first of the waiters; nil where there is none for any.
func (s *semaphore) next() *lane {
	if s.waiting.Load() == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.grant(nil)
}

// refresh puts all waiters in their places again. It is called once a second: the average of whoever waits falls.
func (s *semaphore) refresh() {
	if s.waiting.Load() == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.waiters {
		w.order = w.load.now()
		for _, l := range w.account.waiters {
			l.order = l.load.now()
		}
		heap.Init(&w.account.waiters)
	}
	heap.Init(&s.waiters)
}

// tune lets the tuner say how many permits may be in use, attempts having ended so far.
func (s *semaphore) tune(t *tuner, now time.Time, attempts uint64) {
	s.limit.Store(t.tuneConcurrency(now, s.limit.Load(), s.maximum, attempts, s.waiting.Load() > 0))
}

// reorder puts the lane and its account in their places after they gave a permit back. s.mu is locked.
func (s *semaphore) reorder(l *lane) {
	if a := l.account; a.position != 0 {
		a.order = a.load.now()
		heap.Fix(&s.waiters, a.position-1)
		if l.position != 0 {
			l.order = l.load.now()
			heap.Fix(&a.waiters, l.position-1)
		}
	}
}

func (s *semaphore) free(l *lane) {
	l.load.held.Add(-1)
	l.account.load.held.Add(-1)
	s.used.Add(-1)
}

// grant takes a permit for the lane that should have the next one, and lets it wait no longer. Where only is not nil, no other
// lane gets one: it is nil too where it is another's turn. s.mu is locked.
func (s *semaphore) grant(only *lane) *lane {
	const tries = 4 // an account whose lanes have more than their share each must not keep others from having theirs
	var passed [tries]*waiter
	defer func() {
		for _, w := range passed {
			if w != nil {
				heap.Push(&s.waiters, w)
			}
		}
	}()
	for i := range tries {
		if len(s.waiters) == 0 || s.limit.Load() <= s.used.Load() {
			return nil
		}
		w := s.waiters.first()
		l := w.account.waiters.first().lane
		switch limit := s.limit.Load(); {
		case !s.allows(l, limit, limit-s.used.Load(), 0):
			passed[i] = w
			s.waiters.leave(w)
		case only != nil && l != only || !s.take(l):
			return nil
		default:
			s.leave(l)
			return l
		}
	}
	return nil
}

// enter lets the lane wait, if it does not already. s.mu is locked.
func (s *semaphore) enter(l *lane) {
	if l.position != 0 {
		return
	}
	s.turns++
	a := l.account
	a.waiters.enter(&l.waiter, s.turns)
	if a.position == 0 {
		s.waiters.enter(&a.waiter, s.turns)
	}
	s.waiting.Add(1)
}

// leave lets the lane wait no longer. Its account keeps its place, but stands behind its equals. s.mu is locked.
func (s *semaphore) leave(l *lane) {
	a := l.account
	a.waiters.leave(&l.waiter)
	s.waiting.Add(-1)
	if len(a.waiters) == 0 {
		s.waiters.leave(&a.waiter)
		return
	}
	s.turns++
	a.order, a.turn = a.load.now(), s.turns
	heap.Fix(&s.waiters, a.position-1)
}

// acquireForTest takes a permit for a test event: one of the lane's account, or the one that is kept for test events.
func (s *semaphore) acquireForTest(l *lane) (kept, ok bool) {
	if s.take(l) {
		return false, true
	}
	if s.forTest.CompareAndSwap(false, true) {
		return true, true
	}
	return false, s.acquire(l)
}
