package resolve

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	nextServerAfter = time.Second      // a server that has not answered by then is not waited for alone
	avoidSilent     = 30 * time.Second // how long a server that did not answer is asked last
)

// failure is why a server, or all of them, did not say what addresses a name has. Its text names no server: customers
// may see it.
type failure string

// Error is the reason.
func (f failure) Error() string { return string(f) }

const (
	errSilent   failure = "no name server answers"
	errServfail failure = "the name servers answer SERVFAIL: the zone is broken, or they cannot reach it"
	errRefused  failure = "the name servers refuse to answer"
	errUnusable failure = "the name servers' answers cannot be used"
)

// outcome is what became of one question to one server: an answer, which may be that there is nothing of that name or no
// address of that family, or an error.
type outcome struct {
	server string
	reply  reply
	exists bool
	err    error
}

// judge says what a server's answer means. Of the network's errors only the system's reason is kept, since their text
// names the server.
func judge(server string, r reply, err error) outcome {
	o := outcome{server: server, reply: r}
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		o.err = errSilent
	case err != nil:
		o.err = errUnusable
		if errno, ok := errors.AsType[syscall.Errno](err); ok {
			o.err = fmt.Errorf("%w: %w", errSilent, errno)
		}
	case r.rcode == dnsmessage.RCodeServerFailure:
		o.err = errServfail
	case r.rcode == dnsmessage.RCodeRefused:
		o.err = errRefused
	case r.rcode != dnsmessage.RCodeSuccess && r.rcode != dnsmessage.RCodeNameError, r.referral:
		o.err = errUnusable
	default:
		o.exists = r.rcode == dnsmessage.RCodeSuccess
	}
	return o
}

// tells reports whether an error says more than silence does.
func tells(err error) bool { return err != errSilent } //nolint:errorlint // wrapped, it comes with a reason

// ask asks the servers one question. One that answers with a failure is followed by the next at once; one that does
// not answer is followed by the next after a second, and may still answer. Each has the time that resolv.conf says.
func (r *Resolver) ask(ctx context.Context, s *settings, q question) outcome {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	plan := r.servers.plan(s, time.Now())
	outcomes := make(chan outcome, len(plan.order)+len(plan.beside))
	for _, server := range plan.beside {
		r.try(r.base, s, server, q, outcomes) // it is asked to see whether it answers, however soon others do
	}
	pending, left, failed := len(plan.beside), plan.order, outcome{err: errSilent}
	next := time.NewTimer(nextServerAfter)
	defer next.Stop()
	follow := func() {
		if len(left) == 0 {
			next.Stop()
			return
		}
		r.try(ctx, s, left[0], q, outcomes)
		pending, left = pending+1, left[1:]
		next.Reset(nextServerAfter)
	}
	follow()
	for {
		select {
		case <-next.C:
			follow()
		case o := <-outcomes:
			pending--
			if o.err == nil {
				return o
			}
			if tells(o.err) {
				failed = o
				if !errors.Is(o.err, errSilent) { // asking again is for packets that were lost
					left = slices.DeleteFunc(left, func(server string) bool { return server == o.server })
				}
				follow()
			}
			if len(left) == 0 && pending == 0 {
				return failed
			}
		case <-ctx.Done():
			return failed
		}
	}
}

// try asks one server, in a goroutine of its own.
func (r *Resolver) try(ctx context.Context, s *settings, server string, q question, to chan<- outcome) {
	r.running.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, s.timeout)
		defer cancel()
		began := time.Now()
		silent := time.AfterFunc(nextServerAfter, func() { r.servers.silent(server, began, time.Now()) })
		reply, err := exchange(ctx, r.cfg.Dial, server, q, s.tcp)
		silent.Stop()
		o := judge(server, reply, err)
		if err == nil {
			r.servers.answered(server, o.err == nil, time.Now())
		}
		to <- o
	})
}

// servers remembers which name servers do not answer. It is safe for concurrent use.
type servers struct {
	mu    sync.Mutex // guards all below
	known map[string]*server
	knew  time.Time // when one of them last knew something, whatever it was asked
	back  time.Time // when one that had not answered last did again
	turn  int       // of rotate
}

type server struct {
	lastAnswer time.Time
	avoidUntil time.Time // it did not answer, and is asked after those that do; zero: it answers
}

// plan is in which order the servers are asked.
type plan struct {
	order  []string
	beside []string // asked beside the first, to find out whether it is back
}

// plan orders the servers: those that answer first, as in resolv.conf; all of them as often as it says. One that did
// not answer a while ago is asked beside the others, once: finding that it is still away then costs no time.
func (m *servers) plan(s *settings, now time.Time) plan {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := slices.Clone(s.servers)
	if s.rotate {
		m.turn++
		at := m.turn % len(all)
		all = append(all[at:], all[:at]...)
	}
	var p plan
	var good, bad []string
	for _, name := range all {
		k := m.known[name]
		switch {
		case k == nil || k.avoidUntil.IsZero():
			good = append(good, name)
			continue
		case now.After(k.avoidUntil) && len(all) > 1:
			k.avoidUntil = now.Add(avoidSilent)
			p.beside = append(p.beside, name)
		}
		bad = append(bad, name)
	}
	if len(good) == 0 {
		p.beside = nil
	}
	for range s.attempts {
		p.order = append(append(p.order, good...), bad...)
	}
	return p
}

// silent notes that a question asked at the time since has not been answered, unless the server has answered another
// one meanwhile: then the packet was lost, or the zone's own servers are what does not answer.
func (m *servers) silent(name string, since, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.of(name)
	if k.lastAnswer.Before(since) {
		k.avoidUntil = now.Add(avoidSilent)
	}
}

// answered notes that a server answered, and whether it knew what it was asked.
func (m *servers) answered(name string, knew bool, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.of(name)
	if !k.avoidUntil.IsZero() {
		m.back = now
	}
	k.lastAnswer, k.avoidUntil = now, time.Time{}
	if knew {
		m.knew = now
	}
}

// knewSince reports whether a server has known something since then.
func (m *servers) knewSince(then time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.knew.Before(then)
}

// backSince reports whether a server that had not answered has answered since then.
func (m *servers) backSince(then time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.back.After(then)
}

// of is what is known of a server. m is locked.
func (m *servers) of(name string) *server {
	if m.known == nil {
		m.known = map[string]*server{}
	}
	k := m.known[name]
	if k == nil {
		k = &server{}
		m.known[name] = k
	}
	return k
}
