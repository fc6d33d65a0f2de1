package dispatcher

import (
	"bytes"
	"errors"
	"sync"
	"time"

	"fanout/dispatcher/egress"
	"fanout/dispatcher/post"
)

// exchangeFunc is post.Client.Do.
type exchangeFunc func(t *egress.Target, head, body []byte, deadline time.Time, resp *post.Response) error

// exchange is the memory of one attempt, used again for the next.
type exchange struct {
	head []byte
	resp post.Response
}

//nolint:gochecknoglobals // a pool is meant to be shared
var exchanges = sync.Pool{New: func() any { return new(exchange) }}

// Trace is the W3C trace context of a request: its traceparent and tracestate headers, empty where there is none. Both
// go into the request as they are, so they hold no line end.
type Trace struct{ Parent, State string }

// Tracer begins the span of each attempt: a child of the delivery's own Trace, which is its producer's and stays so
// through retries and replays. It gives the Trace that the receiver is told, and end, which is called once, with the
// attempt's outcome; where nobody records the span it gives the delivery's own Trace. Neither may block.
// host is the receiver's name or address, without what else the URL holds.
type Tracer interface {
	Attempt(del *Delivery, host string, port uint16, begun time.Time) (send Trace, end func(Outcome))
}

// attempt makes one POST and says what it led to.
func (d *Dispatcher) attempt(req *request, del *Delivery, now time.Time) Outcome {
	if req.blocked != "" {
		return blockedOutcome(req)
	}
	x, _ := exchanges.Get().(*exchange)
	defer exchanges.Put(x)
	trace, end := del.trace(), func(Outcome) {}
	if d.tracer != nil {
		trace, end = d.tracer.Attempt(del, req.target.Host, req.target.Port, now)
	}
	x.head = req.appendHead(x.head[:0], del, trace, now.Unix())
	x.resp.Status, x.resp.RetryAfter = 0, ""
	err := d.post(&req.target, x.head, del.Body, now.Add(d.cfg.Delivery.Timeout), &x.resp)
	took := time.Since(now)
	d.metrics.attempts.Observe(took.Seconds())
	out := d.verdict(del, err, &x.resp, now.Add(took))
	out.Took = took
	if out.Attempted = !canceled(err) && out.Reason != BlockedDestination; out.Attempted && out.Result != Delivered {
		out.Response = bytes.Clone(x.resp.Body)
	}
	end(out)
	return out
}

func canceled(err error) bool {
	e, ok := errors.AsType[*post.Error](err)
	return ok && e.Kind == post.Canceled
}
