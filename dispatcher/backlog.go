package dispatcher

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// backlog bounds what waits in the lanes of this process, in requests and in bytes.
//
// Reading stops while as many wait as help to keep the attempts going. An account, and each of its lanes, counts for that
// with its allowance at most. What it has waiting beyond that stops nobody's reading: it is kept for a while
// (lanes.queue_age), within bounds for each account and for all, and then deferred.
type backlog struct {
	limit    int64         // of counted, in parts
	age      float64       // lanes.queue_age, in seconds
	accounts *atomic.Int64 // how many share the limit
	lane     int64         // parts that may wait in one lane
	account  int64         // and in one account
	counted  tally         // what reading waits for
	beyond   tally         // what waits beyond the allowances

	halt *halt      // while it is suspended nothing is read, whatever waits
	mu   sync.Mutex // guards less
	less chan struct{}
}

const (
	maxCountedBytes = 32 << 20
	maxAccountBytes = 16 << 20
	maxBeyond       = 20_000 * wholeRequest
	maxBeyondBytes  = 64 << 20
	maxLaneBytes    = 4 << 20
	deliveryBytes   = 512 // that one takes beside its body
)

// Waiting deliveries are counted in parts of a request: one that goes out alone counts as a whole request, each of those that
// go out together as a part of one. No more than maxTogether are read ahead, unless lanes.queue is larger.
const (
	wholeRequest = 4000
	maxTogether  = 20_000
)

// parts is how much a delivery counts that goes out with so many.
func (b *backlog) parts(together int) int64 {
	return min(wholeRequest, max(wholeRequest/int64(together), share(b.limit, maxTogether)))
}

const (
	// readAgain is how soon whoever waits for capacity looks again: the count need not fall to half of its limit where
	// others take what becomes free.
	readAgain = 100 * time.Millisecond
	// worthWaiting is for how long reading waits, at most, for an account that has more than an equal share waiting: for
	// what it delivers in that time. Where receivers are quick, what waits is bounded so; whoever is slow delivers next to
	// nothing in it.
	worthWaiting = 0.5 // seconds
	// unknownPace is for how long after it has something waiting nobody knows how quick an account is.
	unknownPace = time.Second
)

// waiting is a number of deliveries, in parts of requests, and the bytes that they take.
type waiting struct{ n, bytes int64 }

func (w waiting) plus(o waiting) waiting  { return waiting{w.n + o.n, w.bytes + o.bytes} }
func (w waiting) minus(o waiting) waiting { return waiting{w.n - o.n, w.bytes - o.bytes} }

// laneBacklog is what waits in one lane.
type laneBacklog struct {
	waiting waiting
	counted waiting // of it, within the lane's allowance
}

// most is the share of it that is no more than n parts.
func (w waiting) most(n int64) waiting {
	if w.n <= n {
		return w
	}
	return waiting{n, w.bytes * n / w.n}
}

// allowance is for how much of what an account, or a lane, has waiting reading waits: for an equal share in number and in
// bytes, as far as it is delivered before it would be deferred for its age, or for what is delivered soon, whatever its bytes. One
// request is always within it.
type allowance struct {
	equal waiting
	quick int64
}

// of is the part of what waits that is within the allowance.
func (al allowance) of(w waiting) waiting {
	if w.n <= max(wholeRequest, al.quick) {
		return w
	}
	part := w.most(max(al.equal.n, al.quick))
	if most := max(al.equal.bytes, w.most(al.quick).bytes); part.bytes > most {
		part = waiting{max(wholeRequest, part.n*most/part.bytes), most}
	}
	return part
}

func (al allowance) exceededBy(w waiting) bool { return al.of(w) != w }

// tally is a sum of what waits. Its number and its bytes change one after the other.
type tally struct{ n, bytes atomic.Int64 }

// add changes the tally and returns what it is then. It never falls below zero.
func (t *tally) add(w waiting) waiting { return waiting{t.n.Add(w.n), t.bytes.Add(w.bytes)} }

func (t *tally) load() waiting { return waiting{t.n.Load(), t.bytes.Load()} }

func newBacklog(cfg *LanesConfig, accounts *atomic.Int64, h *halt) *backlog {
	return &backlog{
		// The queue of a single lane must not overflow just because reading is faster than delivering.
		limit: wholeRequest * int64(max(1, cfg.Queue*3/4)), age: cfg.QueueAge.Seconds(), accounts: accounts,
		lane: wholeRequest * int64(cfg.Queue), account: wholeRequest * 4 * int64(cfg.Queue),
		halt: h, less: make(chan struct{}),
	}
}

// ofAccount is the allowance of an account, which is locked. Equal shares together are a little more than the limit: where all
// accounts have as much waiting as one another, reading stops.
func (b *backlog) ofAccount(a *account, now time.Time) allowance {
	among, pace := 5*b.accounts.Load(), a.pace(now)
	equal := waiting{share(6*b.limit, among), share(6*maxCountedBytes, among)}
	if now.Sub(a.busy) > unknownPace {
		equal.n = min(equal.n, int64(pace*b.age))
	}
	return allowance{equal, b.quick(pace)}
}

// ofLane is the same for a lane, which is locked, of an account that has such an allowance.
func (b *backlog) ofLane(al allowance, l *lane, now time.Time) allowance {
	lanes, pace := l.account.lanes.Load(), l.drain.pace.now(now)*float64(b.parts(l.together()))
	return allowance{waiting{share(max(al.equal.n, al.quick), lanes), share(al.equal.bytes, lanes)}, b.quick(pace)}
}

// quick is how many are delivered soon at such a pace. It is no more than half of the limit, so that whoever falls silent while
// it has much waiting does not stop the others.
func (b *backlog) quick(pace float64) int64 { return min(b.limit/2, int64(pace*worthWaiting)) }

// share is an equal part, rounded up.
func share(whole, parts int64) int64 { return (whole + parts - 1) / max(1, parts) }

// exceedsAllowance says whether the lane, which is locked, or its account, has more waiting than its allowance.
func (b *backlog) exceedsAllowance(l *lane, now time.Time) bool {
	a := l.account
	a.mu.Lock()
	defer a.mu.Unlock()
	ofAccount := b.ofAccount(a, now)
	return ofAccount.exceededBy(a.waiting) || b.ofLane(ofAccount, l, now).exceededBy(l.backlog.waiting)
}

// accountExceeds says whether the account has more waiting than its allowance; nil has nothing.
func (b *backlog) accountExceeds(a *account, now time.Time) bool {
	if a == nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return b.ofAccount(a, now).exceededBy(a.waiting)
}

// full says whether more waits in the lane, which is locked, or in its account, than is kept: more than its allowance, and more
// than any may have or than there is room for.
func (b *backlog) full(l *lane, now time.Time) bool {
	a := l.account
	a.mu.Lock()
	defer a.mu.Unlock()
	ofAccount := b.ofAccount(a, now)
	if (l.backlog.waiting.n > b.lane || l.backlog.waiting.bytes > maxLaneBytes) && b.ofLane(ofAccount, l, now).exceededBy(l.backlog.waiting) {
		return true
	}
	all, w := b.beyond.load(), a.waiting
	return (w.n > b.account || w.bytes > maxAccountBytes || all.n > maxBeyond || all.bytes > maxBeyondBytes) && ofAccount.exceededBy(w)
}

// add notes that a delivery waits in the lane, which is locked.
func (b *backlog) add(l *lane, d *Delivery, now time.Time) {
	d.parts = b.parts(l.together())
	if d.alone {
		d.parts = wholeRequest
	}
	b.count(l, d.weight(), now)
}

// remove notes that it waits no longer.
func (b *backlog) remove(l *lane, d *Delivery, now time.Time) {
	b.count(l, waiting{}.minus(d.weight()), now)
}

// weight is what the delivery counts for while it waits.
func (d *Delivery) weight() waiting { return waiting{d.parts, int64(len(d.Body)) + deliveryBytes} }

// count works out for what of the lane, which is locked, and of its account reading waits, after so much more waits in the
// lane: nothing, where only time has passed. It wakes those who wait for capacity when half of it is free.
func (b *backlog) count(l *lane, more waiting, now time.Time) {
	a := l.account
	l.backlog.waiting = l.backlog.waiting.plus(more)
	a.mu.Lock()
	defer a.mu.Unlock()
	ofAccount := b.ofAccount(a, now)
	was := l.backlog.counted
	l.backlog.counted = b.ofLane(ofAccount, l, now).of(l.backlog.waiting)
	if a.waiting == (waiting{}) {
		a.busy = now
	}
	a.waiting = a.waiting.plus(more)
	a.countable = a.countable.plus(l.backlog.counted.minus(was))
	was = a.counted
	a.counted = ofAccount.of(a.countable)
	counted := a.counted.minus(was)
	if beyond := more.minus(counted); beyond != (waiting{}) {
		b.beyond.add(beyond)
	}
	if counted == (waiting{}) {
		return
	}
	total := b.counted.add(counted)
	before := total.minus(counted)
	if total.n <= b.limit/2 && before.n > b.limit/2 || total.bytes < maxCountedBytes/2 && before.bytes >= maxCountedBytes/2 {
		b.wake()
	}
}

// wake lets those look again who wait for capacity.
func (b *backlog) wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.less)
	b.less = make(chan struct{})
}

// presses says whether half of what may be read ahead waits.
func (b *backlog) presses() bool {
	w := b.counted.load()
	return 2*w.n >= b.limit || 2*w.bytes >= maxCountedBytes
}

func (b *backlog) atLimit() bool {
	w := b.counted.load()
	return w.n >= b.limit || w.bytes >= maxCountedBytes || b.halt.suspended()
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
