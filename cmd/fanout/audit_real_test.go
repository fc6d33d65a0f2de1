//go:build real

package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"fanout/cmd/internal/lab"
)

// explain says where the deliveries of a record are, for each fate that there is.
func TestRealExplain(t *testing.T) {
	t.Parallel()
	s := newSite(t, "explain", lab.KeepAll)
	s.config.Set("attempts.topic", true).Set("delivery.permanent_statuses", []int{400, 410}).Set("delivery.schedule", []string{"1s", "1h"})
	for account, answer := range map[string]int{"fine": 204, "slow": 503, "refuses": 400} {
		s.receiver.On("/"+account, lab.Always(lab.Answer{Status: answer}))
		s.subscribe(t, account, "crm", "/"+account, `"events":["*"],"secrets":["`+secret+`"],"headers":{"authorization":"Bearer hidden"}`)
	}
	s.subscribe(t, "picky", "sms", "/picky", `"events":["SMS_FAILED"]`)
	s.subscribe(t, "picky", "off", "/picky", `"events":["*"],"enabled":false`)
	s.start(t)
	for n, account := range []string{"fine", "slow", "refuses", "picky"} {
		s.produce(t, s.email(), 0, s.raw(account, n))
	}
	s.produce(t, s.email(), 0, kafka.Record{Key: kafka.NewBytes([]byte("k")), Value: kafka.NewBytes([]byte(`{"accountId":"fine"`))})
	await(t, 20*time.Second, "the second retry", func() bool { return s.ended(t, s.name+".retry.1h") == 1 && s.ended(t, s.deadLetter()) == 2 })
	s.settled(t, 10*time.Second, s.email())
	requests := s.receiver.Seen()

	for offset, want := range [][]string{
		{"result   event", "✓ crm", "now        delivered", "curl", "attempt 1", "record   explain.email/0/0"},
		{"✓ crm", "waiting in explain.retry.1h, due ", "after 2 attempts", "HTTP 503", "attempt 2"},
		{"✓ crm", "dead since ", "permanent_status (HTTP 400", "dead letter "},
		{"result   unmatched", "✗ sms  does not select EMAIL_OPEN; it selects SMS_FAILED", "✗ off  disabled"},
		{"result   malformed: malformed event", "dead letter ", "`fanout deadletter show "},
	} {
		r := s.must(t, "explain", fmt.Sprintf("%s/0/%d", s.email(), offset))
		t.Logf("\n%s", r.stdout)
		for _, text := range want {
			if !strings.Contains(r.stdout, text) {
				t.Errorf("offset %d: no %q", offset, text)
			}
		}
		if strings.Contains(r.stdout, "hidden") || strings.Contains(r.stdout, secret) {
			t.Errorf("offset %d: it shows a secret", offset)
		}
	}
	if s.receiver.Seen() != requests {
		t.Error("explain has sent something")
	}
	for place, code := range map[string]int{s.email() + "/0/5": 1, s.email() + "/7/0": 1, "nowhere/0/0": 1, "explain.email": 2, "a/b/c": 2} {
		r := s.run(t, "explain", place)
		t.Logf("explain %s: %s", place, r)
		if r.code != code || r.stderr == "" {
			t.Errorf("explain %s: exit %d, want %d with a reason", place, r.code, code)
		}
	}
	show := s.must(t, "deadletter", "show", identity("refuses", "EMAIL_OPEN", "explain-2", "crm"))
	t.Logf("deadletter show:\n%s", show.stdout)
	for _, text := range []string{"permanent_status", `{"eventType":"OPEN","trackingId":"t2"`, "attempt 1", "to send it again by hand", "curl", s.email() + "/0/2"} {
		if !strings.Contains(show.stdout, text) {
			t.Errorf("deadletter show: no %q", text)
		}
	}
}

// audit finds nothing missing after faults, and names exactly what is missing where a range was committed past.
func TestRealAudit(t *testing.T) {
	s := newSite(t, "audit", lab.KeepIDs)
	s.config.Set("attempts.topic", true).Set("delivery.permanent_statuses", []int{400, 410})
	s.receiver.On("/in", func(n int64, _ *lab.Request) lab.Answer {
		switch {
		case n%97 == 0:
			return lab.Answer{Status: 400}
		case n%37 == 0:
			return lab.Answer{Status: 503}
		case n%101 == 0:
			return lab.Answer{Reset: true}
		}
		return lab.Answer{}
	})
	s.subscribe(t, "acme", "crm", "/in", `"events":["*"]`)
	s.subscribe(t, "acme", "other", "/other", `"events":["EMAIL_OPEN"]`)
	const events = 10_000
	s.events(t, 0, events)
	s.start(t)
	if err := s.receiver.WaitSeen(within(t, 30*time.Second), "/in", events/3); err != nil {
		t.Fatal(err)
	}
	if err := s.fanout.Kill(); err != nil {
		t.Fatal(err)
	}
	s.again(t)
	await(t, 90*time.Second, "the outcome of every delivery", func() bool {
		m, err := s.fanout.Metrics(t.Context())
		return err == nil && len(s.receiver.IDs("/in")) == events && len(s.receiver.IDs("/other")) == events && m.Sum("fanout_in_flight") == 0
	})
	s.settled(t, 30*time.Second, s.email(), s.name+".retry.1s", s.name+".retry.2s")
	whole := s.must(t, "audit", s.email())
	t.Logf("fanout audit %s: %s", s.email(), whole)
	if !regexp.MustCompile(`(?m)^ +0 missing$`).MatchString(whole.stdout) || !regexp.MustCompile(`(?m)^ +[1-9][0-9]* dead$`).MatchString(whole.stdout) ||
		!strings.Contains(whole.stdout, strconv.Itoa(2*events)+" deliveries") {
		t.Error("want some dead, none missing, of all the deliveries")
	}
	r := s.must(t, "audit", s.email(), "--account", "acme", "--subscription", "crm", "-o", "ndjson")
	if lines := strings.Count(r.stdout, "\n"); lines != events {
		t.Errorf("the manifest of a receiver has %d lines, want %d", lines, events)
	}

	if err := s.fanout.Stop(within(t, 30*time.Second)); err != nil {
		t.Fatal(err)
	}
	ends, err := s.kafka.Ends(t.Context(), s.email())
	if err != nil {
		t.Fatal(err)
	}
	from := ends[1]
	var want []string
	for n := range 10 {
		s.produce(t, s.email(), 1, s.raw("acme", events+n))
		if n < 7 {
			want = append(want, fmt.Sprintf("%s/1/%d crm %s", s.email(), from+int64(n), identity("acme", "EMAIL_OPEN", fmt.Sprintf("audit-%d", events+n), "crm")),
				fmt.Sprintf("%s/1/%d other %s", s.email(), from+int64(n), identity("acme", "EMAIL_OPEN", fmt.Sprintf("audit-%d", events+n), "other")))
		}
	}
	s.commit(t, 1, from+7)
	s.again(t)
	s.settled(t, 20*time.Second, s.email())
	r = s.run(t, "audit", s.email())
	t.Logf("with the offsets %d to %d committed past by hand, fanout audit %s: %s", from, from+6, s.email(), r)
	var got []string
	for _, m := range regexp.MustCompile(`(?m)^(`+s.email()+`/\d+/\d+) .*acme +(\S+) +(msg_\S+) +missing$`).FindAllStringSubmatch(r.stdout, -1) {
		got = append(got, strings.Join(m[1:], " "))
	}
	if r.code != 1 || !slices.Equal(got, want) {
		t.Errorf("exit %d, missing %q, want 1 and %q", r.code, got, want)
	}
	ranged := s.must(t, "audit", fmt.Sprintf("%s/1/0-%d", s.email(), from-1))
	if !strings.Contains(ranged.stdout, "0 missing") {
		t.Errorf("the range before: %s", ranged)
	}
	for _, place := range []string{s.email() + "/1/5-2", s.email() + "/1/0-999999", s.email() + "/9", "nowhere", s.name + ".replay", s.email() + "/1/2/3"} {
		r := s.run(t, "audit", place)
		t.Logf("audit %s: %s", place, r)
		if r.code == 0 || r.stderr == "" {
			t.Errorf("audit %s: exit %d, want a reason", place, r.code)
		}
	}
}

// commit commits an offset for the group, which nobody is a member of.
func (s *site) commit(t *testing.T, partition int, offset int64) {
	t.Helper()
	res, err := s.kafka.Client().OffsetCommit(within(t, 10*time.Second), &kafka.OffsetCommitRequest{
		GroupID: s.name, GenerationID: -1, Topics: map[string][]kafka.OffsetCommit{s.email(): {{Partition: partition, Offset: offset}}},
	})
	if err == nil {
		err = res.Topics[s.email()][0].Error
	}
	if err != nil {
		t.Fatal(err)
	}
}
