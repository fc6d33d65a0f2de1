package subscriptions_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"fanout/subscriptions"
)

// An account that really changes is written down, with the time of its announcement, before the change is in force; one that is
// announced unchanged is not, nor is what a first load finds.
func TestChangesAreWrittenDown(t *testing.T) {
	m := miniredis.RunT(t)
	put := func(url string) {
		m.HSet("fanout:account:acme", "a", `{"url":"`+url+`","events":["*"]}`)
	}
	announce := func(ms int) {
		t.Helper()
		if _, err := m.XAdd("fanout:changes", fmt.Sprintf("%d-1", ms), []string{"account", "acme"}); err != nil {
			t.Fatal(err)
		}
	}
	url := func(d *subscriptions.Directory) string {
		if s := d.Lookup("acme", "a"); s != nil {
			return s.URL()
		}
		return ""
	}
	score := func() float64 {
		at, _ := m.ZScore("fanout:changed", "acme") // 0: it is not there
		return at
	}
	put("https://one.test")
	announce(1000)
	d, stop := start(t, subscriptions.Config{URL: redisURL(m), SnapshotFile: "off"}, func(d *subscriptions.Directory) { d.RecordChanges(1000 * time.Hour) })
	ready(t, d)
	within(t, 10*time.Second, "the set begins", func() bool { return m.Exists("fanout:changed") })
	if at := score(); at != 0 {
		t.Errorf("the first load made it change at %.0f", at)
	}
	announce(2000)
	put("https://two.test")
	announce(3000)
	within(t, 10*time.Second, "the change is in force", func() bool { return url(d) == "https://two.test" })
	if at := score(); at < 3000 {
		t.Errorf("in force, and changed at %.0f", at)
	}
	before := score()
	announce(4000)
	m.HSet("fanout:account:other", "a", `{"url":"https://one.test","events":["*"]}`)
	if _, err := m.XAdd("fanout:changes", "5000-1", []string{"account", "other"}); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "the other is in force", func() bool { return d.Lookup("other", "a") != nil })
	if at := score(); at != before {
		t.Errorf("announced unchanged: changed at %.0f, was %.0f", at, before)
	}
	if at, _ := m.ZScore("fanout:changed", "other"); at != 5000 {
		t.Errorf("a new account changed at %.0f", at)
	}
	if _, err := store(t, redisURL(m)).Delete(t.Context(), "acme", "a"); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "it is gone", func() bool { return url(d) == "" })
	changes, err := store(t, redisURL(m)).ChangedSince(t.Context(), time.Now().Add(time.Hour))
	if err != nil || time.Since(changes.Last["acme"]) > time.Minute || time.Since(changes.Since) > time.Minute {
		t.Errorf("changes %+v, %v", changes, err)
	}
	stop()

	// A start that knows nothing takes for changed what was announced while nobody ran.
	put("https://three.test")
	ahead := int(time.Now().Add(time.Hour).UnixMilli())
	announce(ahead)
	d, _ = start(t, subscriptions.Config{URL: redisURL(m), SnapshotFile: "off"}, func(d *subscriptions.Directory) { d.RecordChanges(1000 * time.Hour) })
	ready(t, d)
	if at := score(); at != float64(ahead) {
		t.Errorf("announced while nobody ran: changed at %.0f, want %d", at, ahead)
	}
}

// A change that nobody announced is written down when a full load finds it, and one that Redis has forgotten is trimmed.
func TestUnannouncedChangeIsWrittenDown(t *testing.T) {
	m := miniredis.RunT(t)
	m.HSet("fanout:account:acme", "a", `{"url":"https://one.test","events":["*"]}`)
	if _, err := m.ZAdd("fanout:changed", 5, "long ago"); err != nil {
		t.Fatal(err)
	}
	d, _ := start(t, subscriptions.Config{URL: redisURL(m), SnapshotFile: "off"}, func(d *subscriptions.Directory) {
		d.SetIntervalsForTest(50*time.Millisecond, 10*time.Millisecond, time.Second)
		d.RecordChanges(time.Hour)
	})
	ready(t, d)
	within(t, 10*time.Second, "it is trimmed", func() bool {
		members, _ := m.ZMembers("fanout:changed")
		return !slices.Contains(members, "long ago")
	})
	m.HSet("fanout:account:acme", "a", `{"url":"https://two.test","events":["*"]}`)
	within(t, 10*time.Second, "the change is in force", func() bool { return d.Lookup("acme", "a").URL() == "https://two.test" })
	if at, _ := m.ZScore("fanout:changed", "acme"); time.Since(time.UnixMilli(int64(at))) > time.Minute {
		t.Errorf("changed at %.0f", at)
	}
}

// What is announced while the first load is still under way counts as changed: nothing says that it has not.
func TestAnnouncedDuringFirstLoadIsWrittenDown(t *testing.T) {
	m := miniredis.RunT(t)
	m.HSet("fanout:account:acme", "a", `{"url":"https://one.test","events":["*"]}`)
	d, err := subscriptions.New(subscriptions.Config{URL: redisURL(m), SnapshotFile: "off"}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	d.RecordChanges(time.Hour)
	if err := d.TakeAnnounced(t.Context(), "acme", 3000); err != nil {
		t.Fatal(err)
	}
	if at, _ := m.ZScore("fanout:changed", "acme"); at != 3000 {
		t.Errorf("changed at %.0f", at)
	}
}
