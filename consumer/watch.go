package consumer

import (
	"fmt"
	"sync"
	"time"
)

// watch notes whether a group looks after its partitions, commits what is settled of them, and makes progress. It does no I/O.
type watch struct {
	stalledAfter time.Duration

	mu        sync.Mutex // guards all below
	committed time.Time  // when everything was last known to be committed
	heartbeat time.Time  // when the group last looked after itself
	stalled   error      // until it makes progress again
	progress  time.Time  // when one of its partitions last made some
}

func newWatch(stalledAfter time.Duration, now time.Time) *watch {
	return &watch{stalledAfter: stalledAfter, committed: now, progress: now}
}

// committedAt notes that everything was committed.
func (w *watch) committedAt(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.committed = now
}

// commitAge is how long ago everything was last known to be committed.
func (w *watch) commitAge(now time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return now.Sub(w.committed)
}

// look notes whether the group's partitions make progress. The error names one that stands still although there is something to do: the
// group is to be joined again.
func (w *watch) look(reports []progressReport, now time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heartbeat = now
	well, stalled := w.judge(reports, now)
	if stalled != nil || well {
		w.stalled = stalled
	}
	return stalled
}

// judge says which partition has had something to do for too long without any of it being settled. well says that every partition has
// made progress since this member has it.
func (w *watch) judge(reports []progressReport, now time.Time) (well bool, stalled error) {
	well, open, moved := true, false, len(reports) == 0
	for _, r := range reports {
		well = well && r.moved
		moved = moved || r.since < 2*commitInterval
		if r.since > w.stalledAfter && (stalled == nil || r.open) {
			stalled, open = fmt.Errorf("records wait and none is settled: %s, for %v", r.partition, r.since.Round(time.Second)), open || r.open
		}
	}
	if moved {
		w.progress = now
	}
	if !open && now.Sub(w.progress) <= w.stalledAfter { // others make progress: it waits for its turn to read
		return well, nil
	}
	return well, stalled
}

// healthy says whether the group looks after itself and makes progress.
func (w *watch) healthy(now time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	quiet := now.Sub(w.heartbeat)
	switch {
	case w.stalled != nil:
		return w.stalled
	case !w.heartbeat.IsZero() && quiet > w.stalledAfter+2*commitTimeout:
		return fmt.Errorf("it has not looked after itself for %v", quiet.Round(time.Second))
	}
	return nil
}
