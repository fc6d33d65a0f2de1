//go:build real

package main

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"fanout/cmd/internal/lab"
)

// With the schedule 1s, 2s, 2s: what is retried, what is not, and what is left of it in the dead-letter topic.
func TestRealVerdicts(t *testing.T) {
	t.Parallel()
	s := newSite(t, "verdicts", lab.KeepAll)
	for path, answer := range map[string]lab.Answer{
		"/down": {Status: 503, Body: []byte("out of order")}, "/gone": {Status: 410}, "/moved": {Status: 302, Header: map[string]string{"Location": s.receiver.URL("/elsewhere")}},
	} {
		s.receiver.On(path, lab.Always(answer))
		s.subscribe(t, "acme", path[1:], path, `"events":["*"]`)
	}
	s.receiver.On("/later", func(n int64, _ *lab.Request) lab.Answer {
		if n == 1 {
			return lab.Answer{Status: 429, RetryAfter: "3"}
		}
		return lab.Answer{}
	})
	s.subscribe(t, "acme", "later", "/later", `"events":["*"]`)
	s.start(t)
	event := s.raw("acme", 1)
	event.Headers = []kafka.Header{{Key: "traceparent", Value: []byte(wireTrace)}}
	before := time.Now()
	s.produce(t, s.email(), 2, event)

	await(t, 30*time.Second, "three dead letters", func() bool { return s.ended(t, s.deadLetter()) >= 3 })
	if err := s.receiver.WaitSeen(within(t, 10*time.Second), "/later", 2); err != nil {
		t.Fatal(err)
	}
	letters := s.letters(t)
	for path, want := range map[string]struct {
		requests int
		reason   string
		status   int
	}{"/down": {4, "attempts_exhausted", 503}, "/moved": {4, "attempts_exhausted", 302}, "/gone": {1, "gone", 410}} {
		id := identity("acme", "EMAIL_OPEN", "verdicts-1", path[1:])
		requests := s.receiver.Requests(path)
		var gaps []time.Duration
		for i, r := range requests {
			if r.WebhookID != id || r.Method != http.MethodPost {
				t.Errorf("%s: request %d is a %s with webhook-id %s, want POST with %s", path, i, r.Method, r.WebhookID, id)
			}
			if i > 0 {
				gaps = append(gaps, r.At.Sub(requests[i-1].At).Round(time.Millisecond))
			}
		}
		t.Logf("%s: %d attempts, waits %v, then dead: %s", path, len(requests), gaps, want.reason)
		if len(requests) != want.requests {
			t.Errorf("%s: %d requests, want %d", path, len(requests), want.requests)
		}
		for i, gap := range gaps {
			if least := []time.Duration{time.Second, 2 * time.Second, 2 * time.Second}[i]; gap < least || gap > least+1500*time.Millisecond {
				t.Errorf("%s: the wait before attempt %d was %s, want %s", path, i+2, gap, least)
			}
		}
		s.checkLetter(t, letters[id], path[1:], want.reason, want.requests, want.status, before)
	}
	if n := s.receiver.Seen("/elsewhere"); n != 0 {
		t.Errorf("a redirect was followed %d times", n)
	}
	later := s.receiver.Requests("/later")
	wait := later[1].At.Sub(later[0].At)
	t.Logf("/later: Retry-After 3, the next attempt came after %s", wait.Round(time.Millisecond))
	if wait < 3*time.Second || wait > 5*time.Second {
		t.Errorf("/later: the second attempt came after %s, want 3s", wait)
	}
	s.testGoneLane(t)
}

// testGoneLane: a lane that is gone sends nothing more, until its subscription is changed.
func (s *site) testGoneLane(t *testing.T) {
	t.Helper()
	for _, path := range []string{"down", "moved", "later"} {
		s.subscribe(t, "acme", path, "/"+path, `"events":["*"],"enabled":false`)
	}
	s.subscribe(t, "acme", "gone", "/gone", `"events":["*"]`) // the same JSON again is not a change
	await(t, 5*time.Second, "the change", func() bool {
		m, err := s.fanout.Metrics(t.Context())
		return err == nil && m.Sum("fanout_subscriptions", `state="disabled"`) >= 3
	})
	s.produce(t, s.email(), 0, s.raw("acme", 2))
	await(t, 10*time.Second, "the fourth dead letter", func() bool { return s.ended(t, s.deadLetter()) >= 4 })
	if reason := headers(s.letters(t)[identity("acme", "EMAIL_OPEN", "verdicts-2", "gone")])["fanout-reason"]; reason != "gone" || s.receiver.Seen("/gone") != 1 {
		t.Errorf("the next event of a lane that is gone: reason %q after %d requests, want gone after 1", reason, s.receiver.Seen("/gone"))
	}
	s.subscribe(t, "acme", "gone", "/back", `"events":["*"]`)
	await(t, 10*time.Second, "a delivery after the change", func() bool {
		s.produce(t, s.email(), 0, s.raw("acme", 3))
		return s.receiver.Seen("/back") > 0
	})
	s.settled(t, 10*time.Second, s.email())
}

// letters are the dead letters, by webhook-id.
func (s *site) letters(t *testing.T) map[string]*kafka.Message {
	t.Helper()
	letters := make(map[string]*kafka.Message)
	for _, m := range s.all(t, s.deadLetter()) {
		letters[headers(&m)["fanout-webhook-id"]] = &m
	}
	return letters
}

// checkLetter compares a dead letter with docs/contract.md#dead-letter, header by header.
func (s *site) checkLetter(t *testing.T, m *kafka.Message, subscription, reason string, attempts, status int, before time.Time) {
	t.Helper()
	if m == nil {
		t.Errorf("%s: no dead letter", subscription)
		return
	}
	got := headers(m)
	want := map[string]string{
		"fanout-webhook-id": identity("acme", "EMAIL_OPEN", "verdicts-1", subscription), "fanout-account": "acme", "fanout-subscription": subscription,
		"fanout-event": "EMAIL_OPEN", "fanout-attempts": strconv.Itoa(attempts), "fanout-origin": s.email() + "/2/0", "fanout-reason": reason,
		"fanout-status": strconv.Itoa(status), "traceparent": wireTrace, "fanout-replays": "0",
		"fanout-detail": got["fanout-detail"], "fanout-group": s.name,
	}
	for _, name := range []string{"fanout-first-seen", "fanout-dead-at", "fanout-not-before"} {
		ms, err := strconv.ParseInt(got[name], 10, 64)
		if at := time.UnixMilli(ms); err != nil || at.Before(before.Add(-time.Second)) || at.After(time.Now()) {
			t.Errorf("%s: %s is %q, want a time of this test in ms", subscription, name, got[name])
		}
		want[name] = got[name]
	}
	if _, there := got["fanout-detail"]; !there || !maps.Equal(got, want) {
		t.Errorf("%s: dead letter with %v, want %v", subscription, got, want)
	}
	if len(got) != len(m.Headers) {
		t.Errorf("%s: a header is given twice: %v", subscription, m.Headers)
	}
	body := `{"eventType":"OPEN","trackingId":"t1","notificationId":"n","channel":"EMAIL","userId":"u"}`
	if string(m.Key) != "acme/"+subscription || string(m.Value) != body {
		t.Errorf("%s: dead letter %s: %s, want the key acme/%s and %s", subscription, m.Key, m.Value, subscription, body)
	}
	if subscription == "down" {
		var list []string
		for _, name := range slices.Sorted(maps.Keys(got)) {
			list = append(list, name+": "+got[name])
		}
		t.Logf("dead letter of /down, key %s: %q", m.Key, list)
	}
}
