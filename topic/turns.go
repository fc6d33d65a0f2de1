package topic

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of what a process unpacks at once (docs/contract.md#fetch-bound).
const (
	unpackedAtOnce = 32 << 20  // bytes that codecs and records take, of all partitions together
	unpackedFreely = 256 << 10 // what takes no more than that takes no turn
)

// Times of a turn.
const (
	turnTime   = 100 * time.Millisecond // after which it ends where others wait
	turnShare  = 10                     // times as long as it took to come to where the last turn ended
	standstill = 10 * time.Second       // without a turn that begins or ends, after which the next begins none the less
)

// errTurnEnds ends a turn.
var errTurnEnds = errors.New("others wait for their turn to unpack")

// turns shares out the memory for unpacking batches, in the order in which it is asked for. It is safe for concurrent use.
//
// Whoever has a turn may wait meanwhile, for receivers say, so a turn ends after a while where others wait. Then the batch is unpacked
// from its start again, which is cheaper than to keep what its codec remembers: 8 MiB and more for a batch of any size.
type turns struct {
	all int64

	mu      sync.Mutex // guards all below, and the fields of each turn that are not its own
	free    int64      // less than nothing where somebody has waited for too long
	moved   time.Time  // when a turn began or ended last
	held    []*turn    // the longest held first
	waiting []*turn    // who came first is first
}

// turn is a part of that memory, held or waited for.
type turn struct {
	turns  *turns
	size   int64
	came   chan struct{} // closed when it is held
	began  time.Time     // its holder's own
	timer  *time.Timer   // likewise; nil: the holder has not come to where it goes on
	ending atomic.Bool   // others wait, and it has had its time
	cancel context.CancelCauseFunc

	over  bool // it has had its time
	asked bool // to end
}

func newTurns(all int64) *turns { return &turns{all: all, free: all} }

// take waits for a turn with so many bytes. Who asks for more than there are has all of them, alone. The context that comes back is done when
// the turn should end.
func (t *turns) take(ctx context.Context, size int64) (*turn, context.Context, error) {
	one := &turn{turns: t, size: min(size, t.all), came: make(chan struct{})}
	turning, cancel := context.WithCancelCause(ctx)
	one.cancel = cancel
	t.mu.Lock()
	t.waiting = append(t.waiting, one)
	t.share()
	t.mu.Unlock()
	patience := time.NewTimer(standstill)
	defer patience.Stop()
	for held := false; !held; {
		select {
		case <-one.came:
			held = true
		case <-patience.C:
			patience.Reset(t.standsStill(one))
		case <-ctx.Done():
			one.end()
			return nil, nil, context.Cause(ctx)
		}
	}
	one.began = time.Now()
	return one, turning, nil
}

// standsStill gives the turn where it is the next and nothing moves: no bound is worth a standstill. It says when to ask again.
func (t *turns) standsStill(one *turn) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	left := standstill - time.Since(t.moved)
	if left > 0 || len(t.waiting) == 0 || t.waiting[0] != one {
		return max(left, turnTime)
	}
	t.hold(one)
	return standstill
}

// hold gives a turn that is waited for.
func (t *turns) hold(one *turn) {
	i := slices.Index(t.waiting, one)
	if i < 0 {
		return
	}
	t.waiting = slices.Delete(t.waiting, i, i+1)
	t.held, t.moved = append(t.held, one), time.Now()
	t.free -= one.size
	close(one.came)
}

// share gives out what is free, and asks those who have had their time to end where that is not enough.
func (t *turns) share() {
	for len(t.waiting) > 0 && t.waiting[0].size <= t.free {
		t.hold(t.waiting[0])
	}
	if len(t.waiting) == 0 {
		return
	}
	missing := t.waiting[0].size - t.free
	for _, h := range t.held {
		if h.asked {
			missing -= h.size
		}
	}
	for _, h := range t.held {
		if missing <= 0 {
			return
		}
		if h.over && !h.asked {
			h.asked = true
			h.ending.Store(true)
			h.cancel(errTurnEnds)
			missing -= h.size
		}
	}
}

// goesOn notes that its holder has come to where it goes on: from now on its time counts.
func (o *turn) goesOn() {
	if o.timer != nil {
		return
	}
	o.timer = time.AfterFunc(max(turnTime, turnShare*time.Since(o.began)), func() {
		o.turns.mu.Lock()
		defer o.turns.mu.Unlock()
		o.over = true
		o.turns.share()
	})
}

// end gives the memory back.
func (o *turn) end() {
	if o.timer != nil {
		o.timer.Stop()
	}
	o.cancel(nil)
	t := o.turns
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.held, o); i >= 0 {
		t.held = slices.Delete(t.held, i, i+1)
		t.free, t.moved = t.free+o.size, time.Now()
	} else if i := slices.Index(t.waiting, o); i >= 0 {
		t.waiting = slices.Delete(t.waiting, i, i+1)
	}
	t.share()
}
