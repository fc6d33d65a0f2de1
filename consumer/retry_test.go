package consumer_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"fanout/event"
	"fanout/topic"
)

// A Retry-After that is longer than the step is honoured: the record goes round the tiers until it is due, and no round
// spends an attempt.
func TestRetryAfterIsHonoured(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	n := 0
	w.recv.on("/a", func(rw http.ResponseWriter, _ *http.Request) {
		if n++; n == 1 {
			rw.Header().Set("Retry-After", "3")
			rw.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	i := w.start()
	w.produce("channel.email", 0, rawEvent("acme", 1))
	w.until("the second attempt", func() bool { return len(w.recv.got("/a")) == 2 })
	w.until("it is settled", func() bool { return i.sum("fanout_outcomes_total", "outcome", "delivered") == 1 })
	i.end()
	got := w.recv.got("/a")
	if wait := got[1].at.Sub(got[0].at); wait < 3*time.Second || wait > 6*time.Second {
		t.Errorf("the second attempt came after %v, want 3s and little more", wait)
	}
	if got := i.sum("fanout_outcomes_total", "outcome", "deferred", "reason", "retry_after"); got < 1 {
		t.Error("no round through a tier was counted as deferred (retry_after)")
	}
	for _, topic := range []string{"fanout.retry.200ms", "fanout.retry.300ms", "fanout.retry.500ms", "fanout.retry.1s"} {
		for _, m := range w.records(topic) {
			if header(&m, "fanout-attempts") != "1" || header(&m, "fanout-status") != "503" {
				t.Errorf("%s: attempts %s, status %s", topic, header(&m, "fanout-attempts"), header(&m, "fanout-status"))
			}
		}
	}
}

// A retry uses the subscription as it is now.
func TestRetryUsesTheSubscriptionAsItIs(t *testing.T) {
	w := newWorld(t, "channel.email")
	sub := func(id, more string) {
		w.dir.set(t, "acme", id, fmt.Sprintf(`{"url":%q,"events":["EMAIL_OPEN"]%s}`, w.recv.URL+"/"+id, more))
	}
	sub("moved", "")
	sub("disabled", `,"enabled":false`)
	sub("paused", `,"paused":true`)
	w.dir.set(t, "acme", "deselected", `{"url":"`+w.recv.URL+`/deselected","events":["SMS_FAILED"]}`)
	i := w.start()
	for k, id := range []string{"moved", "deleted", "disabled", "deselected", "paused"} {
		w.produce("fanout.retry.200ms", k%2, retryRecord(id, k))
	}
	discarded := func(reason string) bool {
		return i.sum("fanout_outcomes_total", "stage", "retry", "outcome", "discarded", "reason", reason) == 1
	}
	w.until("three discarded", func() bool { return discarded("deleted") && discarded("disabled") && discarded("deselected") })
	w.until("one delivered", func() bool { return len(w.recv.got("/moved")) == 1 })
	w.until("one deferred", func() bool {
		return i.sum("fanout_outcomes_total", "stage", "retry", "outcome", "deferred", "reason", "paused") >= 2
	})
	for _, id := range []string{"deleted", "disabled", "deselected", "paused"} {
		if got := w.recv.got("/" + id); len(got) != 0 {
			t.Errorf("%s: %d requests", id, len(got))
		}
	}
	sub("paused", "")
	w.until("it goes on", func() bool { return len(w.recv.got("/paused")) == 1 })
	i.end()
	if dead := w.records("fanout.dead-letter"); len(dead) != 0 {
		t.Errorf("%d dead letters", len(dead))
	}
}

// What is too old is dead, also where it would have to wait longer still.
func TestTooOldIsDead(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.cfg.MaxAge, w.dcfg.Delivery.MaxAge = time.Hour, time.Hour
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	millis := func(after time.Duration) []byte {
		return []byte(strconv.FormatInt(time.Now().Add(after).UnixMilli(), 10))
	}
	i := w.start()
	old := kafka.Header{Key: "fanout-first-seen", Value: millis(-2 * time.Hour)}
	w.produce("fanout.retry.200ms", 0, retryRecord("a", 1, old))
	w.produce("fanout.retry.200ms", 1, retryRecord("a", 2, old, kafka.Header{Key: "fanout-not-before", Value: millis(time.Hour)}))
	w.until("both are dead", func() bool { return len(w.records("fanout.dead-letter")) == 2 })
	i.end()
	for _, m := range w.records("fanout.dead-letter") {
		if header(&m, "fanout-reason") != "expired" {
			t.Errorf("reason %s, want expired", header(&m, "fanout-reason"))
		}
	}
	if got := w.recv.got("/a"); len(got) != 0 {
		t.Errorf("%d attempts", len(got))
	}
}

// Anything else on our topics goes to the dead letters byte for byte, and stops nothing.
func TestForeignRecordsOnOurTopics(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	i := w.start()
	injected := retryRecord("a", 1, kafka.Header{Key: "fanout-webhook-id", Value: []byte("msg_x\r\nevil: 1")}).Headers
	foreign := func() []kafka.Record { // a record can be written once
		return []kafka.Record{
			{},
			{Value: kafka.NewBytes([]byte("hello"))},
			{Key: kafka.NewBytes([]byte{0xff}), Value: kafka.NewBytes([]byte{0, 0xfe}), Headers: []kafka.Header{{Key: "fanout-attempts", Value: []byte("many")}, {Key: "y", Value: nil}}},
			{Value: kafka.NewBytes([]byte(`{"eventType":"OPEN"}`)), Headers: injected},
			{Value: kafka.NewBytes([]byte(strings.Repeat("z", 300_000)))},
		}
	}
	for _, topic := range []string{"fanout.retry.200ms", "fanout.replay"} {
		w.produce(topic, 0, foreign()...)
		w.produce(topic, 0, retryRecord("a", len(topic)))
	}
	n := len(foreign())
	w.until("the good ones", func() bool { return len(w.recv.got("/a")) == 2 })
	w.until("the others", func() bool { return len(w.records("fanout.dead-letter")) == 2*n })
	i.end()
	for _, m := range w.records("fanout.dead-letter") {
		origin := header(&m, "fanout-origin") // the last of that name is ours
		for _, h := range m.Headers {
			if h.Key == "fanout-origin" {
				origin = string(h.Value)
			}
		}
		at := strings.Split(origin, "/")
		if len(at) != 3 {
			t.Fatalf("origin %q", origin)
		}
		offset, err := strconv.Atoi(at[2])
		if err != nil || offset >= n {
			t.Fatalf("origin %q", origin)
		}
		want := foreign()[offset]
		if value, err := kafka.ReadAll(want.Value); err != nil || !bytes.Equal(m.Value, value) || (m.Value == nil) != (value == nil) {
			t.Errorf("%s: value of %d bytes, want %d", origin, len(m.Value), len(value))
		}
		if key, err := kafka.ReadAll(want.Key); err != nil || !bytes.Equal(m.Key, key) {
			t.Errorf("%s: key %q, want %q", origin, m.Key, key)
		}
		for k, h := range want.Headers {
			if m.Headers[k].Key != h.Key || !bytes.Equal(m.Headers[k].Value, h.Value) {
				t.Errorf("%s: header %d is %v, want %v", origin, k, m.Headers[k], h)
			}
		}
		if last := m.Headers[len(m.Headers)-4]; last.Key != "fanout-reason" || string(last.Value) != "malformed_event" {
			t.Errorf("%s: %s %s", origin, last.Key, last.Value)
		}
	}
	for _, topic := range []string{"fanout.retry.200ms", "fanout.replay"} {
		if got := i.sum("fanout_records_total", "source", topic, "result", "malformed"); got != float64(n) {
			t.Errorf("%s: %v malformed records, want %d", topic, got, n)
		}
	}
}

// The trace that a producer began goes with every attempt and record of its event.
func TestTraceIsCarried(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	w.recv.on("/a", status(500))
	const parent, state = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "vendor=x"
	i := w.start()
	r := rawEvent("acme", 1)
	r.Headers = []kafka.Header{{Key: "traceparent", Value: []byte(parent)}, {Key: "tracestate", Value: []byte(state)}}
	w.produce("channel.email", 0, r)
	bad := rawEvent("acme", 2)
	bad.Headers = []kafka.Header{{Key: "traceparent", Value: []byte("00-\r\nevil: 1")}}
	w.produce("channel.email", 1, bad)
	w.until("dead letters", func() bool { return len(w.records("fanout.dead-letter")) == 2 })
	i.end()
	for _, got := range w.recv.got("/a") {
		want, wantState := parent, state
		if contains(got.body, `"t2"`) {
			want, wantState = "", ""
		}
		if got.header.Get("Traceparent") != want || got.header.Get("Tracestate") != wantState || got.header.Get("Evil") != "" {
			t.Errorf("trace %q %q", got.header.Get("Traceparent"), got.header.Get("Tracestate"))
		}
	}
	for _, m := range w.records("fanout.dead-letter") {
		if want := map[bool]string{true: parent}[header(&m, "fanout-origin") == "channel.email/0/0"]; header(&m, "traceparent") != want {
			t.Errorf("dead letter %s has traceparent %q", header(&m, "fanout-origin"), header(&m, "traceparent"))
		}
	}
}

// A record of max_event_bytes is an event, one byte more is malformed.
func TestMaxEventBytes(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	sized := func(n int) kafka.Record {
		value := `{"accountId":"acme","channel":"EMAIL","type":"OPEN","trackingId":"t","notificationId":"n","userId":"u"}`
		return kafka.Record{Value: kafka.NewBytes([]byte(value + strings.Repeat(" ", n-len(value))))}
	}
	i := w.start()
	w.produce("channel.email", 0, sized(262144))
	w.produce("channel.email", 0, sized(262145))
	w.until("one of each", func() bool { return len(w.recv.got("/a")) == 1 && len(w.records("fanout.dead-letter")) == 1 })
	i.end()
	if dead := w.records("fanout.dead-letter")[0]; len(dead.Value) != 262145 || header(&dead, "fanout-truncated") != "" {
		t.Errorf("the dead letter has %d bytes, fanout-truncated is %q", len(dead.Value), header(&dead, "fanout-truncated"))
	}
}

// A replay with more than its share waits; it must not take the place of what is new.
func TestReplayHasAShare(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dcfg.Delivery.Timeout, w.dcfg.Delivery.MaxInFlight = 20*time.Second, 2000
	w.dcfg.Lanes.MaxInFlight, w.dcfg.Lanes.QueueAge, w.dcfg.Lanes.Queue = 1000, time.Minute, 10_000
	w.dir.set(t, "acme", "slow", `{"url":"`+w.recv.URL+`/slow","events":["*"]}`)
	w.dir.set(t, "new", "well", `{"url":"`+w.recv.URL+`/well","events":["*"]}`)
	free := make(chan struct{})
	w.recv.on("/slow", func(http.ResponseWriter, *http.Request) { <-free })
	i := w.start()
	var list []kafka.Record
	for k := range 600 {
		list = append(list, retryRecord("slow", k))
	}
	w.produce("fanout.replay", 0, list...)
	w.until("its share", func() bool { return i.sum("fanout_in_flight", "stage", "replay") >= 250 })
	w.produce("channel.email", 0, rawEvent("new", 1))
	w.until("the new one", func() bool { return len(w.recv.got("/well")) == 1 })
	if got := i.sum("fanout_in_flight", "stage", "replay"); got > 260 {
		t.Errorf("%v replays are in flight", got)
	}
	close(free)
	w.until("all", func() bool { return i.sum("fanout_outcomes_total", "stage", "replay", "outcome", "delivered") == 600 })
	i.end()
}

// A body may be longer than its event, whose keys a mapping may shorten or use twice: its retry is a delivery all the same.
func TestBodyLongerThanItsEvent(t *testing.T) {
	w := newWorld(t, "bounces")
	w.cfg.MaxEventBytes = 1000
	w.cfg.Sources = []topic.SourceConfig{{Topic: "bounces", Mapping: event.Mapping{Channel: "EMAIL", Fields: map[string]string{
		"accountId": "a", "type": "t", "trackingId": "i", "notificationId": "i", "userId": "i",
	}}}}
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	var tried atomic.Int32
	w.recv.on("/a", func(rw http.ResponseWriter, _ *http.Request) {
		if tried.Add(1) == 1 {
			rw.WriteHeader(http.StatusInternalServerError)
		}
	})
	i := w.start()
	w.produce("bounces", 0, kafka.Record{Value: kafka.NewBytes([]byte(`{"a":"acme","t":"OPEN","i":"` + strings.Repeat("x", 970) + `"}`))})
	w.until("the retry, or its end", func() bool { return tried.Load() == 2 || len(w.records("fanout.dead-letter")) == 1 })
	i.end()
	if dead := w.records("fanout.dead-letter"); len(dead) > 0 {
		t.Errorf("fanout's own retry is dead: %s, %s", header(&dead[0], "fanout-reason"), header(&dead[0], "fanout-detail"))
	}
}
