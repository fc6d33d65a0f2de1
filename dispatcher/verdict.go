package dispatcher

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"fanout/dispatcher/post"
)

// maxDetail bounds fanout-detail, in bytes.
const maxDetail = 512

// verdict turns what an attempt brought back into its outcome. It is pure.
func verdict(cfg *DeliveryConfig, del *Delivery, err error, resp *post.Response, now time.Time) Outcome {
	if err != nil {
		return failed(cfg, del, err, now)
	}
	return answered(cfg, del, resp, now)
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
		return Outcome{Result: Dead, Reason: reason, Status: status, Detail: statusDetail(resp, now)}
	}
	return answeredBadly(again(cfg, del, now, StatusFailed), resp, now)
}

// answeredBadly completes the outcome of an attempt whose answer has that status.
func answeredBadly(out Outcome, resp *post.Response, now time.Time) Outcome {
	status := resp.Status
	out.Status = status
	out.Detail = statusDetail(resp, now)
	if wait, ok := ParseRetryAfter(resp.RetryAfter, now); ok {
		if speaksForReceiver(status) {
			out.hold = wait
		}
		if at := now.Add(wait); out.Result == Retry && at.After(out.NotBefore) {
			out.NotBefore = at
		}
	}
	return out
}

// verdictInBatch is the outcome of a delivery that went out in a batch of n. It says what its next batch may not exceed.
func verdictInBatch(cfg *DeliveryConfig, del *Delivery, n int, err error, resp *post.Response, now time.Time) Outcome {
	out := verdict(cfg, del, err, resp, now)
	switch {
	case err != nil: // no answer: what the last one was still holds
		out.BatchMax, out.BatchRefused = del.BatchMax, del.BatchRefused
		return out
	case !refusesBatch(cfg, resp.Status):
		out.BatchMax = del.BatchMax
		return out
	case n > 1: // another delivery may be the one that is refused: nobody dies for it
		out = answeredBadly(againInBatch(cfg, del, now), resp, now)
	}
	out.BatchMax, out.BatchRefused = max(1, n/2), true
	return out
}

// refusesBatch says whether a status may mean one delivery of a batch only: a 4xx, or a status that is listed as permanent.
func refusesBatch(cfg *DeliveryConfig, status int) bool {
	switch {
	case status >= 200 && status <= 299 || status == http.StatusGone:
		return false
	case slices.Contains(cfg.PermanentStatuses, status):
		return true
	case tooLarge(status) || status == http.StatusRequestTimeout || status == http.StatusTooManyRequests:
		return false
	default:
		return status >= 400 && status <= 499
	}
}

func tooLarge(status int) bool { return status == http.StatusRequestEntityTooLarge }

// againInBatch is again where a batch was refused: a delivery that has no attempt left has one more, alone.
func againInBatch(cfg *DeliveryConfig, del *Delivery, now time.Time) Outcome {
	out := again(cfg, del, now, StatusFailed)
	if out.Result != Dead {
		return out
	}
	wait := time.Duration(0)
	if n := len(cfg.Schedule); n > 0 {
		wait = cfg.Schedule[n-1]
	}
	return Outcome{Result: Retry, Reason: StatusFailed, NotBefore: now.Add(wait), cause: StatusFailed}
}

// speaksForReceiver says whether a Retry-After with that status is about all requests, and not about this one alone.
func speaksForReceiver(status int) bool {
	return status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable
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
		return settlement(del, BlockedDestination, e.Detail)
	case post.Canceled:
		return settlement(del, Shutdown, "")
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
	out.Detail, out.lookup = Detail(e.Detail), e.Lookup
	return out
}

// again is the schedule: a retry after its next step, or the end.
func again(cfg *DeliveryConfig, del *Delivery, now time.Time, cause Reason) Outcome {
	if del.Attempts >= len(cfg.Schedule) {
		return Outcome{Result: Dead, Reason: AttemptsExhausted, cause: cause}
	}
	return Outcome{Result: Retry, Reason: cause, NotBefore: now.Add(cfg.Schedule[del.Attempts]), cause: cause}
}

// Detail is text as fanout-detail carries it: one line of at most 512 bytes, cut at a rune's end.
func Detail(s string) string {
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
