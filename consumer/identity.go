package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
	"go.uber.org/zap"

	"fanout/topic"
	"fanout/topic/wire"
)

// topicIdentity answers, for all partitions of a group, whether what is read is still the log that was read. Another topic of the name is
// told by its id (KIP-516), or, of brokers without ids, by the group's offset: Kafka deletes it with the topic. A log that was cut, and perhaps
// written again, is told by the epochs of its leaders (KIP-320).
type topicIdentity struct {
	cluster *topic.Cluster
	group   committedOffsets
	metrics *metrics
	log     *zap.Logger
}

// committedOffsets answers what a group has committed: a *wire.Group.
type committedOffsets interface {
	Committed(ctx context.Context, partitions []topic.Partition) (map[topic.Partition]wire.Offset, map[topic.Partition]error, error)
}

// forgotten asks whether the group still has the partition's offset. An answer that does not come says nothing: the next commit asks.
func (i *topicIdentity) forgotten(ctx context.Context, p *partition) bool {
	deleted, err := i.deleted(ctx, []*partition{p})
	return err == nil && deleted[p]
}

// same says whether the topic is known, by its id, to be the one that was read. Its offset has expired then, or was deleted by a tool, and is
// committed again.
func (i *topicIdentity) same(ctx context.Context, p *partition) bool {
	_, id, err := i.cluster.LookAgain(ctx, p.Partition)
	return err == nil && p.knows(id)
}

// deleted asks which of the partitions the group has no offset of although one was committed, and tells them. Those that could not be
// asked about are left out of the answer, with an error.
func (i *topicIdentity) deleted(ctx context.Context, partitions []*partition) (map[*partition]bool, error) {
	answers := make(map[*partition]bool, len(partitions))
	var asked []topic.Partition
	for _, p := range partitions {
		if p.everCommitted() {
			asked = append(asked, p.Partition)
		} else {
			answers[p] = false
		}
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	offsets, refused, err := i.group.Committed(ctx, asked)
	for _, p := range partitions {
		at, ok := offsets[p.Partition]
		if !ok {
			continue
		}
		if answers[p] = at.At < 0 && !i.same(ctx, p); answers[p] {
			p.on(offsetForgotten)
		}
	}
	for name, e := range refused {
		err = fmt.Errorf("offset of %s: %w", name, topic.Needs("Describe", e))
	}
	if err == nil && len(answers) < len(partitions) {
		err = errors.New("the group's offsets were not all answered")
	}
	return answers, err
}

// verify looks, before a fetch, whether the topic is the one that was read and its leader's log holds what was read. It asks nobody while neither
// topic nor leader has changed.
func (i *topicIdentity) verify(ctx context.Context, p *partition) error {
	leader, id, err := i.cluster.Look(ctx, p.Partition)
	if err != nil {
		return err
	}
	if p.replacedBy(id) {
		p.on(offsetForgotten)
		return nil
	}
	next, last, ask := p.unverified(leader.Epoch)
	if !ask || leader.Epoch == wire.NoEpoch {
		return nil
	}
	if last != wire.NoEpoch {
		if err := i.checkCut(ctx, p, next, last); err != nil {
			return err
		}
	}
	p.verifiedBy(leader.Epoch)
	return nil
}

// checkCut asks where the leader's log ends for the epoch of the last record that was read. Where that is before what was read, the log was cut
// there, and reading goes on there.
func (i *topicIdentity) checkCut(ctx context.Context, p *partition, next int64, last int32) error {
	asking, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	end, err := i.cluster.EndOfEpoch(asking, p.Partition, last)
	switch {
	case errors.Is(err, kafka.UnsupportedVersion), errors.Is(err, kafka.TopicAuthorizationFailed), errors.Is(err, kafka.ClusterAuthorizationFailed):
		return nil // an offset out of range still tells
	case err != nil:
		return err
	case end.Offset < 0, end.Offset >= next && end.Epoch == last:
		return nil
	}
	at := min(end.Offset, next)
	log, err := i.logRange(ctx, p)
	if err != nil {
		return err
	}
	if p.open() > 0 {
		return fmt.Errorf("the log of %s was cut at %d, and was read up to %d; reading goes on when the records that were read are settled", p, at, next)
	}
	i.gap(p, max(1, next-at), next, log, fmt.Sprintf("the log was cut at %d by a change of its leader: records that were acknowledged are lost; reading goes on there", at))
	p.restart(at, end.Epoch)
	return nil
}

// checkRecreated finds out what became of a topic that seems to be another one. It may have more records by now than were read of the old one,
// so the offset alone does not tell. A new one is read from its start.
func (i *topicIdentity) checkRecreated(ctx context.Context, p *partition) error {
	log, err := i.logRange(ctx, p)
	if err != nil {
		return err
	}
	_, id, err := i.cluster.LookAgain(ctx, p.Partition)
	if err != nil {
		return err
	}
	if !p.replacedBy(id) {
		same := p.knows(id)
		if !same {
			if same, err = i.hasOffset(ctx, p); err != nil {
				return err
			}
		}
		if same {
			p.on(topicSettled)
			return nil
		}
	}
	if p.open() > 0 {
		return fmt.Errorf("%s was created again; reading goes on when the records that were read are settled", p)
	}
	next, _, _ := p.position(time.Now())
	// At least one: that the topic was replaced is to be seen, even if all of the old one is known to have been read.
	i.gap(p, max(1, p.knownEnd()-next), next, log, "the topic was created again; it is read from its start")
	p.replace(id, log.From, time.Now())
	return nil
}

// hasOffset says whether the group has an offset of the partition.
func (i *topicIdentity) hasOffset(ctx context.Context, p *partition) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	offsets, _, err := i.group.Committed(ctx, []topic.Partition{p.Partition})
	at, ok := offsets[p.Partition]
	return ok && at.At >= 0, err
}

// outOfRange finds where to read on when the offset lies outside of the log. Missing records are counted and logged.
func (i *topicIdentity) outOfRange(ctx context.Context, p *partition, next int64) error {
	log, err := i.logRange(ctx, p)
	if err != nil {
		return err
	}
	if next >= log.From && next <= log.To { // a moment's state, of a leader that has just changed
		return fmt.Errorf("%s@%d lies outside of the log, says its leader, and yet the log has %d to %d", p, next, log.From, log.To)
	}
	if p.open() > 0 {
		return fmt.Errorf("%s@%d lies outside of the log (%d to %d); reading goes on when the records that were read are settled", p, next, log.From, log.To)
	}
	if next < log.From {
		i.gap(p, log.From-next, next, log, "records were deleted before they were read: retention is shorter than the lag, or the topic was emptied")
		p.restart(log.From, wire.NoEpoch)
		return nil
	}
	if _, id, err := i.cluster.LookAgain(ctx, p.Partition); err != nil || p.replacedBy(id) || !p.knows(id) && i.forgotten(ctx, p) {
		p.on(offsetForgotten)
		return err
	}
	i.gap(p, next-log.To, next, log, "the log ends before what was read: records that were acknowledged are lost; reading goes on at its end")
	p.restart(log.To, wire.NoEpoch)
	return nil
}

func (i *topicIdentity) gap(p *partition, lost, next int64, log topic.Range, why string) {
	i.metrics.gap(p.Topic, lost)
	i.log.Error("gap: offsets that should be there are not", zap.String("topic", p.Topic), zap.Int("partition", p.ID),
		zap.Int64("offset", next), zap.Int64("log_start", log.From), zap.Int64("log_end", log.To), zap.Int64("offsets", lost), zap.String("why", why))
}

func (i *topicIdentity) logRange(ctx context.Context, p *partition) (topic.Range, error) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	return i.cluster.LogRange(ctx, p.Partition)
}

// look asks where the log ends, so that the lag is true while nothing is read.
func (i *topicIdentity) look(ctx context.Context, p *partition) {
	if log, err := i.logRange(ctx, p); err == nil {
		p.sawEnd(log.To, log.To, time.Now())
	}
}
