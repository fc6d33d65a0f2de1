package subscriptions_test

import (
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"fanout/subscriptions"
)

func TestLooksSecret(t *testing.T) {
	for _, text := range []string{
		secret, "whsec_x", "my secret is " + secret + ".", "whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
		"Bearer hunter2", "bearer x", "Authorization: Bearer topsecret", "authorization=abc", "curl -H 'Authorization: Bearer a1'", "Basic dXNlcjpodW50ZXIy",
		"https://user:hunter2@example.com/", "https://user@example.com/", "see https://example.com/a?api_key=x for it", "https://example.com/?sig=x&a=b",
		"sk_live_4eC39HqLyjWDarjtT1zdp7dc", "ghp_16C7e42F292c6912E7710c838347Ae178B4a", "xoxb-123456789012-4mt0t4lly1eg1t1m4t3",
		"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
		"-----BEGIN EC PRIVATE KEY-----\nMHc", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
	} {
		if !subscriptions.LooksSecret(text) {
			t.Errorf("%q is shown", text)
		}
	}
	for _, text := range []string{
		"", "…", "whsec_…", "whsec_", "orders “eu”", "The bearer of good news", "a basic description", "Basic plan customers", "needs Bearer authentication",
		"550e8400-e29b-41d4-a716-446655440000", "2026-01-02T03:04:05Z", "https://example.com/hooks/v2/accounts/acme-corp?page=2&lang=en",
		"customer-2024-11-05-campaign-17", "ip-10-0-12-34.eu-west-1.compute.internal", "SubscriptionCreatedEventHandlerFactory", "k8s-prod-eu1-az2-node14-rack7",
		"EMAIL_OPEN,EMAIL_CLICK,INAPP_WEB_FAILED", "someone@a-rather-long-company-name.example.com", "12345678901234567890", "/var/lib/fanout/subscriptions/v2",
		"fanout.subscriptions.snapshot_file", "donaudampfschifffahrtsgesellschaft", "+49 30 901820 901820 901820", "x-forwarded-for", "Ünïcödé-ünd-ändere-Zeichen-ganz-lang",
	} {
		if subscriptions.LooksSecret(text) {
			t.Errorf("%q is masked", text)
		}
	}
}

// Nearly every random token is masked, whatever alphabet it is written in.
func TestLooksSecretFindsRandomTokens(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	bytes := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return b
	}
	const base62 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	for name, token := range map[string]func() string{
		"base64 of 32 bytes":          func() string { return base64.StdEncoding.EncodeToString(bytes(32)) },
		"unpadded base64":             func() string { return base64.RawStdEncoding.EncodeToString(bytes(32)) },
		"base64url of 24 bytes":       func() string { return base64.RawURLEncoding.EncodeToString(bytes(24)) },
		"hex of 16 bytes":             func() string { return hex.EncodeToString(bytes(16)) },
		"hex of 32 bytes":             func() string { return strings.ToUpper(hex.EncodeToString(bytes(32))) },
		"base32 of 20 bytes":          func() string { return strings.ToLower(base32.StdEncoding.EncodeToString(bytes(20))) },
		"32 letters and digits":       func() string { return letters(base62, bytes(32)) },
		"24 lower case and digits":    func() string { return letters(base62[26:], bytes(24)) },
		"a token with a prefix":       func() string { return "key_test_" + letters(base62, bytes(28)) },
		"a token in a sentence":       func() string { return "the token is '" + letters(base62, bytes(32)) + "', do not tell" },
		"a token as a path's segment": func() string { return "https://hooks.example.com/services/" + letters(base62, bytes(32)) },
	} {
		const tries = 5000
		missed := 0
		for range tries {
			if !subscriptions.LooksSecret(token()) {
				missed++
			}
		}
		most := tries * 4 / 100                // 2.5 in 100 of the shortest ones, and chance
		if strings.HasPrefix(name, "base32") { // has few digits, and no upper case
			most = tries * 10 / 100
		}
		if missed > most {
			t.Errorf("%s: %d of %d are shown", name, missed, tries)
		}
	}
}

func letters(alphabet string, random []byte) string {
	for i, b := range random {
		random[i] = alphabet[int(b)%len(alphabet)]
	}
	return string(random)
}

// What people write is shown: of the words of the documentation only those are masked that are examples of secrets.
func TestLooksSecretShowsWhatPeopleWrite(t *testing.T) {
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil || len(pages) < 5 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	example := regexp.MustCompile(`wh(sec|sk)_|msg_[a-z2-7]{26}|v1,|(?i)bearer|token=|authorization|[0-9a-f]{32}|:[^/\s]*@`)
	words := 0
	for _, page := range append(pages, "../README.md", "../DESIGN.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for word := range strings.FieldsSeq(string(text)) {
			words++
			if subscriptions.LooksSecret(word) && !example.MatchString(word) {
				t.Errorf("%s: %q is masked", filepath.Base(page), word)
			}
		}
	}
	if words < 10_000 {
		t.Errorf("only %d words", words)
	}
}

func TestMaskedURL(t *testing.T) {
	for url, want := range map[string]string{
		"https://example.com/hooks":                                  "https://example.com/hooks",
		"https://user:hunter2@example.com/hook?token=hunter2":        "https://…@example.com/hook?…",
		"https://user:p@ss@example.com?x=1#frag":                     "https://…@example.com?…#…",
		"https://hooks.example.com/services/T01/B02/" + token + "/x": "https://hooks.example.com/services/T01/B02/…/x",
		"": "", secret: "whsec_…", "not a url": "not a url", "https://example.com/?": "https://example.com/",
	} {
		if got := subscriptions.MaskedURL(url); got != want {
			t.Errorf("%s: %s, want %s", url, got, want)
		}
	}
}
