package dispatcher_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"fanout/dispatcher"
	"fanout/dispatcher/post"
	"fanout/event"
	"fanout/webhook"
)

// inBatches are the ids of each request's elements, as "1,2,3" where the deliveries are msg_1 to msg_3.
func inBatches(t testing.TB, requests []request) (all []string) {
	t.Helper()
	for _, r := range requests {
		ids := elements(t, r.body)
		if want := webhook.BatchID(ids); r.id != want {
			t.Errorf("webhook-id %s of %v, want %s", r.id, ids, want)
		}
		for i := range ids {
			ids[i] = strings.TrimPrefix(ids[i], "msg_")
		}
		all = append(all, strings.Join(ids, ","))
	}
	return all
}

// elements are the ids of a batch's elements.
func elements(t testing.TB, body string) (ids []string) {
	t.Helper()
	var list []struct{ ID string }
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	for _, e := range list {
		ids = append(ids, e.ID)
	}
	return ids
}

func wantBatches(t *testing.T, w *world, name string, want ...string) {
	t.Helper()
	got := inBatches(t, w.got(name))
	slices.Sort(got) // of what begins at once, any may come first
	slices.Sort(want)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("batches %q, want %q", got, want)
	}
}

func TestBatchIsSentWhenItIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, config())
		defer w.run()()
		w.set("b", `,"batch":{"max":3,"wait":"5s"}`)
		all := w.submitN("b", 7)
		synctest.Wait()
		wantBatches(t, w, "b", "1,2,3", "4,5,6")
		requests := w.got("b")
		if !strings.Contains(requests[0].body, "msg_1") {
			requests = []request{requests[1], requests[0]}
		}
		if body, want := requests[0].body, `[{"id":"msg_1","eventType":"OPEN"},{"id":"msg_2","eventType":"OPEN"},{"id":"msg_3","eventType":"OPEN"}]`; body != want {
			t.Errorf("body %s, want %s", body, want)
		}
		time.Sleep(4990 * time.Millisecond)
		if w.settled(all[6]) {
			t.Error("it did not wait for others")
		}
		time.Sleep(20 * time.Millisecond)
		wantBatches(t, w, "b", "1,2,3", "4,5,6", "7")
		if n := w.count(all, dispatcher.Delivered, 0); n != 7 {
			t.Errorf("%d delivered, want 7", n)
		}
		first := w.outcome(all[1])
		if r := requests[0]; first.Batch != r.id || first.BatchSize != 3 || !first.Attempted {
			t.Errorf("%+v, want batch %s of 3", first.Outcome, r.id)
		}
		if recent := w.d.Recent("a", "b"); len(recent) == 0 || recent[0].Batch == "" || recent[0].BatchSize == 0 {
			t.Errorf("%+v do not name their batches", recent)
		}
		if head := requests[0].head; !strings.Contains(head, fmt.Sprintf("Content-Length: %d\r\n", len(requests[0].body))) {
			t.Errorf("head %s", head)
		}
	})
}

// The oldest waits for `wait`, and no longer, however many come after it.
func TestBatchWaitsForItsOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, config())
		defer w.run()()
		w.set("b", `,"batch":{"max":100,"wait":"1s"}`)
		begun := time.Now()
		for range 4 {
			w.submit("b")
			time.Sleep(300 * time.Millisecond)
		}
		time.Sleep(time.Second)
		wantBatches(t, w, "b", "1,2,3,4")
		if wait := w.got("b")[0].at.Sub(begun); wait != time.Second {
			t.Errorf("it was sent after %s, want 1s", wait)
		}
	})
}

// With wait 0 a delivery goes out at once; what comes meanwhile goes out with the next request that may begin.
func TestBatchWithoutWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, config())
		defer w.run()()
		w.set("b", `,"maxInFlight":1,"batch":{"max":3}`)
		w.submitN("b", 6)
		time.Sleep(time.Second)
		wantBatches(t, w, "b", "1", "2,3,4", "5,6")
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.most["b"] != 1 {
			t.Errorf("%d requests at once, want 1", w.most["b"])
		}
	})
}

// Waiting for others does not count as age in the queue, which is shorter here than the wait.
func TestWaitingForABatchIsNoQueueAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, config())
		defer w.run()()
		w.set("b", `,"batch":{"max":100,"wait":"5s"}`)
		all := w.submitN("b", 4)
		time.Sleep(6 * time.Second)
		if n := w.count(all, dispatcher.Delivered, 0); n != 4 {
			t.Errorf("%d delivered, want 4", n)
		}
		wantBatches(t, w, "b", "1,2,3,4")
	})
}

// A batch goes out at once when half of what may be read ahead waits.
func TestBatchGivesRoomForReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, config())
		defer w.run()()
		const lanes, each = 20, 499 // of 20 000 that may wait
		for i := range lanes {
			name := fmt.Sprintf("b%d", i)
			w.set(name, `,"batch":{"max":1000,"wait":"5s"}`)
			w.submitN(name, each)
		}
		time.Sleep(time.Second)
		w.mu.Lock()
		if n := len(w.requests); n != 0 {
			t.Errorf("%d receivers had requests, want none yet", n)
		}
		w.mu.Unlock()
		w.submitN("b0", 20)
		time.Sleep(200 * time.Millisecond)
		waiting := 0
		for _, l := range w.d.Lanes(nil) {
			waiting += l.Queued
		}
		if waiting >= 10_000 {
			t.Errorf("%d wait, which is half of what may be read ahead, and nothing was sent", waiting)
		}
	})
}

// Twenty lanes with batches of a hundred fill them, though the lanes' queues hold more than as many single deliveries would
// stop reading for; none is deferred.
func TestManyLanesFillTheirBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, config())
		defer w.run()()
		var all []*dispatcher.Delivery
		for i := range 20 {
			w.set(fmt.Sprintf("b%d", i), `,"batch":{"max":100,"wait":"5s"}`)
		}
		for range 200 {
			for i := range 20 {
				all = append(all, w.submit(fmt.Sprintf("b%d", i)))
			}
		}
		time.Sleep(time.Second)
		if n := w.count(all, dispatcher.Delivered, 0); n != len(all) {
			t.Errorf("%d of %d delivered", n, len(all))
		}
		for i := range 20 {
			if n := len(w.got(fmt.Sprintf("b%d", i))); n != 2 {
				t.Errorf("%d requests for 200 deliveries, want 2", n)
			}
		}
	})
}

// The whole body keeps to the bound; what is larger by itself goes alone.
func TestBatchBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		cfg.Delivery.MaxBatchBytes = 1000
		w := newWorld(t, cfg)
		defer w.run()()
		w.set("b", `,"batch":{"max":100,"wait":"1s"}`)
		sizes := []int{100, 100, 500, 100, 1500, 100, 947, 100}
		for _, size := range sizes {
			del := w.delivery("b")
			del.ID = "msg_" + fmt.Sprintf("%026d", w.n) // as long as they really are
			del.Body = []byte(`{"a":"` + strings.Repeat("x", size-8) + `"}`)
			w.d.Submit(del)
		}
		time.Sleep(3 * time.Second)
		n := 0
		for _, r := range w.got("b") {
			ids := elements(t, r.body)
			n += len(ids)
			if len(r.body) > 1000 && len(ids) > 1 {
				t.Errorf("%d bytes with %d deliveries", len(r.body), len(ids))
			}
		}
		if n != len(sizes) {
			t.Errorf("%d sent, want %d", n, len(sizes))
		}
	})
}

// A request counts once for maxPerSecond.
func TestBatchesAreRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, config())
		defer w.run()()
		w.set("b", `,"maxPerSecond":2,"batch":{"max":100}`)
		for range 200 {
			w.submit("b")
			time.Sleep(5 * time.Millisecond)
		}
		time.Sleep(1500 * time.Millisecond)
		if n := len(w.got("b")); n < 3 || n > 6 {
			t.Errorf("%d requests in 2.5 s, want about 5", n)
		}
	})
}

// After a 4xx the deliveries are retried in batches of half the size, so that the bad one dies alone.
func TestBadDeliveryDiesAlone(t *testing.T) {
	for _, permanent := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			cfg := config()
			status := http.StatusBadRequest
			if permanent {
				status = http.StatusUnprocessableEntity
				cfg.Delivery.PermanentStatuses = []int{410, status}
			}
			cfg.Lanes.ParkAfter = 1000
			for i := range cfg.Delivery.Schedule { // an hour of virtual time costs ten seconds under the race detector
				cfg.Delivery.Schedule[i] = time.Duration(i+1) * 5 * time.Second
			}
			w := newWorld(t, cfg)
			stop := w.run()
			defer stop()
			w.set("b", `,"batch":{"max":64,"wait":"1s"}`)
			w.judges["b"] = func(body string) answer {
				if strings.Contains(body, `"msg_17"`) {
					return answer{status: status, after: time.Millisecond}
				}
				return ok
			}
			w.circulate()
			w.submitN("b", 64)
			time.Sleep(10 * time.Minute)
			if w.done() != 63 {
				t.Errorf("%d delivered, want 63", w.done())
			}
			var sizes []int
			for _, r := range w.got("b") {
				if n := len(elements(t, r.body)); strings.Contains(r.body, `"msg_17"`) {
					sizes = append(sizes, n)
				}
			}
			want := []int{64, 32, 16, 8, 4, 2, 1, 1}
			if permanent { // it dies when it is alone
				want = want[:7]
			}
			if !slices.Equal(sizes, want) {
				t.Errorf("the bad one was sent in batches of %v, want %v", sizes, want)
			}
		})
	}
}

// A delivery makes its last attempt alone where its batch was refused, whatever size was reached; and one that is refused
// in its last attempt, together with others, has one more.
func TestLastAttemptIsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		cfg.Delivery.Schedule = cfg.Delivery.Schedule[:2]
		w := newWorld(t, cfg)
		defer w.run()()
		w.set("b", `,"batch":{"max":100,"wait":"1s"}`)
		submit := func(attempts int, refused bool) *dispatcher.Delivery {
			del := w.delivery("b")
			del.Stage, del.Attempts, del.BatchRefused = dispatcher.StageRetry, attempts, refused
			w.d.Submit(del)
			return del
		}
		for range 3 {
			submit(1, true)
		}
		submit(2, true)
		submit(2, true)
		time.Sleep(2 * time.Second)
		wantBatches(t, w, "b", "4", "5", "1,2,3")

		w.on("b", always(answer{status: 400, after: time.Millisecond}))
		last, other := submit(2, false), submit(0, false)
		time.Sleep(2 * time.Second)
		if out := w.outcome(last); out.Result != dispatcher.Retry || out.BatchMax != 1 || !out.BatchRefused {
			t.Errorf("%+v, want one more attempt", out.Outcome)
		}
		if out := w.outcome(other); out.Result != dispatcher.Retry || out.BatchMax != 1 || !out.BatchRefused {
			t.Errorf("%+v", out.Outcome)
		}
		end := submit(3, true)
		time.Sleep(2 * time.Second)
		if out := w.outcome(end); out.Result != dispatcher.Dead || out.Reason != dispatcher.AttemptsExhausted {
			t.Errorf("%+v, want dead", out.Outcome)
		}
	})
}

// What an answer leaves of a delivery's next batch.
func TestVerdictInBatch(t *testing.T) {
	cfg := config().Delivery
	cfg.PermanentStatuses = []int{410, 422, 501}
	del := &dispatcher.Delivery{BatchMax: 50, BatchRefused: true}
	for status := 200; status < 600; status++ {
		for _, n := range []int{1, 2, 7, 50} {
			out := dispatcher.VerdictInBatch(&cfg, del, n, nil, &post.Response{Status: status}, time.Now())
			halves := status/100 == 4 && status != 408 && status != 410 && status != 413 && status != 429 || status == 501
			want := dispatcher.Retry
			switch {
			case status < 300:
				want = dispatcher.Delivered
			case status == 410, n == 1 && (status == 422 || status == 501):
				want = dispatcher.Dead
			}
			wantMax := 50
			if halves {
				wantMax = max(1, n/2)
			}
			if out.Result != want || out.BatchMax != wantMax || out.BatchRefused != halves {
				t.Errorf("%d on a batch of %d: %s, next %d, refused %t; want %s, %d, %t", status, n, out.Result, out.BatchMax, out.BatchRefused, want, wantMax, halves)
			}
		}
	}
	out := dispatcher.VerdictInBatch(&cfg, del, 9, &post.Error{Kind: post.Timeout}, &post.Response{}, time.Now())
	if out.Result != dispatcher.Retry || out.BatchMax != 50 || !out.BatchRefused {
		t.Errorf("%+v: no answer changes nothing", out)
	}
}

// 413 halves at once and spends no attempt; the lane remembers the size for an hour, or until its configuration changes.
func TestTooLargeBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, config())
		defer w.run()()
		w.set("b", `,"batch":{"max":20,"wait":"1s"}`)
		w.judges["b"] = func(body string) answer {
			if strings.Count(body, `"id"`) > 6 {
				return answer{status: http.StatusRequestEntityTooLarge, after: time.Millisecond}
			}
			return ok
		}
		all := w.submitN("b", 20)
		time.Sleep(time.Second)
		wantBatches(t, w, "b", "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20",
			"1,2,3,4,5,6,7,8,9,10", "11,12,13,14,15,16,17,18,19,20", "1,2,3,4,5", "6,7,8,9,10", "11,12,13,14,15", "16,17,18,19,20")
		if n := w.count(all, dispatcher.Delivered, 0); n != 20 || all[0].Attempts != 0 {
			t.Errorf("%d delivered, want 20", n)
		}
		if l, _ := w.d.Lane("a", "b"); l.Failures != 0 || l.Batch != 5 || !strings.Contains(l.Why, "413") {
			t.Errorf("%+v", l)
		}
		more := func(want ...string) {
			t.Helper()
			before := len(w.got("b"))
			w.submitN("b", 10)
			time.Sleep(2 * time.Second)
			if got := w.got("b")[before:]; len(got) != len(want) {
				t.Errorf("%d requests, want %d", len(got), len(want))
			} else {
				for i, r := range got {
					if n := strconv.Itoa(len(elements(t, r.body))); n != want[i] {
						t.Errorf("request %d has %s, want %s", i, n, want[i])
					}
				}
			}
		}
		more("5", "5")
		w.set("b", `,"batch":{"max":20,"wait":"1s"},"description":"other"`)
		more("10", "5", "5")
		w.set("b", `,"batch":{"max":12,"wait":"1s"}`)
		w.judges["b"] = nil
		more("10")
	})
}

// A single delivery's 413 is retried as any status.
func TestTooLargeAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, config())
		defer w.run()()
		w.set("b", `,"batch":{"max":20,"wait":"1s"}`)
		w.on("b", always(answer{status: 413, after: time.Millisecond}))
		all := w.submitN("b", 3)
		time.Sleep(2 * time.Second)
		for _, del := range all {
			if out := w.outcome(del); out.Result != dispatcher.Retry || out.Status != 413 || out.BatchSize != 1 {
				t.Errorf("%+v", out.Outcome)
			}
		}
	})
}

// All die by a 410.
func TestBatchGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, config())
		defer w.run()()
		w.set("b", `,"batch":{"max":3,"wait":"1s"}`)
		w.on("b", always(gone))
		all := w.submitN("b", 8)
		time.Sleep(2 * time.Second)
		if n := w.count(all, dispatcher.Dead, dispatcher.Gone); n != 8 || len(w.got("b")) > 2 {
			t.Errorf("%d dead in %d requests", n, len(w.got("b")))
		}
	})
}

// A parked lane's probe is a batch of one.
func TestBatchProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		cfg.Lanes.ParkAfter = 1
		w := newWorld(t, cfg)
		defer w.run()()
		w.set("b", `,"batch":{"max":10,"wait":"1s"}`)
		w.on("b", always(answer{status: 500, after: time.Millisecond}))
		w.submitN("b", 10)
		time.Sleep(cfg.Lanes.ParkMin + time.Second)
		w.on("b", always(ok))
		w.submitN("b", 10)
		time.Sleep(5 * time.Second)
		if got := inBatches(t, w.got("b")); len(got) < 3 || got[1] != "11" || got[2] == "12" {
			t.Errorf("%q, want a probe of one", got)
		}
	})
}

// Retries and first attempts go out together, in the order in which they came up, and no batch is larger than the smallest
// bound among its deliveries.
func TestBatchOfBothKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, config())
		defer w.run()()
		w.set("b", `,"batch":{"max":100,"wait":"1s"}`)
		for i := range 8 {
			del := w.delivery("b")
			if i%2 == 1 {
				del.Stage = dispatcher.StageRetry
			}
			if i == 5 || i == 7 {
				del.BatchMax = 2
			}
			w.d.Submit(del)
			time.Sleep(time.Millisecond)
		}
		time.Sleep(3 * time.Second)
		wantBatches(t, w, "b", "6,8", "1,2,3,4,5,7")
	})
}

// What a stranger wrote into a retry topic spoils no batch.
func TestStrangeBodyGoesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, config())
		defer w.run()()
		w.set("b", `,"batch":{"max":100,"wait":"1s"}`)
		w.submit("b")
		for _, body := range []string{`{"a":`, `[]`, `x`} {
			del := w.delivery("b")
			del.Stage, del.Body = dispatcher.StageReplay, []byte(body)
			w.d.Submit(del)
		}
		w.submit("b")
		time.Sleep(3 * time.Second)
		var bodies []string
		for _, r := range w.got("b") {
			bodies = append(bodies, r.body)
		}
		slices.Sort(bodies)
		want := []string{`[[]]`, `[x]`, `[{"id":"msg_1","eventType":"OPEN"},{"id":"msg_5","eventType":"OPEN"}]`, `[{"id":"msg_2","a":]`}
		slices.Sort(want)
		if fmt.Sprint(bodies) != fmt.Sprint(want) {
			t.Errorf("%q, want %q", bodies, want)
		}
	})
}

// A delivery that is given up on while it waits is in no batch, and a batch that forms is deferred at a stop.
func TestBatchAndStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, config())
		stop := w.run()
		w.set("b", `,"batch":{"max":4,"wait":"5s"}`)
		all := w.submitN("b", 3)
		if !all[1].ClaimWaiting() {
			t.Error("it cannot be claimed")
		}
		w.submit("b")
		synctest.Wait()
		wantBatches(t, w, "b", "1,3,4")
		forming := w.submitN("b", 2)
		time.Sleep(time.Second)
		stop()
		if n := w.count(forming, dispatcher.Deferred, dispatcher.Shutdown); n != 2 || len(w.got("b")) != 1 {
			t.Errorf("%d deferred, %d requests", n, len(w.got("b")))
		}
		w.atRest()
	})
}

// A test event to a subscription with batches is a batch of one, and no part of another.
func TestTestEventInBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, config())
		defer w.run()()
		sub := w.set("b", `,"batch":{"max":4,"wait":"5s"}`)
		w.submitN("b", 2)
		result, err := w.d.Test(t.Context(), sub, event.EmailClick)
		if err != nil || result.Result != dispatcher.Delivered {
			t.Fatalf("%+v, %v", result, err)
		}
		r := w.got("b")
		if len(r) != 1 || len(elements(t, r[0].body)) != 1 || !strings.HasSuffix(result.Request, r[0].body) || !strings.Contains(r[0].body, `"eventType":"CLICK"`) {
			t.Errorf("%v, %s", r, result.Request)
		}
		inBatches(t, r)
	})
}

// What is shown of a subscription with batches, and sent by hand, is a batch of one.
func TestRenderedBatch(t *testing.T) {
	w := newWorld(t, config())
	sub := w.set("b", `,"batch":{"max":4}`)
	del := w.delivery("b")
	del.TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	text, _ := w.d.Renderer().Request(sub, del, time.Now())
	curl, _ := w.d.Renderer().Curl(sub, del, time.Now(), false)
	for _, shown := range []string{text, curl} {
		if !strings.Contains(shown, `[{"id":"msg_1","eventType":"OPEN"}]`) || !strings.Contains(shown, "webhook-id: "+webhook.BatchID([]string{"msg_1"})) || strings.Contains(shown, "traceparent") {
			t.Errorf("%s", shown)
		}
	}
}

// TestBatchModel sends random traffic in batches to receivers that refuse and fail at random: no delivery is lost, none is in
// two batches at once, no batch is larger than any bound, and only what is refused alone dies.
func TestBatchModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cfg := config()
		cfg.Delivery.Schedule = append(slices.Repeat([]time.Duration{5 * time.Second}, 45), time.Minute, 5*time.Minute) // more than there are failures
		cfg.Delivery.MaxBatchBytes = rapid.IntRange(200, 2000).Draw(rt, "bytes")
		cfg.Lanes.MaxInFlight = rapid.IntRange(1, 8).Draw(rt, "in flight")
		cfg.Lanes.Queue = rapid.IntRange(20, 200).Draw(rt, "queue")
		cfg.Lanes.ParkMax = 5 * time.Minute
		size := rapid.IntRange(2, 30).Draw(rt, "max")
		wait := rapid.SampledFrom([]string{"0s", "50ms", "3s"}).Draw(rt, "wait")
		statuses := rapid.SliceOfN(rapid.SampledFrom([]int{0, 204, 204, 204, 204, 400, 413, 429, 503}), 1, 30).Draw(rt, "answers")
		bad := rapid.IntRange(0, 5).Draw(rt, "bad")
		counts := rapid.SliceOfN(rapid.IntRange(1, 40), 1, 8).Draw(rt, "counts")
		problem := ""
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, cfg)
			stop := w.run()
			defer stop()
			m := &batchModel{world: w, size: size, bytes: cfg.Delivery.MaxBatchBytes, out: make(map[string]bool), delivered: make(map[string]int), bad: make(map[string]bool)}
			problem = m.play(wait, statuses, bad, counts)
			stop()
			w.atRest()
		})
		if problem != "" {
			rt.Fatal(problem)
		}
	})
}

type batchModel struct {
	*world
	size, bytes int
	problem     string
	out         map[string]bool // in a request now
	delivered   map[string]int
	bad         map[string]bool
}

func (m *batchModel) failf(format string, args ...any) {
	if m.problem == "" {
		m.problem = fmt.Sprintf(format, args...)
	}
}

// judge checks a request, and says what it is answered. The world's lock is held.
func (m *batchModel) judge(body string, status int) answer {
	ids := elements(m.t, body)
	if len(ids) == 0 || len(ids) > m.size || len(ids) > 1 && len(body) > m.bytes {
		m.failf("%d deliveries in %d bytes", len(ids), len(body))
	}
	spoilt := false
	for _, id := range ids {
		if m.out[id] {
			m.failf("%s is in two batches at once", id)
		}
		m.out[id] = true
		spoilt = spoilt || m.bad[id]
	}
	a := answer{status: status, after: 10 * time.Millisecond}
	switch {
	case spoilt:
		a.status = http.StatusBadRequest
	case status == 0:
		a.err = &post.Error{Kind: post.Connection, Detail: "reset"}
	case status == http.StatusNoContent:
		for _, id := range ids {
			m.delivered[id]++
		}
	}
	time.AfterFunc(a.after-time.Millisecond, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, id := range ids {
			delete(m.out, id)
		}
	})
	return a
}

func (m *batchModel) play(wait string, statuses []int, bad int, counts []int) string {
	m.set("b", fmt.Sprintf(`,"batch":{"max":%d,"wait":%q}`, m.size, wait))
	requests := 0
	m.judges["b"] = func(body string) answer {
		requests++
		status := http.StatusNoContent
		if requests <= len(statuses) { // then it is well
			status = statuses[requests-1]
		}
		return m.judge(body, status)
	}
	m.circulate()
	total := 0
	for _, n := range counts {
		for range n {
			del := m.delivery("b")
			if total++; total <= bad {
				m.mu.Lock()
				m.bad[del.ID] = true
				m.mu.Unlock()
			}
			m.d.Submit(del)
		}
		time.Sleep(300 * time.Millisecond)
	}
	want := total - min(bad, total)
	for step := range 400 {
		pause := 10 * time.Second
		if step >= 360 {
			pause = time.Hour // waits double while the cause lasts
		}
		if time.Sleep(pause); m.done() == want {
			break
		}
	}
	time.Sleep(20 * time.Second) // for what comes twice
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.delivered) != want || m.finished != want {
		m.failf("%d of %d delivered, %d settled so", len(m.delivered), want, m.finished)
	}
	for id, n := range m.delivered {
		if n != 1 {
			m.failf("%s was delivered %d times", id, n)
		}
	}
	return m.problem
}

// What has grown too old by the time that its batch is filled does not go out with it, and is settled all the same.
func TestBatchSettlesWhatExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		w := newWorld(t, cfg)
		defer w.run()()
		w.set("b", `,"batch":{"max":10,"wait":"2s"}`)
		w.submit("b")
		old := w.delivery("b")
		old.FirstSeen = time.Now().Add(time.Second - cfg.Delivery.MaxAge)
		w.d.Submit(old)
		w.submit("b")
		time.Sleep(3 * time.Second)
		wantBatches(t, w, "b", "1,3")
		if out := w.outcome(old); out.Result != dispatcher.Dead || out.Reason != dispatcher.Expired {
			t.Errorf("outcome %+v", out.Outcome)
		}
	})
}
