package dispatcher

// health and slots are tested from inside: they are pure, and everything of them is unexported.

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"fanout/subscriptions"
)

func lanesConfig() *LanesConfig {
	return &LanesConfig{MaxInFlight: 64, Queue: 1000, QueueAge: 2 * time.Second, ParkAfter: 10, ParkMin: 30 * time.Second, ParkMax: time.Hour}
}

// Every sequence of events up to a length, from every kind of start: the invariants hold after each step, and from
// every state that is not gone the lane comes back once the receiver is well.
func TestHealthToExhaustion(t *testing.T) {
	cfg := lanesConfig()
	cfg.ParkAfter = 3
	start := time.Unix(1_800_000_000, 0)
	const depth = 7
	states := 0
	var explore func(m machine, depth int)
	explore = func(m machine, depth int) {
		states++
		back := m
		back.comesBack(t, cfg)
		if depth == 0 {
			return
		}
		for e := range healthEvent(events) {
			next := m
			next.begun = append([]time.Time(nil), m.begun...)
			if next.step(t, e, cfg) {
				explore(next, depth-1)
			}
		}
	}
	for _, maximum := range []int{1, 2, 64} {
		explore(machine{h: newHealth(maximum), now: start, maximum: maximum}, depth)
	}
	if states < 100_000 {
		t.Errorf("only %d states were seen", states)
	}
}

// machine is a health with what surrounds it: attempts under way, and the time.
type machine struct {
	h       health
	now     time.Time
	begun   []time.Time // attempts under way
	maximum int
}

// fataler is a *testing.T or a *rapid.T.
type fataler interface {
	Fatalf(format string, args ...any)
}

type healthEvent int

const (
	begin healthEvent = iota
	succeed
	fail
	failAll
	hold
	cancel
	tick
	rest
)

const events = int(rest) + 1

// step applies an event; false where it cannot happen.
func (m *machine) step(t fataler, e healthEvent, cfg *LanesConfig) bool {
	before := m.h
	switch e {
	case begin:
		v, at, reason := m.h.admit(m.now, len(m.begun))
		m.checkAdmit(t, v, at, reason)
		if v != verdictGo {
			return false
		}
		m.h.begin(m.now, len(m.begun))
		m.begun = append(m.begun, m.now)
	case succeed, fail, failAll, hold, cancel:
		if len(m.begun) == 0 {
			return false
		}
		for more := true; more; more = e == failAll && len(m.begun) > 0 {
			begun := m.begun[0]
			m.begun = m.begun[1:]
			switch e {
			case succeed:
				m.h.success(m.now, m.maximum)
			case cancel:
				m.h.abandonProbe(m.now)
			case hold:
				m.h.holdUntil(m.now.Add(20 * time.Second))
				m.h.failure(m.now, begun, StatusFailed, 429, cfg)
			default:
				m.h.failure(m.now, begun, Timeout, 0, cfg)
			}
		}
	case tick:
		m.now = m.now.Add(time.Second)
	case rest:
		m.now = m.now.Add(40 * time.Second)
	}
	h := &m.h
	switch {
	case h.limit < 1 || h.limit > float64(m.maximum):
		t.Fatalf("limit %v of at most %d", h.limit, m.maximum)
	case h.state == laneParked && h.until.Sub(m.now) > cfg.ParkMax:
		t.Fatalf("parked for %s", h.until.Sub(m.now))
	case h.state == laneProbe && len(m.begun) != 1:
		t.Fatalf("%d attempts under way while probing", len(m.begun))
	case before.state == laneOpen && h.state == laneParked && h.cooldown != cfg.ParkMin:
		t.Fatalf("first cool-down %s", h.cooldown)
	case before.state == laneProbe && h.state == laneParked && e != cancel && h.cooldown != min(2*before.cooldown, cfg.ParkMax):
		t.Fatalf("cool-down %s after %s", h.cooldown, before.cooldown)
	case h.failures >= cfg.ParkAfter && h.state == laneOpen:
		t.Fatalf("%d failures, and open", h.failures)
	case h.idle(m.now, time.Minute, cfg) && (h.state != laneOpen || m.now.Before(h.hold)):
		t.Fatalf("would be forgotten: %+v", h)
	}
	return true
}

// checkAdmit checks that a refusal says when, or that an attempt is under way whose end will say.
func (m *machine) checkAdmit(t fataler, v verdict, at time.Time, reason Reason) {
	switch v {
	case verdictGo:
		if len(m.begun) >= int(m.h.limit) || m.now.Before(m.h.hold) || m.h.state == laneParked && m.now.Before(m.h.until) || m.h.state != laneOpen && len(m.begun) > 0 {
			t.Fatalf("admitted with %d under way: %+v", len(m.begun), m.h)
		}
	case verdictWait:
		if at.IsZero() && len(m.begun) == 0 || !at.IsZero() && !at.After(m.now) {
			t.Fatalf("waits for nothing (%s): %+v", at, m.h)
		}
	case verdictDefer:
		if !at.After(m.now) || reason != Parked && reason != RetryAfter {
			t.Fatalf("deferred until %s for %q: %+v", at, reason, m.h)
		}
	case verdictDead:
		if m.h.state != laneGone {
			t.Fatalf("dead: %+v", m.h)
		}
	}
}

// comesBack checks that with a receiver that is well again, the lane is open and at its full limit in bounded time.
func (m *machine) comesBack(t *testing.T, cfg *LanesConfig) {
	t.Helper()
	for range m.begun {
		m.h.success(m.now, m.maximum)
	}
	limit := m.now.Add(cfg.ParkMax + 10*time.Minute)
	for m.h.state != laneOpen || m.h.ramping(m.now) || int(m.h.limit) < m.maximum {
		v, at, _ := m.h.admit(m.now, 0)
		switch {
		case v == verdictGo:
			m.h.begin(m.now, 0)
			m.now = m.now.Add(5 * time.Millisecond)
			m.h.success(m.now, m.maximum)
		case at.After(m.now):
			m.now = at
		default:
			t.Fatalf("stuck: %+v", m.h)
		}
		if m.now.After(limit) {
			t.Fatalf("not back: %+v", m.h)
		}
	}
}

// Longer runs than can be enumerated.
func TestHealthAtRandom(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cfg := lanesConfig()
		cfg.ParkAfter = rapid.IntRange(1, 12).Draw(rt, "park_after")
		maximum := rapid.IntRange(1, 64).Draw(rt, "maximum")
		m := machine{h: newHealth(maximum), now: time.Unix(1_800_000_000, 0), maximum: maximum}
		for _, e := range rapid.SliceOfN(rapid.IntRange(0, events-1), 50, 400).Draw(rt, "events") {
			m.step(rt, healthEvent(e), cfg)
		}
		m.comesBack(t, cfg)
	})
}

// The limit is halved once for all attempts that were under way together, and grows additively after.
func TestLimitAdapts(t *testing.T) {
	cfg := lanesConfig()
	cfg.ParkAfter = 100
	h, now := newHealth(64), time.Unix(1_800_000_000, 0)
	if int(h.limit) != 8 {
		t.Fatalf("starts with %v, want 8", h.limit)
	}
	for range 100 {
		h.success(now, 64)
	}
	if h.limit != 64 {
		t.Fatalf("limit %v after 100 successes, want 64", h.limit)
	}
	later := now.Add(time.Second)
	for range 64 {
		h.failure(later, now, Timeout, 0, cfg)
	}
	if h.limit != 32 {
		t.Fatalf("limit %v after one trouble, want 32", h.limit)
	}
	for range 32 {
		h.success(later, 64)
	}
	if h.limit < 32.9 || h.limit > 33.1 {
		t.Fatalf("limit %v after one round of successes, want 33", h.limit)
	}
}

// A lane that waits among the unproven and proves itself changes over: it does not wait for receivers that hang.
func TestLineChangesOver(t *testing.T) {
	s := newSlots(4)
	for range 2 {
		if !s.tryAcquire(true) || !s.tryAcquire(false) {
			t.Fatal("no place")
		}
	}
	first, second := &lane{}, &lane{}
	s.lineUp(second, true)
	s.lineUp(first, true)
	s.lineUp(first, false)
	s.release(false)
	if l, unproven := s.wake(); l != first || unproven {
		t.Fatalf("woke %p (unproven %v), want the proven lane", l, unproven)
	}
	if l, _ := s.wake(); l != nil {
		t.Fatal("a place that is not there was handed out")
	}
	s.release(true)
	if l, unproven := s.wake(); l != second || !unproven {
		t.Fatal("the other lane was not woken")
	}
	if l, _ := s.wake(); l != nil || s.waiting.Load() != 0 {
		t.Fatalf("still in line: %v", l)
	}
}

// A Retry-After that outlasts the cool-down is what a parked lane waits for.
func TestHoldOutlastsParking(t *testing.T) {
	cfg := lanesConfig()
	h, now := newHealth(64), time.Unix(1_800_000_000, 0)
	for range cfg.ParkAfter {
		h.failure(now, now, StatusFailed, 503, cfg)
	}
	if v, at, reason := h.admit(now, 0); v != verdictDefer || reason != Parked || at.Sub(now) != cfg.ParkMin {
		t.Fatalf("parked: %d %s %s", v, at.Sub(now), reason)
	}
	h.holdUntil(now.Add(time.Hour))
	if v, at, reason := h.admit(now, 0); v != verdictDefer || reason != RetryAfter || at.Sub(now) != time.Hour {
		t.Fatalf("held: %d %s %s", v, at.Sub(now), reason)
	}
}

// A lane comes back from a Retry-After at a growing pace, which begins when the hold ends.
func TestRampAfterHold(t *testing.T) {
	cfg := lanesConfig()
	h, now := newHealth(64), time.Unix(1_800_000_000, 0)
	h.begin(now, 0)
	h.begin(now, 1)
	for range 2 { // both say so, as work.go tells it
		h.holdUntil(now.Add(time.Minute))
		h.failure(now, now, StatusFailed, 429, cfg)
	}
	end := now.Add(time.Minute)
	if v, at, reason := h.admit(end.Add(-time.Second), 0); v != verdictDefer || reason != RetryAfter || !at.Equal(end) {
		t.Fatalf("held: %d %s %s", v, at.Sub(now), reason)
	}
	sent := 0
	for at := end; at.Before(end.Add(time.Second)); at = at.Add(time.Millisecond) {
		if v, _, _ := h.admit(at, 0); v == verdictGo {
			h.begin(at, 0)
			h.success(at, 64)
			sent++
		}
	}
	if sent < 15 || sent > 35 {
		t.Errorf("%d attempts in the first second after the hold, want about 20 to 28", sent)
	}
}

// Timers that fire a little late cost nothing of a rate, and there is no burst after a rest.
func TestRateThroughLateTimers(t *testing.T) {
	sub, err := subscriptions.Parse("a", "s", []byte(`{"url":"https://x.example.com/","events":["*"],"maxPerSecond":50}`))
	if err != nil {
		t.Fatal(err)
	}
	l := &lane{sub: sub, share: 1, health: newHealth(64)}
	start := time.Unix(1_800_000_000, 0)
	run := func(from time.Time) (n int) {
		for now := from; now.Sub(from) < 10*time.Second; {
			if at := l.rateNext(now); at.After(now) {
				now = at.Add(5 * time.Millisecond)
				continue
			}
			l.begin(now)
			n++
		}
		return n
	}
	if n := run(start); n < 495 || n > 504 {
		t.Errorf("%d in 10s, want 500", n)
	}
	if n := run(start.Add(time.Hour)); n < 495 || n > 504 {
		t.Errorf("%d in 10s after a rest, want 500", n)
	}
}
