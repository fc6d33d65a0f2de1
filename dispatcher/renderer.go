package dispatcher

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"fanout/egress"
	"fanout/subscriptions"
	"fanout/webhook"
)

// Renderer writes the requests of deliveries: for the wire, and as text and commands for people. It needs the egress
// rules and the User-Agent, and sends nothing. It is safe for concurrent use.
type Renderer struct {
	rules     *egress.Rules
	userAgent string
}

// NewRenderer makes a Renderer under the rules of cfg; an error says which of them cannot be read.
func NewRenderer(cfg egress.Config, userAgent string) (*Renderer, error) {
	rules, err := egress.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("egress: %w", err)
	}
	return &Renderer{rules: rules, userAgent: userAgent}, nil
}

// Request is the request head and body of the delivery's next attempt, made at the time now, with the subscription's
// header values masked. Where nothing may be sent, it is empty and the second value says why.
func (r *Renderer) Request(sub *subscriptions.Subscription, del *Delivery, now time.Time) (text, blocked string) {
	req := r.request(sub)
	if req.blocked != "" {
		return "", req.blocked
	}
	head, body := req.render(del, now)
	return maskHead(head, sub) + string(body), ""
}

// render is the head and the body of the delivery's next attempt. Where the subscription asks for batches, it is one of one.
func (r *request) render(del *Delivery, now time.Time) (head, body []byte) {
	if r.batch.Max == 0 {
		return r.appendHead(nil, del.ID, del.Body, del.trace(), now.Unix()), del.Body
	}
	one := []*Delivery{del}
	body = appendBatch(nil, one)
	return r.appendHead(nil, batchID(one), body, Trace{}, now.Unix()), body
}

// Curl is the delivery's next attempt, made at the time now, as a command for a POSIX shell. It holds the values of
// the subscription's own headers only if reveal says so. Where nothing may be sent, it is empty and the second value
// says why.
func (r *Renderer) Curl(sub *subscriptions.Subscription, del *Delivery, now time.Time, reveal bool) (command, blocked string) {
	req := r.request(sub)
	if req.blocked != "" {
		return "", req.blocked
	}
	rendered, body := req.render(del, now)
	head := string(rendered)
	if !reveal {
		head = maskHead(rendered, sub)
	}
	var b strings.Builder
	b.WriteString("curl -i -X POST " + shellQuote(sub.URL()))
	lines := strings.Split(strings.TrimSuffix(head, "\r\n\r\n"), "\r\n")
	for _, line := range lines[1:] {
		if name, _, _ := strings.Cut(line, ":"); name != "Host" && name != "Content-Length" { // curl's own
			b.WriteString(" \\\n  -H " + shellQuote(line))
		}
	}
	b.WriteString(" \\\n  --data-binary " + shellQuote(string(body)))
	return b.String(), ""
}

// shellQuote quotes text for a POSIX shell.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// maskHead is a request head with the values of the subscription's own headers masked, which may be credentials.
func maskHead(head []byte, sub *subscriptions.Subscription) string {
	text := string(head)
	for _, h := range sub.Headers() {
		text = strings.Replace(text, "\r\n"+h.Name+": "+h.Value+"\r\n", "\r\n"+h.String()+"\r\n", 1)
	}
	return text
}

// request is what all POSTs of one subscription have in common. It is immutable.
type request struct {
	target  egress.Target
	blocked string // why nothing may be sent there; empty otherwise
	prefix  []byte // the request line and the headers that never change
	signer  *webhook.Signer
	batch   subscriptions.Batch // Max is 0 where each delivery goes out by itself
}

// request makes what the subscription's POSTs have in common.
func (r *Renderer) request(sub *subscriptions.Subscription) *request {
	req := &request{batch: sub.Batch()}
	target, err := r.rules.ParseStoredURL(sub.Account(), sub.URL())
	if err != nil {
		req.blocked = err.Error()
		return req
	}
	req.target = target
	var space [512]byte // on the stack: what is kept is as long as it has to be
	b := append(space[:0], "POST "...)
	b = append(b, target.Path...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, target.HostHeader...)
	b = append(b, "\r\nUser-Agent: "...)
	b = append(b, r.userAgent...)
	b = append(b, "\r\nContent-Type: application/json\r\nAccept-Encoding: identity\r\n"...)
	headers := sub.Headers()
	if !slices.ContainsFunc(headers, func(h subscriptions.Header) bool { return strings.EqualFold(h.Name, "accept") }) {
		b = append(b, "Accept: */*\r\n"...) // some servers answer 406 where it is missing
	}
	for _, h := range headers {
		b = append(b, h.Name...)
		b = append(b, ": "...)
		b = append(b, h.Value...)
		b = append(b, "\r\n"...)
	}
	req.prefix = bytes.Clone(b)
	req.signer = webhook.NewSigner(sub.Secrets())
	return req
}

// appendHead appends the whole request head of one attempt at the time unix, in seconds. id is its webhook-id.
func (r *request) appendHead(b []byte, id string, body []byte, trace Trace, unix int64) []byte {
	b = append(b, r.prefix...)
	b = append(b, "webhook-id: "...)
	b = append(b, id...)
	b = append(b, "\r\nwebhook-timestamp: "...)
	b = strconv.AppendInt(b, unix, 10)
	before := len(b)
	b = append(b, "\r\nwebhook-signature: "...)
	signed := len(b)
	if b = r.signer.AppendSignature(b, id, unix, body); len(b) == signed {
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
	b = strconv.AppendInt(b, int64(len(body)), 10)
	return append(b, "\r\n\r\n"...)
}
