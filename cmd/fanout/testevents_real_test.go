//go:build real

package main

import (
	"bytes"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fanout/cmd/internal/lab"
)

// Three thousand test events at once, for a paused subscription that allows one attempt at a time: one at a time reaches the
// receiver, and the others are refused. Deliveries of another account go on meanwhile.
func TestRealManyTestEvents(t *testing.T) {
	t.Parallel()
	s := newSite(t, "testevents", lab.KeepAll)
	const token, tests, events = "3qTz8vWx1LpRk5Ny7Bd2Fg9H", 3000, 200
	var open, most atomic.Int64
	s.receiver.On("/tested", func(int64, *lab.Request) lab.Answer {
		now := open.Add(1)
		defer open.Add(-1)
		for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); {
			seen = most.Load()
		}
		time.Sleep(5 * time.Millisecond)
		return lab.Answer{}
	})
	s.subscribe(t, "acme", "tested", "/tested", `"events":["*"],"maxInFlight":1,"paused":true`)
	s.subscribe(t, "other", "main", "/other", `"events":["*"]`)
	s.config.Set("admin.token", token)
	s.start(t)
	url := s.fanout.Admin() + "/api/v1/accounts/acme/subscriptions/tested/test"
	var mu sync.Mutex
	answers := make(map[int]int)
	var asking sync.WaitGroup
	for range 150 {
		asking.Go(func() {
			for range tests / 150 {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("{}"))
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("Authorization", "Bearer "+token)
				req.Header.Set("Content-Type", "application/json")
				res, err := http.DefaultTransport.RoundTrip(req)
				if err != nil {
					t.Error(err)
					return
				}
				_ = res.Body.Close()
				mu.Lock()
				answers[res.StatusCode]++
				mu.Unlock()
			}
		})
	}
	began := time.Now()
	for i := range events {
		s.produce(t, s.email(), i%2, s.raw("other", i))
	}
	await(t, 20*time.Second, "the other account's deliveries", func() bool { return s.receiver.Delivered("/other") >= events })
	took := time.Since(began)
	asking.Wait()
	seen := s.receiver.Seen("/tested")
	t.Logf("%d test events at once: answers %v, %d reached the receiver, %d at a time; %d deliveries of another account within %s meanwhile",
		tests, answers, seen, most.Load(), events, took.Round(time.Millisecond))
	if most.Load() != 1 || seen == 0 || int64(answers[http.StatusOK]) != seen || answers[http.StatusOK]+answers[http.StatusTooManyRequests]+answers[http.StatusServiceUnavailable] != tests {
		t.Errorf("answers %v, %d reached the receiver, %d at a time", answers, seen, most.Load())
	}
	text, err := os.ReadFile(s.fanout.Log())
	if n := bytes.Count(text, []byte(`"msg":"test event sent"`)); err != nil || int64(n) != seen {
		t.Errorf("%d lines of the log for %d test events, %v", n, seen, err)
	}
}
