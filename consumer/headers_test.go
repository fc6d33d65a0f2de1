package consumer_test

import (
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/segmentio/kafka-go"
	"pgregory.net/rapid"

	"fanout/consumer"
	"fanout/dispatcher"
	"fanout/event"
)

const goodID = "msg_abcdefghijklmnopqrstuvwxyz"

func goodHeaders() []kafka.Header {
	return []kafka.Header{
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
		}
		notBefore := millis("not before")
		got, err := consumer.DecodeDelivery(consumer.EncodeDelivery(&d, &out, notBefore), d.Body, d.AppendedAt)
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
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %+v\nwant %+v", got, want)
		}
	})
}

func allNames() (names []event.Name) {
	for _, text := range []string{"EMAIL_OPEN", "EMAIL_CLICK", "EMAIL_FAILED", "SMS_FAILED", "CALL_FAILED", "PUSH_FAILED", "WEB_PUSH_FAILED", "INAPP_WEB_FAILED"} {
		name, _ := event.ParseName(text)
		names = append(names, name)
	}
	return names
}

// Of a header given twice the last one counts, and only that (DESIGN.md section 4).
func TestLastHeaderCounts(t *testing.T) {
	for _, h := range goodHeaders() {
		twice := append([]kafka.Header{{Key: h.Key, Value: []byte("\xffno")}}, goodHeaders()...)
		d, err := consumer.DecodeDelivery(twice, []byte("{}"), time.Now())
		if err != nil {
			t.Errorf("%s: %v", h.Key, err)
		}
		if d.Attempts != 2 || d.ID != goodID || d.Origin.Offset != 99 || d.Last.Status != 503 {
			t.Errorf("%s: %+v", h.Key, d)
		}
	}
}

func TestForeignRecordsAreRefused(t *testing.T) {
	set := func(key, value string) func([]kafka.Header) []kafka.Header {
		return func(h []kafka.Header) []kafka.Header { return append(h, kafka.Header{Key: key, Value: []byte(value)}) }
	}
	for name, change := range map[string]func([]kafka.Header) []kafka.Header{
		"no header":         func([]kafka.Header) []kafka.Header { return nil },
		"no id":             set("fanout-webhook-id", ""),
		"id with a newline": set("fanout-webhook-id", "msg_abcdefghijklmnopqrstuvwxy\n"),
		"no account":        set("fanout-account", ""),
		"account control":   set("fanout-account", "a\x00b"),
		"account no UTF-8":  set("fanout-account", "a\xff"),
		"account too long":  set("fanout-account", strings.Repeat("a", 257)),
		"subscription":      set("fanout-subscription", "a/b"),
		"event":             set("fanout-event", "SMS_OPEN"),
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
		"many headers": func(h []kafka.Header) []kafka.Header {
			for range 100 {
				h = append(h, kafka.Header{Key: "x"})
			}
			return h
		},
	} {
		if d, err := consumer.DecodeDelivery(change(goodHeaders()), []byte("{}"), time.Now()); err == nil {
			t.Errorf("%s: taken as %+v", name, d)
		} else if len(err.Error()) > 300 || !utf8.ValidString(err.Error()) {
			t.Errorf("%s: error %q", name, err)
		}
	}
	for name, value := range map[string][]byte{"null": nil, "empty": {}, "no UTF-8": {0xff}} {
		if _, err := consumer.DecodeDelivery(goodHeaders(), value, time.Now()); err == nil {
			t.Errorf("value %s: taken", name)
		}
	}
}
