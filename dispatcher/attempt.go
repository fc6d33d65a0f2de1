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

// attempt makes one POST and says what it led to.
func (d *Dispatcher) attempt(req *request, del *Delivery, now time.Time) Outcome {
	if req.blocked != "" {
		return blockedOutcome(req)
	}
	x, _ := exchanges.Get().(*exchange)
	defer exchanges.Put(x)
	x.head = req.appendHead(x.head[:0], del, now.Unix())
	x.resp.Status, x.resp.RetryAfter = 0, ""
	err := d.post(&req.target, x.head, del.Body, now.Add(d.cfg.Delivery.Timeout), &x.resp)
	took := time.Since(now)
	d.metrics.attempts.Observe(took.Seconds())
	out := d.verdict(del, err, &x.resp, now.Add(took))
	out.Took = took
	if out.Attempted = !canceled(err) && out.Reason != BlockedDestination; out.Attempted && out.Result != Delivered {
		out.Response = bytes.Clone(x.resp.Body)
	}
	return out
}

func canceled(err error) bool {
	e, ok := errors.AsType[*post.Error](err)
	return ok && e.Kind == post.Canceled
}
