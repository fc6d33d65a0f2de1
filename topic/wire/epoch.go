package wire

import (
	"context"
	"fmt"

	"github.com/segmentio/kafka-go/protocol"
)

// offsetForLeaderEpoch is the key of OffsetForLeaderEpoch, of which kafka-go has no types.
const offsetForLeaderEpoch protocol.ApiKey = 23

type leaderEpochRequest struct {
	ReplicaID int32              `kafka:"min=v3,max=v3"`
	Topics    []leaderEpochTopic `kafka:"min=v3,max=v3"`
}

type leaderEpochTopic struct {
	Name       string                 `kafka:"min=v3,max=v3"`
	Partitions []leaderEpochPartition `kafka:"min=v3,max=v3"`
}

type leaderEpochPartition struct {
	Index   int32 `kafka:"min=v3,max=v3"`
	Current int32 `kafka:"min=v3,max=v3"`
	Epoch   int32 `kafka:"min=v3,max=v3"`
}

type leaderEpochResponse struct {
	ThrottleTimeMS int32                    `kafka:"min=v3,max=v3"`
	Topics         []leaderEpochTopicResult `kafka:"min=v3,max=v3"`
}

type leaderEpochTopicResult struct {
	Name       string                       `kafka:"min=v3,max=v3"`
	Partitions []leaderEpochPartitionResult `kafka:"min=v3,max=v3"`
}

type leaderEpochPartitionResult struct {
	ErrorCode int16 `kafka:"min=v3,max=v3"`
	Index     int32 `kafka:"min=v3,max=v3"`
	Epoch     int32 `kafka:"min=v3,max=v3"`
	EndOffset int64 `kafka:"min=v3,max=v3"`
}

// EpochEnd is where a leader's log ends for an epoch: its records of that epoch, and of those before, lie before Offset.
type EpochEnd struct {
	Epoch  int32 // the newest that the log has which is not newer than the one asked for; NoEpoch: it has none
	Offset int64 // -1: it has none
}

// EndOfEpoch asks the partition's leader where its log ends for an epoch (KIP-101, KIP-320). A reader that has read beyond that has read what the
// log does not hold any more. Brokers from 2.3 on answer.
func (l *Leaders) EndOfEpoch(ctx context.Context, p Partition, epoch int32) (EpochEnd, error) {
	broker, current, err := l.Leader(ctx, p)
	if err != nil {
		return EpochEnd{}, err
	}
	request := leaderEpochRequest{ReplicaID: -1, Topics: []leaderEpochTopic{{p.Topic, []leaderEpochPartition{{int32(p.ID), current, epoch}}}}}
	var answer leaderEpochResponse
	if _, err := l.client.call(ctx, message{offsetForLeaderEpoch, 3, toBroker(broker)}, request, &answer); err != nil {
		return EpochEnd{}, fmt.Errorf("end of epoch %d of %s: %w", epoch, p, err)
	}
	if len(answer.Topics) != 1 || len(answer.Topics[0].Partitions) != 1 {
		return EpochEnd{}, fmt.Errorf("end of epoch %d of %s: the broker did not answer that", epoch, p)
	}
	got := answer.Topics[0].Partitions[0]
	if err := failure(got.ErrorCode); err != nil {
		if WrongLeader(err) {
			l.Forget(p.Topic)
		}
		return EpochEnd{}, fmt.Errorf("end of epoch %d of %s: %w", epoch, p, err)
	}
	return EpochEnd{got.Epoch, got.EndOffset}, nil
}
