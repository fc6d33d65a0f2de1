package topic_test

import (
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"fanout/dispatcher"
	"fanout/topic"
)

// lines is headers as text, for a fuzzer to change: `name: value`, one a line.
func lines(headers []topic.Header) string {
	var b strings.Builder
	for _, h := range headers {
		b.WriteString(h.Key + ": " + string(h.Value) + "\n")
	}
	return b.String()
}

func unlines(text string) (headers []topic.Header) {
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		headers = append(headers, topic.Header{Key: key, Value: []byte(value)})
	}
	return headers
}

// addHostileRecords seeds with what somebody may write to our topics: a record's headers, one more that may hold any
// bytes, and the value.
func addHostileRecords(f *testing.F) {
	f.Helper()
	good := lines(goodHeaders())
	for _, s := range []struct{ key, header, value string }{
		{"fanout-attempts", "3", "{}"},
		{"fanout-attempts", "2147483647", "{}"},
		{"fanout-origin", "///", "{}"},
		{"fanout-origin", strings.Repeat("t", 5000) + "/0/0", "{}"},
		{"fanout-webhook-id", "msg_\r\n", "\xff"},
		{"fanout-account", "a\xff", "{}"},
		{"fanout-account", "a\x00", "{}"},
		{"traceparent", "00-\r\nx: y", "{}"},
		{"fanout-detail", "\xff\xfe", "{}"},
		{"fanout-status", "-3", "{}"},
		{"fanout-replays", "-3", "{}"},
		{"fanout-replays", "2147483647", "{}"},
		{"fanout-replay", "nightly", "{}"},
		{"fanout-reason", "malformed_event", "{}"},
		{"x", "", "\xff"},
		{"x", "", ""},
	} {
		f.Add(good, s.key, []byte(s.header), []byte(s.value))
	}
	f.Add(good+"tracestate: a=b\nfanout-replay: n\nfanout-dead-letter: 1/2\nfanout-replays: 1\nfanout-dead-at: 1700000000000\n", "", []byte{}, []byte("{}"))
	f.Add("tracestate: a=b\n", "fanout-dead-letter", []byte("1/2"), []byte("{}"))
	f.Add(strings.Repeat("a: b\n", 70), "", []byte{}, []byte("{}"))
	f.Add("", "", []byte{}, []byte(nil))
}

// Anyone may write to these topics: whatever is there is either refused, or a delivery whose texts may be sent on, and
// which comes back the same when it is written again.
func FuzzDecodeDelivery(f *testing.F) {
	addHostileRecords(f)
	f.Fuzz(func(t *testing.T, text, key string, header, value []byte) {
		headers := append(unlines(text), topic.Header{Key: key, Value: header})
		d, err := decode(headers, value, time.UnixMilli(1_700_000_000_000))
		if err != nil {
			if len(err.Error()) > 300 || !utf8.ValidString(err.Error()) {
				t.Errorf("error %q", err)
			}
			return
		}
		for name, text := range map[string]string{"id": d.ID, "traceparent": d.TraceParent, "tracestate": d.TraceState} {
			if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("%s %q may not be an HTTP header", name, text)
			}
		}
		if len(d.Last.Detail) > 512 || !utf8.ValidString(d.Last.Detail) || !utf8.ValidString(d.Account) || d.Attempts < 0 || d.Replays < 0 {
			t.Errorf("taken: %+v", d)
		}
		want := d
		if want.NotBefore.IsZero() {
			want.NotBefore = time.UnixMilli(1_700_000_000_000) // it is always written
		}
		out := dispatcher.Outcome{Result: dispatcher.Deferred, Reason: d.Last.Reason, Status: d.Last.Status, Detail: d.Last.Detail}
		again, err := decode(topic.DeliveryHeaders("fanout", &d, &out, want.NotBefore), value, d.AppendedAt)
		if err != nil {
			t.Fatalf("written again it is refused: %v\n%+v", err, d)
		}
		if !reflect.DeepEqual(again, want) {
			t.Errorf("written again it is\n%+v, was\n%+v", again, want)
		}
	})
}

// A dead letter that a replay sends must be taken from the replay topic as the same delivery: one that is refused there
// comes back as a malformed record, and can never be replayed again.
func FuzzReadDeadLetter(f *testing.F) {
	addHostileRecords(f)
	f.Fuzz(func(t *testing.T, text, key string, header, value []byte) {
		r := &topic.Record{Partition: topic.Partition{ID: 3}, Offset: 9, Headers: append(unlines(text), topic.Header{Key: key, Value: header}), Value: value}
		var d topic.DeadLetter
		topic.ReadDeadLetter(r, &d)
		if d.Attempts < 0 || d.Replays < 0 || d.Status != 0 && (d.Status < 100 || d.Status > 999) {
			t.Errorf("read as %+v", d)
		}
		if !d.Usable() {
			return
		}
		replay := d.ReplayRecord("fanout", "nightly", time.UnixMilli(1_700_000_000_000))
		got, err := decode(replay.Headers, d.Value, time.Now())
		if err != nil {
			t.Fatalf("its replay is refused: %v\n%+v", err, d)
		}
		if got.ID != d.ID || got.Account != d.Account || got.Subscription != d.Subscription || got.Event.String() != d.Event ||
			got.Attempts != 0 || got.Replay != "nightly" || got.DeadLetter != "3/9" || got.Replays <= 0 || got.TraceParent != d.Trace {
			t.Errorf("its replay is %+v of %+v", got, d)
		}
	})
}
