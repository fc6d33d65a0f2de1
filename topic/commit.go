package topic

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"fanout/topic/wire"
)

// Range is a run of offsets, from inclusive to exclusive.
type Range struct{ From, To int64 }

// Total is how many offsets the ranges span.
func Total(ranges map[int]Range) (n int64) {
	for _, r := range ranges {
		n += max(0, r.To-r.From)
	}
	return n
}

// Metadata is what the text that goes with a committed offset says (docs/contract.md#commit-metadata). Brokers keep it with the offset, and
// no tool of theirs reads it.
type Metadata struct {
	Epoch   int32        // of the leader that wrote the record before the offset (KIP-320); wire.NoEpoch: not known
	Topic   wire.TopicID // of the topic that was read; zero: not known
	Stopped time.Time    // when whoever had the partition stopped reading it, to give it up; zero: it did not
	Above   []Range      // the offsets above the committed one that are settled, in order
}

// The metadata says which offsets above the committed one are settled, so that one delivery that hangs does not make a crash repeat all that
// came after it. Its form is `2:` and, in base64, uvarints: the committed offset; the epoch and one, or 0; the bytes of the topic's id, after
// their number; the time of the stop, in Unix milliseconds, or 0; and then how many offsets are unsettled, how many are settled, how many
// are unsettled, and so on, from the committed one. What does not fit counts as unsettled. The offset is in it since a tool that moves
// offsets may keep the metadata, which would then claim records that nobody has seen. The form `1:`, of versions before, has the offset and
// the runs only.
const (
	metadataPrefix = "2:"
	metadataBefore = "1:"
)

// MaxMetadata is how many bytes of metadata brokers take with an offset (offset.metadata.max.bytes).
const MaxMetadata = 4096

const (
	metadataBytes = (MaxMetadata - len(metadataPrefix)) / 4 * 3 // before base64
	runBytes      = binary.MaxVarintLen64 * 2                   // an unsettled run and the settled one behind it, at most
)

// RoomForMarks is how many bytes are left for further runs in metadata whose text has so many bytes.
func RoomForMarks(text int) int {
	return max(0, metadataBytes-runBytes-max(0, text-len(metadataPrefix))/4*3)
}

// MetadataWriter writes a commit's metadata. Offsets without a record belong to the run before them.
type MetadataWriter struct {
	b       []byte
	at      int64 // where the run that is being measured begins
	settled bool
	full    bool
}

// NewMetadata begins the metadata of a commit at the offset. What is settled above it is added; about.Above is not.
func NewMetadata(committed int64, about *Metadata) *MetadataWriter {
	w := &MetadataWriter{b: make([]byte, 0, 64), at: committed}
	w.b = binary.AppendUvarint(w.b, uint64(committed))
	w.b = binary.AppendUvarint(w.b, uint64(max(about.Epoch, wire.NoEpoch)+1))
	if about.Topic == (wire.TopicID{}) {
		w.b = append(w.b, 0)
	} else {
		w.b = append(w.b, byte(len(about.Topic)))
		w.b = append(w.b, about.Topic[:]...)
	}
	stopped := int64(0)
	if !about.Stopped.IsZero() {
		stopped = max(0, about.Stopped.UnixMilli())
	}
	w.b = binary.AppendUvarint(w.b, uint64(stopped))
	return w
}

// Add says that offsets from this one on are settled or not. Offsets must rise.
func (w *MetadataWriter) Add(offset int64, settled bool) {
	if w.settled == settled || w.full {
		return
	}
	if w.full = settled && len(w.b)+runBytes > metadataBytes; w.full { // an unsettled run comes with the settled one behind it
		return
	}
	w.b = binary.AppendUvarint(w.b, uint64(offset-w.at))
	w.at, w.settled = offset, settled
}

// Full says that no further run fits: what is added counts as unsettled.
func (w *MetadataWriter) Full() bool { return w.full }

// String is the metadata.
func (w *MetadataWriter) String() string {
	return metadataPrefix + base64.StdEncoding.EncodeToString(w.b)
}

// ReadMetadata reads the text that was committed with the offset. Text that fanout has not written, or that belongs to another offset, says
// nothing: that costs repeats rather than losses.
func ReadMetadata(committed int64, text string) Metadata {
	unknown := Metadata{Epoch: wire.NoEpoch}
	if committed < 0 || len(text) > MaxMetadata || len(text) < len(metadataPrefix) {
		return unknown
	}
	form := text[:len(metadataPrefix)]
	if form != metadataPrefix && form != metadataBefore {
		return unknown
	}
	b, err := base64.StdEncoding.DecodeString(text[len(metadataPrefix):])
	if err != nil {
		return unknown
	}
	r := metadataReader{b: b}
	m := unknown
	if base := r.uvarint(); base != uint64(committed) {
		return unknown
	}
	if form == metadataPrefix {
		m.Epoch = int32(min(r.uvarint(), math.MaxInt32)) - 1
		copy(m.Topic[:], r.take(r.uvarint()))
		if ms := r.uvarint(); ms > 0 && ms < 1<<48 {
			m.Stopped = time.UnixMilli(int64(ms))
		}
	}
	m.Above = r.runs(committed)
	if r.bad {
		return unknown
	}
	return m
}

// metadataReader takes metadata apart. Once bad it stays so.
type metadataReader struct {
	b   []byte
	bad bool
}

func (r *metadataReader) uvarint() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *metadataReader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	taken := r.b[:n]
	r.b = r.b[n:]
	return taken
}

func (r *metadataReader) runs(committed int64) (runs []Range) {
	at, settled := committed, false
	for len(r.b) > 0 {
		n := r.uvarint()
		if n > 1<<40 || at > math.MaxInt64-int64(n) {
			r.bad = true
			return nil
		}
		end := at + int64(n)
		if settled && end > at {
			runs = append(runs, Range{at, end})
		}
		at, settled = end, !settled
	}
	return runs
}

// Progress is what a group has committed of a partition.
type Progress struct {
	Offset int64 // everything before is settled
	above  []Range
}

// Settled says whether the record at the offset is settled.
func (p *Progress) Settled(offset int64) bool {
	if offset < p.Offset {
		return true
	}
	for _, r := range p.above {
		if offset >= r.From && offset < r.To {
			return true
		}
	}
	return false
}

// Progress is how far a group has come in a topic, by partition; a partition without a commit is left out.
func (c *Cluster) Progress(ctx context.Context, group, name string, partitions []int) (map[int]Progress, error) {
	asked := make([]Partition, len(partitions))
	for i, id := range partitions {
		asked[i] = Partition{Topic: name, ID: id}
	}
	offsets, refused, err := c.wire.Group(group).Committed(ctx, asked)
	if err != nil {
		return nil, Needs("Describe on groups with the prefix of kafka.group", err)
	}
	for p, err := range refused {
		return nil, fmt.Errorf("offsets of group %s: %s: %w", group, p, Needs("Describe on the topic", err))
	}
	out := make(map[int]Progress)
	for p, o := range offsets {
		if o.At >= 0 {
			out[p.ID] = Progress{o.At, ReadMetadata(o.At, o.Metadata).Above}
		}
	}
	return out, nil
}
