package dispatcher

import (
	"runtime"
	"time"
)

// tuner finds out how few attempts at once are enough. At a high pace the processors, here or at the receivers, are what
// attempts wait for, and more of them only make each one slower and dearer: with 2048 in flight a delivery costs a fifth
// more CPU than with 100 (cmd/proof/bench). So it lowers the limit step by step, and takes the last step back where the pace falls
// with it: then it was time that the attempts waited for. Below its pace it lowers nothing, so that receivers which answer
// slowly have all permits. It has no clock: it is told the time and the counts.
type tuner struct {
	least  int64   // it leaves that many permits
	pace   float64 // attempts a second from which on it tries
	ended  uint64  // attempts, when it last looked
	before float64 // the pace before the last step; 0: none is being tried
	from   int64   // the limit before the last step
	hold   time.Time
	probed time.Time // when the limit was last raised to see whether it helps
	began  time.Time // when there was something to do for the first time
}

const (
	tuneTurns = 2 // each so many sweeps
	tuneEvery = tuneTurns * sweepEvery
	tuneStart = 256
	tuneLeast = 48     // for each processor
	tunePace  = 8000.0 // a second, for each processor
	tuneStep  = 0.7
	tuneFall  = 0.82 // of the pace: where it falls below, the step was one too many
	tuneHold  = 10 * time.Second
	tuneWarm  = time.Second // at first the connections are made, which is slow, and more of them would be made for nothing
)

func newTuner() *tuner {
	n := runtime.GOMAXPROCS(0)
	return &tuner{least: int64(tuneLeast * n), pace: tunePace * float64(n)}
}

// tuneConcurrency is how many permits may be in use from now on. ended counts all attempts, full says that lanes wait for a
// permit.
func (t *tuner) tuneConcurrency(now time.Time, limit, maximum int64, ended uint64, full bool) int64 {
	pace := float64(ended-t.ended) / tuneEvery.Seconds()
	t.ended = ended
	before := t.before
	t.before = 0
	if t.began.IsZero() && (full || ended > 0) {
		t.began = now
	}
	switch {
	case before > 0 && pace < before*tuneFall:
		t.hold = now.Add(tuneHold)
		return t.from
	case full && pace < t.pace && now.Sub(t.began) < tuneWarm:
		return limit
	case full && pace < t.pace:
		return min(maximum, 2*limit)
	case !full || pace < t.pace || now.Before(t.hold):
		return limit
	case limit <= t.least:
		if now.Sub(t.probed) < tuneHold {
			return limit
		}
		t.probed = now
		return min(maximum, 4*limit)
	}
	t.before, t.from, t.probed = pace, limit, now
	return max(t.least, int64(float64(limit)*tuneStep))
}
