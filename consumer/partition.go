package consumer

import (
	"sync"
	"time"

	"fanout/dispatcher"
	"fanout/topic"
	"fanout/topic/wire"
)

// partition is one assigned partition, from assignment until it is given up or lost: what was read of it, what is committed, and what
// its reader is doing.
type partition struct {
	topic.Partition

	stage dispatcher.Stage
	delay time.Duration // of a retry tier

	mu        sync.Mutex // guards all below
	tracker   tracker
	topicID   wire.TopicID // of the topic that is read; zero: the brokers do not say
	stopped   time.Time    // reading has stopped, to give the partition up; zero: it goes on
	letGo     bool         // what is not settled is given up on: nothing more is committed
	committed wire.Offset  // At is -1: none yet
	verified  int32        // epoch of the leader whose log was seen to hold what was read; wire.NoEpoch: none yet
	state     readState
	end       int64     // nothing to read at or beyond it, when last asked; -1: never
	high      int64     // where the log ended then: beyond end while a transaction is open
	heldAt    int64     // where an open transaction holds records back from the reader; -1: nowhere
	heldSince time.Time // when the reader came there
	heldFirst time.Time // the time of the record that lies there; zero: not known
	asked     time.Time // when the end was last asked for, by a fetch or else
	lastRead  time.Time // timestamp of the last record that was read
	began     int64     // where this member began to read
	seen      wire.Offset
	progress  time.Time // when something was last seen to be settled, or nothing to wait
	left      int       // records that are left to whoever reads the partition next
	held      bool      // nothing is read or committed before it is known whose records it has
	lost      *lostPart // the group's offset of it was lost: nothing is committed before its end; nil: it was not, or that is over
}

// newPartition begins at what was committed; a partition without a commit begins at start.
func newPartition(name topic.Partition, stage dispatcher.Stage, delay time.Duration, committed wire.Offset, start int64, now time.Time) *partition {
	p := &partition{Partition: name, stage: stage, delay: delay, committed: committed, verified: wire.NoEpoch, end: -1, high: -1, heldAt: -1, progress: now, asked: now, began: start}
	said := topic.ReadMetadata(committed.At, committed.Metadata)
	if committed.At >= 0 {
		p.began = committed.At
		p.topicID = said.Topic
		if said.Epoch == wire.NoEpoch {
			said.Epoch = committed.Epoch
		}
	}
	p.tracker = newTracker(p.began, &said)
	return p
}

// on moves the reader's state.
func (p *partition) on(e readEvent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = p.state.after(e)
}

func (p *partition) is(s readState) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state == s
}

// position is where to read on, whether the topic has to be settled first, and for how long nothing has been asked of it.
func (p *partition) position(now time.Time) (next int64, state readState, quiet time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tracker.next, p.state, now.Sub(p.asked)
}

// sawEnd notes where what may be read ends, and where the log does.
func (p *partition) sawEnd(end, high int64, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == topicDeleted {
		return
	}
	p.asked = now
	if end >= 0 {
		p.end, p.high = end, max(end, high)
	}
}

// holdBack notes whether an open transaction holds back what lies at its reader's position.
func (p *partition) holdBack(yes bool, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !yes:
		p.heldAt = -1
	case p.heldAt != p.end:
		p.heldAt, p.heldSince, p.heldFirst = p.end, now, time.Time{}
	}
	if yes {
		p.state = p.state.after(transactionOpen)
	}
}

// heldFrom notes how old the first record is that an open transaction holds back there, where that is known.
func (p *partition) heldFrom(at int64, began time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.heldAt == at {
		p.heldFirst = began
	}
}

// heldBack is the open transaction that holds records back; nil where none does.
func (p *partition) heldBack() *held {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.heldAt < 0 {
		return nil
	}
	return &held{at: p.heldAt, since: p.heldSince, records: p.high - p.heldAt}
}

// sawLater notes where the log ends, as asked for while nothing is read.
func (p *partition) sawLater(end int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != topicDeleted {
		p.high = max(p.high, end)
	}
}

// knownEnd is where the log ended when that was last asked; -1: never.
func (p *partition) knownEnd() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(p.end, p.high)
}

// replacedBy says whether the topic with that id is another one than was read. An id that is seen first is remembered.
func (p *partition) replacedBy(id wire.TopicID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.topicID == (wire.TopicID{}) {
		p.topicID = id
	}
	return id != p.topicID && id != (wire.TopicID{})
}

// knows says whether the topic that was read has an id.
func (p *partition) knows(id wire.TopicID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return id != (wire.TopicID{}) && p.topicID == id
}

// unverified is where to read on and the epoch of the record before, where it has not been seen that the log of the leader in that epoch holds
// what was read.
func (p *partition) unverified(leader int32) (next int64, last int32, yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tracker.next, p.tracker.epochBefore(p.tracker.next), p.verified != leader
}

// verifiedBy notes that the log of the leader in that epoch holds what was read.
func (p *partition) verifiedBy(leader int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.verified = leader
}

// verifyTopic makes the reader ask, before it fetches again, whether the topic is still the same.
func (p *partition) verifyTopic() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = time.Time{}
}

// track enters a record before anything is done with it; nil where it was settled before this member had the partition, or taken ahead.
func (p *partition) track(record *topic.Record, e *entry, f *flow) *unsettledRecord {
	p.mu.Lock()
	defer p.mu.Unlock()
	if taken := p.tracker.receive(record.Offset); taken != nil {
		p.tracker.track(taken, record.Epoch)
		return nil
	}
	e.offset = record.Offset
	if p.tracker.settledBefore(record.Offset) {
		p.tracker.track(e, record.Epoch)
		return nil
	}
	p.lastRead = record.Time
	r := newUnsettled(e, f, recordBytes(record), record.Time)
	e.record.Store(r)
	p.tracker.track(e, record.Epoch)
	return r
}

// takeAhead enters a record that is handed on before the reader has come to it; nil where it must not be: it was read, taken or settled, or
// reading has stopped.
func (p *partition) takeAhead(record *topic.Record, e *entry, f *flow) *unsettledRecord {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.offset = record.Offset; !p.stopped.IsZero() || p.state == topicDeleted || !p.tracker.take(e) {
		return nil
	}
	r := newUnsettled(e, f, recordBytes(record), record.Time)
	e.record.Store(r)
	return r
}

// isAhead says whether the record at the offset, which the reader has not come to, was taken ahead.
func (p *partition) isAhead(offset int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tracker.isAhead(offset)
}

// marks is how many more records may be taken ahead.
func (p *partition) marks() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tracker.committable()
	return p.tracker.marks(len(p.tracker.metadata(&topic.Metadata{Epoch: p.committed.Epoch, Topic: p.topicID})))
}

// waiting is where the reader stands, and whether records may lie behind it that are not due.
func (p *partition) waiting() (next int64, yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tracker.next, p.state == awaitingDue || p.end < 0 || p.tracker.next < p.end
}

// pass notes that everything before the offset has been read.
func (p *partition) pass(next int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tracker.pass(next)
}

// open is how many records are kept by the tracker: read, and not settled up to the first of them.
func (p *partition) open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tracker.committable()
	return p.tracker.open() + len(p.tracker.taken)
}

// busy says whether anything is still done for what was read.
func (p *partition) busy() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tracker.committable()
	return p.tracker.open()+len(p.tracker.taken) > p.left
}

// leave notes that a record is left to whoever reads the partition next.
func (p *partition) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left++
}

// progressed notes that something was settled which no commit shows yet.
func (p *partition) progressed(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.progress = now
}

func (p *partition) unsettled() []*unsettledRecord {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tracker.unsettled()
}

// commitment is what should be committed now, with metadata or without; false where that has been done, unless always is set, or must not be
// done.
func (p *partition) commitment(now time.Time, metadata, always bool) (wire.Offset, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	due := wire.Offset{At: p.tracker.committable()}
	due.Epoch = p.tracker.epochBefore(due.At)
	if metadata {
		due.Metadata = p.tracker.metadata(&topic.Metadata{Epoch: due.Epoch, Topic: p.topicID, Stopped: p.stopped})
	}
	if due != p.seen {
		p.seen, p.progress = due, now
	}
	if p.lost != nil && due.At >= p.lost.end {
		p.lost = nil
	}
	if p.lost != nil {
		return due, false // whoever reads it next would not know that the offset had been lost
	}
	if p.held || p.state == topicDeleted { // the offset may be that of a deleted topic
		return due, false
	}
	if p.letGo { // its records seem to be settled, and whoever has the partition next is to read them
		return due, false
	}
	return due, always || due.At != p.committed.At || due.Metadata != p.committed.Metadata
}

// commitTaken notes that the group's coordinator has taken what commitment said.
func (p *partition) commitTaken(taken wire.Offset) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.committed = taken
}

// everCommitted says whether the group has, or had, an offset of the partition.
func (p *partition) everCommitted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.committed.At >= 0
}

// restart reads on at another offset: what was read before is settled. epoch is of the record before it.
func (p *partition) restart(at int64, epoch int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tracker = newTracker(at, &topic.Metadata{Epoch: epoch})
	p.lost = nil
	p.state = p.state.after(topicSettled)
}

// replace begins with another topic of the name.
func (p *partition) replace(id wire.TopicID, at int64, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tracker = newTracker(at, &topic.Metadata{Epoch: wire.NoEpoch})
	p.lost = nil
	p.topicID, p.committed, p.verified = id, wire.Offset{At: -1, Epoch: wire.NoEpoch}, wire.NoEpoch
	p.end, p.high, p.heldAt, p.began, p.asked = -1, -1, -1, at, now
	p.state = p.state.after(topicSettled)
}

// hold keeps the partition from being read and committed, until release.
func (p *partition) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = true
}

// release lets it be read. Where the group's offset of it was lost, the part of it is judged that lost says.
func (p *partition) release(lost *lostPart) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = false
	if lost.ours {
		p.lost = lost
	}
}

// lostPart is the part of it that is judged by what became of it; nil: none is.
func (p *partition) lostPart() *lostPart {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

func (p *partition) isHeld() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held
}

// stop notes that reading has stopped, to give the partition up.
func (p *partition) stop(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = now
}

// abandon gives up on what is not settled: whoever has the partition next reads it again. A commit of this member's that comes later, since it
// waited for its turn, leaves the partition out.
func (p *partition) abandon() {
	p.mu.Lock()
	p.letGo = true
	unsettled := p.tracker.unsettled()
	p.mu.Unlock()
	for _, r := range unsettled {
		r.abandon()
	}
}

// progressReport answers the group's health check for one partition.
type progressReport struct {
	partition topic.Partition
	since     time.Duration // for how long there has been something to do and nothing was settled
	open      bool          // records have been read and are not settled
	moved     bool          // something has been settled since this member has it, or there is nothing to do
}

// makesProgress says whether the partition does. What is held back for all (held: a record cannot be written, or nothing can be
// sent), a broker that does not answer and a due time are waited for: that is not standing still.
func (p *partition) makesProgress(now time.Time, held bool) progressReport {
	p.mu.Lock()
	defer p.mu.Unlock()
	lag, _ := p.lagLocked(now)
	open := p.tracker.open() > 0
	if lag == 0 || held || p.state.idle() && (!open || p.state == brokerFailing) {
		p.progress = now
	}
	return progressReport{partition: p.Partition, since: max(0, now.Sub(p.progress)), open: open, moved: lag == 0 || p.seen.At > p.began}
}

// lag is how many records are not settled, and for how long the oldest of them has been there.
func (p *partition) lag(now time.Time) (records int64, age time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lagLocked(now)
}

// unread is how many records may be read now and were not.
func (p *partition) unread() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stage == dispatcher.StageRetry && p.state == awaitingDue {
		return 0
	}
	return max(0, max(p.end, p.high)-p.tracker.next)
}

func (p *partition) lagLocked(now time.Time) (records int64, age time.Duration) {
	at := p.tracker.committable()
	if p.tracker.open() > 0 {
		records = p.tracker.next - at
		if r := p.tracker.first(); r != nil {
			age = max(0, now.Sub(r.time.Add(p.delay)))
		}
	}
	unread := max(0, max(p.end, p.high)-p.tracker.next)
	if p.stage == dispatcher.StageRetry && p.state == awaitingDue {
		return records, age // the next record is not due, so those behind it are not either
	}
	switch {
	case unread == 0 || age > 0:
	case p.heldAt >= 0:
		age = max(0, now.Sub(p.heldSince))
		if !p.heldFirst.IsZero() {
			age = max(age, now.Sub(p.heldFirst))
		}
	case !p.lastRead.IsZero():
		age = max(0, now.Sub(p.lastRead.Add(p.delay)))
	}
	return records + unread, age
}
