package admin_test

import (
	"fmt"
	"html"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"fanout/admin"
)

var (
	tags    = regexp.MustCompile(`(?s)<(script|style|pre).*?</(script|style|pre)>|<[^>]*>`)
	actions = regexp.MustCompile(`(?s)\{\{.*?\}\}`)
	said    = regexp.MustCompile(`(?:aria-label|title|placeholder)="([^"]*)"`) // to people too
)

// words are what a page says: its text, and what its attributes say.
func words(page string) string {
	var out strings.Builder
	for _, one := range said.FindAllStringSubmatch(page, -1) {
		out.WriteString(one[1] + "\n")
	}
	out.WriteString(tags.ReplaceAllString(page, "\n"))
	return html.UnescapeString(out.String())
}

// One thing has one name on the pages (docs/contract.md, "words of the code"): a webhook. Endpoints is a page's name.
func TestPagesHaveOneVocabulary(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("web/*.html")
	must(t, err)
	if len(files) < 15 {
		t.Fatalf("%d templates", len(files))
	}
	other := regexp.MustCompile(`(?i)\b(endpoints?|subscriptions?|hooks?|lanes?|tenants?|customers?)\b`)
	// Names of pages.
	allowed := map[string][]string{
		"*":             {"Endpoints", "Back to Endpoints"},
		"settings.html": {"Customer"}, // the portal's own name
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		must(t, err)
		text := words(actions.ReplaceAllString(string(source), ""))
		name := filepath.Base(file)
		for _, at := range other.FindAllStringIndex(text, -1) {
			word, ok := text[at[0]:at[1]], false
			for _, one := range append(allowed["*"], allowed[name]...) {
				ok = ok || one == word
			}
			if !ok {
				t.Errorf("%s says %q: …%s…", name, word, strings.TrimSpace(text[max(0, at[0]-40):min(len(text), at[1]+40)]))
			}
		}
	}
}

// Where there is one of something, a page says so in the singular.
func TestPagesSayOneInTheSingular(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	w.put("acme", "orders")
	w.recv.answers(410, "")
	w.open("t", "acme")
	w.until("a dead letter", func() bool { return w.do("GET", "/api/v1/dead-letters", "").json(t)["matched"] == 1.0 })
	w.want(202, "POST", "/api/v1/replays", `{"name":"one","account":"acme"}`)
	w.until("the replay's end", func() bool { return w.do("GET", "/api/v1/replays/one", "").json(t)["state"] != "running" })
	id := w.want(200, "GET", "/api/v1/deliveries?account=acme", "").json(t)["deliveries"].([]any)[0].(map[string]any)["id"].(string)
	many := regexp.MustCompile(`(?:^|[^\d.,:/-])1 ([a-z]+s)\b`)
	check := func(portal bool, base string, as ...func(*http.Request)) {
		t.Helper()
		pages, _ := addresses(t, portal, "acme", "orders", "0/0", "one")
		for _, path := range append(pages, "/deliveries/show?id="+id, "/deliveries/resend?id="+id) {
			for _, one := range many.FindAllStringSubmatch(words(w.page(200, base+path, as...)), -1) {
				if word := one[1]; word != "is" && word != "was" && word != "has" && word != "s" && word != "ms" && word != "days" {
					t.Errorf("%s says 1 %s", path, word)
				}
			}
		}
	}
	check(false, "")
	check(true, w.link("acme"), anonymous)
}

func TestTimesInSentences(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":      "",
		"a < b": "a &lt; b",
		"9 failures in a row since 2020-01-02T03:04:05Z, last: <b>": `9 failures in a row since <time datetime="2020-01-02T03:04:05Z" title="2020-01-02T03:04:05Z">2020-01-02 03:04:05 UTC</time>, last: &lt;b&gt;`,
		"at 2020-13-02T03:04:05Z":                                   "at 2020-13-02T03:04:05Z",
	} {
		if got := fmt.Sprint(admin.Timed(text)); got != want {
			t.Errorf("%q is written as %s", text, got)
		}
	}
}
