package subscriptions_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"fanout/subscriptions"
)

func newPeers(t *testing.T, url string, demand subscriptions.Demand) *subscriptions.Peers {
	t.Helper()
	p, err := subscriptions.NewPeers(subscriptions.Config{URL: url}, nil, func() subscriptions.Demand { return demand })
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPeersShareByDemand(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	demands := []subscriptions.Demand{{"acme/a": 30}, {"acme/a": 10}, nil}
	var peers []*subscriptions.Peers
	for _, demand := range demands {
		p := newPeers(t, redisURL(m), demand)
		peers = append(peers, p)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		t.Cleanup(func() { cancel(); <-done })
	}
	near := func(a, b float64) bool { return math.Abs(a-b) < 1e-9 }
	within(t, 5*time.Second, "shares by demand", func() bool {
		return near(peers[0].Share("acme", "a"), 0.1/3+0.9*0.75) && near(peers[1].Share("acme", "a"), 0.1/3+0.9*0.25) && near(peers[2].Share("acme", "a"), 0.1/3)
	})
	if got := peers[2].Share("acme", "idle"); !near(got, 1./3) {
		t.Errorf("idle: %v", got)
	}
	m.SetError("LOADING") // the last known shares hold
	stays(t, 1500*time.Millisecond, "share without redis", func() bool { return near(peers[0].Share("acme", "a"), 0.1/3+0.9*0.75) })
	m.SetError("")
}

func TestPeersSilence(t *testing.T) {
	p := newPeers(t, "redis://127.0.0.1:1", nil)
	own := subscriptions.Demand{"acme/a": 10}
	if got := p.Share("acme", "a"); got <= 0 || got > 0.2 {
		t.Errorf("before anything is known: %v", got)
	}
	now := time.Now().UnixNano()
	heartbeat := func(n int64) map[string]string {
		text, _ := json.Marshal(map[string]any{"beat": n, "demand": map[string]float64{"acme/a": 10, "acme/b": -5}})
		return map[string]string{"other": string(text), "junk": "{"}
	}
	p.Take(own, heartbeat(now))
	if got := p.Share("acme", "a"); got != 0.5 {
		t.Errorf("two alike: %v", got)
	}
	for i := range 4 {
		p.Take(own, map[string]string{}) // emptied
		if got := p.Share("acme", "a"); got != 0.5 {
			t.Fatalf("after %d silent answers: %v", i+1, got)
		}
	}
	p.Take(own, heartbeat(now))
	if got := p.Share("acme", "a"); got != 1 {
		t.Errorf("after five silent answers: %v", got)
	}
	p.Take(own, heartbeat(now+1))
	if got := p.Share("acme", "a"); got != 0.5 {
		t.Errorf("it is back: %v", got)
	}
	var gone []string
	for range 60 {
		gone = append(gone, p.Take(own, heartbeat(now+1))...)
	}
	if fmt.Sprint(gone) != "[junk other]" && fmt.Sprint(gone) != "[other junk]" {
		t.Errorf("removed %v", gone)
	}
	old := newPeers(t, "redis://127.0.0.1:1", nil)
	old.Take(own, heartbeat(1)) // a dead instance's entry, from long ago
	if got := old.Share("acme", "a"); got != 1 {
		t.Errorf("a dead instance has a share: %v", got)
	}
}
