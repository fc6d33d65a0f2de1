package dispatcher

import (
	"runtime"
	"time"
)

// trim finds out how few attempts at once are enough. At a high pace the processors, here or at the receivers, are what
// attempts wait for, and more of them only make each one slower and dearer: with 2048 under way a delivery costs a
// fifth more CPU than with 100 (cmd/bench). So it takes room away step by step, and gives the last step back where the
// pace falls with it: then it was time that the attempts waited for. Below its pace it takes nothing, so receivers that
// answer slowly have all the room. It is pure: it is told the time and the counts.
type trim struct {
	least  int64   // it leaves that much
	pace   float64 // attempts a second from which on it tries
	ended  uint64  // attempts, when last looked
	before float64 // the pace before the last step; 0: none is being tried
	from   int64   // the room before the last step
	hold   time.Time
	probed time.Time // when room was last given back to see whether it helps
	began  time.Time // when there was something to do for the first time
}

const (
	trimTurns = 2 // each so many sweeps
	trimEvery = trimTurns * sweepEvery
	trimStart = 256
	trimLeast = 48     // for each processor
	trimPace  = 8000.0 // a second, for each processor
	trimStep  = 0.7
	trimFall  = 0.82 // of the pace: where it falls below, the step was one too many
	trimHold  = 10 * time.Second
	trimWarm  = time.Second // at first the connections are made, which is slow, and more of them would be made for nothing
)

func newTrim() *trim {
	n := runtime.GOMAXPROCS(0)
	return &trim{least: int64(trimLeast * n), pace: trimPace * float64(n)}
}

// room is how many attempts to proven receivers may be under way from now on. ended counts all attempts, full says that
// lanes are waiting for a place.
func (t *trim) room(now time.Time, room, limit int64, ended uint64, full bool) int64 {
	pace := float64(ended-t.ended) / trimEvery.Seconds()
	t.ended = ended
	before := t.before
	t.before = 0
	if t.began.IsZero() && (full || ended > 0) {
		t.began = now
	}
	switch {
	case before > 0 && pace < before*trimFall:
		t.hold = now.Add(trimHold)
		return t.from
	case full && pace < t.pace && now.Sub(t.began) < trimWarm:
		return room
	case full && pace < t.pace:
		return min(limit, 2*room)
	case !full || pace < t.pace || now.Before(t.hold):
		return room
	case room <= t.least:
		if now.Sub(t.probed) < trimHold {
			return room
		}
		t.probed = now
		return min(limit, 4*room)
	}
	t.before, t.from, t.probed = pace, room, now
	return max(t.least, int64(float64(room)*trimStep))
}
