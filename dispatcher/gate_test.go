package dispatcher

// The gate and what it is made of are tested from inside: they are pure, and nothing of them is exported.

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func lanesConfig() *LanesConfig {
	return &LanesConfig{MaxInFlight: 64, Queue: 1000, QueueAge: 2 * time.Second, ParkAfter: 10, ParkMin: 30 * time.Second, ParkMax: time.Hour}
}

// Every sequence of events up to a length, from every kind of start: the invariants hold after each step, and from
// every state that is not gone the lane comes back once the receiver is well.
func TestGateToExhaustion(t *testing.T) {
	cfg := lanesConfig()
	cfg.ParkAfter = 3
	start := time.Unix(1_800_000_000, 0)
	depth, least := 7, 100_000
	if RaceDetector { // one goroutine: it has no race to be seen
		depth, least = 6, 20_000
	}
	states := 0
	var explore func(m machine, depth int)
	explore = func(m machine, depth int) {
		states++
		back := m
		back.comesBack(t, cfg)
		if depth == 0 {
			return
		}
		for e := range gateEvent(events) {
			next := m
			next.begun = append([]time.Time(nil), m.begun...)
			if next.step(t, e, cfg) {
				explore(next, depth-1)
			}
		}
	}
	for _, maximum := range []int{1, 2, 64} {
		explore(machine{g: newGate(maximum, rate{}), now: start, maximum: maximum}, depth)
	}
	if t.Logf("%d states", states); states < least {
		t.Errorf("only %d states were seen", states)
	}
}

// machine is a gate with what surrounds it: attempts under way, and the time.
type machine struct {
	g       gate
	now     time.Time
	begun   []time.Time // attempts under way
	maximum int
}

// fataler is a *testing.T or a *rapid.T.
type fataler interface {
	Fatalf(format string, args ...any)
}

type gateEvent int

const (
	begin gateEvent = iota
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
func (m *machine) step(t fataler, e gateEvent, cfg *LanesConfig) bool {
	before := m.g
	switch e {
	case begin:
		adm := m.g.admit(m.now, len(m.begun), cfg)
		m.checkAdmit(t, adm, cfg)
		if adm.kind != admitStart {
			return false
		}
		m.g.begin()
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
				m.g.succeeded(m.now, m.maximum)
			case cancel:
				m.g.breaker.withoutAnswer(m.now)
			case hold:
				m.g.holdUntil(m.now.Add(20 * time.Second))
				m.g.failed(m.now, begun, StatusFailed, 429, cfg)
			default:
				m.g.failed(m.now, begun, Timeout, 0, cfg)
			}
		}
	case tick:
		m.now = m.now.Add(time.Second)
	case rest:
		m.now = m.now.Add(40 * time.Second)
	}
	g, b := &m.g, &m.g.breaker
	switch {
	case g.limit.value < 1 || g.limit.value > float64(m.maximum):
		t.Fatalf("limit %v of at most %d", g.limit.value, m.maximum)
	case b.state == breakerParked && b.until.Sub(m.now) > cfg.ParkMax:
		t.Fatalf("parked for %s", b.until.Sub(m.now))
	case b.state == breakerProbing && len(m.begun) != 1:
		t.Fatalf("%d attempts in flight while probing", len(m.begun))
	case before.breaker.state == breakerOpen && b.state == breakerParked && b.cooldown != cfg.ParkMin:
		t.Fatalf("first cool-down %s", b.cooldown)
	case before.breaker.state == breakerProbing && b.state == breakerParked && e != cancel && b.cooldown != min(2*before.breaker.cooldown, cfg.ParkMax):
		t.Fatalf("cool-down %s after %s", b.cooldown, before.breaker.cooldown)
	case b.failures >= cfg.ParkAfter && b.state == breakerOpen:
		t.Fatalf("%d failures, and open", b.failures)
	case g.forgettable(m.now, time.Minute, cfg) && (b.state != breakerOpen || m.now.Before(g.hold)):
		t.Fatalf("would be forgotten: %+v", g)
	}
	return true
}

// checkAdmit checks that an attempt begins only where it may, and that a refusal says until when, or that an attempt is in
// flight whose end will say.
func (m *machine) checkAdmit(t fataler, adm admission, cfg *LanesConfig) {
	b := &m.g.breaker
	switch adm.kind {
	case admitStart:
		if len(m.begun) >= int(m.g.limit.value) || m.now.Before(m.g.hold) || b.state == breakerParked && m.now.Before(b.until) || b.state != breakerOpen && len(m.begun) > 0 {
			t.Fatalf("an attempt begins with %d in flight: %+v", len(m.begun), m.g)
		}
	case admitWait:
		if adm.until.IsZero() && len(m.begun) == 0 || !adm.until.IsZero() && !adm.until.After(m.now) || adm.reason == NoReason {
			t.Fatalf("waits for nothing (%s): %+v", adm.until, m.g)
		}
	case admitSettle:
		switch {
		case adm.reason == Gone && b.state == breakerGone:
		case (adm.reason == Parked || adm.reason == RetryAfter) && adm.until.After(m.now):
		default:
			t.Fatalf("settled until %s for %q: %+v", adm.until, adm.reason, m.g)
		}
		if adm.reason == RetryAfter && adm.until.Sub(m.now) <= cfg.QueueAge {
			t.Fatalf("settled although the hold ends in %s", adm.until.Sub(m.now))
		}
	case admitDrop, admitForm:
		t.Fatalf("dropped, or left to a batch: %+v", m.g)
	}
}

// comesBack checks that with a receiver that is well again, the lane is open and at its full limit in bounded time.
func (m *machine) comesBack(t *testing.T, cfg *LanesConfig) {
	t.Helper()
	for range m.begun {
		m.g.succeeded(m.now, m.maximum)
	}
	latest := m.now.Add(cfg.ParkMax + 10*time.Minute)
	for m.g.breaker.state != breakerOpen || int(m.g.limit.value) < m.maximum {
		adm := m.g.admit(m.now, 0, cfg)
		switch {
		case adm.kind == admitStart:
			m.g.begin()
			m.now = m.now.Add(5 * time.Millisecond)
			m.g.succeeded(m.now, m.maximum)
		case adm.until.After(m.now):
			m.now = adm.until
		default:
			t.Fatalf("no progress: %+v", m.g)
		}
		if m.now.After(latest) {
			t.Fatalf("not back: %+v", m.g)
		}
	}
	m.now = later(m.now, m.g.hold).Add(30 * time.Second)
	if adm := m.g.admit(m.now, 0, cfg); m.g.ramp.active(m.now) || adm.kind != admitStart {
		t.Fatalf("held back after 30 s: %+v", m.g)
	}
}

// Longer runs than can be enumerated.
func TestGateAtRandom(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cfg := lanesConfig()
		cfg.ParkAfter = rapid.IntRange(1, 12).Draw(rt, "park_after")
		maximum := rapid.IntRange(1, 64).Draw(rt, "maximum")
		m := machine{g: newGate(maximum, rate{}), now: time.Unix(1_800_000_000, 0), maximum: maximum}
		for _, e := range rapid.SliceOfN(rapid.IntRange(0, events-1), 50, 400).Draw(rt, "events") {
			m.step(rt, gateEvent(e), cfg)
		}
		m.comesBack(t, cfg)
	})
}

// The limit is halved once for all attempts that were in flight together, and grows additively after.
func TestLimitAdapts(t *testing.T) {
	l, now := newLimit(64), time.Unix(1_800_000_000, 0)
	if l.reached(7) || !l.reached(8) {
		t.Fatalf("starts with %v, want 8", l.value)
	}
	for range 100 {
		l.raise(64)
	}
	if l.value != 64 {
		t.Fatalf("limit %v after 100 successes, want 64", l.value)
	}
	later := now.Add(time.Second)
	for range 64 {
		l.lower(later, now)
	}
	if l.value != 32 {
		t.Fatalf("limit %v after one fault, want 32", l.value)
	}
	for range 32 {
		l.raise(64)
	}
	if l.value < 32.9 || l.value > 33.1 {
		t.Fatalf("limit %v after one round of successes, want 33", l.value)
	}
	if small := newLimit(3); small.reached(2) || !small.reached(3) {
		t.Fatalf("starts with %v where 3 are allowed", small.value)
	}
}

// A Retry-After that outlasts the cool-down is what a parked lane waits for.
func TestHoldOutlastsParking(t *testing.T) {
	cfg := lanesConfig()
	g, now := newGate(64, rate{}), time.Unix(1_800_000_000, 0)
	for range cfg.ParkAfter {
		g.failed(now, now, StatusFailed, 503, cfg)
	}
	if adm := g.admit(now, 0, cfg); adm.kind != admitSettle || adm.reason != Parked || adm.until.Sub(now) != cfg.ParkMin {
		t.Fatalf("parked: %+v", adm)
	}
	g.holdUntil(now.Add(time.Hour))
	if adm := g.admit(now, 0, cfg); adm.kind != admitSettle || adm.reason != RetryAfter || adm.until.Sub(now) != time.Hour {
		t.Fatalf("held: %+v", adm)
	}
	g.release(now, 64)
	if adm := g.admit(now, 0, cfg); adm.kind != admitStart {
		t.Fatalf("released: %+v", adm)
	}
}

// A lane comes back from a Retry-After at a growing pace, which begins when the hold ends.
func TestRampAfterHold(t *testing.T) {
	cfg := lanesConfig()
	g, now := newGate(64, rate{}), time.Unix(1_800_000_000, 0)
	g.begin()
	g.begin()
	for range 2 { // both say so
		g.holdUntil(now.Add(time.Minute))
		g.failed(now, now, StatusFailed, 429, cfg)
	}
	end := now.Add(time.Minute)
	if adm := g.admit(end.Add(-3*time.Second), 0, cfg); adm.kind != admitSettle || adm.reason != RetryAfter || !adm.until.Equal(end) {
		t.Fatalf("held: %+v", adm)
	}
	if adm := g.admit(end.Add(-time.Second), 0, cfg); adm.kind != admitWait || !adm.until.Equal(end) {
		t.Fatalf("held for a second more: %+v", adm)
	}
	sent := 0
	for at := end; at.Before(end.Add(time.Second)); at = at.Add(time.Millisecond) {
		if g.admit(at, 0, cfg).kind == admitStart {
			g.begin()
			g.succeeded(at, 64)
			sent++
		}
	}
	if sent < 15 || sent > 35 {
		t.Errorf("%d attempts in the first second after the hold, want about 20 to 28", sent)
	}
}

// Timers that fire a little late cost nothing of a rate, and no burst follows a rest.
func TestRateThroughLateTimers(t *testing.T) {
	r := rate{perSecond: 50, share: 1}
	start := time.Unix(1_800_000_000, 0)
	run := func(from time.Time) (n int) {
		for now := from; now.Sub(from) < 10*time.Second; {
			if at := r.next(now); at.After(now) {
				now = at.Add(5 * time.Millisecond)
				continue
			}
			r.take()
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

// A share falls at once and rises slowly: what is let through in a second stays below the bound while others still use theirs.
func TestShareRisesSlowly(t *testing.T) {
	r, now := rate{perSecond: 100, share: 1}, time.Unix(1_800_000_000, 0)
	r.setShare(now, 0.2)
	if r.share != 0.2 {
		t.Fatalf("the first share is %v, want 0.2", r.share)
	}
	r.setShare(now.Add(time.Second), 1)
	if r.share < 0.44 || r.share > 0.46 {
		t.Fatalf("a second later it is %v, want 0.45", r.share)
	}
	r.setShare(now.Add(2*time.Second), 0.1)
	if r.share != 0.1 {
		t.Fatalf("it falls to %v, want 0.1 at once", r.share)
	}
}

// A bucket lets through what its rate allows, whatever the moments at which it is asked, and no more than its burst at once.
func TestBucket(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		rate := rapid.Float64Range(0.001, 10_000).Draw(rt, "rate")
		burst := rapid.Float64Range(1, 100).Draw(rt, "burst")
		var b bucket
		start := time.Unix(1_800_000_000, 0)
		now, taken := start, 0
		for _, pause := range rapid.SliceOfN(rapid.IntRange(0, 100_000), 1, 200).Draw(rt, "pauses in µs") {
			now = now.Add(time.Duration(pause) * time.Microsecond)
			for {
				at := b.next(now, rate, burst)
				if !at.IsZero() {
					if !at.After(now) {
						rt.Fatalf("asks to wait until %s, which is past", at)
					}
					if early := b; !early.next(at, rate, burst).IsZero() {
						rt.Fatalf("at %s there is none either", at)
					}
					break
				}
				b.take()
				taken++
			}
			if most := burst + rate*now.Sub(start).Seconds() + 1; float64(taken) > most {
				rt.Fatalf("%d taken in %s at %v a second, burst %v", taken, now.Sub(start), rate, burst)
			}
		}
	})
}
