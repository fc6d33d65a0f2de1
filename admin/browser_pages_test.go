//go:build browser

package admin_test

import (
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"fanout/subscriptions"
)

// tour shows every page of a scope to look. Names of pictures begin with name.
func (b *browser) tour(look func(name string), name string, portal bool, base, account, id, position, replay string) {
	b.t.Helper()
	paths, _ := addresses(b.t, portal, account, id, position, replay)
	for i, path := range paths {
		b.goTo(base + path)
		page, _, _ := strings.Cut(strings.Trim(path, "/"), "?")
		look(fmt.Sprintf("%s-%02d-%s", name, i, strings.ReplaceAll(page, "/", "-")))
	}
}

// enter opens a portal link for an account in the browser, and returns what its paths begin with.
func (b *browser) enter(account string) string {
	b.t.Helper()
	made := b.w.makeLink(account, "")
	link, err := url.Parse(made["url"].(string))
	must(b.t, err)
	b.goTo(link.Path)
	return "/portal/" + made["id"].(string)
}

func TestEmptyPagesInTheBrowser(t *testing.T) {
	w := newWorld(t, token)
	b := newBrowser(t, w)
	b.tour(b.inspect, "empty-portal", true, b.enter("acme"), "acme", "", "", "")
	b.signIn()
	b.tour(b.inspect, "empty", false, "", "acme", "", "", "")
	for name, path := range map[string]string{"none": "/nothing", "webhook": "/endpoints/show?account=a&id=b", "link": "/portal/x.y/", "problem": "/dead-letters?reason=x"} {
		b.expects("Failed to load resource: the server responded with a status of 4")
		b.goTo(path)
		b.inspect("error-" + name)
	}
}

func (b *browser) signIn() {
	b.t.Helper()
	b.goTo("/")
	b.fill("Token", b.w.token)
	b.submit(button("Sign in"))
	b.sees("Overview")
}

func TestOddIdentifiersInTheBrowser(t *testing.T) {
	w := newWorld(t, token)
	id := strings.Repeat("w", 64)
	w.recv.answers(410, strings.Repeat("gone", 200))
	b := newBrowser(t, w)
	b.signIn()
	for i, account := range odd()[:3] {
		w.want(201, "PUT", "/api/v1/accounts/"+url.PathEscape(account)+"/subscriptions/"+id, fmt.Sprintf(`{"url":"%s/%s","events":["*"],"description":%q}`, w.recv.URL, strings.Repeat("path", 200), strings.Repeat("d", 1024)))
		w.open("t", account)
		w.until("a dead letter", func() bool {
			return w.do("GET", "/api/v1/dead-letters?account="+url.QueryEscape(account), "").json(t)["matched"] != 0.0
		})
		position := w.letter(account, strings.Repeat("s", 256), "msg_"+strings.Repeat("m", 256))
		replay := strings.Repeat("r", 190) + strconv.Itoa(i)
		w.want(202, "POST", "/api/v1/replays", fmt.Sprintf(`{"name":%q,"account":%s}`, replay, quoted(account)))
		// The longest one is looked at in every way.
		look := b.glance
		if i == 0 {
			look = b.inspect
		}
		b.tour(look, fmt.Sprintf("odd-%d", i), false, "", account, id, position, replay)
		b.tour(look, fmt.Sprintf("odd-portal-%d", i), true, b.enter(account), account, id, position, "")
		w.want(204, "DELETE", "/api/v1/replays/"+replay, "")
	}
}

// A browser has six connections to a host, for all of its tabs.
func TestTwentyTabsStayLive(t *testing.T) {
	w := newWorld(t, "")
	w.put("acme", "first")
	first := newBrowser(t, w)
	tabs := []*browser{first}
	for range 19 {
		tabs = append(tabs, first.tab())
	}
	for i, tab := range tabs {
		began := time.Now()
		tab.goTo([]string{"/endpoints", "/endpoints?q=acme"}[i%2])
		tab.sees("first")
		t.Logf("tab %d was there after %s", i+1, time.Since(began).Round(time.Millisecond))
	}
	w.put("acme", "second")
	for i, tab := range tabs {
		if took := tab.within(5*time.Second, "second"); took > 4*time.Second {
			t.Errorf("tab %d saw the change after %s", i+1, took)
		}
	}
	// What a person does in one of them works as well.
	tabs[9].submit(link("Settings"))
	tabs[9].sees("Type an account")
	// Nobody asks for a tab that is not seen.
	hidden := tabs[3]
	hidden.text(`Object.defineProperty(document, "hidden", { get: () => true, configurable: true }); document.dispatchEvent(new Event("visibilitychange")); ""`)
	asked := hidden.text(`new Promise(done => setTimeout(() => { performance.clearResourceTimings(); setTimeout(() => done(String(performance.getEntriesByType("resource").length)), 2500); }, 500))`)
	if asked != "0" {
		t.Errorf("a hidden tab asked %s times in 2.5 s", asked)
	}
	w.put("acme", "third")
	hidden.text(`Object.defineProperty(document, "hidden", { get: () => false, configurable: true }); document.dispatchEvent(new Event("visibilitychange")); ""`)
	hidden.within(2*time.Second, "third")
}

// What somebody reads does not move: an opened attempt of a busy webhook, what has the focus, what is selected.
func TestReadingIsNotDisturbed(t *testing.T) {
	w := newWorld(t, "")
	w.put("acme", "orders")
	w.recv.answers(500, strings.Repeat("a long answer\n", 40))
	for i := range 20 {
		w.open(fmt.Sprintf("before-%d", i), "acme")
	}
	w.until("attempts", func() bool { return w.recv.count("before-") >= 20 })
	b := newBrowser(t, w)
	b.goTo("/endpoints/show?account=acme&id=orders")
	b.sees("HTTP 500")
	where := `(() => { const open = document.querySelector("#attempts details[open]"); return open.closest("li").id + " " + (document.activeElement === open.querySelector("summary")); })()`
	top := func() (px float64) {
		_, err := fmt.Sscan(b.text(`String(document.querySelector("#attempts details[open]").getBoundingClientRect().top)`), &px)
		must(t, err)
		return px
	}
	b.click(`.attempts li:nth-child(3) summary`)
	b.text(`document.querySelector("#attempts details[open] pre").scrollIntoView(); ""`)
	before, at := b.text(where), top()
	failures := b.text(`document.querySelector("#live .state").innerText`)
	for i := range 60 {
		w.open(fmt.Sprintf("after-%d", i), "acme")
	}
	b.sees("new") // at the foot of the window
	b.sees("The list waits while you read it.")
	w.until("the rest of the page", func() bool { return b.text(`document.querySelector("#live .state").innerText`) != failures })
	if now := b.text(where); now != before || !strings.HasSuffix(now, "true") || math.Abs(top()-at) > 2 {
		t.Errorf("the opened attempt was %q at %v px, and is %q at %v", before, at, now, top())
	}
	b.inspect("reading")
	b.click(button("Show them"))
	b.gone("The list waits while you read it.")
	w.until("the new attempts", func() bool {
		return b.text(`String(document.querySelector("#attempts").textContent.includes("after-"))`) == "true"
	})

	// With the keyboard: the list of webhooks waits while one of its links has the focus.
	b.goTo("/endpoints")
	b.sees("acme / orders")
	for range 20 { // past the navigation, the verdict and the filter
		if b.text(`String(document.activeElement.matches("#rows a"))`) == "true" {
			break
		}
		b.do(chromedp.KeyEvent("\t"))
	}
	w.put("acme", "a-new-one")
	b.sees("The list waits while you read it.")
	if b.text(`document.activeElement.innerText`) != "acme / orders" || strings.Contains(b.text(`document.getElementById("rows").innerText`), "a-new-one") {
		t.Error("the list changed under the keyboard's focus")
	}
	for range 4 { // on to what is after the list
		b.do(chromedp.KeyEvent("\t"))
	}
	b.sees("a-new-one")

	// Selected text stays selected.
	b.text(`getSelection().selectAllChildren(document.querySelector("#rows .name")); ""`)
	w.put("acme", "another")
	b.sees("The list waits while you read it.")
	if got := b.text(`getSelection().toString()`); got != "acme" {
		t.Errorf("%q is selected, want acme", got)
	}
	b.text(`getSelection().removeAllRanges(); ""`)
	b.sees("another")
}

// What is on the page is never older than the page says.
func TestStaleIsSaid(t *testing.T) {
	w := newWorld(t, token)
	b := newBrowser(t, w)
	b.signIn()
	b.expects("net::ERR_INTERNET_DISCONNECTED")
	offline := func(is bool) {
		call(b, network.EmulateNetworkConditionsByRule, network.EmulateNetworkConditionsByRuleParams{
			MatchedNetworkConditions: []*network.Conditions{{DownloadThroughput: -1, UploadThroughput: -1, Offline: is}},
		})
	}
	b.sees("live")
	offline(true)
	b.sees("No answer since")
	b.sees("stale since")
	b.sees("Whether all is well is not known")
	if b.text(`String(document.body.innerText.includes("All is well"))`) == "true" {
		t.Error("a stale page says that all is well")
	}
	b.inspect("stale")
	offline(false)
	b.gone("No answer since")
	b.gone("stale since")
	b.sees("All is well")
	b.expects("net::ERR_CONNECTION") // a request that was under way
	// A page without a live part has the verdict, which is renewed as well.
	still := b.tab()
	still.goTo("/dead-letters")
	still.sees("All is well")
	why := "nobody knows why"
	w.broken.Store(&why)
	still.expects("401")
	still.sees("outside not ready")
	still.sees("nobody knows why")
	still.inspect("verdict")
	b.sees("outside not ready")
	w.broken.Store(nil)
	still.sees("All is well")
	// The session ends elsewhere.
	other := b.tab()
	other.goTo("/")
	other.submit(button("Sign out"))
	b.expects("401")
	b.sees("You are signed out.")
	b.sees("signed out")
	still.sees("signed out")
}

// TestDeliveriesInTheBrowser is a support person's: a tracking id in the box, the delivery, its request, sent again.
func TestDeliveriesInTheBrowser(t *testing.T) {
	w := newWorld(t, token)
	long := strings.Repeat("l", 200)
	w.recv.answers(500, strings.Repeat("out of order ", 40))
	w.want(201, "PUT", "/api/v1/accounts/"+long+"/subscriptions/"+strings.Repeat("w", 64), fmt.Sprintf(`{"url":"%s/hook","events":["*"],"secrets":["generate"],"headers":{"x-key":"hush"}}`, w.recv.URL))
	w.open(strings.Repeat("t", 256), long)
	w.put("acme", "orders")
	w.open("abc123", "acme")
	w.until("dead letters", func() bool { return w.do("GET", "/api/v1/dead-letters", "").json(t)["matched"] == 2.0 })
	w.recv.answers(204, "")
	for i := range 60 {
		w.open(fmt.Sprintf("good-%d", i), "acme")
	}
	w.until("deliveries", func() bool { return w.recv.count("good-") == 60 })
	b := newBrowser(t, w)
	b.signIn()
	b.submit(link("Deliveries"))
	b.sees("good-")
	b.pictures("deliveries")
	b.submit(link("Older"))
	b.sees("good-0")
	b.goTo("/deliveries?q=" + strings.Repeat("t", 256))
	b.sees("500")
	b.inspect("deliveries-odd")
	b.submit(link("Open"))
	b.sees("Timeline")
	b.inspect("delivery-odd")
	b.submit(`//dt[.="record"]/following-sibling::dd/a`)
	b.sees("matches")
	b.click(`.explained summary`)
	b.pictures("explain")

	// Another instance answers, and one with a long name does not: it is said.
	w.others.Store(&[]subscriptions.Instance{{Name: "other", URL: w.base}, {Name: strings.Repeat("i", 256), URL: "http://127.0.0.1:1"}})
	for _, path := range []string{"/", "/endpoints", "/endpoints/show?account=acme&id=orders"} {
		b.goTo(path)
		b.within(15*time.Second, "has not answered since")
		b.inspect("silent" + strings.ReplaceAll(strings.Split(path, "?")[0], "/", "-"))
	}
	w.others.Store(nil)

	b.goTo("/endpoints")
	b.do(chromedp.SendKeys(`input[type=search]`, "abc123"))
	if _, err := chromedp.RunResponse(b.ctx, chromedp.SendKeys(`input[type=search]`, "\r")); err != nil {
		t.Fatal(err)
	}
	b.sees("3 attempts")
	b.submit(link("Open"))
	b.sees("attempts_exhausted")
	b.click(`.timeline summary`)
	b.sees("out of order")
	b.pictures("delivery")
	w.until("that it is settled", func() bool {
		id := b.text(`document.querySelector("h1 code").innerText`)
		return w.do("POST", "/api/v1/deliveries/"+id+"/resend", `{"dryRun":true}`).status == 200
	})
	b.submit(button("Resend…"))
	b.sees("with the same webhook-id")
	b.pictures("resend")
	b.submit(button("Send it again"))
	b.sees("It was sent again")
	w.until("it", func() bool { return w.recv.count("abc123") == 4 })
	w.until("its page", func() bool {
		b.submit(link("Look again"))
		return strings.Contains(b.text(`document.body.innerText`), "HTTP 204")
	})
	b.inspect("delivery-resent")
	base := b.enter("acme")
	b.goTo(base + "/deliveries")
	b.inspect("portal-deliveries")
	b.submit(link("Open"))
	b.sees("Timeline")
	b.inspect("portal-delivery")
}

// Times are those of the reader's zone, or UTC where they say so, on every page and in what is renewed.
func TestReadersZone(t *testing.T) {
	w := newWorld(t, "")
	w.recv.answers(500, "")
	long := strings.Repeat("t", 200)
	w.put("acme", "orders")
	w.open(long, "acme")
	w.until("an attempt", func() bool { return w.recv.count("ttt") > 0 })
	b := newBrowser(t, w)
	call(b, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: "Asia/Tokyo"})
	b.goTo("/deliveries?from=2020-01-01T20:00")
	b.sees("Last attempt (GMT+9)")
	row := `(() => { const at = document.querySelector("tbody time"); return at.textContent + " " + at.dateTime; })()`
	at, err := time.Parse(time.RFC3339, b.text(`document.querySelector("tbody time").dateTime`))
	must(t, err)
	tokyo := at.In(time.FixedZone("", 9*3600)).Format(time.TimeOnly)
	if !strings.Contains(b.text(row), tokyo) {
		t.Errorf("the row says %s, want %s", b.text(row), tokyo)
	}
	b.inspect("zone")
	// Fields for a time too. What is sent is in UTC.
	if got := b.text(`document.getElementById("from").value`); got != "2020-01-02T05:00:00" && got != "2020-01-02T05:00" {
		t.Errorf("the field says %s", got)
	}
	b.submit(button("Filter"))
	if got := b.text(`new URLSearchParams(location.search).get("from")`); got != "2020-01-01T20:00:00" {
		t.Errorf("the filter sends %s", got)
	}
	b.click(`#zone`)
	b.sees("Last attempt (UTC)")
	if got := b.text(row); !strings.Contains(got, at.UTC().Format(time.TimeOnly)) || !strings.HasPrefix(b.text(`document.getElementById("from").value`), "2020-01-01T20:00") {
		t.Errorf("in UTC the row says %s", got)
	}
	// It is remembered, and holds for what is renewed.
	b.goTo("/endpoints/show?account=acme&id=orders")
	b.sees("Times are in UTC.")
	b.click(`#zone`)
	b.sees("Times are in GMT+9.")
	w.open("another", "acme")
	w.until("the next attempt", func() bool {
		return b.text(`String([...document.querySelectorAll("#attempts time.hint")].length > 1 && [...document.querySelectorAll("#attempts time.hint")].every(e => e.dataset.utc))`) == "true"
	})
	// What is cut short is there as a whole, for the pointer and for the keyboard.
	b.goTo("/deliveries?q=" + long)
	b.sees("Tracking id")
	b.text(`document.querySelector('td[data-label="Tracking id"] .name').focus(); ""`)
	if got := b.text(`(() => { const e = document.querySelector(".whole"); return e.hidden ? "" : e.firstChild.textContent; })()`); got != long {
		t.Errorf("the whole tracking id is %q", got)
	}
	b.sees("Copy")
	b.inspect("whole")
}

// What is ticked stays ticked on the next page, and is sent with what is ticked there.
func TestSelectionOutlastsPagesInTheBrowser(t *testing.T) {
	w := newWorld(t, "")
	w.until("the topic", func() bool { return w.do("GET", "/api/v1/dead-letters", "").status == 200 })
	for i := range 130 {
		w.letter("acme", "orders", "msg_"+strconv.Itoa(i))
	}
	b := newBrowser(t, w)
	b.goTo("/dead-letters?account=acme")
	b.click(`input[name="id"][value="0/129"]`)
	b.click(`input[name="id"][value="0/128"]`)
	b.sees("Replay selected (2)")
	b.submit(`a[rel="next"]`)
	b.sees("Replay selected (2)")
	b.click(`input[name="id"][value="0/3"]`)
	b.sees("Replay selected (3)")
	b.submit(`button[value="selected"]`)
	b.sees("would be sent")
	if n := b.text(`Promise.resolve([...document.querySelectorAll('input[name="id"]')].map(i => i.value).sort().join(" "))`); n != "0/128 0/129 0/3" {
		t.Errorf("sent with the form: %s", n)
	}
	b.goTo("/dead-letters?account=acme")
	b.sees("Replay selected (3)")
	b.click("[data-unpick]")
	if left := b.text(`Promise.resolve(String(document.querySelectorAll('input[name="id"]:checked').length) + document.querySelector('button[value="selected"]').textContent)`); left != "0Replay selected…" {
		t.Errorf("after Clear: %s", left)
	}
	b.goTo("/dead-letters?account=acme&reason=expired") // another filter has its own
	b.sees("Replay selected…")
}
