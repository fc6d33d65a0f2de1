package topic_test

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"fanout/topic"
)

// Attributes of a batch.
const (
	transactional = 1 << 4
	control       = 1 << 5
)

// batch is a batch as it lies in a log, with a record at each of the offsets.
func batch(producer int64, attributes int16, offsets ...int64) []byte {
	var records []byte
	for _, o := range offsets {
		r := kmsg.Record{OffsetDelta: int32(o - offsets[0]), Value: []byte("x")}
		b := r.AppendTo(nil)[1:] // the length is filled in below
		r.Length = int32(len(b))
		records = append(records, r.AppendTo(nil)...)
	}
	return pack(kmsg.RecordBatch{
		FirstOffset: offsets[0], LastOffsetDelta: int32(offsets[len(offsets)-1] - offsets[0]), Attributes: attributes, ProducerID: producer,
		NumRecords: int32(len(offsets)), Records: records,
	})
}

func marker(producer, offset int64) []byte { return batch(producer, transactional|control, offset) }

// emptied is a batch whose records are gone by compaction.
func emptied(first, last int64) []byte {
	return pack(kmsg.RecordBatch{FirstOffset: first, LastOffsetDelta: int32(last - first), ProducerID: -1})
}

// upTo is the batch with another last offset: that of a record which is gone by compaction.
func upTo(last int64, b []byte) []byte {
	b = slices.Clone(b)
	binary.BigEndian.PutUint32(b[23:], uint32(last-int64(binary.BigEndian.Uint64(b))))
	return sum(b)
}

func pack(b kmsg.RecordBatch) []byte {
	b.Magic = 2
	bytes := b.AppendTo(nil)
	binary.BigEndian.PutUint32(bytes[8:], uint32(len(bytes)-12))
	return sum(bytes)
}

func sum(b []byte) []byte {
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

func TestPage(t *testing.T) {
	for name, c := range map[string]struct {
		from    int64
		aborted map[int64][]int64
		batches [][]byte
		want    []int64
		next    int64
	}{
		"a committed transaction": {
			from: 5, batches: [][]byte{batch(1, transactional, 5, 6), marker(1, 7)}, want: []int64{5, 6}, next: 8,
		},
		"an aborted one": {
			from: 5, aborted: map[int64][]int64{1: {5}}, batches: [][]byte{batch(1, transactional, 5, 6), marker(1, 7)}, next: 8,
		},
		"one aborted, one committed, of two producers at the same time": {
			from: 0, aborted: map[int64][]int64{1: {0}},
			batches: [][]byte{batch(1, transactional, 0), batch(2, transactional, 1), batch(1, transactional, 2), marker(2, 3), marker(1, 4)},
			want:    []int64{1}, next: 5,
		},
		// The last record of the aborted transaction was read before; the broker lists it since its marker was not.
		"a marker first, then a committed transaction of its producer": {
			from: 7, aborted: map[int64][]int64{1: {5}},
			batches: [][]byte{marker(1, 7), batch(1, transactional, 8, 9), marker(1, 10)}, want: []int64{8, 9}, next: 11,
		},
		"aborted, committed, aborted": {
			from: 0, aborted: map[int64][]int64{1: {0, 4}},
			batches: [][]byte{batch(1, transactional, 0), marker(1, 1), batch(1, transactional, 2), marker(1, 3), batch(1, transactional, 4), marker(1, 5)},
			want:    []int64{2}, next: 6,
		},
		"records outside of a transaction, of a producer with an aborted one": {
			from: 0, aborted: map[int64][]int64{1: {0}}, batches: [][]byte{batch(1, 0, 0), marker(1, 1)}, want: []int64{0}, next: 2,
		},
		"a batch that begins before the offset": {
			from: 6, batches: [][]byte{batch(-1, 0, 4, 5, 6, 7)}, want: []int64{6, 7}, next: 8,
		},
		"gaps that compaction has left": {
			from: 0, batches: [][]byte{batch(-1, 0, 3, 9), batch(-1, 0, 40)}, want: []int64{3, 9, 40}, next: 41,
		},
		"a batch that has lost its last records to compaction": {
			from: 7, batches: [][]byte{upTo(9, batch(-1, 0, 4, 5, 6))}, next: 10,
		},
		"a batch that has lost all": {
			from: 7, batches: [][]byte{emptied(4, 7)}, next: 8,
		},
		"nothing": {from: 7, next: 7},
	} {
		got, next, err := topic.ReadPage(t.Context(), c.from, c.aborted, slices.Concat(c.batches...))
		if err != nil || !slices.Equal(got, c.want) || next != c.next {
			t.Errorf("%s: %v, next %d, %v; want %v, next %d", name, got, next, err, c.want, c.next)
		}
	}
}
