package consumer_test

import (
	"slices"
	"testing"
	"time"

	"fanout/consumer"
)

func defaultLadder() consumer.Ladder {
	return consumer.NewLadder([]time.Duration{
		5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 10 * time.Hour,
	}, 30*time.Second, time.Hour)
}

// The topics of DESIGN.md section 4.
func TestDefaultTiers(t *testing.T) {
	want := []string{
		"fanout.retry.5s", "fanout.retry.30s", "fanout.retry.5m", "fanout.retry.30m", "fanout.retry.1h", "fanout.retry.2h",
		"fanout.retry.5h", "fanout.retry.10h",
	}
	if got := defaultLadder().Topics(); !slices.Equal(got, want) {
		t.Errorf("tiers %v, want %v", got, want)
	}
}

func TestTierNames(t *testing.T) {
	for delay, want := range map[time.Duration]string{
		90 * time.Second: "1m30s", time.Minute: "1m", time.Hour: "1h", 90 * time.Minute: "1h30m", 25 * time.Hour: "25h",
		time.Hour + time.Second: "1h0m1s", 200 * time.Millisecond: "200ms", 1500 * time.Millisecond: "1.5s", 10 * time.Hour: "10h",
		10 * time.Minute: "10m", 100 * time.Second: "1m40s",
	} {
		l := consumer.NewLadder([]time.Duration{delay}, delay, delay)
		topics := l.Topics()
		if len(topics) != 1 || topics[0] != "fanout.retry."+want {
			t.Errorf("%v: %v, want %s", delay, topics, want)
			continue
		}
		if got, ok := l.TierDelay(topics[0]); !ok || got != delay {
			t.Errorf("%s is read as %v %v", topics[0], got, ok)
		}
	}
}

func TestForeignTopicsAreNoTiers(t *testing.T) {
	for _, topic := range []string{
		"fanout.retry.", "fanout.retry.90s", "fanout.retry.0s", "fanout.retry.-5s", "fanout.retry.5", "fanout.retry.five", "fanout.retry5s",
		"other.retry.5s", "fanout.retry.5s.old", "fanout.replay",
	} {
		if d, ok := defaultLadder().TierDelay(topic); ok {
			t.Errorf("%s is a tier of %v", topic, d)
		}
	}
}

// A delivery's own wait goes to the longest tier that is not longer than what remains, else to the shortest.
func TestWithin(t *testing.T) {
	for wait, want := range map[time.Duration]string{
		-time.Second: "5s", 0: "5s", time.Second: "5s", 5 * time.Second: "5s", 29 * time.Second: "5s", 30 * time.Second: "30s",
		5*time.Minute - 1: "30s", 5 * time.Minute: "5m", 59 * time.Minute: "30m", 24 * time.Hour: "10h", 2 * time.Hour: "2h",
	} {
		if got := defaultLadder().Within(wait); got != "fanout.retry."+want {
			t.Errorf("%v goes to %s, want %s", wait, got, want)
		}
	}
}

// A lane's wait goes to the shortest tier that covers it, else to the longest.
func TestCovering(t *testing.T) {
	for wait, want := range map[time.Duration]string{
		-time.Second: "5s", 0: "5s", 5 * time.Second: "5s", 5*time.Second + 1: "30s", 30 * time.Second: "30s", 31 * time.Second: "5m",
		40 * time.Minute: "1h", time.Hour: "1h", 6 * time.Hour: "10h", 24 * time.Hour: "10h",
	} {
		if got := defaultLadder().Covering(wait); got != "fanout.retry."+want {
			t.Errorf("%v goes to %s, want %s", wait, got, want)
		}
	}
}
