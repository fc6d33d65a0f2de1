package consumer

import (
	"slices"
	"strings"
	"time"
)

// ladder is the retry topics, by rising delay.
type ladder struct {
	prefix string // fanout.retry.
	delays []time.Duration
}

// newLadder makes the tiers of DESIGN.md section 4: the schedule's distinct delays, park_min and park_max.
func newLadder(prefix string, schedule []time.Duration, parkMin, parkMax time.Duration) ladder {
	delays := append(slices.Clone(schedule), parkMin, parkMax)
	slices.Sort(delays)
	return ladder{prefix: prefix + ".retry.", delays: slices.Compact(delays)}
}

// topic is the name of the tier with that delay.
func (l *ladder) topic(delay time.Duration) string { return l.prefix + formatDelay(delay) }

func (l *ladder) topics() []string {
	names := make([]string, len(l.delays))
	for i, d := range l.delays {
		names[i] = l.topic(d)
	}
	return names
}

// within is the longest delay that is not longer than the wait, else the shortest: for a delivery's own wait, after
// which it goes to a tier again if time remains.
func (l *ladder) within(wait time.Duration) time.Duration {
	best := l.delays[0]
	for _, d := range l.delays {
		if d <= wait {
			best = d
		}
	}
	return best
}

// covering is the shortest delay that is not shorter than the wait, else the longest: for a lane's wait, so that what
// it holds does not come up before the lane does.
func (l *ladder) covering(wait time.Duration) time.Duration {
	for _, d := range l.delays {
		if d >= wait {
			return d
		}
	}
	return l.delays[len(l.delays)-1]
}

// tierDelay reads a tier's delay from its topic's name; false where the topic is no tier of ours.
func (l *ladder) tierDelay(topic string) (time.Duration, bool) {
	name, ok := strings.CutPrefix(topic, l.prefix)
	if !ok {
		return 0, false
	}
	d, err := time.ParseDuration(name)
	if err != nil || d <= 0 || formatDelay(d) != name {
		return 0, false
	}
	return d, true
}

// formatDelay is the shortest form of a duration: 5s, 1m30s, 10h, not 10h0m0s.
func formatDelay(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
