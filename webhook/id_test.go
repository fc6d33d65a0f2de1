package webhook_test

import (
	"math"
	"regexp"
	"strings"
	"testing"

	"fanout/webhook"
)

// Golden vectors: if one changes, every receiver takes what it already has for new. They were computed with Python:
//
//	def uv(n): return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + uv(n >> 7)
//	parts = [p.encode() for p in ("acme", "EMAIL_OPEN", "evt-1", "sub-1")]
//	digest = hashlib.sha256(b"".join(uv(len(p)) + p for p in parts)).digest()[:16]
//	"msg_" + base64.b32encode(digest).decode().rstrip("=").lower()
func TestIDGolden(t *testing.T) {
	for _, test := range []struct{ what, got, want string }{
		{"event", webhook.EventID("acme", "EMAIL_OPEN", "evt-1", "sub-1"), "msg_gelqjjl52b4qjyvnvyzywnhuye"},
		{"offset", webhook.OffsetID("channel.email", 3, 42, "sub-1"), "msg_ygbfnkw3j5nefppipnxbyas5je"},
		{"long id", webhook.EventID("acme", "EMAIL_OPEN", strings.Repeat("é", 300), "sub-1"), "msg_zut2ippjpzwhgied4er7k5tnuu"},
		{"batch", webhook.BatchID([]string{"msg_gelqjjl52b4qjyvnvyzywnhuye", "msg_ygbfnkw3j5nefppipnxbyas5je"}), "msg_jiele6vuzi6unagilya757m36i"},
		{"batch of one", webhook.BatchID([]string{"msg_gelqjjl52b4qjyvnvyzywnhuye"}), "msg_2blqi7yb5yrxkz7w2mz2mz5jeu"},
		{"last offset", webhook.OffsetID("channel.email", 0, math.MaxInt64, "sub-1"), "msg_wboz2hi5njijz5zbjzt24jbgzy"},
	} {
		if test.got != test.want {
			t.Errorf("%s: %s, want %s", test.what, test.got, test.want)
		}
	}
}

// Moving a character from one part to the next makes another id: the lengths are hashed too.
func TestIDsDiffer(t *testing.T) {
	shape := regexp.MustCompile(`^msg_[a-z2-7]{26}$`)
	seen := map[string]string{}
	for _, parts := range [][4]string{
		{"a", "b", "c", "d"}, {"ab", "", "c", "d"}, {"a", "bc", "", "d"}, {"a", "b", "", "cd"}, {"", "a", "b", "cd"}, {"a", "b", "c", "e"}, {"\x01a", "b", "c", "d"},
	} {
		id := webhook.EventID(parts[0], parts[1], parts[2], parts[3])
		if !shape.MatchString(id) {
			t.Errorf("%q is no webhook-id", id)
		}
		if other, ok := seen[id]; ok {
			t.Errorf("%q and %s have the id %s", parts, other, id)
		}
		seen[id] = strings.Join(parts[:], "|")
	}
}

func TestIDAllocatesItsResultOnly(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { webhook.EventID("acme", "EMAIL_OPEN", "01JNQ7Y3M0W8ABCDEF", "sub-1") }); n > 1 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkEventID(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		webhook.EventID("acme", "EMAIL_OPEN", "01JNQ7Y3M0W8ABCDEF", "sub-1")
	}
}

func BenchmarkOffsetID(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		webhook.OffsetID("channel.email", 11, 123456789, "sub-1")
	}
}
