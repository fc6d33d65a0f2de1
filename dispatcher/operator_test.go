package dispatcher_test

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fanout/dispatcher"
	"fanout/dispatcher/post"
	"fanout/egress"
	"fanout/event"
	"fanout/subscriptions"
	"fanout/webhook"
)

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func TestRecentKeepsFailuresLongest(t *testing.T) {
	in(t, config(), func(w *world) {
		w.set("s", "")
		w.on("s", always(answer{status: 500, after: time.Millisecond}))
		failed := w.submit("s")
		time.Sleep(time.Minute)
		w.on("s", always(ok))
		for range 1000 {
			w.submit("s")
			time.Sleep(100 * time.Millisecond)
		}
		got := w.d.Recent("a", "s")
		if len(got) != 7 {
			t.Fatalf("%d attempts, want 6 successes and the failure", len(got))
		}
		for i := range got[1:] {
			if got[i].Time.Before(got[i+1].Time) {
				t.Error("not the newest first")
			}
		}
		last := got[6]
		if last.ID != failed.ID || last.Status != 500 || last.Result != dispatcher.Retry || last.Attempt != 1 || last.Took != time.Millisecond || string(last.Body) != string(failed.Body) {
			t.Errorf("the failure: %+v", last)
		}
	})
}

// Decisions show too, but a flood of them does not push out what happened.
func TestRecentDecisions(t *testing.T) {
	in(t, config(), func(w *world) {
		w.set("s", "")
		w.on("s", always(answer{status: 500, after: time.Millisecond}))
		for range 100 {
			w.submit("s")
			time.Sleep(20 * time.Millisecond)
		}
		attempts, decisions := 0, 0
		for _, a := range w.d.Recent("a", "s") {
			if a.Attempt > 0 {
				attempts++
			} else if decisions++; a.Reason != dispatcher.Parked || !strings.Contains(a.Detail, "10 failures in a row") {
				t.Errorf("decision %+v", a)
			}
		}
		if attempts != 10 || decisions < 1 || decisions > 4 {
			t.Errorf("%d attempts and %d decisions, want 10 and a few", attempts, decisions)
		}
	})
}

func TestRecentIsBounded(t *testing.T) {
	in(t, config(), func(w *world) {
		for i := range 5000 {
			id := fmt.Sprintf("s%d", i)
			w.set(id, "")
			w.submit(id)
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		known := 0
		for i := range 5000 {
			if len(w.d.Recent("a", fmt.Sprintf("s%d", i))) > 0 {
				known++
			}
		}
		if known > 2048 || known < 1500 { // none of them failed
			t.Errorf("%d subscriptions are remembered, want at most 2048, and nearly", known)
		}
		// A burst of successes makes few of them known, a failure always.
		late := 0
		for i := range 400 {
			for _, id := range []string{fmt.Sprintf("late%d", i), fmt.Sprintf("bad%d", i)} {
				w.set(id, "")
			}
			w.on(fmt.Sprintf("bad%d", i), always(answer{status: 500}))
			w.submit(fmt.Sprintf("late%d", i))
		}
		time.Sleep(20 * time.Millisecond)
		for i := range 400 {
			late += len(w.d.Recent("a", fmt.Sprintf("late%d", i)))
			w.submit(fmt.Sprintf("bad%d", i))
		}
		time.Sleep(time.Second)
		if late == 0 || late > 16 {
			t.Errorf("%d of 400 successes at once are remembered, want one in each of 16 shards", late)
		}
		for i := range 400 {
			if id := fmt.Sprintf("bad%d", i); len(w.d.Recent("a", id)) != 1 {
				t.Errorf("the failure of %s is not remembered", id)
			}
		}
	})
}

// However much goes well elsewhere, and however much is deferred, what went wrong at an endpoint is found.
func TestRecentFailuresOutlastTheSuccessesOfOthers(t *testing.T) {
	in(t, config(), func(w *world) {
		w.set("broken", "")
		w.on("broken", always(answer{status: 500, after: time.Millisecond}))
		failed := w.submit("broken")
		time.Sleep(time.Second)
		w.set("paused", `,"paused":true`)
		for i := range 20_000 {
			name := fmt.Sprintf("well%d", i)
			if i%2 == 1 {
				name = fmt.Sprintf("paused%d", i)
				w.set(name, `,"paused":true`)
			} else {
				w.set(name, "")
			}
			w.submit(name)
			time.Sleep(time.Millisecond)
		}
		if got := w.d.Recent("a", "broken"); len(got) != 1 || got[0].ID != failed.ID || got[0].Status != 500 {
			t.Errorf("recent attempts of the broken endpoint: %+v", got)
		}
		for i := range 6000 { // others that fail do take its place, sooner or later
			name := fmt.Sprintf("bad%d", i)
			w.set(name, "")
			w.on(name, always(answer{status: 500}))
			w.submit(name)
			time.Sleep(time.Millisecond)
		}
		known := 0
		for i := range 6000 {
			known += len(w.d.Recent("a", fmt.Sprintf("bad%d", i)))
		}
		if known > 2048 || known < 1500 {
			t.Errorf("%d failures are remembered, want at most 2048, and nearly", known)
		}
	})
}

func TestWatch(t *testing.T) {
	in(t, config(), func(w *world) {
		w.set("s", "")
		w.set("other", "")
		watch := w.d.Watch(2, func(del *dispatcher.Delivery, _ *dispatcher.Outcome) bool { return del.Subscription == "s" })
		w.submit("other")
		first := w.submit("s")
		time.Sleep(time.Second)
		if a := <-watch.Events(); a.ID != first.ID || a.Result != dispatcher.Delivered || a.Attempt != 1 {
			t.Errorf("event %+v", a)
		}
		w.submitN("s", 5)
		time.Sleep(time.Second)
		if n := watch.Dropped(); n != 3 {
			t.Errorf("%d dropped, want 3", n)
		}
		<-watch.Events()
		<-watch.Events()
		watch.Close()
		w.submit("s")
		time.Sleep(time.Second)
		select {
		case a := <-watch.Events():
			t.Errorf("after Close: %+v", a)
		default:
		}
	})
}

func TestLaneStatus(t *testing.T) {
	in(t, config(), func(w *world) {
		w.set("parked", "")
		w.on("parked", always(answer{status: 503, after: time.Millisecond}))
		w.set("held", "")
		w.on("held", always(answer{status: 429, after: time.Millisecond, retryAfter: "60"}))
		w.set("paused", `,"paused":true`)
		w.set("busy", `,"maxInFlight":2`)
		w.on("busy", always(answer{status: 204, after: 500 * time.Millisecond}))
		w.set("gone", "")
		w.on("gone", always(gone))
		start := time.Now()
		for _, id := range []string{"parked", "held", "paused", "gone"} {
			for range 10 {
				w.submit(id)
				time.Sleep(2 * time.Millisecond)
			}
		}
		w.submitN("busy", 5)
		want := map[string]struct {
			state, why string
			until      time.Duration
		}{
			"parked": {"parked", "10 failures in a row", 30 * time.Second},
			"held":   {"limited", "Retry-After", 60 * time.Second},
			"paused": {"limited", "paused", 0},
			"busy":   {"open", "", 0},
			"gone":   {"parked", "410 Gone", 0},
		}
		lanes := w.d.Lanes(nil)
		if len(lanes) != len(want) {
			t.Fatalf("%d lanes", len(lanes))
		}
		for _, l := range lanes {
			x := want[l.Subscription]
			if l.State != x.state || !strings.Contains(l.Why, x.why) || (x.why == "") != (l.Why == "") {
				t.Errorf("%s: %q %q", l.Subscription, l.State, l.Why)
			}
			if until := l.Until.Sub(start); x.until > 0 && (until < x.until || until > x.until+time.Second) || x.until == 0 && !l.Until.IsZero() {
				t.Errorf("%s: until %s", l.Subscription, until)
			}
		}
		busy, found := w.d.Lane("a", "busy")
		if !found || busy.InFlight != 2 || busy.Limit != 2 || busy.Maximum != 2 || busy.Queued != 3 || busy.OldestQueued.IsZero() {
			t.Errorf("busy: %+v", busy)
		}
		if _, found := w.d.Lane("a", "nobody"); found {
			t.Error("a lane of nobody")
		}
		if only := w.d.Lanes(func(l *dispatcher.LaneStatus) bool { return l.State == "parked" }); len(only) != 2 {
			t.Errorf("%d parked", len(only))
		}
		time.Sleep(3 * time.Second)
	})
}

// The sample is signed as any delivery, and what is shown of it holds no secret.
func TestTest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, config())
		sub := w.set("s", `,"secrets":["`+secret+`"],"headers":{"authorization":"Bearer 12345"},"paused":true`)
		var ids []string
		for range 2 {
			res, err := w.d.Test(t.Context(), sub, event.SMSFailed)
			if err != nil || !res.Sent || res.Result != dispatcher.Delivered || res.Status != 204 || res.Took != time.Millisecond {
				t.Fatalf("result %+v, %v", res, err)
			}
			if strings.Contains(res.Request, "12345") || strings.Contains(res.Request, secret[6:]) || !strings.Contains(res.Request, "authorization: …\r\n") ||
				!strings.Contains(res.Request, `"eventType":"SMS_FAILED"`) {
				t.Errorf("request shown as %q", res.Request)
			}
			ids = append(ids, w.got("s")[len(ids)].id)
		}
		if ids[0] == ids[1] {
			t.Error("the same webhook-id twice: a receiver would drop the second test")
		}
		head := w.got("s")[0].head
		if !strings.Contains(head, "authorization: Bearer 12345\r\n") || !strings.Contains(head, "webhook-signature: v1,") {
			t.Errorf("sent %q", head)
		}

		w.on("s", always(answer{err: &post.Error{Kind: post.Blocked, Detail: "egress denies the host"}}))
		if res, err := w.d.Test(t.Context(), sub, event.EmailOpen); err != nil || res.Sent || res.Reason != dispatcher.BlockedDestination || res.Detail != "egress denies the host" {
			t.Errorf("blocked: %+v, %v", res, err)
		}
		w.on("s", always(hang))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if res, err := w.d.Test(ctx, sub, event.EmailOpen); err != nil || res.Reason != dispatcher.Timeout || res.Took != time.Second {
			t.Errorf("hanging: %+v, %v", res, err)
		}
		cancel()
		if _, err := w.d.Test(ctx, sub, event.EmailOpen); err == nil {
			t.Error("a test after its context was done")
		}
	})
}

// What a shell makes of the command is the request that would be sent.
func TestCurl(t *testing.T) {
	renderer, err := dispatcher.NewRenderer(egress.Config{}, "fanout/test")
	if err != nil {
		t.Fatal(err)
	}
	sub, invalid := subscriptions.Parse("a", "s", []byte(`{"url":"https://s.example.com/hook","events":["*"],"secrets":["`+secret+`"],"headers":{"x-note":"it's $HOME"}}`))
	if invalid != nil {
		t.Fatal(invalid)
	}
	del := &dispatcher.Delivery{ID: "msg_1", Body: []byte(`{"userId":"o'neill"}`)}
	del.TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	now := time.Unix(1_800_000_000, 0)
	command, blocked := renderer.Curl(sub, del, now, true)
	if blocked != "" {
		t.Fatal(blocked)
	}
	out, err := exec.Command("sh", "-c", strings.Replace(command, "curl", `printf '%s\n'`, 1)).Output()
	if err != nil {
		t.Fatal(err)
	}
	parsed, bad := webhook.ParseSecret(secret)
	if bad != nil {
		t.Fatal(bad)
	}
	signature := webhook.NewSigner([]webhook.Secret{parsed}).AppendSignature(nil, del.ID, now.Unix(), del.Body)
	for _, want := range []string{
		"https://s.example.com/hook", "x-note: it's $HOME", "webhook-id: " + del.ID, "webhook-timestamp: 1800000000",
		"webhook-signature: " + string(signature), "Content-Type: application/json", "User-Agent: fanout/test",
		"traceparent: " + del.TraceParent, string(del.Body),
	} {
		if !bytes.Contains(out, []byte("\n"+want+"\n")) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if masked, _ := renderer.Curl(sub, del, now, false); strings.Contains(masked, "$HOME") || !strings.Contains(masked, "x-note: …") {
		t.Errorf("masked: %s", masked)
	}
	if text, _ := renderer.Request(sub, del, now); !strings.HasPrefix(text, "POST /hook HTTP/1.1\r\nHost: s.example.com\r\n") || strings.Contains(text, "$HOME") {
		t.Errorf("request: %q", text)
	}
}

func TestBlockedURL(t *testing.T) {
	in(t, config(), func(w *world) {
		sub := w.put("s", `{"url":"http://s.example.com/","events":["*"]}`) // https only
		del := w.submit("s")
		if out := w.outcome(del); out.Result != dispatcher.Dead || out.Reason != dispatcher.BlockedDestination || out.Detail == "" {
			t.Errorf("outcome %+v", out.Outcome)
		}
		if res, err := w.d.Test(w.t.Context(), sub, event.EmailOpen); err != nil || res.Sent || res.Reason != dispatcher.BlockedDestination {
			t.Errorf("test: %+v, %v", res, err)
		}
		if _, blocked := w.d.Renderer().Curl(sub, del, time.Now(), false); blocked == "" {
			t.Error("a command for what may not be sent")
		}
		if n := len(w.got("s")); n != 0 {
			t.Errorf("%d requests", n)
		}
	})
}
