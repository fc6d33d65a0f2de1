package topic

import (
	"slices"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"

	"fanout/dispatcher"
	"fanout/topic/wire"
)

// Partition names a partition of a topic.
type Partition = wire.Partition

// Header is a record's header.
type Header = kafka.Header

// Record is a record as it lies in a partition.
type Record struct {
	Partition

	Offset     int64
	Epoch      int32     // of the leader that wrote it (KIP-320); -1: not known
	Time       time.Time // when it was appended, as far as the topic tells: to the millisecond
	Key, Value []byte    // nil is null, which is not the same as empty
	Headers    []Header
	Size       int // of key and value, in bytes, where the value had to be cut; else 0
}

// Origin is the record's place.
func (r *Record) Origin() dispatcher.Origin {
	return dispatcher.Origin{Topic: r.Topic, Partition: r.ID, Offset: r.Offset}
}

// Position is partition/offset.
func (r *Record) Position() string { return position(r.ID, r.Offset) }

func position(partition int, offset int64) string {
	return strconv.Itoa(partition) + "/" + strconv.FormatInt(offset, 10)
}

// Header is the text of a header; of one that is given twice the last one counts (docs/contract.md#repeated-headers).
func (r *Record) Header(key string) string {
	for _, h := range slices.Backward(r.Headers) {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// Clone is the record in memory of its own.
func (r *Record) Clone() Record {
	own := *r
	own.Key, own.Value = slices.Clone(r.Key), slices.Clone(r.Value)
	own.Headers = slices.Clone(r.Headers)
	for i := range own.Headers {
		own.Headers[i].Value = slices.Clone(own.Headers[i].Value)
	}
	return own
}
