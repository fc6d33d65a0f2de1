package resolve

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// addresses is the servers' answer about a name, both families together.
//
//nolint:recvcheck // add is what makes one
type addresses struct {
	v6, v4 []netip.Addr
	exists bool          // some name, with records of some kind
	ttl    time.Duration // the shortest of what was said
	err    error         // why one of the families is not known; nil: both are
}

func (a addresses) any() bool { return len(a.v6)+len(a.v4) > 0 }

// missing reports whether the servers said that the name has no address.
func (a addresses) missing() bool { return !a.any() && a.err == nil }

func (a addresses) all() []netip.Addr { return append(slices.Clip(a.v6), a.v4...) }

func (a addresses) answer(now time.Time) *Answer {
	return &Answer{Addrs: a.all(), At: now, Until: now.Add(min(max(a.ttl, minTTL), maxTTL))}
}

// add takes in what became of one family's question.
func (a *addresses) add(qtype dnsmessage.Type, o outcome) {
	if o.err != nil {
		if a.err == nil || tells(o.err) {
			a.err = o.err
		}
		return
	}
	had := a.any()
	if qtype == dnsmessage.TypeAAAA {
		a.v6 = o.reply.addrs
	} else {
		a.v4 = o.reply.addrs
	}
	a.exists = a.exists || o.exists
	switch has := len(o.reply.addrs) > 0; {
	case has && !had:
		a.ttl = o.reply.ttl
	case has, !had && a.ttl > 0:
		a.ttl = min(a.ttl, o.reply.ttl)
	case !had:
		a.ttl = o.reply.ttl
	}
}

// both asks for both families, side by side. Where one of them has answered with addresses and the other takes longer
// than 50 ms, early is told of what is there. both returns when both are known, or cannot be.
func (r *Resolver) both(ctx context.Context, s *settings, name string, early func(addresses)) (found addresses) {
	type answer struct {
		qtype dnsmessage.Type
		outcome
	}
	answers := make(chan answer, 2)
	ask := func(qtype dnsmessage.Type) {
		q, err := newQuestion(name, qtype)
		if err != nil {
			answers <- answer{qtype, outcome{reply: reply{ttl: maxTTL}}} // too long for DNS: such a name cannot exist
			return
		}
		answers <- answer{qtype, r.ask(ctx, s, q)}
	}
	waiting := 1
	switch {
	case s.noAAAA:
		r.running.Go(func() { ask(dnsmessage.TypeA) })
	case s.singleRequest:
		waiting = 2
		r.running.Go(func() { ask(dnsmessage.TypeA); ask(dnsmessage.TypeAAAA) })
	default:
		waiting = 2
		r.running.Go(func() { ask(dnsmessage.TypeA) })
		r.running.Go(func() { ask(dnsmessage.TypeAAAA) })
	}
	var lag <-chan time.Time
	for waiting > 0 {
		select {
		case a := <-answers:
			found.add(a.qtype, a.outcome)
			if waiting--; waiting > 0 && found.any() {
				timer := time.NewTimer(familyLag)
				defer timer.Stop()
				lag = timer.C
			}
		case <-lag:
			lag = nil
			early(found)
		}
	}
	return found
}
