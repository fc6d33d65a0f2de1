//go:build real

package main

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fanout/cmd/internal/lab"
)

// bodies are what came to a path so far, sorted.
func (s *site) bodies(path string) (bodies []string) {
	for _, r := range s.receiver.Requests(path) {
		bodies = append(bodies, string(r.Body))
	}
	slices.Sort(bodies)
	return bodies
}

// Events and payload keys of the configuration alone, produced with kcat on Apache Kafka, arrive with exact bodies; the
// eight do not change by it. A stored "*" selects what is new after a restart that has the snapshot file and no Redis.
func TestRealCatalogue(t *testing.T) {
	s := newSite(t, "catalogue", lab.KeepAll)
	slack := s.name + ".slack"
	s.topics(t, lab.Topic{Name: slack})
	s.config.Set("redis.snapshot_file", filepath.Join(t.TempDir(), "snapshot"))
	s.subscribe(t, "acme", "all", "/all", `"events":["*"]`)
	s.subscribe(t, "acme", "named", "/named", `"events":["EMAIL_OPEN","SLACK_FAILED"]`)
	s.subscribe(t, "acme", "promos", "/promos", `"events":["*"],"notificationIds":["promo-*"]`)
	s.start(t)
	raw := func(channel, typ, notification, more string) []byte {
		return fmt.Appendf(nil, `{"accountId":"acme","channel":%q,"type":%q,"trackingId":"abc123","notificationId":%q,"userId":"user-123"%s}`, channel, typ, notification, more)
	}
	const open = `{"eventType":"OPEN","trackingId":"abc123","notificationId":"welcome-email","channel":"EMAIL","userId":"user-123"}`
	const extra = `,"failureCode":550,"clickedLink":"https://x.example/?a=b","occurredAt":"2026-03-01T12:00:00Z"`
	s.kcat(t, s.email(), "acme", raw("EMAIL", "OPEN", "welcome-email", extra))
	s.kcat(t, s.email(), "acme", raw("EMAIL", "DELIVERED", "welcome-email", ""))
	s.settled(t, 20*time.Second, s.email())
	for _, path := range []string{"/all", "/named"} {
		if got := s.bodies(path); !slices.Equal(got, []string{open}) {
			t.Errorf("%s without a catalogue: %q", path, got)
		}
	}
	must(t, s.fanout.Stop(within(t, 30*time.Second)))
	must(t, s.redis.Kill()) // the graceful stop has written the snapshot file

	s.config.Set("events", []lab.Config{
		{"name": "EMAIL_DELIVERED", "channel": "EMAIL", "type": "DELIVERED", "eventType": "DELIVERED"},
		{"name": "SLACK_FAILED", "channel": "SLACK", "type": "FAILED"},
	}).Set("payload", []string{"failureCode", "clickedLink"}).Set("sources", []lab.Config{
		{"topic": s.email()}, {"topic": slack, "channel": "SLACK", "types": lab.Config{"gone": "failed"}, "fields": lab.Config{"failureCode": "error.code"}},
	})
	s.start(t)
	s.kcat(t, s.email(), "acme", raw("EMAIL", "Delivered", "promo-7", ""))
	s.kcat(t, s.email(), "acme", raw("EMAIL", "CLICK", "welcome-email", `,"clickedLink":"https://x.example/?a=\"b\""`))
	s.kcat(t, s.email(), "acme", raw("EMAIL", "FAILED", "welcome-email", ""))
	s.kcat(t, slack, "acme", raw("x", "gone", "welcome-email", `,"error":{"code":550},"failureCode":1`))
	s.settled(t, 20*time.Second, s.email(), slack)
	delivered := `{"eventType":"DELIVERED","trackingId":"abc123","notificationId":"promo-7","channel":"EMAIL","userId":"user-123"}`
	failed := `{"eventType":"SLACK_FAILED","trackingId":"abc123","notificationId":"welcome-email","channel":"SLACK","userId":"user-123","failureCode":550}`
	want := map[string][]string{
		"/all": {
			open, delivered, failed,
			`{"eventType":"CLICK","trackingId":"abc123","notificationId":"welcome-email","channel":"EMAIL","userId":"user-123","clickedLink":"https://x.example/?a=\"b\""}`,
			`{"eventType":"EMAIL_FAILED","trackingId":"abc123","notificationId":"welcome-email","channel":"EMAIL","userId":"user-123"}`,
		},
		"/promos": {delivered},
		"/named":  {open}, // its new name is judged again once Redis answers
	}
	for path := range maps.Keys(want) {
		slices.Sort(want[path])
		if got := s.bodies(path); !slices.Equal(got, want[path]) {
			t.Errorf("%s got\n%s\nwant\n%s", path, strings.Join(got, "\n"), strings.Join(want[path], "\n"))
		}
	}

	must(t, s.redis.Start(within(t, 20*time.Second)))
	await(t, 30*time.Second, "the named one, judged again", func() bool {
		s.kcat(t, slack, "acme", raw("x", "gone", "welcome-email", `,"id":"again","error":{"code":551}`))
		time.Sleep(200 * time.Millisecond)
		return slices.Contains(s.bodies("/named"), strings.Replace(failed, "550", "551", 1))
	})
	if r := s.must(t, "explain", s.email()+"/0/0"); !strings.Contains(r.stdout, "notificationId welcome-email is not in promo-*") {
		t.Errorf("explain: %s", r)
	}
}
