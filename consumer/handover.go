package consumer

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"fanout/topic"
)

// Times of a handover: a partition that moves, or a stop (docs/contract.md#handover).
const (
	handoverGrace = 500 * time.Millisecond  // attempts in flight may finish
	handoverWrite = 2500 * time.Millisecond // then its records are written, and committed
)

// handover brings partitions that are given up to where another member can go on: what was read is settled, and committed.
type handover struct {
	background context.Context //nolint:containedctx // ends when everything has drained
	committer  *committer
	suspended  func() bool // nobody has heard of the coordinator for a session
	log        *zap.Logger

	mu       sync.Mutex // guards deadline
	deadline time.Time  // of a stop
}

// run ends the readers, settles and commits what they have read, and gives up on the rest. last says that nobody stays who could take the
// partitions: then there is time until the stop's deadline.
func (h *handover) run(holds []*holding, last bool) {
	deadline := time.Now().Add(handoverGrace + handoverWrite)
	grace := handoverGrace
	if by := h.stopBy(); last && !by.IsZero() {
		deadline = by
		grace = max(grace, time.Until(by)-handoverWrite)
	}
	partitions := stopReaders(holds)
	defer abandon(partitions)
	if !h.drain(partitions, time.Now().Add(grace), deadline) {
		return
	}
	if err := h.committer.last(h.background, partitions, deadline); err != nil {
		h.log.Warn("the last commit of partitions that were given up failed; what was settled since the one before is repeated",
			zap.Stringers("partitions", partitions), zap.Error(err))
	}
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
func (h *handover) drain(partitions []*partition, then, deadline time.Time) bool {
	if !anyBusy(partitions) {
		return true
	}
	if !h.stillMember(partitions) {
		return false
	}
	settled := false
	for anyBusy(partitions) && h.background.Err() == nil && time.Now().Before(deadline) {
		switch now := time.Now(); {
		case now.Before(then):
			eachUnsettled(partitions, func(r *unsettledRecord) { r.deferWaiting(now) })
		case settled:
		case !h.stillMember(partitions):
			return false
		default:
			settled = true
			eachUnsettled(partitions, func(r *unsettledRecord) { r.settleAll(deferredByShutdown(now)) })
		}
		topic.Sleep(h.background, 5*time.Millisecond)
	}
	return true
}

// stillMember asks whether this member still belongs to the group. Where nobody answers, the heartbeats have told.
func (h *handover) stillMember(partitions []*partition) bool {
	ctx, cancel := context.WithTimeout(h.background, handoverGrace)
	defer cancel()
	err := h.committer.confirm(ctx, partitions)
	return !errors.Is(err, errFenced) && !h.suspended()
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
func (h *handover) setDeadline(by time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.deadline = by
}

func (h *handover) stopBy() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.deadline
}
