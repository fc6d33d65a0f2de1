package post

import (
	"slices"
	"sync"
	"time"

	"fanout/dispatcher/resolve"
	"fanout/egress"
)

// key is the key that connections are kept under.
type key struct {
	host   string
	port   uint16
	tls    bool
	rooted bool
	opened bool // one to an address that is not open to everybody must not serve the others
}

func keyOf(t *egress.Target) key { return key{t.Host, t.Port, t.TLS, t.Rooted, t.Opened} }

// recheckEvery is how often at most a host's addresses are looked up again because connections to it are kept.
const recheckEvery = 30 * time.Second

// host keeps the connections of one host, and its last look-up.
type host struct {
	conns  []*conn         // idle ones, the one used last at the end
	listed *resolve.Answer // what the last look-up said; nil: the host is an address, or none of our business
	check  time.Time       // when to look it up again, if it is still in use then
	keep   time.Time       // it is not forgotten before, although no connection is idle
}

// idle keeps connections between exchanges: the one used last comes out first, so that the spare ones grow old and go.
// One lock is enough: it is held for some tens of nanoseconds an exchange, and never while a connection is closed.
type idle struct {
	perHost, total int
	timeout        time.Duration
	drop           func(*conn)
	recheck        func(key) // looks a host up again; it must not wait

	mu             sync.Mutex // guards all below
	hosts          map[key]*host
	oldest, newest *conn // all of them, by the time they were put here
	n              int
	sweeper        *time.Timer
	closed         bool
}

// get takes a connection out that may be used at the time now; nil where there is none.
func (p *idle) get(k key, now time.Time) *conn {
	cn, unfit, look := p.take(k, now)
	for ; unfit != nil; unfit = unfit.older {
		p.drop(unfit)
	}
	if look {
		p.recheck(k)
	}
	return cn
}

// take is get. unfit is a list, by older, of those that are to be dropped.
func (p *idle) take(k key, now time.Time) (cn, unfit *conn, look bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.hosts[k]
	if h == nil {
		return nil, nil, false
	}
	if h.listed != nil && now.After(h.check) {
		h.check, look = now.Add(recheckEvery), true
		h.keep = h.check
	}
	for len(h.conns) > 0 {
		last := len(h.conns) - 1
		cn, h.conns[last] = h.conns[last], nil
		h.conns = h.conns[:last] // the empty slice stays until the next sweep: the connection is soon back
		p.unlink(cn)
		if now.Before(cn.expires) && h.lists(cn) {
			return cn, unfit, look
		}
		cn.older, unfit = unfit, cn
	}
	return nil, unfit, look
}

// lists reports whether the host still has the address that cn is connected to.
func (h *host) lists(cn *conn) bool {
	if cn.listed == h.listed || h.listed == nil {
		return true
	}
	if !slices.Contains(h.listed.Addrs, cn.addr) {
		return false
	}
	cn.listed = h.listed // need not be compared again
	return true
}

// list notes what a look-up said. Connections to other addresses are not used again.
func (p *idle) list(k key, listed *resolve.Answer, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h := p.host(k); h.listed != listed {
		h.listed = listed
		h.check = listed.Until
		if soonest := now.Add(recheckEvery); h.check.Before(soonest) {
			h.check = soonest
		}
		h.keep = now.Add(recheckEvery)
	}
}

// host is the record of a host. p is locked.
func (p *idle) host(k key) *host {
	h := p.hosts[k]
	if h == nil {
		h = &host{}
		p.hosts[k] = h
		if p.sweeper == nil && !p.closed {
			p.sweeper = time.AfterFunc(p.timeout/2, p.sweep)
		}
	}
	return h
}

// put keeps cn, and closes another or cn itself where that would be one too many.
func (p *idle) put(cn *conn) {
	cn.since = time.Now()
	if surplus := p.add(cn); surplus != nil {
		p.drop(surplus)
	}
}

func (p *idle) add(cn *conn) (surplus *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return cn
	}
	h := p.host(cn.key)
	if h.listed == nil && cn.listed != nil { // forgotten while cn was in use: it is looked up at the next chance
		h.listed, h.check = cn.listed, cn.listed.Until
	}
	if len(h.conns) >= p.perHost || !h.lists(cn) {
		return cn
	}
	h.conns = append(h.conns, cn)
	p.link(cn)
	if p.n > p.total {
		return p.evict()
	}
	return nil
}

// evict takes the oldest connection out, which is the oldest of its host too.
func (p *idle) evict() *conn {
	cn := p.oldest
	h := p.hosts[cn.key]
	h.conns = slices.Delete(h.conns, 0, 1)
	p.unlink(cn)
	return cn
}

// sweep closes what was not used for the time-out, forgets hosts without connections, and comes back while there is
// anything left.
func (p *idle) sweep() {
	var old []*conn
	p.mu.Lock()
	now := time.Now()
	for p.oldest != nil && now.Sub(p.oldest.since) >= p.timeout {
		old = append(old, p.evict())
	}
	for k, h := range p.hosts {
		if len(h.conns) == 0 && !now.Before(h.keep) {
			delete(p.hosts, k)
		}
	}
	switch {
	case p.closed:
	case len(p.hosts) == 0:
		p.sweeper = nil
	default:
		p.sweeper.Reset(p.timeout / 2)
	}
	p.mu.Unlock()
	for _, cn := range old {
		p.drop(cn)
	}
}

// close forgets everything; the connections themselves are the client's to close.
func (p *idle) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed, p.oldest, p.newest, p.n = true, nil, nil, 0
	clear(p.hosts)
	if p.sweeper != nil {
		p.sweeper.Stop()
	}
}

func (p *idle) link(cn *conn) {
	cn.older, cn.newer = p.newest, nil
	if p.newest != nil {
		p.newest.newer = cn
	} else {
		p.oldest = cn
	}
	p.newest = cn
	p.n++
}

func (p *idle) unlink(cn *conn) {
	if cn.older != nil {
		cn.older.newer = cn.newer
	} else {
		p.oldest = cn.newer
	}
	if cn.newer != nil {
		cn.newer.older = cn.older
	} else {
		p.newest = cn.older
	}
	cn.older, cn.newer = nil, nil
	p.n--
}
