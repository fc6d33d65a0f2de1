package subscriptions_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"fanout/event"
	"fanout/subscriptions"
)

func catalogue(t *testing.T) *event.Catalogue {
	t.Helper()
	c, problems := event.NewCatalogue([]event.Row{{Name: "EMAIL_DELIVERED", Channel: "EMAIL", Type: "DELIVERED"}})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return c
}

// A name that the catalogue lacks selects nothing, and takes nothing from the others; who writes it now is told.
func TestUnknownEventNames(t *testing.T) {
	with := subscriptions.Reader{Catalogue: catalogue(t)}
	for _, c := range []struct {
		events       string
		here, there  string // what is selected without, and with the catalogue
		unknownThere bool
	}{
		{`["EMAIL_DELIVERED"]`, "[]", "[EMAIL_DELIVERED]", false},
		{`["EMAIL_OPEN","EMAIL_DELIVERED"]`, "[EMAIL_OPEN]", "[EMAIL_OPEN EMAIL_DELIVERED]", false},
		{`["EMAIL_DELIVRED","SMS_FAILED"]`, "[SMS_FAILED]", "[SMS_FAILED]", true},
		{`["*"]`, fmt.Sprint(event.BuiltIn().Names()), fmt.Sprint(catalogue(t).Names()), false},
	} {
		data := []byte(`{"url":"https://x","events":` + c.events + `,"secrets":["` + secret + `"]}`)
		here, bad := subscriptions.Parse("acme", "a", data)
		if bad != nil || fmt.Sprint(here.Events().Names(nil)) != c.here || here.NamesUnknown() == strings.Contains(c.events, "*") {
			t.Errorf("%s: %v %v", c.events, here.Events().Names(nil), bad)
		}
		there, bad := with.Parse("acme", "a", data)
		if bad != nil || fmt.Sprint(there.Events().Names(with.Catalogue)) != c.there || there.NamesUnknown() != c.unknownThere {
			t.Errorf("%s: %v %v", c.events, there.Events().Names(with.Catalogue), bad)
		}
		sent, stored := with.ReviewSent("acme", "a", data, noon), with.ReviewStored("acme", "a", data, noon)
		if (sent.Invalid != nil) != c.unknownThere || stored.Invalid != nil || (len(stored.Warnings) > 0) != c.unknownThere {
			t.Errorf("%s: sent %v, stored %v %v", c.events, sent.Invalid, stored.Invalid, stored.Warnings)
		}
		if c.unknownThere && (!strings.Contains(sent.Invalid.Error(), "did you mean EMAIL_DELIVERED?") || !strings.Contains(says(stored.Warnings), "did you mean EMAIL_DELIVERED?")) {
			t.Errorf("%v, %v", sent.Invalid, stored.Warnings)
		}
	}
}

// A stored "*" selects what a new catalogue adds, from the snapshot file and from Redis.
func TestCatalogueChangesWithSnapshot(t *testing.T) {
	t.Parallel()
	added, _ := catalogue(t).Parse("EMAIL_DELIVERED")
	m := miniredis.RunT(t)
	m.HSet(key+"acme", "every", `{"url":"https://x","events":["*"]}`)
	m.HSet(key+"acme", "named", `{"url":"https://x","events":["EMAIL_OPEN","EMAIL_DELIVERED"]}`)
	cfg := subscriptions.Config{URL: "redis://" + m.Addr(), SnapshotFile: t.TempDir() + "/snapshot"}
	d, stop := start(t, cfg, quick)
	ready(t, d)
	if n := len(d.Match(nil, "acme", added, "")); n != 1 { // "*" is every event, of whatever catalogue
		t.Errorf("%d match before", n)
	}
	stop()
	m.SetError("LOADING")
	cfg.Catalogue = catalogue(t)
	d, stop = start(t, cfg, quick)
	defer stop()
	ready(t, d)
	if got := fmt.Sprint(d.Lookup("acme", "every").Events().Names(cfg.Catalogue)); got != fmt.Sprint(cfg.Catalogue.Names()) {
		t.Errorf(`"*" from the file selects %s`, got)
	}
	m.SetError("")
	within(t, 10*time.Second, "the named one, judged again", func() bool { return len(d.Match(nil, "acme", added, "")) == 2 })
}

func TestNotificationIDs(t *testing.T) {
	parse := func(ids string) *subscriptions.Subscription {
		s, bad := subscriptions.Parse("acme", "a", []byte(`{"url":"https://x","events":["*"],"description":"words"`+ids+`}`))
		if bad != nil || s.Description() != "words" {
			t.Fatalf("%s: %v", ids, bad)
		}
		return s
	}
	s := parse(`,"notificationIds":["welcome-email","promo-*","a b"]`)
	for id, want := range map[string]bool{
		"welcome-email": true, "promo-7": true, "promo-": true, "a b": true,
		"": false, "promo": false, "welcome-email2": false, "Welcome-email": false, "a": false, "promo-*": true, "welcome-email\npromo-7": false,
	} {
		if got := s.WantsNotification(id); got != want {
			t.Errorf("%q is wanted: %v", id, got)
		}
	}
	if got := strings.Join(s.NotificationIDs(), "|"); got != "welcome-email|promo-*|a b" || !s.Filters() {
		t.Errorf("NotificationIDs() = %s", got)
	}
	if got := s.SampleNotification("test"); got != "welcome-email" || s.SampleNotification("promo-1") != "promo-1" || parse(``).SampleNotification("test") != "test" {
		t.Errorf("the sample is %s", got)
	}
	if every := parse(``); every.Filters() || !every.WantsNotification("x") || every.NotificationIDs() != nil {
		t.Error("one without the key filters")
	}
	for _, bad := range []string{`[]`, `[""]`, `"x"`, `[1]`, `["a\n"]`, `[` + strings.Repeat(`"x",`, 100) + `"x"]`, `["` + strings.Repeat("x", 8192) + `"]`} {
		data := []byte(`{"url":"https://x","events":["*"],"notificationIds":` + bad + `}`)
		if r := subscriptions.ReviewSent("acme", "a", data, noon); r.Invalid == nil || r.Invalid.Problems[0].Field != "notificationIds" {
			t.Errorf("%.40s is taken: %v", bad, r.Invalid)
		}
	}
}

// The snapshot's match is the subscription's, and allocates nothing.
func TestMatchNotifications(t *testing.T) {
	m := miniredis.RunT(t)
	m.HSet(key+"acme", "all", `{"url":"https://x","events":["*"]}`)
	m.HSet(key+"acme", "some", `{"url":"https://x","events":["*"],"notificationIds":["promo-*"]}`)
	d, _ := start(t, subscriptions.Config{URL: "redis://" + m.Addr(), SnapshotFile: "off"}, quick)
	ready(t, d)
	dst := make([]*subscriptions.Subscription, 0, 8)
	for id, want := range map[string]string{"promo-7": "[acme/all acme/some]", "welcome": "[acme/all]"} {
		if got := fmt.Sprint(d.Match(dst[:0], "acme", event.SMSFailed, id)); got != want {
			t.Errorf("%s is for %s, want %s", id, got, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { d.Match(dst[:0], "acme", event.SMSFailed, "promo-7") }); n != 0 {
		t.Errorf("Match allocates %v times", n)
	}
}
