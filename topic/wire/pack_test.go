package wire_test

import (
	"strings"
	"testing"

	"github.com/segmentio/kafka-go/compress"
	"pgregory.net/rapid"

	"fanout/topic/wire"
)

// What is packed is unpacked as it was, under each codec.
func TestPacker(t *testing.T) {
	t.Parallel()
	type record struct {
		at      int64
		key     string
		value   string
		headers [][2]string
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.StringN(0, 8, -1), rapid.Just(strings.Repeat("x", 200)))
		drawn := rapid.Custom(func(t *rapid.T) record {
			r := record{at: rapid.Int64Range(0, 1<<42).Draw(t, "at"), key: text.Draw(t, "key"), value: text.Draw(t, "value")}
			for range rapid.IntRange(0, 3).Draw(t, "headers") {
				r.headers = append(r.headers, [2]string{text.Draw(t, "name"), text.Draw(t, "text")})
			}
			return r
		})
		all := rapid.SliceOfN(drawn, 1, 40).Draw(t, "records")
		codec := compress.Compression(rapid.IntRange(0, 4).Draw(t, "codec")).Codec()
		var p wire.Packer
		var memory []byte
		if rapid.Bool().Draw(t, "again") { // in the memory of another batch
			p.Add(1, "other", []byte(strings.Repeat("y", 300)))
			var err error
			if memory, err = p.Batch(nil, codec); err != nil {
				t.Fatal(err)
			}
			p.Reset()
		}
		for _, r := range all {
			p.Add(r.at, r.key, []byte(r.value), r.headers...)
		}
		packed, err := p.Batch(memory, codec)
		if err != nil {
			t.Fatal(err)
		}
		batch, rest, ok, err := wire.NextBatch(packed)
		if err != nil || !ok || len(rest) > 0 || batch.Count != len(all) {
			t.Fatalf("%v, %v, %d bytes more, %d records of %d", ok, err, len(rest), batch.Count, len(all))
		}
		n := 0
		err = batch.Each(func(r *wire.Record) bool {
			want := all[n]
			same := r.Offset == int64(n) && r.Time.UnixMilli() == want.at && string(r.Key) == want.key && (r.Key == nil) == (want.key == "") &&
				string(r.Value) == want.value && len(r.Headers) == len(want.headers)
			for i := range want.headers {
				same = same && r.Headers[i].Key == want.headers[i][0] && string(r.Headers[i].Value) == want.headers[i][1]
			}
			if !same {
				t.Fatalf("record %d: %+v, want %+v", n, r, want)
			}
			n++
			return true
		})
		if err != nil || n != len(all) {
			t.Fatalf("%d of %d records: %v", n, len(all), err)
		}
	})
}
