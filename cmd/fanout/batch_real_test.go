//go:build real

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"fanout/cmd/internal/lab"
	"fanout/webhook"
)

// Batches on real Kafka: their bodies and ids, a receiver that fails for a while, takes ten at most, and refuses one event.
// Only that one dies; each other one arrives once.
func TestRealBatches(t *testing.T) {
	t.Parallel()
	s := newSite(t, "batches", lab.KeepAll)
	const events = 300
	bad := identity("acme", "EMAIL_OPEN", "batches-17", "many")
	var mu sync.Mutex
	times := make(map[string]int) // taken, by id
	s.receiver.On("/many", func(n int64, r *lab.Request) lab.Answer {
		ids := batched(t, r)
		switch {
		case n <= 2:
			return lab.Answer{Status: http.StatusServiceUnavailable}
		case len(ids) > 10:
			return lab.Answer{Status: http.StatusRequestEntityTooLarge}
		case slices.Contains(ids, bad):
			return lab.Answer{Status: http.StatusBadRequest}
		}
		mu.Lock()
		defer mu.Unlock()
		for _, id := range ids {
			times[id]++
		}
		return lab.Answer{}
	})
	s.subscribe(t, "acme", "many", "/many", `"events":["*"],"batch":{"max":40,"wait":"500ms"}`)
	s.events(t, 0, events)
	s.start(t)
	await(t, 60*time.Second, "the dead letter", func() bool { return s.ended(t, s.deadLetter()) >= 1 })
	s.settled(t, 40*time.Second, s.email())
	mu.Lock()
	defer mu.Unlock()
	for i := range events {
		id, want := identity("acme", "EMAIL_OPEN", fmt.Sprintf("batches-%d", i), "many"), 1
		if id == bad {
			want = 0
		}
		if times[id] != want {
			t.Errorf("event %d arrived %d times, want %d", i, times[id], want)
		}
	}
	if letters := s.letters(t); len(letters) != 1 || letters[bad] == nil {
		t.Errorf("%d dead letters, want only that of the bad event", len(letters))
	}
}

// batched are the ids of a batch's elements; the request's own is a function of them.
func batched(t *testing.T, r *lab.Request) (ids []string) {
	t.Helper()
	var list []struct{ ID string }
	if err := json.Unmarshal(r.Body, &list); err != nil || len(list) == 0 || len(list) > 40 {
		t.Errorf("%d elements, %v in %.200s", len(list), err, r.Body)
	}
	for _, e := range list {
		ids = append(ids, e.ID)
	}
	if r.WebhookID != webhook.BatchID(ids) {
		t.Errorf("webhook-id %s, want %s", r.WebhookID, webhook.BatchID(ids))
	}
	return ids
}

// members counts, by the id of its element, how often each delivery was taken.
type members struct {
	mu       sync.Mutex // guards all below
	times    map[string]int
	requests int
	wrong    string // a request whose webhook-id is not that of its set
}

var memberID = regexp.MustCompile(`\{"id":"(msg_[a-z2-7]{26})",`)

func (m *members) take(r *lab.Request) {
	var ids []string
	for _, found := range memberID.FindAllSubmatch(r.Body, -1) {
		ids = append(ids, string(found[1]))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.requests++
	for _, id := range ids {
		m.times[id]++
	}
	if r.WebhookID != webhook.BatchID(ids) || !bytes.HasPrefix(r.Body, []byte("[")) {
		m.wrong = r.WebhookID
	}
}

// counted is how many deliveries came, and how often one came again.
func (m *members) counted() (different, repeated int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.times {
		repeated += n - 1
	}
	return len(m.times), repeated
}

// Killed with SIGKILL in the middle of 50 000 events that go out in batches of 100: none is lost, what comes again has its own id in whatever
// set it comes, and that is no more than was in flight and what was settled, delivered or put off, in one commit interval.
func TestRealBatchCrash(t *testing.T) {
	t.Parallel()
	s := newSite(t, "batchcrash", lab.KeepAll)
	const events = 50_000
	m := &members{times: make(map[string]int)}
	s.receiver.On("/many", func(_ int64, r *lab.Request) lab.Answer {
		m.take(r)
		return lab.Answer{Delay: 30 * time.Millisecond} // so that several commits come before the kill
	})
	s.subscribe(t, "acme", "many", "/many", `"events":["*"],"maxInFlight":4,"batch":{"max":100,"wait":"100ms"}`)
	s.events(t, 0, events)
	s.start(t)
	await(t, 10*time.Second, "the first delivery", func() bool { n, _ := m.counted(); return n > 0 })
	began := time.Now()
	await(t, 60*time.Second, "half of the events", func() bool { n, _ := m.counted(); return n >= events/2 })
	took := time.Since(began)
	seen, err := s.fanout.Metrics(t.Context())
	if err := errors.Join(err, s.fanout.Kill()); err != nil {
		t.Fatal(err)
	}
	age, inFlight := seen.Sum("fanout_commit_age_seconds"), seen.Sum("fanout_in_flight")
	settled := seen.Sum("fanout_outcomes_total") / took.Seconds() // a second; the receiver is slow, so most are what was put off to a tier
	atKill, _ := m.counted()
	pace := float64(atKill) / took.Seconds()
	s.again(t)
	await(t, 90*time.Second, "every delivery", func() bool { n, _ := m.counted(); return n == events })
	s.settled(t, 20*time.Second, s.email())
	different, repeated := m.counted()
	t.Logf("killed after %d of %d at %.0f a second, %.2f s after a commit: %d lost, %d repeated, in %d requests", atKill, events, pace, age, events-different, repeated, m.requests)
	for i := range events {
		if id := identity("acme", "EMAIL_OPEN", fmt.Sprintf("batchcrash-%d", i), "many"); m.times[id] == 0 {
			t.Fatalf("event %d did not come under its id %s", i, id)
		}
	}
	if m.wrong != "" {
		t.Errorf("the webhook-id %s is not of its set", m.wrong)
	}
	// Commits come twice a second, and tell of what was acknowledged before.
	if most := int(inFlight + settled*(age+1)); repeated > most {
		t.Errorf("%d repeated, want at most what was in flight, and settled since the last commit told of it: %d", repeated, most)
	}
	if len(s.letters(t)) != 0 {
		t.Error("a delivery died")
	}
}

// A 410 to a batch ends all that is in it, and nothing more is sent.
func TestRealBatchGone(t *testing.T) {
	t.Parallel()
	s := newSite(t, "batchgone", lab.KeepAll)
	s.receiver.On("/gone", func(int64, *lab.Request) lab.Answer { return lab.Answer{Status: http.StatusGone} })
	s.subscribe(t, "acme", "gone", "/gone", `"events":["*"],"maxInFlight":1,"batch":{"max":10,"wait":"1s"}`)
	s.events(t, 0, 50)
	s.start(t)
	await(t, 30*time.Second, "the dead letters", func() bool { return s.ended(t, s.deadLetter()) >= 50 })
	s.settled(t, 20*time.Second, s.email())
	if n := s.receiver.Seen("/gone"); n != 1 {
		t.Errorf("%d requests after a 410, want the one", n)
	}
	if letters := s.letters(t); len(letters) != 50 {
		t.Errorf("%d dead letters, want each of the 50", len(letters))
	}
}
