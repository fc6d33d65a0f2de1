package topic

import (
	"slices"
	"strings"
	"time"

	"fanout/dispatcher"
)

// RetryTopics are the topics of the retry tiers. Each tier has its delay, after which its records are due.
type RetryTopics struct {
	prefix string          // fanout.retry.
	delays []time.Duration // rising, each once
}

// RetryTopics are those of this configuration: the schedule's distinct delays, park_min and park_max.
func (c *Config) RetryTopics() RetryTopics {
	delays := append(slices.Clone(c.Schedule), c.ParkMin, c.ParkMax)
	slices.Sort(delays)
	return RetryTopics{prefix: c.Prefix + ".retry.", delays: slices.Compact(delays)}
}

// Name is the name of the tier with that delay.
func (t *RetryTopics) Name(delay time.Duration) string { return t.prefix + FormatDelay(delay) }

// Names are the names of all, by rising delay.
func (t *RetryTopics) Names() []string {
	names := make([]string, len(t.delays))
	for i, d := range t.delays {
		names[i] = t.Name(d)
	}
	return names
}

// Has says whether this configuration writes to a tier of that delay.
func (t *RetryTopics) Has(delay time.Duration) bool { return slices.Contains(t.delays, delay) }

// LongestWithin is the longest delay that is not longer than the wait, else the shortest. It is for a delivery's own wait, after
// which the delivery goes to a tier again where time remains.
func (t *RetryTopics) LongestWithin(wait time.Duration) time.Duration {
	best := t.delays[0]
	for _, d := range t.delays {
		if d <= wait {
			best = d
		}
	}
	return best
}

// ShortestCovering is the shortest delay that is not shorter than the wait, else the longest. It is for a lane's wait: what the
// lane holds back is not due before the lane is open.
func (t *RetryTopics) ShortestCovering(wait time.Duration) time.Duration {
	for _, d := range t.delays {
		if d >= wait {
			return d
		}
	}
	return t.delays[len(t.delays)-1]
}

// Choose is the delay of the tier that a delivery goes to, which is to be attempted again. maxAge is how old it may become
// (docs/contract.md#choice-of-tier).
func (t *RetryTopics) Choose(d *dispatcher.Delivery, out *dispatcher.Outcome, now time.Time, maxAge time.Duration) time.Duration {
	wait := min(out.NotBefore.Sub(now), longestWait)
	switch {
	case out.Reason == dispatcher.Shutdown:
		return t.delays[0]
	case out.Result == dispatcher.Retry || OwnWait(d, out):
		// Some microseconds have passed since the step was added: they must not cost a tier.
		return t.LongestWithin(wait + TierSlack)
	case out.Reason == d.Last.Reason && !putBack(d, out):
		wait = max(wait, 2*d.Tier) // the cause has lasted: the delivery looks again less often
	}
	return t.deferral(wait, d.FirstSeen.Add(maxAge).Sub(now))
}

// longestWait is longer than any tier's delay. A time that lies further ahead, of a foreign writer, must not overflow.
const longestWait = 100 * 365 * 24 * time.Hour

// putBack says whether the delivery was due before the time that its record names, and nobody looked at its lane.
func putBack(d *dispatcher.Delivery, out *dispatcher.Outcome) bool {
	return out.Result == dispatcher.Deferred && !d.NotBefore.IsZero() && out.NotBefore.Equal(d.NotBefore)
}

// OwnWait says whether that time is the delivery's own: a step of the schedule, or a Retry-After that was about it alone. Such
// a wait never doubles.
func OwnWait(d *dispatcher.Delivery, out *dispatcher.Outcome) bool {
	return putBack(d, out) && d.Last.Reason.Of() == dispatcher.Retry
}

// TierSlack is how much shorter than a tier's delay a wait may be and still go there.
const TierSlack = 50 * time.Millisecond

// deferral is the delay of the tier for a deferred delivery whose cause lasts for so long: the shortest that covers it, else
// the longest, but none that would make the delivery due after it has expired while a shorter one makes it due before.
func (t *RetryTopics) deferral(wait, untilExpired time.Duration) time.Duration {
	delay := t.ShortestCovering(wait)
	if delay < untilExpired {
		return delay
	}
	if in := t.LongestWithin(untilExpired - TierSlack); in < untilExpired {
		return in
	}
	return delay
}

// Delay reads a tier's delay from its topic's name, whatever schedule it belongs to; false where the topic is not a retry topic.
func (t *RetryTopics) Delay(name string) (time.Duration, bool) {
	text, ok := strings.CutPrefix(name, t.prefix)
	if !ok {
		return 0, false
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 || FormatDelay(d) != text {
		return 0, false
	}
	return d, true
}

// FormatDelay is the shortest form of a duration, as topics are named and people are told: 5s, 1m30s, 10h.
func FormatDelay(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
