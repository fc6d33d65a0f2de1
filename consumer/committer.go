package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
	"go.uber.org/zap"

	"fanout/topic"
	"fanout/topic/wire"
)

// Times of commits.
const (
	commitInterval = 500 * time.Millisecond
	commitTimeout  = 5 * time.Second
	commitPause    = 100 * time.Millisecond // between tries of a last commit
)

// errFenced says that a commit was refused since the group has gone on without this member: another may have its partitions.
var errFenced = errors.New("the group has gone on without this member")

// errLater says that a commit was refused while the group is rebalancing: it may be made again.
var errLater = errors.New("the group is rebalancing")

// committer commits what is settled of a group's partitions, in the name of the membership. One commit is under way at a time: two on
// different connections could arrive in the other order, and the offset would move back.
type committer struct {
	group    commits
	identity deletions
	who      func() memberID
	refused  func(memberID) // the identity is fenced
	log      *zap.Logger

	turn chan struct{} // of one slot, held while a commit is under way
	bare atomic.Bool   // the brokers take no metadata as long as ours: offsets matter more
}

// commits takes commits: a *wire.Group.
type commits interface {
	Commit(ctx context.Context, r *wire.CommitRequest) (map[topic.Partition]error, error)
}

// deletions says which topics were deleted: a *topicIdentity.
type deletions interface {
	// deleted says of each partition that could be asked about whether it was deleted with its topic; of others it has no answer.
	deleted(ctx context.Context, partitions []*partition) (map[*partition]bool, error)
}

// commit commits once what is settled of the partitions, in one request. It is nil where there was nothing to commit, errLater, or errFenced.
func (c *committer) commit(ctx context.Context, partitions []*partition) error {
	return c.request(ctx, partitions, false)
}

// confirm commits even what is committed already: that shows whether the member still belongs to its group.
func (c *committer) confirm(ctx context.Context, partitions []*partition) error {
	return c.request(ctx, partitions, true)
}

func (c *committer) request(ctx context.Context, partitions []*partition, always bool) error {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	due := make(map[topic.Partition]wire.Offset)
	of := make(map[topic.Partition]*partition)
	now := time.Now()
	for _, p := range partitions {
		if offset, ok := p.commitment(now, !c.bare.Load(), always); ok {
			due[p.Partition], of[p.Partition] = offset, p
		}
	}
	failed := c.leaveOutDeleted(ctx, due, of)
	if len(due) == 0 {
		return failed
	}
	name := c.who()
	refused, err := c.group.Commit(ctx, &wire.CommitRequest{MemberID: name.id, InstanceID: name.instance, Generation: name.generation, Offsets: due})
	if err != nil {
		return err
	}
	for at, p := range of {
		err, wasRefused := refused[at]
		if !wasRefused {
			p.commitTaken(due[at])
			continue
		}
		if err := c.answered(p, err, name); err != nil {
			failed = err
		}
		if errors.Is(failed, errFenced) {
			return failed
		}
	}
	return failed
}

// begin commits where partitions begin that the group has no offset of, this member's own or not, in one request.
func (c *committer) begin(ctx context.Context, starts map[topic.Partition]int64) error {
	offsets := make(map[topic.Partition]wire.Offset, len(starts))
	for p, at := range starts {
		offsets[p] = wire.Offset{At: at, Epoch: wire.NoEpoch}
	}
	name := c.who()
	refused, err := c.group.Commit(ctx, &wire.CommitRequest{MemberID: name.id, InstanceID: name.instance, Generation: name.generation, Offsets: offsets})
	for p, err := range refused {
		return fmt.Errorf("%s: %w", p, topic.Needs("Read", err))
	}
	return err
}

// answered sorts the error of a refused commit.
func (c *committer) answered(p *partition, err error, name memberID) error {
	switch {
	case errors.Is(err, kafka.RebalanceInProgress):
		return errLater
	case wire.Fenced(err):
		if name != c.who() {
			return errLater // it crossed the answer to a join
		}
		c.refused(name)
		return fmt.Errorf("%w: commit of %s: %w", errFenced, p, err)
	case errors.Is(err, kafka.OffsetMetadataTooLarge):
		c.bare.Store(true)
	}
	return fmt.Errorf("commit of %s: %w", p, topic.Needs("Read", err))
}

// leaveOutDeleted takes out of a commit what was deleted with its topic since the last one: the offset would be taken for one of the topic
// that was created again under its name, of which so many records would never be read. While nothing is fetched, for hours perhaps in a
// tier, nothing else tells. What cannot be asked about is left out too, with an error.
func (c *committer) leaveOutDeleted(ctx context.Context, due map[topic.Partition]wire.Offset, of map[topic.Partition]*partition) error {
	if len(due) == 0 {
		return nil
	}
	asked := make([]*partition, 0, len(of))
	for _, p := range of {
		asked = append(asked, p)
	}
	deleted, err := c.identity.deleted(ctx, asked)
	for at, p := range of {
		if is, known := deleted[p]; is || !known {
			delete(due, at)
			delete(of, at)
		}
	}
	return err
}

// last commits what is settled of partitions that are given up, again and again until it is taken or the deadline comes. While the group is
// rebalancing, or its coordinator is on the move, a commit is refused for a moment.
func (c *committer) last(ctx context.Context, partitions []*partition, deadline time.Time) error {
	for {
		err := c.by(ctx, partitions, deadline)
		if err == nil || errors.Is(err, errFenced) || time.Until(deadline) < 2*commitPause || !topic.Sleep(ctx, commitPause) {
			return err
		}
	}
}

func (c *committer) by(ctx context.Context, partitions []*partition, deadline time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	return c.commit(ctx, partitions)
}
