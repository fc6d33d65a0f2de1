package dispatcher_test

import (
	"strings"
	"testing"
	"time"

	"fanout/dispatcher"
	"fanout/dispatcher/post"
)

// TestStatusDetail says what a delivery's detail tells of an answer.
func TestStatusDetail(t *testing.T) {
	now := time.Date(2026, 1, 31, 8, 0, 0, 0, time.UTC)
	date := func(ahead time.Duration) string { return now.Add(ahead).Format("Mon, 02 Jan 2006 15:04:05 GMT") }
	const follow = "; redirects are not followed: set the URL to where it leads"
	for _, tt := range []struct {
		resp post.Response
		want string
	}{
		{post.Response{Status: 500}, "HTTP 500 Internal Server Error"},
		{post.Response{Status: 599}, "HTTP 599"},
		{post.Response{Status: 302}, "HTTP 302 Found"},
		{post.Response{Status: 302, Location: "https://u:p@www.example.com:8443/hooks%2Fa?token=secret#top"}, "HTTP 302 Found, which points to www.example.com:8443/hooks%2Fa" + follow},
		{post.Response{Status: 301, Location: "//www.example.com/hooks/"}, "HTTP 301 Moved Permanently, which points to www.example.com/hooks/" + follow},
		{post.Response{Status: 307, Location: "/login?next=/hooks"}, "HTTP 307 Temporary Redirect, which points to /login of the same host" + follow},
		{post.Response{Status: 308, Location: "?token=secret"}, "HTTP 308 Permanent Redirect"},
		{post.Response{Status: 308, Location: "http://[broken"}, "HTTP 308 Permanent Redirect"},
		{post.Response{Status: 401, Date: date(-7*time.Minute - 20*time.Second)}, "HTTP 401 Unauthorized; the receiver's clock is 7 min behind ours, so it may refuse webhook-timestamp"},
		{post.Response{Status: 400, Date: date(time.Hour)}, "HTTP 400 Bad Request; the receiver's clock is 60 min ahead of ours, so it may refuse webhook-timestamp"},
		{post.Response{Status: 403, Date: date(2 * time.Minute)}, "HTTP 403 Forbidden; the receiver's clock is 2 min ahead of ours, so it may refuse webhook-timestamp"},
		{post.Response{Status: 401, Date: date(-119 * time.Second)}, "HTTP 401 Unauthorized"},
		{post.Response{Status: 401, Date: "yesterday"}, "HTTP 401 Unauthorized"},
		{post.Response{Status: 404, Date: date(-time.Hour)}, "HTTP 404 Not Found"},
	} {
		cfg := dispatcher.DeliveryConfig{Schedule: []time.Duration{time.Second}}
		if got := dispatcher.Verdict(&cfg, &dispatcher.Delivery{}, nil, &tt.resp, now).Detail; got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.resp, got, tt.want)
		}
		cfg.PermanentStatuses = []int{tt.resp.Status}
		if got := dispatcher.Verdict(&cfg, &dispatcher.Delivery{}, nil, &tt.resp, now).Detail; got != tt.want {
			t.Errorf("%+v, permanent: %q", tt.resp, got)
		}
	}
	long := post.Response{Status: 302, Location: "https://example.com/" + strings.Repeat("a", 2000)}
	if got := dispatcher.Verdict(&dispatcher.DeliveryConfig{}, &dispatcher.Delivery{}, nil, &long, now).Detail; len(got) > 512 {
		t.Errorf("%d bytes", len(got))
	}
}
