package admin_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"fanout/admin"
)

// A signature opens what instances ask each other for, at one address and for a moment; nothing else.
func TestASignatureOpensLittle(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	keys := admin.DeriveKeys(token)
	ask := func(method, path string, change func(*http.Request)) int {
		t.Helper()
		return w.doAt(w.base, method, path, "", anonymous, change).status
	}
	signed := func(keys admin.Keys, at time.Time) func(*http.Request) {
		return func(r *http.Request) { keys.Sign(r, at) }
	}
	now := time.Now()
	for _, path := range []string{"/api/v1/lanes", "/api/v1/lanes?account=acme", "/api/v1/status", "/api/v1/tail?limit=0"} {
		if strings.Contains(path, "limit=0") {
			continue // it would be a bad request, after the door
		}
		if got := ask("GET", path, signed(keys, now)); got != 200 {
			t.Errorf("%s = %d", path, got)
		}
	}
	for path, change := range map[string]func(*http.Request){
		"/api/v1/lanes?none":    func(*http.Request) {},
		"/api/v1/lanes?old":     signed(keys, now.Add(-time.Minute)),
		"/api/v1/lanes?to-come": signed(keys, now.Add(time.Minute)),
		"/api/v1/lanes?other":   signed(admin.DeriveKeys("another token"), now),
		"/api/v1/lanes?host": func(r *http.Request) {
			r.Host = "10.0.0.7:8080"
			keys.Sign(r, now)
			r.Host = ""
		},
		"/api/v1/lanes?query": func(r *http.Request) {
			keys.Sign(r, now)
			r.URL.RawQuery = "account=x"
		},
		"/api/v1/accounts/acme/subscriptions": signed(keys, now),
		"/api/v1/deliveries":                  signed(keys, now),
		"/metrics":                            signed(keys, now),
		"/":                                   signed(keys, now),
	} {
		if got := ask("GET", path, change); got == 200 {
			t.Errorf("%s is opened", path)
		}
	}
	if got := ask("POST", "/api/v1/lanes", signed(keys, now)); got != 401 {
		t.Errorf("POST = %d", got)
	}
	// Without a token there are no keys, and nothing that they would have to open.
	if got := newWorld(t, "").doAt(w.base, "GET", "/api/v1/lanes", "", anonymous, signed(admin.Keys{}, now)).status; got != 401 {
		t.Errorf("without keys = %d", got)
	}
}

func TestAdvertiseIsCheckedWithTheConfiguration(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("t", 32)
	for advertise, want := range map[string]string{
		"10.0.0.7:8080": "http://10.0.0.7:8080", "[10.0.0.7]:8080": "http://10.0.0.7:8080", "[fd00::1]:8080": "http://[fd00::1]:8080", "https://fanout-0.example": "https://fanout-0.example",
		"": "", "10.0.0.7": "bad", "http://10.0.0.7": "bad", "https://u:p@h": "bad", "https://h/path": "bad", "ftp://h:1": "bad",
	} {
		cfg := admin.Config{Listen: "0.0.0.0:8080", Token: long, Advertise: advertise}
		if err := cfg.Validate(); (err != nil) != (want == "bad") {
			t.Errorf("%s: %v", advertise, err)
		}
		if got := cfg.AdvertiseURL(); want != "bad" && got != want {
			t.Errorf("%s becomes %s", advertise, got)
		}
	}
	for _, bad := range []admin.Config{
		{Listen: "127.0.0.1:8080", Token: long, Advertise: "10.0.0.7:8080"},
		{Listen: "127.0.0.1:8080", Advertise: "127.0.0.1:8080"},
		{Listen: "127.0.0.1:8080", Token: "short", Advertise: "127.0.0.1:8080"},
	} {
		if bad.Validate() == nil {
			t.Errorf("%+v is valid", bad)
		}
	}
}
