package admin_test

import (
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"fanout/topic"
)

var opened = regexp.MustCompile(`href="([^"]+)" aria-label="Open delivery (msg_[a-z2-7]{26})"`)

// listed are the deliveries that a page of the log shows: the addresses of their pages, and their webhook-ids.
func listed(page string) (at, ids []string) {
	for _, m := range opened.FindAllStringSubmatch(page, -1) {
		at, ids = append(at, html.UnescapeString(m[1])), append(ids, m[2])
	}
	return at, ids
}

// The log of deliveries is filtered by its address, searched by any id, and shown page by page.
func TestDeliveriesPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	w.put("acme", "a")
	w.put("globex", "b")
	const n = 60 // more than a page
	for i := range n {
		w.open(fmt.Sprintf("t-%d", i), "acme")
	}
	w.open("t-0", "globex")
	w.until("all attempts", func() bool {
		all, _ := w.want(200, "GET", "/api/v1/deliveries?limit=200", "").json(t)["deliveries"].([]any)
		return len(all) == n+1
	})
	_, ids := listed(w.page(200, "/deliveries?q=t-7"))
	if len(ids) != 1 {
		t.Fatalf("t-7 was found %d times", len(ids))
	}
	for query, want := range map[string]int{
		"q=t-0": 2, "q=" + ids[0]: 1, "q=welcome&account=globex": 1, "q=user-1&account=globex": 1, "q=nothing": 0, "account=globex": 1, "subscription=b": 1,
		"outcome=delivered&account=globex": 1, "outcome=dead": 0, "status=204&account=globex": 1, "status=500": 0, "event=EMAIL_CLICK": 0,
		"from=2020-01-01T00:00&account=globex": 1, "to=2020-01-01T00:00": 0, "q=t-1": 1,
	} {
		page := w.page(200, "/deliveries?"+query)
		if _, got := listed(page); len(got) != want {
			t.Errorf("%s shows %d deliveries, want %d", query, len(got), want)
		}
		if want == 0 && !strings.Contains(page, "No delivery matches") {
			t.Errorf("%s does not say that nothing was found", query)
		}
	}
	seen, older := map[string]bool{}, "/deliveries?account=acme"
	for pages := 0; older != ""; pages++ {
		page := w.page(200, older)
		_, ids := listed(page)
		for _, id := range ids {
			seen[id] = true
		}
		_, rest, _ := strings.Cut(page, `<a class="button" href="/deliveries?`)
		query, _, more := strings.Cut(rest, `" rel="next"`)
		if older = ""; more {
			older = "/deliveries?" + html.UnescapeString(query)
		}
		if pages > 2 {
			t.Fatal("the pages have no end")
		}
	}
	if len(seen) != n {
		t.Errorf("page by page %d deliveries are shown, want %d", len(seen), n)
	}
	for query, field := range map[string]string{"status=x": "status", "outcome=lost": "outcome", "event=NOPE": "event", "from=yesterday": "from", "from=2026-01-02T00:00&to=2026-01-01T00:00": "to"} {
		if page := w.page(422, "/deliveries?"+query); !strings.Contains(page, `href="#`+field+`"`) {
			t.Errorf("%s does not lead to the field", query)
		}
	}
	if a := w.do("GET", "/deliveries?account=acme&cursor=x", ""); a.header.Get("Location") != "/deliveries?account=acme" {
		t.Errorf("a bad cursor leads to %d %s", a.status, a.header.Get("Location"))
	}

	// In the portal nothing of another account is found, whatever the address says.
	base := w.link("acme")
	for query, want := range map[string]int{"q=t-0": 1, "q=t-0&account=globex": 1, "subscription=b": 0} {
		page := w.page(200, base+"/deliveries?"+query, anonymous)
		if at, _ := listed(page); len(at) != want || strings.Contains(page, "globex") && !strings.Contains(query, "globex") {
			t.Errorf("the portal, %s: %v", query, at)
		}
	}
	_, foreign := listed(w.page(200, "/deliveries?account=globex"))
	for _, path := range []string{"/deliveries/show?id=", "/deliveries/show?from=2020-01-01T00:00:00Z&id="} {
		w.page(404, base+path+foreign[0], anonymous)
	}
	if page := w.page(404, base+"/deliveries/resend?id="+foreign[0], anonymous); strings.Contains(page, "globex") {
		t.Error("the portal shows another account's delivery")
	}
}

// One delivery is a page: what became of it, with its request, and a button that sends it again.
func TestDeliveryPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	w.recv.answers(500, "out of <order>")
	for _, account := range odd() {
		w.want(201, "PUT", "/api/v1/accounts/"+url.PathEscape(account)+"/subscriptions/a", fmt.Sprintf(`{"url":%q,"events":["*"],"secrets":["generate"],"headers":{"x-key":"hush-hush"}}`, w.recv.URL))
		w.open("track-me", account)
	}
	n := float64(len(odd()))
	w.until("a dead letter of each", func() bool { return w.do("GET", "/api/v1/dead-letters", "").json(t)["matched"] == n })
	w.until("that their records are committed", func() bool {
		_, ids := listed(w.page(200, "/deliveries?q=track-me"))
		if len(ids) != len(odd()) {
			return false
		}
		for _, id := range ids {
			if w.do("POST", "/api/v1/deliveries/"+id+"/resend", `{"dryRun":true}`).status != 200 {
				return false
			}
		}
		return true
	})
	for _, account := range odd() {
		base := w.link(account)
		operator, ids := listed(w.page(200, "/deliveries?account="+url.QueryEscape(account)))
		customer, _ := listed(w.page(200, base+"/deliveries", anonymous))
		if len(operator) != 1 || len(customer) != 1 {
			t.Fatalf("%s: %v, %v", account, operator, customer)
		}
		for _, path := range []string{operator[0], "/deliveries/show?id=" + ids[0], customer[0]} {
			page := w.page(200, path)
			text := html.UnescapeString(page)
			for _, want := range []string{"track-me", "3 (retry)", "attempts_exhausted", "out of <order>", "dead-letters/show?at=", "POST / HTTP/1.1", "webhook-id: " + ids[0], "curl ", `"trackingId":"track-me"`} {
				if !strings.Contains(text, want) {
					t.Errorf("%s does not show %q", path, want)
				}
			}
			if strings.Contains(text, "hush-hush") {
				t.Errorf("%s shows a header's value", path)
			}
			if own := strings.Contains(page, "channel.email/"); own == strings.HasPrefix(path, "/portal/") {
				t.Errorf("%s says where the record lies: %t", path, own)
			}
		}
		w.page(200, "/deliveries/resend?id="+ids[0])
		if page := w.page(200, base+"/deliveries/resend?id="+ids[0], anonymous); strings.Contains(page, "channel.email") || strings.Contains(page, "dead letter") {
			t.Error("a customer is told of our topics")
		}
		if a := w.do("GET", "/became?q=+"+ids[0]+"+", ""); a.header.Get("Location") != "/deliveries/show?id="+ids[0] {
			t.Errorf("the box leads to %s", a.header.Get("Location"))
		}
		if a := w.do("GET", base+"/became?q="+url.QueryEscape(account), "", anonymous); a.header.Get("Location") != base+"/deliveries?q="+url.QueryEscape(account) {
			t.Errorf("the box leads to %s", a.header.Get("Location"))
		}
	}
	w.page(404, "/deliveries/show?id=x")
	w.page(404, "/deliveries/show?id=msg_aaaaaaaaaaaaaaaaaaaaaaaaaa")

	// Sent again, it reaches the receiver with its id, and its page goes on.
	w.recv.answers(204, "")
	_, ids := listed(w.page(200, "/deliveries?account="+url.QueryEscape(odd()[1])))
	base := w.link(odd()[1])
	before := w.recv.count("track-me")
	to, page := w.follow("/deliveries/resend", url.Values{"id": {ids[0]}})
	if to != "/deliveries/show?id="+ids[0]+"&resent=1" || !strings.Contains(page, "It was sent again") {
		t.Errorf("%s: %s", to, page)
	}
	w.until("the resent delivery", func() bool { return w.recv.count("track-me") == before+1 })
	w.until("its page", func() bool { return strings.Contains(w.page(200, "/deliveries/show?id="+ids[0]), "HTTP 204") })
	if got := w.recv.got[len(w.recv.got)-1].header.Get("webhook-id"); got != ids[0] {
		t.Errorf("it came with the id %s", got)
	}
	w.until("that it can be sent once more", func() bool {
		a := w.do("GET", base+"/deliveries/resend?id="+ids[0], "", anonymous)
		return a.status == 200 && strings.Contains(string(a.body), "It was delivered before.")
	})
	// A customer may do so ten times a minute, through a link that is not for looking only.
	look, cookie := w.enter(w.makeLink(odd()[1], `{"kind":"read-only"}`))
	if a := w.do("POST", look+"/deliveries/resend?id="+ids[0], "", form, anonymous, carrying(cookie)); a.status != 403 {
		t.Errorf("a read-only link = %d", a.status)
	}
	if strings.Contains(w.page(200, look+"/deliveries/show?id="+ids[0], anonymous), "Resend") {
		t.Error("a read-only link offers to resend")
	}
	var last answer
	for range 11 {
		last = w.do("POST", base+"/deliveries/resend?id=msg_aaaaaaaaaaaaaaaaaaaaaaaaaa", "", form, anonymous)
	}
	if last.status != 429 {
		t.Errorf("the eleventh = %d %s", last.status, last.body)
	}
}

// The pages say in which batch a delivery went out, with the webhook-id that its receiver has seen.
func TestPagesShowBatches(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	w.want(201, "PUT", "/api/v1/accounts/acme/subscriptions/a", fmt.Sprintf(`{"url":%q,"events":["*"],"batch":{"max":2,"wait":"5s"}}`, w.recv.URL))
	w.open("alone", "acme")
	w.until("the batch", func() bool { return w.recv.count("alone") == 1 })
	want := "alone in " + w.recv.got[0].header.Get("webhook-id")
	base := w.link("acme")
	var ids []string
	w.until("the attempts", func() bool {
		_, ids = listed(w.page(200, "/deliveries?account=acme"))
		return len(ids) == 1
	})
	for _, path := range []string{"/deliveries/show?id=" + ids[0], "/endpoints/show?account=acme&id=a"} {
		w.until(path+" with "+want, func() bool { return strings.Contains(w.page(200, path), want) })
	}
	if page := html.UnescapeString(w.page(200, base+"/deliveries/show?id="+ids[0], anonymous)); !strings.Contains(page, want) || !strings.Contains(page, `[{"id":"`+ids[0]) {
		t.Errorf("a customer's page:\n%s", page)
	}
	attempts, _ := w.want(200, "GET", "/api/v1/deliveries/"+ids[0], "").json(t)["attempts"].([]any)
	if first, _ := attempts[0].(map[string]any); first["batchSize"] != 1.0 {
		t.Errorf("the API: %v", attempts)
	}
}

// A webhook's page shows the attempts of all instances, each once.
func TestWebhookPageShowsAttemptsOfAllInstances(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	w.put("acme", "a")
	w.open("local-1", "acme")
	w.until("the delivery", func() bool { return w.recv.count("local-1") == 1 })
	value := fmt.Sprintf(`{"time":%d,"id":"msg_aaaaaaaaaaaaaaaaaaaaaaaaaa","account":"acme","subscription":"a","event":"EMAIL_OPEN","trackingId":"there-1","origin":"channel.email/0/7","stage":"first","outcome":"retry","reason":"connect","detail":"dial 10.0.0.9","attempt":1,"instance":"elsewhere:1"}`, time.Now().UnixMilli())
	_, err := w.kafka.Produce(t.Context(), topic.Partition{Topic: "fanout.attempts"}, []kafka.Record{{
		Key: kafka.NewBytes([]byte("acme")), Value: kafka.NewBytes([]byte(value)),
		Headers: []kafka.Header{{Key: topic.HeaderWebhookID, Value: []byte("msg_aaaaaaaaaaaaaaaaaaaaaaaaaa")}, {Key: topic.HeaderOutcome, Value: []byte("retry")}},
	}})
	must(t, err)
	base := w.link("acme")
	shows := func(path string, as ...func(*http.Request)) string {
		t.Helper()
		page := ""
		w.until(path, func() bool {
			page = w.page(200, path, as...)
			return strings.Contains(page, "there-1") && strings.Contains(page, "local-1")
		})
		return page
	}
	operator := shows("/endpoints/show?account=acme&id=a")
	if !strings.Contains(operator, "elsewhere:1") || !strings.Contains(operator, "test:1") {
		t.Error("it is not said where they were made")
	}
	if customer := shows(base+"/endpoints/show?id=a", anonymous); strings.Contains(customer, "elsewhere") || strings.Contains(customer, "10.0.0.9") {
		t.Error("a customer is told of our addresses")
	}
	w.open("local-2", "acme")
	w.until("the next one", func() bool {
		page := w.page(200, "/endpoints/show?account=acme&id=a")
		if n := strings.Count(page, ">there-1<"); n != 1 {
			t.Fatalf("an attempt is shown %d times", n)
		}
		return strings.Contains(page, "local-2")
	})
}
