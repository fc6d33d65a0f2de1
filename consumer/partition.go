package consumer

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"go.uber.org/zap"

	"fanout/consumer/registry"
	"fanout/dispatcher"
	"fanout/event"
)

// maxOpen bounds how far reading may run ahead of the first unsettled record of a partition. What is settled behind it
// costs a few bytes; what a crash repeats is bounded by the commit's metadata.
const maxOpen = 1 << 18

// partition reads one assigned partition, for as long as the assignment lives.
type partition struct {
	c       *Consumer
	g       *group
	topic   string
	id      int
	stage   dispatcher.Stage
	decoder *event.Decoder     // of a source topic
	schemas *registry.Registry // of a source topic whose values carry a schema's id
	delay   time.Duration      // of a retry topic
	bare    bool               // the broker takes no metadata; the session's own

	mu        sync.Mutex // guards all below
	ledger    *ledger
	skip      []span // settled above the committed offset, says its metadata
	committed int64  // -1: none yet
	metadata  string
	end       int64     // nothing to read at or beyond it, when last asked
	fetched   time.Time // when it was last asked by reading
	waiting   bool      // what comes next is not due yet
	failing   bool      // the broker does not answer
	asking    bool      // the schema registry does not answer
	gone      bool      // it was deleted with its topic, it seems: nothing is read or committed until reborn has looked
	lastRead  time.Time // timestamp of the last record that was read
	progress  time.Time // when something was last seen to be settled, or nothing to wait
	seen      kafka.OffsetCommit
	began     int64 // where this session began to read
}

func (p *partition) String() string { return partitionName(p.topic, p.id) }

func partitionName(topic string, id int) string { return topic + "/" + strconv.Itoa(id) }

// commitment is what should be committed now; false where that has been done, unless always is set.
func (p *partition) commitment(always bool) (kafka.OffsetCommit, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := kafka.OffsetCommit{Partition: p.id, Offset: p.ledger.committable()}
	if !p.bare {
		now.Metadata = p.ledger.metadata(p.skip)
	}
	if now != p.seen {
		p.seen, p.progress = now, time.Now()
	}
	if p.gone { // the offset may be that of a topic which is no more
		return now, false
	}
	return now, always || now.Offset != p.committed || now.Metadata != p.metadata
}

// commitTaken notes that the group's coordinator has taken what commitment said.
func (p *partition) commitTaken(sent kafka.OffsetCommit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.committed, p.metadata = sent.Offset, sent.Metadata
}

// idleness is what a partition's session asks of it.
type idleness struct {
	since time.Duration // for how long there has been something to do and nothing was settled
	open  bool          // records have been read and are not settled
	moved bool          // something has been settled since the session began, or nothing is to be done
}

// idle says whether the partition gets on. A record that cannot be written (blocked), a broker that does not answer and
// a due time are waited for: that is not idleness.
func (p *partition) idle(now time.Time, blocked bool) idleness {
	lag, _ := p.lag(now)
	p.mu.Lock()
	defer p.mu.Unlock()
	open := p.ledger.open() > 0
	if lag == 0 || blocked || p.failing || (p.waiting || p.asking) && !open {
		p.progress = now
	}
	return idleness{since: max(0, now.Sub(p.progress)), open: open, moved: lag == 0 || p.seen.Offset > p.began}
}

// run reads until ctx is done.
func (p *partition) run(ctx context.Context) {
	log := p.c.log.With(zap.String("topic", p.topic), zap.Int("partition", p.id))
	failures := 0
	for ctx.Err() == nil {
		if err := p.room(ctx); err != nil {
			return
		}
		p.mu.Lock()
		offset, gone, quiet := p.ledger.next, p.gone, time.Since(p.fetched)
		p.mu.Unlock()
		f, err := p.read(ctx, offset, gone, quiet)
		if errors.Is(err, kafka.OffsetOutOfRange) {
			f, err = fetched{end: -1}, p.outOfRange(ctx, offset)
		}
		if ctx.Err() != nil {
			return
		}
		p.mu.Lock()
		p.failing = err != nil
		if errors.Is(err, kafka.UnknownTopicOrPartition) || errors.Is(err, protocol.ErrNoTopic) || errors.Is(err, protocol.ErrNoPartition) {
			p.fetched = time.Time{} // the next time it is asked what became of it
		}
		p.mu.Unlock()
		if err == nil {
			failures = 0
			p.handleAll(ctx, &f)
			continue
		}
		if failures++; failures == 1 || failures%20 == 0 {
			log.Warn("reading fails; it is tried again", zap.Error(err), zap.Int("failures", failures))
		}
		wait := min(time.Duration(failures)*100*time.Millisecond, time.Second)
		if errors.Is(err, errInflated) {
			wait = inflatedPause
		}
		sleep(ctx, wait)
	}
}

// read reads from the offset on, or finds out what became of a partition that is gone. After a while without a fetch it
// asks whether it is: what is read of another topic at the old offset would be read once more.
func (p *partition) read(ctx context.Context, offset int64, gone bool, quiet time.Duration) (fetched, error) {
	if !gone && quiet > 2*fetchWait {
		at, err := p.g.committed(ctx, map[string][]int{p.topic: {p.id}})
		gone = err == nil && p.forget(at[p.String()]) // else the next commit asks
	}
	if gone {
		return fetched{end: -1}, p.reborn(ctx)
	}
	return p.g.fetcher.fetch(ctx, p.topic, p.id, offset)
}

// room waits until more may be read: not while a record cannot be written, and not more than the bounds allow.
func (p *partition) room(ctx context.Context) error {
	for p.c.writer.blocked() || p.openEntries() >= maxOpen {
		if !sleep(ctx, 20*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
	if err := p.c.window.wait(ctx); err != nil {
		return err
	}
	if p.stage == dispatcher.StageReplay {
		if err := p.c.replays.wait(ctx); err != nil {
			return err
		}
	}
	return p.c.dispatcher.Room(ctx)
}

func (p *partition) openEntries() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ledger.committable()
	return p.ledger.open()
}

func (p *partition) handleAll(ctx context.Context, f *fetched) {
	p.mu.Lock()
	if f.end >= 0 {
		p.end = f.end
	}
	p.fetched = time.Now()
	p.mu.Unlock()
	entries := make([]entry, len(f.messages))
	for i := range f.messages {
		m := &f.messages[i]
		if p.stage == dispatcher.StageRetry && !p.waitDue(ctx, m) || p.schemas != nil && !p.unframe(ctx, m) || p.room(ctx) != nil {
			return // it has not been tracked: whoever reads the partition next begins with it
		}
		p.handle(m, &entries[i])
	}
	p.mu.Lock()
	p.ledger.pass(f.next)
	p.mu.Unlock()
}

// waitDue waits until the record comes up: the tier's delay after it was appended. A timestamp that lies ahead, of
// another clock or a foreign writer, cannot hold it for longer than the delay from now.
func (p *partition) waitDue(ctx context.Context, m *message) bool {
	due, latest := m.due(p.delay), time.Now().Add(p.delay+tierSlack)
	if time.Until(due) <= 0 {
		return ctx.Err() == nil
	}
	p.setWaiting(true)
	defer p.setWaiting(false)
	for {
		wait := min(time.Until(due), time.Until(latest))
		if wait <= 0 {
			return ctx.Err() == nil
		}
		// Not all at once: the clock may be set, and a machine that sleeps stops the timer.
		if !sleep(ctx, min(wait, clockInterval)) {
			return false
		}
	}
}

// due is when the record comes up. Kafka has cut its time to milliseconds; and a fanout-not-before that lies just behind
// is waited for too, rather than in another round through a tier.
func (m *message) due(delay time.Duration) time.Time {
	due := m.time.Add(delay + time.Millisecond)
	if at, err := decodeTime(m.header(headerNotBefore)); err == nil && at.After(due) && at.Sub(due) <= tierSlack {
		return at.Add(time.Millisecond)
	}
	return due
}

// clockInterval is how soon a wait for a due time notices that the clock was set.
const clockInterval = 10 * time.Second

func (p *partition) setWaiting(waiting bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = waiting
}

func (p *partition) handle(m *message, e *entry) {
	e.offset = m.offset
	p.mu.Lock()
	if p.skipped(m.offset) {
		p.ledger.track(e)
		p.mu.Unlock()
		return
	}
	r := &record{entry: e, p: p, size: m.size(), time: m.time}
	p.lastRead = m.time
	r.pending.Store(1)
	e.record.Store(r)
	p.ledger.track(e)
	p.mu.Unlock()
	r.take()
	switch p.stage {
	case dispatcher.StageFirst:
		p.plan(r, m)
	case dispatcher.StageRetry, dispatcher.StageReplay:
		p.again(r, m)
	}
	r.done()
}

// skipped says whether the offset was settled before the partition came to this member. The partition is locked.
func (p *partition) skipped(offset int64) bool {
	for len(p.skip) > 0 && p.skip[0].to <= offset {
		p.skip = p.skip[1:]
	}
	return len(p.skip) > 0 && offset >= p.skip[0].from
}

// plan turns a source record into deliveries.
func (p *partition) plan(r *record, m *message) {
	if len(m.value) > p.c.cfg.MaxEventBytes {
		p.c.metrics.record(p.topic, recordMalformed)
		p.c.bury(r, m, fmt.Sprintf("it has %d bytes; max_event_bytes is %d", len(m.value), p.c.cfg.MaxEventBytes))
		return
	}
	ev, err := m.decode(p.decoder)
	switch {
	case errors.Is(err, event.ErrIgnored):
		p.c.metrics.record(p.topic, recordIgnored)
		return
	case err != nil:
		p.c.metrics.record(p.topic, recordMalformed)
		p.c.bury(r, m, err.Error())
		return
	}
	rec := dispatcher.Record{
		Origin:     dispatcher.Origin{Topic: m.topic, Partition: m.partition, Offset: m.offset},
		AppendedAt: m.time,
	}
	for i := range m.headers {
		switch h := &m.headers[i]; h.Key {
		case headerTraceParent:
			rec.TraceParent = traceValue(string(h.Value))
		case headerTraceState:
			rec.TraceState = traceValue(string(h.Value))
		}
	}
	r.deliveries = p.c.dispatcher.Plan(r.one[:0], &ev, &rec, time.Now())
	if len(r.deliveries) == 0 {
		p.c.metrics.record(p.topic, recordUnmatched)
		return
	}
	p.c.metrics.record(p.topic, recordEvent)
	r.grow(deliveryBytes * int64(len(r.deliveries)-1))
	p.submit(r)
}

// again takes up a delivery from a retry or the replay topic.
func (p *partition) again(r *record, m *message) {
	d, err := decodeDelivery(m, p.stage)
	if most := p.c.cfg.largestBody(); err == nil && len(m.value) > most {
		err = fmt.Errorf("it has %d bytes; at most %d are taken", len(m.value), most)
	}
	if err != nil {
		p.c.metrics.record(p.topic, recordMalformed)
		p.c.bury(r, m, "no delivery of fanout's: "+err.Error())
		return
	}
	if now := time.Now(); d.FirstSeen.After(now) {
		d.FirstSeen = now // of another clock, or a foreign writer: it would never become too old
	}
	r.deliveries = append(r.one[:0], d)
	p.submit(r)
}

func (p *partition) submit(r *record) {
	p.c.metrics.planned(p.stage, len(r.deliveries))
	r.pending.Add(int32(len(r.deliveries)))
	for i := range r.deliveries {
		d := &r.deliveries[i]
		d.Settler = r
		if time.Until(d.NotBefore) > 0 && time.Since(d.FirstSeen) <= p.c.cfg.maxAge(d.Event) {
			p.c.settleEarly(r, d)
			continue
		}
		p.c.dispatcher.Submit(d)
	}
}

// settleEarly sends a delivery, that came up before its time, to a tier again.
func (c *Consumer) settleEarly(r *record, d *dispatcher.Delivery) {
	reason := d.Last.Reason
	switch reason {
	case dispatcher.QueueFull, dispatcher.Parked, dispatcher.Paused, dispatcher.Rate, dispatcher.Shutdown:
	default:
		reason = dispatcher.RetryAfter
	}
	r.Settle(d, dispatcher.Outcome{
		Result: dispatcher.Deferred, Reason: reason, Status: d.Last.Status, Detail: d.Last.Detail, NotBefore: d.NotBefore,
		LaneWait: reason == dispatcher.Parked || reason == dispatcher.Paused,
	})
}

// outOfRange finds where to read on when the offset lies outside of the log. What is missing is counted and said.
func (p *partition) outOfRange(ctx context.Context, offset int64) error {
	first, last, err := p.g.logRange(ctx, p.topic, p.id)
	if err != nil {
		return err
	}
	if offset >= first && offset <= last { // a moment's state, of a leader that has just changed
		return fmt.Errorf("%s@%d: %w, and yet the log has %d to %d", p, offset, kafka.OffsetOutOfRange, first, last)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ledger.committable(); p.ledger.open() > 0 {
		return fmt.Errorf("%s@%d lies outside of the log (%d to %d); reading goes on when what was read is settled", p, offset, first, last)
	}
	lost := first - offset
	why := "records were deleted before they were read: retention is shorter than the lag, or the topic was emptied"
	if offset > last {
		lost = offset - last
		why = "the log ends before the offset: it was truncated, or the topic re-created; it is read from its start"
	}
	p.gap(lost, offset, first, last, why)
	p.ledger = newLedger(first)
	p.skip = nil
	return nil
}

func (p *partition) gap(lost, offset, first, last int64, why string) {
	p.c.metrics.gap(p.topic, lost)
	p.c.log.Error("gap: offsets that should be there are not", zap.String("topic", p.topic), zap.Int("partition", p.id),
		zap.Int64("offset", offset), zap.Int64("log_start", first), zap.Int64("log_end", last), zap.Int64("offsets", lost), zap.String("why", why))
}

// forget notes that the partition is gone where the group has no offset of it although one was committed: with a topic
// its groups' offsets are deleted.
func (p *partition) forget(at kafka.OffsetFetchPartition) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.committed >= 0 && at.CommittedOffset < 0 {
		p.gone = true
	}
	return p.gone
}

// reborn finds out what became of a partition that may be gone. Where the group's offset is forgotten, this is another
// topic of that name, and is read from its start. It may have more records by now than were read of the old one, so the
// offset alone does not tell.
func (p *partition) reborn(ctx context.Context) error {
	first, last, err := p.g.logRange(ctx, p.topic, p.id)
	if err != nil {
		return err
	}
	at, err := p.g.committed(ctx, map[string][]int{p.topic: {p.id}})
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if at[p.String()].CommittedOffset >= 0 {
		p.gone = false
		return nil
	}
	if p.ledger.committable(); p.ledger.open() > 0 {
		return fmt.Errorf("%s was created anew; reading goes on when what was read is settled", p)
	}
	offset := p.ledger.next
	// At least one: that the topic was replaced is to be seen, even if all of the old one is known to have been read.
	p.gap(max(1, p.end-offset), offset, first, last, "the topic was created anew; it is read from its start")
	p.ledger, p.skip, p.gone = newLedger(first), nil, false
	p.committed, p.metadata, p.end, p.began = -1, "", -1, first
	return nil
}

// sleep waits; false means that ctx was done before.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
