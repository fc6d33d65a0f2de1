package admin_test

import (
	"fmt"
	"html"
	"strings"
	"testing"
	"time"
)

// Every page says at its head whether all is well, or what is wrong, since when, whom it touches and what to do.
func TestEveryPageHasAVerdict(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	w.put("acme", "orders")
	w.put("globex", "crm")
	acme, globex := w.link("acme"), w.link("globex")
	head := func(body string) string {
		_, rest, ok := strings.Cut(body, `id="verdict"`)
		if !ok {
			return ""
		}
		text, _, _ := strings.Cut(rest, "</div>")
		return html.UnescapeString(text)
	}
	operator := []string{"/", "/endpoints", "/endpoints/show?account=acme&id=orders", "/deliveries", "/explain", "/dead-letters", "/settings/events-webhook?account=acme"}
	says := func(path, text string) {
		t.Helper()
		as := asBrowser
		if strings.HasPrefix(path, "/portal/") {
			as = anonymous
		}
		w.until(path+" says "+text, func() bool {
			return strings.Contains(head(string(w.do("GET", path, "", asBrowser, as).body)), text)
		})
	}
	says("/", "All is well") // a moment after the start
	for _, path := range operator {
		if got := head(w.page(200, path)); !strings.Contains(got, "All is well") {
			t.Errorf("%s: %q", path, got)
		}
	}
	if got := head(w.page(404, "/nothing")); !strings.Contains(got, "All is well") {
		t.Errorf("an error's page: %q", got)
	}

	why := "the brokers <b>are</b> away"
	w.broken.Store(&why)
	for _, path := range append(operator, "/verdict?live=1", "/endpoints?live=1") {
		says(path, "outside not ready")
		if got := head(string(w.do("GET", path, "").body)); !strings.Contains(got, "since") || !strings.Contains(got, why) || !strings.Contains(got, "waits in Kafka") {
			t.Errorf("%s: %q", path, got)
		}
	}
	says(acme+"/endpoints", "which is not your doing")
	if got := head(w.page(200, acme+"/dead-letters", anonymous)); strings.Contains(got, "brokers") {
		t.Errorf("a customer is told %q", got)
	}
	// Whoever is not signed in is told nothing.
	for _, path := range []string{"/", "/endpoints?live=1", "/sign-in", "/verdict?live=1", "/portal/x/endpoints"} {
		if body := string(w.do("GET", path, "", anonymous).body); strings.Contains(body, `id="verdict"`) || strings.Contains(body, "brokers") {
			t.Errorf("%s tells anybody", path)
		}
	}
	w.broken.Store(nil)
	says("/", "All is well")

	w.recv.answers(503, "down")
	for i := range 250 {
		w.open(fmt.Sprintf("t-%d", i), "acme")
	}
	says("/dead-letters", "1 webhook parked")
	says("/", "the first acme / orders")
	says(acme+"/endpoints", "gets nothing after many failures")
	if got := head(w.page(200, globex+"/endpoints", anonymous)); !strings.Contains(got, "All is well") {
		t.Errorf("another account is told %q", got)
	}
	w.recv.answers(204, "")
	says("/", "All is well")

	w.redis.SetError("LOADING Redis is loading the dataset in memory")
	says("/endpoints", "Redis does not answer")
	w.redis.SetError("")
	says("/endpoints", "All is well")
}

// A dead Kafka is said, though the group is joined still.
func TestVerdictMissesKafka(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	w.put("acme", "orders")
	portal := w.link("acme")
	w.until("a count", func() bool { return strings.Contains(w.page(200, "/"), "None. A delivery") })
	w.gone.Store(true)
	w.until("that Kafka is missed", func() bool {
		page := string(w.do("GET", "/endpoints", "", asBrowser).body)
		return strings.Contains(page, "Kafka does not answer") && !strings.Contains(page, "All is well")
	})
	if page := w.page(200, portal+"/endpoints", anonymous); !strings.Contains(page, "which is not your doing") || strings.Contains(page, "Kafka") {
		t.Errorf("a customer is told %s", page)
	}
	w.admin.Age(time.Minute)
	if page := w.page(200, "/"); !strings.Contains(page, "joined still") || strings.Contains(page, "None. A delivery") {
		t.Errorf("the overview is calm: %s", page)
	}
	w.gone.Store(false)
	w.until("that it is there again", func() bool { return strings.Contains(w.page(200, "/endpoints"), "All is well") })
}
