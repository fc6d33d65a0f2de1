package dispatcher_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"fanout/dispatcher"
	"fanout/event"
)

// While a fault of our own lasts, reading stops, nothing is sent, nothing grows older and no attempt is spent; after it all goes on.
func TestSuspend(t *testing.T) {
	in(t, config(), func(w *world) {
		w.set("s", `,"maxInFlight":1`)
		w.on("s", always(answer{status: 204, after: 100 * time.Millisecond}))
		all := w.submitN("s", 5)
		time.Sleep(150 * time.Millisecond) // the second is in flight
		w.d.Suspend("no name server answers")
		time.Sleep(time.Minute)
		if n := len(w.got("s")); n != 2 {
			t.Errorf("%d requests, want the two that had begun", n)
		}
		all = append(all, w.submit("s"))
		if l, _ := w.d.Lane("a", "s"); !strings.Contains(l.Why, "no name server answers") {
			t.Errorf("lane %+v", l)
		}
		ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
		defer cancel()
		if err := w.d.WaitForCapacity(ctx); err == nil {
			t.Error("reading goes on")
		}
		for _, del := range all[2:] {
			if w.settled(del) {
				t.Errorf("settled: %+v", w.outcome(del).Outcome)
			}
		}
		w.d.Suspend("")
		began := time.Now()
		if err := w.d.WaitForCapacity(w.t.Context()); err != nil || time.Since(began) > 0 {
			t.Errorf("reading waits for %s, %v", time.Since(began), err)
		}
		time.Sleep(time.Second)
		if n := w.count(all, dispatcher.Delivered, 0); n != len(all) {
			t.Errorf("%d delivered of %d", n, len(all))
		}
	})
}

// What waits when everything stops during such a fault is deferred for it.
func TestStopWhileSuspended(t *testing.T) {
	in(t, config(), func(w *world) {
		w.set("s", "")
		w.d.Suspend("the proxy is away")
		all := w.submitN("s", 3)
		time.Sleep(time.Minute)
		w.stopper()
		all = append(all, w.submit("s"))
		if n := w.count(all, dispatcher.Deferred, dispatcher.Network); n != 4 {
			t.Errorf("%d deferred for the network, want 4", n)
		}
	})
}

// A released lane sends again at once, at a growing pace, and whoever fetches from the retry topics is told.
func TestRelease(t *testing.T) {
	for name, test := range map[string]struct {
		answer answer
		lane   string
	}{
		"parked": {answer{status: 503, after: time.Millisecond}, "parked"},
		"held":   {answer{status: 429, after: time.Millisecond, retryAfter: "3600"}, "limited"},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, config(), func(w *world) {
				w.set("s", "")
				w.on("s", always(test.answer))
				for range 12 {
					w.submit("s")
					time.Sleep(10 * time.Millisecond)
				}
				l, _ := w.d.Lane("a", "s")
				if l.State != test.lane || l.Until.IsZero() || l.Why == "" {
					t.Fatalf("lane %+v", l)
				}
				w.on("s", always(ok))
				if out := w.outcome(w.submit("s")); out.Result != dispatcher.Deferred {
					t.Fatalf("before: %+v", out.Outcome)
				}
				w.d.Release("a", "s")
				del := w.submit("s")
				time.Sleep(time.Second)
				if out := w.outcome(del); out.Result != dispatcher.Delivered {
					t.Errorf("after: %+v", out.Outcome)
				}
				if n := w.lanes("s", dispatcher.LaneOpened); n != 1 {
					t.Errorf("told %d times that it is open: %+v", n, w.events["s"])
				}
			})
		})
	}
	in(t, config(), func(w *world) { // what its configuration says stays
		w.set("gone", "")
		w.on("gone", always(gone))
		w.submit("gone")
		w.set("paused", `,"paused":true`)
		time.Sleep(time.Second)
		for _, id := range []string{"gone", "paused", "nobody"} {
			w.d.Release("a", id)
			if n := w.lanes(id, dispatcher.LaneOpened); n != 1 {
				t.Errorf("%s: told %d times", id, n)
			}
		}
		if out := w.outcome(w.submit("gone")); out.Reason != dispatcher.Gone {
			t.Errorf("gone: %+v", out.Outcome)
		}
		if out := w.outcome(w.submit("paused")); out.Reason != dispatcher.Paused {
			t.Errorf("paused: %+v", out.Outcome)
		}
	})
}

// lanes counts the lane events of a kind.
func (w *world) lanes(name string, kind dispatcher.LaneEventKind) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events[host(name)] {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// Whatever made a lane defer its deliveries, it is told soon after they are welcome again, once.
func TestLaneOpens(t *testing.T) {
	for name, test := range map[string]struct {
		extra string
		close func(w *world) // makes it defer something
		open  func(w *world) // and lets it have room again
		why   string
	}{
		"a 2xx": {"", func(w *world) {
			w.on("s", always(answer{status: 500, after: time.Millisecond}))
			w.submitN("s", 30)
			time.Sleep(time.Second)
			w.submit("s")
		}, func(w *world) {
			w.on("s", always(ok))
			time.Sleep(w.cfg.Lanes.ParkMin)
			w.submit("s")
		}, "delivered"},
		"the end of a hold": {"", func(w *world) {
			w.on("s", always(answer{status: 503, after: time.Millisecond, retryAfter: "20"}))
			w.submit("s")
			time.Sleep(time.Second)
			w.on("s", always(ok))
			w.submit("s")
		}, func(*world) { time.Sleep(20 * time.Second) }, "room"},
		"the end of a pause": {`,"paused":true`, func(w *world) { w.submit("s") }, func(w *world) {
			time.Sleep(3 * time.Hour) // not even forgotten
			w.set("s", "")
		}, "configuration"},
		"a change while parked": {"", func(w *world) {
			w.on("s", always(answer{status: 500, after: time.Millisecond}))
			w.submitN("s", 30)
			time.Sleep(time.Second)
			w.submit("s")
		}, func(w *world) { w.set("s", `,"description":"repaired"`) }, "configuration"},
		"room after a full queue": {`,"maxInFlight":1`, func(w *world) {
			w.on("s", always(answer{status: 204, after: time.Second}))
			w.submitN("s", 10)
			time.Sleep(2900 * time.Millisecond) // the third ends after three seconds
		}, func(*world) { time.Sleep(2 * time.Second) }, "room"},
		"room after the rate": {`,"maxPerSecond":1`, func(w *world) {
			w.submitN("s", 10)
			time.Sleep(2900 * time.Millisecond)
		}, func(*world) { time.Sleep(2 * time.Second) }, "room"},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, config(), func(w *world) {
				w.set("s", test.extra)
				test.close(w)
				if n := w.lanes("s", dispatcher.LaneOpened); n != 0 {
					t.Fatalf("told %d times before: %+v", n, w.events["s"])
				}
				test.open(w)
				time.Sleep(2 * time.Second)
				if n := w.lanes("s", dispatcher.LaneOpened); n != 1 {
					t.Fatalf("told %d times: %+v", n, w.events["s"])
				}
				if last := w.events["s"][len(w.events["s"])-1]; last.Account != "a" || last.Subscription != "s" || !strings.Contains(last.Why, test.why) {
					t.Errorf("told %+v", last)
				}
				time.Sleep(time.Hour)
				if n := w.lanes("s", dispatcher.LaneOpened); n != 1 {
					t.Errorf("told %d times in all", n)
				}
			})
		})
	}
}

// A parked lane whose cool-down is over and that nothing arrives for asks for a probe, once.
func TestProbeIsDue(t *testing.T) {
	in(t, config(), func(w *world) {
		w.set("s", "")
		w.on("s", always(answer{status: 500, after: time.Millisecond}))
		w.submitN("s", 12)
		time.Sleep(time.Second)
		w.submit("s")
		if n := w.lanes("s", dispatcher.LaneParked); n != 1 {
			t.Fatalf("parked %d times", n)
		}
		time.Sleep(w.cfg.Lanes.ParkMin + time.Minute)
		if n := w.lanes("s", dispatcher.LaneProbeDue); n != 1 {
			t.Errorf("asked for a probe %d times: %+v", n, w.events["s"])
		}
		w.submit("s") // it fails, for twice as long
		time.Sleep(2*w.cfg.Lanes.ParkMin + time.Minute)
		if n := w.lanes("s", dispatcher.LaneProbeDue); n != 2 {
			t.Errorf("asked for a probe %d times: %+v", n, w.events["s"])
		}
	})
}

// Thousands of test events at once: no more reach the receiver at a time than the lane allows, those that find no room
// are told so, and all are counted and logged. A delivery of another account is not delayed.
func TestManyTestEvents(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	synctest.Test(t, func(t *testing.T) {
		w := newWorldWith(t, config(), zap.New(core), nil)
		stop := w.run()
		defer stop()
		sub := w.set("s", `,"maxInFlight":1,"paused":true`)
		w.on("s", always(answer{status: 204, after: 200 * time.Millisecond}))
		w.set("b/s", "")
		var tests sync.WaitGroup
		var sent, refused atomic.Int64
		for range 3000 {
			tests.Go(func() {
				res, err := w.d.Test(t.Context(), sub, event.EmailOpen)
				switch {
				case errors.Is(err, dispatcher.ErrTestLimit):
					refused.Add(1)
				case err != nil || res.Status != 204:
					t.Errorf("%+v, %v", res, err)
				default:
					sent.Add(1)
				}
			})
		}
		time.Sleep(time.Second)
		del := w.submit("b/s")
		time.Sleep(2 * time.Millisecond)
		if out := w.outcome(del); out.Result != dispatcher.Delivered {
			t.Errorf("another account's delivery: %+v", out.Outcome)
		}
		tests.Wait()
		w.mu.Lock()
		most := w.most["s"]
		w.mu.Unlock()
		if most != 1 || sent.Load() < 40 || sent.Load() > 70 || sent.Load()+refused.Load() != 3000 {
			t.Errorf("%d at a time; %d sent, %d refused", most, sent.Load(), refused.Load())
		}
		if n := logs.FilterMessage("test event sent").Len(); int64(n) != sent.Load() {
			t.Errorf("%d lines of the log for %d test events", n, sent.Load())
		}
		stop()
		w.atRest()
	})
}

// With every permit in use, a test event has the one that is kept for it.
func TestPermitForTestEvents(t *testing.T) {
	cfg := config()
	cfg.Delivery.MaxInFlight = 8
	in(t, cfg, func(w *world) {
		w.set("hang", "")
		w.on("hang", always(hang))
		w.submitN("hang", 20)
		time.Sleep(100 * time.Millisecond)
		if used, _ := w.d.UsedPermits(); used != 8 {
			t.Fatalf("%d permits in use, want 8", used)
		}
		began := time.Now()
		res, err := w.d.Test(w.t.Context(), w.set("b/s", ""), event.EmailOpen)
		if err != nil || res.Status != 204 || time.Since(began) > 100*time.Millisecond {
			t.Errorf("%+v, %v after %s", res, err, time.Since(began))
		}
	})
}

// A backlog of retries and first attempts share a lane: neither waits for the other to be worked off.
func TestRetriesAndFirstAttemptsTakeTurns(t *testing.T) {
	in(t, config(), func(w *world) {
		w.set("s", `,"maxInFlight":1`)
		w.on("s", always(answer{status: 204, after: 10 * time.Millisecond}))
		for range 500 {
			del := w.delivery("s")
			del.Stage = dispatcher.StageRetry
			w.d.Submit(del)
		}
		time.Sleep(100 * time.Millisecond)
		fresh := w.submitN("s", 20)
		time.Sleep(500 * time.Millisecond)
		if n := len(fresh); !w.settled(fresh[n-1]) {
			t.Error("first attempts wait for the whole backlog of retries")
		}
		if n := len(w.got("s")); n < 50 {
			t.Errorf("%d requests", n)
		}
	})
}

// Accounts are remembered for a minute after their last lane is forgotten, and cost nothing after; of very many at once,
// those that used hardly anything are forgotten with their lanes.
func TestAccountsAreForgotten(t *testing.T) {
	in(t, config(), func(w *world) {
		for i := range 100 {
			name := fmt.Sprintf("x%d/s", i)
			w.set(name, "")
			w.submit(name)
		}
		time.Sleep(5 * time.Second)
		if n := w.d.AccountCount(); n != 100 {
			t.Errorf("%d accounts, want 100", n)
		}
		time.Sleep(80 * time.Second)
		if lanes, n := w.d.LaneCount(), w.d.AccountCount(); lanes != 0 || n != 0 {
			t.Errorf("%d lanes and %d accounts after a minute and more, want none", lanes, n)
		}
		for i := range 60_000 {
			name := fmt.Sprintf("y%d/s", i)
			w.set(name, "")
			w.submit(name)
			if i%100 == 99 {
				synctest.Wait()
			}
		}
		time.Sleep(5 * time.Second)
		if lanes, n := w.d.LaneCount(), w.d.AccountCount(); lanes > 10_000 || n > 64*256 {
			t.Errorf("%d lanes and %d accounts 5 s after the last of 60000", lanes, n)
		}
	})
}
