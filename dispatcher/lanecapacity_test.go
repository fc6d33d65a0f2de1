package dispatcher_test

import (
	"fmt"
	"testing"
	"time"

	"fanout/dispatcher"
)

// A lane takes no more from the retry topics than it sends soon: whatever its receiver is like and its subscription asks for, nothing that is
// fetched as Capacity says is deferred once more, all of it arrives, and in no longer than the lane's pace and a little more explain.
func TestRoomIsWhatALaneSendsSoon(t *testing.T) {
	const backlog = 300
	for name, test := range map[string]struct {
		answer answer
		extra  string
		live   time.Duration // between first attempts
		most   time.Duration // until the last one has arrived
	}{
		"fast":              {ok, "", time.Second, 10 * time.Second},
		"beside traffic":    {answer{status: 200, after: 20 * time.Millisecond}, "", 20 * time.Millisecond, 20 * time.Second},
		"slow":              {answer{status: 200, after: 3 * time.Second}, "", time.Minute, 2 * time.Minute},
		"very slow":         {answer{status: 200, after: 9 * time.Second}, "", time.Minute, 4 * time.Minute},
		"one at a time":     {answer{status: 200, after: 100 * time.Millisecond}, `,"maxInFlight":1`, time.Minute, time.Minute},
		"one, slow":         {answer{status: 200, after: 2500 * time.Millisecond}, `,"maxInFlight":1`, time.Hour, 20 * time.Minute},
		"five a second":     {ok, `,"maxPerSecond":5`, time.Minute, 80 * time.Second},
		"one a second":      {ok, `,"maxPerSecond":1`, time.Hour, 7 * time.Minute},
		"five, beside some": {ok, `,"maxPerSecond":5`, 500 * time.Millisecond, 3 * time.Minute},
		"in batches":        {ok, `,"batch":{"max":20,"wait":"1s"},"maxPerSecond":1`, time.Hour, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, config(), func(w *world) {
				w.set("s", test.extra)
				w.on("s", always(test.answer))
				all := w.drain("s", backlog, test.live, test.most)
				if n := w.count(all, dispatcher.Delivered, dispatcher.NoReason); n != backlog {
					t.Errorf("%d of %d were fetched, and %d delivered", len(all), backlog, n)
				}
			})
		})
	}
}

// drain fetches a backlog as Capacity says, beside first attempts, and returns what it fetched.
func (w *world) drain(name string, backlog int, live, most time.Duration) (all []*dispatcher.Delivery) {
	began, next := time.Now(), time.Now()
	for time.Since(began) < most {
		if !time.Now().Before(next) {
			next = next.Add(live)
			w.submit(name)
		}
		for n, _ := w.d.Capacity("a", name); n > 0 && len(all) < backlog; n-- {
			del := w.delivery(name)
			del.Stage = dispatcher.StageRetry
			all = append(all, del)
			w.d.Submit(del)
		}
		time.Sleep(min(250*time.Millisecond, live))
	}
	time.Sleep(20 * time.Second)
	return all
}

// A lane that sends nothing has no capacity and says so; what waits is fetched once it is told to be open. One that is parked has capacity for its
// probe, once.
func TestRoomOfALaneThatSendsNothing(t *testing.T) {
	in(t, config(), func(w *world) {
		capacity := func(id, want string) {
			t.Helper()
			n, open := w.d.Capacity("a", id)
			if got := fmt.Sprint(n, open); got != want {
				t.Errorf("%s: %s, want %s", id, got, want)
			}
		}
		capacity("nobody", "0 false")
		w.set("paused", `,"paused":true`)
		capacity("paused", "0 false")
		w.set("off", `,"enabled":false`)
		capacity("off", "0 false")
		w.set("idle", "")
		capacity("idle", "8 true")

		w.set("held", "")
		w.on("held", always(answer{status: 429, after: time.Millisecond, retryAfter: "60"}))
		w.submit("held")
		time.Sleep(time.Second)
		capacity("held", "0 false")
		w.on("held", always(ok))
		time.Sleep(time.Minute)
		if n := w.lanes("held", dispatcher.LaneOpened); n != 1 {
			t.Errorf("the lane that was held is told to be open %d times, want once: somebody waits for it", n)
		}

		w.set("gone", "")
		w.on("gone", always(gone))
		w.submit("gone")
		time.Sleep(time.Second)
		capacity("gone", "0 false")

		w.set("down", "")
		w.on("down", always(answer{status: 500, after: time.Second}))
		for range 3 {
			w.submitN("down", 8)
			time.Sleep(1500 * time.Millisecond)
		}
		capacity("down", "0 false")
		time.Sleep(w.cfg.Lanes.ParkMin)
		capacity("down", "1 true")
		w.submit("down")
		time.Sleep(100 * time.Millisecond)
		capacity("down", "0 true")
		time.Sleep(2 * time.Second)
		capacity("down", "0 false")

		w.set("slow", "") // nobody's fault, and yet nothing has capacity
		w.on("slow", always(hang))
		w.submitN("slow", 8)
		time.Sleep(time.Second)
		capacity("slow", "0 true")
		w.d.Suspend("the proxy is away")
		capacity("idle", "0 true")
		w.d.Suspend("")
		capacity("idle", "8 true")
	})
}

// Nobody's backlog takes what others wait for: an account with more waiting than its allowance has no capacity.
func TestRoomIsShared(t *testing.T) {
	cfg := config()
	cfg.Delivery.MaxInFlight = 8
	in(t, cfg, func(w *world) {
		for i := range 40 {
			name := fmt.Sprintf("many/s%d", i)
			w.set(name, "")
			w.on(name, always(hang))
			w.submitN(name, 30)
		}
		w.set("other", "")
		w.submit("other")
		time.Sleep(time.Second)
		if n, open := w.d.Capacity("many", "s1"); n != 0 || !open {
			t.Errorf("capacity for %d of an account that has more waiting than its share (open: %v)", n, open)
		}
	})
}
