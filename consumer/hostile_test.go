package consumer_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"

	"fanout/dispatcher"
	"fanout/event"
	"fanout/topic"
)

// goodHeaders are those of a delivery that may be taken up.
func goodHeaders() []topic.Header {
	d := dispatcher.Delivery{
		ID: "msg_abcdefghijklmnopqrstuvwxyz", Account: "acme", Subscription: "s-1", Event: event.SMSFailed, Attempts: 2,
		FirstSeen: time.UnixMilli(1_700_000_000_000), Origin: dispatcher.Origin{Topic: "a/b.topic", Partition: 3, Offset: 99},
	}
	return topic.DeliveryHeaders("fanout", &d, &dispatcher.Outcome{Reason: dispatcher.Timeout, Status: 503}, time.UnixMilli(1_700_000_005_000))
}

func bomb(n int, key, value string) []kafka.Header {
	headers := make([]kafka.Header, n)
	for i := range headers {
		headers[i] = kafka.Header{Key: key, Value: []byte(value)}
	}
	return headers
}

// What is hostile goes to the dead letters with its reason, whole, and what came behind it is delivered.
func TestHostileRecordsAreDeadWithTheirReason(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.cfg.MaxEventBytes = 900_000
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	i := w.start()
	event := func(extra string) string {
		return `{` + extra + `"accountId":"acme","channel":"EMAIL","type":"OPEN","trackingId":"t","notificationId":"n","userId":"u"}`
	}
	delivery := func(h ...kafka.Header) []kafka.Header { return append(goodHeaders(), h...) }
	hostile := []struct {
		name, topic, value string
		headers            []kafka.Header
		detail             string // of the dead letter; empty: it is delivered
	}{
		{"1 MB", "channel.email", event(`"x":"` + strings.Repeat("x", 950_000) + `",`), nil, "max_event_bytes is 900000"},
		{"120 000 keys", "channel.email", event(strings.Repeat(`"k":1,`, 120_000)), nil, ""},
		{"120 000 keys with escapes", "channel.email", event(strings.Repeat(`"\n":1,`, 120_000)), nil, ""},
		{"nested 800 000 deep", "channel.email", strings.Repeat("[", 800_000), nil, "nested deeper than 64"},
		{"a field twice", "channel.email", event(`"userId":"x",`), nil, "userId: given twice"},
		{"invalid UTF-8", "channel.email", event("\"x\":\"\xff\","), nil, "invalid UTF-8"},
		{"5000 headers of an event", "channel.email", event(""), bomb(5000, "traceparent", "00-\r\n"), ""},
		{"5000 headers of a malformed one", "channel.email", "{", bomb(5000, "fanout-reason", "mine"), "not JSON"},
		{"5000 headers of a delivery", "fanout.replay", "{}", delivery(bomb(5000, "x", "y")...), "headers; at most 64 are taken"},
		{"a header of 500 KB", "fanout.replay", "{}", delivery(kafka.Header{Key: "fanout-detail", Value: []byte(strings.Repeat("d", 500_000))}), "bytes; at most 4096 are taken"},
		{"a header's name of 500 KB", "fanout.replay", "{}", delivery(kafka.Header{Key: strings.Repeat("k", 500_000), Value: []byte(strings.Repeat("d", 5000))}), "bytes; at most 4096 are taken"},
		{"a delivery that is no UTF-8", "fanout.replay", "\xff", delivery(), "not UTF-8"},
		{"a delivery with nothing in it", "fanout.replay", "", delivery(), "no value"},
	}
	want := make(map[string]int) // dead letters by origin → index
	delivered := 0
	next := make(map[string]int)
	for k, h := range hostile {
		w.produce(h.topic, 0, kafka.Record{Value: kafka.NewBytes([]byte(h.value)), Headers: h.headers})
		if h.detail == "" {
			delivered++
		} else {
			want[fmt.Sprintf("%s/0/%d", h.topic, next[h.topic])] = k
		}
		next[h.topic]++
	}
	w.produce("channel.email", 0, rawEvent("acme", 1))
	w.until("what is good", func() bool { return len(w.recv.got("/a")) == delivered+1 })
	w.until("the dead letters", func() bool { return len(w.records("fanout.dead-letter")) == len(want) })
	i.end()
	for _, m := range w.records("fanout.dead-letter") {
		var d topic.DeadLetter
		topic.ReadDeadLetter(&topic.Record{Headers: m.Headers, Value: m.Value}, &d)
		k, ok := want[d.Origin]
		if !ok {
			t.Fatalf("a dead letter of %s", d.Origin)
		}
		h := hostile[k]
		if d.Reason != "malformed_event" || !strings.Contains(d.Detail, h.detail) || len(d.Detail) > 512 {
			t.Errorf("%s: dead %s, %q; want %q", h.name, d.Reason, d.Detail, h.detail)
		}
		if string(m.Value) != h.value || len(m.Headers) != len(h.headers)+6 {
			t.Errorf("%s: %d bytes and %d headers were kept of %d and %d", h.name, len(m.Value), len(m.Headers), len(h.value), len(h.headers))
		}
	}
}

// A delivery that was on its way when max_event_bytes was lowered is none the less one. What its topics would not take is
// buried rather than read again and again: it could go to no retry topic, and all reading would wait for it.
func TestDeliveryOfALargerLimit(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.cfg.MaxEventBytes = 1000
	w.dir.set(t, "acme", "s-1", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	w.recv.onBody("/a", func(rw http.ResponseWriter, _ *http.Request, body string) {
		if len(body) > 1<<20 {
			rw.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	w.refuse(func(_ string, _ int32, size int) *kerr.Error {
		if size > 1<<20+256<<10 {
			return kerr.MessageTooLarge
		}
		return nil
	})
	i := w.start()
	body := strings.Repeat("x", 300_000)
	headers := goodHeaders()
	for k := range headers {
		if headers[k].Key == "fanout-first-seen" {
			headers[k].Value = fmt.Append(nil, time.Now().UnixMilli())
		}
	}
	w.produce("fanout.replay", 0, kafka.Record{Value: kafka.NewBytes([]byte(body)), Headers: headers})
	w.until("it is delivered", func() bool { return len(w.recv.got("/a")) == 1 })
	if got := w.recv.got("/a")[0].body; got != body {
		t.Errorf("%d bytes were received of %d", len(got), len(body))
	}
	res, err := w.client.Produce(t.Context(), &kafka.ProduceRequest{
		Topic: "fanout.replay", Partition: 0, RequiredAcks: kafka.RequireAll, Compression: kafka.Gzip,
		Records: kafka.NewRecordReader(kafka.Record{Value: kafka.NewBytes(make([]byte, 2<<20)), Headers: headers}),
	})
	if err != nil || res.Error != nil {
		t.Fatal(err, res)
	}
	w.until("its burial", func() bool { return len(w.records("fanout.dead-letter")) == 1 })
	w.produce("channel.email", 0, rawEvent("acme", 1))
	w.until("the next", func() bool { return i.c.Ready() == nil && w.uncommitted("fanout", "channel.email") == 0 })
	i.end()
	m := w.records("fanout.dead-letter")[0]
	var dead topic.DeadLetter
	if topic.ReadDeadLetter(&topic.Record{Headers: m.Headers, Value: m.Value}, &dead); !dead.Malformed() || !strings.Contains(dead.Detail, "at most 1048576 are taken") {
		t.Errorf("dead %s, %q", dead.Reason, dead.Detail)
	}
}

// A batch that is small on the wire and huge when unpacked is read record by record: what is too large is dead, what stands behind it is
// delivered, and other partitions go on meanwhile.
func TestBatchThatInflates(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	const count = 66
	zeros := make([]byte, 2<<20)
	var bomb []kafka.Record
	for range count {
		bomb = append(bomb, kafka.Record{Value: kafka.NewBytes(zeros)})
	}
	res, err := w.client.Produce(t.Context(), &kafka.ProduceRequest{
		Topic: "channel.email", Partition: 0, RequiredAcks: kafka.RequireAll, Compression: kafka.Gzip, Records: kafka.NewRecordReader(bomb...),
	})
	if err != nil || res.Error != nil {
		t.Fatal(err, res)
	}
	w.produce("channel.email", 0, rawEvent("acme", 1))
	i := w.start()
	w.produce("channel.email", 1, rawEvent("acme", 2))
	w.until("both events", func() bool { return len(w.recv.got("/a")) == 2 })
	w.until("all committed", func() bool { return w.uncommitted("fanout", "channel.email") == 0 })
	i.end()
	dead := w.records("fanout.dead-letter")
	if len(dead) != count {
		t.Fatalf("%d dead letters, want %d", len(dead), count)
	}
	if size := header(&dead[0], "fanout-truncated"); size != "2097152" || len(dead[0].Value) != 64<<10 {
		t.Errorf("%d bytes are kept, fanout-truncated: %s", len(dead[0].Value), size)
	}
}
