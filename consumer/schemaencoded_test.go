package consumer_test

import (
	"bytes"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"fanout/event"
	"fanout/topic"
	"fanout/topic/registry"
)

const (
	avroBounce = `{"type":"record","name":"Bounce","fields":[{"name":"tenant","type":"string"},{"name":"kind","type":{"type":"enum","name":"Kind","symbols":["bounced","opened"]}},
		{"name":"message","type":{"type":"record","name":"Message","fields":[{"name":"tracking_id","type":["null","string"]}]}},{"name":"template","type":"string"},{"name":"user","type":"string"}]}`
	protoCommon = `syntax = "proto3"; package acme; message Who { string tenant_id = 1; string user_id = 2; }`
	protoBounce = `syntax = "proto3"; package acme; import "common.proto"; message Unused {} message Outer { message Bounce { Who who = 1; Kind kind = 2; string tracking_id = 3; string template = 4; } }
		enum Kind { KIND_BOUNCED = 0; KIND_OPENED = 1; }`
)

// schemaWorld has a source of each kind, and a registry between them that a test may take away.
type schemaWorld struct {
	*world
	stub *srfake.Registry
	away atomic.Bool
	asks atomic.Int64
}

func newSchemaWorld(t *testing.T) *schemaWorld {
	t.Helper()
	w := &schemaWorld{world: newWorld(t, "avro", "proto", "json", "plain"), stub: srfake.New()}
	t.Cleanup(w.stub.Close)
	w.stub.Intercept(func(rw http.ResponseWriter, _ *http.Request) bool {
		w.asks.Add(1)
		if w.away.Load() {
			rw.WriteHeader(http.StatusServiceUnavailable)
		}
		return w.away.Load()
	})
	seed := func(subject string, id int, kind sr.SchemaType, text string, refs ...sr.SchemaReference) {
		w.stub.SeedSchema(subject, 1, id, sr.Schema{Type: kind, Schema: text, References: refs})
	}
	seed("avro-value", 11, sr.TypeAvro, avroBounce)
	seed("common.proto", 12, sr.TypeProtobuf, protoCommon)
	seed("proto-value", 13, sr.TypeProtobuf, protoBounce, sr.SchemaReference{Name: "common.proto", Subject: "common.proto", Version: 1})
	seed("json-value", 14, sr.TypeJSON, `{"type":"object"}`)
	w.cfg.SchemaRegistry = registry.Config{URL: w.stub.URL(), Timeout: time.Second}
	types := map[string]string{"bounced": "FAILED", "opened": "OPEN", "KIND_BOUNCED": "FAILED", "KIND_OPENED": "OPEN"}
	w.cfg.Sources = []topic.SourceConfig{
		{Topic: "avro", Format: "confluent", Mapping: event.Mapping{Channel: "EMAIL", Types: types, Fields: map[string]string{
			"accountId": "tenant", "type": "kind", "trackingId": "message.tracking_id", "notificationId": "template", "userId": "user",
		}}},
		{Topic: "proto", Format: "confluent", Mapping: event.Mapping{Channel: "EMAIL", Types: types, Fields: map[string]string{
			"accountId": "who.tenantId", "type": "kind", "notificationId": "template", "userId": "who.userId",
		}}},
		{Topic: "json", Format: "confluent"},
		{Topic: "plain", Format: "json"},
	}
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	return w
}

func schemaEncoded(id int, index []int, value []byte) []byte {
	b, _ := new(sr.ConfluentHeader).AppendEncode(nil, id, index)
	return append(b, value...)
}

func (w *schemaWorld) avro(tracking string) []byte {
	w.t.Helper()
	value, err := avro.MustParse(avroBounce).Encode(map[string]any{
		"tenant": "acme", "kind": "bounced", "message": map[string]any{"tracking_id": tracking}, "template": "welcome", "user": "u",
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return schemaEncoded(11, nil, value)
}

// proto is a Bounce, written by hand: the second message of the file, the first within it; its kind is 0, which is not
// written.
func (w *schemaWorld) proto(tracking string) []byte {
	who := append(field(1, "acme"), field(2, "u")...)
	return schemaEncoded(13, []int{1, 0}, slices.Concat(field(1, string(who)), field(3, tracking), field(4, "welcome")))
}

func field(number byte, text string) []byte {
	return append([]byte{number<<3 | 2, byte(len(text))}, text...)
}

func value(b []byte) kafka.Record { return kafka.Record{Value: kafka.NewBytes(b)} }

func payload(eventType, tracking string) string {
	return `{"eventType":"` + eventType + `","trackingId":"` + tracking + `","notificationId":"welcome","channel":"EMAIL","userId":"u"}`
}

func bodies(list []received) (all []string) {
	for _, r := range list {
		all = append(all, r.body)
	}
	slices.Sort(all)
	return all
}

// Records of each kind of schema become deliveries by the mappings that JSON has, beside those of plain JSON.
func TestFramedRecords(t *testing.T) {
	w := newSchemaWorld(t)
	i := w.start()
	plain := strings.NewReplacer("tN", "t3").Replace(`{"accountId":"acme","channel":"EMAIL","type":"OPEN","trackingId":"tN","notificationId":"welcome","userId":"u"}`)
	w.produce("avro", 0, value(w.avro("t1")), kafka.Record{})
	w.produce("proto", 1, value(w.proto("t2")))
	w.produce("json", 0, value(schemaEncoded(14, nil, []byte(plain))))
	w.produce("plain", 0, value([]byte(strings.Replace(plain, "t3", "t4", 1))))
	want := []string{payload("EMAIL_FAILED", "t1"), payload("EMAIL_FAILED", "t2"), payload("OPEN", "t3"), payload("OPEN", "t4")}
	slices.Sort(want)
	w.until("the deliveries", func() bool { return len(w.recv.got("/a")) == len(want) })
	if got := bodies(w.recv.got("/a")); !slices.Equal(got, want) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	w.until("the null value", func() bool { return i.sum("fanout_records_total", "source", "avro", "result", "ignored") == 1 })
	i.end()
	if n := w.asks.Load(); n != 4 {
		t.Errorf("asked %d times for four schemas", n)
	}
}

// While the registry is away the partitions that need it wait, and nobody else. Nothing is lost, dead, or delivered twice.
func TestRegistryAway(t *testing.T) {
	w := newSchemaWorld(t)
	w.away.Store(true)
	i, began := w.start(), time.Now()
	for n := range 20 {
		w.produce("avro", n%2, value(w.avro("t"+string(rune('a'+n)))))
	}
	w.produce("plain", 0, rawEvent("acme", 1))
	w.until("what needs no registry", func() bool { return len(w.recv.got("/a")) == 1 })
	w.until("not ready", func() bool {
		err := i.c.SchemasReady()
		return err != nil && strings.Contains(err.Error(), "status 503")
	})
	w.until("it is asked again, and again", func() bool { return w.asks.Load() >= 3 })
	if n, took := w.asks.Load(), time.Since(began); n > 2+int64(took/time.Second) {
		t.Errorf("asked %d times within %v", n, took)
	}
	if err := i.c.Ready(); err != nil {
		t.Error(err)
	}
	if lag := i.sum("fanout_lag_records", "topic", "avro"); lag != 20 {
		t.Errorf("the lag is %v", lag)
	}
	i.end() // it can be stopped meanwhile
	i = w.start()
	w.away.Store(false)
	w.until("all", func() bool { return len(w.recv.got("/a")) == 21 })
	w.until("ready", func() bool { return i.c.SchemasReady() == nil })
	i.end()
	if got := slices.Compact(bodies(w.recv.got("/a"))); len(got) != 21 {
		t.Errorf("%d different bodies", len(got))
	}
	if dead := w.records("fanout.dead-letter"); len(dead) > 0 {
		t.Errorf("%d dead letters: %s", len(dead), header(&dead[0], "fanout-detail"))
	}
}

// Waiting for the registry does not count as a standstill: nothing is restarted, or joined again.
func TestRegistryAwayIsNoStandstill(t *testing.T) {
	w := newSchemaWorld(t)
	w.cfg.StalledAfter = time.Second
	w.cfg.Sources = w.cfg.Sources[:1]
	w.away.Store(true)
	i := w.start()
	for n := range 4 {
		w.produce("avro", n%2, value(w.avro("t"+string(rune('a'+n)))))
	}
	w.until("ready, but for the registry", func() bool { return i.c.SchemasReady() != nil && i.c.Ready() == nil })
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err := errors.Join(i.c.Healthy(), i.c.Ready()); err != nil {
			t.Fatal(err)
		}
	}
	w.away.Store(false)
	w.until("all", func() bool { return len(w.recv.got("/a")) == 4 })
	i.end()
}

// What cannot be read is dead with the bytes that its producer wrote, says why, and holds nobody up. Once its schema is
// registered, the same bytes are an event.
func TestUnknownSchema(t *testing.T) {
	w := newSchemaWorld(t)
	i := w.start()
	unknown := w.avro("t1")
	unknown[4] = 99
	short := w.avro("t2")[:20]
	bad := map[string]string{
		string(unknown):        "schema 99: the schema registry does not know it",
		string(short):          "schema 11: ",
		`{"accountId":"acme"}`: "no schema id",
		string(schemaEncoded(11, nil, bytes.Repeat([]byte{'x'}, 262144))): "max_event_bytes is 262144",
	}
	for b := range bad {
		w.produce("avro", 0, kafka.Record{Key: kafka.NewBytes([]byte("k")), Value: kafka.NewBytes([]byte(b)), Headers: []kafka.Header{{Key: "own", Value: []byte("h")}}})
	}
	w.produce("avro", 0, value(w.avro("t3")))
	w.until("the one behind them", func() bool { return len(w.recv.got("/a")) == 1 })
	w.until("the dead letters", func() bool { return len(w.records("fanout.dead-letter")) == len(bad) })
	for _, m := range w.records("fanout.dead-letter") {
		why, ok := bad[string(m.Value)]
		if !ok || string(m.Key) != "k" || header(&m, "own") != "h" || header(&m, "fanout-reason") != "malformed_event" || !strings.Contains(header(&m, "fanout-detail"), why) {
			t.Errorf("%.40x: key %s, %s, %s; want %q", m.Value, m.Key, header(&m, "fanout-reason"), header(&m, "fanout-detail"), why)
		}
	}
	if n := i.sum("fanout_records_total", "source", "avro", "result", "malformed"); n != float64(len(bad)) {
		t.Errorf("%v records count as malformed", n)
	}
	w.stub.SeedSchema("new-value", 1, 99, sr.Schema{Type: sr.TypeAvro, Schema: avroBounce})
	sources, err := w.cfg.NewSources(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer sources.Close()
	ev, err := sources.Decode(t.Context(), &topic.Record{Partition: topic.Partition{Topic: "avro"}, Value: unknown})
	if err != nil || ev.TrackingID != "t1" {
		t.Errorf("%+v, %v", ev, err)
	}
	time.Sleep(1100 * time.Millisecond) // the running instance asks again after a second
	w.produce("avro", 0, value(unknown))
	w.until("the one that was dead", func() bool { return len(w.recv.got("/a")) == 2 })
	i.end()
}
