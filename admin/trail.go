package admin

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"go.uber.org/zap"

	"fanout/subscriptions"
	"fanout/topic"
)

// caller is who asks for a change, and from where (docs/contract.md#audit-trail).
type caller struct {
	actor string // operator, portal link <id>, or whom a trusted proxy has signed in
	from  string // the address that the request came from
}

// maxActor bounds a name that a proxy gives, in bytes.
const maxActor = 128

// callerOf is who makes the request. In the portal that is the link's holder, whatever a header says.
func (p *panel) callerOf(r *http.Request, s scope) caller {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	by := caller{actor: "operator", from: host}
	trusted := p.trusts(host)
	if forwarded := r.Header.Values("X-Forwarded-For"); trusted && len(forwarded) > 0 {
		list := strings.Split(forwarded[len(forwarded)-1], ",") // the last one is what the proxy itself has seen
		if addr, err := netip.ParseAddr(strings.TrimSpace(list[len(list)-1])); err == nil {
			by.from = addr.String()
		}
	}
	switch name := r.Header.Get(p.userHeader); {
	case s.Portal:
		by.actor = strings.TrimSpace("portal link " + s.Link)
	case trusted && p.userHeader != "" && name != "":
		by.actor = strings.Map(func(c rune) rune {
			if c < ' ' || c == 0x7f {
				return -1
			}
			return c
		}, topic.Clip(name, maxActor))
	}
	return by
}

// trusts says whether the address is that of a proxy whose word counts.
func (p *panel) trusts(host string) bool {
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	for _, prefix := range p.trusted {
		if prefix.Contains(addr.Unmap()) {
			return true
		}
	}
	return false
}

// changed records a change of a subscription, by what was stored and what is; where the two mean the same it records nothing.
func (p *panel) changed(by caller, account, id string, was, is []byte) {
	kind, detail, changed := subscriptions.Difference(p.parsed(account, id, was), p.parsed(account, id, is))
	if changed {
		p.record(by, &topic.EndpointEvent{Kind: string(kind), Account: account, Subscription: id, Detail: detail})
	}
}

// parsed is a stored subscription; nil where there is none. One that is not valid is known by what can be read of it.
func (p *panel) parsed(account, id string, data []byte) *subscriptions.Subscription {
	if data == nil {
		return nil
	}
	return p.reader().ReviewStored(account, id, data, time.Now()).Subscription
}

// record writes one line of the log, and has one endpoint event written.
func (p *panel) record(by caller, e *topic.EndpointEvent) {
	e.Actor, e.From = by.actor, by.from
	p.log.Info("change", zap.String("kind", e.Kind), zap.String("account", e.Account), zap.String("subscription", e.Subscription),
		zap.String("detail", e.Detail), zap.String("actor", e.Actor), zap.String("from", e.From))
	if p.Tell != nil {
		p.Tell(*e)
	}
}
