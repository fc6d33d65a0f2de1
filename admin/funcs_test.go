package admin_test

import (
	"testing"
	"time"

	"fanout/admin"
)

func TestTimesInWords(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration][3]string{ // ahead: ago of it as the past, due, overdue
		-time.Hour:              {"1 h ago", "now", "overdue by 1 h"},
		-11 * time.Second:       {"11 s ago", "now", "overdue by 11 s"},
		-9 * time.Second:        {"9 s ago", "now", "now"},
		-time.Millisecond:       {"now", "now", "now"},
		0:                       {"now", "now", "now"},
		3500 * time.Millisecond: {"now", "in 3 s", "in 3 s"},
		90 * time.Second:        {"now", "in 1 min", "in 1 min"},
		72 * time.Hour:          {"now", "in 3 days", "in 3 days"},
	} {
		if got := [3]string{admin.Ago(-d), admin.Due(d), admin.Overdue(d)}; got != want {
			t.Errorf("%s ahead: %q, want %q", d, got, want)
		}
	}
}

func TestClock(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 0, 30, 0, 0, time.FixedZone("x", 3600)) // 23:30 in UTC, the day before
	for at, want := range map[time.Time]string{
		now:                       "23:30:00",
		now.Add(-time.Hour):       "22:30:00",
		now.Add(time.Hour):        "2026-03-01 00:30:00",
		now.AddDate(-1, 0, 0):     "2025-02-28 23:30:00",
		now.Add(-24 * time.Hour):  "2026-02-27 23:30:00",
		now.Add(29 * time.Minute): "23:59:00",
	} {
		if got := admin.Clock(at, now); got != want {
			t.Errorf("%s is %q, want %q", at, got, want)
		}
	}
}

func TestSentences(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"there is no such page": "There is no such page.", "": "", "übel": "Übel.", "Ask for a new one.": "Ask for a new one.", "why?": "Why?"} {
		if got := admin.Sentence(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
	for n, want := range map[int]string{0: "0 webhooks", 1: "1 webhook", 2: "2 webhooks"} {
		if got := admin.Plural(n, "webhook"); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
