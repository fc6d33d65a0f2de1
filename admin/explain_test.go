package admin_test

import (
	"net/url"
	"strings"
	"testing"
)

// Why did this customer get nothing? By the record's place or by an id, for what was delivered, did not match, and could not be read.
func TestExplain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	w.want(201, "PUT", "/api/v1/accounts/acme/subscriptions/opens", `{"url":"`+w.recv.URL+`/o","events":["EMAIL_OPEN"]}`)
	w.want(201, "PUT", "/api/v1/accounts/acme/subscriptions/fails", `{"url":"`+w.recv.URL+`/f","events":["SMS_FAILED"],"headers":{"x-key":"hush-hush"}}`)
	w.open("got-it", "acme")
	w.open("unwanted", "nobody")
	_, err := w.kafka.Send(t.Context(), "channel.sms", []byte("k"), []byte(`{"accountId":"acme","trackingId":"broken"}`), nil)
	must(t, err)
	w.until("the delivery", func() bool { return w.recv.count("got-it") == 1 })
	w.until("that all is settled", func() bool {
		for _, query := range []string{"account=acme&trackingId=got-it", "account=nobody&trackingId=unwanted", "account=acme&trackingId=broken"} {
			a := w.do("GET", "/api/v1/explain?"+query, "")
			if a.status != 200 || !strings.Contains(string(a.body), `"committed":true`) {
				return false
			}
		}
		return true
	})
	one := func(query string) map[string]any {
		t.Helper()
		list, _ := w.want(200, "GET", "/api/v1/explain?"+query, "").json(t)["records"].([]any)
		if len(list) != 1 {
			t.Fatalf("%s explains %d records", query, len(list))
		}
		return list[0].(map[string]any)
	}
	got := one("account=acme&trackingId=got-it")
	subs, _ := got["subscriptions"].([]any)
	if got["result"] != "event" || len(subs) != 2 {
		t.Fatalf("explained as %v", got)
	}
	for _, s := range subs {
		s := s.(map[string]any)
		if match := s["subscription"] == "opens"; s["match"] != match || match && (s["where"] != "delivered" || !strings.Contains(s["curl"].(string), "curl")) {
			t.Errorf("%v", s)
		}
	}
	place, _ := got["record"].(string)
	if again := one("record=" + place); again["record"] != place {
		t.Errorf("by its place: %v", again)
	}
	if r := one("account=nobody&trackingId=unwanted"); r["result"] != "unmatched" {
		t.Errorf("%v", r)
	}
	if r := one("account=acme&trackingId=broken"); r["result"] != "malformed" || r["deadLetter"] != "1/0" && r["deadLetter"] != "0/0" {
		t.Errorf("%v", r)
	}
	for query, status := range map[string]int{
		"": 400, "record=x": 400, "trackingId=t": 400, "account=acme&from=soon": 400, "account=acme&colour=red": 400, "record=channel.email/0/99": 404, "record=nothing/0/0": 404,
		"record=channel.email/7/0": 404, "record=fanout.attempts/0/0": 404, "account=acme&trackingId=never": 404,
	} {
		if a := w.do("GET", "/api/v1/explain?"+query, ""); a.status != status {
			t.Errorf("%s = %d %s, want %d", query, a.status, a.body, status)
		}
	}

	// The pages: from the box, and from a search that has found no attempt.
	if a := w.do("GET", "/became?q="+url.QueryEscape(place), ""); a.header.Get("Location") != "/explain?at="+url.QueryEscape(place) {
		t.Errorf("the box leads to %s", a.header.Get("Location"))
	}
	if a := w.do("GET", "/became?q=some/1/2", ""); a.header.Get("Location") != "/deliveries?q=some%2F1%2F2" {
		t.Errorf("what looks like a place leads to %s", a.header.Get("Location"))
	}
	for path, want := range map[string][]string{
		"/explain?at=" + place:              {"matches", "does not match", "delivered", "/deliveries/show?id=msg_", "settled", `<dt>audit</dt><dd><span class="badge good"><span aria-hidden="true">✓</span> delivered</span>`},
		"/explain?q=unwanted":               {"unmatched", "The account has no webhook."},
		"/explain?q=broken&account=acme":    {"malformed", "/dead-letters/show?at="},
		"/deliveries?q=unwanted&account=no": {"/explain?account=no&amp;q=unwanted"},
	} {
		page := w.page(200, path)
		for _, text := range want {
			if !strings.Contains(page, text) {
				t.Errorf("%s does not show %q", path, text)
			}
		}
		if strings.Contains(page, "hush-hush") {
			t.Errorf("%s shows a header's value", path)
		}
	}
	// A webhook that is there now, and was not when the record was planned.
	w.want(201, "PUT", "/api/v1/accounts/acme/subscriptions/late", `{"url":"`+w.recv.URL+`/l","events":["EMAIL_OPEN"]}`)
	if page := w.page(200, "/explain?at="+place); !strings.Contains(page, "configuration changed") || strings.Contains(page, "no trace") {
		t.Errorf("the audit of a later webhook: %s", page)
	}
	w.page(404, "/explain?q=never")
	w.page(422, "/explain?at=x")
	if page := w.page(200, w.link("acme")+"/deliveries?q=unwanted", anonymous); strings.Contains(page, "/explain") {
		t.Error("the portal leads to the sources")
	}
}
