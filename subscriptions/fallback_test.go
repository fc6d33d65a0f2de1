package subscriptions

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

// A start with a snapshot file waits a second for a Redis that has not answered, and ten for one that has: a connection
// that was lost during a full load does not count as an outage.
func TestFallBackToTheFile(t *testing.T) {
	type step struct {
		after  time.Duration
		what   string
		loaded bool
	}
	for name, steps := range map[string][]step{
		"never answers":        {{0, "fails", false}, {900 * time.Millisecond, "fails", false}, {200 * time.Millisecond, "fails", true}},
		"hangs":                {{3 * time.Second, "fails", true}},
		"is lost for a moment": {{0, "answers", false}, {8 * time.Second, "fails", false}, {time.Second, "fails", false}, {time.Second, "answers", false}, {9 * time.Second, "fails", false}},
		"goes away":            {{0, "answers", false}, {5 * time.Second, "fails", false}, {9 * time.Second, "fails", false}, {2 * time.Second, "fails", true}},
		"refuses a full load":  {{0, "answers", false}, {5 * time.Second, "load fails", false}, {time.Second, "answers", false}, {10 * time.Second, "load fails", true}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFreshness(zap.NewNop(), new(defaultIntervals))
				f.restored(held{source: "file"})
				for i, s := range steps {
					time.Sleep(s.after)
					switch s.what {
					case "answers":
						f.followed("", true)
					case "fails":
						f.followFailed(errors.New("away"))
					case "load fails":
						f.loadFailed(errors.New("NOPERM"))
					}
					if f.isReady() != s.loaded {
						t.Errorf("step %d: loaded %v, want %v", i, f.isReady(), s.loaded)
					}
				}
			})
		})
	}
}
