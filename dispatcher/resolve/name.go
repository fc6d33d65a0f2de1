package resolve

import (
	"cmp"
	"context"
	"strings"
	"time"
)

// name holds the answers about one name. The Resolver's lock guards it.
type name struct {
	answer  *Answer   // the last good one, perhaps old; nil: none
	failed  *Error    // why no answer came
	asked   time.Time // when the look-up that led to answer or failed began
	until   time.Time // the servers are not asked again before
	failing bool      // the servers did not know, and the old answer serves
	flight  *flight   // the look-up under way; nil: none
}

// stale reports whether the old answer may serve while the servers do not know.
func (n *name) stale(now time.Time) bool {
	return n.answer != nil && now.Before(n.answer.Until.Add(staleFor))
}

// stands reports whether what is known need not be asked for again. A failure stands only while the servers know nothing else
// either: as soon as they do, it may be over.
func (n *name) stands(now time.Time, s *servers) bool {
	return now.Before(n.until) && (n.failed == nil || n.failed.NotFound || !s.knewSince(n.asked))
}

// flight is one look-up, which all who want the name wait for.
type flight struct {
	id     uint64
	began  time.Time
	done   chan struct{} // closed when one of the two below is set
	answer *Answer
	err    *Error
}

// await is what a look-up of the name that was joined at the time leads to. What others began earlier may have been asked while no
// server answered: where that fails, one more is begun. The error is an [*Error], also where ctx ends first.
func (r *Resolver) await(ctx context.Context, host string, f *flight, joined time.Time) (*Answer, error) {
	const late = 100 * time.Millisecond
	for {
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, &Error{ID: f.id, Err: ctx.Err()}
		}
		switch {
		case f.err == nil:
			return f.answer, nil
		case f.err.NotFound || joined.Sub(f.began) < late:
			return nil, f.err
		}
		joined = time.Now()
		f = r.join(host, joined)
	}
}

// join is the look-up of the name that is under way at the time now; where there is none, it begins one.
func (r *Resolver) join(host string, now time.Time) *flight {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fly(host, r.name(host, now))
}

// name is the record of a name. r is locked.
func (r *Resolver) name(host string, now time.Time) *name {
	n := r.names[host]
	if n == nil {
		r.forget(now)
		n = &name{}
		r.names[strings.Clone(host)] = n
	}
	return n
}

// forget makes room: first go the names that nothing is known of any more, and where there are none, any. r is locked.
func (r *Resolver) forget(now time.Time) {
	if len(r.names) < r.most {
		return
	}
	for host, n := range r.names {
		if n.flight == nil && now.After(n.until) && !n.stale(now) {
			delete(r.names, host)
		}
	}
	for host := range r.names {
		if len(r.names) < r.most {
			return
		}
		delete(r.names, host)
	}
}

// fly is the look-up of the name that is under way; where there is none, it begins one. One that was begun before a server came
// back may have asked in vain, and takes its time to find out: nobody new waits for it. r is locked.
func (r *Resolver) fly(host string, n *name) *flight {
	if n.flight != nil && !r.servers.backSince(n.flight.began) {
		return n.flight
	}
	r.last++
	f := &flight{id: r.last, began: time.Now(), done: make(chan struct{})}
	if err := r.base.Err(); err != nil { // closed: nothing begins any more
		f.err = &Error{ID: f.id, Err: err}
		close(f.done)
		return f
	}
	n.flight = f
	r.running.Go(func() { r.lookUp(host, n, f) })
	return f
}

// lookUp asks for the name, or for each that the search list makes of it, until one exists.
func (r *Resolver) lookUp(host string, n *name, f *flight) {
	ctx, cancel := context.WithTimeout(r.base, flightTime)
	defer cancel()
	s := r.settings.current(time.Now())
	names := []string{host}
	if !strings.HasSuffix(host, ".") {
		names = s.candidates(host)
	}
	found := r.first(ctx, &s, names, func(early addresses) { r.land(n, f, early, "") })
	byName := ""
	if bare, absolute := strings.CutSuffix(host, "."); absolute && found.missing() {
		byName = r.onlyBySearch(ctx, &s, bare)
	}
	r.land(n, f, found, byName)
}

// first is the addresses of the first of the names that has any, or that the servers do not know of.
func (r *Resolver) first(ctx context.Context, s *settings, names []string, early func(addresses)) (found addresses) {
	for _, name := range names {
		if found = r.both(ctx, s, name, early); !found.missing() {
			break
		}
	}
	return found
}

// onlyBySearch is the name that the search list would make of a host that does not exist without it; empty where
// there is none.
func (r *Resolver) onlyBySearch(ctx context.Context, s *settings, host string) (found string) {
	for _, name := range s.candidates(host) {
		if name != host+"." && r.both(ctx, s, name, func(addresses) {}).any() {
			return name
		}
	}
	return ""
}

// land ends the flight, or adds to what it has led to already: the addresses of the family that answered later.
func (r *Resolver) land(n *name, f *flight, found addresses, byName string) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	landed := f.answer != nil || f.err != nil
	switch {
	case !landed && n.flight != f && !found.any(): // another was begun since, and knows better
		f.err = &Error{ID: f.id, Err: cmp.Or[error](found.err, errSilent)}
		close(f.done)
		return
	case landed && (n.answer != f.answer || len(found.all()) <= len(f.answer.Addrs)):
		return // somebody knows better, or nothing is new
	case landed:
		n.answer = found.answer(now)
		return
	case found.any():
		f.answer = found.answer(now)
		n.answer, n.failed, n.failing, n.until = f.answer, nil, false, f.answer.Until
	case found.missing():
		f.err = &Error{ID: f.id, NotFound: true, ByName: byName, Err: errNoName}
		if found.exists {
			f.err.Err = errNoAddr
		}
		n.answer, n.failed, n.failing, n.until = nil, f.err, false, now.Add(min(max(found.ttl, minTTL), maxNoTTL))
	default:
		f.err = &Error{ID: f.id, Err: found.err}
		n.failed, n.failing, n.until = f.err, n.stale(now), now.Add(failedFor)
		if n.failing {
			n.until = now.Add(staleRetry)
		} else {
			n.answer = nil
		}
	}
	n.asked = f.began
	if n.flight == f {
		n.flight = nil
	}
	close(f.done)
}
