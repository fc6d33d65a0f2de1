package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// history writes n raw events of acme to partition 0 of a topic, a second apart. The first is as old as said: it returns
// the first one's time.
func (w *world) history(t *testing.T, topic string, n int, age time.Duration) time.Time {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(w.kafka.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	begin := time.Now().Add(-age)
	for k := range n {
		record := &kgo.Record{
			Topic: topic, Timestamp: begin.Add(time.Duration(k) * time.Second),
			Value: []byte(`{"accountId":"acme","channel":"EMAIL","type":"OPEN","trackingId":"t","notificationId":"n","userId":"u"}`),
		}
		if err := client.ProduceSync(t.Context(), record).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	return begin
}

// countDeliveries subscribes acme to everything, and counts what comes.
func (w *world) countDeliveries(t *testing.T) *atomic.Int64 {
	t.Helper()
	var received atomic.Int64
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { received.Add(1) }))
	t.Cleanup(receiver.Close)
	w.redis.HSet("fanout:account:acme", "crm", `{"url":"`+receiver.URL+`","events":["*"]}`)
	return &received
}

// The first run on a topic with history ends with status 1 and says what to set; with a start it does what that says.
func TestFirstRunOnHistory(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "channel.email", "channel.sms")
	received := w.countDeliveries(t)
	w.history(t, "channel.email", 12, 50*time.Hour)
	code, _, stderr := w.fanout(t, "", "run")
	day := time.Now().Add(-50 * time.Hour).UTC().Format("2006-01-02")
	for _, want := range []string{
		"channel.email holds about 12 records, the oldest from " + day, "group fanout has no offset for any source",
		"set kafka.start, or start of a single source under sources:", "earliest  ", "latest  ",
	} {
		if code != 1 || !strings.Contains(stderr, want) {
			t.Errorf("exit %d, want 1 with %q:\n%s", code, want, stderr)
		}
	}
	if strings.Contains(stderr, "channel.sms holds") {
		t.Errorf("a source without history is named:\n%s", stderr)
	}
	if n := received.Load(); n != 0 {
		t.Errorf("%d events were sent", n)
	}

	r := w.start(t, "--kafka-start", "earliest")
	r.await(t, "/metrics", 200, `fanout_outcomes_total{outcome="delivered",reason="",stage="first"} 12`)
	if code := r.stop(); code != 0 {
		t.Errorf("exit %d after a stop\n%s", code, r.log)
	}
	r = w.start(t) // it has offsets now
	r.await(t, "/readyz", 200, `"ready":true`)
}

// A source that is added and holds history stays unread; /readyz stays 200 and says so.
func TestReadinessNamesUnreadSources(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "channel.email", "bounces")
	received := w.countDeliveries(t)
	w.start(t, "--sources", "channel.email").await(t, "/readyz", 200, `"ready":true`)
	w.history(t, "bounces", 3, 26*time.Hour)
	r := w.start(t, "--sources", "channel.email,bounces")
	r.await(t, "/readyz", 200, "source bounces stays unread: it holds about 3 records, the oldest from ")
	r.await(t, "/metrics", 200, `fanout_source_unread{source="bounces"} 1`)
	r.await(t, "/metrics", 200, `fanout_source_unread{source="channel.email"} 0`)
	if log := r.log.String(); !strings.Contains(log, "source stays unread") {
		t.Errorf("the log does not say it:\n%s", log)
	}
	w.history(t, "channel.email", 1, 0)
	until(t, func() (bool, string) { return received.Load() == 1, r.log.String() })
}

// check says of each source what a first run would send, and names what is undecided as a problem with its remedy.
func TestCheckSaysWhatAFirstRunSends(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "old", "young", "empty", "begun")
	w.countDeliveries(t)
	begin := w.history(t, "old", 4, 30*time.Hour)
	w.history(t, "young", 2, time.Minute)
	w.history(t, "begun", 2, 0)
	r := w.start(t, "--sources", "begun")
	r.await(t, "/metrics", 200, `fanout_outcomes_total{outcome="delivered",reason="",stage="first"} 2`)
	r.stop()
	since := begin.Add(1500 * time.Millisecond).UTC().Format(time.RFC3339Nano)
	for sources, want := range map[string]struct {
		code int
		text string
	}{
		"old":                                    {1, "whether they are to be sent: fanout run does not start"},
		"young":                                  {0, "a first run would send all that it holds, about 2 records, the oldest from "},
		"empty":                                  {0, "a first run would send nothing yet"},
		"begun":                                  {0, "2 partitions; group fanout goes on from its committed offsets"},
		"[{topic: old, start: earliest}]":        {0, "a first run would send all that it holds, about 4 records"},
		"[{topic: old, start: latest}]":          {0, "a first run would send none of what it holds, about 4 records"},
		"[{topic: old, start: '" + since + "'}]": {0, "a first run would send about 2 of what it holds, about 4 records"},
		"[{topic: begun}, {topic: old}]":         {1, "group fanout has no offset for it, and no start says whether they are to be sent: it stays unread"},
		"[{topic: young}, {topic: old}]":         {1, "to send none of them, only what is written from now on"},
		"[{topic: begun, start: latest}, {topic: empty}]": {0, "group fanout goes on"},
	} {
		code, stdout, stderr := w.fanout(t, "", "check", "--sources", sources)
		if code != want.code || !strings.Contains(stdout, want.text) {
			t.Errorf("%s: exit %d, want %d with %q\n%s%s", sources, code, want.code, want.text, stdout, stderr)
		}
	}
	_, stdout, _ := w.fanout(t, "", "check", "--sources", "old", "-o", "json")
	var result struct{ Findings findings }
	if err := json.Unmarshal([]byte(stdout), &result); err != nil {
		t.Fatal(err)
	}
	for _, f := range result.Findings {
		if f.What == "source old" && (f.State != "problem" || !strings.Contains(f.Remedy, "latest")) {
			t.Errorf("%+v", f)
		}
	}
}
