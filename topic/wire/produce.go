package wire

import (
	"context"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/produce"
)

// ProduceRequest writes records to a partition, as one batch.
type ProduceRequest struct {
	Partition   Partition
	Records     []kafka.Record
	Compression kafka.Compression
}

// produceTimeout is how long a leader waits for the other in-sync replicas, in milliseconds. The caller's context ends before.
const produceTimeout = 30_000

// Produce returns when all in-sync replicas have the records, with the offset of the first. Its error is a kafka.Error where the
// broker gave one. After another error the records may have been written all the same.
func (l *Leaders) Produce(ctx context.Context, r *ProduceRequest) (int64, error) {
	return l.produce(ctx, r.Partition, &produce.Request{
		Acks: -1, Timeout: produceTimeout,
		Topics: []produce.RequestTopic{{Topic: r.Partition.Topic, Partitions: []produce.RequestPartition{{
			Partition: int32(r.Partition.ID),
			RecordSet: protocol.RecordSet{Attributes: protocol.Attributes(r.Compression), Records: kafka.NewRecordReader(r.Records...)},
		}}}},
	})
}
