package dispatcher

import (
	"bytes"
	"strconv"

	"fanout/dispatcher/egress"
	"fanout/dispatcher/webhook"
	"fanout/subscriptions"
)

// request is what all POSTs of one subscription have in common. It is immutable.
type request struct {
	target  egress.Target
	blocked string // why nothing may be sent there; empty otherwise
	prefix  []byte // the request line and the headers that never change
	signer  *webhook.Signer
}

func newRequest(sub *subscriptions.Subscription, rules *egress.Rules, userAgent string) *request {
	r := &request{}
	target, err := rules.ParseURL(sub.URL())
	if err != nil {
		r.blocked = err.Error()
		return r
	}
	r.target = target
	var space [512]byte // on the stack: what is kept is as long as it has to be
	b := append(space[:0], "POST "...)
	b = append(b, target.Path...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, target.HostHeader...)
	b = append(b, "\r\nUser-Agent: "...)
	b = append(b, userAgent...)
	b = append(b, "\r\nContent-Type: application/json\r\nAccept-Encoding: identity\r\n"...)
	for _, h := range sub.Headers() {
		b = append(b, h.Name...)
		b = append(b, ": "...)
		b = append(b, h.Value...)
		b = append(b, "\r\n"...)
	}
	r.prefix = bytes.Clone(b)
	r.signer = webhook.NewSigner(sub.Secrets())
	return r
}

// appendHead appends the whole request head of one attempt at the time unix, in seconds.
func (r *request) appendHead(b []byte, del *Delivery, trace Trace, unix int64) []byte {
	b = append(b, r.prefix...)
	b = append(b, "webhook-id: "...)
	b = append(b, del.ID...)
	b = append(b, "\r\nwebhook-timestamp: "...)
	b = strconv.AppendInt(b, unix, 10)
	before := len(b)
	b = append(b, "\r\nwebhook-signature: "...)
	signed := len(b)
	if b = r.signer.AppendSignature(b, del.ID, unix, del.Body); len(b) == signed {
		b = b[:before] // no secret, no header
	}
	if trace.Parent != "" {
		b = append(b, "\r\ntraceparent: "...)
		b = append(b, trace.Parent...)
		if trace.State != "" {
			b = append(b, "\r\ntracestate: "...)
			b = append(b, trace.State...)
		}
	}
	b = append(b, "\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(del.Body)), 10)
	return append(b, "\r\n\r\n"...)
}
