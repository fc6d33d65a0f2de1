package admin_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"fanout/admin"
)

// Who may enter.
const (
	anybody   = "anybody"   // no token, no link
	operators = "operators" // whoever has the token or a session
	holders   = "holders"   // whoever has opened a link: of its own account, and to look only where it is read-only
)

// reach is every route of every listener, and who may enter. A route that is not here fails the test; one that is here and
// not there is to come (docs/contract.md#api).
//

var reach = map[string]string{
	"operators GET /healthz": anybody, "operators GET /readyz": anybody, "operators GET /assets/": anybody,
	"operators GET /sign-in": anybody, "operators POST /sign-in": anybody, "operators GET /sign-out": anybody, "operators POST /sign-out": anybody,

	"operators GET /metrics": operators, "operators GET /debug/pprof/": operators, "operators GET /debug/pprof/profile": operators,
	"operators GET /debug/pprof/trace": operators, "operators GET /debug/pprof/symbol": operators, "operators POST /debug/pprof/symbol": operators,

	"operators /api/": operators,
	"operators GET /api/v1/accounts/{}/subscriptions": operators, "operators GET /api/v1/accounts/{}/subscriptions/{}": operators,
	"operators PUT /api/v1/accounts/{}/subscriptions/{}": operators, "operators DELETE /api/v1/accounts/{}/subscriptions/{}": operators,
	"operators POST /api/v1/accounts/{}/subscriptions/{}/test": operators, "operators POST /api/v1/accounts/{}/subscriptions/{}/rotate-secret": operators,
	"operators GET /api/v1/accounts/{}/subscriptions/{}/attempts": operators, "operators POST /api/v1/accounts/{}/subscriptions/{}/release": operators,
	"operators GET /api/v1/accounts/{}/portal-links": operators, "operators POST /api/v1/accounts/{}/portal-links": operators,
	"operators DELETE /api/v1/accounts/{}/portal-links/{}": operators, "operators POST /api/v1/subscriptions/accept": operators,
	"operators GET /api/v1/dead-letters": operators, "operators POST /api/v1/replays": operators, "operators GET /api/v1/replays/{}": operators,
	"operators DELETE /api/v1/replays/{}": operators, "operators GET /api/v1/status": operators, "operators GET /api/v1/lanes": operators,
	"operators GET /api/v1/tail": operators, "operators GET /api/v1/openapi.json": operators, "operators GET /api/v1/explain": operators,
	"operators GET /api/v1/deliveries": operators, "operators GET /api/v1/deliveries/{}": operators, "operators POST /api/v1/deliveries/{}/resend": operators,
	"operators POST /api/v1/backfills": operators, "operators GET /api/v1/backfills/{}": operators, "operators DELETE /api/v1/backfills/{}": operators,
	"operators GET /api/v1/top": operators, "operators GET /api/v1/instances": operators,

	"operators GET /{$}": operators, "operators GET /accept": operators, "operators POST /accept": operators, "operators GET /settings": operators,
	"operators GET /settings/events-webhook": operators, "operators POST /settings/events-webhook": operators, "operators GET /endpoints": operators,
	"operators GET /endpoints/show": operators, "operators GET /dead-letters": operators, "operators GET /dead-letters/show": operators,
	"operators POST /endpoints/show": operators, "operators GET /endpoints/backfill": operators, "operators POST /endpoints/backfill": operators,
	"operators GET /backfills/{}": operators, "operators GET /backfills/{}/cancel": operators, "operators POST /backfills/{}/cancel": operators,
	"operators GET /became": operators, "operators GET /verdict": operators, "operators GET /explain": operators, "operators GET /deliveries": operators, "operators GET /deliveries/show": operators,
	"operators GET /deliveries/resend": operators, "operators POST /deliveries/resend": operators,
	"operators GET /dead-letters/replay": operators, "operators POST /dead-letters/replay": operators, "operators GET /replays/{}": operators,
	"operators GET /replays/{}/cancel": operators, "operators POST /replays/{}/cancel": operators, "operators /": operators,

	"portal GET /assets/": anybody, "portal GET /assets/portal-logo": anybody, "portal GET /assets/portal.css": anybody, "portal /": anybody, "portal /portal/": anybody,
	"portal GET /portal/{}": holders, "portal GET /portal/{}/{$}": holders, "portal /portal/{}/": holders, "portal GET /portal/{}/settings": holders,
	"portal GET /portal/{}/settings/events-webhook": holders, "portal POST /portal/{}/settings/events-webhook": holders,
	"portal GET /portal/{}/endpoints": holders, "portal GET /portal/{}/endpoints/show": holders, "portal POST /portal/{}/endpoints/show": holders,
	"portal GET /portal/{}/api/v1/deliveries": holders, "portal GET /portal/{}/api/v1/stream": holders, "portal GET /portal/{}/became": holders, "portal GET /portal/{}/verdict": holders, "portal GET /portal/{}/deliveries": holders,
	"portal GET /portal/{}/deliveries/show": holders, "portal GET /portal/{}/deliveries/resend": holders, "portal POST /portal/{}/deliveries/resend": holders,
	"portal GET /portal/{}/dead-letters": holders, "portal GET /portal/{}/dead-letters/show": holders,
	"portal GET /portal/{}/dead-letters/replay": holders, "portal POST /portal/{}/dead-letters/replay": holders,
	"portal GET /portal/{}/endpoints/backfill": holders, "portal POST /portal/{}/endpoints/backfill": holders,
	"portal GET /portal/{}/backfills/{}": holders, "portal GET /portal/{}/backfills/{}/cancel": holders, "portal POST /portal/{}/backfills/{}/cancel": holders,
	"portal GET /portal/{}/replays/{}": holders, "portal GET /portal/{}/replays/{}/cancel": holders, "portal POST /portal/{}/replays/{}/cancel": holders,
}

var wildcard = regexp.MustCompile(`\{[^$}][^}]*\}`)

// caller is somebody at the door, and the link under whose paths they ask.
type caller struct {
	name string
	base string
	as   func(*http.Request)
}

// callers are all kinds of them.
func (w *world) callers() []caller {
	w.t.Helper()
	full, fullCookie := w.enter(w.makeLink("acme", ""))
	look, lookCookie := w.enter(w.makeLink("acme", `{"kind":"read-only"}`))
	expired := w.makeLink("acme", `{"expiresInSeconds":1}`)
	gone, goneCookie := w.enter(expired)
	made := w.makeLink("acme", "")
	revoked, revokedCookie := w.enter(made)
	w.want(204, "DELETE", "/api/v1/accounts/acme/portal-links/"+made["id"].(string), "")
	_, foreign := w.enter(w.makeLink("globex", ""))
	w.until("the link's end", func() bool { return w.portal("GET", gone+"/endpoints", carryingOnly(goneCookie)).status == 404 })
	bearer, _, _ := strings.Cut(strings.TrimPrefix(made["url"].(string), w.portalBase+"/portal/"), "/")
	return []caller{
		{"nobody", full, carryingOnly()},
		{"a link", full, carryingOnly(fullCookie)},
		{"a read-only link", look, carryingOnly(lookCookie)},
		{"an expired link", gone, carryingOnly(goneCookie)},
		{"a revoked link", revoked, carryingOnly(revokedCookie)},
		{"another account's link", full, carryingOnly(foreign)},
		{"a link as a token", full, func(r *http.Request) {
			carryingOnly()(r)
			r.Header.Set("Authorization", "Bearer "+bearer)
		}},
		{"the operator", full, func(r *http.Request) { r.Header.Del("Cookie") }},
	}
}

// portal asks the portal's own listener.
func (w *world) portal(method, path string, as func(*http.Request)) answer {
	w.t.Helper()
	return w.doAt(w.portalBase, method, path, "", form, as)
}

func TestEveryRouteOfEveryListenerForEveryCaller(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, token, func(cfg *admin.Config) {
		cfg.Portal.Listen, cfg.Portal.Logo, cfg.Portal.Color = "127.0.0.1:0", inFile(t, "logo.svg", []byte(svg)), "#0f766e"
	})
	w.put("acme", "a")
	callers := w.callers()
	for _, pattern := range w.admin.Patterns() {
		who, ok := reach[wildcard.ReplaceAllString(pattern, "{}")]
		if !ok {
			t.Errorf("%s: who may enter? It has no row in the table", pattern)
			continue
		}
		listener, method, path := split(pattern)
		if strings.Contains(path, "pprof/profile") || strings.Contains(path, "pprof/trace") || strings.HasSuffix(path, "/tail") || strings.HasSuffix(path, "/stream") {
			path += "?seconds=1&limit=0" // else the operator waits for them
		}
		for _, c := range callers {
			at := strings.Replace(path, "/portal/{link}", c.base, 1)
			at = concrete(wildcard.ReplaceAllString(strings.Replace(at, "{$}", "", 1), "r1"))
			if listener == "portal" {
				w.checkPortal(pattern, who, c, w.portal(method, at, c.as), method)
				continue
			}
			if c.name != "the operator" || who == anybody || !strings.Contains(at, "pprof") {
				w.checkOperators(pattern, who, c, w.doAt(w.base, method, at, "", form, c.as))
			}
			// Nothing of the operators' is reachable at the portal.
			if who == operators {
				if a := w.portal(method, at, c.as); a.status != 404 && a.status != 405 {
					t.Errorf("%s at the portal's listener for %s = %d", pattern, c.name, a.status)
				}
			}
		}
	}
	// And nothing of the portal is left at the operators' listener.
	for _, c := range callers[1:3] {
		if a := w.doAt(w.base, "GET", c.base+"/endpoints", "", c.as); a.status != 401 && !strings.HasPrefix(a.header.Get("Location"), "/sign-in?") {
			t.Errorf("the portal at the operators' listener for %s = %d", c.name, a.status)
		}
	}
}

func split(pattern string) (listener, method, path string) {
	listener, rest, _ := strings.Cut(pattern, " ")
	method, path, ok := strings.Cut(rest, " ")
	if !ok {
		return listener, "GET", rest
	}
	return listener, method, path
}

func (w *world) checkOperators(pattern, who string, c caller, a answer) {
	w.t.Helper()
	refused := a.status == 401 || a.status == 303 && strings.HasPrefix(a.header.Get("Location"), "/sign-in?")
	if want := who == operators && c.name != "the operator"; refused != want && !strings.HasSuffix(pattern, "POST /sign-in") {
		w.t.Errorf("%s for %s = %d %s", pattern, c.name, a.status, a.header.Get("Location"))
	}
}

func (w *world) checkPortal(pattern, who string, c caller, a answer, method string) {
	w.t.Helper()
	opened := a.status != 401 && !strings.Contains(string(a.body), "This link does not work")
	switch {
	case who == anybody:
		if strings.Contains(string(a.body), "acme") {
			w.t.Errorf("%s for %s shows an account", pattern, c.name)
		}
	case c.name == "a link" && (!opened || a.status == 403):
		w.t.Errorf("%s for %s = %d %s", pattern, c.name, a.status, a.body)
	case c.name == "a read-only link" && (!opened || (a.status == 403) != (method != "GET")):
		w.t.Errorf("%s for %s = %d %s", pattern, c.name, a.status, a.body)
	case c.name != "a link" && c.name != "a read-only link" && opened:
		w.t.Errorf("%s for %s = %d %s", pattern, c.name, a.status, a.body)
	}
}

func TestPublicAddressesSayWhatLinksBeginWith(t *testing.T) {
	t.Parallel()
	const long = "0123456789abcdef0123456789abcdef"
	w := newWorldOf(t, long, func(cfg *admin.Config) {
		cfg.PublicURL, cfg.Portal.PublicURL = "https://fanout.example", "https://hooks.example/"
		cfg.Portal.Listen, cfg.Portal.FrameAncestors = "127.0.0.1:0", []string{"https://app.example"}
	})
	made := w.makeLink("acme", "")
	url := made["url"].(string)
	if !strings.HasPrefix(url, "https://hooks.example/portal/") {
		t.Fatalf("the link is %s", url)
	}
	host := func(r *http.Request) { r.Host = "hooks.example" }
	a := w.portal("GET", strings.TrimPrefix(url, "https://hooks.example"), host)
	cookie, err := http.ParseSetCookie(a.header.Get("Set-Cookie"))
	must(t, err)
	if !cookie.Secure || !cookie.Partitioned || cookie.SameSite != http.SameSiteNoneMode || time.Until(cookie.Expires) < time.Hour {
		t.Errorf("the cookie for a frame is %v", cookie)
	}
	page := w.doAt(w.portalBase, "GET", a.header.Get("Location"), "", host, carryingOnly(cookie))
	if csp := page.header.Get("Content-Security-Policy"); page.status != 200 || !strings.HasSuffix(csp, "frame-ancestors https://app.example") || page.header.Get("X-Frame-Options") != "" {
		t.Errorf("the portal in a frame = %d %s", page.status, csp)
	}
	w.doAt(w.base, "GET", "/", "", func(r *http.Request) { r.Host = "fanout.example" })
	if a := w.doAt(w.portalBase, "GET", "/portal/x/", "", func(r *http.Request) { r.Host = "evil.example" }); a.status != 421 {
		t.Errorf("a foreign host = %d", a.status)
	}
}
