package subscriptions_test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"fanout/subscriptions"
)

// addSubscriptions seeds with what config sync jobs may write.
func addSubscriptions(f *testing.F) {
	f.Helper()
	full, err := os.ReadFile("../testdata/subscriptions/full.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		string(full), `{}`, `{"url":"a","events":["*"]}`, `{"headers":{"a":"\\\""}}`, `[`, `{"a":{"b":[{"c":"]"}]},"url":"\u00e9"}`,
		`{"url":"https://x","events":["*"],"secrets":["whsec_notbase64!"],"headers":{"x-token":"not\u0000good"}}`,
		`{"url":"https://x","events":["*"],"secrets":["plain-text-password"],"secrets":["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]}`,
		`{"\u0073ecrets":["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw","whsk_too-short-to-be-a-key"],"x":1e999}`,
		`{"secrets":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw","headers":["authorization: Bearer abcdefgh"]}`,
		`{"secrets":["whpk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",["whsec_in_an_array_of_its_own"]],"headers":{"a":{"b":"secret-in-an-object"}}}`,
		`{"url":"https://x","events":["*"],"secrets":["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],"secretExpiry":{"c0ffee0123456789":"2026-01-02T03:04:05Z","x":1},"batch":{}}`,
		`{"url":"https://x","events":["*"],"secret":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw","a":[{"b":"Bearer abc"},["https://u:p@x/"]],"headers":{"via":"a","x_forwarded_for":"b"}}`,
		`{"url":"https://x","events":["EMAIL_OPEN"],"team":"billing","tags":[1,{"a":null}],"maxPerSecond":1e-400}`,
	} {
		f.Add(seed)
	}
}

// FuzzParse holds the hand-written reading against encoding/json's. No error and nothing shown holds a secret or a
// header's value, and what fanout does not know is kept.
func FuzzParse(f *testing.F) {
	addSubscriptions(f)
	f.Fuzz(func(t *testing.T, data string) {
		s, bad := subscriptions.Parse("acme", "a", []byte(data))
		var keys map[string]json.RawMessage
		err := json.Unmarshal([]byte(data), &keys)
		if bad == nil {
			if err != nil {
				t.Fatalf("taken, but %v", err)
			}
			var url string
			_ = json.Unmarshal(keys["url"], &url)
			if s.URL() != url {
				t.Fatalf("url %q, want %q", s.URL(), url)
			}
		}
		for _, r := range []subscriptions.Review{subscriptions.ReviewStored("acme", "a", []byte(data), never), subscriptions.ReviewSent("acme", "a", []byte(data), never)} {
			if r.Invalid == nil && bad != nil {
				t.Fatalf("a review takes what is not valid: %v", bad)
			}
			for _, w := range r.Warnings {
				if slices.ContainsFunc(secrets(keys), func(s string) bool {
					return len(s) >= 12 && strings.Count(data, s) == 1 && strings.Contains(w.String(), s)
				}) {
					t.Fatalf("a warning shows a secret: %s", w)
				}
			}
		}
		masked := subscriptions.Masked([]byte(data))
		if !json.Valid(masked) {
			t.Fatalf("masked %q", masked)
		}
		if s.Account() != "acme" || s.ID() != "a" || (bad == nil) != (s.Invalid() == "") {
			t.Fatalf("%v invalid %q of %s/%s", bad, s.Invalid(), s.Account(), s.ID())
		}
		shown := string(masked) + s.Invalid()
		if bad != nil {
			shown += bad.Error()
		}
		for _, secret := range secrets(keys) {
			// Where it stands once only, it is nothing but a secret.
			if len(secret) >= 12 && strings.Count(data, secret) == 1 && strings.Contains(shown, secret) {
				t.Fatalf("%q shows %q", shown, secret)
			}
		}
		if err == nil && keys != nil && utf8.ValidString(data) {
			keepsUnknown(t, data, keys, masked)
		}
	})
}

// never is a time at which nothing has expired.
var never time.Time

// secrets are the texts in what a subscription's secrets and headers hold, whatever shape they have.
func secrets(keys map[string]json.RawMessage) []string {
	return append(texts(keys["secrets"]), texts(keys["headers"])...)
}

// texts are all strings in a value, but for an object's keys.
func texts(raw json.RawMessage) (all []string) {
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case string:
			all = append(all, v)
		case []any:
			for _, v := range v {
				walk(v)
			}
		case map[string]any:
			for _, v := range v {
				walk(v)
			}
		}
	}
	var v any
	if json.Unmarshal(raw, &v) == nil {
		walk(v)
	}
	return all
}

// keepsUnknown says that what a PUT leaves out, and fanout does not know, stays as it was written.
func keepsUnknown(t *testing.T, data string, keys map[string]json.RawMessage, masked []byte) {
	t.Helper()
	merged, err := subscriptions.Merge([]byte(data), []byte(`{"url":"https://x","events":["*"],"secrets":[],"headers":{}}`), never)
	if err != nil {
		t.Fatalf("merged: %v", err)
	}
	var after, shown map[string]json.RawMessage
	if json.Unmarshal(merged, &after) != nil || json.Unmarshal(masked, &shown) != nil {
		t.Fatalf("merged %q, masked %q", merged, masked)
	}
	for key, raw := range keys {
		switch key {
		case "url", "events", "enabled", "secrets", "headers", "description", "maxInFlight", "maxPerSecond", "paused", "secretExpiry", "notificationIds", "batch":
			continue
		}
		if slices.ContainsFunc(texts(raw), subscriptions.LooksSecret) {
			shown[key] = raw // it must not be shown
		}
		if strings.ContainsRune(key, utf8.RuneError) || distinct(data) != len(keys) {
			continue // a key given twice, or two that cannot be told apart
		}
		if string(after[key]) != string(raw) || string(shown[key]) != string(raw) {
			t.Fatalf("%q was %s, is %s, shown as %s", key, raw, after[key], shown[key])
		}
	}
}

// distinct counts an object's members, those with one key as well.
func distinct(data string) (n int) {
	dec := json.NewDecoder(strings.NewReader(data))
	_, _ = dec.Token()
	for dec.More() {
		var value json.RawMessage
		if _, err := dec.Token(); err != nil || dec.Decode(&value) != nil {
			return -1
		}
		n++
	}
	return n
}

// FuzzMerge says that what a PUT leads to is JSON, that sending what is shown back changes nothing, and that no error
// tells a secret.
func FuzzMerge(f *testing.F) {
	addSubscriptions(f)
	f.Fuzz(func(t *testing.T, data string) {
		shown := subscriptions.Masked([]byte(data))
		s, bad := subscriptions.Parse("acme", "a", []byte(data))
		if bad != nil {
			if merged, err := subscriptions.Merge([]byte(data), []byte(data), never); err == nil && !json.Valid(merged) {
				t.Fatalf("merged %q", merged)
			}
			return
		}
		merged, err := subscriptions.Merge([]byte(data), shown, never)
		if err != nil {
			t.Fatalf("%s sent back to %s: %v", shown, data, err)
		}
		again, bad := subscriptions.Parse("acme", "a", merged)
		if bad != nil {
			t.Fatalf("%s sent back makes %s: %v", shown, merged, bad)
		}
		if again.URL() != s.URL() || again.Events() != s.Events() || len(again.Secrets()) != len(s.Secrets()) || len(again.Headers()) != len(s.Headers()) {
			t.Fatalf("%s sent back makes %s of %s", shown, merged, data)
		}
		for i, h := range s.Headers() {
			if again.Headers()[i] != h {
				t.Fatalf("%s sent back makes %s of %s", shown, merged, data)
			}
		}
	})
}
