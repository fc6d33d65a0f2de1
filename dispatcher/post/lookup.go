package post

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	lookupTTL = 5 * time.Second // short: a receiver that moves is found again, and DNS is asked once for a burst of dials
	maxKnown  = 4096            // names remembered at once
)

// lookups asks DNS, once for all who want the same name at the same time, and remembers the answer for lookupTTL. It
// judges no address: that happens at every dial.
type lookups struct {
	base     context.Context //nolint:containedctx // the client's lifetime
	resolver *net.Resolver
	limit    time.Duration
	running  sync.WaitGroup

	mu    sync.Mutex // guards known
	known map[string]*lookup
}

type lookup struct {
	done  chan struct{} // closed when the fields below are set
	addrs []netip.Addr
	err   error
	until time.Time
}

// find is the addresses of a name, in the order of the resolver; the slice is shared and must not be changed.
func (l *lookups) find(ctx context.Context, host string) ([]netip.Addr, error) {
	q := l.query(host)
	select {
	case <-q.done:
		return q.addrs, q.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *lookups) query(host string) *lookup {
	l.mu.Lock()
	defer l.mu.Unlock()
	if q := l.known[host]; q != nil && q.fresh(time.Now()) {
		return q
	}
	q := &lookup{done: make(chan struct{})}
	l.forget()
	l.known[host] = q
	l.running.Go(func() { l.ask(host, q) }) // outlives the dial that asked first: others wait for it too
	return q
}

// fresh says whether the answer may be used: it is still being asked for, or young. What failed for a passing reason is
// asked again at once.
func (q *lookup) fresh(now time.Time) bool {
	select {
	case <-q.done:
		return now.Before(q.until)
	default:
		return true
	}
}

// forget makes room: answers that are old go, and where there are none, any.
func (l *lookups) forget() {
	if len(l.known) < maxKnown {
		return
	}
	now := time.Now()
	for host, q := range l.known {
		if !q.fresh(now) {
			delete(l.known, host)
		}
	}
	for host := range l.known {
		if len(l.known) < maxKnown {
			return
		}
		delete(l.known, host)
	}
}

func (l *lookups) ask(host string, q *lookup) {
	ctx, cancel := context.WithTimeout(l.base, l.limit)
	defer cancel()
	defer close(q.done)
	q.addrs, q.err = l.resolver.LookupNetIP(ctx, "ip", host)
	for i, a := range q.addrs {
		q.addrs[i] = a.Unmap()
	}
	if e, ok := q.err.(*net.DNSError); q.err == nil || ok && e.IsNotFound { //nolint:errorlint // never wrapped
		q.until = time.Now().Add(lookupTTL)
	}
}
