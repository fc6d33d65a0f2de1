package wire_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/compress"
	"github.com/segmentio/kafka-go/protocol"

	"fanout/topic/wire"
)

// moment is a time that Kafka's milliseconds can hold.
var moment = time.UnixMilli(1_700_000_000_123)

// packed is records as kafka-go writes them, one batch.
func packed(t testing.TB, codec compress.Compression, records ...kafka.Record) []byte {
	t.Helper()
	var b bytes.Buffer
	set := protocol.RecordSet{Version: 2, Attributes: protocol.Attributes(codec), Records: kafka.NewRecordReader(records...)}
	if _, err := set.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()[4:] // its length is the message's
}

func record(offset int64, key, value string, headers ...protocol.Header) kafka.Record {
	return kafka.Record{
		Offset: offset, Time: moment.Add(time.Duration(offset) * time.Millisecond),
		Key: kafka.NewBytes([]byte(key)), Value: kafka.NewBytes([]byte(value)), Headers: headers,
	}
}

// batchAt is a batch whose first offset is as given.
func batchAt(t testing.TB, base int64, codec compress.Compression, records ...kafka.Record) []byte {
	t.Helper()
	b := packed(t, codec, records...)
	binary.BigEndian.PutUint64(b, uint64(base))
	return b
}

// text is a record as text.
func text(r *wire.Record) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%d@%d %q=%q", r.Offset, r.Time.UnixMilli(), r.Key, r.Value)
	for _, h := range r.Headers {
		fmt.Fprintf(&s, " %s:%s", h.Key, h.Value)
	}
	return s.String()
}

// all reads the records of an answer.
func all(b []byte) (texts []string, err error) {
	for {
		batch, rest, ok, err := wire.NextBatch(b)
		if err != nil || !ok {
			return texts, err
		}
		if err := batch.Each(func(r *wire.Record) bool {
			texts = append(texts, text(r))
			return true
		}); err != nil {
			return texts, err
		}
		b = rest
	}
}

func codecs() []compress.Compression {
	return []compress.Compression{compress.None, compress.Gzip, compress.Snappy, compress.Lz4, compress.Zstd}
}

func TestBatches(t *testing.T) {
	for _, codec := range codecs() {
		t.Run(codec.String(), func(t *testing.T) {
			answer := slices.Concat(
				batchAt(t, 10, codec, record(0, "k", "first", protocol.Header{Key: "a", Value: []byte("1")}, protocol.Header{Key: "b"}), record(1, "", "second")),
				batchAt(t, 12, codec, record(0, "k", strings.Repeat("long", 3))),
				batchAt(t, 13, codec, record(0, "k", "cut off"))[:70],
			)
			got, err := all(answer)
			if err != nil {
				t.Fatal(err)
			}
			at := moment.UnixMilli()
			want := []string{
				fmt.Sprintf(`10@%d "k"="first" a:1 b:`, at), fmt.Sprintf(`11@%d ""="second"`, at+1), fmt.Sprintf(`12@%d "k"="longlonglong"`, at),
			}
			if !slices.Equal(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
			batch, _, _, err := wire.NextBatch(answer)
			if err != nil || batch.Base != 10 || batch.Last != 11 || batch.Count != 2 || batch.Compressed() != (codec != compress.None) {
				t.Errorf("the first batch is %+v, %v", batch, err)
			}
		})
	}
}

// A null is not an empty value: a tombstone is told from an event of no bytes.
func TestNulls(t *testing.T) {
	for _, codec := range codecs() {
		b := packed(t, codec, kafka.Record{Time: moment}, kafka.Record{Offset: 1, Time: moment, Key: kafka.NewBytes([]byte{}), Value: kafka.NewBytes([]byte{})})
		batch, _, _, err := wire.NextBatch(b)
		if err != nil {
			t.Fatal(err)
		}
		var null []bool
		if err := batch.Each(func(r *wire.Record) bool {
			null = append(null, r.Key == nil, r.Value == nil)
			return true
		}); err != nil {
			t.Fatal(err)
		}
		if want := []bool{true, true, false, false}; !slices.Equal(null, want) {
			t.Errorf("%s: null are %v, want %v", codec, null, want)
		}
	}
}

// Where the topic has LogAppendTime the broker's time is each record's, whatever its producer wrote.
func TestLogAppendTime(t *testing.T) {
	b := packed(t, compress.None, record(0, "k", "a"), record(1, "k", "b"))
	binary.BigEndian.PutUint16(b[21:], 8)
	binary.BigEndian.PutUint64(b[35:], uint64(moment.Add(time.Hour).UnixMilli()))
	wire.Seal(b)
	batch, _, _, err := wire.NextBatch(b)
	if err != nil || !batch.LogAppendTime {
		t.Fatalf("%+v, %v", batch, err)
	}
	if err := batch.Each(func(r *wire.Record) bool {
		if !r.Time.Equal(moment.Add(time.Hour)) {
			t.Errorf("the record at %d is of %v", r.Offset, r.Time)
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
}

func TestEachStops(t *testing.T) {
	for _, codec := range codecs() {
		batch, _, _, err := wire.NextBatch(packed(t, codec, record(0, "k", "a"), record(1, "k", "b"), record(2, "k", "c")))
		if err != nil {
			t.Fatal(err)
		}
		seen := 0
		if err := batch.Each(func(*wire.Record) bool { seen++; return seen < 2 }); err != nil || seen != 2 {
			t.Errorf("%s: %d records after a stop at the second, %v", codec, seen, err)
		}
	}
}

// A record that unpacks to more than MaxRecord is cut there, and those behind it are whole.
func TestCutRecord(t *testing.T) {
	large := wire.MaxRecord + 1000
	b := packed(t, compress.Zstd, record(0, "k", "before"), record(1, "key", strings.Repeat("x", large), protocol.Header{Key: "h", Value: []byte("v")}), record(2, "k", "behind"))
	batch, _, _, err := wire.NextBatch(b)
	if err != nil {
		t.Fatal(err)
	}
	type seen struct {
		offset               int64
		key                  string
		kept, size, nHeaders int
	}
	var got []seen
	if err := batch.Each(func(r *wire.Record) bool {
		got = append(got, seen{r.Offset, string(r.Key), len(r.Value), r.Size, len(r.Headers)})
		return true
	}); err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || got[0].size != 7 || got[2] != (seen{2, "k", 6, 7, 0}) {
		t.Fatalf("got %+v", got)
	}
	if cut := got[1]; cut.key != "key" || cut.kept > wire.MaxRecord || cut.kept < wire.MaxRecord-100 || cut.size <= large || cut.nHeaders != 0 {
		t.Errorf("the large record is %+v", cut)
	}
}

func TestBadBatches(t *testing.T) {
	good := func() []byte { return packed(t, compress.None, record(0, "k", "value")) }
	for name, c := range map[string]struct {
		spoil func(b []byte) []byte
		want  string // part of the error; empty: no batch, and no error
	}{
		"nothing":            {func([]byte) []byte { return nil }, ""},
		"a part of the head": {func(b []byte) []byte { return b[:16] }, ""},
		"a part":             {func(b []byte) []byte { return b[:len(b)-1] }, ""},
		"a changed byte":     {func(b []byte) []byte { b[len(b)-1] ^= 1; return b }, "checksum"},
		"format 1":           {func(b []byte) []byte { b[16] = 1; return b }, "old message format"},
		"a negative length":  {func(b []byte) []byte { binary.BigEndian.PutUint32(b[8:], 0xffffffff); return b }, "cut short"},
		"a short length":     {func(b []byte) []byte { binary.BigEndian.PutUint32(b[8:], 10); return b }, "cut short"},
		"more records than there are": {func(b []byte) []byte {
			binary.BigEndian.PutUint32(b[57:], 1<<30)
			wire.Seal(b)
			return b
		}, "cut short"},
		"a codec that does not exist": {func(b []byte) []byte {
			b[22] = 7
			wire.Seal(b)
			return b
		}, "unknown codec"},
		"bytes that are not what the codec writes": {func(b []byte) []byte {
			b[22] = byte(compress.Gzip)
			wire.Seal(b)
			return b
		}, "gzip"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := all(c.spoil(good()))
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("the error is %v, want %q", err, c.want)
			}
		})
	}
	old := good()
	old[16] = 0
	if _, err := all(old); !errors.Is(err, wire.ErrFormat) {
		t.Errorf("format 0 is %v", err)
	}
}

// Whatever a log holds, reading it ends, and takes memory in proportion to what it holds.
func FuzzBatch(f *testing.F) {
	for _, codec := range codecs() {
		f.Add(packed(f, codec, record(0, "k", "value", protocol.Header{Key: "h", Value: []byte("v")}), record(1, "", "")))
	}
	f.Add(slices.Concat(packed(f, compress.None, record(0, "k", "a")), packed(f, compress.Gzip, record(0, "k", "b"))))
	f.Fuzz(func(t *testing.T, b []byte) {
		wire.Seal(b)
		for rest := b; ; {
			batch, next, ok, err := wire.NextBatch(rest)
			if err != nil || !ok {
				return
			}
			if len(next) >= len(rest) {
				t.Fatalf("a batch of %d bytes leaves %d", len(rest), len(next))
			}
			records := 0
			_ = batch.Each(func(r *wire.Record) bool {
				records++
				if r.Size < len(r.Key)+len(r.Value) || len(r.Value) > wire.MaxRecord {
					t.Fatalf("a record of size %d holds %d and %d bytes", r.Size, len(r.Key), len(r.Value))
				}
				return records < 10_000
			})
			if records > batch.Count {
				t.Fatalf("%d records of %d", records, batch.Count)
			}
			rest = next
		}
	})
}

// A record that is not wanted costs no memory, and neither does a batch, however small: whoever looks for one record among a million reads
// batches of a few records each.
func TestUnwantedRecordsCostNoMemory(t *testing.T) {
	const n = 100
	var batches []byte
	for i := range n {
		batches = append(batches, batchAt(t, int64(i), compress.Snappy, kafka.Record{
			Key: kafka.NewBytes([]byte("acme")), Value: kafka.NewBytes([]byte("event " + strconv.Itoa(i))), Headers: []kafka.Header{{Key: "a", Value: []byte("b")}},
		})...)
	}
	var found []string
	read := func() {
		found = found[:0]
		for rest := batches; ; {
			batch, next, ok, err := wire.NextBatch(rest)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			rest = next
			batch.Wanted = func(key, value []byte) bool { return string(key) == "acme" && bytes.HasSuffix(value, []byte("7")) }
			if err := batch.Each(func(r *wire.Record) bool {
				if r.Value != nil {
					found = append(found, string(r.Value)+" "+r.Headers[0].Key)
				} else if r.Headers != nil || r.Size != len("acme")+len("event 1") && r.Size != len("acme")+len("event 11") {
					t.Errorf("the record at %d has %d bytes, headers %v", r.Offset, r.Size, r.Headers)
				}
				return true
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	allocated := testing.AllocsPerRun(20, read)
	if len(found) != n/10 || found[1] != "event 17 a" {
		t.Errorf("found %q", found)
	}
	const perWanted, perBatch = 5, 5 // the codec's
	if most := float64(n/10*perWanted + n*perBatch); allocated > most {
		t.Errorf("%v allocations, want %v at most", allocated, most)
	}
}
