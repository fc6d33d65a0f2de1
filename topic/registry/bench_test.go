package registry_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/sr"

	"fanout/event"
	"fanout/topic/registry"
)

const (
	eventAvro = `{"type":"record","name":"Event","fields":[{"name":"accountId","type":"string"},{"name":"channel","type":"string"},{"name":"type","type":"string"},
		{"name":"trackingId","type":"string"},{"name":"notificationId","type":"string"},{"name":"userId","type":"string"},{"name":"id","type":["null","string"]}]}`
	eventProto = `syntax = "proto3"; message Event { string account_id = 1; string channel = 2; string type = 3; string tracking_id = 4; string notification_id = 5; string user_id = 6; string id = 7; }`
)

// From a record's value to its event, in each format.
func BenchmarkDecode(b *testing.B) {
	stub := newStub(b)
	stub.SeedSchema("avro", 1, 1, schemaOf(sr.TypeAvro, eventAvro))
	stub.SeedSchema("proto", 1, 2, schemaOf(sr.TypeProtobuf, eventProto))
	stub.SeedSchema("json", 1, 3, schemaOf(sr.TypeJSON, `{}`))
	r := open(b, registry.Config{URL: stub.URL()})
	decoder, err := new(event.Mapping).Compile(nil)
	if err != nil {
		b.Fatal(err)
	}
	const text = `{"accountId":"acme","channel":"EMAIL","type":"OPEN","trackingId":"trk-0000001","notificationId":"welcome-email","userId":"user-123","id":"evt-1"}`
	fields := map[string]any{
		"accountId": "acme", "channel": "EMAIL", "type": "OPEN", "trackingId": "trk-0000001", "notificationId": "welcome-email", "userId": "user-123", "id": "evt-1",
	}
	for name, value := range map[string][]byte{
		"plain":    []byte(text),
		"json":     frame(3, nil, []byte(text)),
		"avro":     frame(1, nil, avroValue(b, eventAvro, fields)),
		"protobuf": frame(2, []int{0}, protoValue(b, map[string]string{"e.proto": eventProto}, "e.proto", "Event", text)),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				plain := value
				if name != "plain" {
					if plain, err = r.JSON(b.Context(), value, limit); err != nil {
						b.Fatal(err)
					}
				}
				if ev, err := decoder.Decode(plain); err != nil || ev.ID != "evt-1" {
					b.Fatal(ev, err)
				}
			}
		})
	}
}
