//go:build real

package main

import (
	"context"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"fanout/cmd/internal/lab"
)

// old are n raw events of acme, three days old and a minute apart.
func (s *site) old(n int) []kafka.Record {
	records := make([]kafka.Record, n)
	begin := time.Now().Add(-72 * time.Hour)
	for k := range records {
		records[k] = s.raw("acme", k)
		records[k].Time = begin.Add(time.Duration(k) * time.Minute)
	}
	return records
}

// ends starts `fanout run` and waits until it has ended by itself. It returns the exit status and the log.
func (s *site) ends(t *testing.T) (code int, log string) {
	t.Helper()
	f, err := s.lab.Fanout(s.program, s.kafka, s.redis, s.adjust)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Kill() })
	s.fanout = f
	if code, err = f.Wait(within(t, 30*time.Second)); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(f.Log())
	if err != nil {
		t.Fatal(err)
	}
	return code, string(text)
}

// The guard of the first start, on Apache Kafka, with topics of CreateTime: what a first run makes of three days of
// records, and of a source with history that is added to a running group.
func TestFirstStartOnKafka(t *testing.T) {
	const n = 30
	s := newSite(t, "firststart", lab.KeepIDs)
	s.subscribe(t, "acme", "s", "/s", `"events":["*"]`)
	s.config.Set("kafka.start", "").Set("sources", []lab.Config{{"topic": s.email()}})
	s.produce(t, s.email(), 1, s.old(n)...)
	since := time.Now().Add(-72*time.Hour + (n-10)*time.Minute - 30*time.Second).UTC().Format(time.RFC3339)

	code, log := s.ends(t)
	for _, want := range []string{
		s.email() + " holds about 30 records, the oldest from " + time.Now().Add(-72*time.Hour).UTC().Format("2006-01-02"),
		"set kafka.start", "earliest", "latest",
	} {
		if code != 1 || !strings.Contains(log, want) {
			t.Errorf("exit %d, want 1 with %q:\n%s", code, want, log)
		}
	}
	if r := s.run(t, "check"); r.code != 1 || !strings.Contains(r.stdout, "about 30 records") || !strings.Contains(r.stdout, "fanout run does not start") {
		t.Errorf("check: %s", r)
	}
	if got := s.receiver.Seen("/s"); got != 0 {
		t.Fatalf("%d events were sent", got)
	}

	for k, c := range []struct {
		start string
		want  int64 // of the old records
	}{{"latest", 0}, {since, 10}, {"earliest", n}} {
		before := s.receiver.Delivered("/s")
		group := s.name + "." + strings.ReplaceAll(c.start, ":", "-")
		s.config.Set("kafka.start", c.start).Set("kafka.group", group)
		s.start(t)
		s.produce(t, s.email(), 2, s.raw("acme", 1000+k))
		want := c.want + int64(k) + 1 // and the young ones of this turn and of those before
		await(t, 30*time.Second, "all is delivered with start "+c.start, func() bool { return s.receiver.Delivered("/s") >= before+want })
		s.committed(t, group, s.email())
		if got := s.receiver.Delivered("/s") - before; got != want {
			t.Errorf("start %s: %d deliveries, want %d", c.start, got, want)
		}
		if err := s.fanout.Stop(within(t, 30*time.Second)); err != nil {
			t.Fatal(err)
		}
	}

	// A second source, with history, is added to a group that has offsets.
	sms := s.name + ".sms"
	s.produce(t, sms, 0, s.old(n)...)
	s.config.Set("kafka.start", "").Set("kafka.group", s.name+".earliest").Set("sources", []lab.Config{{"topic": s.email()}, {"topic": sms}})
	before := s.receiver.Delivered("/s")
	s.start(t)
	if answer := s.readyz(t); !strings.Contains(answer, "source "+sms+" stays unread: it holds about 30 records, the oldest from ") {
		t.Errorf("/readyz: %s", answer)
	}
	if m, err := s.fanout.Metrics(t.Context()); err != nil || m.Sum("fanout_source_unread", `source="`+sms+`"`) != 1 {
		t.Errorf("fanout_source_unread: %v, %v", m.Sum("fanout_source_unread"), err)
	}
	if r := s.run(t, "check"); r.code != 1 || !strings.Contains(r.stdout, "it stays unread") {
		t.Errorf("check: %s", r)
	}
	s.produce(t, s.email(), 0, s.raw("acme", 2000))
	await(t, 30*time.Second, "the first source is read", func() bool { return s.receiver.Delivered("/s") == before+1 })
	s.committed(t, s.name+".earliest", s.email())

	// Its start is set on another instance, as in a rolling restart: its history is read once, and the first instance goes on.
	unset := s.fanout
	s.config.Set("sources", []lab.Config{{"topic": s.email()}, {"topic": sms, "start": "earliest"}})
	s.start(t)
	await(t, time.Minute, "the second source is read", func() bool { return s.receiver.Delivered("/s") == before+1+n })
	await(t, time.Minute, "the first instance says so no more", func() bool {
		m, err := unset.Metrics(t.Context())
		return err == nil && m.Sum("fanout_source_unread", `source="`+sms+`"`) == 0
	})
	s.committed(t, s.name+".earliest", sms)
	if got := s.receiver.Delivered("/s"); got != before+1+n {
		t.Errorf("%d deliveries, want %d", got-before, 1+n)
	}
}

// committed waits until the group has committed all of a topic.
func (s *site) committed(t *testing.T, group, topic string) {
	t.Helper()
	await(t, 30*time.Second, "commits of "+topic, func() bool {
		ends, err1 := s.kafka.Ends(t.Context(), topic)
		committed, err2 := s.kafka.Committed(t.Context(), group, topic)
		if err1 != nil || err2 != nil {
			return false
		}
		for id, end := range ends {
			if committed[id] != end {
				return false
			}
		}
		return true
	})
}

// readyz is the body of /readyz, which has to be 200.
func (s *site) readyz(t *testing.T) string {
	t.Helper()
	status, _, body, err := remote{base: s.fanout.Admin()}.ask(context.WithoutCancel(t.Context()), "/readyz")
	if err != nil || status != http.StatusOK {
		t.Fatalf("/readyz: %d, %v: %s", status, err, body)
	}
	return string(body)
}
