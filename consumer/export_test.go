package consumer

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/zap"

	"fanout/dispatcher"
	"fanout/event"
	"fanout/topic"
	"fanout/topic/wire"
)

// Kill ends a running Consumer as kill -9 would, as far as Kafka can tell: nothing more is written or committed.
func (c *Consumer) Kill() { c.end() }

// Tracker is a tracker whose entries are named by their offsets.
type Tracker struct {
	t       tracker
	entries map[int64]*entry
}

// NewTracker begins at what was committed, as a member does that a partition is assigned to.
func NewTracker(committed int64, metadata string) *Tracker {
	return &Tracker{t: newTracker(committed, new(topic.ReadMetadata(committed, metadata))), entries: make(map[int64]*entry)}
}

// Track receives a record; one that was taken ahead keeps its entry.
func (t *Tracker) Track(offset int64) {
	if taken := t.t.receive(offset); taken != nil {
		t.t.track(taken, 0)
		return
	}
	e := &entry{offset: offset}
	if !t.t.settledBefore(offset) {
		e.record.Store(&unsettledRecord{})
	}
	t.entries[offset] = e
	t.t.track(e, 0)
}

// Take takes a record ahead; false where that must not be.
func (t *Tracker) Take(offset int64) bool {
	e := &entry{offset: offset}
	e.record.Store(&unsettledRecord{})
	if !t.t.take(e) {
		return false
	}
	t.entries[offset] = e
	return true
}

// Marks is how many more may be taken ahead.
func (t *Tracker) Marks() int {
	_, metadata := t.Commitment()
	return t.t.marks(len(metadata))
}

// Unsettled counts the records that were received or taken and are not settled.
func (t *Tracker) Unsettled() int { return len(t.t.unsettled()) }

func (t *Tracker) Settle(offset int64) { t.entries[offset].record.Store(nil) }

func (t *Tracker) Pass(next int64) { t.t.pass(next) }

func (t *Tracker) Open() int { return t.t.open() }

// Commitment is what would be committed now.
func (t *Tracker) Commitment() (int64, string) {
	return t.t.committable(), t.t.metadata(&topic.Metadata{Epoch: wire.NoEpoch})
}

// Skipped says, for each offset in turn, whether a member with that commit leaves it out.
func Skipped(committed int64, metadata string, offsets ...int64) (skipped []bool) {
	t := newTracker(committed, new(topic.ReadMetadata(committed, metadata)))
	for _, offset := range offsets {
		skipped = append(skipped, t.settledBefore(offset))
	}
	return skipped
}

// Source is a source partition that is fed by hand.
type Source struct {
	p       *partition
	in      *intake
	entries []entry
}

// NewSource makes a partition of a Consumer that does not run. What its records lead to must need no write.
func NewSource(c *Consumer, name string, id int) *Source {
	p := newPartition(topic.Partition{Topic: name, ID: id}, dispatcher.StageFirst, 0, wire.Offset{At: 0}, 0, time.Now())
	return &Source{p: p, in: c.newIntakes(nil)[dispatcher.StageFirst]}
}

// Handle takes the next record from fetched to planned and submitted.
func (s *Source) Handle(value []byte) {
	if len(s.entries) == 0 {
		s.entries = make([]entry, entriesAtOnce)
		s.p.commitment(time.Now(), true, false)
	}
	next, _, _ := s.p.position(time.Now())
	record := topic.Record{Partition: s.p.Partition, Offset: next, Time: time.Now(), Value: value}
	d, _ := s.in.decode(nil, &record) //nolint:staticcheck // JSON needs no registry, so nothing is waited for
	u := s.p.track(&record, &s.entries[0], s.in.flow)
	s.entries = s.entries[1:]
	s.in.take(context.Background(), s.p, u, &record, &d) //nolint:forbidigo // a benchmark's, which has no other
}

// Committable is the offset that would be committed now.
func (s *Source) Committable() int64 {
	c, _ := s.p.commitment(time.Now(), true, false)
	return c.At
}

// AttemptsLog is an attemptsLog whose records are made by hand.
type AttemptsLog struct {
	l       *attemptsLog
	records []*unsettledRecord
	lost    prometheus.Counter
}

// NewAttemptsLog makes one for a topic of that many partitions, and runs it until ctx is done.
func NewAttemptsLog(ctx context.Context, log attemptsProducer, partitions int) *AttemptsLog {
	a := &AttemptsLog{lost: prometheus.NewCounter(prometheus.CounterOpts{Name: "lost_total", Help: "Attempts that were given up."})}
	a.l = newAttemptsLog(log, "attempts", topic.AttemptWriter{Instance: "here"}, zap.NewNop(), a.lost, func(context.Context, string) {})
	a.l.resize(partitions)
	go a.l.run(ctx)
	return a
}

// Add takes an attempt of an account's delivery from that source offset.
func (a *AttemptsLog) Add(account string, offset int64, detail string) {
	r := newUnsettled(&entry{}, &flow{}, 0, time.Now())
	a.records = append(a.records, r)
	d := dispatcher.Delivery{ID: "msg_" + strconv.FormatInt(offset, 10), Account: account, Event: event.SMSFailed, Origin: dispatcher.Origin{Topic: "email", Partition: 3, Offset: offset}}
	a.l.add(r, &d, &dispatcher.Outcome{Detail: detail}, time.Now())
}

// Held is how many of them hold back a commit.
func (a *AttemptsLog) Held() (n int) {
	for _, r := range a.records {
		if r.pending.Load() > 1 { // one is the reader's
			n++
		}
	}
	return n
}

// Lost is how many were given up.
func (a *AttemptsLog) Lost() int {
	var m dto.Metric
	_ = a.lost.Write(&m)
	return int(m.GetCounter().GetValue())
}

// WatchIgnored is what Run does with a longer interval.
func (c *Consumer) WatchIgnored(ctx context.Context, every time.Duration) {
	newIgnoredWatch().run(ctx, every, c.metrics.counts, c.log)
}

// IgnoredWatch looks at sources one after the other.
type IgnoredWatch struct{ w *ignoredWatch }

func NewIgnoredWatch() *IgnoredWatch { return &IgnoredWatch{newIgnoredWatch()} }

// Look is told how many records of the source were events, ignored and unmatched in all.
func (w *IgnoredWatch) Look(source string, events, ignored, unmatched uint64) uint64 {
	return w.w.look(source, [recordResults]uint64{recordEvent: events, recordIgnored: ignored, recordUnmatched: unmatched})
}
