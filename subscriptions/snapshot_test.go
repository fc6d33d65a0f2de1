package subscriptions_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"fanout/event"
	"fanout/subscriptions"
)

// snapshotOf is a Redis with three subscriptions, and a snapshot file of them that a version with other event names wrote.
func snapshotOf(t *testing.T, names ...event.Name) (*miniredis.Miniredis, subscriptions.Config) {
	t.Helper()
	m := miniredis.RunT(t)
	cfg := subscriptions.Config{URL: redisURL(m), SnapshotFile: snapshotFile(t)}
	st := store(t, cfg.URL)
	put(t, st, "acme", "every", `{"url":"https://example.com/every","events":["*"]}`)
	put(t, st, "acme", "some", `{"url":"https://example.com/some","events":["EMAIL_OPEN","INAPP_WEB_FAILED"]}`)
	put(t, st, "acme", "sms", `{"url":"https://example.com/sms","events":["SMS_FAILED"]}`)
	d, stop := start(t, cfg)
	ready(t, d)
	stop()
	if err := d.WriteSnapshotOf(cfg.SnapshotFile, lastChange(t, m), names...); err != nil {
		t.Fatal(err)
	}
	return m, cfg
}

// lastChange is where the stream of changes ends.
func lastChange(t *testing.T, m *miniredis.Miniredis) string {
	t.Helper()
	entries, err := m.Stream("fanout:changes")
	if err != nil || len(entries) == 0 {
		t.Fatal(entries, err)
	}
	return entries[len(entries)-1].ID
}

func selected(d *subscriptions.Directory, id string) string {
	s := d.Lookup("acme", id)
	if s == nil {
		return "none"
	}
	return fmt.Sprint(s.Events().Names(nil), s.SelectsEvery())
}

// Without INAPP_WEB_FAILED, and in another order than this version's.
var otherNames = []event.Name{event.SMSFailed, event.EmailOpen, event.CallFailed}

// A file of another catalogue serves while Redis is away: its names are read as text, and "*" is whatever there is now.
func TestSnapshotOfAnotherCatalogueWithoutRedis(t *testing.T) {
	t.Parallel()
	m, cfg := snapshotOf(t, otherNames...)
	was, err := os.ReadFile(cfg.SnapshotFile)
	if err != nil {
		t.Fatal(err)
	}
	m.SetError("LOADING")
	d, stop := start(t, cfg, quick)
	ready(t, d)
	for id, want := range map[string]string{
		"every": fmt.Sprint(event.BuiltIn().Names(), true), "some": "[EMAIL_OPEN] false", "sms": "[SMS_FAILED] false",
	} {
		if got := selected(d, id); got != want {
			t.Errorf("%s selects %s, want %s", id, got, want)
		}
	}
	stop()
	// What this version cannot read of it is not lost: the file stays as it is until Redis has been read.
	if is, _ := os.ReadFile(cfg.SnapshotFile); string(is) != string(was) {
		t.Error("the file of another version was written over while redis was away")
	}
}

// As soon as Redis answers, each entry is read again, though its JSON is the same.
func TestSnapshotOfAnotherCatalogueIsReadAnew(t *testing.T) {
	t.Parallel()
	m, cfg := snapshotOf(t, otherNames...)
	d, stop := start(t, cfg)
	ready(t, d) // at once with what Redis holds: an event must not meet what another version understood
	if got, want := selected(d, "some"), "[EMAIL_OPEN INAPP_WEB_FAILED] false"; got != want {
		t.Errorf("ready with %s, want %s", got, want)
	}
	stop()
	// From now on it is a file of this version.
	m.SetError("LOADING")
	d, _ = start(t, cfg)
	ready(t, d)
	if got, want := selected(d, "some"), "[EMAIL_OPEN INAPP_WEB_FAILED] false"; got != want {
		t.Errorf("the file has %s, want %s", got, want)
	}
}

// The same when Redis comes back later, without any change announced.
func TestSnapshotOfAnotherCatalogueWhenRedisIsBack(t *testing.T) {
	t.Parallel()
	m, cfg := snapshotOf(t, otherNames...)
	m.SetError("LOADING")
	d, _ := start(t, cfg, quick)
	ready(t, d)
	m.SetError("")
	within(t, 5*time.Second, "the names that redis holds", func() bool { return selected(d, "some") == "[EMAIL_OPEN INAPP_WEB_FAILED] false" })
	within(t, 5*time.Second, "the file of this version", func() bool {
		data, _ := os.ReadFile(cfg.SnapshotFile)
		return strings.Contains(string(data), "INAPP_WEB_FAILED")
	})
}

// A file that this version wrote is believed: what has not changed is not read again.
func TestSnapshotOfThisVersion(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	cfg := subscriptions.Config{URL: redisURL(m), SnapshotFile: snapshotFile(t)}
	put(t, store(t, cfg.URL), "acme", "a", hook(1))
	d, stop := start(t, cfg)
	ready(t, d)
	stop()
	m.SetError("LOADING")
	d, _ = start(t, cfg, quick)
	ready(t, d)
	was := d.Lookup("acme", "a")
	m.SetError("")
	within(t, 5*time.Second, "redis is back", func() bool { return d.Status().Source == "redis" })
	if !d.Lookup("acme", "a").Same(was) {
		t.Error("the same JSON was read again")
	}
}

// A file of the first format is one of another version.
func TestSnapshotOfFormat1(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join("..", "testdata", "snapshots", "format-1"))
	if err != nil {
		t.Fatal(err)
	}
	m := miniredis.RunT(t)
	cfg := subscriptions.Config{URL: redisURL(m), SnapshotFile: snapshotFile(t)}
	if err := os.WriteFile(cfg.SnapshotFile, data, 0o600); err != nil {
		t.Fatal(err)
	}
	m.HSet(key+"globex", "some", `{"url":"https://example.com/some","events":["EMAIL_OPEN","INAPP_WEB_FAILED"]}`)
	m.SetError("LOADING")
	d, _ := start(t, cfg, quick)
	ready(t, d)
	full := d.Lookup("acme", "full")
	if full == nil || full.URL() != "https://example.com/hooks" || full.Enabled() || !full.Paused() || full.MaxInFlight() != 64 || len(full.Secrets()) != 2 ||
		len(full.Headers()) != 2 || fmt.Sprint(full.Events().Names(nil)) != "[EMAIL_OPEN SMS_FAILED]" {
		t.Errorf("%+v", full)
	}
	if got, want := selected(d, "every"), fmt.Sprint(event.BuiltIn().Names(), true); got != want {
		t.Errorf("every selects %s, want %s", got, want)
	}
	some := d.Lookup("globex", "some")
	if some == nil || fmt.Sprint(some.Events().Names(nil)) != "[EMAIL_OPEN INAPP_WEB_FAILED]" {
		t.Errorf("%+v", some)
	}
	m.SetError("")
	within(t, 5*time.Second, "redis is read", func() bool { is := d.Lookup("globex", "some"); return is != nil && !is.Same(some) })
}

// The names of a file are text, its secrets keep their expiry, and what it says of batches is kept.
func TestSnapshotKeepsNamesAndExpiry(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	cfg := subscriptions.Config{URL: redisURL(m), SnapshotFile: snapshotFile(t)}
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	m.HSet(key+"acme", "a", fmt.Sprintf(`{"url":"https://example.com","events":["SMS_FAILED"],"batch":{"max":300,"wait":"2s"},"secrets":[%q],"secretExpiry":{%q:%q}}`,
		secret, fingerprint(secret), until.Format(time.RFC3339)))
	d, stop := start(t, cfg)
	ready(t, d)
	stop()
	if data, _ := os.ReadFile(cfg.SnapshotFile); !strings.Contains(string(data), "\nEMAIL_OPEN EMAIL_CLICK ") {
		t.Errorf("no event names in %.200q", data)
	}
	m.SetError("LOADING")
	d, _ = start(t, cfg)
	ready(t, d)
	if list := d.Lookup("acme", "a").Secrets(); len(list) != 1 || list[0].Expired(until.Add(-time.Second)) || !list[0].Expired(until) {
		t.Errorf("%v do not expire at %v", list, until)
	}
	if b := d.Lookup("acme", "a").Batch(); b != (subscriptions.Batch{Max: 300, Wait: 2 * time.Second}) {
		t.Errorf("batch %+v", b)
	}
}
