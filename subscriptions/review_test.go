package subscriptions_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"fanout/subscriptions"
)

// says is a list of problems, one a line.
func says(list []subscriptions.FieldProblem) string {
	lines := make([]string, len(list))
	for i, p := range list {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// What is odd is said whoever asks, and is in force all the same.
func TestReviewWarns(t *testing.T) {
	signed := `,"secrets":["` + secret + `"]`
	expiry := func(fp, text string) string { return signed + `,"secretExpiry":{"` + fp + `":"` + text + `"}` }
	for _, c := range []struct {
		json string // after url and events
		want []string
	}{
		{signed, nil},
		{``, []string{"secrets: unsigned"}},
		{`,"secrets":[]`, []string{"secrets: unsigned"}},
		{`,"enabled":false`, []string{"secrets: unsigned"}},
		{`,"secret":"` + secret + `"`, []string{"secret: unknown key", "did you mean secrets?", "secrets: unsigned"}},
		{signed + `,"enbled":false`, []string{"enbled: unknown key", "did you mean enabled?"}},
		{signed + `,"max_per_second":1`, []string{"did you mean maxPerSecond?"}},
		{signed + `,"team":"growth"`, []string{"team: unknown key: it is kept, and has no effect"}},
		{signed + `,"` + secret + `":1`, []string{"whsec_…: unknown key"}},
		{signed + `,"notificationIds":["promo-*"],"batch":{"max":100,"wait":"1s"}`, nil},
		{expiry(fingerprint(secret), "2026-03-01T13:00:00Z"), []string{"secretExpiry: every secret expires", "from 2026-03-01T13:00:00Z on"}},
		{expiry(strings.ToUpper(fingerprint(secret)), "2026-03-01T13:00:00+00:00"), []string{"secretExpiry: every secret expires"}},
		{expiry(fingerprint(secret), "2026-03-01T12:00:00Z"), []string{"expired at 2026-03-01T12:00:00Z", "secrets: unsigned"}},
		{expiry("0123456789abcdef", "2026-03-01T13:00:00Z"), []string{"secretExpiry.0123456789abcdef: none of the secrets"}},
	} {
		data := []byte(`{"url":"https://x","events":["*"]` + c.json + `}`)
		sent, stored := subscriptions.ReviewSent("acme", "a", data, noon), subscriptions.ReviewStored("acme", "a", data, noon)
		if sent.Invalid != nil || stored.Invalid != nil {
			t.Errorf("%s: %v, %v", c.json, sent.Invalid, stored.Invalid)
		}
		if says(sent.Warnings) != says(stored.Warnings) {
			t.Errorf("%s: %q when it is sent, %q when it is stored", c.json, sent.Warnings, stored.Warnings)
		}
		text := says(stored.Warnings)
		if len(c.want) == 0 && text != "" {
			t.Errorf("%s: %s", c.json, text)
		}
		for _, want := range c.want {
			at := strings.Index(text, want)
			if at < 0 {
				t.Errorf("%s: want %q in %q", c.json, want, says(stored.Warnings))
				break
			}
			text = text[at+len(want):]
		}
		if strings.Contains(says(stored.Warnings), secret[7:]) {
			t.Errorf("a warning shows a secret: %s", says(stored.Warnings))
		}
	}
}

// A rule of a later edition refuses what is written, and leaves in force what is stored, but for what breaks it.
func TestRulesOfLaterEditions(t *testing.T) {
	for _, c := range []struct {
		json  string // after url and events
		field string
	}{
		{`,"headers":{"Via":"1.1 x","x-tenant":"acme"}`, "headers.Via"},
		{`,"secretExpiry":"tomorrow"`, "secretExpiry"},
		{`,"secretExpiry":{"abc":"2026-03-01T13:00:00Z"}`, "secretExpiry.abc"},
		{`,"secretExpiry":{"0123456789abcdef":"tomorrow"}`, "secretExpiry.0123456789abcdef"},
		{`,"secretExpiry":{"` + fingerprint(secret) + `":"0001-01-01T00:00:00Z"}`, "secretExpiry." + fingerprint(secret)},
		{`,"secretExpiry":{},"secretExpiry":{}`, "secretExpiry"},
	} {
		data := []byte(`{"url":"https://x","events":["*"],"secrets":["` + secret + `"]` + c.json + `}`)
		sent := subscriptions.ReviewSent("acme", "a", data, noon)
		if sent.Invalid == nil || len(sent.Invalid.Problems) != 1 || sent.Invalid.Problems[0].Field != c.field {
			t.Errorf("%s is sent: %v", c.json, sent.Invalid)
		}
		stored := subscriptions.ReviewStored("acme", "a", data, noon)
		if stored.Invalid != nil || !slices.ContainsFunc(stored.Warnings, func(w subscriptions.FieldProblem) bool {
			return w.Field == c.field && strings.Contains(w.Problem, "is left out")
		}) {
			t.Errorf("%s is stored: %v, %q", c.json, stored.Invalid, stored.Warnings)
		}
		s, bad := subscriptions.Parse("acme", "a", data)
		if bad != nil || len(s.Secrets()) != 1 || s.Secrets()[0].Expired(noon.Add(1e6*time.Hour)) {
			t.Errorf("%s: %v %v", c.json, bad, s.Secrets())
		}
		for _, h := range s.Headers() {
			if h.Name != "x-tenant" {
				t.Errorf("%s is sent on as %s", c.json, h.Name)
			}
		}
	}
}

func TestRefusedHeaders(t *testing.T) {
	json := func(name string) []byte {
		return fmt.Appendf(nil, `{"url":"https://x","events":["*"],"headers":{%q:"v"}}`, name)
	}
	// Of the first edition: nobody may have them.
	for name := range strings.FieldsSeq("connection keep-alive proxy-authorization proxy-connection TE trailer Transfer-Encoding upgrade Host content-type Content-Length User-Agent accept-encoding webhook-id Webhook-Signature traceparent tracestate content-a_b") {
		if _, bad := subscriptions.Parse("acme", "a", json(name)); bad == nil {
			t.Errorf("%s is taken", name)
		}
		if subscriptions.ReviewSent("acme", "a", json(name), noon).Invalid == nil {
			t.Errorf("%s can be sent", name)
		}
	}
	// Of the second: what is stored is left out, and nobody may write them.
	for name := range strings.FieldsSeq("Expect via FORWARDED x-forwarded-for X-Forwarded-Anything max-forwards HTTP2-Settings range X-HTTP-Method-Override " +
		"keep_alive Content_Type content_length user_agent accept_encoding webhook_id Webhook_Signature transfer_encoding proxy_authorization x_forwarded_for x-forwarded_for x_http_method-override max_forwards http2_settings") {
		s, bad := subscriptions.Parse("acme", "a", json(name))
		if bad != nil || len(s.Headers()) != 0 {
			t.Errorf("%s is stored: %v, %v", name, bad, s.Headers())
		}
		if subscriptions.ReviewSent("acme", "a", json(name), noon).Invalid == nil {
			t.Errorf("%s can be sent", name)
		}
	}
	for name := range strings.FieldsSeq("authorization x-api-key Accept hostname x_api_key x-forward ranges x-via tea expected") {
		s, bad := subscriptions.Parse("acme", "a", json(name))
		if bad != nil || len(s.Headers()) != 1 || subscriptions.ReviewSent("acme", "a", json(name), noon).Invalid != nil {
			t.Errorf("%s: %v, %v", name, bad, s.Headers())
		}
	}
}

func TestRemovedSecrets(t *testing.T) {
	r, err := subscriptions.Rotate([]byte(`{"url":"https://x","events":["*"],"secrets":["`+secret+`"]}`), time.Hour, noon)
	if err != nil {
		t.Fatal(err)
	}
	next := []byte(`{"url":"https://x","events":["*"],"secrets":["` + r.Secret + `"]}`)
	if got := says(subscriptions.RemovedSecrets(r.JSON, next, noon)); !strings.Contains(got, fingerprint(secret)) || strings.Contains(got, fingerprint(r.Secret)) {
		t.Errorf("%q", got)
	}
	if got := subscriptions.RemovedSecrets(r.JSON, next, noon.Add(time.Hour)); got != nil {
		t.Errorf("it has expired: %q", got)
	}
	if got := subscriptions.RemovedSecrets(nil, next, noon); got != nil {
		t.Errorf("nothing was stored: %q", got)
	}
}

// A subscription with a great many odd keys does not make an endless list.
func TestReviewIsBounded(t *testing.T) {
	var b strings.Builder
	for n := range 5000 {
		fmt.Fprintf(&b, `,"k%d":1`, n)
	}
	r := subscriptions.ReviewSent("acme", "a", []byte(`{"url":"https://x","events":["*"]`+b.String()+`}`), noon)
	if r.Invalid != nil || len(r.Warnings) > 100 {
		t.Errorf("%d warnings, %v", len(r.Warnings), r.Invalid)
	}
}

// What is wrong is said without telling a secret that stands in the wrong place.
func TestProblemsShowNoSecret(t *testing.T) {
	for _, json := range []string{
		`{"url":"https://x","events":["` + secret + `"]}`,
		`{"url":"https://x","events":["*"],"headers":{"` + secret + ` ":"v","` + token + ` b":1}}`,
		`{"url":"https://x","events":["*"],"secrets":["` + secret[:20] + `"],"` + token + `":1}`,
		`{"url":"https://x","events":["*"],"secretExpiry":{"` + secret + `":"` + token + `"}}`,
	} {
		sent, stored := subscriptions.ReviewSent("acme", "a", []byte(json), noon), subscriptions.ReviewStored("acme", "a", []byte(json), noon)
		if sent.Invalid == nil {
			t.Errorf("%s is taken", json)
			continue
		}
		text := sent.Invalid.Error() + says(sent.Warnings) + says(stored.Warnings) + stored.Subscription.Invalid()
		if strings.Contains(text, secret[7:]) || strings.Contains(text, token) {
			t.Errorf("%s: %s", json, text)
		}
	}
}
