package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"go.uber.org/zap"

	"fanout/dispatcher"
)

// Times of a session. Heartbeats have stopped when a generation ends: what drains then must be done before the broker
// gives up on the member (FACTS.md 2). A killed member's partitions are free again after sessionTimeout.
const (
	sessionTimeout    = 8 * time.Second
	heartbeatInterval = time.Second
	rebalanceTimeout  = 10 * time.Second
	joinBackoff       = 500 * time.Millisecond
	revokeDrain       = 4 * time.Second
	commitInterval    = 500 * time.Millisecond
	commitTimeout     = 5 * time.Second
	commitGrace       = 500 * time.Millisecond // for the commit that is under way when reading ends
	lastCommitPause   = 100 * time.Millisecond // between tries of a session's last commit
)

// errFenced ends a session whose commits are refused: another member may have its partitions.
var errFenced = errors.New("the group has gone on without this member")

// errWedged ends a session that has something to do and does not get on with it.
var errWedged = errors.New("records wait and none is settled")

// session is one member's part in one generation of a group: its partitions, from assignment to revocation. Nothing of
// it outlives the generation, so a late completion cannot reach the next one's ledgers (FACTS.md 3).
type session struct {
	c          *Consumer
	g          *group
	gen        *kafka.Generation
	log        *zap.Logger
	partitions []*partition
	moved      time.Time // when one of them last got on
}

// serve reads and commits until the consumer stops or the generation ends, then drains. It returns when nothing of the
// session is under way any more.
func (s *session) serve(stop, gen context.Context) {
	if !s.assign(stop, gen) {
		return
	}
	reading, cancel := context.WithCancel(stop)
	defer cancel()
	defer context.AfterFunc(gen, cancel)()
	var readers sync.WaitGroup
	for _, p := range s.partitions {
		readers.Go(func() { p.run(reading) })
	}
	readers.Go(func() { s.lookAhead(reading) })
	s.c.joined(s.g, s.partitions)
	ended := s.commitUntil(reading)
	cancel()
	readers.Wait()
	s.c.left(s.g)
	switch {
	case errors.Is(ended, errFenced):
		s.abandon()
	case stop.Err() != nil:
		s.drain(gen, s.c.stopBy())
	default:
		s.drain(gen, time.Now().Add(revokeDrain))
	}
}

// commitUntil commits what is settled, again and again. It returns nil when ctx is done, errFenced where the group has
// gone on without this member, and errWedged.
func (s *session) commitUntil(ctx context.Context) error {
	tick := time.NewTicker(commitInterval)
	defer tick.Stop()
	failures := 0
	s.moved = time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := s.commitWhile(ctx)
		switch {
		case err == nil:
			failures = 0
		case errors.Is(err, errFenced):
			s.log.Warn("commit refused; the session ends", zap.Error(err))
			return errFenced
		default:
			if failures++; failures == 1 || failures%20 == 0 {
				s.log.Warn("commit fails; it is tried again", zap.Error(err), zap.Int("failures", failures))
			}
		}
		well, stuck := s.wedged(time.Now())
		s.c.beat(s.g, stuck, well)
		if stuck != nil {
			s.log.Error("the group's part of this instance is wedged; it joins anew", zap.Error(stuck))
			return errWedged
		}
	}
}

// commitWhile commits once. When ctx is done meanwhile, the answer is waited for a little longer: an offset whose commit
// is answered too late is an offset that moves back.
func (s *session) commitWhile(ctx context.Context) error {
	attempt, cancel := context.WithTimeout(s.c.background, commitTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		sleep(attempt, commitGrace)
		cancel()
	})()
	return s.commit(attempt, false)
}

// wedged says which partition has had something to do for too long without getting on. Waiting for a record that cannot
// be written, for a broker or for a due time is not that.
// well says that every partition has got on since the session began.
func (s *session) wedged(now time.Time) (well bool, stuck error) {
	blocked := s.c.writer.blocked()
	open := false
	well = true
	for _, p := range s.partitions {
		i := p.idle(now, blocked)
		well = well && i.moved
		if i.since < 2*commitInterval {
			s.moved = now
		}
		if i.since > s.c.wedgedAfter() && (stuck == nil || i.open) {
			stuck, open = fmt.Errorf("%w: %s, for %v", errWedged, p, i.since.Round(time.Second)), open || i.open
		}
	}
	if !open && now.Sub(s.moved) <= s.c.wedgedAfter() { // others get on: it waits for its turn to read
		return well, nil
	}
	return well, stuck
}

// assign sets the partitions up where their commits, with metadata, say. Where there was no commit, the offset to begin
// with is committed before anything is read: after a crash `latest` must not mean a later one.
func (s *session) assign(stop, gen context.Context) bool {
	ctx, cancel := context.WithCancel(stop)
	defer cancel()
	defer context.AfterFunc(gen, cancel)()
	for first := true; ctx.Err() == nil; first = false {
		attempt, done := context.WithTimeout(ctx, commitTimeout)
		err := s.load(attempt)
		if err == nil && s.anew() {
			err = s.commit(attempt, false)
		}
		done()
		switch {
		case err == nil:
			for _, p := range s.partitions {
				s.g.begun[p.String()] = true
			}
			return ctx.Err() == nil
		case ctx.Err() != nil || errors.Is(err, errFenced):
			return false
		case first:
			s.log.Warn("committed offsets cannot be read; it is tried again", zap.Error(err))
		}
		sleep(ctx, 200*time.Millisecond)
	}
	return false
}

func (s *session) anew() bool {
	for _, p := range s.partitions {
		if p.committed < 0 {
			return true
		}
	}
	return false
}

func (s *session) load(ctx context.Context) error {
	s.partitions = nil
	topics := assigned(s.gen)
	committed, err := s.g.committed(ctx, topics)
	if err != nil {
		return err
	}
	fresh := make(map[string][]int)
	for topic, ids := range topics {
		for _, id := range ids {
			at := committed[partitionName(topic, id)]
			p := &partition{
				c: s.c, g: s.g, topic: topic, id: id, stage: s.g.stage, delay: s.g.delay, decoder: s.c.decoders[topic], schemas: s.c.schemasOf(topic),
				ledger: newLedger(at.CommittedOffset), committed: at.CommittedOffset, began: at.CommittedOffset,
				end: -1, progress: time.Now(), fetched: time.Now(),
			}
			if at.CommittedOffset < 0 {
				fresh[topic] = append(fresh[topic], id)
				p.committed = -1
			} else {
				p.metadata = at.Metadata
				p.skip = settledAbove(at.CommittedOffset, at.Metadata)
			}
			s.partitions = append(s.partitions, p)
		}
	}
	starts, err := s.g.startOffsets(ctx, fresh)
	if err != nil {
		return err
	}
	for _, p := range s.partitions {
		if p.committed < 0 {
			start, ok := starts[p.String()]
			if !ok {
				return fmt.Errorf("start of %s: not answered", p)
			}
			p.ledger, p.began = newLedger(start), start
		}
	}
	return nil
}

// commit commits what is settled, of all partitions at once. With always, what is committed already is committed again:
// that shows whether the member still belongs to its group.
func (s *session) commit(ctx context.Context, always bool) error {
	topics := make(map[string][]kafka.OffsetCommit)
	moved := make(map[string]*partition, len(s.partitions))
	for _, p := range s.partitions {
		if c, ok := p.commitment(always); ok {
			topics[p.topic] = append(topics[p.topic], c)
			moved[p.String()] = p
		}
	}
	failed := s.look(ctx, topics, moved)
	if len(moved) == 0 {
		if failed == nil {
			s.c.committedNow(s.g)
		}
		return failed
	}
	res, err := s.g.client.OffsetCommit(ctx, &kafka.OffsetCommitRequest{
		GroupID: s.g.id, GenerationID: int(s.gen.ID), MemberID: s.gen.MemberID, Topics: topics,
	})
	if err != nil {
		return fmt.Errorf("commit of group %s: %w", s.g.id, err)
	}
	for topic, list := range res.Topics {
		for _, answer := range list {
			name := partitionName(topic, answer.Partition)
			p := moved[name]
			delete(moved, name)
			switch {
			case p == nil:
			case answer.Error == nil:
				for _, sent := range topics[topic] {
					if sent.Partition == p.id {
						p.commitTaken(sent)
					}
				}
			case isFenced(answer.Error):
				return fmt.Errorf("%w: commit of %s: %w", errFenced, name, answer.Error)
			default:
				if errors.Is(answer.Error, kafka.OffsetMetadataTooLarge) {
					p.bare = true // a broker with a smaller limit: offsets matter more
				}
				failed = fmt.Errorf("commit of %s: %w", name, needs("Read", answer.Error))
			}
		}
	}
	if failed == nil && len(moved) > 0 {
		failed = fmt.Errorf("commit of group %s: %d partitions were not answered", s.g.id, len(moved))
	}
	if failed == nil {
		s.c.committedNow(s.g)
	}
	return failed
}

// look takes out of a commit what was deleted with its topic since the last one: the offset would be taken for one of the
// topic that has been created anew under its name, of which so many records would never be read. While nothing is
// fetched, be it for hours in a tier, nothing else tells. What it gets no answer for is left out too, with an error.
func (s *session) look(ctx context.Context, topics map[string][]kafka.OffsetCommit, moved map[string]*partition) error {
	ask := make(map[string][]int, len(topics))
	for _, p := range s.partitions {
		if len(topics[p.topic]) > 0 { // the others of the topic went with it
			ask[p.topic] = append(ask[p.topic], p.id)
		}
	}
	committed, err := s.g.committed(ctx, ask)
	for _, p := range s.partitions {
		at, ok := committed[p.String()]
		if ok && !p.forget(at) || moved[p.String()] == nil {
			continue
		}
		delete(moved, p.String())
		topics[p.topic] = slices.DeleteFunc(topics[p.topic], func(c kafka.OffsetCommit) bool { return c.Partition == p.id })
		if len(topics[p.topic]) == 0 {
			delete(topics, p.topic)
		}
	}
	return err
}

func isFenced(err error) bool {
	return errors.Is(err, kafka.IllegalGeneration) || errors.Is(err, kafka.UnknownMemberId) || errors.Is(err, kafka.FencedInstanceID)
}

// drain waits until what was read is settled, and commits meanwhile. What is not settled shortly before the deadline is
// deferred (shutdown), so that its record can be committed. When the generation ends, heartbeats do too, and the
// deadline is that of a revoked partition.
func (s *session) drain(gen context.Context, deadline time.Time) {
	const force, last = 1500 * time.Millisecond, 500 * time.Millisecond
	committed, revoked, forced := time.Now(), false, false
	for s.open() && s.c.background.Err() == nil {
		now := time.Now()
		if !revoked && gen.Err() != nil {
			revoked = true
			if by := now.Add(revokeDrain); by.Before(deadline) {
				deadline = by
			}
		}
		left := deadline.Sub(now)
		if left < last {
			break
		}
		if due := !forced && left < force+last; due || now.Sub(committed) > commitInterval {
			committed = now
			// Before deferring: the records may be another member's by now, who will deliver them.
			if errors.Is(s.commitBy(now.Add(min(left, commitGrace)), due), errFenced) {
				s.abandon()
				return
			}
			if due {
				forced = true
				s.deferAll()
			}
		}
		sleep(s.c.background, 10*time.Millisecond)
	}
	if err := s.lastCommit(deadline); err != nil {
		s.log.Warn("last commit failed; what was settled since the one before will be repeated", zap.Error(err))
	}
	s.abandon()
}

// lastCommit tries for a while: a generation may have ended because the coordinator has moved, and the new one takes the
// commit as soon as it has loaded the group.
func (s *session) lastCommit(deadline time.Time) error {
	if by := time.Now().Add(revokeDrain); by.Before(deadline) {
		deadline = by
	}
	for {
		err := s.commitBy(deadline, false)
		if err == nil || errors.Is(err, errFenced) || time.Until(deadline) < 2*lastCommitPause || !sleep(s.c.background, lastCommitPause) {
			return err
		}
	}
}

func (s *session) commitBy(deadline time.Time, always bool) error {
	ctx, cancel := context.WithDeadline(s.c.background, deadline)
	defer cancel()
	return s.commit(ctx, always)
}

// open says whether anything that was read is not settled.
func (s *session) open() bool {
	for _, p := range s.partitions {
		if p.openEntries() > 0 {
			return true
		}
	}
	return false
}

func (s *session) unsettled() (open []*record) {
	for _, p := range s.partitions {
		p.mu.Lock()
		open = append(open, p.ledger.unsettled()...)
		p.mu.Unlock()
	}
	return open
}

// deferAll writes what is not settled to the first tier.
func (s *session) deferAll() {
	now := time.Now()
	for _, r := range s.unsettled() {
		for i := range r.deliveries {
			r.Settle(&r.deliveries[i], dispatcher.Outcome{Result: dispatcher.Deferred, Reason: dispatcher.Shutdown, NotBefore: now})
		}
	}
}

// abandon gives up on what is not settled: its records are not committed, and whoever has the partition next reads them
// again.
func (s *session) abandon() {
	for _, r := range s.unsettled() {
		for i := range r.deliveries {
			r.Settle(&r.deliveries[i], dispatcher.Outcome{Result: dispatcher.Abandoned})
		}
	}
}
