package consumer

import (
	"strings"
	"testing"
	"time"

	"fanout/topic"
)

// A group is stalled where records are open for too long, or where none of its partitions makes progress; not where one waits for its turn
// to read while others do.
func TestWatch(t *testing.T) {
	t.Parallel()
	const after = time.Minute
	begun := time.Unix(1e9, 0)
	report := func(since time.Duration, open, moved bool) progressReport {
		return progressReport{partition: topic.Partition{Topic: "a", ID: 3}, since: since, open: open, moved: moved}
	}
	for name, step := range map[string]struct {
		reports []progressReport
		stalled bool
	}{
		"nothing held":                     {nil, false},
		"all moves":                        {[]progressReport{report(0, true, true)}, false},
		"stands, but not for too long":     {[]progressReport{report(after, true, false)}, false},
		"stands for too long":              {[]progressReport{report(after+1, true, false)}, true},
		"none may be read, and none moves": {[]progressReport{report(after+1, false, true)}, true},
		"waits for its turn to read":       {[]progressReport{report(after+1, false, true), report(0, true, true)}, false},
		"open beside one that moves":       {[]progressReport{report(after+1, true, true), report(0, true, true)}, true},
	} {
		w := newWatch(after, begun)
		now := begun.Add(2 * after)
		err := w.look(step.reports, now)
		if (err != nil) != step.stalled || (w.healthy(now) != nil) != step.stalled || err != nil && !strings.Contains(err.Error(), "a/3") {
			t.Errorf("%s: %v, healthy %v", name, err, w.healthy(now))
		}
		if err := w.healthy(now.Add(after + 2*commitTimeout + 1)); err == nil {
			t.Errorf("%s: it is healthy although nobody has looked", name)
		}
	}
}

// A stall is over when every partition has made progress, not before.
func TestWatchRecovers(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	w := newWatch(time.Minute, now)
	_ = w.look([]progressReport{{since: 2 * time.Minute, open: true}}, now)
	for _, moved := range []bool{false, true} {
		if err := w.look([]progressReport{{moved: moved}}, now); err != nil || (w.healthy(now) == nil) != moved {
			t.Errorf("moved %v: %v, healthy %v", moved, err, w.healthy(now))
		}
	}
}

// Partitions that were added, and those of a topic that was created again, are younger than this process.
func TestGroupKnowsWhatIsYoung(t *testing.T) {
	t.Parallel()
	l := &groupTopics{begun: make(map[string]bool)}
	sizes := func(n int) map[string]int { return map[string]int{"a": n} }
	for _, step := range []struct {
		sizes   map[string]int
		changed bool
		older   int
	}{
		{sizes(3), false, 3}, {sizes(3), false, 3}, {sizes(5), true, 3}, {map[string]int{}, true, 0}, {sizes(3), true, 0},
	} {
		if changed, older := l.set(step.sizes), l.olderThanThis("a", step.sizes["a"]); changed != step.changed || older != step.older {
			t.Errorf("%v: changed %v, %d older", step.sizes, changed, older)
		}
	}
	l = &groupTopics{begun: make(map[string]bool)}
	l.set(sizes(3))
	l.remember([]topic.Partition{{Topic: "a", ID: 1}})
	if older := l.olderThanThis("a", 3); older != 0 {
		t.Errorf("%d are older than this process in a topic that the group has an offset of", older)
	}
}
