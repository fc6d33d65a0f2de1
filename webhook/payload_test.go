package webhook_test

import (
	"encoding/json"
	"testing"
	"unicode/utf8"

	"fanout/webhook"
)

// What a payload says of its notification is found as a parser of JSON finds it, in payloads of ours and of others.
func TestNotificationID(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"welcome-email", "", `a"b`, `a\b`, "ü", "\u2028", "\x00", "a\nb"} {
		for _, tracking := range []string{"t", `t"`, `"notificationId":"other"`, "ü\\"} {
			if got := webhook.NotificationID(webhook.AppendPayload(nil, "OPEN", tracking, id, "EMAIL", "u")); got != id {
				t.Errorf("%q beside %q: %q", id, tracking, got)
			}
		}
	}
	for body, want := range map[string]string{
		"": "", "{": "", "[]": "", `{"notificationId":"b"}`: "b", `{"eventType":"OPEN","notificationId":"b"}`: "b",
		`{"eventType":"O","trackingId":"t","notificationId":`: "", `{"eventType":"O","trackingId":"t","notificationId":"b`: "",
		`{"eventType":"O" ,"trackingId":"t","notificationId":"b"}`: "b", `{"eventType":1,"trackingId":"t","notificationId":"b"}`: "b",
	} {
		if got := webhook.NotificationID([]byte(body)); got != want {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
}

// It is asked for with each delivery of a subscription that filters: its text is all that is allocated.
func TestNotificationIDIsCheap(t *testing.T) {
	body := webhook.AppendPayload(nil, "OPEN", "abc123", "welcome-email", "EMAIL", "user-123")
	if n := testing.AllocsPerRun(100, func() { webhook.NotificationID(body) }); n > 1 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkNotificationID(b *testing.B) {
	body := webhook.AppendPayload(nil, "OPEN", "abc123", "welcome-email", "EMAIL", "user-123")
	for b.Loop() {
		webhook.NotificationID(body)
	}
}

// The payload is the documented one (docs/contract.md#payload), byte for byte.
func TestPayloadIsTheDocumentedOne(t *testing.T) {
	const want = `{"eventType":"OPEN","trackingId":"abc123","notificationId":"welcome-email","channel":"EMAIL","userId":"user-123"}`
	if got := string(webhook.AppendPayload(nil, "OPEN", "abc123", "welcome-email", "EMAIL", "user-123")); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := string(webhook.AppendPayload([]byte("x"), "OPEN", "abc123", "welcome-email", "EMAIL", "user-123")); got != "x"+want {
		t.Errorf("it does not append: %s", got)
	}
}

// Only the quote, the backslash and the characters below U+0020 are escaped (docs/contract.md#payload).
func TestPayloadEscapes(t *testing.T) {
	want := map[rune]string{'"': `\"`, '\\': `\\`, '\b': `\b`, '\f': `\f`, '\n': `\n`, '\r': `\r`, '\t': `\t`, 0: `\u0000`, 0x0b: `\u000b`, 0x1f: `\u001f`}
	for _, r := range []rune{'<', '>', '&', '/', '\'', 0x7f, 0x80, 'é', 0x2028, 0x2029, '😀', utf8.RuneError} {
		want[r] = string(r)
	}
	for r, text := range want {
		got := string(webhook.AppendPayload(nil, "", "", "", "", "a"+string(r)+"b"))
		if full := `{"eventType":"","trackingId":"","notificationId":"","channel":"","userId":"a` + text + `b"}`; got != full {
			t.Errorf("%U: %s, want %s", r, got, full)
		}
	}
}

func FuzzAppendPayload(f *testing.F) {
	f.Add("a\"b", "\x00\x1f\\", "é😀\u2028")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		if !utf8.ValidString(a) || !utf8.ValidString(b) || !utf8.ValidString(c) {
			return // none comes in
		}
		var got struct{ EventType, TrackingID, NotificationID, Channel, UserID string }
		body := webhook.AppendPayload(nil, "OPEN", a, b, "EMAIL", c)
		if err := json.Unmarshal(body, &got); err != nil || got.TrackingID != a || got.NotificationID != b || got.UserID != c {
			t.Errorf("%s: %+v, %v", body, got, err)
		}
	})
}

func BenchmarkAppendPayload(b *testing.B) {
	dst := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		webhook.AppendPayload(dst, "OPEN", "01JNQ7Y3M0W8ABCDEF", "welcome-email", "EMAIL", "user-123456")
	}
}
