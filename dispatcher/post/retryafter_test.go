package post_test

import (
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"fanout/dispatcher/post"
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
		{"1.5", 0, false},
		{"1s", 0, false},
		{"0x10", 0, false},
		{"1_000", 0, false},
		{"soon", 0, false},
		{"1994-11-06T08:49:37Z", 0, false},
	}
	for _, tt := range tests {
		if got, ok := post.ParseRetryAfter(tt.value, now); got != tt.want || ok != tt.ok {
			t.Errorf("%q: got %v, %v; want %v, %v", tt.value, got, ok, tt.want, tt.ok)
		}
	}
}

func FuzzParseRetryAfter(f *testing.F) {
	for _, s := range []string{"120", "Sun, 06 Nov 1994 08:49:37 GMT", "-1", "99999999999999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := post.ParseRetryAfter(s, time.Unix(784111747, 0))
		if got < 0 || got > post.MaxRetryAfter || !ok && got != 0 {
			t.Errorf("%q: %v, %v", s, got, ok)
		}
		// Digits alone are seconds, however many they are.
		if n, number := new(big.Int).SetString(s, 10); number && strings.Trim(s, "0123456789") == "" {
			want := post.MaxRetryAfter
			if n.Cmp(big.NewInt(86400)) < 0 {
				want = time.Duration(n.Int64()) * time.Second
			}
			if !ok || got != want {
				t.Errorf("%q: %v, %v, want %v", s, got, ok, want)
			}
			return
		}
		if _, err := http.ParseTime(s); ok != (err == nil) {
			t.Errorf("%q: %v, %v, as a date %v", s, got, ok, err)
		}
	})
}
