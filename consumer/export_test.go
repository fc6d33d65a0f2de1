package consumer

import (
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"fanout/dispatcher"
)

// Kill ends a running Consumer as kill -9 would, as far as Kafka can tell: nothing more is written or committed.
func (c *Consumer) Kill() { c.end() }

// Groups is how many consumer groups it is, or wants to be, a member of.
func (c *Consumer) Groups() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.groups)
}

// Ledger is a ledger whose entries are named by their offsets.
type Ledger struct {
	l       *ledger
	entries map[int64]*entry
	ahead   []span
}

func NewLedger(committed int64) *Ledger {
	return &Ledger{l: newLedger(committed), entries: make(map[int64]*entry)}
}

func (l *Ledger) Track(offset int64) {
	e := &entry{offset: offset}
	e.record.Store(&record{})
	l.entries[offset] = e
	l.l.track(e)
}

func (l *Ledger) Settle(offset int64) { l.entries[offset].record.Store(nil) }

func (l *Ledger) Pass(next int64) { l.l.pass(next) }

func (l *Ledger) Open() int { return l.l.open() }

// Commitment is what would be committed now.
func (l *Ledger) Commitment() (int64, string) { return l.l.committable(), l.l.metadata(l.ahead) }

// Resume makes a ledger of what was committed, as a member does that a partition is assigned to.
func Resume(committed int64, metadata string) *Ledger {
	l := NewLedger(committed)
	l.ahead = settledAbove(committed, metadata)
	return l
}

// SettledAbove reads a commit's metadata.
func SettledAbove(committed int64, metadata string) (spans [][2]int64) {
	for _, s := range settledAbove(committed, metadata) {
		spans = append(spans, [2]int64{s.from, s.to})
	}
	return spans
}

// Skipped says, for each offset in turn, whether a partition with that commit leaves it out.
func Skipped(committed int64, metadata string, offsets ...int64) (skipped []bool) {
	p := &partition{skip: settledAbove(committed, metadata)}
	for _, offset := range offsets {
		skipped = append(skipped, p.skipped(offset))
	}
	return skipped
}

// DecodeDelivery reads a retry record, EncodeDelivery writes its headers.
func DecodeDelivery(headers []kafka.Header, value []byte, at time.Time) (dispatcher.Delivery, error) {
	return decodeDelivery(&message{headers: headers, value: value, time: at}, dispatcher.StageRetry)
}

func EncodeDelivery(d *dispatcher.Delivery, out *dispatcher.Outcome, notBefore time.Time) []kafka.Header {
	return deliveryHeaders(d, out, notBefore)
}

// ReadDeadLetter reads a record of the dead-letter topic. replay is the headers of the record that a replay makes of it;
// nil where it is not usable.
func ReadDeadLetter(m *Message, name string) (d DeadLetter, replay []kafka.Header) {
	readDeadLetter(m, &d)
	if !usable(&d) {
		return d, nil
	}
	r := Replay{cfg: ReplayConfig{Name: name}}
	return d, r.record(&d, time.UnixMilli(1_700_000_000_000)).Headers
}

// Ladder is the retry topics of a schedule.
type Ladder struct{ l ladder }

func NewLadder(schedule []time.Duration, parkMin, parkMax time.Duration) Ladder {
	return Ladder{newLadder("fanout", schedule, parkMin, parkMax)}
}

func (l Ladder) Topics() []string                             { return l.l.topics() }
func (l Ladder) Within(d time.Duration) string                { return l.l.topic(l.l.within(d)) }
func (l Ladder) Covering(d time.Duration) string              { return l.l.topic(l.l.covering(d)) }
func (l Ladder) TierDelay(topic string) (time.Duration, bool) { return l.l.tierDelay(topic) }

// ReadBatches reads one answer of a broker, with the aborted transactions it lists as producer and first offset.
func ReadBatches(from int64, aborted map[int64][]int64, batches ...protocol.RecordReader) (offsets []int64, next int64, err error) {
	out := fetched{next: from}
	r := batchReader{topic: "t", from: from, aborted: aborted}
	err = r.readAll(&out, &protocol.RecordStream{Records: batches})
	for i := range out.messages {
		offsets = append(offsets, out.messages[i].offset)
	}
	return offsets, out.next, err
}

// Source is a source partition that is fed by hand.
type Source struct {
	p       *partition
	entries []entry
}

// NewSource makes a partition of a Consumer that does not run. What its records lead to must need no write.
func NewSource(c *Consumer, topic string, id int) (*Source, error) {
	decoders, err := decoders([]SourceConfig{{Topic: topic}})
	if err != nil {
		return nil, err
	}
	return &Source{p: &partition{c: c, topic: topic, id: id, decoder: decoders[topic], ledger: newLedger(0)}}, nil
}

// Handle takes the next record from fetched to planned and submitted.
func (s *Source) Handle(value []byte) {
	if len(s.entries) == 0 {
		s.entries = make([]entry, 1000)
		s.p.commitment(false)
	}
	m := message{topic: s.p.topic, partition: s.p.id, offset: s.p.ledger.next, time: time.Now(), value: value}
	s.p.handle(&m, &s.entries[0])
	s.entries = s.entries[1:]
}

// Committable is the offset that would be committed now.
func (s *Source) Committable() int64 {
	c, _ := s.p.commitment(true)
	return c.Offset
}

// LatestWaiting is where a trace says that a delivery waits which both records are about, in this order.
func LatestWaiting(first, then *Message, delay time.Duration) *Waiting {
	var tr Trace
	t := &tracer{cfg: TraceConfig{Want: func(string) *Trace { return &tr }}}
	for _, m := range []*Message{first, then} {
		_ = t.waiting(m, delay, nil) // it has no error of its own
	}
	return tr.Waiting
}
