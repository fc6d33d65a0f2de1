package admin_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"fanout/admin"
)

const token = "s3cret-token"

// form is what a browser sends from one of our pages.
func form(r *http.Request) {
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
}

func anonymous(r *http.Request) { r.Header.Del("Authorization") }

func with(cookie *http.Cookie) func(*http.Request) {
	return func(r *http.Request) {
		anonymous(r)
		r.AddCookie(cookie)
	}
}

// concrete fills a route's parameters.
func concrete(path string) string {
	return strings.NewReplacer("{account}", "acme", "{id}", "a", "{name}", "r1").Replace(path)
}

func TestEveryRouteNeedsTheToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	for _, route := range admin.Routes() {
		method, path, _ := strings.Cut(route, " ")
		for _, auth := range []string{"", "Bearer nope", "Basic " + token} {
			w.want(401, method, concrete(path), "", anonymous, func(r *http.Request) {
				if auth != "" {
					r.Header.Set("Authorization", auth)
				}
			})
		}
	}
	w.want(401, "GET", "/metrics", "", anonymous)
	for _, path := range []string{"/", "/settings/events-webhook?account=acme", "/endpoints", "/endpoints/show", "/dead-letters", "/dead-letters/show", "/replays/r1", "/nothing"} {
		if a := w.want(303, "GET", path, "", anonymous); !strings.HasPrefix(a.header.Get("Location"), "/sign-in?next=") {
			t.Errorf("%s sends to %s", path, a.header.Get("Location"))
		}
	}
	for _, path := range []string{"/accept", "/settings/events-webhook?account=acme", "/dead-letters/replay", "/replays/r1/cancel"} {
		w.want(401, "POST", path, "", anonymous, form)
	}
	for _, path := range []string{"/healthz", "/readyz", "/sign-in", "/assets/app.css"} {
		w.want(200, "GET", path, "", anonymous)
	}
	w.want(404, "GET", "/assets/", "", anonymous)
	w.want(404, "GET", "/assets/layout.html", "", anonymous)
}

func TestSignInAndSignOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	sign := func(want int, secret, next string) answer {
		return w.want(want, "POST", "/sign-in", url.Values{"token": {secret}, "next": {next}}.Encode(), anonymous, form)
	}
	for next, to := range map[string]string{
		"/endpoints?q=x": "/endpoints?q=x", "": "/", "//evil.example": "/", "https://evil.example/": "/", `/\evil.example`: "/", "javascript:alert(1)": "/",
	} {
		if got := sign(303, token, next).header.Get("Location"); got != to {
			t.Errorf("after signing in for %q one is sent to %q, want %q", next, got, to)
		}
	}
	a := sign(303, token, "/")
	cookies, err := http.ParseSetCookie(a.header.Get("Set-Cookie"))
	must(t, err)
	if !cookies.HttpOnly || cookies.SameSite != http.SameSiteStrictMode || cookies.Path != "/" || cookies.MaxAge <= 0 || strings.Contains(cookies.Value, token) {
		t.Errorf("the cookie is %s", a.header.Get("Set-Cookie"))
	}
	w.want(200, "GET", "/", "", with(cookies))
	w.want(200, "GET", "/api/v1/status", "", with(cookies))
	forged := *cookies
	forged.Value = "eyJpZCI6IngiLCJleHAiOjk5OTk5OTk5OTl9." + strings.SplitN(cookies.Value, ".", 2)[1]
	w.want(401, "GET", "/api/v1/status", "", with(&forged))
	w.want(303, "POST", "/sign-out", "", with(cookies), form)
	w.want(401, "GET", "/api/v1/status", "", with(cookies))
}

// What was: 5 057 guesses a second at the API, none counted or logged; and at the form a stranger behind the same ingress
// locked the operators out.
func TestWrongTokensAreThrottledAndCountedAndTheRightOneEntersAlways(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	sign := func(secret string) answer {
		return w.do("POST", "/sign-in", url.Values{"token": {secret}}.Encode(), anonymous, form)
	}
	guess := func() answer {
		return w.do("GET", "/api/v1/status", "", func(r *http.Request) { r.Header.Set("Authorization", "Bearer guess") })
	}
	refused := 0
	for range 80 {
		for _, a := range []answer{guess(), sign("guess")} {
			switch {
			case a.status == 429 && a.header.Get("Retry-After") != "":
				refused++
			case a.status != 401:
				t.Fatalf("a wrong token = %d %s", a.status, a.body)
			}
		}
		w.want(200, "GET", "/api/v1/status", "")
	}
	if refused == 0 {
		t.Error("a hundred and sixty wrong tokens, and none was told to come later")
	}
	if a := sign(token); a.status != 303 {
		t.Errorf("the right token after a hundred and sixty wrong ones = %d", a.status)
	}
	metrics := string(w.want(200, "GET", "/metrics", "").body)
	for _, line := range []string{`fanout_admin_wrong_tokens_total{door="api"} 80`, `fanout_admin_wrong_tokens_total{door="form"} 80`} {
		if !strings.Contains(metrics, line) {
			t.Errorf("no %s", line)
		}
	}
	w.want(401, "GET", "/api/v1/status", "", anonymous)
	if after := string(w.want(200, "GET", "/metrics", "").body); !strings.Contains(after, `{door="api"} 80`) {
		t.Error("a request without a token counts as a guess")
	}
}

func TestCrossOriginWritesAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	const good = `{"url":"https://example.com/","events":["*"]}`
	for _, bad := range []func(*http.Request){
		func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
		func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") },
		func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") },
		func(r *http.Request) { r.Header.Set("Origin", "null") },
	} {
		for _, route := range admin.Routes() {
			if method, path, _ := strings.Cut(route, " "); method != "GET" {
				w.want(403, method, concrete(path), good, bad)
			}
		}
		for _, path := range []string{"/sign-in", "/sign-out", "/accept", "/settings/events-webhook?account=acme", "/dead-letters/replay", "/replays/x/cancel"} {
			w.want(403, "POST", path, "", bad)
		}
	}
	w.want(201, "PUT", acme+"/a", good, func(r *http.Request) { r.Header.Set("Origin", w.base) })
	w.want(421, "GET", "/", "", func(r *http.Request) { r.Host = "evil.example" })
	w.want(421, "PUT", acme+"/a", good, func(r *http.Request) { r.Host = "evil.example:8080" })
}

func TestHeadersOfEveryAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	for _, path := range []string{"/", "/sign-in", "/nothing", "/api/v1/status", "/api/v1/nothing", "/healthz", "/metrics", "/portal/x/", "/assets/app.js"} {
		a := w.do("GET", path, "")
		csp := a.header.Get("Content-Security-Policy")
		if !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || !strings.Contains(csp, "frame-ancestors 'none'") {
			t.Errorf("%s: Content-Security-Policy %q", path, csp)
		}
		if a.header.Get("X-Content-Type-Options") != "nosniff" || a.header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: %v", path, a.header)
		}
		if got := a.header.Get("Cache-Control"); got != "no-store" && !strings.HasPrefix(path, "/assets/") {
			t.Errorf("%s: Cache-Control %q", path, got)
		}
		if strings.Contains(a.header.Get("Content-Type"), "html") {
			for _, inline := range []string{"<script>", " onclick=", " onload=", " style=", "<style", "javascript:"} {
				if strings.Contains(string(a.body), inline) {
					t.Errorf("%s has inline %q", path, inline)
				}
			}
		}
	}
}

func TestNothingStoredBecomesMarkup(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	const evil = `"'><script>alert(1)</script><img src=x onerror=alert(2)>{{.}}`
	escaped := strings.ReplaceAll(evil, `"`, `\"`)
	account := url.PathEscape("acme" + evil)
	w.redis.HSet("fanout:account:acme"+evil, "a", `{"url":"`+w.recv.URL+`/?`+escaped+`","events":["*"],"description":"`+escaped+`","headers":{"x-evil":"`+escaped+`"},"own":"`+escaped+`"}`)
	w.redis.HSet("fanout:account:acme"+evil, "b", `{"url":"`+escaped+`","events":["`+escaped+`"],"headers":{"`+escaped+`":"x"}}`)
	w.redis.HSet("fanout:account:acme"+evil, evil, `{"url":"https://example.com/","events":["*"]}`)
	must(t, w.dir.Refresh(t.Context(), "acme"+evil))
	w.recv.answers(500, evil)
	_, err := w.kafka.Send(t.Context(), "channel.email", nil, []byte(evil), nil) // malformed
	must(t, err)
	w.send("channel.email", "acme"+evil, "EMAIL", "OPEN", evil)
	w.until("dead letters", func() bool { return w.do("GET", "/api/v1/dead-letters", "").json(t)["matched"].(float64) >= 2 })

	q := url.QueryEscape("acme" + evil)
	paths := []string{
		"/", "/endpoints", "/endpoints?q=" + q, "/endpoints/show?account=" + q + "&id=a", "/dead-letters", "/dead-letters?account=" + q + "&subscription=" + q + "&from=" + q,
		"/settings/events-webhook?account=" + q, "/settings/events-webhook?account=" + q + "&id=a", "/settings/events-webhook?account=" + q + "&id=b", "/settings/events-webhook?account=" + q + "&id=" + url.QueryEscape(evil),
		"/sign-in?next=" + q, "/nothing" + account, "/replays/" + url.PathEscape(evil),
	}
	for _, l := range w.do("GET", "/api/v1/dead-letters", "").json(t)["deadLetters"].([]any) {
		paths = append(paths, "/dead-letters/show?at="+url.QueryEscape(l.(map[string]any)["position"].(string)))
	}
	seen := false
	check := func(what string, a answer) {
		body := string(a.body)
		seen = seen || strings.Contains(body, "alert(1)")
		if strings.Contains(body, "<script>alert") || strings.Contains(body, "<img src=x") {
			t.Errorf("%s lets markup through", what)
		}
		if strings.Contains(body, escaped) || a.status == 500 {
			t.Errorf("%s = %d shows it raw: %s", what, a.status, body)
		}
	}
	for _, path := range paths {
		check(path, w.do("GET", path, ""))
	}
	for _, values := range []url.Values{
		{"action": {"save"}, "id": {evil}, "url": {evil}, "event": {evil}, "description": {evil}, "headers": {evil + ": " + evil}, "maxInFlight": {evil}, "maxPerSecond": {evil}},
		{"action": {"test"}, "id": {"a"}, "sample": {"EMAIL_OPEN"}},
		{"action": {evil}},
	} {
		check("POST "+values.Get("action"), w.do("POST", "/settings/events-webhook?account="+q, values.Encode(), form))
	}
	check("replay", w.do("POST", "/dead-letters/replay", url.Values{"which": {"all"}, "account": {evil}, "reason": {evil}}.Encode(), form))
	if !seen {
		t.Error("no page showed the text at all")
	}
}

func TestNoPageShowsASecretOrHeaderValue(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	const secret = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"
	w.want(201, "PUT", acme+"/a", fmt.Sprintf(`{"url":"%s/a","events":["*"],"secrets":[%q],"headers":{"authorization":"hush-hush"}}`, w.recv.URL, secret))
	w.recv.answers(500, "no")
	w.open("t-1", "acme")
	w.until("a dead letter", func() bool { return w.do("GET", "/api/v1/dead-letters", "").json(t)["matched"] == 1.0 })
	w.want(422, "PUT", acme+"/a", fmt.Sprintf(`{"url":"%s/a","events":[],"secrets":["%s","whsec_hush-hush"]}`, w.recv.URL, secret))
	var answers []answer
	for _, path := range []string{
		"/", "/endpoints", "/endpoints/show?account=acme&id=a", "/dead-letters", "/dead-letters/show?at=0/0", "/dead-letters/show?at=1/0", "/settings/events-webhook?account=acme",
		acme, acme + "/a", acme + "/a/attempts", "/api/v1/status", "/api/v1/lanes", "/api/v1/dead-letters", "/metrics", "/readyz",
	} {
		answers = append(answers, w.do("GET", path, ""))
	}
	values := url.Values{"action": {"test"}, "id": {"a"}}
	answers = append(answers, w.do("POST", acme+"/a/test", ""), w.do("POST", "/settings/events-webhook?account=acme", values.Encode(), form))
	for _, a := range answers {
		if body := string(a.body); strings.Contains(body, secret[6:]) || strings.Contains(body, "hush-hush") {
			t.Errorf("a secret shows in %s", body)
		}
	}
	if got := w.recv.got[0].header.Get("Authorization"); got != "hush-hush" {
		t.Errorf("the receiver got %q", got)
	}
}

func TestPortalOpensOneAccountOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	for _, account := range []string{"acme", "globex"} {
		w.want(201, "PUT", "/api/v1/accounts/"+account+"/subscriptions/"+account+"-hook", fmt.Sprintf(`{"url":"%s/%s","events":["*"],"description":"of %s"}`, w.recv.URL, account, account))
	}
	w.recv.answers(410, "")
	w.open("t-acme", "acme")
	w.open("t-globex", "globex")
	w.until("two dead letters", func() bool { return w.do("GET", "/api/v1/dead-letters", "").json(t)["matched"] == 2.0 })
	at := map[string]string{}
	for _, l := range w.do("GET", "/api/v1/dead-letters", "").json(t)["deadLetters"].([]any) {
		one := l.(map[string]any)
		at[one["account"].(string)] = one["position"].(string)
	}
	w.want(202, "POST", "/api/v1/replays", `{"name":"of-globex","account":"globex"}`)

	created := w.makeLink("acme", `{"expiresInSeconds":3600}`)
	bearer := strings.TrimSuffix(strings.TrimPrefix(created["url"].(string), w.base+"/portal/"), "/")
	base, cookie := w.enter(created)
	page := func(status int, path string) answer {
		t.Helper()
		return w.want(status, "GET", base+path, "", anonymous)
	}
	post := func(path string, values url.Values) answer {
		t.Helper()
		return w.do("POST", base+path, values.Encode(), anonymous, form)
	}

	// Its own things.
	for path, want := range map[string]string{
		"/settings/events-webhook": "acme-hook", "/endpoints": "acme-hook", "/endpoints/show?id=acme-hook": "acme-hook", "/dead-letters": at["acme"], "/dead-letters/show?at=" + at["acme"]: "t-acme",
	} {
		if body := string(page(200, path).body); !strings.Contains(body, want) {
			t.Errorf("%s does not show %q", path, want)
		}
	}
	// Nothing of another account, whatever the request names.
	foreign := "account=globex&id=globex-hook&subscription=globex-hook&q=globex&new=1"
	for _, path := range []string{"/settings/events-webhook?", "/endpoints?", "/dead-letters?account=globex&"} {
		if body := string(page(200, path+foreign).body); strings.Contains(body, "of globex") || strings.Contains(body, w.recv.URL+"/globex") || strings.Contains(body, at["globex"]+`"`) {
			t.Errorf("portal %s shows another account's", path)
		}
	}
	page(404, "/endpoints/show?"+foreign)
	page(404, "/endpoints/show?live=1&id=acme-hook2")
	page(404, "/dead-letters/show?at="+at["globex"])
	page(404, "/replays/of-globex")
	before := w.redis.HGet("fanout:account:globex", "globex-hook")
	for _, action := range []string{"save", "delete", "test", "rotate", "retire", "undo", "link", "revoke"} {
		a := post("/settings/events-webhook?"+foreign, url.Values{"action": {action}, "account": {"globex"}, "id": {"globex-hook"}, "url": {w.recv.URL}, "event": {"EMAIL_OPEN"}, "link": {"x"}})
		if action == "link" || action == "revoke" {
			if a.status != 403 {
				t.Errorf("portal %s = %d, want 403", action, a.status)
			}
		}
	}
	if got := w.redis.HGet("fanout:account:globex", "globex-hook"); got != before {
		t.Errorf("a portal of acme changed globex: %s", got)
	}
	for _, which := range []string{"selected", "all"} {
		q := url.Values{"which": {which}, "account": {"globex"}, "subscription": {"globex-hook"}, "id": {at["globex"]}}
		a := page(200, "/dead-letters/replay?"+q.Encode())
		if !strings.Contains(string(a.body), "<b>0</b> would be sent") {
			t.Errorf("a portal of acme plans to replay globex's (%s): %s", which, a.body)
		}
	}
	if a := post("/replays/of-globex/cancel", nil); a.status != 404 {
		t.Errorf("cancel = %d", a.status)
	}
	// A portal link is not a token, and opens nothing of the operator's.
	for _, route := range admin.Routes() {
		method, path, _ := strings.Cut(route, " ")
		w.want(401, method, concrete(path), "", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+bearer) })
		w.want(401, method, concrete(path), "", with(&http.Cookie{Name: "fanout_session", Value: bearer}))
		w.want(401, method, concrete(path), "", with(&http.Cookie{Name: "fanout_session", Value: cookie.Value}))
	}
	for _, path := range []string{"/", "/accept", "/metrics", "/api/v1/status"} {
		if a := w.do("GET", base+path, "", anonymous); a.status == 200 {
			t.Errorf("portal %s = 200", path)
		}
	}
	// Forged, of another key, expired, revoked.
	for _, forged := range []string{"x.y", bearer + "x", "eyJhY2NvdW50IjoiZ2xvYmV4IiwiaWQiOiJ4IiwiZXhwIjo5OTk5OTk5OTk5fQ." + strings.SplitN(bearer, ".", 2)[1], cookie.Value} {
		w.want(404, "GET", "/portal/"+forged+"/", "", anonymous)
		w.want(404, "GET", "/portal/"+forged+"/endpoints", "", anonymous)
		if forged != cookie.Value {
			w.want(404, "GET", base+"/endpoints", "", carryingOnly(&http.Cookie{Name: cookie.Name, Value: forged}))
		}
	}
	w.want(404, "GET", base+"/endpoints", "", carryingOnly(&http.Cookie{Name: cookie.Name, Value: bearer})) // a link is not a cookie
	w.want(401, "GET", base+"/endpoints", "", carryingOnly())
	w.want(422, "POST", "/api/v1/accounts/acme/portal-links", `{"expiresInSeconds":99999999,"kind":"any"}`)
	short, _ := w.enter(w.makeLink("acme", `{"expiresInSeconds":1}`))
	w.until("the link's end", func() bool { return w.do("GET", short+"/endpoints", "", anonymous).status == 404 })
	w.want(204, "DELETE", "/api/v1/accounts/globex/portal-links/"+created["id"].(string), "")
	page(200, "/endpoints") // it was not globex's
	w.want(204, "DELETE", "/api/v1/accounts/acme/portal-links/"+created["id"].(string), "")
	page(404, "/endpoints")
	w.want(404, "GET", "/portal/"+bearer+"/", "", anonymous)
	w.redis.SetError("LOADING")
	page(503, "/endpoints")
	w.want(503, "GET", "/portal/"+bearer+"/", "", anonymous)
}

// carryingOnly sends these cookies and no other one.
func carryingOnly(cookies ...*http.Cookie) func(*http.Request) {
	return func(r *http.Request) {
		anonymous(r)
		r.Header.Del("Cookie")
		for _, cookie := range cookies {
			r.AddCookie(cookie)
		}
	}
}

// The token was in every address for seven days, there was no list of links, and no kind that only looks.
func TestPortalLinksAreListedAndEachHasItsCookie(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	w.put("acme", "acme-hook")
	w.put("globex", "globex-hook")
	full, readOnly := w.makeLink("acme", ""), w.makeLink("acme", `{"kind":"read-only","expiresInSeconds":60}`)
	links := func() (ids []string) {
		for _, l := range w.want(200, "GET", "/api/v1/accounts/acme/portal-links", "").json(t)["portalLinks"].([]any) {
			one := l.(map[string]any)
			ids = append(ids, one["id"].(string)+" "+one["kind"].(string))
		}
		return ids
	}
	if got, want := links(), []string{full["id"].(string) + " full", readOnly["id"].(string) + " read-only"}; !slices.Equal(got, want) {
		t.Errorf("the links are %v, want %v", got, want)
	}
	if body := w.page(200, acmeSettings); !strings.Contains(body, full["id"].(string)) || strings.Contains(body, strings.TrimPrefix(full["url"].(string), w.base)) {
		t.Error("the settings do not list the links, or show what opens one")
	}
	base, cookie := w.enter(full)
	if !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || cookie.Path != base+"/" || cookie.Secure || strings.Contains(full["url"].(string), cookie.Value) {
		t.Errorf("the cookie is %v", cookie)
	}
	if page := w.page(200, base+"/endpoints", anonymous); strings.Contains(page, ".") && strings.Contains(page, strings.TrimPrefix(full["url"].(string), w.base+"/portal/")) {
		t.Error("the link's token is on the page")
	}
	// Two accounts side by side, each judged by the cookie of the id in the path.
	other, otherCookie := w.enter(w.makeLink("globex", ""))
	for at, want := range map[string]string{base: "acme-hook", other: "globex-hook"} {
		if page := w.page(200, at+"/endpoints", carryingOnly(cookie, otherCookie)); !strings.Contains(page, want) {
			t.Errorf("%s does not show %s", at, want)
		}
	}
	w.want(401, "GET", base+"/endpoints", "", carryingOnly(otherCookie))
	w.want(404, "GET", base+"/endpoints", "", carryingOnly(&http.Cookie{Name: cookie.Name, Value: otherCookie.Value}))
	// Changes come from a page of ours.
	save := url.Values{"action": {"save"}, "id": {"new"}, "url": {w.recv.URL}, "event": {"EMAIL_OPEN"}}.Encode()
	for _, from := range []func(*http.Request){
		func(*http.Request) {}, func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "none") },
	} {
		a := w.want(403, "POST", base+"/settings/events-webhook?new=1", save, anonymous, func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }, from)
		if w.redis.HGet("fanout:account:acme", "new") != "" {
			t.Errorf("a request of no page of ours has saved: %d", a.status)
		}
	}
	w.want(303, "POST", base+"/settings/events-webhook?new=1", save, anonymous, func(r *http.Request) {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", w.base)
	})
	// Through the read-only one: every page, nothing else.
	look, _ := w.enter(readOnly)
	_, shared := admin.PagePaths()
	for _, path := range shared {
		if a := w.do("POST", look+concrete(path), url.Values{"action": {"test"}, "id": {"acme-hook"}, "do": {"start"}}.Encode(), anonymous, form); a.status != 403 && a.status != 404 {
			t.Errorf("POST %s through a read-only link = %d", path, a.status)
		}
	}
	if page := w.page(200, look+"/settings/events-webhook?id=acme-hook", anonymous); strings.Contains(page, "<button class=\"primary\"") || !strings.Contains(page, "for looking only") {
		t.Errorf("a read-only link offers to change something: %s", page)
	}
	// Expired ones go, and there is an end to how many there may be.
	w.want(204, "DELETE", "/api/v1/accounts/acme/portal-links/"+readOnly["id"].(string), "")
	w.redis.HSet("fanout:portal:links:acme", "old", `{"kind":"full","expires":"2020-01-01T00:00:00Z"}`)
	for len(links()) < 100 {
		w.makeLink("acme", "")
	}
	w.want(409, "POST", "/api/v1/accounts/acme/portal-links", "")
	if w.redis.HGet("fanout:portal:links:acme", "old") != "" {
		t.Error("an expired link is still stored")
	}
}

func TestNoPortalWithoutToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.want(409, "POST", "/api/v1/accounts/acme/portal-links", "")
	w.want(404, "GET", "/portal/x.y/", "")
}
