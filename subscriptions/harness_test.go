package subscriptions_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap/zaptest"

	"fanout/event"
	"fanout/subscriptions"
	"fanout/webhook"
)

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// start runs a directory until the test ends or stop is called.
func start(t *testing.T, cfg subscriptions.Config, with ...func(*subscriptions.Directory)) (d *subscriptions.Directory, stop func()) {
	t.Helper()
	d, err := subscriptions.New(cfg, zaptest.NewLogger(t), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range with {
		f(d)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Run does not end")
		}
	}
	t.Cleanup(stop)
	return d, stop
}

func store(t *testing.T, url string) *subscriptions.Store {
	t.Helper()
	s, err := subscriptions.NewStore(subscriptions.Config{URL: url, SnapshotFile: "off"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func ready(t *testing.T, d *subscriptions.Directory) {
	t.Helper()
	select {
	case <-d.Ready():
	case <-time.After(10 * time.Second):
		t.Fatalf("not ready: %+v", d.Status())
	}
}

// within polls a condition and returns how long it took.
func within(t *testing.T, limit time.Duration, what string, holds func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !holds() {
		if time.Since(begin) > limit {
			t.Fatalf("%s: not within %v", what, limit)
		}
		<-tick.C
	}
	return time.Since(begin)
}

// stays checks that a condition holds for a while.
func stays(t *testing.T, span time.Duration, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for begin := time.Now(); time.Since(begin) < span; <-tick.C {
		if !holds() {
			t.Fatalf("%s: no longer", what)
		}
	}
}

func put(t *testing.T, s *subscriptions.Store, account, id, json string) {
	t.Helper()
	if _, err := s.Put(t.Context(), account, id, []byte(json)); err != nil {
		t.Fatal(err)
	}
}

func fingerprint(secret string) string { return webhook.Fingerprint(secret) }

func hook(n int) string {
	return fmt.Sprintf(`{"url":"https://example.com/hooks/%d","events":["EMAIL_OPEN"],"secrets":[%q]}`, n, secret)
}

func matches(d *subscriptions.Directory, account string) int {
	return len(d.Match(nil, account, event.EmailOpen, ""))
}

func quick(d *subscriptions.Directory) {
	d.SetIntervalsForTest(50*time.Millisecond, 30*time.Millisecond, 20*time.Millisecond)
}

func snapshotFile(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "snapshot")
}
