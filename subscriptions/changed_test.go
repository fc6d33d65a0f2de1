package subscriptions_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"

	"fanout/subscriptions"
)

// An observer hears of every change that a client of Redis or `subscriptions apply` makes, and of none that an instance made, which
// tells of it itself; nor of what a first load finds.
func TestObserve(t *testing.T) {
	t.Parallel()
	redis := miniredis.RunT(t)
	s := store(t, "redis://"+redis.Addr())
	put(t, s, "acme", "old", hook(1))
	var mu sync.Mutex // guards got
	var got []string
	d, _ := start(t, subscriptions.Config{URL: "redis://" + redis.Addr(), SnapshotFile: "off"}, func(d *subscriptions.Directory) {
		d.Observe(func(c subscriptions.Changed) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, fmt.Sprintf("%s/%s %s (%s) by %q", c.Account, c.ID, c.Kind, c.Detail, c.By))
		})
	})
	ready(t, d)
	told := func(want ...string) {
		t.Helper()
		count := func() []string {
			mu.Lock()
			defer mu.Unlock()
			return got
		}
		within(t, 5*time.Second, fmt.Sprint(want), func() bool { return len(count()) >= len(want) })
		if diff := cmp.Diff(want, count()); diff != "" {
			t.Fatal(diff)
		}
		mu.Lock()
		got = nil
		mu.Unlock()
	}
	within(t, 5*time.Second, "loaded", func() bool { return d.Status().Source == "redis" })

	put(t, s, "acme", "crm", hook(2))
	told(`acme/crm created () by ""`)
	put(t, s, "acme", "crm", `{"url":"https://example.com/new","events":["EMAIL_OPEN","EMAIL_CLICK"],"secrets":["`+secret+`"]}`)
	told(`acme/crm updated (url, events) by ""`)
	put(t, s, "acme", "crm", `{"url":"https://example.com/new","events":["EMAIL_OPEN","EMAIL_CLICK"],"secrets":["`+secret+`"],"paused":true}`)
	told(`acme/crm paused (paused) by ""`)
	put(t, s, "acme", "crm", `{"url":"https://example.com/new","events":["EMAIL_OPEN","EMAIL_CLICK"]}`)
	told(`acme/crm resumed (paused, secrets) by ""`)
	put(t, s, "acme", "crm", `{"url":"https://example.com/new","events":["EMAIL_OPEN","EMAIL_CLICK"],"secrets":["`+secret+`"]}`)
	told(`acme/crm rotated (secrets) by ""`)
	redis.HSet("fanout:account:acme", "crm", `{"events":["EMAIL_OPEN"]}`)
	if err := s.Changed(t.Context(), "acme"); err != nil {
		t.Fatal(err)
	}
	told(`acme/crm invalid (invalid subscription: url: is required) by ""`)

	// An instance's own change, and one of `apply`.
	put(t, s.As("operator"), "acme", "crm", hook(3))
	told(`acme/crm valid () by "operator"`)
	put(t, s.As("apply alice"), "acme", "applied", hook(4))
	told(`acme/applied created () by "apply alice"`)
	if _, err := s.Delete(t.Context(), "acme", "crm"); err != nil {
		t.Fatal(err)
	}
	told(`acme/crm deleted () by ""`)

	// A change that this instance has made is in force before its announcement is read.
	put(t, s, "acme", "own", hook(5))
	if err := d.Refresh(t.Context(), "acme"); err != nil {
		t.Fatal(err)
	}
	put(t, s, "acme", "last", hook(6))
	within(t, 5*time.Second, "last", func() bool { return d.Lookup("acme", "last") != nil })
}

// An account that is too long to be kept is left alone when it is announced, as a full load leaves it alone: the table could not find
// it again, and would take it for new each time.
func TestAnnouncedAccountIsTooLong(t *testing.T) {
	t.Parallel()
	redis := miniredis.RunT(t)
	s := store(t, "redis://"+redis.Addr())
	long := strings.Repeat("x", 1025)
	redis.HSet(key+"acme", "marker", hook(1))
	told := make(chan string, 10)
	d, _ := start(t, subscriptions.Config{URL: "redis://" + redis.Addr(), SnapshotFile: "off"}, func(d *subscriptions.Directory) {
		d.Observe(func(c subscriptions.Changed) { told <- fmt.Sprint(c.ID, " ", c.Kind) })
	})
	ready(t, d)
	within(t, 5*time.Second, "loaded", func() bool { return d.Status().Source == "redis" })
	redis.HSet(key+long, "bad", `{"url":7}`)
	for i := range 3 {
		redis.HSet(key+"acme", "marker", hook(2+i))
		if err := s.Changed(t.Context(), long, "acme"); err != nil {
			t.Fatal(err)
		}
		for one := range told {
			if one == "marker updated" {
				break
			}
			t.Errorf("announcement %d: %s", i, one)
		}
	}
	if n := d.Len(); n != 1 {
		t.Errorf("%d subscriptions, want the one that an event can name", n)
	}
}
