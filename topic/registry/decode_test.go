package registry_test

import (
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/sr"

	"fanout/topic/registry"
)

const userSchema = `{"type":"record","name":"User","namespace":"acme","fields":[{"name":"id","type":"string"}]}`

const mailSchema = `{"type":"record","name":"Mail","namespace":"acme.mail","fields":[
	{"name":"accountId","type":"string"},
	{"name":"kind","type":{"type":"enum","name":"Kind","symbols":["OPEN","CLICK"]}},
	{"name":"user","type":"acme.User"},
	{"name":"maybe","type":["null","string"]},
	{"name":"none","type":["null","string"]},
	{"name":"either","type":["long","string","acme.User"]},
	{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
	{"name":"micros","type":["null",{"type":"long","logicalType":"timestamp-micros"}]},
	{"name":"day","type":{"type":"int","logicalType":"date"}},
	{"name":"raw","type":"bytes"},
	{"name":"fixed","type":{"type":"fixed","name":"Two","size":2}},
	{"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},
	{"name":"uuid","type":{"type":"string","logicalType":"uuid"}},
	{"name":"list","type":{"type":"array","items":"int"}},
	{"name":"map","type":{"type":"map","values":"boolean"}},
	{"name":"ratio","type":"double"},
	{"name":"big","type":"long"}]}`

func TestAvro(t *testing.T) {
	t.Parallel()
	stub := newStub(t)
	stub.SeedSchema("acme.User", 1, 6, schemaOf(sr.TypeAvro, userSchema))
	stub.SeedSchema("mail-value", 1, 7, schemaOf(sr.TypeAvro, mailSchema, "acme.User"))
	r := open(t, registry.Config{URL: stub.URL()})
	var names avro.SchemaCache
	if _, err := names.Parse(userSchema); err != nil {
		t.Fatal(err)
	}
	schema, err := names.Parse(mailSchema)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 31, 8, 0, 0, 123456000, time.UTC)
	value, err := schema.Encode(map[string]any{
		"accountId": "a\"\\\x01é", "kind": "CLICK", "user": map[string]any{"id": "u"}, "maybe": "m", "none": nil,
		"either": map[string]any{"id": "v"}, "at": at, "micros": at, "day": at, "raw": []byte{0xff, 0}, "fixed": []byte{1, 2},
		"price": big.NewRat(-1999, 100), "uuid": "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "list": []any{1, 2}, "map": map[string]any{"k": true}, "ratio": 0.5,
		"big": int64(1<<62 + 1),
	})
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"accountId":"a\"\\\u0001é","at":"2026-01-31T08:00:00.123Z","big":4611686018427387905,"day":"2026-01-31T00:00:00Z","either":{"id":"v"},` +
		`"fixed":"AQI=","kind":"CLICK","list":[1,2],"map":{"k":true},"maybe":"m","micros":"2026-01-31T08:00:00.123456Z","none":null,` +
		`"price":-19.99,"ratio":0.5,"raw":"/wA=","user":{"id":"u"},"uuid":"6ba7b810-9dad-11d1-80b4-00c04fd430c8"}`
	text, err := r.JSON(t.Context(), frame(7, nil, value), limit)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), `"big":4611686018427387905`) { // before a float64 rounds it
		t.Errorf("%s", text)
	}
	if got := reads(t, r, frame(7, nil, value)); got != strings.Replace(want, "4611686018427387905", "4611686018427388000", 1) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for n := range value {
		malformed(t, r, frame(7, nil, value[:n]), limit) // cut anywhere
	}
	if got := malformed(t, r, frame(7, nil, append(value, 0)), limit); got != "malformed event: schema 7: 1 bytes follow the value" {
		t.Error(got)
	}
	if got := malformed(t, r, frame(7, nil, value), 300); got != "malformed event: schema 7: its JSON has more than max_event_bytes, which is 300" {
		t.Error(got)
	}
}

const commonProto = `syntax = "proto3"; package acme.common; message User { string user_id = 1; }`

const mailProto = `syntax = "proto3"; package acme.mail;
import "acme/common.proto"; import "google/protobuf/timestamp.proto"; import "google/protobuf/wrappers.proto";
import "google/protobuf/struct.proto"; import "google/protobuf/any.proto"; import "confluent/meta.proto";
enum Kind { OPEN = 0; CLICK = 1; }
message Other { int32 x = 1; }
message Outer {
  message Skipped { int32 x = 1; }
  message Mail {
    string account_id = 1 [(confluent.field_meta).doc = "the tenant"];
    Kind kind = 2;
    acme.common.User user = 3;
    google.protobuf.Timestamp at = 4;
    google.protobuf.StringValue tracking_id = 5;
    int64 id = 6;
    bytes raw = 7;
    repeated Kind kinds = 8;
    map<string, acme.common.User> users = 9;
    oneof which { string a = 10; uint64 b = 11; }
    google.protobuf.Struct free = 12;
    google.protobuf.Any any = 13;
    double ratio = 14;
    string named = 15 [json_name = "as-named"];
    bool set = 16;
    optional int32 zero = 17;
  }
}`

func TestProtobuf(t *testing.T) {
	t.Parallel()
	stub := newStub(t)
	stub.SeedSchema("acme/common.proto", 1, 8, schemaOf(sr.TypeProtobuf, commonProto))
	stub.SeedSchema("mail-value", 1, 9, schemaOf(sr.TypeProtobuf, mailProto, "acme/common.proto"))
	r := open(t, registry.Config{URL: stub.URL()})
	files := map[string]string{"acme/common.proto": commonProto, "mail.proto": strings.NewReplacer(`import "confluent/meta.proto";`, "", ` [(confluent.field_meta).doc = "the tenant"]`, "").Replace(mailProto)}
	const text = `{"accountId":"acme","kind":"CLICK","user":{"userId":"u"},"at":"2026-01-31T08:00:00.123Z","trackingId":"t","id":"9007199254740993",
		"raw":"/wA=","kinds":["OPEN","CLICK"],"users":{"k":{"userId":"v"}},"b":"18446744073709551615","free":{"x":[1,null]},"ratio":"NaN","as-named":"n","set":true,"zero":0}`
	value := protoValue(t, files, "mail.proto", "acme.mail.Outer.Mail", text)
	const want = `{"accountId":"acme","as-named":"n","at":"2026-01-31T08:00:00.123Z","b":"18446744073709551615","free":{"x":[1,null]},"id":"9007199254740993","kind":"CLICK",` +
		`"kinds":["OPEN","CLICK"],"ratio":null,"raw":"/wA=","set":true,"trackingId":"t","user":{"userId":"u"},"users":{"k":{"userId":"v"}},"zero":0}`
	if got := reads(t, r, frame(9, []int{1, 1}, value)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	// What is not set: an enum has its zero value, which may be what is meant; a number has none, which would be an id.
	if got := reads(t, r, frame(9, []int{1, 1}, nil)); got != `{"kind":"OPEN"}` {
		t.Error(got)
	}
	if got := reads(t, r, frame(9, []int{0}, []byte{8, 5})); got != `{"x":5}` {
		t.Error(got)
	}
	anyValue := append([]byte{0x6a, 7, 0x0a, 1, 'x', 0x12, 2}, 8, 5)
	if got := reads(t, r, frame(9, []int{1, 1}, anyValue)); got != `{"any":{"typeUrl":"x","value":"CAU="},"kind":"OPEN"}` {
		t.Error(got)
	}
	for name, bad := range map[string][]byte{
		"no index":           frame(9, nil, nil),
		"no such message":    frame(9, []int{2}, nil),
		"none below":         frame(9, []int{0, 0}, nil),
		"negative":           frame(9, []int{-1, 1}, nil),
		"many indexes":       frame(9, make([]int, 100), nil),
		"endless index":      frame(9, nil, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}),
		"invalid UTF-8":      frame(9, []int{1, 1}, []byte{0x0a, 1, 0xff}),
		"no wire format":     frame(9, []int{1, 1}, []byte{7}),
		"field number zero":  frame(9, []int{1, 1}, []byte{0, 0}),
		"longer than itself": frame(9, []int{1, 1}, []byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f}),
	} {
		t.Log(name + ": " + malformed(t, r, bad, limit))
	}
	for n := range value {
		_, _ = r.JSON(t.Context(), frame(9, []int{1, 1}, value[:n]), limit) // may be a shorter message, and must not fail otherwise
	}
}

func TestJSONSchema(t *testing.T) {
	t.Parallel()
	stub := newStub(t)
	stub.SeedSchema("mail-value", 1, 3, schemaOf(sr.TypeJSON, `{"type":"object"}`))
	r := open(t, registry.Config{URL: stub.URL()})
	text, err := r.JSON(t.Context(), frame(3, nil, []byte(rawEvent(1))), limit)
	if err != nil || string(text) != rawEvent(1) {
		t.Errorf("%s, %v", text, err)
	}
	malformed(t, r, frame(3, nil, []byte(rawEvent(1))), 50)
	if text, err := r.JSON(t.Context(), nil, limit); text != nil || err != nil {
		t.Errorf("null: %s, %v", text, err)
	}
	for _, value := range []string{"", "\x00", "\x00\x00\x00\x00", rawEvent(1), "\x01\x00\x00\x00\x03{}"} {
		if got := malformed(t, r, []byte(value), limit); got != "malformed event: no schema id: want a zero byte and four bytes of the id before the value" {
			t.Errorf("%q: %s", value, got)
		}
	}
}
