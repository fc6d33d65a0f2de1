package post

import (
	"slices"
	"sync"
	"time"
)

// key is what connections are kept under.
type key struct {
	host string
	port uint16
	tls  bool
}

// idle keeps connections between exchanges: the one used last comes out first, so that the spare ones grow old and go.
// One lock is enough: it is held for some tens of nanoseconds an exchange, and never while a connection is closed.
type idle struct {
	perHost, total int
	timeout        time.Duration
	drop           func(*conn)

	mu             sync.Mutex // guards all below
	hosts          map[key][]*conn
	oldest, newest *conn // all of them, by the time they were put here
	n              int
	sweeper        *time.Timer
	closed         bool
}

// get takes a connection out; nil where there is none.
func (p *idle) get(k key) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	conns := p.hosts[k]
	if len(conns) == 0 {
		return nil
	}
	cn := conns[len(conns)-1]
	conns[len(conns)-1] = nil
	p.hosts[k] = conns[:len(conns)-1] // the empty slice stays until the next sweep: the connection is soon back
	p.unlink(cn)
	return cn
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
	conns := p.hosts[cn.key]
	if p.closed || len(conns) >= p.perHost {
		return cn
	}
	p.hosts[cn.key] = append(conns, cn)
	p.link(cn)
	if p.sweeper == nil {
		p.sweeper = time.AfterFunc(p.timeout/2, p.sweep)
	}
	if p.n > p.total {
		return p.evict()
	}
	return nil
}

// evict takes the oldest connection out, which is the oldest of its host too.
func (p *idle) evict() *conn {
	cn := p.oldest
	p.hosts[cn.key] = slices.Delete(p.hosts[cn.key], 0, 1)
	p.unlink(cn)
	return cn
}

// sweep closes what was not used for the time-out, forgets hosts without connections, and comes back while there is
// anything left.
func (p *idle) sweep() {
	var old []*conn
	p.mu.Lock()
	for now := time.Now(); p.oldest != nil && now.Sub(p.oldest.since) >= p.timeout; {
		old = append(old, p.evict())
	}
	for k, conns := range p.hosts {
		if len(conns) == 0 {
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
