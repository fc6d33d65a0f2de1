//go:build real

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fanout/cmd/internal/lab"
)

// counted is what came: different deliveries, and how many came again.
func (s *site) counted() (different, repeated int) {
	ids := s.receiver.IDs("/in")
	for _, n := range ids {
		repeated += n.Delivered - 1
	}
	return len(ids), repeated
}

// Killed with SIGKILL in the middle of 50 000 events: nothing is lost, and little comes twice.
func TestRealCrash(t *testing.T) {
	s := newSite(t, "crash", lab.KeepIDs)
	s.subscribe(t, "acme", "crm", "/in", `"events":["*"]`)
	const events = 50_000
	s.events(t, 0, events)
	s.start(t)
	await(t, 10*time.Second, "the first delivery", func() bool { return s.receiver.Seen("/in") > 0 })
	began := time.Now()
	if err := s.receiver.WaitSeen(within(t, 60*time.Second), "/in", events/2); err != nil {
		t.Fatal(err)
	}
	pace := float64(s.receiver.Seen("/in")) / time.Since(began).Seconds()
	if err := s.fanout.Kill(); err != nil {
		t.Fatal(err)
	}
	// Requests that the kill caught on their way are still being answered.
	var atKill int64
	await(t, 5*time.Second, "quiet", func() bool {
		before := atKill
		atKill = s.receiver.Seen("/in")
		return before == atKill
	})
	restarted := time.Now()
	if err := s.fanout.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, 40*time.Second, "the first delivery after the restart", func() bool { return s.receiver.Seen("/in") > atKill })
	first := time.Since(restarted)
	await(t, 60*time.Second, "every delivery", func() bool {
		if s.receiver.Seen("/in") < events {
			return false
		}
		different, _ := s.counted()
		return different == events
	})
	s.settled(t, 20*time.Second, s.email())
	different, repeated := s.counted()
	t.Logf("killed after %d of %d at %.0f a second: %d lost, %d repeated; first delivery %s after the restart", atKill, events, pace, events-different, repeated, first.Round(time.Millisecond))
	if most := 2048 + int(2*pace); repeated > most {
		t.Errorf("%d repeated, want at most what was in flight and one commit interval: %d", repeated, most)
	}
	if first > 12*time.Second {
		t.Errorf("the first delivery came %s after the restart, want at most 12s", first)
	}

	if err := s.fanout.Stop(within(t, 30*time.Second)); err != nil {
		t.Fatal(err)
	}
	s.events(t, events, 1000)
	began = time.Now()
	if err := s.fanout.Start(); err != nil {
		t.Fatal(err)
	}
	if err := s.receiver.WaitSeen(within(t, 30*time.Second), "/in", int64(events+repeated+1)); err != nil {
		t.Fatal(err)
	}
	first = time.Since(began)
	t.Logf("first delivery %s after a graceful stop and a start", first.Round(time.Millisecond))
	if first > 2*time.Second {
		t.Errorf("the first delivery came %s after a graceful restart, want at most 2s", first)
	}
	await(t, 20*time.Second, "the deliveries after a graceful restart", func() bool {
		different, _ := s.counted()
		return different == events+1000
	})
	if _, again := s.counted(); again != repeated {
		t.Errorf("a graceful restart repeated %d", again-repeated)
	}
	s.settled(t, 10*time.Second, s.email())
}

// All that is wrong with a configuration is said at once, a missing topic too.
func TestRealProblems(t *testing.T) {
	t.Parallel()
	s := newSite(t, "problems", lab.KeepCount)
	file := filepath.Join(t.TempDir(), "fanout.yaml")
	text := "kafka: {brokers: ['" + s.kafka.Addr() + "'], gruop: mine}\nsources: [{topic: " + s.email() + "}, {topic: nowhere}]\n" +
		"redis: {url: '" + s.redis.URL() + "'}\ndelivery: {timeout: 10 parsecs}\negress: {allow_cidrs: [10.0.0.0/33]}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"run", "check"} {
		r := finish(t, exec.CommandContext(within(t, 30*time.Second), s.program, command, "--config", file))
		t.Logf("fanout %s: %s", command, r)
		for _, want := range []string{"kafka.gruop: unknown key", "delivery.timeout", "10 parsecs", "10.0.0.0/33", "source topic nowhere does not exist", "--create --topic nowhere"} {
			if !strings.Contains(r.stdout+r.stderr, want) {
				t.Errorf("fanout %s does not say %q", command, want)
			}
		}
		if r.code != 1 || strings.Contains(r.stdout+r.stderr, "goroutine") {
			t.Errorf("fanout %s: exit %d, want 1 without a stack trace", command, r.code)
		}
	}
}
