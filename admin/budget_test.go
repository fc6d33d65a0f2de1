package admin_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"fanout/admin"
)

// Forty pages of an account that has no dead letter read everybody's 400 000 at once. Now two are read at a time, and an
// operator's has its own place.
func TestScansAreFewAtATimeAndOperatorsHaveTheirOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := admin.NewBudgets()
		var held []func()
		for range 2 {
			release, err := b.Scan(t.Context(), "acme")
			must(t, err)
			held = append(held, release)
		}
		if _, err := b.Scan(t.Context(), "acme"); err == nil {
			t.Error("an account has three scans at once")
		}
		if _, err := b.Scan(t.Context(), "globex"); err == nil { // it waits in vain
			t.Error("the portals have three scans at once")
		}
		gone, leave := context.WithCancel(t.Context())
		leave()
		if _, err := b.Scan(gone, "globex"); err == nil {
			t.Error("somebody who has gone away gets a scan")
		}
		for range 2 {
			release, err := b.Scan(t.Context(), "")
			must(t, err)
			defer release()
		}
		held[0]()
		release, err := b.Scan(t.Context(), "globex")
		must(t, err)
		release()
		held[1]()
	})
}

func TestManyScansThroughOnePortal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	base := w.link("acme")
	var asking sync.WaitGroup
	for range 40 {
		asking.Go(func() {
			if a := w.do("GET", base+"/dead-letters", "", anonymous); a.status != 200 && a.status != 429 {
				t.Errorf("a page of dead letters = %d", a.status)
			}
		})
	}
	asking.Wait()
	w.want(200, "GET", "/api/v1/dead-letters", "")
}

// A portal link made 1 000 webhooks in 18 s, and with 100 000 in an account its page took over a minute.
func TestWebhooksOfAnAccountAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	for i := range 99 {
		w.redis.HSet("fanout:account:acme", fmt.Sprintf("hook-%03d", i), `{"url":"https://example.com/","events":["*"]}`)
	}
	must(t, w.dir.Refresh(t.Context(), "acme"))
	put := func(status int, id string) {
		t.Helper()
		w.want(status, "PUT", acme+"/"+id, `{"url":"https://example.com/","events":["*"]}`)
	}
	put(201, "one-more")
	put(409, "too-many")
	put(200, "one-more")
	base := w.link("acme")
	save := url.Values{"action": {"save"}, "id": {"too-many"}, "url": {"https://example.com/"}, "event": {"EMAIL_OPEN"}}.Encode()
	if a := w.do("POST", base+"/settings/events-webhook?new=1", save, anonymous, form); a.status == 303 || !strings.Contains(string(a.body), "which is the limit") {
		t.Errorf("one more through the portal = %d %s", a.status, a.body)
	}
	w.want(204, "DELETE", acme+"/one-more", "")
	put(201, "too-many")
	var many []string
	for i := range 20_000 {
		many = append(many, "more-"+strconv.Itoa(i), `{"url":"https://example.com/","events":["*"]}`)
	}
	w.redis.HSet("fanout:account:acme", many...)
	if page := w.page(200, acmeSettings); len(page) > 100_000 || !strings.Contains(page, "20000 webhooks more") {
		t.Errorf("with 20 100 webhooks the settings have %d bytes", len(page))
	}
}

func TestWhatAPortalLinkMayCost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	w.put("acme", "a")
	base := w.link("acme")
	post := func(values url.Values) answer {
		return w.do("POST", base+"/settings/events-webhook?id=a", values.Encode(), anonymous, form)
	}
	sent, tooMany := 0, false
	for range 50 { // it would take minutes for the budget to grow by so many
		a := post(url.Values{"action": {"test"}, "id": {"a"}})
		if tooMany = a.status == http.StatusTooManyRequests; tooMany {
			break
		}
		sent++
	}
	if sent < 10 || !tooMany {
		t.Errorf("%d test events were sent at once, and one more refused: %t", sent, tooMany)
	}
	w.want(200, "POST", acme+"/a/test", "") // the operator's are not counted
	refused := false
	for range 200 {
		if refused {
			break
		}
		refused = post(url.Values{"action": {"rotate"}, "id": {"a"}, "hours": {"0"}, "sure": {"1"}}).status == http.StatusTooManyRequests
	}
	if !refused {
		t.Error("two hundred rotations at once, and none was refused")
	}
	// A link doubled the dead letters with each round of these.
	for name, value := range map[string]string{"again": "1", "maxFailures": "0", "rate": "1000000"} {
		values := url.Values{"which": {"all"}, "do": {"start"}, "rate": {"50"}, "maxFailures": {"100"}, "name": {"greedy"}}
		values.Set(name, value)
		if a := w.do("POST", base+"/dead-letters/replay", values.Encode(), anonymous, form); a.status != 422 {
			t.Errorf("a replay with %s=%s = %d", name, value, a.status)
		}
	}
	page := w.page(200, base+"/dead-letters/replay?which=all", anonymous)
	if strings.Contains(page, `name="again"`) || !strings.Contains(page, `max="50" value="50"`) {
		t.Errorf("the portal offers %s", page)
	}
}

// Test events told a customer which of our addresses answer, and how.
func TestCustomersAreToldNoInternalError(t *testing.T) {
	t.Parallel()
	for _, one := range []struct {
		reason, detail         string
		status                 int
		wantReason, wantDetail string
	}{
		{"connect", "dial tcp 127.0.0.1:28400: connect: connection refused", 0, "cannot be reached", ""},
		{"dns", "no such host", 0, "cannot be reached", ""},
		{"tls", "first record does not look like a TLS handshake", 0, "cannot be reached", ""},
		{"connection", "EOF", 0, "cannot be reached", ""},
		{"timeout", "no answer in 10s", 0, "cannot be reached", ""},
		{"blocked_destination", "the address is not public", 0, "not allowed", ""},
		{"status", "503 Service Unavailable", 503, "status", "503 Service Unavailable"},
		{"attempts_exhausted", "dial tcp 10.0.0.1:80", 0, "attempts_exhausted", ""},
		{"attempts_exhausted", "whatever", 500, "attempts_exhausted", "last answer: HTTP 500"},
	} {
		if reason, detail := admin.Discreet(one.reason, one.detail, one.status); reason != one.wantReason || detail != one.wantDetail {
			t.Errorf("%s, %q is told as %s, %q", one.reason, one.detail, reason, detail)
		}
	}
	w := newWorld(t, token)
	w.put("acme", "a")
	base := w.link("acme")
	address := strings.TrimPrefix(w.recv.URL, "http://")
	w.recv.Close()
	_, page := w.follow(base+"/settings/events-webhook?id=a", url.Values{"action": {"test"}, "id": {"a"}}, anonymous)
	if !strings.Contains(page, "cannot be reached") || strings.Contains(page, "dial") || strings.Contains(page, "refused") {
		t.Errorf("a test event to %s tells %s", address, page)
	}
}
