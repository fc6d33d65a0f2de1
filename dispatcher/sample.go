package dispatcher

import (
	"bytes"
	"context"
	"crypto/rand"
	"strings"
	"time"

	"fanout/dispatcher/post"
	"fanout/event"
	"fanout/subscriptions"
)

// TestResult is what a test event led to.
type TestResult struct {
	Request  string // the request as it was, or would have been, sent; secrets and own header values are masked
	Sent     bool   // a request was made, or tried; else Detail says why not
	Result   Result
	Reason   Reason
	Status   int // 0 where none came
	Took     time.Duration
	Detail   string
	Response []byte // at most 1 KiB
}

// Test sends one signed sample event to the subscription, in one attempt, whatever the state of its lane, paused or
// disabled too. It needs no Run, and counts in no metric. It takes no longer than delivery.timeout and ctx allow; it
// begins nothing once ctx is done, whose error it then returns.
func (d *Dispatcher) Test(ctx context.Context, sub *subscriptions.Subscription, name event.Name) (TestResult, error) {
	if err := ctx.Err(); err != nil {
		return TestResult{}, context.Cause(ctx)
	}
	if invalid := sub.Invalid(); invalid != "" {
		return TestResult{Result: Dead, Reason: InvalidSubscription, Detail: clip(invalid)}, nil
	}
	req := newRequest(sub, d.rules, d.cfg.UserAgent)
	if req.blocked != "" {
		out := blockedOutcome(req)
		return TestResult{Result: out.Result, Reason: out.Reason, Detail: out.Detail}, nil
	}
	now := time.Now()
	del := sample(sub, name, now)
	deadline := now.Add(d.cfg.Delivery.Timeout)
	if by, ok := ctx.Deadline(); ok && by.Before(deadline) {
		deadline = by
	}
	head := req.appendHead(nil, &del, del.trace(), now.Unix())
	var resp post.Response
	err := d.post(&req.target, head, del.Body, deadline, &resp)
	took := time.Since(now)
	out := d.verdict(&del, err, &resp, now.Add(took))
	return TestResult{
		Request: maskHead(head, sub) + string(del.Body), Sent: out.Reason != BlockedDestination,
		Result: out.Result, Reason: out.Reason, Status: out.Status, Took: took, Detail: out.Detail, Response: bytes.Clone(resp.Body),
	}, nil
}

// sample is a delivery that says it is a test. Its webhook-id is new each time: receivers drop what they have seen.
func sample(sub *subscriptions.Subscription, name event.Name, now time.Time) Delivery {
	ev := event.Event{
		Account: sub.Account(), Name: name, ID: "fanout-test-" + rand.Text(),
		TrackingID: "test-tracking-id", NotificationID: "test-notification", UserID: "test-user",
	}
	return Delivery{
		ID: WebhookID(&ev, Origin{}, sub.ID()), Account: ev.Account, Subscription: sub.ID(), Event: name,
		Body: Body(&ev), FirstSeen: now,
	}
}

// Request is the request head and body of the delivery's next attempt, made at the time now, with the subscription's
// header values masked. Where nothing may be sent, it is empty and the second value says why.
func (d *Dispatcher) Request(sub *subscriptions.Subscription, del *Delivery, now time.Time) (text, blocked string) {
	req := newRequest(sub, d.rules, d.cfg.UserAgent)
	if req.blocked != "" {
		return "", req.blocked
	}
	return maskHead(req.appendHead(nil, del, del.trace(), now.Unix()), sub) + string(del.Body), ""
}

// Curl is the delivery's next attempt, made at the time now, as a command for a POSIX shell. It holds the values of
// the subscription's own headers only if reveal says so. Where nothing may be sent, it is empty and the second value
// says why.
func (d *Dispatcher) Curl(sub *subscriptions.Subscription, del *Delivery, now time.Time, reveal bool) (command, blocked string) {
	req := newRequest(sub, d.rules, d.cfg.UserAgent)
	if req.blocked != "" {
		return "", req.blocked
	}
	head := string(req.appendHead(nil, del, del.trace(), now.Unix()))
	if !reveal {
		head = maskHead([]byte(head), sub)
	}
	var b strings.Builder
	b.WriteString("curl -i -X POST " + shellQuote(sub.URL()))
	lines := strings.Split(strings.TrimSuffix(head, "\r\n\r\n"), "\r\n")
	for _, line := range lines[1:] {
		if name, _, _ := strings.Cut(line, ":"); name != "Host" && name != "Content-Length" { // curl's own
			b.WriteString(" \\\n  -H " + shellQuote(line))
		}
	}
	b.WriteString(" \\\n  --data-binary " + shellQuote(string(del.Body)))
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
