package post

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"fanout/dispatcher/reach"
)

const (
	nextAddress = 250 * time.Millisecond // between two addresses' beginnings (RFC 8305 section 5)
	avoidFailed = 5 * time.Minute        // how long an address that failed is tried last
	maxFailed   = 4096                   // addresses remembered as such
)

// race opens a connection to the address that answers first. They are tried in turn, 250 ms apart, those of both families
// in alternation, earlier tries going on; one that fails is followed by the next at once. Where there are many, they
// follow each other more quickly, so that the last one begins while half of the time is left.
func (c *Client) race(ctx context.Context, addrs []netip.Addr, port uint16, open func(context.Context, netip.Addr) (*conn, error)) (*conn, error) {
	if len(addrs) == 1 {
		return open(ctx, addrs[0])
	}
	r := &racing{cancel: func() {}, results: make(chan tried, len(addrs))}
	ctx, r.cancel = context.WithCancel(ctx)
	defer r.cancel()
	addrs = c.failed.order(interleave(addrs), port, time.Now())
	apart := nextAddress
	if by, ok := ctx.Deadline(); ok {
		apart = min(apart, time.Until(by)/time.Duration(2*len(addrs)))
	}
	next := time.NewTimer(apart)
	defer next.Stop()
	started, ended := 0, map[netip.Addr]bool{}
	follow := func() {
		if started == len(addrs) {
			return
		}
		r.try(ctx, c, addrs[started], open)
		started++
		next.Reset(apart)
	}
	follow()
	var worst error
	for {
		select {
		case <-next.C:
			follow()
		case got := <-r.results:
			ended[got.addr] = true
			if got.err == nil {
				c.failed.won(addrs[:started], got.addr, port, ended, time.Now())
				return got.cn, nil
			}
			worst = worse(worst, got.err)
			if !errors.Is(ctx.Err(), context.Canceled) {
				c.failed.add(got.addr, port, time.Now())
			}
			switch {
			case started < len(addrs) && ctx.Err() == nil:
				follow()
			case len(ended) == started:
				return nil, worst
			default:
				next.Stop()
			}
		}
	}
}

// racing is the tries of one race.
type racing struct {
	cancel  context.CancelFunc
	results chan tried // has room for all: nobody waits for the losers
	won     atomic.Bool
}

// tried is the result of a try.
type tried struct {
	addr netip.Addr
	cn   *conn
	err  error
}

// try tries one address, in a goroutine of its own. A connection that comes second is closed.
func (r *racing) try(ctx context.Context, c *Client, addr netip.Addr, open func(context.Context, netip.Addr) (*conn, error)) {
	began := c.spawn(func() {
		cn, err := open(ctx, addr)
		if err == nil && !r.won.CompareAndSwap(false, true) {
			c.drop(cn)
			return
		}
		r.results <- tried{addr, cn, err}
	})
	if !began {
		r.results <- tried{addr, nil, context.Canceled}
	}
}

// worse is the error that says more of why no connection was made: our own fault first, then how far the tries
// got.
func worse(a, b error) error {
	rank := func(err error) int {
		e, ok := err.(*Error) //nolint:errorlint // never wrapped here
		switch {
		case err == nil:
			return 0
		case !ok:
			return 1
		case e.Cause == reach.System:
			return 5
		case e.Kind == TLS:
			return 4
		case e.Kind == Timeout:
			return 3
		}
		return 2
	}
	if rank(a) >= rank(b) {
		return a
	}
	return b
}

// interleave puts the two families in alternation, beginning with that of the first address. The order within a family
// is the name servers'.
func interleave(addrs []netip.Addr) []netip.Addr {
	var first, other []netip.Addr
	for _, a := range addrs {
		if a.Is4() == addrs[0].Is4() {
			first = append(first, a)
		} else {
			other = append(other, a)
		}
	}
	out := make([]netip.Addr, 0, len(addrs))
	for i := range max(len(first), len(other)) {
		if i < len(first) {
			out = append(out, first[i])
		}
		if i < len(other) {
			out = append(out, other[i])
		}
	}
	return out
}

// failures remembers the addresses that could not be connected to, or not in time. It is safe for concurrent use.
type failures struct {
	mu    sync.Mutex // guards until
	until map[netip.AddrPort]time.Time
}

// order puts the addresses that failed a short while ago at the end.
func (f *failures) order(addrs []netip.Addr, port uint16, now time.Time) []netip.Addr {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.until) == 0 {
		return addrs
	}
	out := make([]netip.Addr, 0, len(addrs))
	var last []netip.Addr
	for _, a := range addrs {
		if now.Before(f.until[netip.AddrPortFrom(a, port)]) {
			last = append(last, a)
		} else {
			out = append(out, a)
		}
	}
	return append(out, last...)
}

func (f *failures) add(addr netip.Addr, port uint16, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.note(addr, port, now)
}

// won notes that an address was connected to, and that those which were tried before it and have not answered yet are
// slower.
func (f *failures) won(tried []netip.Addr, winner netip.Addr, port uint16, ended map[netip.Addr]bool, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.until, netip.AddrPortFrom(winner, port))
	for _, a := range tried {
		if a == winner {
			return
		}
		if !ended[a] {
			f.note(a, port, now)
		}
	}
}

// note remembers an address. f is locked.
func (f *failures) note(addr netip.Addr, port uint16, now time.Time) {
	if f.until == nil {
		f.until = map[netip.AddrPort]time.Time{}
	}
	if len(f.until) >= maxFailed {
		for a, until := range f.until {
			if now.After(until) || len(f.until) >= maxFailed {
				delete(f.until, a)
			}
		}
	}
	f.until[netip.AddrPortFrom(addr, port)] = now.Add(avoidFailed)
}
