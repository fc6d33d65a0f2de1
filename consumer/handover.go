package consumer

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"fanout/topic"
)

// Times of a handover: a partition that moves, or a stop (docs/contract.md#handover).
const (
	handoverGrace = 500 * time.Millisecond  // what is in flight may finish
	handoverWrite = 2500 * time.Millisecond // then its records are written, and committed
)

// giveUp implements holdings.
func (g *group) giveUp(given []topic.Partition, last bool) {
	holds := g.take(given, false)
	deadline := time.Now().Add(handoverGrace + handoverWrite)
	grace := handoverGrace
	if by := g.stopBy(); last && !by.IsZero() {
		deadline = by
		grace = max(grace, time.Until(by)-handoverWrite)
	}
	partitions := stopReaders(holds)
	if !g.drain(partitions, time.Now().Add(grace), deadline) {
		abandon(partitions)
		g.take(given, true)
		return
	}
	if err := g.committer.last(g.cfg.background, partitions, deadline); err != nil {
		g.log.Warn("the last commit of partitions that were given up failed; what was settled since the one before is repeated",
			zap.Strings("partitions", names(given)), zap.Error(err))
	}
	abandon(partitions)
	g.take(given, true)
}

// lose implements holdings.
func (g *group) lose() {
	g.mu.Lock()
	all := slices.Collect(maps.Keys(g.holds))
	g.mu.Unlock()
	abandon(stopReaders(g.take(all, true)))
}

// stopReaders ends the readers, and returns what they read.
func stopReaders(holds []*holding) (partitions []*partition) {
	now := time.Now()
	for _, h := range holds {
		h.stop()
	}
	for _, h := range holds {
		<-h.done
		if p := h.get(); p != nil {
			p.stop(now)
			partitions = append(partitions, p)
		}
	}
	return partitions
}

// drain waits until what was read is settled. What waits is deferred (shutdown) at once, so that its record can be committed, and what is
// in flight is by then. The records of that are waited for until the deadline. It is false where the group has gone on without this member:
// the records are another's by now, who delivers them.
func (g *group) drain(partitions []*partition, then, deadline time.Time) bool {
	if !anyBusy(partitions) {
		return true
	}
	if !g.stillMember(partitions) {
		return false
	}
	settled := false
	for anyBusy(partitions) && g.cfg.background.Err() == nil && time.Now().Before(deadline) {
		switch now := time.Now(); {
		case now.Before(then):
			eachUnsettled(partitions, func(r *unsettledRecord) { r.deferWaiting(now) })
		case settled:
		case !g.stillMember(partitions):
			return false
		default:
			settled = true
			eachUnsettled(partitions, func(r *unsettledRecord) { r.settleAll(deferredByShutdown(now)) })
		}
		sleep(g.cfg.background, 5*time.Millisecond)
	}
	return true
}

// stillMember asks whether this member still belongs to the group. Where nobody answers, the heartbeats have told.
func (g *group) stillMember(partitions []*partition) bool {
	ctx, cancel := context.WithTimeout(g.cfg.background, handoverGrace)
	defer cancel()
	err := g.committer.confirm(ctx, partitions)
	return !errors.Is(err, errFenced) && !g.membership.suspended()
}

func anyBusy(partitions []*partition) bool { return slices.ContainsFunc(partitions, (*partition).busy) }

// abandon gives up on what is not settled: its records are not committed, and whoever has the partition next reads them again.
func abandon(partitions []*partition) {
	for _, p := range partitions {
		p.abandon()
	}
}

func eachUnsettled(partitions []*partition, f func(*unsettledRecord)) {
	for _, p := range partitions {
		for _, r := range p.unsettled() {
			f(r)
		}
	}
}

// setDeadline tells by when a stop must be over.
func (g *group) setDeadline(by time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.deadline = by
}

func (g *group) stopBy() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.deadline
}
