package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"

	"github.com/segmentio/kafka-go/compress"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/produce"
	"github.com/segmentio/kafka-go/protocol/rawproduce"
)

// Packer packs records into a batch of message format 2, at once and without an allocation a record. Its zero value is empty.
type Packer struct {
	records     []byte
	count       int
	first, last int64 // Unix ms
}

// Bytes is how long they are before they are compressed.
func (p *Packer) Bytes() int { return len(p.records) }

// Add appends a record of that time, in Unix ms. An empty key is null; a header is its key and its text.
func (p *Packer) Add(at int64, key string, value []byte, headers ...[2]string) {
	if p.count == 0 {
		p.first, p.last = at, at
	}
	p.last = max(p.last, at)
	size := 1 + sizeOfVarint(at-p.first) + sizeOfVarint(int64(p.count)) + sizeOfVarint(int64(len(value))) + len(value) + sizeOfVarint(int64(len(headers)))
	keySize := int64(len(key))
	if key == "" {
		keySize = -1
	}
	size += sizeOfVarint(keySize) + len(key)
	for i := range headers {
		for _, text := range headers[i] {
			size += sizeOfVarint(int64(len(text))) + len(text)
		}
	}
	b := binary.AppendVarint(p.records, int64(size))
	b = append(b, 0) // attributes, of which there are none
	b = binary.AppendVarint(b, at-p.first)
	b = binary.AppendVarint(b, int64(p.count))
	b = append(binary.AppendVarint(b, keySize), key...)
	b = append(binary.AppendVarint(b, int64(len(value))), value...)
	b = binary.AppendVarint(b, int64(len(headers)))
	for i := range headers {
		for _, text := range headers[i] {
			b = append(binary.AppendVarint(b, int64(len(text))), text...)
		}
	}
	p.records = b
	p.count++
}

func sizeOfVarint(n int64) int {
	return max(1, (bits.Len64(uint64(n<<1)^uint64(n>>63))+6)/7)
}

// Reset makes it empty, and keeps its memory.
func (p *Packer) Reset() { *p = Packer{records: p.records[:0]} }

// Batch is the batch as it is sent, its records compressed by the codec, or as they are where that is nil. It is written over memory,
// where that is large enough.
func (p *Packer) Batch(memory []byte, codec compress.Codec) ([]byte, error) {
	var compression compress.Compression
	b := bytes.NewBuffer(memory[:0])
	b.Grow(batchRecords + len(p.records)/2)
	var head [batchRecords]byte
	b.Write(head[:])
	if codec == nil {
		b.Write(p.records)
	} else {
		compression = compress.Compression(codec.Code())
		w := codec.NewWriter(b)
		_, err := w.Write(p.records)
		if closed := w.Close(); err == nil {
			err = closed
		}
		if err != nil {
			return nil, fmt.Errorf("compress a batch: %w", err)
		}
	}
	batch := b.Bytes()
	binary.BigEndian.PutUint32(batch[batchLength:], uint32(len(batch)-batchEpoch))
	binary.BigEndian.PutUint32(batch[batchEpoch:], uint32(0xffff_ffff)) // none: the leader writes its own
	batch[batchMagic] = 2
	binary.BigEndian.PutUint16(batch[batchAttribute:], uint16(compression))
	binary.BigEndian.PutUint32(batch[batchLastDelta:], uint32(p.count-1))
	binary.BigEndian.PutUint64(batch[batchFirstTime:], uint64(p.first))
	binary.BigEndian.PutUint64(batch[batchMaxTime:], uint64(p.last))
	for i := batchProducer; i < batchCount; i++ {
		batch[i] = 0xff // no producer's id, epoch and sequence
	}
	binary.BigEndian.PutUint32(batch[batchCount:], uint32(p.count))
	binary.BigEndian.PutUint32(batch[batchChecksum:], crc32.Checksum(batch[batchChecked:], castagnoli))
	return batch, nil
}

// ProduceBatch writes a batch that a Packer has made. See Produce.
func (l *Leaders) ProduceBatch(ctx context.Context, p Partition, batch []byte) (int64, error) {
	size := binary.BigEndian.AppendUint32(nil, uint32(len(batch))) // kafka-go takes it for a part of the records
	return l.produce(ctx, p, &rawproduce.Request{
		Acks: -1, Timeout: produceTimeout,
		Topics: []rawproduce.RequestTopic{{Topic: p.Topic, Partitions: []rawproduce.RequestPartition{{
			Partition: int32(p.ID), RecordSet: protocol.RawRecordSet{Reader: io.MultiReader(bytes.NewReader(size), bytes.NewReader(batch))},
		}}}},
	})
}

// produce sends a request to the partition's leader.
func (l *Leaders) produce(ctx context.Context, p Partition, request protocol.Message) (int64, error) {
	broker, _, err := l.Leader(ctx, p)
	if err != nil {
		return 0, err
	}
	answer, err := l.client.Ask(ctx, broker, request)
	if err != nil {
		l.Forget(p.Topic)
		return 0, err
	}
	response, ok := answer.(*produce.Response)
	if !ok || len(response.Topics) != 1 || len(response.Topics[0].Partitions) != 1 {
		return 0, fmt.Errorf("produce to %s: the broker answered something else", p)
	}
	answered := &response.Topics[0].Partitions[0]
	if err := failure(answered.ErrorCode); err != nil {
		if WrongLeader(err) {
			l.Forget(p.Topic)
		}
		return 0, err
	}
	return answered.BaseOffset, nil
}
