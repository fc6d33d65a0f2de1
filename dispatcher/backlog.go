package dispatcher

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// backlog bounds what waits in the lanes of this process, in deliveries and in bytes of their bodies.
//
// Reading stops while as many wait as help to keep the attempts going. An account counts for that with a fair share at
// most. What it has waiting beyond that stops nobody's reading: it is kept for a while (lanes.queue_age), within bounds for
// each account and for all, and then deferred.
type backlog struct {
	limit    int64         // of counted
	accounts *atomic.Int64 // how many share the limit
	each     int           // deliveries that one account may have waiting
	counted  tally         // deliveries that reading waits for
	beyond   tally         // deliveries beyond their accounts' fair shares
	forming  atomic.Int64  // deliveries that go out with one that counts, or wait for others to do so

	suspended atomic.Bool // nothing is read, whatever waits
	mu        sync.Mutex  // guards less
	less      chan struct{}
}

const (
	maxCountedBytes = 32 << 20
	maxAccountBytes = 16 << 20
	maxBeyond       = 20_000
	maxBeyondBytes  = 64 << 20
	maxLaneBytes    = 4 << 20
	maxForming      = 20_000
)

// readAgain is how soon whoever waits for capacity looks again: the count need not fall to half of its limit where others
// take what becomes free.
const readAgain = 100 * time.Millisecond

// tally counts deliveries and their bytes, together, in one word.
type tally struct{ word atomic.Int64 }

const tallyBytes = 36 // bits for the bytes: 64 GiB

// add changes the tally, n and bytes having the same sign, and returns what it is then.
func (t *tally) add(n, bytes int) (int64, int64) {
	return split(t.word.Add(int64(n)<<tallyBytes + int64(bytes)))
}

func (t *tally) load() (n, bytes int64) { return split(t.word.Load()) }

func split(word int64) (n, bytes int64) { return word >> tallyBytes, word & (1<<tallyBytes - 1) }

func newBacklog(cfg *LanesConfig, accounts *atomic.Int64) *backlog {
	return &backlog{
		// The queue of a single lane must not overflow just because reading is faster than delivering.
		limit: int64(max(1, cfg.Queue*3/4)), accounts: accounts, each: 4 * cfg.Queue,
		less: make(chan struct{}),
	}
}

// fairShare is for how many of an account's deliveries, and of a lane's among them, reading waits. All shares together are a
// little more than the limit: where all have as much waiting as one another, reading stops.
func (b *backlog) fairShare(a *account) (ofAccount, ofLane int64) {
	ofAccount = share(6*b.limit, 5*b.accounts.Load())
	return ofAccount, share(ofAccount, a.lanes.Load())
}

// share is an equal part, rounded up.
func share(whole, parts int64) int64 { return (whole + parts - 1) / max(1, parts) }

// exceedsFairShare says whether the lane, or its account, has more waiting than its fair share.
func (b *backlog) exceedsFairShare(l *lane) bool {
	_, ofLane := b.fairShare(l.account)
	return int64(l.queue.length/l.together()) > ofLane || b.accountExceeds(l.account)
}

// accountExceeds says whether the account has more waiting than its fair share; nil has nothing.
func (b *backlog) accountExceeds(a *account) bool {
	if a == nil {
		return false
	}
	ofAccount, _ := b.fairShare(a)
	n, _ := a.waiting.load()
	return n > ofAccount
}

// full says whether the account has more waiting than is kept: more than any account may, or more than its fair share
// where there is no room for that.
func (b *backlog) full(a *account) bool {
	n, bytes := a.waiting.load()
	if n > int64(b.each) || n > 1 && bytes > maxAccountBytes {
		return true
	}
	all, allBytes := b.beyond.load()
	ofAccount, _ := b.fairShare(a)
	return (all > maxBeyond || allBytes > maxBeyondBytes) && n > ofAccount
}

// crowded says whether more waits for batches than is kept, and the lane has more than two of them.
func (b *backlog) crowded(l *lane) bool {
	return l.batches() && b.forming.Load() >= maxForming && l.queue.length > 2*l.together()
}

// add notes that a delivery waits in the lane, which is locked. Of what goes out in one request, one counts.
func (b *backlog) add(l *lane, d *Delivery) {
	n := 1
	if l.queue.length%l.together() != 0 {
		n = 0
		b.forming.Add(1)
	}
	d.light = n == 0
	l.account.waiting.add(n, len(d.Body))
	if d.counted = !b.exceedsFairShare(l); d.counted {
		b.counted.add(n, len(d.Body))
	} else {
		b.beyond.add(n, len(d.Body))
	}
}

// remove notes that it waits no longer, and wakes those who wait for capacity, all at once, when half of it is free.
func (b *backlog) remove(l *lane, d *Delivery) {
	weight := 1
	if d.light {
		weight = 0
		b.forming.Add(-1)
	}
	l.account.waiting.add(-weight, -len(d.Body))
	if !d.counted {
		b.beyond.add(-weight, -len(d.Body))
		return
	}
	if n, bytes := b.counted.add(-weight, -len(d.Body)); n == b.limit/2 && weight > 0 || bytes < maxCountedBytes/2 && bytes+int64(len(d.Body)) >= maxCountedBytes/2 {
		b.wake()
	}
}

func (b *backlog) wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.less)
	b.less = make(chan struct{})
}

// presses says whether half of what may be read ahead waits.
func (b *backlog) presses() bool {
	n, bytes := b.counted.load()
	return 2*n >= b.limit || 2*bytes >= maxCountedBytes || 2*b.forming.Load() >= maxForming
}

func (b *backlog) atLimit() bool {
	n, bytes := b.counted.load()
	return n >= b.limit || bytes >= maxCountedBytes || b.suspended.Load()
}

// suspend stops reading, and lets it go on.
func (b *backlog) suspend(on bool) {
	b.suspended.Store(on)
	b.wake()
}

// wait returns when more should be read.
func (b *backlog) wait(ctx context.Context) error {
	for b.atLimit() {
		b.mu.Lock()
		less := b.less
		b.mu.Unlock()
		if !b.atLimit() {
			return nil
		}
		select {
		case <-less:
		case <-time.After(readAgain):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
