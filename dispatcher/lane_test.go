package dispatcher_test

import (
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"fanout/dispatcher"
	"fanout/event"
)

// in runs f in virtual time with a running Dispatcher, and checks at the end that nothing is left.
func in(t *testing.T, cfg dispatcher.Config, f func(*world), opts ...dispatcher.Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, cfg, opts...)
		stop := w.run()
		defer stop()
		f(w)
		stop()
		w.atRest()
	})
}

func TestDeliver(t *testing.T) {
	in(t, config(), func(w *world) {
		w.set("s", `,"secrets":["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],"headers":{"x-tenant":"acme"}`)
		del := w.submit("s")
		time.Sleep(time.Second)
		if out := w.outcome(del); out.Result != dispatcher.Delivered || out.Status != 204 || !out.Attempted || out.Took != time.Millisecond {
			t.Errorf("outcome %+v", out)
		}
		if got := w.got("s"); len(got) != 1 || got[0].id != del.ID {
			t.Errorf("requests %+v", got)
		}
	})
}

// Whatever waits, and why ever it does, is settled when the Dispatcher stops, before Run returns.
func TestStopSettlesWhatWaits(t *testing.T) {
	cfg := config()
	cfg.Delivery.MaxInFlight = 16
	cfg.Lanes.QueueAge = time.Hour
	in(t, cfg, func(w *world) {
		w.set("slow", `,"maxPerSecond":0.1`)
		w.set("held", "")
		w.set("hang", "")
		w.set("line", "")
		w.on("held", always(answer{status: 429, after: time.Millisecond, retryAfter: "1000"}))
		w.on("hang", always(hang))
		w.submit("held")
		time.Sleep(time.Second)
		all := w.submitN("slow", 10)
		all = append(all, w.submitN("held", 10)...)
		all = append(all, w.submitN("hang", 50)...)
		all = append(all, w.submitN("line", 50)...)
		all = append(all, w.submitN("line", 50)...)
		stop := w.stopper
		stop()
		shutdown, delivered := w.count(all, dispatcher.Deferred, dispatcher.Shutdown), w.count(all, dispatcher.Delivered, 0)
		if shutdown+delivered != len(all) || shutdown < 100 {
			t.Errorf("%d deferred for the shutdown, %d delivered, of %d", shutdown, delivered, len(all))
		}
		if out := w.outcome(w.submit("line")); out.Result != dispatcher.Deferred || out.Reason != dispatcher.Shutdown {
			t.Errorf("after the stop: %+v", out)
		}
	})
}

// The last attempt of a schedule tells as much about the receiver as any other.
func TestExhaustedAttemptsPark(t *testing.T) {
	in(t, config(), func(w *world) {
		w.set("s", "")
		w.on("s", always(answer{status: 500, after: time.Millisecond}))
		for range 100 {
			del := w.delivery("s")
			del.Attempts = len(w.cfg.Delivery.Schedule)
			w.d.Submit(del)
			time.Sleep(10 * time.Millisecond)
		}
		if got := len(w.got("s")); got != w.cfg.Lanes.ParkAfter {
			t.Errorf("%d requests, want %d", got, w.cfg.Lanes.ParkAfter)
		}
	})
}

// Attempts under way when the configuration changes tell nothing of the new one.
func TestAttemptsOfAnOldConfiguration(t *testing.T) {
	for name, a := range map[string]answer{"timeout": hang, "gone": {status: 410, after: 9 * time.Second}} {
		t.Run(name, func(t *testing.T) {
			in(t, config(), func(w *world) {
				w.set("s", "")
				w.submitN("s", 20) // it proves itself, so that the limit grows
				time.Sleep(time.Second)
				w.on("s", always(a))
				w.submitN("s", 15)
				synctest.Wait()
				w.set("s", `,"description":"mended"`)
				w.on("s", always(ok))
				w.submit("s")
				time.Sleep(11 * time.Second)
				del := w.submit("s")
				time.Sleep(time.Second)
				if out := w.outcome(del); out.Result != dispatcher.Delivered {
					t.Errorf("after the change: %+v", out.Outcome)
				}
			})
		})
	}
}

// A delivery planned a moment before a change does not bring the old configuration back.
func TestPlannedBeforeAChange(t *testing.T) {
	in(t, config(), func(w *world) {
		old := w.set("s", "")
		w.set("s", `,"headers":{"x-version":"2"}`)
		w.submit("s")
		del := w.delivery("s")
		dispatcher.PlannedWith(del, old)
		w.d.Submit(del)
		time.Sleep(time.Second)
		for _, r := range w.got("s") {
			if !contains(r.head, "x-version: 2") {
				t.Errorf("sent with the old configuration: %q", r.head)
			}
		}
	})
}

// What a 410 stopped is remembered for as long as there is such a subscription, and no longer.
func TestGoneIsForgottenWithItsSubscription(t *testing.T) {
	in(t, config(), func(w *world) {
		w.set("s", "")
		w.on("s", always(gone))
		w.submit("s")
		time.Sleep(time.Hour)
		if n := len(w.d.Lanes(nil)); n != 1 {
			t.Errorf("%d lanes, want the one that was stopped", n)
		}
		w.dir.mu.Lock()
		clear(w.dir.subs)
		w.dir.mu.Unlock()
		time.Sleep(time.Minute)
		if n := len(w.d.Lanes(nil)); n != 0 {
			t.Errorf("%d lanes of subscriptions that are no more", n)
		}
	})
}

func TestGone(t *testing.T) {
	in(t, config(), func(w *world) {
		w.set("s", "")
		w.on("s", always(gone))
		first := w.submit("s")
		time.Sleep(time.Hour)
		second := w.submit("s")
		time.Sleep(time.Hour) // not even forgotten
		third := w.submit("s")
		for _, del := range []*dispatcher.Delivery{first, second, third} {
			if out := w.outcome(del); out.Result != dispatcher.Dead || out.Reason != dispatcher.Gone {
				t.Errorf("outcome %+v, want dead, gone", out.Outcome)
			}
		}
		if n := len(w.got("s")); n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
		w.on("s", always(ok))
		w.set("s", `,"description":"new"`)
		del := w.submit("s")
		time.Sleep(time.Second)
		if out := w.outcome(del); out.Result != dispatcher.Delivered {
			t.Errorf("after the change: %+v", out.Outcome)
		}
	})
}

// Retry-After holds the whole lane, and no other one.
func TestRetryAfterHoldsTheLane(t *testing.T) {
	in(t, config(), func(w *world) {
		w.set("s", "")
		w.set("other", "")
		w.on("s", always(answer{status: 429, after: time.Millisecond, retryAfter: "20"}))
		start := time.Now()
		w.submit("s")
		time.Sleep(10 * time.Millisecond)
		w.on("s", always(ok))
		for time.Since(start) < 19*time.Second {
			del, other := w.submit("s"), w.submit("other")
			time.Sleep(100 * time.Millisecond)
			if out := w.outcome(other); out.Result != dispatcher.Delivered {
				t.Fatalf("the other: %+v", out.Outcome)
			}
			if !w.settled(del) { // within queue_age of the end it waits
				continue
			}
			if out := w.outcome(del); out.Result != dispatcher.Deferred || out.Reason != dispatcher.RetryAfter || out.NotBefore.Before(start.Add(20*time.Second)) {
				t.Fatalf("outcome %+v", out.Outcome)
			}
		}
		time.Sleep(5 * time.Second)
		got := w.got("s")
		if len(got) < 2 || got[1].at.Sub(start) < 20*time.Second || got[1].at.Sub(start) > 21*time.Second {
			t.Errorf("%d requests, the second after %s", len(got), got[1].at.Sub(start))
		}
	})
}

// A paused subscription gets nothing, no probe either.
func TestPaused(t *testing.T) {
	in(t, config(), func(w *world) {
		w.set("s", `,"paused":true`)
		del := w.submit("s")
		if out := w.outcome(del); out.Result != dispatcher.Deferred || out.Reason != dispatcher.Paused || time.Until(out.NotBefore) != w.cfg.Lanes.ParkMin {
			t.Errorf("outcome %+v", out.Outcome)
		}
		time.Sleep(time.Hour)
		if n := len(w.got("s")); n != 0 {
			t.Errorf("%d requests, want none", n)
		}
	})
}

// What waits when its subscription is paused is put off as what comes later is, and what is in flight comes to its end.
func TestPausedWhileItWaits(t *testing.T) {
	in(t, config(), func(w *world) {
		w.set("s", `,"maxInFlight":1`)
		w.on("s", always(answer{status: 204, after: time.Second}))
		all := w.submitN("s", 5)
		time.Sleep(100 * time.Millisecond)
		w.set("s", `,"maxInFlight":1,"paused":true`)
		time.Sleep(2 * time.Second)
		if n := w.count(all, dispatcher.Deferred, dispatcher.Paused); n != 4 {
			t.Errorf("%d were deferred (paused), want 4", n)
		}
		if n := w.count(all, dispatcher.Delivered, dispatcher.NoReason); n != 1 {
			t.Errorf("%d were delivered, want 1", n)
		}
	})
}

// What its submitter has given up on is neither attempted nor settled again, and holds no place.
func TestClaimedWhileItWaits(t *testing.T) {
	cfg := config()
	in(t, cfg, func(w *world) {
		w.set("s", `,"maxInFlight":1`)
		w.on("s", always(answer{status: 204, after: 500 * time.Millisecond}))
		all := w.submitN("s", 4)
		if !all[1].Claim() || !all[2].Claim() || all[1].Claim() {
			t.Error("a claim is given once")
		}
		time.Sleep(1500 * time.Millisecond)
		if got := w.got("s"); len(got) != 2 || got[1].id != all[3].ID {
			t.Errorf("requests %+v, want those of the first and the last", got)
		}
		if w.settled(all[1]) || w.settled(all[2]) {
			t.Error("a claimed delivery was settled")
		}
	})
}

// A delivery whose time runs out while it waits for a place is dead, not sent.
func TestExpiresInTheQueue(t *testing.T) {
	in(t, config(), func(w *world) {
		w.set("s", `,"maxInFlight":1`)
		w.on("s", always(answer{status: 204, after: time.Second}))
		w.submit("s")
		del := w.delivery("s")
		del.FirstSeen = time.Now().Add(-w.cfg.Delivery.MaxAge + 500*time.Millisecond)
		w.d.Submit(del)
		time.Sleep(2 * time.Second)
		if out := w.outcome(del); out.Result != dispatcher.Dead || out.Reason != dispatcher.Expired {
			t.Errorf("outcome %+v", out.Outcome)
		}
	})
}

// A queue that waits for a slow clock goes on at once when a changed configuration removes the clock.
func TestLiftedRate(t *testing.T) {
	in(t, config(), func(w *world) {
		w.set("s", `,"maxPerSecond":0.01`)
		all := w.submitN("s", 5)
		time.Sleep(100 * time.Millisecond)
		w.set("s", "")
		all = append(all, w.submit("s"))
		time.Sleep(300 * time.Millisecond)
		if n := w.count(all, dispatcher.Delivered, 0); n != 6 {
			t.Errorf("%d delivered, want 6", n)
		}
	})
}

// An endpoint that fails for a minute gets tens of requests, none of its events is lost, and it comes back at a growing
// pace.
func TestParkAndComeBack(t *testing.T) {
	in(t, config(), func(w *world) {
		w.set("s", "")
		w.on("s", always(answer{status: 500, after: 5 * time.Millisecond}))
		w.circulate()
		start := time.Now()
		const failing, perSecond = 60 * time.Second, 300
		planned := 0
		for time.Since(start) < failing {
			w.submit("s")
			planned++
			time.Sleep(time.Second / perSecond)
		}
		if n := len(w.got("s")); n > 100 {
			t.Errorf("%d requests while it failed, want tens", n)
		}
		w.on("s", always(answer{status: 204, after: 5 * time.Millisecond}))
		time.Sleep(15 * time.Minute)
		if n := w.done(); n != planned {
			t.Errorf("%d delivered of %d", n, planned)
		}
		second, last := make(map[int]int), 0
		for _, r := range w.got("s") {
			if s := int(r.at.Sub(start) / time.Second); s >= 60 {
				second[s]++
				last = max(last, s)
			}
		}
		before := 0
		for s := 60; s <= last; s++ {
			if second[s] > max(3*before, 60) && before < 2000 {
				t.Errorf("second %d: %d requests after at most %d a second before", s, second[s], before)
			}
			before = max(before, second[s])
		}
		t.Logf("while failing and coming back %d requests; the last in second %d; most in one second %d", len(w.got("s")), last, before)
	})
}

// A permanent status tells of one event, not that the receiver is well: a parked lane goes on with one attempt at a time
// until the first 2xx.
func TestOnlySuccessUnparks(t *testing.T) {
	cfg := config()
	cfg.Lanes.ParkAfter = 1
	cfg.Delivery.PermanentStatuses = []int{422}
	in(t, cfg, func(w *world) {
		w.set("s", "")
		w.on("s", always(answer{status: 500}))
		w.submit("s")
		time.Sleep(cfg.Lanes.ParkMin + time.Second)
		w.on("s", always(answer{status: 422, after: 100 * time.Millisecond}))
		refused := w.submitN("s", 3)
		for i := range refused {
			time.Sleep(50 * time.Millisecond)
			if n := len(w.got("s")); n != i+2 {
				t.Errorf("probe %d: %d requests so far, want %d", i, n, i+2)
			}
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(time.Millisecond)
		if n := w.count(refused, dispatcher.Dead, dispatcher.PermanentStatus); n != 3 {
			t.Errorf("%d dead, want 3", n)
		}
		if l, _ := w.d.Lane("a", "s"); l.State != "parked" {
			t.Errorf("%s after permanent statuses alone, want parked", l.State)
		}
		w.on("s", always(answer{status: 204}))
		w.submit("s")
		time.Sleep(time.Second)
		if l, _ := w.d.Lane("a", "s"); l.State == "parked" {
			t.Error("still parked after a 2xx")
		}
	})
}

// One lane with a fast receiver and more than its queue holds defers nothing: reading waits for it.
func TestRoomForALoneLane(t *testing.T) {
	in(t, config(), func(w *world) {
		w.set("s", "")
		w.on("s", always(answer{status: 204, after: 10 * time.Millisecond}))
		var all []*dispatcher.Delivery
		for range 50_000 {
			if err := w.d.WaitForCapacity(w.t.Context()); err != nil {
				t.Fatal(err)
			}
			all = append(all, w.submit("s"))
		}
		time.Sleep(time.Second)
		if n := w.count(all, dispatcher.Delivered, 0); n != len(all) {
			t.Errorf("%d delivered of %d", n, len(all))
		}
		if w.most["s"] != 64 {
			t.Errorf("%d in flight at most, want 64", w.most["s"])
		}
	})
}

// Whoever waits to read gets a turn, although others keep the count between half of the bound and the bound.
func TestRoomForEverybody(t *testing.T) {
	in(t, config(), func(w *world) {
		w.set("s", "")
		w.on("s", always(answer{status: 204, after: 20 * time.Millisecond}))
		waiting := func() int64 { n, _ := w.d.Waiting(); return n }
		for waiting() < 750 {
			w.submit("s")
		}
		turn := make(chan time.Duration, 1)
		began := time.Now()
		go func() {
			if err := w.d.WaitForCapacity(w.t.Context()); err == nil {
				turn <- time.Since(began)
			}
		}()
		for time.Since(began) < 5*time.Second {
			time.Sleep(5 * time.Millisecond)
			for waiting() < 740 {
				w.submit("s")
			}
		}
		select {
		case took := <-turn:
			t.Logf("waited for %s", took)
		default:
			t.Error("no turn in five seconds")
		}
	})
}

// Receivers that hang take nothing from the others.
func TestHangingReceivers(t *testing.T) {
	for _, hanging := range []int{1, 10, 70} {
		t.Run(strconv.Itoa(hanging), func(t *testing.T) {
			in(t, config(), func(w *world) {
				const lanes = 100
				for i := range lanes {
					id := fmt.Sprintf("s%d", i)
					w.set(id, "")
					w.on(id, always(answer{status: 204, after: 5 * time.Millisecond}))
					if i < hanging {
						w.on(id, always(hang))
					}
				}
				var healthy []*dispatcher.Delivery
				var submitted []time.Time
				for range 120 { // at 4 000 a second, for three seconds in each of which no time-out ends
					for range 100 {
						if err := w.d.WaitForCapacity(w.t.Context()); err != nil {
							t.Fatal(err)
						}
						id := len(submitted) % lanes
						del := w.submit(fmt.Sprintf("s%d", id))
						submitted = append(submitted, time.Now())
						if id >= hanging {
							healthy = append(healthy, del)
						}
					}
					time.Sleep(25 * time.Millisecond)
				}
				limit := 3100 * time.Millisecond
				if hanging > 50 {
					limit += time.Second // until they are found out
				}
				if took := time.Since(submitted[0]); took > limit {
					t.Errorf("reading took %s, want at most %s", took, limit)
				}
				for _, del := range healthy {
					if out := w.outcome(del); out.Result != dispatcher.Delivered || out.at.Sub(del.FirstSeen) > 20*time.Millisecond {
						t.Fatalf("%s: %+v after %s", del.Subscription, out.Outcome, out.at.Sub(del.FirstSeen))
					}
				}
			})
		})
	}
}

// With every permit in use by receivers that answer slowly, one that fails gets its turn.
func TestFailingLaneGetsAPermit(t *testing.T) {
	cfg := config()
	cfg.Delivery.MaxInFlight = 8
	in(t, cfg, func(w *world) {
		for i := range 4 {
			id := fmt.Sprintf("busy%d", i)
			w.set(id, "")
			w.on(id, always(answer{status: 204, after: 300 * time.Millisecond}))
			w.submitN(id, 400)
		}
		time.Sleep(5 * time.Second)
		w.set("bad", "")
		w.on("bad", always(answer{status: 500, after: time.Millisecond}))
		first := w.submit("bad")
		time.Sleep(5 * time.Second)
		second := w.submit("bad") // its last attempt failed
		time.Sleep(5 * time.Second)
		if len(w.got("bad")) != 2 {
			t.Errorf("%d requests in 10s, want 2 (settled: %v %v)", len(w.got("bad")), w.settled(first), w.settled(second))
		}
	})
}

// Lanes and goroutines do not outlive their work.
func TestForgetsIdleLanes(t *testing.T) {
	in(t, config(), func(w *world) {
		before := runtime.NumGoroutine()
		for i := range 3000 {
			id := fmt.Sprintf("s%d", i)
			w.set(id, "")
			switch i % 5 {
			case 1: // one failure
				w.on(id, always(answer{status: 500, after: time.Millisecond}))
			case 2: // a hold, then a growing pace that nothing uses
				w.on(id, always(answer{status: 503, after: time.Millisecond, retryAfter: "3"}))
			case 3: // parked, then back
				w.on(id, always(answer{err: errors.New("reset"), after: time.Millisecond}))
				w.submitN(id, 12)
			}
			w.submit(id)
		}
		time.Sleep(20 * time.Second)
		if n := len(w.d.Lanes(nil)); n >= 3000 {
			t.Errorf("%d lanes after 20s", n)
		}
		time.Sleep(2*w.cfg.Lanes.ParkMax + time.Minute)
		if n := len(w.d.Lanes(nil)); n != 0 {
			t.Errorf("%d lanes, want none: %+v", n, w.d.Lanes(nil)[0])
		}
		if n := runtime.NumGoroutine(); n > before+2 {
			t.Errorf("%d goroutines, before %d", n, before)
		}
	})
}

func TestMaxPerSecond(t *testing.T) {
	in(t, config(), func(w *world) {
		w.set("s", `,"maxPerSecond":50`)
		w.circulate()
		start := time.Now()
		planned := 0
		for time.Since(start) < 20*time.Second {
			w.submit("s")
			planned++
			time.Sleep(time.Second / 100)
		}
		perSecond := make(map[int]int)
		for _, r := range w.got("s") {
			perSecond[int(r.at.Sub(start)/time.Second)]++
		}
		for s := range 20 {
			if n := perSecond[s]; n < 45 || n > 55 {
				t.Errorf("second %d: %d requests", s, n)
			}
		}
		time.Sleep(10 * time.Minute)
		if n := w.done(); n != planned {
			t.Errorf("%d delivered of %d", n, planned)
		}
	})
}

// What waits in a queue follows the directory as it is when its turn comes.
func TestWhatWaitsFollowsChanges(t *testing.T) {
	for name, c := range map[string]struct {
		change func(w *world)
		result dispatcher.Result
		reason dispatcher.Reason
	}{
		"deleted":    {func(w *world) { w.remove("s") }, dispatcher.Discarded, dispatcher.Deleted},
		"off":        {func(w *world) { w.set("s", `,"maxInFlight":1,"enabled":false`) }, dispatcher.Discarded, dispatcher.Disabled},
		"stored new": {func(w *world) { w.set("s", `,"maxInFlight":1`) }, dispatcher.Delivered, 0},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, config(), func(w *world) {
				w.set("s", `,"maxInFlight":1`)
				w.on("s", always(answer{status: 204, after: time.Second}))
				all := w.submitN("s", 3)
				time.Sleep(1500 * time.Millisecond) // the second has waited and is under way
				c.change(w)
				time.Sleep(5 * time.Second)
				if w.count(all[:2], dispatcher.Delivered, 0) != 2 {
					t.Errorf("the two before: %+v, %+v", w.outcome(all[0]), w.outcome(all[1]))
				}
				if w.count(all[2:], c.result, c.reason) != 1 {
					t.Errorf("the one that waited: %+v", w.outcome(all[2]))
				}
			})
		})
	}
}

// A changed configuration is a fresh start for a lane that had failed.
func TestChangeLiftsTheLimit(t *testing.T) {
	in(t, config(), func(w *world) {
		w.set("s", "")
		w.on("s", always(answer{status: 500, after: time.Millisecond}))
		for range 5 {
			w.submit("s")
			time.Sleep(10 * time.Millisecond)
		}
		if l, _ := w.d.Lane("a", "s"); l.Limit != 1 || l.Failures != 5 {
			t.Fatalf("lane %+v", l)
		}
		w.on("s", always(ok))
		w.set("s", `,"maxInFlight":30`)
		w.submit("s")
		if l, _ := w.d.Lane("a", "s"); l.Limit != 8 || l.Failures != 0 || l.Maximum != 30 {
			t.Errorf("lane %+v", l)
		}
		time.Sleep(time.Second)
	})
}

// What waits in a lane that parks is deferred at once.
func TestParkingEmptiesTheQueue(t *testing.T) {
	cfg := config()
	cfg.Lanes.ParkAfter = 1
	in(t, cfg, func(w *world) {
		w.set("s", `,"maxInFlight":1`)
		w.on("s", always(answer{status: 500, after: 10 * time.Millisecond}))
		all := w.submitN("s", 50)
		time.Sleep(11 * time.Millisecond)
		if n := w.count(all[1:], dispatcher.Deferred, dispatcher.Parked); n != 49 {
			t.Errorf("%d deferred, want 49", n)
		}
	})
}

// Few places and many lanes, in real time: nobody who waits in line is forgotten.
func TestNoLostWakeUp(t *testing.T) {
	cfg := config()
	cfg.Delivery.MaxInFlight = 1
	cfg.Lanes.QueueAge = time.Hour
	d, dir := plain(t, cfg)
	const lanes = 4
	subs := make([]string, lanes)
	for i := range subs {
		subs[i] = fmt.Sprintf("s%d", i)
		dir.subs[[2]string{"a", subs[i]}] = parse(t, subs[i])
	}
	for round := range 3000 {
		var settled counter
		for _, id := range subs {
			go d.Submit(&dispatcher.Delivery{ID: "msg_x", Account: "a", Subscription: id, Event: event.EmailOpen, FirstSeen: time.Now(), Settler: &settled})
		}
		for deadline := time.Now().Add(5 * time.Second); settled.n.Load() < lanes; runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatalf("round %d: %d of %d settled", round, settled.n.Load(), lanes)
			}
		}
	}
}
