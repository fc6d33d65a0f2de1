package dispatcher_test

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"fanout/dispatcher"
	"fanout/dispatcher/post"
)

// Every status, with every kind of Retry-After, at every position of the schedule.
func TestVerdictOfEveryStatus(t *testing.T) {
	cfg := config().Delivery
	cfg.PermanentStatuses = []int{410, 422}
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	asked := []struct {
		header string
		wait   time.Duration
	}{
		{"", 0},
		{"0", 0},
		{"1", time.Second},
		{"20", 20 * time.Second},
		{"7200", 2 * time.Hour},
		{"999999999", 24 * time.Hour},
		{"99999999999999999999999999", 24 * time.Hour},
		{now.Add(time.Hour).Format(http.TimeFormat), time.Hour},
		{now.Add(-time.Hour).Format(http.TimeFormat), 0},
		{now.Add(48 * time.Hour).Format(http.TimeFormat), 24 * time.Hour},
		{"soon", 0},
		{"-5", 0},
		{"1.5", 2 * time.Second},
		{strconv.FormatInt(now.Add(time.Hour).Unix(), 10), time.Hour},
	}
	for status := range 1000 {
		for _, a := range asked {
			for attempts := range len(cfg.Schedule) + 3 {
				del := &dispatcher.Delivery{Attempts: attempts}
				out := dispatcher.Verdict(&cfg, del, nil, &post.Response{Status: status, RetryAfter: a.header}, now)
				want := dispatcher.Outcome{Result: dispatcher.Retry, Reason: dispatcher.StatusFailed, Status: status}
				cause, hold := dispatcher.StatusFailed, time.Duration(0)
				if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
					hold = a.wait // it speaks for the receiver, not for this delivery alone
				}
				switch {
				case status >= 200 && status <= 299:
					want = dispatcher.Outcome{Result: dispatcher.Delivered, Status: status}
					cause, hold = dispatcher.NoReason, 0
				case slices.Contains(cfg.PermanentStatuses, status):
					want.Result, want.Reason = dispatcher.Dead, dispatcher.PermanentStatus
					if status == http.StatusGone {
						want.Reason = dispatcher.Gone
					}
					cause, hold = dispatcher.NoReason, 0
				case attempts >= len(cfg.Schedule):
					want.Result, want.Reason = dispatcher.Dead, dispatcher.AttemptsExhausted
				default:
					want.NotBefore = now.Add(max(cfg.Schedule[attempts], a.wait))
				}
				gotCause, gotHold := out.Learned()
				if out.Result != want.Result || out.Reason != want.Reason || out.Status != status || !out.NotBefore.Equal(want.NotBefore) || gotCause != cause || gotHold != hold {
					t.Fatalf("status %d, Retry-After %q, %d attempts: %+v (cause %q, hold %s), want %+v (cause %q, hold %s)",
						status, a.header, attempts, out, gotCause, gotHold, want, cause, hold)
				}
				if (out.Result == dispatcher.Delivered) != (out.Detail == "") {
					t.Fatalf("status %d: %+v", status, out)
				}
			}
		}
	}
}

func TestVerdictOfEveryError(t *testing.T) {
	cfg := config().Delivery
	now := time.Now()
	reasons := map[post.Kind]dispatcher.Reason{
		post.Timeout: dispatcher.Timeout, post.DNS: dispatcher.DNS, post.Connect: dispatcher.Connect, post.TLS: dispatcher.TLS,
		post.Connection: dispatcher.Connection, post.Blocked: dispatcher.BlockedDestination, post.Canceled: dispatcher.Shutdown,
	}
	for kind, reason := range reasons {
		for attempts := range len(cfg.Schedule) + 2 {
			out := dispatcher.Verdict(&cfg, &dispatcher.Delivery{Attempts: attempts}, &post.Error{Kind: kind, Detail: "why\r\nso"}, &post.Response{}, now)
			cause, _ := out.Learned()
			want := dispatcher.Retry
			switch {
			case kind == post.Blocked:
				want = dispatcher.Dead
			case kind == post.Canceled:
				want = dispatcher.Deferred
			case attempts >= len(cfg.Schedule):
				want, reason = dispatcher.Dead, dispatcher.AttemptsExhausted
			default:
				if !out.NotBefore.Equal(now.Add(cfg.Schedule[attempts])) {
					t.Errorf("%s: not before %s", kind, out.NotBefore)
				}
			}
			if out.Result != want || out.Reason != reason {
				t.Errorf("%s after %d attempts: %+v", kind, attempts, out)
			}
			if learned := kind != post.Blocked && kind != post.Canceled; (cause != dispatcher.NoReason) != learned || learned && cause != reasons[kind] {
				t.Errorf("%s: learned %q", kind, cause)
			}
			if strings.ContainsAny(out.Detail, "\r\n") {
				t.Errorf("%s: detail %q", kind, out.Detail)
			}
		}
	}
	out := dispatcher.Verdict(&cfg, &dispatcher.Delivery{}, errors.New("dial tcp 10.1.2.3: "+strings.Repeat("x", 2000)), &post.Response{}, now)
	if out.Reason != dispatcher.Connection || len(out.Detail) > 512 || strings.Contains(out.Detail, "10.1.2.3") {
		t.Errorf("a foreign error: %+v", out)
	}
}
