package wire

import (
	"context"
	"errors"
	"fmt"

	"github.com/segmentio/kafka-go/protocol"
)

// Moments that offsets are asked for, besides times.
const (
	Latest   = -1 // the end of the log: its high watermark, whether or not a transaction is open
	Earliest = -2 // its first offset
)

// OffsetRequest asks for one offset of each partition.
type OffsetRequest struct {
	At map[Partition]int64 // Latest, Earliest, or a time in Unix ms: of the first record that is not older
}

type listOffsetsRequest struct {
	ReplicaID      int32              `kafka:"min=v1,max=v5"`
	IsolationLevel int8               `kafka:"min=v2,max=v5"`
	Topics         []listOffsetsTopic `kafka:"min=v1,max=v5"`
}

type listOffsetsTopic struct {
	Name       string                 `kafka:"min=v1,max=v5"`
	Partitions []listOffsetsPartition `kafka:"min=v1,max=v5"`
}

type listOffsetsPartition struct {
	Index       int32 `kafka:"min=v1,max=v5"`
	LeaderEpoch int32 `kafka:"min=v4,max=v5"`
	Timestamp   int64 `kafka:"min=v1,max=v5"`
}

type listOffsetsResponse struct {
	ThrottleTimeMS int32                    `kafka:"min=v2,max=v5"`
	Topics         []listOffsetsTopicResult `kafka:"min=v1,max=v5"`
}

type listOffsetsTopicResult struct {
	Name       string                       `kafka:"min=v1,max=v5"`
	Partitions []listOffsetsPartitionResult `kafka:"min=v1,max=v5"`
}

type listOffsetsPartitionResult struct {
	Index       int32 `kafka:"min=v1,max=v5"`
	ErrorCode   int16 `kafka:"min=v1,max=v5"`
	Timestamp   int64 `kafka:"min=v1,max=v5"`
	Offset      int64 `kafka:"min=v1,max=v5"`
	LeaderEpoch int32 `kafka:"min=v4,max=v5"`
}

// Offsets asks the partitions' leaders, each once. An offset is -1 where no record is as young as the time. Where a partition
// could not be asked, its error is part of the error, and the offsets of the others are returned all the same.
func (l *Leaders) Offsets(ctx context.Context, r *OffsetRequest) (map[Partition]int64, error) {
	found := make(map[Partition]int64, len(r.At))
	var failed []error
	for broker, partitions := range l.byLeader(ctx, r, &failed) {
		if err := l.offsetsFrom(ctx, broker, r, partitions, found); err != nil {
			failed = append(failed, err)
		}
	}
	return found, errors.Join(failed...)
}

func (l *Leaders) byLeader(ctx context.Context, r *OffsetRequest, failed *[]error) map[int32][]Partition {
	led := make(map[int32][]Partition)
	for p := range r.At {
		broker, _, err := l.Leader(ctx, p)
		if err != nil {
			*failed = append(*failed, fmt.Errorf("offsets of %s: %w", p, err))
			continue
		}
		led[broker] = append(led[broker], p)
	}
	return led
}

func (l *Leaders) offsetsFrom(ctx context.Context, broker int32, r *OffsetRequest, partitions []Partition, found map[Partition]int64) error {
	request := listOffsetsRequest{ReplicaID: -1}
	byTopic := make(map[string]int)
	for _, p := range partitions {
		at, ok := byTopic[p.Topic]
		if !ok {
			at = len(request.Topics)
			byTopic[p.Topic] = at
			request.Topics = append(request.Topics, listOffsetsTopic{Name: p.Topic})
		}
		request.Topics[at].Partitions = append(request.Topics[at].Partitions, listOffsetsPartition{int32(p.ID), NoEpoch, r.At[p]})
	}
	var answer listOffsetsResponse
	if _, err := l.client.call(ctx, message{protocol.ListOffsets, 5, toBroker(broker)}, request, &answer); err != nil {
		for topic := range byTopic {
			l.Forget(topic)
		}
		return fmt.Errorf("list offsets: %w", err)
	}
	var failed []error
	for _, t := range answer.Topics {
		for _, p := range t.Partitions {
			name := Partition{t.Name, int(p.Index)}
			if err := failure(p.ErrorCode); err != nil {
				if WrongLeader(err) {
					l.Forget(t.Name)
				}
				failed = append(failed, fmt.Errorf("offsets of %s: %w", name, err))
				continue
			}
			found[name] = p.Offset
		}
	}
	return errors.Join(failed...)
}
