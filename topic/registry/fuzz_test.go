package registry_test

import (
	"encoding/json"
	"errors"
	"testing"
	"unicode/utf8"

	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/sr"

	"fanout/event"
	"fanout/topic/registry"
)

// fuzzSchemas are one of each kind, with all that can be in a value.
func fuzzSchemas(tb testing.TB) *registry.Registry {
	tb.Helper()
	stub := newStub(tb)
	stub.SeedSchema("acme.User", 1, 6, schemaOf(sr.TypeAvro, userSchema))
	stub.SeedSchema("avro", 1, 7, schemaOf(sr.TypeAvro, mailSchema, "acme.User"))
	stub.SeedSchema("acme/common.proto", 1, 8, schemaOf(sr.TypeProtobuf, commonProto))
	stub.SeedSchema("proto", 1, 9, schemaOf(sr.TypeProtobuf, mailProto, "acme/common.proto"))
	stub.SeedSchema("json", 1, 3, schemaOf(sr.TypeJSON, `{}`))
	stub.SeedSchema("tree", 1, 10, schemaOf(sr.TypeAvro, `{"type":"record","name":"Node","fields":[{"name":"all","type":{"type":"array","items":["null","Node","string"]}}]}`))
	return open(tb, registry.Config{URL: stub.URL()})
}

// Any value becomes JSON within the limit or is malformed, and the JSON is one that package event reads on, whatever it
// says of it.
func FuzzJSON(f *testing.F) {
	r := fuzzSchemas(f)
	decoder, err := (&event.Mapping{Channel: "EMAIL", Fields: map[string]string{"type": "kind", "userId": "user.id", "trackingId": "maybe", "notificationId": "accountId"}}).Compile(nil)
	if err != nil {
		f.Fatal(err)
	}
	var names avro.SchemaCache
	_, _ = names.Parse(userSchema)
	schema, err := names.Parse(mailSchema)
	if err != nil {
		f.Fatal(err)
	}
	mail, err := schema.Encode(map[string]any{
		"accountId": "a", "kind": "CLICK", "user": map[string]any{"id": "u"}, "maybe": "m", "none": nil, "either": int64(1), "at": int64(1), "micros": int64(2),
		"day": 3, "raw": []byte{0xff}, "fixed": []byte{1, 2}, "price": "1.25", "uuid": "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "list": []any{1}, "map": map[string]any{"k": true}, "ratio": 0.5, "big": 5,
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(7, mail)
	f.Add(9, append([]byte{4, 2, 2}, "\x0a\x04acme\x10\x01\x1a\x03\x0a\x01u\x22\x02\x08\x01\x30\x05"...))
	f.Add(9, append([]byte{0}, 8, 5))
	f.Add(3, []byte(rawEvent(1)))
	f.Add(10, []byte("\x02\x02\x02\x04\x02x\x00\x00"))
	f.Add(11, []byte{})
	f.Fuzz(func(t *testing.T, id int, value []byte) {
		if id != 3 && (id < 6 || id > 10) {
			return // it would be waited for
		}
		const limit = 4096
		text, err := r.JSON(t.Context(), frame(id, nil, value), limit)
		if err != nil {
			if bad, ok := errors.AsType[*event.MalformedError](err); !ok || !utf8.ValidString(bad.Error()) || len(bad.Error()) > 512 {
				t.Fatalf("%v", err)
			}
			return
		}
		if len(text) > limit {
			t.Fatalf("%d bytes", len(text))
		}
		if id != 3 && utf8.Valid(text) && !json.Valid(text) { // JSON is the producer's own
			t.Fatalf("no JSON: %s", text)
		}
		_, _ = decoder.Decode(text)
	})
}
