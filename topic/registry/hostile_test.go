package registry_test

import (
	"encoding/binary"
	"encoding/pem"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/sr"
	"google.golang.org/protobuf/encoding/protowire"

	"fanout/topic/registry"
)

func pemOf(s *httptest.Server) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
}

const treeProto = `syntax = "proto3"; message Node { Node next = 1; repeated Node all = 2; repeated int32 n = 3 [packed = true]; map<int32, Node> m = 4; }
message Deep { google.protobuf.Value v = 1; } `

// What a value costs is bounded by its size: no length or count that it claims is believed.
func TestHostileValues(t *testing.T) {
	stub := newStub(t)
	schemas := map[string]sr.Schema{
		"tree":  schemaOf(sr.TypeAvro, `{"type":"record","name":"Node","fields":[{"name":"next","type":["null","Node"]}]}`),
		"ints":  schemaOf(sr.TypeAvro, `{"type":"array","items":"int"}`),
		"nulls": schemaOf(sr.TypeAvro, `{"type":"array","items":"null"}`),
		"empty": schemaOf(sr.TypeAvro, `{"type":"array","items":{"type":"record","name":"E","fields":[]}}`),
		"map":   schemaOf(sr.TypeAvro, `{"type":"map","values":"null"}`),
		"text":  schemaOf(sr.TypeAvro, `"string"`),
		"bytes": schemaOf(sr.TypeAvro, `"bytes"`),
		"fixed": schemaOf(sr.TypeAvro, `{"type":"fixed","name":"F","size":2147483647}`),
		"wide":  schemaOf(sr.TypeAvro, `{"type":"array","items":{"type":"record","name":"W","fields":[{"name":"`+strings.Repeat("w", 1000)+`","type":"int"}]}}`),
		"money": schemaOf(sr.TypeAvro, `{"type":"bytes","logicalType":"decimal","precision":60000,"scale":60000}`),
		"coins": schemaOf(sr.TypeAvro, `{"type":"array","items":{"type":"bytes","logicalType":"decimal","precision":60000,"scale":60000}}`),
		"big":   schemaOf(sr.TypeAvro, `{"type":"array","items":{"type":"bytes","logicalType":"big-decimal"}}`),
		"proto": schemaOf(sr.TypeProtobuf, strings.Replace(treeProto, "message Node", `import "google/protobuf/struct.proto"; message Node`, 1)),
	}
	ids := map[string]int{}
	for name, schema := range schemas {
		ids[name] = len(ids) + 1
		stub.SeedSchema(name, 1, ids[name], schema)
	}
	r := open(t, registry.Config{URL: stub.URL()})
	const huge = "\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"            // a long, as Avro writes it: the largest
	nested := func(depth int, fields ...protowire.Number) (b []byte) { // the innermost first
		for i := range depth {
			b = append(protowire.AppendVarint(protowire.AppendTag(nil, fields[i%len(fields)], protowire.BytesType), uint64(len(b))), b...)
		}
		return b
	}
	full := strings.Repeat("\x00", limit-5)
	for name, test := range map[string]struct {
		schema string
		index  []int
		value  string
	}{
		"many ints":         {"ints", nil, huge},
		"negative count":    {"ints", nil, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"},
		"count too long":    {"ints", nil, strings.Repeat("\xff", 11)},
		"many nulls":        {"nulls", nil, huge + "\x00"},
		"nulls, in blocks":  {"nulls", nil, strings.Repeat("\x80\x01", 100_000)},
		"many empties":      {"empty", nil, huge + "\x00"},
		"many entries":      {"map", nil, huge},
		"long text":         {"text", nil, huge},
		"negative text":     {"text", nil, "\x01"},
		"long bytes":        {"bytes", nil, "\xfe\xff\xff\xff\x0f"},
		"long fixed":        {"fixed", nil, full},
		"deep Avro":         {"tree", nil, strings.Repeat("\x02", limit-5)},
		"long names":        {"wide", nil, "\x80\xc4\x13" + full[:160_000] + "\x00"}, // 160 000 records of 1 000 bytes of JSON
		"control":           {"text", nil, string(binary.AppendVarint(nil, 124_000)) + strings.Repeat("\x01", 124_000)},
		"deep Protobuf":     {"proto", []int{0}, string(nested(10_000, 1))},
		"deep in a Value":   {"proto", []int{1}, string(protowire.AppendBytes([]byte{0x0a}, nested(12_000, 1, 6)))},
		"deep in a map":     {"proto", []int{0}, string(nested(10_000, 2, 4))},
		"long packed":       {"proto", []int{0}, "\x1a\xff\xff\xff\xff\x07"},
		"many small":        {"proto", []int{0}, strings.Repeat("\x12\x00", limit/2-10)},
		"packed":            {"proto", []int{0}, string(append([]byte{0x1a}, protowire.AppendBytes(nil, []byte(full[:limit-50]))...))},
		"a long decimal":    {"money", nil, string(binary.AppendVarint(nil, 40_000)) + strings.Repeat("\x7f", 40_000)},
		"many decimals":     {"coins", nil, string(binary.AppendVarint(nil, 100_000)) + strings.Repeat("\x02\x05", 100_000) + "\x00"},
		"many big decimals": {"big", nil, string(binary.AppendVarint(nil, 40_000)) + strings.Repeat("\x0a\x02\x05\xfe\xff\x07", 40_000) + "\x00"},
	} {
		t.Run(name, func(t *testing.T) {
			value := frame(ids[test.schema], test.index, []byte(test.value))
			if len(value) > limit {
				t.Fatalf("%d bytes: the consumer would not ask", len(value))
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			why := malformed(t, r, value, limit)
			runtime.ReadMemStats(&after)
			spent := after.TotalAlloc - before.TotalAlloc
			t.Logf("%d KiB: %.120s", spent>>10, why)
			if spent > 64<<20 {
				t.Errorf("%d MiB for a value of %d bytes", spent>>20, len(value))
			}
		})
	}
}
