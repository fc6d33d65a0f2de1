package main

import (
	"encoding/json"
	"maps"
	"sync"
	"time"

	"fanout/cmd/internal/lab"
)

// receipts are the requests that the receivers have had.
type receipts struct {
	problems *problems

	mu        sync.Mutex        // guards all below
	ids       map[string]string // path and trackingId → webhook-id
	delivered map[string]int    // webhook-id → how often it was answered with 2xx
	hits      []hit
}

// hit is one request: from its arrival until its answer.
type hit struct {
	id        string // webhook-id
	from, to  time.Time
	delivered bool
}

func newReceipts(p *problems) *receipts {
	return &receipts{problems: p, ids: make(map[string]string), delivered: make(map[string]int)}
}

// note is the receivers' lab.Watcher.
func (s *receipts) note(r lab.Request, delivered bool) {
	now := time.Now()
	var body struct {
		Tracking string `json:"trackingId"`
	}
	if err := json.Unmarshal(r.Body, &body); err != nil {
		s.problems.addf("a request's body is not a payload: %.100q", r.Body)
		return
	}
	key := r.Path + " " + body.Tracking
	s.mu.Lock()
	defer s.mu.Unlock()
	if before, ok := s.ids[key]; ok && before != r.WebhookID {
		s.problems.addf("the webhook-id of %s changed from %s to %s", key, before, r.WebhookID)
	}
	s.ids[key] = r.WebhookID
	if delivered {
		s.delivered[r.WebhookID]++
	}
	s.hits = append(s.hits, hit{id: r.WebhookID, from: r.At, to: now, delivered: delivered})
}

// counts is how often each webhook-id was delivered so far.
func (s *receipts) counts() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.delivered)
}

// under is how many requests were under way at some time of a span, of those that took at least so long.
func (s *receipts) under(from, to time.Time, least time.Duration) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.hits {
		if !h.to.Before(from) && !h.from.After(to) && h.to.Sub(h.from) >= least {
			n++
		}
	}
	return n
}

// failed is what was answered with a failure in a span.
func (s *receipts) failed(span span) map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make(map[string]bool)
	for _, h := range s.hits {
		if !h.delivered && !h.to.Before(span.from) && !h.to.After(span.to) {
			ids[h.id] = true
		}
	}
	return ids
}

// first is how long after a moment the first request came that was delivered; false where none has.
func (s *receipts) first(after time.Time) (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	least, found := time.Duration(0), false
	for _, h := range s.hits {
		if wait := h.to.Sub(after); h.delivered && !h.from.Before(after) && (!found || wait < least) {
			least, found = wait, true
		}
	}
	return least, found
}
