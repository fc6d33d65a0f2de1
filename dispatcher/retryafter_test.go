package dispatcher_test

import (
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"fanout/dispatcher"
)

func TestParseRetryAfter(t *testing.T) {
	now := time.Date(1994, 11, 6, 8, 49, 7, 0, time.UTC)
	tests := []struct {
		value string
		want  time.Duration
		ok    bool
	}{
		{"0", 0, true},
		{"120", 2 * time.Minute, true},
		{"007", 7 * time.Second, true},
		{"86400", 24 * time.Hour, true},
		{"86401", 24 * time.Hour, true},
		{"99999999999999999999999999", 24 * time.Hour, true},
		{"Sun, 06 Nov 1994 08:49:37 GMT", 30 * time.Second, true},
		{"Sunday, 06-Nov-94 08:49:37 GMT", 30 * time.Second, true},
		{"Sun Nov  6 08:49:37 1994", 30 * time.Second, true},
		{"Sun, 06 Nov 1994 08:49:00 GMT", 0, true},
		{"Sun, 06 Nov 2094 08:49:37 GMT", 24 * time.Hour, true},
		{"", 0, false},
		{"99999999999999999999x", 0, false},
		{"1 2", 0, false},
		{"-1", 0, false},
		{"+1", 0, false},
		{"1.5", 2 * time.Second, true},
		{"0.2", time.Second, true},
		{"30.0", 30 * time.Second, true},
		{"90000.5", 24 * time.Hour, true},
		{"99999999999999999999999999.5", 24 * time.Hour, true},
		{".5", 0, false},
		{"5.", 0, false},
		{"1.5.2", 0, false},
		{"1,5", 0, false},
		{"1e3", 0, false},
		{"Sun, 06 Nov 1994 08:49:37 UTC", 30 * time.Second, true},
		{"Sun, 06 Nov 1994 08:49:37 +0000", 30 * time.Second, true},
		{"Sun, 06 Nov 1994 10:49:37 +0200", 30 * time.Second, true},
		{"Sun, 06 Nov 1994 03:19:37 -0530", 30 * time.Second, true},
		{"Sunday, 06-Nov-94 09:49:37 +0100", 30 * time.Second, true},
		{"Sun, 06 Nov 1994 08:49:37 CET", 0, false},
		{"Sun, 06 Nov 1994 08:49:37", 0, false},
		{"1s", 0, false},
		{"0x10", 0, false},
		{"1_000", 0, false},
		{"soon", 0, false},
		{"1994-11-06T08:49:37Z", 0, false},
	}
	for _, tt := range tests {
		if got, ok := dispatcher.ParseRetryAfter(tt.value, now); got != tt.want || ok != tt.ok {
			t.Errorf("%q: got %v, %v; want %v, %v", tt.value, got, ok, tt.want, tt.ok)
		}
	}
}

// Some receivers send the time itself: it is not a wait of 57 years.
func TestRetryAfterAsATime(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"1795867230":       30 * time.Second,
		"1795867230.0":     30 * time.Second,
		"1795867229.4":     30 * time.Second,
		"1795867230000":    30 * time.Second,
		"1795867229001":    30 * time.Second,
		"1795867200":       0,
		"1795867199":       0,
		"1000000000":       0,
		"1795963600":       24 * time.Hour,
		"999999999":        24 * time.Hour, // too small for a time: seconds
		"10000000000":      24 * time.Hour, // too large
		"1795867230000000": 24 * time.Hour, // microseconds are no form
	} {
		if got, ok := dispatcher.ParseRetryAfter(value, now); got != want || !ok {
			t.Errorf("%q: %v, %v; want %v", value, got, ok, want)
		}
	}
}

func FuzzParseRetryAfter(f *testing.F) {
	for _, s := range []string{"120", "Sun, 06 Nov 1994 08:49:37 GMT", "-1", "99999999999999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := dispatcher.ParseRetryAfter(s, time.Unix(784111747, 0))
		if got < 0 || got > dispatcher.MaxRetryAfter || !ok && got != 0 {
			t.Errorf("%q: %v, %v", s, got, ok)
		}
		// Digits alone are a wait or a time, however many they are; in 1994 every such time lies ahead by more than may be asked for.
		if n, number := new(big.Int).SetString(s, 10); number && strings.Trim(s, "0123456789") == "" {
			want := dispatcher.MaxRetryAfter
			if n.Cmp(big.NewInt(86400)) < 0 {
				want = time.Duration(n.Int64()) * time.Second
			}
			if !ok || got != want {
				t.Errorf("%q: %v, %v, want %v", s, got, ok, want)
			}
			return
		}
		if _, err := http.ParseTime(s); err == nil && !ok {
			t.Errorf("%q is a date, and is not read", s)
		}
	})
}
