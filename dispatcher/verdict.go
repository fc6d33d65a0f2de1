package dispatcher

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"fanout/dispatcher/post"
)

// maxDetail bounds fanout-detail, in bytes.
const maxDetail = 512

// verdict turns what an attempt brought back into its outcome. It is pure.
func (d *Dispatcher) verdict(del *Delivery, err error, resp *post.Response, now time.Time) Outcome {
	if err != nil {
		return failed(&d.cfg.Delivery, del, err, now)
	}
	return answered(&d.cfg.Delivery, del, resp, now)
}

// answered is the outcome of an attempt that got a status.
func answered(cfg *DeliveryConfig, del *Delivery, resp *post.Response, now time.Time) Outcome {
	status := resp.Status
	switch {
	case status >= 200 && status <= 299:
		return Outcome{Result: Delivered, Status: status}
	case slices.Contains(cfg.PermanentStatuses, status):
		reason := PermanentStatus
		if status == http.StatusGone {
			reason = Gone
		}
		return Outcome{Result: Dead, Reason: reason, Status: status, Detail: statusText(status)}
	}
	out := again(cfg, del, now, StatusFailed)
	out.Status = status
	out.Detail = statusText(status)
	if wait, ok := post.ParseRetryAfter(resp.RetryAfter, now); ok {
		out.retryAfter = wait
		if at := now.Add(wait); out.Result == Retry && at.After(out.NotBefore) {
			out.NotBefore = at
		}
	}
	return out
}

// failed is the outcome of an attempt that got no status.
func failed(cfg *DeliveryConfig, del *Delivery, err error, now time.Time) Outcome {
	e, ok := errors.AsType[*post.Error](err)
	if !ok {
		e = &post.Error{Kind: post.Connection, Detail: "the exchange failed"}
	}
	reason := Connection
	switch e.Kind {
	case post.Blocked:
		return Outcome{Result: Dead, Reason: BlockedDestination, Detail: clip(e.Detail)}
	case post.Canceled:
		return shutdownOutcome(now)
	case post.Timeout:
		reason = Timeout
	case post.DNS:
		reason = DNS
	case post.Connect:
		reason = Connect
	case post.TLS:
		reason = TLS
	case post.Connection:
	}
	out := again(cfg, del, now, reason)
	out.Detail = clip(e.Detail)
	return out
}

// again is the schedule: a retry after its next step, or the end.
func again(cfg *DeliveryConfig, del *Delivery, now time.Time, cause Reason) Outcome {
	if del.Attempts >= len(cfg.Schedule) {
		return Outcome{Result: Dead, Reason: AttemptsExhausted, cause: cause}
	}
	return Outcome{Result: Retry, Reason: cause, NotBefore: now.Add(cfg.Schedule[del.Attempts]), cause: cause}
}

func goneOutcome() Outcome {
	return Outcome{
		Result: Dead, Reason: Gone, Status: http.StatusGone,
		Detail: "the receiver answered 410 Gone before; nothing is sent until the subscription's configuration changes",
	}
}

func shutdownOutcome(now time.Time) Outcome {
	return Outcome{Result: Deferred, Reason: Shutdown, NotBefore: now}
}

func blockedOutcome(req *request) Outcome {
	return Outcome{Result: Dead, Reason: BlockedDestination, Detail: clip(req.blocked)}
}

func statusText(status int) string {
	text := http.StatusText(status)
	if text == "" {
		return "HTTP " + strconv.Itoa(status)
	}
	return "HTTP " + strconv.Itoa(status) + " " + text
}

// clip shortens text to what a header may hold, at a rune's end, and makes it one line.
func clip(s string) string {
	s = strings.ToValidUTF8(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s), "�")
	if len(s) <= maxDetail {
		return s
	}
	return strings.ToValidUTF8(s[:maxDetail], "")
}
