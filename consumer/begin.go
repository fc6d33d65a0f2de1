package consumer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"fanout/topic"
	"fanout/topic/wire"
)

// beginning brings partitions that were added to where they are read from.
type beginning struct {
	g       *group
	ctx     context.Context //nolint:containedctx // ends with the partitions' readers
	holds   []*holding
	reading []context.Context
}

// run finds out where the partitions begin, and reads each until it is given up.
func (b *beginning) run() {
	begun := make(chan struct{})
	var readers sync.WaitGroup
	lost := newLostOffsets(b.g.cfg.cluster, len(b.holds), b.g.log)
	for i, h := range b.holds {
		readers.Go(func() {
			defer close(h.done)
			looked := sync.OnceFunc(lost.looked.Done)
			defer looked()
			select {
			case <-begun:
			case <-b.reading[i].Done():
				return
			}
			r := b.g.reader(h.get())
			r.lost, r.looked = lost, looked
			r.run(b.reading[i])
		})
	}
	readers.Go(func() { lost.run(b.ctx) })
	for first := true; b.live(); first = false {
		err := b.begin()
		b.g.hasBegun(err)
		if err == nil {
			close(begun)
			break
		}
		if first && b.live() && !errors.Is(err, errBeginning) {
			b.g.log.Warn("committed offsets cannot be read; it is tried again", zap.Error(err))
		}
		topic.Sleep(b.ctx, 200*time.Millisecond)
	}
	readers.Wait()
}

// hasBegun notes whether the partitions that were added last are read; err says why not.
func (g *group) hasBegun(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.problem = ""; err != nil && !errors.Is(err, errBeginning) {
		g.problem = err.Error()
	}
	g.read = g.read || err == nil
}

// live says whether any of the partitions has not been given up.
func (b *beginning) live() bool {
	return slices.ContainsFunc(b.reading, func(ctx context.Context) bool { return ctx.Err() == nil })
}

// begin sets the partitions up where their commits, with metadata, say. Where there was no commit, the offset to begin with is committed
// before anything is read: after a crash the start must not be a later one.
func (b *beginning) begin() error {
	ctx, cancel := context.WithTimeout(b.ctx, commitTimeout)
	defer cancel()
	asked := make([]topic.Partition, len(b.holds))
	for i, h := range b.holds {
		asked[i] = h.name
	}
	offsets, refused, err := b.g.identity.group.Committed(ctx, asked)
	if err != nil {
		return err
	}
	for name, err := range refused {
		return fmt.Errorf("offset of %s: %w", name, topic.Needs("Describe", err))
	}
	unbegun := slices.DeleteFunc(slices.Clone(asked), func(name topic.Partition) bool { return offsets[name].At >= 0 })
	if err := b.beginSources(ctx, unbegun); err != nil {
		return err
	}
	// Sources that begin elsewhere have an offset by now.
	starts, err := b.g.cfg.cluster.OffsetsAt(ctx, unbegun, wire.Earliest)
	if err != nil {
		return err
	}
	var ends map[topic.Partition]int64
	if b.g.cfg.strangers != nil {
		if ends, err = b.g.cfg.cluster.OffsetsAt(ctx, unbegun, wire.Latest); err != nil {
			return err
		}
	}
	var partitions, fresh []*partition
	now := time.Now()
	for _, name := range asked {
		at, ok := offsets[name]
		if !ok {
			return fmt.Errorf("offset of %s: no answer", name)
		}
		p := newPartition(name, b.g.cfg.flow(name.Topic).flow.stage, b.g.cfg.delay(name.Topic), at, starts[name], now)
		partitions = append(partitions, p)
		if at.At < 0 && ends[name] > starts[name] {
			p.hold() // until it is known whose records it has
		}
		if at.At < 0 {
			fresh = append(fresh, p)
		}
	}
	if len(fresh) > 0 {
		if err := b.g.committer.commit(ctx, fresh); err != nil {
			return fmt.Errorf("first commit: %w", err)
		}
	}
	b.g.topics.remember(asked)
	for i, h := range b.holds {
		h.mu.Lock()
		h.partition = partitions[i]
		h.mu.Unlock()
	}
	b.tell(offsets, time.Now())
	return nil
}

// tell says for how long nobody has read the partitions that came from another member.
func (b *beginning) tell(offsets map[topic.Partition]wire.Offset, now time.Time) {
	longest := time.Duration(0)
	moved := 0
	for _, at := range offsets {
		stopped := topic.ReadMetadata(at.At, at.Metadata).Stopped
		if stood := now.Sub(stopped); !stopped.IsZero() && stood < maxStood { // else nobody was there to take it
			b.g.observe.stood(max(0, stood))
			longest = max(longest, stood)
			moved++
		}
	}
	if moved > 0 {
		b.g.log.Info("partitions that came from other members are read", zap.Int("partitions", moved), zap.Duration("stood", longest.Round(time.Millisecond)))
	}
}

// maxStood is how long a handover may have taken: a partition that stood for longer belonged to nobody.
const maxStood = 2 * time.Minute

// beginSources begins the sources of which the group has no offset at all, where they do not begin with their first record. unbegun are
// this member's partitions without an offset.
//
// The member that has partition 0 commits the start of every partition of the source in one request, which Kafka stores as a whole; the
// other members wait for that. So a source is begun completely or not at all, whoever crashes, and a partition without an offset beside
// others that have one was added later: all of its records are new. Without this, a member that joins between two first commits could not
// tell the two apart, and would send a history that was to be left out.
//
// The error is errBeginning where offsets are or will be committed.
func (b *beginning) beginSources(ctx context.Context, unbegun []topic.Partition) error {
	if b.g.cfg.start == nil {
		return nil
	}
	waits := false
	for name, ids := range byTopic(unbegun) {
		at, err := b.g.cfg.start(name)
		if err != nil {
			return err
		}
		if at == wire.Earliest {
			continue
		}
		all, err := b.g.neverCommitted(ctx, name)
		if err != nil {
			return err
		}
		if len(all) == 0 {
			continue
		}
		waits = true
		if !slices.Contains(ids, 0) {
			continue // the member that has partition 0 does it
		}
		if err := b.g.beginSource(ctx, name, all, at); err != nil {
			return err
		}
	}
	if waits {
		return errBeginning
	}
	return nil
}

// errBeginning says that a source's first offsets are being committed. They are to be looked at again.
var errBeginning = errors.New("the source is being begun")

func byTopic(partitions []topic.Partition) map[string][]int {
	ids := make(map[string][]int)
	for _, p := range partitions {
		ids[p.Topic] = append(ids[p.Topic], p.ID)
	}
	return ids
}

// neverCommitted are all partitions of a topic of which the group has no offset; none where it has any.
func (g *group) neverCommitted(ctx context.Context, name string) ([]topic.Partition, error) {
	n, err := g.cfg.cluster.PartitionCount(ctx, name)
	if err != nil {
		return nil, err
	}
	all := topic.Partitions(name, n)
	offsets, refused, err := g.identity.group.Committed(ctx, all)
	if err != nil {
		return nil, err
	}
	for p, err := range refused {
		return nil, fmt.Errorf("offset of %s: %w", p, topic.Needs("Describe", err))
	}
	for _, at := range offsets {
		if at.At >= 0 {
			return nil, nil
		}
	}
	return all, nil
}

// beginSource commits where each partition of a source begins. Partitions that are younger than this process begin with their first record,
// and so does a topic that was deleted and created again.
func (g *group) beginSource(ctx context.Context, name string, all []topic.Partition, at int64) error {
	old := g.topics.olderThanThis(name, len(all))
	starts, err := g.cfg.cluster.OffsetsAt(ctx, all[:old], at)
	if err != nil {
		return err
	}
	var late []topic.Partition // nothing is as young as the time: they begin with the next record
	for p, at := range starts {
		if at < 0 {
			late = append(late, p)
		}
	}
	ends, err := g.cfg.cluster.OffsetsAt(ctx, late, wire.Latest)
	if err != nil {
		return err
	}
	first, err := g.cfg.cluster.OffsetsAt(ctx, all[old:], wire.Earliest)
	if err != nil {
		return err
	}
	maps.Copy(starts, ends)
	maps.Copy(starts, first)
	if err := g.committer.begin(ctx, starts); err != nil {
		return fmt.Errorf("begin %s: %w", name, err)
	}
	g.log.Info("source is begun", zap.String("topic", name), zap.Int("partitions", len(all)))
	return nil
}
