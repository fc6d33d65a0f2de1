package wire

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

// Partition names a partition of a topic.
type Partition struct {
	Topic string
	ID    int
}

// Compare orders partitions by topic and number.
func (p Partition) Compare(other Partition) int {
	return cmp.Or(strings.Compare(p.Topic, other.Topic), cmp.Compare(p.ID, other.ID))
}

// String is topic/partition.
func (p Partition) String() string { return p.Topic + "/" + strconv.Itoa(p.ID) }

// NoEpoch is the leader epoch where none is known.
const NoEpoch = -1

// Offset is what a group commits of a partition.
type Offset struct {
	At       int64  // the next record to read; -1: nothing has been committed
	Epoch    int32  // of the record before At (KIP-320); NoEpoch: not known
	Metadata string // brokers take 4 096 bytes by default (offset.metadata.max.bytes)
}

// CommitRequest commits offsets in the name of a member. A Generation of -1 with no member commits for a group without any.
type CommitRequest struct {
	MemberID, InstanceID string
	Generation           int32
	Offsets              map[Partition]Offset
}

type offsetCommitRequest struct {
	GroupID         string              `kafka:"min=v2,max=v7"`
	GenerationID    int32               `kafka:"min=v2,max=v7"`
	MemberID        string              `kafka:"min=v2,max=v7"`
	RetentionTimeMS int64               `kafka:"min=v2,max=v4"`
	GroupInstanceID string              `kafka:"min=v7,max=v7,nullable"`
	Topics          []offsetCommitTopic `kafka:"min=v2,max=v7"`
}

type offsetCommitTopic struct {
	Name       string                  `kafka:"min=v2,max=v7"`
	Partitions []offsetCommitPartition `kafka:"min=v2,max=v7"`
}

type offsetCommitPartition struct {
	Index       int32  `kafka:"min=v2,max=v7"`
	Offset      int64  `kafka:"min=v2,max=v7"`
	LeaderEpoch int32  `kafka:"min=v6,max=v7"`
	Metadata    string `kafka:"min=v2,max=v7,nullable"`
}

type offsetCommitResponse struct {
	ThrottleTimeMS int32                     `kafka:"min=v3,max=v7"`
	Topics         []offsetCommitTopicResult `kafka:"min=v2,max=v7"`
}

type offsetCommitTopicResult struct {
	Name       string                        `kafka:"min=v2,max=v7"`
	Partitions []offsetCommitPartitionResult `kafka:"min=v2,max=v7"`
}

type offsetCommitPartitionResult struct {
	Index     int32 `kafka:"min=v2,max=v7"`
	ErrorCode int16 `kafka:"min=v2,max=v7"`
}

// code is the first error that concerns the coordinator rather than a partition.
func (r *offsetCommitResponse) code() int16 {
	for _, t := range r.Topics {
		for _, p := range t.Partitions {
			if Moved(kafka.Error(p.ErrorCode)) {
				return p.ErrorCode
			}
		}
	}
	return 0
}

// Commit commits offsets. It returns the error of each partition that was refused; the error is of the whole request.
// RebalanceInProgress means later, not never: the commit may be made again once the member has its assignment.
func (g *Group) Commit(ctx context.Context, r *CommitRequest) (map[Partition]error, error) {
	request := offsetCommitRequest{
		GroupID: g.id, GenerationID: r.Generation, MemberID: r.MemberID, GroupInstanceID: r.InstanceID, RetentionTimeMS: -1,
	}
	byTopic := make(map[string]int, 8)
	for p, o := range r.Offsets {
		at, ok := byTopic[p.Topic]
		if !ok {
			at = len(request.Topics)
			byTopic[p.Topic] = at
			request.Topics = append(request.Topics, offsetCommitTopic{Name: p.Topic})
		}
		request.Topics[at].Partitions = append(request.Topics[at].Partitions, offsetCommitPartition{int32(p.ID), o.At, o.Epoch, o.Metadata})
	}
	var answer offsetCommitResponse
	if _, err := g.call(ctx, protocol.OffsetCommit, 7, request, &answer, answer.code); err != nil {
		return nil, fmt.Errorf("commit of group %s: %w", g.id, err)
	}
	refused := make(map[Partition]error)
	answered := 0
	for _, t := range answer.Topics {
		for _, p := range t.Partitions {
			answered++
			if err := failure(p.ErrorCode); err != nil {
				refused[Partition{t.Name, int(p.Index)}] = err
			}
		}
	}
	if answered < len(r.Offsets) {
		return refused, fmt.Errorf("commit of group %s: %d of %d partitions were not answered", g.id, len(r.Offsets)-answered, len(r.Offsets))
	}
	return refused, nil
}

type offsetFetchRequest struct {
	GroupID string             `kafka:"min=v1,max=v5"`
	Topics  []offsetFetchTopic `kafka:"min=v1,max=v5,nullable"`
}

type offsetFetchTopic struct {
	Name       string  `kafka:"min=v1,max=v5"`
	Partitions []int32 `kafka:"min=v1,max=v5"`
}

type offsetFetchResponse struct {
	ThrottleTimeMS int32                    `kafka:"min=v3,max=v5"`
	Topics         []offsetFetchTopicResult `kafka:"min=v1,max=v5"`
	ErrorCode      int16                    `kafka:"min=v2,max=v5"`
}

type offsetFetchTopicResult struct {
	Name       string                       `kafka:"min=v1,max=v5"`
	Partitions []offsetFetchPartitionResult `kafka:"min=v1,max=v5"`
}

type offsetFetchPartitionResult struct {
	Index       int32  `kafka:"min=v1,max=v5"`
	Offset      int64  `kafka:"min=v1,max=v5"`
	LeaderEpoch int32  `kafka:"min=v5,max=v5"`
	Metadata    string `kafka:"min=v1,max=v5,nullable"`
	ErrorCode   int16  `kafka:"min=v1,max=v5"`
}

// Committed is what the group has committed of each partition asked for, -1 where that is nothing. Errors of single
// partitions are in the second map; a partition that was not answered is in neither. A group that does not exist has
// committed nothing.
func (g *Group) Committed(ctx context.Context, partitions []Partition) (map[Partition]Offset, map[Partition]error, error) {
	offsets := make(map[Partition]Offset, len(partitions))
	if len(partitions) == 0 {
		return offsets, nil, nil // or all would be asked for
	}
	request := offsetFetchRequest{GroupID: g.id}
	byTopic := make(map[string]int, 8)
	for _, p := range partitions {
		at, ok := byTopic[p.Topic]
		if !ok {
			at = len(request.Topics)
			byTopic[p.Topic] = at
			request.Topics = append(request.Topics, offsetFetchTopic{Name: p.Topic})
		}
		request.Topics[at].Partitions = append(request.Topics[at].Partitions, int32(p.ID))
	}
	var answer offsetFetchResponse
	version, err := g.call(ctx, protocol.OffsetFetch, 5, request, &answer, func() int16 { return answer.ErrorCode })
	if errors.Is(err, kafka.GroupIdNotFound) {
		for _, p := range partitions {
			offsets[p] = Offset{At: -1, Epoch: NoEpoch}
		}
		return offsets, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("offsets of group %s: %w", g.id, err)
	}
	refused := make(map[Partition]error)
	for _, t := range answer.Topics {
		for _, p := range t.Partitions {
			name := Partition{t.Name, int(p.Index)}
			if err := failure(p.ErrorCode); err != nil {
				refused[name] = err
				continue
			}
			if version < 5 {
				p.LeaderEpoch = NoEpoch
			}
			offsets[name] = Offset{At: p.Offset, Epoch: p.LeaderEpoch, Metadata: p.Metadata}
		}
	}
	return offsets, refused, nil
}
