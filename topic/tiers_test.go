package topic_test

import (
	"slices"
	"testing"
	"time"

	"fanout/dispatcher"
	"fanout/topic"
)

func retryTopics(schedule []time.Duration, parkMin, parkMax time.Duration) topic.RetryTopics {
	return (&topic.Config{Prefix: "fanout", Schedule: schedule, ParkMin: parkMin, ParkMax: parkMax}).RetryTopics()
}

func defaultRetryTopics() *topic.RetryTopics {
	tiers := retryTopics([]time.Duration{
		5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 10 * time.Hour,
	}, 30*time.Second, time.Hour)
	return &tiers
}

// The topics of docs/contract.md#topics.
func TestDefaultTiers(t *testing.T) {
	want := []string{
		"fanout.retry.5s", "fanout.retry.30s", "fanout.retry.5m", "fanout.retry.30m", "fanout.retry.1h", "fanout.retry.2h",
		"fanout.retry.5h", "fanout.retry.10h",
	}
	if got := defaultRetryTopics().Names(); !slices.Equal(got, want) {
		t.Errorf("tiers %v, want %v", got, want)
	}
}

func TestTierNames(t *testing.T) {
	for delay, want := range map[time.Duration]string{
		90 * time.Second: "1m30s", time.Minute: "1m", time.Hour: "1h", 90 * time.Minute: "1h30m", 25 * time.Hour: "25h",
		time.Hour + time.Second: "1h0m1s", 200 * time.Millisecond: "200ms", 1500 * time.Millisecond: "1.5s", 10 * time.Hour: "10h",
		10 * time.Minute: "10m", 100 * time.Second: "1m40s",
	} {
		tiers := retryTopics([]time.Duration{delay}, delay, delay)
		names := tiers.Names()
		if len(names) != 1 || names[0] != "fanout.retry."+want {
			t.Errorf("%v: %v, want %s", delay, names, want)
			continue
		}
		if got, ok := tiers.Delay(names[0]); !ok || got != delay {
			t.Errorf("%s is read as %v %v", names[0], got, ok)
		}
	}
}

func TestForeignTopicsAreNoTiers(t *testing.T) {
	for _, name := range []string{
		"fanout.retry.", "fanout.retry.90s", "fanout.retry.0s", "fanout.retry.-5s", "fanout.retry.5", "fanout.retry.five", "fanout.retry5s",
		"other.retry.5s", "fanout.retry.5s.old", "fanout.replay",
	} {
		if d, ok := defaultRetryTopics().Delay(name); ok {
			t.Errorf("%s is a tier of %v", name, d)
		}
	}
}

// A delivery's own wait goes to the longest tier that is not longer than what remains, else to the shortest.
func TestWithin(t *testing.T) {
	for wait, want := range map[time.Duration]string{
		-time.Second: "5s", 0: "5s", time.Second: "5s", 5 * time.Second: "5s", 29 * time.Second: "5s", 30 * time.Second: "30s",
		5*time.Minute - 1: "30s", 5 * time.Minute: "5m", 59 * time.Minute: "30m", 24 * time.Hour: "10h", 2 * time.Hour: "2h",
	} {
		if got := defaultRetryTopics().Name(defaultRetryTopics().LongestWithin(wait)); got != "fanout.retry."+want {
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
		if got := defaultRetryTopics().Name(defaultRetryTopics().ShortestCovering(wait)); got != "fanout.retry."+want {
			t.Errorf("%v goes to %s, want %s", wait, got, want)
		}
	}
}

// The tier of a delivery that is to be attempted again: its own waits never double, those of a lane do while the cause is the
// same, and none outlasts the delivery's life while a shorter one would not.
func TestChoiceOfTier(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	const maxAge = 72 * time.Hour
	deferred := func(reason dispatcher.Reason, wait time.Duration) dispatcher.Outcome {
		return dispatcher.Outcome{Result: dispatcher.Deferred, Reason: reason, NotBefore: now.Add(wait)}
	}
	retry := func(wait time.Duration) dispatcher.Outcome {
		return dispatcher.Outcome{Result: dispatcher.Retry, Reason: dispatcher.StatusFailed, NotBefore: now.Add(wait)}
	}
	due := func(tier time.Duration, last dispatcher.Reason) dispatcher.Delivery {
		return dispatcher.Delivery{FirstSeen: now, Tier: tier, Last: dispatcher.Last{Reason: last}}
	}
	early := func(d dispatcher.Delivery, wait time.Duration) dispatcher.Delivery {
		d.NotBefore = now.Add(wait)
		return d
	}
	old := func(d dispatcher.Delivery, left time.Duration) dispatcher.Delivery {
		d.FirstSeen = now.Add(left - maxAge)
		return d
	}
	for _, test := range []struct {
		name string
		d    dispatcher.Delivery
		out  dispatcher.Outcome
		want string
	}{
		{"first step of the schedule", due(0, 0), retry(5 * time.Second), "5s"},
		{"a step, some microseconds later", due(0, 0), retry(5*time.Minute - time.Millisecond), "5m"},
		{"a Retry-After of its own", due(5*time.Second, dispatcher.StatusFailed), retry(3 * time.Hour), "2h"},
		{"what remains of it", early(due(2*time.Hour, dispatcher.StatusFailed), time.Hour), deferred(dispatcher.RetryAfter, time.Hour), "1h"},
		{"what remains of it does not double", early(due(time.Hour, dispatcher.StatusFailed), time.Minute), deferred(dispatcher.RetryAfter, time.Minute), "30s"},
		{"stop", due(2*time.Hour, dispatcher.Shutdown), deferred(dispatcher.Shutdown, 0), "5s"},
		{"no room", due(0, 0), deferred(dispatcher.QueueFull, 2*time.Second), "5s"},
		{"no room for longer", due(0, 0), deferred(dispatcher.QueueFull, 31*time.Second), "5m"},
		{"no room again", due(5*time.Second, dispatcher.QueueFull), deferred(dispatcher.QueueFull, 2*time.Second), "30s"},
		{"and again", due(30*time.Second, dispatcher.QueueFull), deferred(dispatcher.QueueFull, 2*time.Second), "5m"},
		{"and again, in the longest tier", due(10*time.Hour, dispatcher.QueueFull), deferred(dispatcher.QueueFull, 2*time.Second), "10h"},
		{"another cause", due(5*time.Minute, dispatcher.QueueFull), deferred(dispatcher.Rate, 2*time.Second), "5s"},
		{"parked", due(0, 0), deferred(dispatcher.Parked, 29*time.Second), "30s"},
		{"parked still", due(30*time.Second, dispatcher.Parked), deferred(dispatcher.Parked, 20*time.Second), "5m"},
		{"paused", due(time.Hour, dispatcher.Paused), deferred(dispatcher.Paused, 30*time.Second), "2h"},
		{"held by a Retry-After", due(5*time.Second, dispatcher.StatusFailed), deferred(dispatcher.RetryAfter, 90*time.Minute), "2h"},
		{"held, and due before the end of it", early(due(10*time.Hour, dispatcher.RetryAfter), 14*time.Hour), deferred(dispatcher.RetryAfter, 14*time.Hour), "10h"},
		{"held, what remains", early(due(10*time.Hour, dispatcher.RetryAfter), 4*time.Hour), deferred(dispatcher.RetryAfter, 4*time.Hour), "5h"},
		{"not beyond its life", old(due(5*time.Hour, dispatcher.Parked), 6*time.Hour), deferred(dispatcher.Parked, time.Hour), "5h"},
		{"not beyond its life, which ends soon", old(due(5*time.Hour, dispatcher.Parked), time.Minute), deferred(dispatcher.Parked, time.Hour), "30s"},
		{"no tier is short enough", old(due(5*time.Hour, dispatcher.Parked), time.Second), deferred(dispatcher.Parked, time.Hour), "10h"},
	} {
		if got := topic.FormatDelay(defaultRetryTopics().Choose(&test.d, &test.out, now, maxAge)); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
	// While one cause lasts, a delivery is written some twelve times, until the longest tier would outlast it.
	written, d, clock := 0, due(0, 0), now
	for clock.Sub(now) < maxAge-10*time.Hour {
		out := dispatcher.Outcome{Result: dispatcher.Deferred, Reason: dispatcher.QueueFull, NotBefore: clock.Add(time.Second)}
		delay := defaultRetryTopics().Choose(&d, &out, clock, maxAge)
		d.Tier, d.Last.Reason, clock = delay, dispatcher.QueueFull, clock.Add(delay)
		written++
	}
	if written > 13 {
		t.Errorf("written %d times", written)
	}
}
