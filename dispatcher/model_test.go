package dispatcher_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"fanout/dispatcher"
	"fanout/dispatcher/post"
)

// behaviours are what a receiver may do; the last one recovers between failures.
var behaviours = []func() func() answer{
	func() func() answer { return always(ok) },
	func() func() answer { return always(answer{status: 200, after: 3 * time.Second}) },
	func() func() answer { return always(hang) },
	func() func() answer { return always(answer{status: 500, after: time.Millisecond}) },
	func() func() answer { return always(answer{status: 429, after: time.Millisecond, retryAfter: "20"}) },
	func() func() answer { return always(answer{status: 503, after: 2 * time.Second, retryAfter: "1"}) },
	func() func() answer { return always(gone) },
	func() func() answer { return always(answer{err: &post.Error{Kind: post.Blocked, Detail: "denied"}}) },
	func() func() answer { return always(answer{err: &post.Error{Kind: post.DNS, Detail: "no such host"}}) },
	func() func() answer {
		n := 0
		return func() answer {
			if n++; n%3 == 0 {
				return answer{status: 500, after: 100 * time.Millisecond}
			}
			return answer{status: 200, after: 100 * time.Millisecond}
		}
	},
}

// op is one step of the model: something happens to a lane, then time passes.
type op struct {
	kind, lane, n int
	pause         time.Duration
}

func drawOps(rt *rapid.T, lanes int) []op {
	return rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) op {
		return op{
			kind:  rapid.IntRange(0, 9).Draw(rt, "kind"),
			lane:  rapid.IntRange(0, lanes-1).Draw(rt, "lane"),
			n:     rapid.IntRange(0, 60).Draw(rt, "n"),
			pause: rapid.SampledFrom([]time.Duration{0, time.Millisecond, 300 * time.Millisecond, 2500 * time.Millisecond, 31 * time.Second, 5 * time.Minute}).Draw(rt, "pause"),
		}
	}), 5, 40).Draw(rt, "ops")
}

// TestModel runs random traffic over random receivers, with changes of configuration, and checks that never more is in
// flight than allowed, that nobody sends where it must not, that each delivery is settled once, and that in the end,
// when all receivers are well, everything is delivered and every lane is open.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cfg := config()
		cfg.Delivery.MaxInFlight = rapid.IntRange(2, 40).Draw(rt, "max_in_flight")
		cfg.Delivery.Schedule = []time.Duration{5 * time.Second, time.Minute, 5 * time.Minute, 5 * time.Minute}
		cfg.Delivery.MaxAge = 1000 * time.Hour
		cfg.Lanes.ParkMax = 5 * time.Minute // the longest tier: what doubles its wait comes back in time
		cfg.Lanes.MaxInFlight = rapid.IntRange(1, 20).Draw(rt, "lanes.max_in_flight")
		cfg.Lanes.Queue = rapid.IntRange(1, 60).Draw(rt, "queue")
		cfg.Lanes.ParkAfter = rapid.IntRange(1, 8).Draw(rt, "park_after")
		lanes := rapid.IntRange(1, 6).Draw(rt, "lanes")
		ops := drawOps(rt, lanes)
		problem := ""
		synctest.Test(t, func(t *testing.T) {
			m := &model{world: newWorld(t, cfg), lanes: make([]modelLane, lanes)}
			stop := m.run()
			defer stop()
			m.play(ops)
			problem = m.problem
			stop()
			m.atRest()
		})
		if problem != "" {
			rt.Fatal(problem)
		}
	})
}

type model struct {
	*world
	lanes   []modelLane
	problem string
	all     []*dispatcher.Delivery
	claimed int
	ended   int // for good
}

type modelLane struct {
	maximum   int
	paused    bool
	present   bool
	version   int
	goneAt    time.Time // zero: not
	heldUntil time.Time
	heldAt    time.Time
}

func (m *model) failf(format string, args ...any) {
	if m.problem == "" {
		m.problem = fmt.Sprintf(format, args...)
	}
}

func (m *model) id(i int) string { return fmt.Sprintf("s%d", i) }

// configure puts the lane's subscription in force. What has begun before is on its way before it.
func (m *model) configure(i int, extra string, maximum int, paused bool) {
	synctest.Wait()
	m.mu.Lock()
	l := &m.lanes[i]
	l.version++
	l.maximum, l.paused = maximum, paused
	l.present, l.goneAt, l.heldUntil = true, time.Time{}, time.Time{}
	m.mu.Unlock()
	m.set(m.id(i), fmt.Sprintf(`,"description":"%d"%s`, l.version, extra))
}

// behave makes the lane's receiver do so, and watch what it must not see. It runs under the world's lock.
func (m *model) behave(i int, b func() answer) {
	m.on(m.id(i), func() answer {
		l, now := &m.lanes[i], time.Now()
		allowed := m.cfg.Lanes.MaxInFlight
		if l.maximum > 0 {
			allowed = min(allowed, l.maximum)
		}
		if n := m.inFlight[m.id(i)]; n > allowed+m.overhang(i) {
			m.failf("%s: %d in flight, want at most %d", m.id(i), n, allowed)
		}
		if m.world.all > m.cfg.Delivery.MaxInFlight {
			m.failf("%d in flight, want at most %d", m.world.all, m.cfg.Delivery.MaxInFlight)
		}
		if l.paused || !l.present {
			m.failf("%s: a request while paused (%v) or gone from the directory (%v)", m.id(i), l.paused, !l.present)
		}
		if !l.goneAt.IsZero() && now.After(l.goneAt) {
			m.failf("%s: a request %s after 410", m.id(i), now.Sub(l.goneAt))
		}
		if now.After(l.heldAt) && now.Before(l.heldUntil) {
			m.failf("%s: a request %s before the end of Retry-After", m.id(i), l.heldUntil.Sub(now))
		}
		a := b()
		version := l.version
		if a.status == 410 || a.retryAfter != "" {
			time.AfterFunc(a.after, func() {
				m.mu.Lock()
				defer m.mu.Unlock()
				if version != l.version {
					return
				}
				if a.status == 410 && l.goneAt.IsZero() {
					l.goneAt = time.Now()
				}
				if wait, _ := time.ParseDuration(a.retryAfter + "s"); wait > 0 && time.Now().Add(wait).After(l.heldUntil) {
					l.heldAt, l.heldUntil = time.Now(), time.Now().Add(wait)
				}
			})
		}
		return a
	})
}

// overhang is what may still be under way of a configuration that allowed more.
func (m *model) overhang(i int) int {
	if m.lanes[i].version > 1 {
		return m.cfg.Lanes.MaxInFlight
	}
	return 0
}

func (m *model) play(ops []op) {
	m.circulate()
	settle := m.onSettle
	m.onSettle = func(del *dispatcher.Delivery, out dispatcher.Outcome) {
		if out.Result == dispatcher.Delivered || out.Result == dispatcher.Dead || out.Result == dispatcher.Discarded {
			m.mu.Lock()
			m.ended++
			m.mu.Unlock()
		}
		settle(del, out)
	}
	for i := range m.lanes {
		m.behave(i, always(ok))
		m.configure(i, "", 0, false)
	}
	for _, o := range ops {
		m.apply(o)
		time.Sleep(o.pause)
	}
	for i := range m.lanes {
		m.behave(i, always(ok))
		m.configure(i, "", 0, false)
		m.all = append(m.all, m.submit(m.id(i)))
	}
	for range 60 {
		time.Sleep(10 * time.Minute)
		m.mu.Lock()
		open := len(m.all) - m.ended - m.claimed
		m.mu.Unlock()
		if open == 0 {
			break
		}
	}
	m.check()
}

func (m *model) apply(o op) {
	i := o.lane
	l := &m.lanes[i]
	switch o.kind {
	case 0, 1, 2, 3:
		all := m.submitN(m.id(i), o.n*o.kind)
		m.all = append(m.all, all...)
	case 4, 5:
		m.behave(i, behaviours[o.n%len(behaviours)]())
	case 6:
		m.configure(i, fmt.Sprintf(`,"maxInFlight":%d`, o.n%5+1), o.n%5+1, false)
	case 7:
		m.configure(i, fmt.Sprintf(`,"maxPerSecond":%d,"paused":%v`, o.n+1, o.n%3 == 0), 0, o.n%3 == 0)
	case 8:
		synctest.Wait()
		m.remove(m.id(i))
		m.mu.Lock()
		l.present = false
		m.mu.Unlock()
	case 9:
		for _, del := range m.all[max(0, len(m.all)-o.n):] {
			if del.Claim() {
				m.claimed++
			}
		}
	}
}

func (m *model) check() {
	m.mu.Lock()
	defer m.mu.Unlock()
	open := 0
	for _, del := range m.all {
		if len(m.outcomes[del]) == 0 && !del.Claimed() {
			open++
		}
	}
	if open > 0 {
		m.failf("of %d deliveries %d were never settled", len(m.all), open)
	}
	if m.ended+m.claimed != len(m.all) {
		m.failf("of %d deliveries %d came to an end, %d were claimed", len(m.all), m.ended, m.claimed)
	}
	for _, l := range m.d.Lanes(nil) {
		if l.State == "parked" {
			m.failf("lane %s is parked in the end: %s", l.Subscription, l.Why)
		}
	}
}
