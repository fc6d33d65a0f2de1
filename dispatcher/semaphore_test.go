package dispatcher

import (
	"fmt"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

// sharers are accounts with lanes that share a semaphore, in a world without time but for samples of their loads.
type sharers struct {
	t     fataler
	s     *semaphore
	count atomic.Int64
	lanes []*lane
	held  map[*lane]int
	want  map[*lane]bool // it waits, as far as the test knows
}

func newSharers(t fataler, permits int, lanesOf ...int) *sharers {
	m := &sharers{t: t, held: make(map[*lane]int), want: make(map[*lane]bool)}
	m.s = newSemaphore(permits, &m.count)
	m.s.limit.Store(int64(permits))
	for i, n := range lanesOf {
		m.count.Add(1)
		a := &account{name: fmt.Sprintf("account-%d", i)}
		a.account = a
		a.lanes.Store(int64(n))
		for range n {
			l := &lane{account: a}
			l.lane = l
			m.lanes = append(m.lanes, l)
		}
	}
	return m
}

// take notes that the lane got a permit.
func (m *sharers) take(l *lane) {
	if l == nil {
		return
	}
	m.held[l]++
	m.want[l] = false
}

func (m *sharers) acquire(l *lane) {
	if m.s.acquire(l) {
		m.take(l)
	} else {
		m.want[l] = true
	}
}

// end ends one of the lane's attempts; more says that it could begin another.
func (m *sharers) end(l *lane, more bool) {
	m.held[l]--
	if !more {
		m.take(m.s.release(l))
		return
	}
	to := m.s.pass(l)
	if to != l {
		m.want[l] = true
	}
	m.take(to)
}

func (m *sharers) second() {
	seen := make(map[*account]bool)
	for _, l := range m.lanes {
		l.load.sample()
		if !seen[l.account] {
			seen[l.account] = true
			l.account.load.sample()
		}
	}
	m.s.refresh()
	m.wake()
}

func (m *sharers) wake() {
	for l := m.s.next(); l != nil; l = m.s.next() {
		m.take(l)
	}
}

// check compares the semaphore with what the test knows, and sees that no permit is kept from those who may have it.
func (m *sharers) check() {
	used, waiting := 0, 0
	for _, l := range m.lanes {
		used += m.held[l]
		if m.want[l] {
			waiting++
		}
		if int(l.load.held.Load()) != m.held[l] || (l.position != 0) != m.want[l] {
			m.t.Fatalf("a lane holds %d permits and waits at %d; want %d, %v", l.load.held.Load(), l.position, m.held[l], m.want[l])
		}
	}
	limit := m.s.limit.Load()
	if int64(used) != m.s.used.Load() || int64(waiting) != m.s.waiting.Load() {
		m.t.Fatalf("%d permits in use and %d lanes waiting; want %d and %d", m.s.used.Load(), m.s.waiting.Load(), used, waiting)
	}
	if int64(used) > m.s.maximum {
		m.t.Fatalf("%d permits in use of %d", used, m.s.maximum)
	}
	if free := limit - int64(used); free > 0 {
		for _, l := range m.lanes {
			if m.want[l] && l.load.now() == 0 && l.account.load.now() == 0 {
				m.t.Fatalf("%d permits are free, and a lane waits that has none", free)
			}
		}
	}
}

// Random accounts, lanes, attempts and seconds: the books agree after every step, never more is in use than allowed, whoever
// has nothing gets a free permit, and in the end nobody waits.
func TestSemaphore(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		permits := rapid.IntRange(1, 40).Draw(rt, "permits")
		m := newSharers(rt, permits, rapid.SliceOfN(rapid.IntRange(1, 4), 1, 5).Draw(rt, "lanes of each account")...)
		for range rapid.IntRange(10, 300).Draw(rt, "steps") {
			l := m.lanes[rapid.IntRange(0, len(m.lanes)-1).Draw(rt, "lane")]
			switch rapid.IntRange(0, 5).Draw(rt, "step") {
			case 0, 1:
				if !m.want[l] {
					m.acquire(l)
				}
			case 2:
				if m.held[l] > 0 {
					m.end(l, false)
				}
			case 3:
				if m.held[l] > 0 && !m.want[l] {
					m.end(l, true)
				}
			case 4:
				m.second()
			case 5:
				m.s.limit.Store(int64(rapid.IntRange(1, permits).Draw(rt, "limit")))
				m.wake()
			}
			m.check()
		}
		m.s.limit.Store(int64(permits))
		for range 200 { // nobody asks for more: all that waits is served
			for _, l := range m.lanes {
				for m.held[l] > 0 {
					m.end(l, false)
				}
			}
			m.second()
			m.check()
		}
		if n := m.s.waiting.Load(); n > 0 {
			rt.Fatalf("%d lanes wait in the end", n)
		}
	})
}

// busy plays accounts that always want more, with attempts that last as many ticks, and returns the longest time in ticks that an
// account which has nothing waited for a permit, and what part of the permits each had on average.
func (m *sharers) busy(ticks, perSecond int, lasts func(l *lane) int) (longest int, parts map[*account]float64) {
	type attempt struct {
		l    *lane
		left int
	}
	var attempts []*attempt
	parts, since := make(map[*account]float64), make(map[*account]int)
	begin := func(l *lane) { attempts = append(attempts, &attempt{l, lasts(l)}) }
	grab := func(l *lane) {
		before := m.held[l]
		if m.acquire(l); m.held[l] > before {
			begin(l)
		}
	}
	for tick := range ticks {
		if tick%perSecond == 0 {
			before := make(map[*lane]int)
			for _, l := range m.lanes {
				before[l] = m.held[l]
			}
			m.second()
			for _, l := range m.lanes {
				for range m.held[l] - before[l] {
					begin(l)
				}
			}
		}
		for _, l := range m.lanes {
			for n := -1; !m.want[l] && n != m.held[l]; {
				n = m.held[l]
				grab(l)
			}
		}
		held := make(map[*account]int)
		for _, l := range m.lanes {
			held[l.account] += m.held[l]
		}
		for _, l := range m.lanes {
			a := l.account
			if held[a] > 0 {
				since[a] = tick
			}
			longest = max(longest, tick-since[a])
		}
		for a, n := range held {
			parts[a] += float64(n) / float64(ticks)
		}
		running := attempts
		attempts = nil
		for _, a := range running {
			if a.left--; a.left > 0 {
				attempts = append(attempts, a)
				continue
			}
			m.held[a.l]--
			if to := m.s.release(a.l); to != nil {
				m.take(to)
				begin(to)
				grab(to) // it waits for more
			}
		}
		m.check()
	}
	return longest, parts
}

// However long its attempts last and however many lanes it has, an account that wants more than there is gets about as much as
// every other one, and none waits for a permit for longer than half a minute.
func TestPermitsAreSharedByAccount(t *testing.T) {
	const perSecond = 10
	for _, test := range []struct {
		permits int
		lanes   []int
	}{
		{12, []int{1, 1, 50}}, {60, []int{50, 50, 1, 1, 1}}, {8, []int{40, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}},
	} {
		m := newSharers(t, test.permits, test.lanes...)
		slow := m.lanes[len(m.lanes)-1].account
		if test.lanes[0] > 1 {
			slow = m.lanes[0].account
		}
		longest, parts := m.busy(600*perSecond, perSecond, func(l *lane) int {
			if l.account == slow {
				return 9 * perSecond
			}
			return 1
		})
		for a, part := range parts {
			if even := float64(test.permits) / float64(len(test.lanes)); part > 2*even+1 || part < even/3 {
				t.Errorf("%d permits, lanes %v: %s (slow: %v) has %.1f permits on average, want about %.1f", test.permits, test.lanes, a.name, a == slow, part, even)
			}
		}
		if longest > 30*perSecond {
			t.Errorf("%d permits, lanes %v: an account waited for %d s", test.permits, test.lanes, longest/perSecond)
		}
		t.Logf("%d permits, lanes %v: longest wait %.1f s", test.permits, test.lanes, float64(longest)/perSecond)
	}
}

// Who is alone may have all; with somebody else about, some are always left for those who come.
func TestPermitsAreLeftForThoseWhoCome(t *testing.T) {
	grab := func(m *sharers, l *lane) (n int) {
		for m.s.take(l) {
			n++
		}
		return n
	}
	if m := newSharers(t, 2048, 1); grab(m, m.lanes[0]) != 2048 {
		t.Errorf("alone it gets %d of 2048", m.s.used.Load())
	}
	m := newSharers(t, 2048, 1, 1)
	if n := grab(m, m.lanes[0]); n < 1024 || n > 1400 {
		t.Errorf("with another one about, it gets %d of 2048", n)
	}
	if n := grab(m, m.lanes[1]); n < 500 {
		t.Errorf("the other one gets %d", n)
	}
	many := make([]int, 4000)
	for i := range many {
		many[i] = 1
	}
	m = newSharers(t, 10_000, many...)
	for range 10 {
		for _, l := range m.lanes {
			m.s.take(l)
		}
	}
	if used := m.s.used.Load(); used != 10_000 {
		t.Errorf("together, all get %d of 10000", used)
	}
}
