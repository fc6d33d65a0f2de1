package topic_test

import (
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"fanout/dispatcher"
	"fanout/event"
	"fanout/topic"
)

const goodID = "msg_abcdefghijklmnopqrstuvwxyz"

func goodHeaders() []topic.Header {
	return []topic.Header{
		{Key: "fanout-webhook-id", Value: []byte(goodID)},
		{Key: "fanout-account", Value: []byte("acme")},
		{Key: "fanout-subscription", Value: []byte("s-1")},
		{Key: "fanout-event", Value: []byte("SMS_FAILED")},
		{Key: "fanout-attempts", Value: []byte("2")},
		{Key: "fanout-not-before", Value: []byte("1700000005000")},
		{Key: "fanout-first-seen", Value: []byte("1700000000000")},
		{Key: "fanout-origin", Value: []byte("a/b.topic/3/99")},
		{Key: "fanout-reason", Value: []byte("timeout")},
		{Key: "fanout-detail", Value: []byte("")},
		{Key: "fanout-status", Value: []byte("503")},
		{Key: "traceparent", Value: []byte("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")},
	}
}

// decode reads a retry record with these headers and this value.
func decode(headers []topic.Header, value []byte, at time.Time) (dispatcher.Delivery, error) {
	return topic.DecodeDelivery(event.BuiltIn(), &topic.Record{Headers: headers, Value: value, Time: at}, dispatcher.StageRetry)
}

// What is written comes back the same: a delivery loses nothing on its way through a retry topic.
func TestDeliveryHeadersRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		millis := func(name string) time.Time { return time.UnixMilli(rapid.Int64Range(0, 1<<47).Draw(t, name)) }
		d := dispatcher.Delivery{
			ID:           "msg_" + rapid.StringMatching(`[a-z2-7]{26}`).Draw(t, "id"),
			Account:      rapid.StringMatching(`[^\p{Cc}]{1,60}`).Draw(t, "account"),
			Subscription: rapid.StringMatching(`[A-Za-z0-9._-]{1,64}`).Draw(t, "subscription"),
			Event:        rapid.SampledFrom(allNames()).Draw(t, "event"),
			Body:         []byte(`{"eventType":"OPEN"}`),
			Attempts:     rapid.IntRange(0, 1000).Draw(t, "attempts"),
			FirstSeen:    millis("first seen"),
			Origin: dispatcher.Origin{
				Topic:     rapid.StringMatching(`[a-zA-Z0-9._-]{1,249}`).Draw(t, "topic"),
				Partition: rapid.IntRange(0, 1<<30).Draw(t, "partition"), Offset: rapid.Int64Range(0, 1<<62).Draw(t, "offset"),
			},
			TraceParent: rapid.SampledFrom([]string{"", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}).Draw(t, "trace"),
			Replays:     rapid.IntRange(0, 3).Draw(t, "replays"),
			Stage:       dispatcher.StageRetry,
			AppendedAt:  millis("appended"),
		}
		if d.TraceParent != "" {
			d.TraceState = rapid.StringMatching(`[a-z]{0,9}=[!-~]{0,20}`).Draw(t, "state")
		}
		if d.Replays > 0 {
			d.Replay, d.DeadLetter = "nightly", "4/12"
		}
		d.Last.Status = rapid.SampledFrom([]int{0, 502}).Draw(t, "status before")
		out := dispatcher.Outcome{
			Result: dispatcher.Retry, Reason: dispatcher.Timeout, Status: rapid.SampledFrom([]int{0, 100, 503, 999}).Draw(t, "status"),
			Detail: rapid.StringN(0, 100, 512).Draw(t, "detail"), Attempted: rapid.Bool().Draw(t, "attempted"),
			BatchMax: rapid.IntRange(0, 1000).Draw(t, "batch after"), BatchRefused: rapid.Bool().Draw(t, "refused after"),
		}
		d.BatchMax, d.BatchRefused = rapid.IntRange(0, 1000).Draw(t, "batch"), rapid.Bool().Draw(t, "refused")
		notBefore := millis("not before")
		got, err := decode(topic.DeliveryHeaders("fanout", &d, &out, notBefore), d.Body, d.AppendedAt)
		if err != nil {
			t.Fatal(err)
		}
		want := d
		want.NotBefore = notBefore
		want.Last = dispatcher.Last{Reason: out.Reason, Detail: strings.ToValidUTF8(out.Detail, ""), Status: out.Status}
		if out.Status == 0 { // no answer this time: the last status is the one before
			want.Last.Status = d.Last.Status
		}
		if out.Attempted {
			want.Attempts++
			want.BatchMax, want.BatchRefused = out.BatchMax, out.BatchRefused
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %+v\nwant %+v", got, want)
		}
	})
}

func allNames() (names []event.Name) {
	for _, text := range []string{"EMAIL_OPEN", "EMAIL_CLICK", "EMAIL_FAILED", "SMS_FAILED", "CALL_FAILED", "PUSH_FAILED", "WEB_PUSH_FAILED", "INAPP_WEB_FAILED"} {
		name, _ := event.BuiltIn().Parse(text)
		names = append(names, name)
	}
	return names
}

// Of a header given twice the last one counts, and only that (docs/contract.md#repeated-headers).
func TestLastHeaderCounts(t *testing.T) {
	for _, h := range goodHeaders() {
		twice := append([]topic.Header{{Key: h.Key, Value: []byte("\xffno")}}, goodHeaders()...)
		d, err := decode(twice, []byte("{}"), time.Now())
		if err != nil {
			t.Errorf("%s: %v", h.Key, err)
		}
		if d.Attempts != 2 || d.ID != goodID || d.Origin.Offset != 99 || d.Last.Status != 503 {
			t.Errorf("%s: %+v", h.Key, d)
		}
	}
}

func TestForeignRecordsAreRefused(t *testing.T) {
	set := func(key, value string) func([]topic.Header) []topic.Header {
		return func(h []topic.Header) []topic.Header { return append(h, topic.Header{Key: key, Value: []byte(value)}) }
	}
	for name, change := range map[string]func([]topic.Header) []topic.Header{
		"no header":         func([]topic.Header) []topic.Header { return nil },
		"no id":             set("fanout-webhook-id", ""),
		"id with a newline": set("fanout-webhook-id", "msg_abcdefghijklmnopqrstuvwxy\n"),
		"no account":        set("fanout-account", ""),
		"account control":   set("fanout-account", "a\x00b"),
		"account no UTF-8":  set("fanout-account", "a\xff"),
		"account too long":  set("fanout-account", strings.Repeat("a", 257)),
		"subscription":      set("fanout-subscription", "a/b"),
		"event":             set("fanout-event", "sms-open"),
		"attempts":          set("fanout-attempts", "-1"),
		"many attempts":     set("fanout-attempts", "99999999999"),
		"first seen":        set("fanout-first-seen", "yesterday"),
		"no first seen":     set("fanout-first-seen", ""),
		"origin":            set("fanout-origin", "topic/0"),
		"origin negative":   set("fanout-origin", "topic/0/-1"),
		"not before":        set("fanout-not-before", "99999999999999999"),
		"status":            set("fanout-status", "42"),
		"replays":           set("fanout-replays", "x"),
		"huge header":       set("x", strings.Repeat("x", 5000)),
		"many headers": func(h []topic.Header) []topic.Header {
			for range 100 {
				h = append(h, topic.Header{Key: "x"})
			}
			return h
		},
	} {
		if d, err := decode(change(goodHeaders()), []byte("{}"), time.Now()); err == nil {
			t.Errorf("%s: taken as %+v", name, d)
		} else if len(err.Error()) > 300 || !utf8.ValidString(err.Error()) {
			t.Errorf("%s: error %q", name, err)
		}
	}
	for name, value := range map[string][]byte{"null": nil, "empty": {}, "no UTF-8": {0xff}} {
		if _, err := decode(goodHeaders(), value, time.Now()); err == nil {
			t.Errorf("value %s: taken", name)
		}
	}
}

// Reading headers costs no memory by their number or size.
func TestHeaderBombIsCheap(t *testing.T) {
	for name, headers := range map[string][]topic.Header{
		"100 000 headers":           append(goodHeaders(), bomb(100_000, "fanout-attempts", "1")...),
		"64 headers of 1 MiB":       append(goodHeaders(), bomb(50, "traceparent", strings.Repeat("x", 1<<20))...),
		"a name of 1 MiB":           append(goodHeaders(), topic.Header{Key: strings.Repeat("k", 1<<20), Value: make([]byte, 5000)}),
		"an account of 4096 bytes":  append(goodHeaders(), topic.Header{Key: "fanout-account", Value: make([]byte, 4096)}),
		"a topic of 4000 slashes":   append(goodHeaders(), topic.Header{Key: "fanout-origin", Value: []byte(strings.Repeat("/", 4000))}),
		"attempts of 4096 digits":   append(goodHeaders(), topic.Header{Key: "fanout-attempts", Value: []byte(strings.Repeat("9", 4096))}),
		"a time of 4096 characters": append(goodHeaders(), topic.Header{Key: "fanout-first-seen", Value: []byte(strings.Repeat("1", 4096))}),
	} {
		value, now := []byte("{}"), time.Now()
		if _, err := decode(headers, value, now); err == nil || len(err.Error()) > 300 {
			t.Errorf("%s: %v", name, err)
		}
		if n := testing.AllocsPerRun(10, func() { _, _ = decode(headers, value, now) }); n > 40 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// What the producer of a malformed record wrote under fanout's names does not identify it: it would show up among the dead letters of an
// account of the producer's choice.
func TestMalformedHasNoIdentity(t *testing.T) {
	m := &topic.Record{Headers: []topic.Header{
		{Key: "fanout-account", Value: []byte("acme")},
		{Key: "fanout-subscription", Value: []byte("crm")},
		{Key: "fanout-event", Value: []byte("EMAIL_OPEN")},
		{Key: "fanout-webhook-id", Value: []byte("msg_x")},
		{Key: "fanout-reason", Value: []byte("malformed_event")},
	}}
	var d topic.DeadLetter
	topic.ReadDeadLetter(m, &d)
	if d.Account != "" || d.Subscription != "" || d.Event != "" || d.ID != "" {
		t.Errorf("read as %+v", d)
	}
	if (&topic.Filter{Account: "acme"}).Matcher()(&d) {
		t.Error("it is among acme's dead letters")
	}
	if string(d.Headers["fanout-account"]) != "acme" {
		t.Errorf("its own headers are not shown: %v", d.Headers)
	}
}

func bomb(n int, key, value string) []topic.Header {
	headers := make([]topic.Header, n)
	for i := range headers {
		headers[i] = topic.Header{Key: key, Value: []byte(value)}
	}
	return headers
}
