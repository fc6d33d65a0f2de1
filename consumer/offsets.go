package consumer

import (
	"context"
	"fmt"

	"github.com/segmentio/kafka-go"
)

// logRange asks for a partition's first offset and for the one after its last.
func (g *group) logRange(ctx context.Context, topic string, id int) (first, last int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	if first, err = offsetAt(ctx, g.client, topic, kafka.FirstOffsetOf(id)); err != nil {
		return 0, 0, err
	}
	last, err = offsetAt(ctx, g.client, topic, kafka.LastOffsetOf(id))
	return first, last, err
}

// committed asks for the group's offset of each partition, with its metadata; -1 where there is none. With an error it has
// those that were answered.
func (g *group) committed(ctx context.Context, topics map[string][]int) (map[string]kafka.OffsetFetchPartition, error) {
	out := make(map[string]kafka.OffsetFetchPartition)
	if len(topics) == 0 {
		return out, nil // or all would be asked for
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	res, err := g.client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: g.id, Topics: topics})
	if err == nil {
		err = res.Error
	}
	if err != nil {
		return nil, fmt.Errorf("offsets of group %s: %w", g.id, err)
	}
	for topic, list := range res.Topics {
		for _, at := range list {
			if at.Error == nil {
				out[partitionName(topic, at.Partition)] = at
			} else {
				err = fmt.Errorf("offset of %s/%d: %w", topic, at.Partition, needs("Describe", at.Error))
			}
		}
	}
	for topic, ids := range topics {
		for _, id := range ids {
			if _, ok := out[partitionName(topic, id)]; !ok && err == nil {
				err = fmt.Errorf("offset of %s/%d: no answer", topic, id)
			}
		}
	}
	return out, err
}

// offsetAt asks for one offset; -1 where there is none at or after the time.
func offsetAt(ctx context.Context, client *kafka.Client, topic string, req kafka.OffsetRequest) (int64, error) {
	out := make(map[string]int64, 1)
	if err := offsetsAt(ctx, client, map[string][]kafka.OffsetRequest{topic: {req}}, out); err != nil {
		return 0, err
	}
	offset, ok := out[partitionName(topic, req.Partition)]
	if !ok {
		return 0, fmt.Errorf("offsets of %s/%d: no answer", topic, req.Partition)
	}
	return offset, nil
}

// offsetsAt asks for one offset of each partition, all at once, and adds them to out; -1 where there is none at or after
// the time.
func offsetsAt(ctx context.Context, client *kafka.Client, req map[string][]kafka.OffsetRequest, out map[string]int64) error {
	res, err := client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Addr: client.Addr, Topics: req})
	if err != nil {
		return fmt.Errorf("list offsets: %w", err)
	}
	asked := make(map[string]int64)
	for topic, list := range req {
		for _, r := range list {
			asked[partitionName(topic, r.Partition)] = r.Timestamp
		}
	}
	for topic, list := range res.Topics {
		for _, p := range list {
			name := partitionName(topic, p.Partition)
			if p.Error != nil {
				return fmt.Errorf("offsets of %s: %w", name, needs("Describe", p.Error))
			}
			out[name] = -1
			switch asked[name] {
			case kafka.FirstOffset:
				out[name] = p.FirstOffset
			case kafka.LastOffset:
				out[name] = p.LastOffset
			default:
				for offset := range p.Offsets {
					out[name] = offset
				}
			}
		}
	}
	return nil
}
