//go:build real

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
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
