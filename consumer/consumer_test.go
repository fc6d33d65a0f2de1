package consumer_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
)

func TestDeliversEachEventOnce(t *testing.T) {
	w := newWorld(t, "channel.email", "channel.sms")
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["EMAIL_OPEN"]}`)
	w.dir.set(t, "acme", "b", `{"url":"`+w.recv.URL+`/b","events":["*"]}`)
	w.dir.set(t, "acme", "c", `{"url":"`+w.recv.URL+`/c","events":["SMS_FAILED"]}`)
	i := w.start()
	const n = 500
	for k := range n {
		w.produce("channel.email", k%2, rawEvent("acme", k))
	}
	w.until("all delivered", func() bool { return len(w.recv.got("/a")) >= n && len(w.recv.got("/b")) >= n })
	i.end()
	for _, path := range []string{"/a", "/b"} {
		ids := make(map[string]bool)
		for _, r := range w.recv.got(path) {
			ids[r.header.Get("Webhook-Id")] = true
		}
		if len(ids) != n || len(w.recv.got(path)) != n {
			t.Errorf("%s: %d requests with %d webhook-ids, want %d", path, len(w.recv.got(path)), len(ids), n)
		}
	}
	if got := w.recv.got("/c"); len(got) != 0 {
		t.Errorf("/c got %d events that it did not select", len(got))
	}
	if got := i.sum("fanout_outcomes_total", "outcome", "delivered"); got != 2*n {
		t.Errorf("delivered %v, want %d", got, 2*n)
	}

	// What was committed is not read again.
	j := w.start()
	w.produce("channel.email", 0, rawEvent("acme", n))
	w.until("the next one", func() bool { return len(w.recv.got("/a")) > n })
	j.end()
	if got := len(w.recv.got("/a")); got != n+1 {
		t.Errorf("/a got %d after a restart, want %d", got, n+1)
	}
}

func TestRetriesThenBuries(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dir.set(t, "acme", "down", `{"url":"`+w.recv.URL+`/down","events":["*"]}`)
	w.recv.on("/down", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, "sorry")
	})
	i := w.start()
	before := time.Now().Add(-time.Second).UnixMilli()
	w.produce("channel.email", 1, rawEvent("acme", 1))
	w.until("a dead letter", func() bool { return len(w.records("fanout.dead-letter")) == 1 })
	i.end()
	got := w.recv.got("/down")
	if len(got) != 3 {
		t.Fatalf("%d attempts, want 3", len(got))
	}
	for _, r := range got {
		if id := r.header.Get("Webhook-Id"); id != got[0].header.Get("Webhook-Id") || id == "" {
			t.Errorf("webhook-id %q differs from the first attempt's", id)
		}
	}
	if gap := got[1].at.Sub(got[0].at); gap < 200*time.Millisecond {
		t.Errorf("second attempt after %v, want at least 200ms", gap)
	}
	if gap := got[2].at.Sub(got[1].at); gap < 300*time.Millisecond {
		t.Errorf("third attempt after %v, want at least 300ms", gap)
	}
	dead := w.records("fanout.dead-letter")[0]
	want := map[string]string{
		"fanout-webhook-id": got[0].header.Get("Webhook-Id"), "fanout-account": "acme", "fanout-subscription": "down",
		"fanout-event": "EMAIL_OPEN", "fanout-attempts": "3", "fanout-origin": "channel.email/1/0", "fanout-reason": "attempts_exhausted",
		"fanout-detail": "HTTP 503 Service Unavailable", "fanout-status": "503", "fanout-replays": "0",
	}
	for name, value := range want {
		if got := header(&dead, name); got != value {
			t.Errorf("header %s is %q, want %q", name, got, value)
		}
	}
	for _, name := range []string{"fanout-first-seen", "fanout-dead-at", "fanout-not-before"} {
		if at := headerInt(t, &dead, name); at < before || at > time.Now().UnixMilli() {
			t.Errorf("header %s is %d, not a moment of this test", name, at)
		}
	}
	if string(dead.Key) != "acme/down" || string(dead.Value) != got[0].body {
		t.Errorf("dead letter %s %s, want acme/down and the body", dead.Key, dead.Value)
	}
}

func TestMalformedIsKeptByteForByte(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	i := w.start()
	value := []byte("{\"accountId\":\"\xff\"")
	w.produce("channel.email", 0,
		kafka.Record{Key: kafka.NewBytes([]byte{0, 1}), Value: kafka.NewBytes(value), Headers: []kafka.Header{{Key: "x", Value: []byte{0xfe}}}},
		kafka.Record{},
		rawEvent("nobody", 1), rawEvent("acme", 2))
	w.until("the good one", func() bool { return len(w.recv.got("/a")) == 1 })
	w.until("the dead letter", func() bool { return len(w.records("fanout.dead-letter")) == 1 })
	i.end()
	dead := w.records("fanout.dead-letter")[0]
	if string(dead.Value) != string(value) || string(dead.Key) != "\x00\x01" || header(&dead, "x") != "\xfe" {
		t.Errorf("dead letter %q %q %v", dead.Key, dead.Value, dead.Headers)
	}
	if header(&dead, "fanout-reason") != "malformed_event" || header(&dead, "fanout-origin") != "channel.email/0/0" {
		t.Errorf("headers %v", dead.Headers)
	}
	for result, n := range map[string]float64{"event": 1, "ignored": 1, "malformed": 1, "unmatched": 1} {
		if got := i.sum("fanout_records_total", "source", "channel.email", "result", result); got != n {
			t.Errorf("%s records: %v, want %v", result, got, n)
		}
	}
}
