package admin_test

import (
	"cmp"
	"fmt"
	"html"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"fanout/admin"
)

// odd are account ids that a page must survive: as long as they may be, in other scripts, and full of characters that
// mean something in HTML and in URLs.
func odd() []string {
	return []string{
		strings.Repeat("a", 256), "شركة-التوصيل/حساب-٤٢", "株式会社ファンアウト 東京支社", strings.Repeat("株", 85), `"><b>x</b>&account=y#z?/%2F+é`,
	}
}

// asBrowser asks as a person's browser does.
func asBrowser(r *http.Request) { r.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8") }

// page asks for a page, and checks that it is a whole one.
func (w *world) page(status int, path string, change ...func(*http.Request)) string {
	w.t.Helper()
	a := w.do("GET", path, "", append(change, asBrowser)...)
	w.checkPage("GET "+path, a, status)
	return string(a.body)
}

func (w *world) checkPage(what string, a answer, status int) {
	w.t.Helper()
	body := string(a.body)
	if a.status != status || a.header.Get("Content-Type") != "text/html; charset=utf-8" {
		w.t.Errorf("%s = %d %s, want a page with status %d: %s", what, a.status, a.header.Get("Content-Type"), status, body)
		return
	}
	if !strings.HasPrefix(body, "<!doctype html>") || !strings.HasSuffix(body, "</html>") {
		w.t.Errorf("%s is not a whole page: %s", what, body)
	}
	checkText(w.t, what, body)
}

// checkText looks for what a template leaves where something went wrong.
func checkText(t *testing.T, what, body string) {
	t.Helper()
	for _, wrong := range []string{"ZgotmplZ", "&lt;no value&gt;", "<no value>", "%!", "&lt;nil&gt;"} {
		if strings.Contains(body, wrong) {
			t.Errorf("%s contains %q", what, wrong)
		}
	}
}

// livePart asks for what the page at path renews.
func (w *world) livePart(path string, change ...func(*http.Request)) {
	w.t.Helper()
	sep := "?"
	if strings.Contains(path, "?") {
		sep = "&"
	}
	a := w.do("GET", path+sep+"live=1", "", change...)
	if a.status != 200 || strings.Contains(string(a.body), "<html") || len(a.body) == 0 {
		w.t.Errorf("the live part of %s = %d %s", path, a.status, a.body)
	}
	checkText(w.t, "the live part of "+path, string(a.body))
}

// link opens a portal for an account, and returns what its paths begin with.
func (w *world) link(account string) string {
	w.t.Helper()
	base, _ := w.enter(w.makeLink(account, ""))
	return base
}

// makeLink makes a portal link.
func (w *world) makeLink(account, ask string) (made map[string]any) {
	w.t.Helper()
	return w.want(201, "POST", "/api/v1/accounts/"+url.PathEscape(account)+"/portal-links", ask).json(w.t)
}

// enter opens a link as a browser does, and keeps its cookie for what is asked of the portal from then on.
func (w *world) enter(made map[string]any) (base string, cookie *http.Cookie) {
	w.t.Helper()
	link, err := url.Parse(made["url"].(string))
	must(w.t, err)
	a := w.doAt(w.portalBase, "GET", link.Path, "", anonymous)
	base = "/portal/" + made["id"].(string)
	if to := a.header.Get("Location"); to != base+"/settings/events-webhook" {
		w.t.Fatalf("an opened link goes on to %s", to)
	}
	cookie, err = http.ParseSetCookie(a.header.Get("Set-Cookie"))
	must(w.t, err)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.opened == nil {
		w.opened = map[string]*http.Cookie{}
	}
	w.opened[base] = cookie
	return base, cookie
}

// letter appends a dead letter whose headers say what they like.
func (w *world) letter(account, subscription, id string) (position string) {
	w.t.Helper()
	client := &kafka.Client{Addr: kafka.TCP(w.brokers...), Transport: &kafka.Transport{}}
	header := func(name, value string) kafka.Header {
		return kafka.Header{Key: "fanout-" + name, Value: []byte(value)}
	}
	res, err := client.Produce(w.t.Context(), &kafka.ProduceRequest{
		Topic: "fanout.dead-letter", Partition: 0, RequiredAcks: kafka.RequireAll,
		Records: kafka.NewRecordReader(kafka.Record{
			Time: time.Now(), Key: kafka.NewBytes([]byte(account + "/" + subscription)), Value: kafka.NewBytes([]byte(`{"eventType":"OPEN"}`)),
			Headers: []kafka.Header{
				header("webhook-id", id), header("account", account), header("subscription", subscription), header("event", "EMAIL_OPEN"),
				header("attempts", "8"), header("first-seen", "1700000000000"), header("origin", "channel.email/0/1"), header("reason", "expired"),
				header("status", "503"), header("detail", strings.Repeat("x", 300)), header("dead-at", "1700000000000"), header("replays", "2"), header("replay", strings.Repeat("r", 200)),
			},
		}),
	})
	must(w.t, err)
	must(w.t, res.Error)
	return fmt.Sprintf("0/%d", res.BaseOffset)
}

// addresses are all pages of a scope, each in the ways that it can be looked at. Every path that is registered must be
// among them.
func addresses(t *testing.T, portal bool, account, id, position, replay string) (pages, live []string) {
	t.Helper()
	operator, paths := admin.PagePaths()
	q := func(values ...string) string {
		v := url.Values{}
		for i := 0; i < len(values); i += 2 {
			v.Set(values[i], values[i+1])
		}
		return "?" + v.Encode()
	}
	if !portal {
		paths = append(operator, paths...)
	}
	for _, path := range paths {
		switch path {
		case "/{$}":
			live = append(live, "/")
		case "/settings/events-webhook":
			pages = append(pages, path, path+q("account", account), path+q("account", account, "id", id), path+q("account", account, "new", "1"), path+q("account", "nobody"))
		case "/endpoints":
			live = append(live, path, path+q("q", account[:3], "state", ""), path+q("q", "no such thing"), path+q("state", "invalid"))
		case "/endpoints/show":
			if id != "" {
				live = append(live, path+q("account", account, "id", id))
			}
		case "/endpoints/backfill":
			if id != "" {
				source := "channel.email"
				if portal { // a customer's list has them by number
					source = "1"
				}
				pages = append(pages, path+q("account", account, "id", id, "topic", source, "from", "2020-01-01T00:00"))
			}
		case "/explain":
			pages = append(pages, path) // TestExplain renders the others
		case "/deliveries":
			pages = append(pages, path, path+q("account", account, "subscription", id), path+q("q", "no such thing"), path+q("q", strings.Repeat("t", 256), "event", "EMAIL_OPEN", "outcome", "dead", "status", "503", "from", "2020-01-01T00:00"))
		case "/dead-letters":
			pages = append(pages, path, path+q("account", account), path+q("subscription", id, "reason", "expired"), path+q("account", "nobody", "from", "2020-01-01T00:00"))
		case "/dead-letters/show":
			if position != "" {
				pages = append(pages, path+q("at", position))
			}
		case "/dead-letters/replay":
			pages = append(pages, path+q("which", "all", "account", account), path+q("which", "selected", "id", cmp.Or(position, "0/0")), path+q("which", "all", "reason", "gone"))
		case "/replays/{name}":
			if replay != "" {
				live = append(live, "/replays/"+replay)
			}
		case "/settings", "/accept", "/replays/{name}/cancel", "/backfills/{name}/cancel", "/became", "/verdict": // they only redirect
		case "/backfills/{name}": // TestBackfillPages and TestPortalBackfill render it
		case "/deliveries/show", "/deliveries/resend": // TestDeliveryPages renders them
		default:
			t.Errorf("no test renders %s", path)
		}
	}
	return append(pages, live...), live
}

func (w *world) renderAll(portal bool, base, account, id, position, replay string) {
	w.t.Helper()
	var as []func(*http.Request)
	if portal {
		as = append(as, anonymous)
	}
	pages, live := addresses(w.t, portal, account, id, position, replay)
	for _, path := range pages {
		w.page(200, base+path, as...)
	}
	for _, path := range live {
		w.livePart(base+path, as...)
	}
}

func TestPagesOfAnEmptyInstance(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	w.renderAll(false, "", "acme", "", "", "")
	w.renderAll(true, w.link("acme"), "acme", "", "", "")
	// Somebody's first page, which was once an error.
	for path, want := range map[string]string{
		"/": "No events yet", "/endpoints": "There is no webhook yet.", "/endpoints?q=Nothing": "No webhook matches “<bdi>Nothing</bdi>”.", "/dead-letters": "There are no dead letters.",
		"/dead-letters?account=x": "No dead letter matches", "/settings/events-webhook": "Type an account",
	} {
		if body := w.page(200, path); !strings.Contains(body, want) {
			t.Errorf("%s does not say %q", path, want)
		}
	}
}

func TestPagesWithOddIdentifiers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	id := strings.Repeat("w", 64)
	w.recv.answers(410, strings.Repeat("gone ", 200))
	for _, account := range odd() {
		w.want(201, "PUT", "/api/v1/accounts/"+url.PathEscape(account)+"/subscriptions/"+id, fmt.Sprintf(`{"url":"%s/%s","events":["*"],"description":%q}`, w.recv.URL, strings.Repeat("path", 200), strings.Repeat("d", 1024)))
		w.open("t", account)
	}
	n := float64(len(odd()))
	w.until("a dead letter of each", func() bool { return w.do("GET", "/api/v1/dead-letters", "").json(t)["matched"] == n })
	for i, account := range odd() {
		// A dead letter can name what could be no subscription: anybody may write to the topic.
		position := w.letter(account, strings.Repeat("s", 256), "msg_"+strings.Repeat("m", 256))
		replay := fmt.Sprintf("replay-%d", i)
		w.want(202, "POST", "/api/v1/replays", fmt.Sprintf(`{"name":%q,"account":%s}`, replay, quoted(account)))
		w.renderAll(false, "", account, id, position, replay)
		w.renderAll(true, w.link(account), account, id, position, replay)
		w.want(204, "DELETE", "/api/v1/replays/"+replay, "")
		w.until("the replay's end", func() bool { return w.do("GET", "/api/v1/replays/"+replay, "").json(t)["state"] != "running" })

		for _, path := range []string{"/endpoints?q=" + url.QueryEscape(account), "/endpoints/show?id=" + id + "&account=" + url.QueryEscape(account), "/dead-letters/show?at=" + position} {
			if body := html.UnescapeString(w.page(200, path)); !strings.Contains(body, account) {
				t.Errorf("%s does not show the account %s", path, account)
			}
		}
		// The links between the pages lead to this account's webhook.
		list := w.page(200, "/endpoints?q="+url.QueryEscape(account))
		_, rest, _ := strings.Cut(list, `href="/endpoints/show?`)
		query, _, _ := strings.Cut(rest, `"`)
		if values, err := url.ParseQuery(html.UnescapeString(query)); err != nil || values.Get("account") != account || values.Get("id") != id {
			t.Errorf("the list links to %s, want account %q and id %s", query, account, id)
		}
	}
	if !strings.Contains(w.page(200, "/"), "started") {
		t.Error("the overview is not whole")
	}
}

func quoted(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}

// A subscription that Redis holds may be worse than any that the API lets through.
func TestPagesWithWhatRedisMayHold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	account := strings.Repeat("b", 256)
	for id, data := range map[string]string{
		strings.Repeat("i", 256): `{"url":"https://example.com/","events":["*"]}`, "no-json": "{", "no-url": `{"events":["EMAIL_OPEN"]}`, "bad-events": `{"url":"https://example.com/","events":["NOPE"]}`,
		"list": `[1,2]`, "odd-url": `{"url":"javascript:alert(1)","events":["*"],"headers":{"x":1}}`,
	} {
		w.redis.HSet("fanout:account:"+account, id, data)
	}
	must(t, w.dir.Refresh(t.Context(), account))
	w.renderAll(false, "", account, "no-url", "", "")
	for _, id := range []string{strings.Repeat("i", 256), "no-json", "bad-events", "list", "odd-url"} {
		w.page(200, "/settings/events-webhook?account="+account+"&id="+id)
	}
}

func TestSearchIgnoresCase(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	w.put("Acme-GmbH", "Orders")
	w.put("Ünal", "crm")
	for _, query := range []string{"acme", "ACME-g", "orders", "ORD", " Orders ", "üNAL"} {
		body := w.page(200, "/endpoints?q="+url.QueryEscape(query))
		if strings.Contains(body, "No webhook matches") {
			t.Errorf("nothing is found for %q", query)
		}
	}
	if body := w.page(200, w.link("Acme-GmbH")+"/endpoints?q=oRd", anonymous); !strings.Contains(body, "Orders") {
		t.Error("the portal does not find a webhook by its name in other letters")
	}
	if body := w.page(200, w.link("Acme-GmbH")+"/endpoints?q=crm", anonymous); !strings.Contains(body, "No webhook matches") {
		t.Error("the portal does not filter")
	}
}

func TestErrorsOfPagesArePages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	portal := w.link("acme")
	for path, status := range map[string]int{
		"/nothing": 404, "/endpoints/show?account=a&id=b": 404, "/dead-letters/show?at=0/9": 404, "/dead-letters/show?at=x": 404, "/replays/none": 404,
		"/dead-letters?from=yesterday": 422, "/dead-letters?reason=none": 422, "/dead-letters/replay?which=selected": 422, "/dead-letters/replay?which=all&rate=fast&maxFailures=x&from=x": 422,
		"/endpoints?%zz": 400, "/endpoints?live=1&%zz": 400,
	} {
		w.page(status, path)
		w.page(status, portal+path, anonymous)
	}
	w.page(404, "/portal/x.y/endpoints", anonymous)
	w.page(404, "/portal/", anonymous)
	if body := w.page(404, portal+"/nothing", anonymous); !strings.Contains(body, "There is no such page.") || !strings.Contains(body, portal+"/endpoints") {
		t.Errorf("a wrong path of a portal link that works says %s", body)
	}

	// Before the pages: another origin, another host, too large, signed out.
	post := func(status int, path, body string, change ...func(*http.Request)) {
		t.Helper()
		w.checkPage("POST "+path, w.do("POST", path, body, append(change, asBrowser)...), status)
	}
	foreign := func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }
	post(403, "/settings/events-webhook?account=acme", "", foreign)
	post(413, "/dead-letters/replay", strings.Repeat("a", 70<<10), form)
	post(404, "/endpoints", "", form)
	post(401, "/sign-in", "token=wrong", anonymous, form)
	w.page(421, "/endpoints", func(r *http.Request) { r.Host = "evil.example" })
	w.page(401, "/endpoints?live=1", anonymous)
	w.page(200, "/sign-in?next=/endpoints", anonymous)
	for _, path := range []string{"/", "/metrics", "/debug/pprof/heap"} {
		if a := w.want(303, "GET", path, "", anonymous, asBrowser); a.header.Get("Location") != "/sign-in?next="+url.QueryEscape(path) {
			t.Errorf("%s sends a browser to %s", path, a.header.Get("Location"))
		}
	}
	// A program still gets what it can read, and so does a browser that asks the API.
	if a := w.want(401, "GET", "/metrics", "", anonymous); a.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("/metrics answers a program with %s", a.header.Get("Content-Type"))
	}
	if a := w.want(401, "GET", "/api/v1/status", "", anonymous, asBrowser); a.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("the API answers a browser with %s", a.header.Get("Content-Type"))
	}

	// Redis away: the operator is told why, a customer no internal error.
	w.redis.SetError("LOADING secret-host:6379")
	if body := w.page(503, "/settings/events-webhook?account=acme"); !strings.Contains(body, "Kafka or Redis does not answer") {
		t.Errorf("without Redis the settings say %s", body)
	}
	if body := w.page(503, portal+"/endpoints", anonymous); strings.Contains(body, "Redis") || strings.Contains(body, "LOADING") {
		t.Errorf("without Redis a customer is told %s", body)
	}
}

// After a form the browser is at an address that a reload may ask for again.
func TestFormsEndAtAnAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	w.put("acme", "orders")
	w.recv.answers(410, "")
	w.open("t", "acme")
	w.until("a dead letter", func() bool { return w.do("GET", "/api/v1/dead-letters", "").json(t)["matched"] == 1.0 })
	for _, base := range []string{"", w.link("acme")} {
		as := []func(*http.Request){form}
		if base != "" {
			as = append(as, anonymous)
		}
		name := "replay-x" + strconv.Itoa(len(base))
		values := url.Values{"which": {"all"}, "do": {"start"}, "name": {name}, "rate": {"50"}, "maxFailures": {"100"}}
		if base == "" { // a customer may not
			values.Set("again", "1")
		}
		start := values.Encode()
		for range 2 { // the second one starts nothing
			if got := w.want(303, "POST", base+"/dead-letters/replay", start, as...).header.Get("Location"); got != base+"/replays/"+name {
				t.Errorf("a replay ends at %s", got)
			}
		}
		w.page(200, base+"/replays/"+name, as...)
		if got := w.want(303, "POST", base+"/replays/"+name+"/cancel", "", as...).header.Get("Location"); got != base+"/replays/"+name {
			t.Errorf("a cancelled replay ends at %s", got)
		}
		if got := w.want(303, "GET", base+"/replays/"+name+"/cancel", "", as...).header.Get("Location"); got != base+"/replays/"+name {
			t.Errorf("the address of the cancellation leads to %s", got)
		}
		// Without its plan having been seen nothing starts.
		if got := w.want(303, "POST", base+"/dead-letters/replay", "which=all&name=unseen", as...).header.Get("Location"); !strings.HasPrefix(got, base+"/dead-letters/replay?") {
			t.Errorf("a replay that nobody has seen the plan of ends at %s", got)
		}
		w.page(404, base+"/replays/unseen", as...)
	}
	if n := w.recv.count(`"trackingId":"t"`); n > 3 {
		t.Errorf("%d requests came, want one and one of each replay at most", n)
	}
	for path, to := range map[string]string{"/accept": "/", "/sign-out": "/"} {
		if got := w.want(303, "GET", path, "").header.Get("Location"); got != to {
			t.Errorf("GET %s leads to %s", path, got)
		}
	}
	if got := w.want(303, "POST", "/accept", "", form).header.Get("Location"); got != "/" {
		t.Errorf("accepting ends at %s", got)
	}
	// A customer cannot take a replay of somebody else's over.
	globex := w.link("globex")
	w.checkPage("a name that is taken", w.do("POST", globex+"/dead-letters/replay", "which=all&do=start&name=replay-x0", form, anonymous), 409)
}

// The live part is sent only where it has changed.
func TestLivePartIsSentOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	w.put("acme", "orders")
	const path = "/endpoints?live=1"
	first := w.want(200, "GET", path, "")
	tag := first.header.Get("ETag")
	known := func(r *http.Request) { r.Header.Set("If-None-Match", tag) }
	if again := w.want(304, "GET", path, "", known); len(again.body) != 0 || tag == "" {
		t.Errorf("what is known already comes again: %q", again.body)
	}
	w.put("acme", "second")
	if changed := w.want(200, "GET", path, "", known); !strings.Contains(string(changed.body), "second") {
		t.Errorf("a change does not come: %s", changed.body)
	}
}

// The overview's charts are part of the page, so that they need no script.
func TestOverviewsCharts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	w.put("acme", "orders")
	w.open("t-1", "acme")
	w.until("the delivery", func() bool { return w.recv.count("t-1") == 1 })
	for path, columns := range map[string]int{"/": 30, "/?span=5m": 30, "/?span=1h": 30, "/?span=24h": 48, "/?span=nonsense": 30} {
		w.until(path+" has the delivery", func() bool {
			page := w.page(200, path)
			if got := strings.Count(page, `class="hit`); got != 3*columns {
				t.Fatalf("%s has %d columns, want %d", path, got, 3*columns)
			}
			return strings.Contains(page, `class="bar s-good" d="M`)
		})
		w.livePart(path)
	}
	if page := w.page(200, "/?span=24h"); !strings.Contains(page, `data-live="/?live=1&amp;span=24h"`) || !strings.Contains(page, `<a href="/?span=24h" aria-current="true">24 h</a>`) {
		t.Error("the span is lost where the page is renewed")
	}
}

// A row says what became of the delivery, and not what an earlier attempt of it was answered.
func TestDeferredRowIsNoAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.put("acme", "orders")
	w.recv.answers(503, "", "Retry-After", "1")
	w.open("t-1", "acme")
	w.until("an attempt", func() bool { return w.recv.count("t-1") == 1 })
	w.want(200, "PUT", acme+"/orders", fmt.Sprintf(`{"url":"%s/orders","events":["*"],"paused":true}`, w.recv.URL))
	deferred := func() bool {
		return strings.Contains(w.page(200, "/endpoints/show?account=acme&id=orders"), "deferred (paused)")
	}
	w.until("a deferred delivery", deferred)
	body := w.page(200, "/endpoints/show?account=acme&id=orders")
	_, row, _ := strings.Cut(body, "deferred (paused)")
	row, _, _ = strings.Cut(row, "</details>")
	if !strings.Contains(row, "last answer: 503") || strings.Contains(row, "HTTP 503") || strings.Contains(row, "<h3>Response</h3>") {
		t.Errorf("the row of a deferred delivery says %s", row)
	}
}

// The filter is kept on the way to a plan and back.
func TestPlanKeepsTheFilter(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	filter := url.Values{"account": {"a & b"}, "reason": {"gone"}, "from": {"2026-01-02T03:04"}}
	for _, which := range []url.Values{{"which": {"all"}}, {"which": {"selected"}, "id": {"0/1", "0/2"}}} {
		q := url.Values{}
		maps.Copy(q, filter)
		maps.Copy(q, which)
		body := html.UnescapeString(w.page(200, "/dead-letters/replay?"+q.Encode()))
		if strings.Count(body, `href="/dead-letters?`+filter.Encode()+`"`) != 2 {
			t.Errorf("the plan of %v does not lead back to %s", which, filter.Encode())
		}
		for _, id := range which["id"] {
			if !strings.Contains(body, `name="id" value="`+id+`"`) {
				t.Errorf("the plan forgets %s", id)
			}
		}
	}
}

// What was asked in the background while somebody looked the last time is not shown as if it were so now.
func TestOverviewSaysHowOldItIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.put("acme", "orders")
	w.recv.answers(410, "")
	w.open("t", "acme")
	const unknown = `<td>100ms</td><td class="n">–</td>`
	const known = `<td>100ms</td><td class="n">0</td>`
	w.until("a count and the tiers", func() bool {
		body := w.page(200, "/")
		return strings.Contains(body, `<td class="n">1</td>`) && strings.Contains(body, known)
	})
	if body := w.page(200, "/"); strings.Contains(body, "Counted ") || strings.Contains(body, unknown) {
		t.Error("what is fresh is called old")
	}
	w.admin.Age(time.Minute)
	body := w.page(200, "/")
	if !strings.Contains(body, "Counted <time") || !strings.Contains(body, "1 min ago</time>. A new count is under way.") {
		t.Error("a count of a minute ago is shown as that of now")
	}
	if !strings.Contains(body, unknown) {
		t.Error("what the tiers held a minute ago is shown as that of now")
	}
	w.until("a new count", func() bool {
		body := w.page(200, "/")
		return !strings.Contains(body, "Counted ") && strings.Contains(body, known)
	})
}
