package dispatcher

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fanout/dispatcher/post"
	"fanout/dispatcher/reach"
	"fanout/egress"
)

// Exchange makes HTTP exchanges; a post.Client does.
type Exchange interface {
	// Do sends a request and fills resp with the answer. It returns by the deadline, with a *post.Error where no status came.
	Do(t *egress.Target, head, body []byte, deadline time.Time, resp *post.Response) error
	// Close breaks off what is in flight, and all that begins later: Do then fails with post.Canceled.
	Close()
}

// sender makes attempts. It is safe for concurrent use.
type sender struct {
	cfg      *DeliveryConfig
	exchange Exchange
	tracer   Tracer // nil: none
	seconds  prometheus.Observer
	sizes    prometheus.Observer // of batches
	network  *reach.Monitor      // nil: every failure is the receiver's
	stopping chan struct{}       // closed when no failure is worth a wait any more
}

// buffers is the memory of one attempt, used again for the next.
type buffers struct {
	head []byte
	body []byte // of a batch
	resp post.Response
}

//nolint:gochecknoglobals // a pool is meant to be shared
var bufferPool = sync.Pool{New: func() any { return new(buffers) }}

// Trace is the W3C trace context of a request: its traceparent and tracestate headers, empty where there is none. Both
// go into the request as they are, so they hold no line end.
type Trace struct{ Parent, State string }

// Tracer begins the span of each attempt: a child of the delivery's own Trace, which is its producer's and stays so
// through retries and replays. It gives the Trace that the receiver is told, and end, which is called once, with the
// attempt's outcome; where nobody records the span it gives the delivery's own Trace. Neither may block.
// host is the receiver's name or address, without what else the URL holds.
type Tracer interface {
	Attempt(del *Delivery, host string, port uint16, begun time.Time) (send Trace, end func(Outcome))

	// Batch is Attempt for several deliveries in one POST, which has the webhook-id id. Its span is nobody's child, and linked
	// to each delivery's own Trace. Where nobody records it, the Trace is empty.
	Batch(members []*Delivery, id, host string, port uint16, begun time.Time) (send Trace, end func(Outcome))
}

// attempt makes one POST, begun at the time begun, and says what it led to.
func (s *sender) attempt(req *request, del *Delivery, begun time.Time) Outcome {
	if req.blocked != "" {
		return settlement(del, BlockedDestination, req.blocked)
	}
	x, _ := bufferPool.Get().(*buffers)
	defer bufferPool.Put(x)
	trace, end := del.trace(), func(Outcome) {}
	if s.tracer != nil {
		trace, end = s.tracer.Attempt(del, req.target.Host, req.target.Port, begun)
	}
	took, err := s.post(req, x, del, del.ID, del.Body, trace, begun)
	out := verdict(s.cfg, del, err, &x.resp, begun.Add(took))
	if s.isOurs(&req.target, del, begun, err, &x.resp) {
		out = Outcome{Result: Deferred, Reason: Network, Detail: out.Detail, ours: true}
		end(out)
		return out
	}
	out.Took = took
	if out.Attempted = !canceled(err) && out.Reason != BlockedDestination; out.Attempted && (out.Result != Delivered || del.Stage == stageTest) {
		out.Response = bytes.Clone(x.resp.Body)
	}
	end(out)
	return out
}

// post sends a request with that webhook-id and body, for a delivery that stands for all in it, and fills x.resp with the answer.
func (s *sender) post(req *request, x *buffers, del *Delivery, id string, body []byte, trace Trace, begun time.Time) (took time.Duration, err error) {
	x.head = req.appendHead(x.head[:0], id, body, trace, begun.Unix())
	x.resp.Status, x.resp.RetryAfter = 0, ""
	deadline := begun.Add(s.cfg.Timeout)
	if del.Stage == stageTest {
		deadline = asTest(del).begin(x.head, body, deadline)
	}
	err = s.exchange.Do(&req.target, x.head, body, deadline, &x.resp)
	took = time.Since(begun)
	s.seconds.Observe(took.Seconds())
	return took, err
}

// isOurs reports whether an attempt that was begun at the time begun failed because of a fault of our own. Where that has to be
// found out, it waits, for three seconds at most. Whoever wants to see what a test event leads to is told at once.
func (s *sender) isOurs(t *egress.Target, del *Delivery, begun time.Time, err error, resp *post.Response) bool {
	if s.network == nil || err == nil && !resp.Resolved && !resp.Proxied {
		return false
	}
	place := reach.Place{Account: strings.Clone(del.Account), Host: t.Host, Rooted: t.Rooted, Port: t.Port, TLS: t.TLS, Opened: t.Opened}
	if resp.Resolved {
		s.network.Worked(reach.DNS, place, begun)
	}
	e, failed := errors.AsType[*post.Error](err)
	if resp.Proxied && (!failed || e.Cause != reach.Proxy) {
		s.network.Worked(reach.Proxy, place, begun)
	}
	return failed && del.Stage != stageTest && s.network.Ours(e.Cause, place, begun, s.stopping)
}

func canceled(err error) bool {
	e, ok := errors.AsType[*post.Error](err)
	return ok && e.Kind == post.Canceled
}
