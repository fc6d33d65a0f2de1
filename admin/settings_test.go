package admin_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"fanout/webhook"
)

const acmeSettings = "/settings/events-webhook?account=acme"

// submit posts a form of the settings, which must end at an address, and returns that, and the cookies for it.
func (w *world) submit(path string, values url.Values, as ...func(*http.Request)) (to string, cookies []*http.Cookie) {
	w.t.Helper()
	a := w.want(303, "POST", path, values.Encode(), append(as, form)...)
	for _, line := range a.header.Values("Set-Cookie") {
		c, err := http.ParseSetCookie(line)
		must(w.t, err)
		cookies = append(cookies, c)
	}
	return a.header.Get("Location"), cookies
}

// follow is submit, and then the page that the browser is sent to.
func (w *world) follow(path string, values url.Values, as ...func(*http.Request)) (to, page string) {
	w.t.Helper()
	to, cookies := w.submit(path, values, as...)
	for _, c := range cookies {
		as = append(as, carrying(c))
	}
	return to, w.page(200, to, as...)
}

// carrying brings a cookie besides what else the request has.
func carrying(cookie *http.Cookie) func(*http.Request) {
	return func(r *http.Request) { r.AddCookie(cookie) }
}

func filled(action string, more ...string) url.Values {
	v := url.Values{"action": {action}, "enabled": {"1"}}
	for i := 0; i < len(more); i += 2 {
		v.Add(more[i], more[i+1])
	}
	return v
}

// hiddenField is the value of a hidden field of the page's form.
func hiddenField(t *testing.T, page, name string) string {
	t.Helper()
	found := regexp.MustCompile(`<input type="hidden" name="` + name + `" value="([^"]*)">`).FindStringSubmatch(page)
	if found == nil {
		t.Fatalf("the page has no hidden field %s", name)
	}
	return found[1]
}

var shownSecret = regexp.MustCompile(`whsec_[A-Za-z0-9+/=]{20,}`)

// secretOn is the whole secret that a page shows; empty where it shows none.
func secretOn(page string) string {
	return shownSecret.FindString(strings.NewReplacer("&#43;", "+", "&#61;", "=").Replace(page))
}

// "Add a webhook" with a name that is taken is refused, and the form stays as it was filled in.
func TestAddingAWebhookOverwritesNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	w.put("acme", "orders")
	before := w.redis.HGet("fanout:account:acme", "orders")
	values := filled("save", "id", "orders", "url", w.recv.URL+"/mine", "event", "SMS_FAILED", "description", "all mine", "headers", "x-mine: 1", "maxInFlight", "7")
	for _, base := range []string{"", w.link("acme")} {
		as := []func(*http.Request){form, asBrowser}
		if base != "" {
			as = append(as, anonymous)
		}
		path := base + acmeSettings + "&new=1"
		a := w.do("POST", path, values.Encode(), as...)
		w.checkPage("POST "+path, a, 200)
		page := string(a.body)
		for _, want := range []string{
			"there is a webhook of this name already", "Nothing was saved", ">Open orders<", `value="orders"`, "/mine", "all mine", "x-mine: 1", `value="7"`,
			`value="SMS_FAILED" checked`, "new=1",
		} {
			if !strings.Contains(page, want) {
				t.Errorf("%s does not show %q", path, want)
			}
		}
	}
	if got := w.redis.HGet("fanout:account:acme", "orders"); got != before {
		t.Errorf("the webhook was overwritten: %s", got)
	}
	values.Set("id", "mine")
	to, page := w.follow(acmeSettings+"&new=1", values)
	if to != acmeSettings+"&id=mine" || !strings.Contains(page, "Saved.") {
		t.Errorf("under another name it ends at %s", to)
	}
}

// What somebody else has done meanwhile is not undone unseen.
func TestSavingUndoesNothingUnseen(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.put("acme", "orders")
	opened := w.page(200, acmeSettings+"&id=orders")
	values := filled("save", "id", "orders", "url", w.recv.URL+"/mine", "event", "SMS_FAILED", "seen", hiddenField(t, opened, "seen"))
	w.want(200, "PUT", acme+"/orders", fmt.Sprintf(`{"url":"%s/theirs","events":["*"]}`, w.recv.URL))
	theirs := w.redis.HGet("fanout:account:acme", "orders")

	a := w.do("POST", acmeSettings+"&id=orders", values.Encode(), form)
	w.checkPage("a save of what has changed", a, 200)
	if page := string(a.body); !strings.Contains(page, "somebody has changed this webhook") || !strings.Contains(page, "/mine") {
		t.Errorf("%s", page)
	}
	if got := w.redis.HGet("fanout:account:acme", "orders"); got != theirs {
		t.Errorf("theirs is overwritten: %s", got)
	}
	// Saved again, having been told.
	values.Set("seen", hiddenField(t, string(a.body), "seen"))
	w.follow(acmeSettings+"&id=orders", values)
	if got := w.redis.HGet("fanout:account:acme", "orders"); !strings.Contains(got, "/mine") {
		t.Errorf("Redis holds %s", got)
	}

	opened = w.page(200, acmeSettings+"&id=orders")
	values.Set("seen", hiddenField(t, opened, "seen"))
	w.want(204, "DELETE", acme+"/orders", "")
	a = w.do("POST", acmeSettings+"&id=orders", values.Encode(), form)
	w.checkPage("a save of what was deleted", a, 200)
	if page := string(a.body); !strings.Contains(page, "somebody has deleted this webhook") || !strings.Contains(page, "/mine") || !strings.Contains(page, `name="id" value="orders"`) {
		t.Errorf("%s", page)
	}
	if w.redis.Exists("fanout:account:acme") {
		t.Error("what was deleted is there again")
	}
	if _, page := w.follow(acmeSettings+"&new=1", values); secretOn(page) == "" {
		t.Error("created again it has no secret")
	}
}

// Each form ends at an address that a reload may ask for again; what was made is shown there once, and stands in no address.
func TestSettingsFormsEndAtAnAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	changes := func() int { list, _ := w.redis.Stream("fanout:changes"); return len(list) }
	for _, base := range []string{"", w.link("acme")} {
		var as []func(*http.Request)
		place, id := acmeSettings+"&id=orders", "orders"
		if base != "" {
			as, id = []func(*http.Request){anonymous}, "portal"
			place = "/settings/events-webhook?id=portal"
		}
		settings := base + "/settings/events-webhook?account=acme"
		check := func(what string, values url.Values, at, wantTo string, want ...string) (page string) {
			t.Helper()
			to, cookies := w.submit(at, values, as...)
			if to != wantTo {
				t.Errorf("%s: ends at %s, want %s", what, to, wantTo)
			}
			before, requests := changes(), w.recv.count("{")
			first := as
			for _, c := range cookies {
				if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != base+"/settings/events-webhook" || c.MaxAge <= 0 || c.MaxAge > 300 || len(c.String()) > 4096 {
					t.Errorf("%s: %s", what, c)
				}
				first = append(slices.Clone(first), carrying(c))
			}
			a := w.do("GET", to, "", append(slices.Clone(first), asBrowser)...)
			w.checkPage(what, a, 200)
			page = string(a.body)
			again := w.page(200, to, as...)
			for _, text := range want {
				if !strings.Contains(page, text) {
					t.Errorf("%s: the page does not say %q", what, text)
				}
				if strings.Contains(again, text) {
					t.Errorf("%s: a reload says %q again", what, text)
				}
			}
			// The browser is told to forget the cookie: its reload comes without it.
			for _, c := range cookies {
				if !slices.ContainsFunc(a.header.Values("Set-Cookie"), func(line string) bool {
					return strings.HasPrefix(line, c.Name+"=;") && strings.Contains(line, "Max-Age=0")
				}) {
					t.Errorf("%s: the cookie stays: %q", what, a.header.Values("Set-Cookie"))
				}
			}
			secret := secretOn(page)
			for _, c := range cookies {
				if secret != "" && (strings.Contains(to, secret[6:]) || strings.Contains(c.Value, secret[6:16])) {
					t.Errorf("%s: the secret is in %s or %s", what, to, c)
				}
			}
			if changes() != before || w.recv.count("{") != requests {
				t.Errorf("%s: a reload has done something", what)
			}
			return page
		}

		made := check("save", filled("save", "id", id, "url", w.recv.URL+"/a", "event", "EMAIL_OPEN"), settings+"&new=1", base+place, "Saved.", "It is shown only this once")
		first := secretOn(made)
		if first == "" || strings.Contains(w.page(200, base+place, as...), first[6:]) {
			t.Errorf("the new secret %q is not shown once", first)
		}
		check("save again", filled("save", "id", id, "url", w.recv.URL+"/b", "event", "SMS_FAILED"), settings+"&id="+id, base+place, "Saved.")
		w.recv.answers(200, "thank you")
		check("test", filled("test", "id", id, "sample", "SMS_FAILED"), settings+"&id="+id, base+place, "thank you", "HTTP 200")
		rotated := check("rotate", filled("rotate", "id", id, "hours", "72"), settings+"&id="+id, base+place, "A new secret signs from now on.")
		stored := w.stored(id)
		if secret := secretOn(rotated); !slices.Equal(stored.Secrets, []string{secret, first}) || time.Until(stored.Expiry[webhook.Fingerprint(first)]).Round(time.Hour) != 72*time.Hour {
			t.Errorf("%q is shown, and %v with %v stored", secret, stored.Secrets, stored.Expiry)
		}
		// The page says which secrets sign until when.
		until := stored.Expiry[webhook.Fingerprint(first)].UTC().Format("2006-01-02 15:04 MST")
		if page := w.page(200, base+place, as...); !strings.Contains(page, webhook.Fingerprint(first)) || !strings.Contains(page, until) || !strings.Contains(page, "signs until you rotate it") {
			t.Errorf("the page does not say that the first secret signs until %s", until)
		}
		check("remove a secret", filled("retire", "id", id, "secret", webhook.Fingerprint(first), "sure", "1"), settings+"&id="+id, base+place, "no longer signed with that secret")
		if got := w.stored(id).Secrets; len(got) != 1 || got[0] == first {
			t.Errorf("stored: %v", got)
		}
		toAccount, _, _ := strings.Cut(base+place, "&id=")
		if base != "" {
			toAccount = base + "/settings/events-webhook"
		}
		deleted := check("delete", filled("delete", "id", id, "sure", "1"), settings+"&id="+id, toAccount, id+" is deleted.", "Undo")
		undo := regexp.MustCompile(`name="undo" value="([^"]+)"`).FindStringSubmatch(deleted)
		if undo == nil {
			t.Fatalf("no undo on %s", deleted)
		}
		check("undo", filled("undo", "undo", undo[1]), settings, base+place, id+" is back.")
	}
	link := func() (string, string) { return w.follow(acmeSettings+"&new=1", filled("link")) }
	to, page := link()
	if to != acmeSettings+"&new=1" || !strings.Contains(page, w.base+"/portal/") || strings.Contains(to, "portal") {
		t.Errorf("a link ends at %s", to)
	}
	to, page = w.follow(acmeSettings+"&id=orders", filled("revoke", "link", "x"))
	if to != acmeSettings+"&id=orders" || !strings.Contains(page, "no longer works") {
		t.Errorf("revoking ends at %s", to)
	}
}

// A notice is for one page of one account, and good on every instance that has the token.
func TestNoticeIsForOnePage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	for _, account := range []string{"acme", "globex"} {
		w.put(account, "orders")
		w.put(account, "other")
	}
	to, cookies := w.submit(acmeSettings+"&id=orders", filled("rotate", "id", "orders"))
	if len(cookies) != 1 {
		t.Fatalf("%d cookies", len(cookies))
	}
	portal := w.link("acme")
	for _, other := range []struct {
		path, id string
		as       []func(*http.Request)
	}{
		{acmeSettings + "&id=other", "other", nil},
		{"/settings/events-webhook?account=globex&id=orders", "orders", nil},
		{portal + "/settings/events-webhook?id=orders", "orders", []func(*http.Request){anonymous}},
	} {
		// Under its own name, and under the one that the other page looks for.
		_, own := w.submit(other.path, filled("test", "id", other.id), other.as...)
		for _, name := range []string{cookies[0].Name, own[0].Name} {
			page := w.page(200, other.path, append(other.as, carrying(&http.Cookie{Name: name, Value: cookies[0].Value}))...)
			if secretOn(page) != "" {
				t.Errorf("%s shows the secret of another page", other.path)
			}
		}
	}
	prefetch := w.page(200, to, carrying(cookies[0]), func(r *http.Request) { r.Header.Set("Sec-Purpose", "prefetch") })
	if secretOn(prefetch) != "" {
		t.Error("a prefetch has used the notice up")
	}
	another := newWorld(t, token)
	another.put("acme", "orders")
	if page := another.page(200, to, carrying(cookies[0])); secretOn(page) == "" {
		t.Error("another instance does not show what was made")
	}
	stranger := newWorld(t, "another-token")
	stranger.put("acme", "orders")
	if page := stranger.page(200, to, carrying(cookies[0])); secretOn(page) != "" {
		t.Error("an instance with another token shows it")
	}
}

// However large an answer is, the notice fits into a cookie.
func TestNoticeFitsIntoACookie(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	headers := map[string]string{}
	for n := range 60 {
		headers[fmt.Sprintf("x-%03d-%s", n, strings.Repeat("h", 80))] = "v"
	}
	long, err := json.Marshal(headers)
	must(t, err)
	account := strings.Repeat("<", 256)
	at := "/api/v1/accounts/" + url.PathEscape(account) + "/subscriptions/a"
	w.want(201, "PUT", at, fmt.Sprintf(`{"url":"%s/a","events":["*"],"headers":%s}`, w.recv.URL, long))
	w.recv.answers(503, strings.Repeat("\x01\"<é", 400))
	settings := "/settings/events-webhook?account=" + url.QueryEscape(account)
	for _, action := range []string{"test", "rotate", "link", "delete"} {
		to, cookies := w.submit(settings+"&id=a", filled(action, "id", "a", "sure", "1"))
		if len(cookies) != 1 || len(cookies[0].Name)+len(cookies[0].Value) > 4000 {
			t.Fatalf("%s: %d cookies, %d bytes", action, len(cookies), len(cookies[0].Value))
		}
		page := w.page(200, to, carrying(cookies[0]))
		want := map[string]string{"test": "HTTP 503", "rotate": "A new secret signs", "link": w.base + "/portal/", "delete": "Undo"}[action]
		if !strings.Contains(page, want) {
			t.Errorf("%s: no %q", action, want)
		}
	}
}

// What receivers notice at once is asked about first, on a page of the server's, and done by the form on that page.
func TestDangerousActionsAsk(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	base, _ := w.enter(w.makeLink("acme", ""))
	ours := func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-origin") }
	for where, as := range map[string][]func(*http.Request){
		"/settings/events-webhook?account=acme": {ours},
		base + "/settings/events-webhook?":      {ours, anonymous},
	} {
		for action, more := range map[string][]string{"delete": nil, "retire": nil, "rotate": {"hours", "0"}} {
			w.put("acme", "a")
			w.want(200, "POST", acme+"/a/rotate-secret", `{"expiresInSeconds":3600}`)
			before := w.redis.HGet("fanout:account:acme", "a")
			if action == "retire" {
				more = []string{"secret", webhook.Fingerprint(w.stored("a").Secrets[1])}
			}
			a := w.want(200, "POST", where+"&id=a", filled(action, append(more, "id", "a")...).Encode(), append(as, form)...)
			page := string(a.body)
			if now := w.redis.HGet("fanout:account:acme", "a"); now != before || !strings.Contains(page, `role="alertdialog"`) || !strings.Contains(page, "Cancel") {
				t.Errorf("%s at %s does not ask: stored %s\n%s", action, where, now, page)
				continue
			}
			// The form of the question, as a browser sends it.
			_, question, _ := strings.Cut(page, `role="alertdialog"`)
			question, _, _ = strings.Cut(question, "</form>")
			answer := url.Values{"action": {regexp.MustCompile(`name="action" value="([^"]+)"`).FindStringSubmatch(question)[1]}}
			for _, field := range regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)">`).FindAllStringSubmatch(question, -1) {
				answer.Set(field[1], field[2])
			}
			w.submit(where+"&id=a", answer, as...)
			if now := w.redis.HGet("fanout:account:acme", "a"); now == before {
				t.Errorf("%s at %s: the answer changes nothing (%v)", action, where, answer)
			}
		}
		// What there is not is not asked about, and a rotation that leaves the former secret signing is none to ask about.
		w.want(404, "POST", where+"&id=none", filled("delete", "id", "none").Encode(), append(as, form)...)
		w.put("acme", "a")
		w.submit(where+"&id=a", filled("rotate", "id", "a", "hours", "24"), as...)
	}
}

// Saving the form keeps what the form does not have.
func TestSavingKeepsWhatTheFormLacks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	stored := fmt.Sprintf(`{"url":"%s/a","events":["*"],"secrets":["whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"],"notificationIds":["promo-*"],"batch":{"max":2},"owner":{"n":1.0},"description":"Bearer hush-hush","headers":{"x-a":"b"}}`, w.recv.URL)
	w.redis.HSet("fanout:account:acme", "a", stored)
	must(t, w.dir.Refresh(t.Context(), "acme"))
	page := w.page(200, acmeSettings+"&id=a")
	if strings.Contains(page, "hush-hush") || !strings.Contains(page, "has no effect") || !strings.Contains(page, "unknown key") {
		t.Errorf("the page shows a secret, or does not warn: %s", page)
	}
	values := filled("save", "id", "a", "url", w.recv.URL+"/b", "seen", hiddenField(t, page, "seen"), "description", "…", "headers", "x-a: …")
	for _, name := range []string{"EMAIL_OPEN", "EMAIL_CLICK", "EMAIL_FAILED", "SMS_FAILED", "CALL_FAILED", "PUSH_FAILED", "WEB_PUSH_FAILED", "INAPP_WEB_FAILED"} {
		values.Add("event", name)
	}
	w.follow(acmeSettings+"&id=a", values)
	var is, want map[string]any
	must(t, json.Unmarshal([]byte(w.redis.HGet("fanout:account:acme", "a")), &is))
	must(t, json.Unmarshal([]byte(strings.Replace(stored, "/a\"", "/b\"", 1)), &want))
	want["enabled"] = true
	if fmt.Sprint(is) != fmt.Sprint(want) {
		t.Errorf("stored is\n%v, want\n%v", is, want)
	}
}

// The notifications that a webhook is for are lines of the form.
func TestSettingsNotifications(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	save := func(ids, want string) {
		t.Helper()
		page := w.page(200, acmeSettings+"&id=a")
		w.follow(acmeSettings+"&id=a", filled("save", "id", "a", "url", w.recv.URL+"/a", "seen", hiddenField(t, page, "seen"), "event", "EMAIL_OPEN", "notificationIds", ids))
		var is struct{ NotificationIDs []string }
		must(t, json.Unmarshal([]byte(w.redis.HGet("fanout:account:acme", "a")), &is))
		if got := fmt.Sprint(is.NotificationIDs); got != want {
			t.Errorf("%q is stored as %s, want %s", ids, got, want)
		}
	}
	w.want(201, "PUT", "/api/v1/accounts/acme/subscriptions/a", fmt.Sprintf(`{"url":"%s/a","events":["EMAIL_OPEN"],"notificationIds":["promo-*"]}`, w.recv.URL))
	if page := w.page(200, acmeSettings+"&id=a"); !strings.Contains(page, ">promo-*</textarea>") {
		t.Error("the page does not show what is stored")
	}
	save(" welcome-email\r\n\r\npromo-*\r\n", "[welcome-email promo-*]")
	save("", "[]")
	w.want(422, "PUT", "/api/v1/accounts/acme/subscriptions/a", fmt.Sprintf(`{"url":"%s/a","events":["EMAIL_OPEN"],"notificationIds":[]}`, w.recv.URL))
}

// A rotation on the page that has no room is refused, in words.
func TestSettingsRefuseARotationWithoutRoom(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.put("acme", "a")
	for range 9 {
		w.submit(acmeSettings+"&id=a", filled("rotate", "id", "a", "hours", "1"))
	}
	a := w.do("POST", acmeSettings+"&id=a", filled("rotate", "id", "a").Encode(), form, asBrowser)
	w.checkPage("the eleventh secret", a, 409)
	if !strings.Contains(string(a.body), "10 secrets sign already") {
		t.Errorf("%s", a.body)
	}
	for _, hours := range []string{"-1", "x", "721"} {
		w.checkPage(hours+" hours", w.do("POST", acmeSettings+"&id=a", filled("rotate", "id", "a", "hours", hours).Encode(), form, asBrowser), 422)
	}
}

// A test event that finds no room is said where its answer would be.
func TestSettingsSayThatATestWasNotSent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.want(201, "PUT", acme+"/a", fmt.Sprintf(`{"url":"%s/a","events":["*"],"secrets":["generate"],"maxPerSecond":0.001}`, w.recv.URL))
	if _, page := w.follow(acmeSettings+"&id=a", filled("test", "id", "a", "sample", "SMS_FAILED")); !strings.Contains(page, "HTTP 204") {
		t.Errorf("the first: %s", page)
	}
	to, page := w.follow(acmeSettings+"&id=a", filled("test", "id", "a", "sample", "SMS_FAILED"))
	if to != acmeSettings+"&id=a" || !strings.Contains(page, "not sent: too many test events at once") {
		t.Errorf("the second ends at %s: %s", to, page)
	}
}

// Whatever is wrong is said in one answer, beside its field.
func TestSettingsSayAllThatIsWrong(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	w.put("acme", "orders")
	wrong := []string{"url", "ftp://x", "events", "these", "maxInFlight", "many", "maxPerSecond", "-1", "headers", "no colon", "batchMax", "1", "batchWait", "1h", "notificationIds", strings.Repeat("n", 9000), "description", strings.Repeat("d", 2000)}
	for id, name := range map[string]string{"orders": "taken", "": "no name", "a b": "no good name"} {
		a := w.do("POST", acmeSettings+"&new=1", filled("save", append(wrong, "id", id)...).Encode(), form, asBrowser)
		w.checkPage(name, a, 200)
		page := string(a.body)
		_, summary, _ := strings.Cut(page, `id="problem"`)
		summary, _, _ = strings.Cut(summary, "</ul>")
		for _, field := range []string{"id", "url", "events", "maxInFlight", "maxPerSecond", "headers", "batchMax", "batchWait", "notificationIds", "description"} {
			if !strings.Contains(summary, `<a href="#`+field+`">`) {
				t.Errorf("%s: the summary does not lead to %s: %s", name, field, summary)
			}
			at := regexp.MustCompile(`(?s)id="` + field + `".*?class="wrong"`).FindString(page)
			if next := strings.Count(at, "<input") + strings.Count(at, "<textarea"); at == "" || next > 1 {
				t.Errorf("%s: nothing is wrong beside %s: %q", name, field, at)
			}
		}
		if !strings.Contains(page, `data-guard="typed"`) || !strings.Contains(page, "nn</textarea>") || !strings.Contains(page, `name="batchWait" placeholder="1s" value="1h"`) {
			t.Errorf("%s: what was typed is gone", name)
		}
	}
}

// Events are asked for one by one, or all of them, those to come too.
func TestSettingsEveryEvent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	save := func(want string, more ...string) string {
		t.Helper()
		_, page := w.follow(acmeSettings+"&id=a", filled("save", append(more, "id", "a", "url", w.recv.URL+"/a")...))
		var is struct{ Events []string }
		must(t, json.Unmarshal([]byte(w.redis.HGet("fanout:account:acme", "a")), &is))
		if got := fmt.Sprint(is.Events); got != want {
			t.Errorf("%v is stored as %s, want %s", more, got, want)
		}
		return page
	}
	all := []string{"events", "these"}
	for _, name := range []string{"EMAIL_OPEN", "EMAIL_CLICK", "EMAIL_FAILED", "SMS_FAILED", "CALL_FAILED", "PUSH_FAILED", "WEB_PUSH_FAILED", "INAPP_WEB_FAILED"} {
		all = append(all, "event", name)
	}
	if page := save("[*]", "events", "*"); !strings.Contains(page, `value="*" id="every" checked`) || strings.Count(page, `name="event"`) != 8 {
		t.Errorf("%s", page)
	}
	save("[EMAIL_OPEN EMAIL_CLICK EMAIL_FAILED SMS_FAILED CALL_FAILED PUSH_FAILED WEB_PUSH_FAILED INAPP_WEB_FAILED]", all...)
	if page := save("[SMS_FAILED]", "events", "these", "event", "SMS_FAILED"); strings.Contains(page, `id="every" checked`) || !strings.Contains(page, `aria-label="WEB_PUSH"`) {
		t.Errorf("%s", page)
	}
}

// How many events come in one request is a field of the form. What it does not have of a batch's wish is kept by leaving it alone.
func TestSettingsBatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	save := func(most, wait, want string) {
		t.Helper()
		_, page := w.follow(acmeSettings+"&id=a", filled("save", "id", "a", "url", w.recv.URL+"/a", "event", "EMAIL_OPEN", "batchMax", most, "batchWait", wait))
		var is struct{ Batch json.RawMessage }
		must(t, json.Unmarshal([]byte(w.redis.HGet("fanout:account:acme", "a")), &is))
		if string(is.Batch) != want || !strings.Contains(page, `name="batchMax" inputmode="numeric" value="`+most+`"`) {
			t.Errorf("%q, %q is stored as %s, want %s", most, wait, is.Batch, want)
		}
	}
	save("100", "1s", `{"max":100,"wait":"1s"}`)
	save("50", "", `{"max":50}`)
	save("", "", "")
}

// Support opens an account by a part of its id.
func TestSettingsFindAnAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	for _, account := range []string{"Acme-EU", "acme-us", "the-acme", "globex"} {
		w.put(account, "orders")
	}
	w.put("acme-us", "crm")
	links := func(path string) string {
		var found []string
		for _, one := range regexp.MustCompile(`href="/settings/events-webhook\?account=([^"]+)"><bdi`).FindAllStringSubmatch(w.page(200, path), -1) {
			found = append(found, one[1])
		}
		return strings.Join(found, " ")
	}
	for path, want := range map[string]string{
		"/settings/events-webhook": "Acme-EU acme-us globex the-acme", "/settings/events-webhook?find=ACME": "Acme-EU acme-us the-acme", "/settings/events-webhook?account=acme": "Acme-EU acme-us the-acme",
		"/settings/events-webhook?account=globex": "", "/settings/events-webhook?account=nobody": "",
	} {
		if got := links(path); got != want {
			t.Errorf("%s proposes %q, want %q", path, got, want)
		}
	}
	if page := w.page(200, "/settings/events-webhook?find=acme-u"); !strings.Contains(page, `<option value="acme-us">2 webhooks</option>`) {
		t.Errorf("%s", page)
	}
	if page := w.page(200, w.link("nobody")+"/settings/events-webhook", anonymous); strings.Contains(page, "globex") || strings.Contains(page, `id="accounts"`) {
		t.Error("a customer is told of other accounts")
	}
	if page := w.page(200, "/settings/events-webhook?account=globex"); !strings.Contains(page, "<title>Events Webhook of globex · fanout</title>") || !strings.Contains(page, `<a href="/deliveries?account=globex&amp;subscription=orders">Deliveries</a>`) {
		t.Errorf("%s", page)
	}
	for n := range 30 {
		w.put(fmt.Sprintf("many-%02d", n), "orders")
	}
	if page := w.page(200, "/settings/events-webhook?find=many"); !strings.Contains(page, "and 10 accounts more") || !strings.Contains(page, "many-19") || strings.Contains(page, "many-20") {
		t.Error("not the first twenty are proposed")
	}
}

// What was typed is there for the next try where saving it is not possible.
func TestSettingsKeepWhatWasTyped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	w.put("acme", "orders")
	portal := w.link("acme")
	values := filled("save", "id", "orders", "seen", "x", "url", w.recv.URL+"/typed", "events", "these", "event", "SMS_FAILED", "description", "typed too")
	w.redis.SetError("LOADING secret-host:6379")
	a := w.do("POST", acmeSettings+"&id=orders", values.Encode(), form, asBrowser)
	w.checkPage("without Redis", a, 503)
	for _, want := range []string{"/typed", "typed too", `value="SMS_FAILED" checked`, `name="seen" value="x"`, "Redis does not answer", `data-guard="typed"`} {
		if !strings.Contains(string(a.body), want) {
			t.Errorf("without Redis the page does not have %q", want)
		}
	}
	// A customer's link cannot be judged either then.
	w.checkPage("a portal without Redis", w.do("POST", portal+"/settings/events-webhook?id=orders", values.Encode(), form, asBrowser, anonymous), 503)
	// A session that has ended is begun in another tab, and the browser sends the form again.
	w.redis.SetError("")
	a = w.do("POST", acmeSettings+"&id=orders", values.Encode(), form, asBrowser, anonymous)
	w.checkPage("signed out", a, 401)
	if !strings.Contains(string(a.body), "Sign in in another tab") {
		t.Errorf("%s", a.body)
	}
}
