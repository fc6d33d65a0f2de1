//go:build real

package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"fanout/cmd/internal/lab"
)

// "Why did this customer get nothing?" With an account, a tracking id and an hour, find says what became of the event, whatever that was.
func TestRealWhyNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t, "why", lab.KeepCount)
	s.config.Set("delivery.schedule", []string{"1h"})
	for path, status := range map[string]int{"/down": http.StatusServiceUnavailable, "/gone": http.StatusGone} {
		s.receiver.On(path, lab.Always(lab.Answer{Status: status}))
	}
	s.subscribe(t, "gets", "hook", "/in", `"events":["*"]`)
	s.subscribe(t, "waits", "hook", "/down", `"events":["*"]`)
	s.subscribe(t, "dies", "hook", "/gone", `"events":["*"]`)
	s.subscribe(t, "filters", "hook", "/in", `"events":["EMAIL_CLICK"]`)
	s.subscribe(t, "acme", "hook", "/in", `"events":["*"]`)
	s.start(t)
	s.events(t, 0, 20_000) // of others, which it looks through
	open := func(account string) kafka.Record {
		return kafka.Record{Value: kafka.NewBytes(fmt.Appendf(nil, `{"accountId":%q,"channel":"EMAIL","type":"OPEN","trackingId":"abc123","notificationId":"n","userId":"u"}`, account))}
	}
	s.produce(t, s.email(), 1, open("gets"), open("waits"), open("dies"), open("filters"), open("nobody"),
		kafka.Record{Value: kafka.NewBytes([]byte(`{"accountId":"broken","channel":"EMAIL","type":"OPEN","trackingId":"abc123"`))})
	s.settled(t, time.Minute, s.email())
	ask := func(account, state string, want ...string) {
		t.Helper()
		r := s.must(t, "find", "--account", account, "--tracking-id", "abc123", "--since", "1h")
		t.Logf("%s: fanout find --account %s --tracking-id abc123 --since 1h: %s, peak %d MiB\n%s", state, account, r.took.Round(time.Millisecond), r.peak>>20, r.stdout)
		for _, text := range want {
			if !strings.Contains(r.stdout, text) {
				t.Errorf("%s: find --account %s does not say %q:\n%s", state, account, text, r.stdout)
			}
		}
	}
	ask("gets", "delivered", "now           delivered at", "first    attempt 1")
	ask("waits", "waiting", "waiting in why.retry.1h, next tried about", "HTTP 503")
	ask("dies", "dead", "dead since", ": gone, dead letter", "HTTP 410")
	ask("nobody", "unmatched", "no attempt was made; the sources hold 1 record", "result   unmatched", "the account has no subscription")
	ask("filters", "filtered", "no attempt was made; the sources hold 1 record", "✗ hook", "EMAIL_CLICK")
	ask("broken", "malformed", "no attempt was made; the sources hold 1 record", "result   malformed: ", "dead letter")
	ask("ghost", "never produced", "no attempt, and no record of a source", "it was never produced, or before that")

	if err := s.fanout.Stop(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	s.subscribe(t, "later", "hook", "/in", `"events":["*"]`)
	s.produce(t, s.email(), 1, open("later"))
	ask("later", "not yet read", "no attempt was made; the sources hold 1 record", "not settled yet", "✓ hook", "selects EMAIL_OPEN")
}
