package consumer

import (
	"bytes"
	"context"
	"hash/fnv"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"fanout/dispatcher"
	"fanout/topic"
)

// What is made of offsets that were lost.
const (
	lostAfter  = time.Hour        // a record of ours that is older shows that the group has had the partition before
	lostMargin = 10 * time.Minute // what becomes too old while the attempts topic is read is looked for too
	lostTries  = 3                // to read the attempts topic: nothing waits for it for long
	maxLost    = 500_000          // deliveries that are looked for there at a time; the others count as not known
)

// lostOffsets finds out what became of deliveries that lie in retry and replay partitions whose committed offsets were lost
// (docs/contract.md#lost-offsets). There is one for all partitions that a member is given at once, so that the attempts topic is read once.
type lostOffsets struct {
	cluster *topic.Cluster
	log     *zap.Logger
	looked  sync.WaitGroup // partitions that are still looked through
	known   chan struct{}  // closed when delivered says all that it ever will
	taken   atomic.Int64   // deliveries that are looked for, of partitions that may turn out not to be lost

	mu         sync.Mutex // guards all below until known is closed
	partitions int
	records    int                   // in them, which are too old to be sent
	oldest     time.Time             // of these
	delivered  map[lostKey]time.Time // those too old, and when each was last seen to be delivered; zero: it was not
}

// lostKey stands for a webhook-id and the name of a replay, if there is one. Two of them never meet, as far as anybody lives to see.
type lostKey [16]byte

func lostKeyOf(id, replay string) (k lostKey) {
	hash := fnv.New128a()
	_, _ = hash.Write([]byte(id)) // a hash takes everything
	_, _ = hash.Write([]byte{0})
	_, _ = hash.Write([]byte(replay))
	hash.Sum(k[:0])
	return k
}

// newLostOffsets is for so many partitions, each of which is to be looked through.
func newLostOffsets(cluster *topic.Cluster, partitions int, log *zap.Logger) *lostOffsets {
	l := &lostOffsets{cluster: cluster, log: log, known: make(chan struct{}), delivered: make(map[lostKey]time.Time)}
	l.looked.Add(partitions)
	return l
}

// run reads the attempts topic once all partitions have been looked through, where any of them asks for it.
func (l *lostOffsets) run(ctx context.Context) {
	defer close(l.known)
	l.looked.Wait()
	if l.partitions == 0 {
		return
	}
	var err error
	for try := range lostTries {
		if err = l.read(ctx); err == nil || !topic.Sleep(ctx, time.Duration(try+1)*failPause) {
			break
		}
	}
	l.tell(err)
}

// read takes in which of the deliveries were delivered, and when.
func (l *lostOffsets) read(ctx context.Context) error {
	name := l.cluster.Config().Names().Attempts
	if len(l.delivered) == 0 {
		return nil
	}
	ranges, err := l.cluster.Ranges(ctx, name, l.oldest.Add(-topic.ClockSlack))
	if topic.NoTopic(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return l.cluster.Scan(ctx, name, ranges, nil, func(m *topic.Record) error {
		if m.Header(topic.HeaderOutcome) != dispatcher.Delivered.String() {
			return nil
		}
		key := lostKeyOf(m.Header(topic.HeaderWebhookID), replayOf(m.Value))
		l.mu.Lock()
		defer l.mu.Unlock()
		if before, asked := l.delivered[key]; asked && m.Time.After(before) {
			l.delivered[key] = m.Time
		}
		return nil
	})
}

// replayOf is the name of the replay in an attempt's record. The JSON of those that have none, which are most, is not parsed.
func replayOf(value []byte) string {
	if !bytes.Contains(value, []byte(`"replay":`)) {
		return ""
	}
	a, _ := topic.ParseAttempt(value)
	return a.Replay
}

// tell says once what the operator has to know.
func (l *lostOffsets) tell(err error) {
	delivered := 0
	for _, at := range l.delivered {
		if !at.IsZero() {
			delivered++
		}
	}
	fields := []zap.Field{
		zap.Int("partitions", l.partitions), zap.Int("too_old", l.records), zap.Int("deliveries", len(l.delivered)), zap.Int("delivered_since", delivered),
	}
	if err != nil {
		fields = append(fields, zap.NamedError("attempts_not_read", err))
	}
	l.log.Warn("the group's offsets of retry topics were lost: they expired while fanout was off (offsets.retention.minutes), or were deleted; "+
		"these partitions are read from their start: what is not too old is sent, perhaps again; of what is, that which was delivered since is passed over, and the rest becomes dead letters (expired)",
		fields...)
}

// lostPart is what of a partition without a committed offset is judged by what became of it.
type lostPart struct {
	of    *lostOffsets
	cfg   *topic.Config
	delay time.Duration
	now   time.Time

	ours    bool // the group has had the partition before: records that it wrote long ago lie there
	end     int64
	records int
	oldest  time.Time
	keys    map[lostKey]bool
}

func (l *lostOffsets) part(delay time.Duration, now time.Time) *lostPart {
	return &lostPart{of: l, cfg: l.cluster.Config(), delay: delay, now: now, keys: make(map[lostKey]bool)}
}

// look takes in a record of the partition.
func (p *lostPart) look(r *topic.Record) {
	group := r.Header(topic.HeaderGroup)
	if !p.cfg.Ours(group) {
		return
	}
	p.ours = p.ours || group == p.cfg.Kafka.Group && r.Time.UnixMilli() >= 0 && p.now.Sub(r.Time) > lostAfter
	firstSeen, err := topic.DecodeTime(r.Header(topic.HeaderFirstSeen))
	name, known := p.cfg.Catalogue.ParseAny(r.Header(topic.HeaderEvent))
	taken := r.Time.Add(p.delay)
	if taken.Before(p.now) {
		taken = p.now
	}
	if err != nil || !known || taken.Add(lostMargin).Sub(firstSeen) <= p.cfg.MaxAgeOf(name) {
		return
	}
	p.end = r.Offset + 1
	p.records++
	if p.oldest.IsZero() || r.Time.Before(p.oldest) {
		p.oldest = r.Time
	}
	key := lostKeyOf(r.Header(topic.HeaderWebhookID), topic.Clip(r.Header(topic.HeaderReplay), topic.MaxReplayName))
	if p.keys[key] {
		return
	}
	if p.of.taken.Add(1) > maxLost {
		p.of.taken.Add(-1)
		return
	}
	p.keys[key] = true
}

// forget gives up on what was looked at.
func (p *lostPart) forget() { p.of.taken.Add(-int64(len(p.keys))) }

// join enters the partition among those whose offsets were lost; false where the group sees it for the first time.
func (p *lostPart) join() bool {
	if !p.ours {
		p.forget()
		return false
	}
	l := p.of
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partitions++
	l.records += p.records
	if l.oldest.IsZero() || !p.oldest.IsZero() && p.oldest.Before(l.oldest) {
		l.oldest = p.oldest
	}
	for key := range p.keys {
		l.delivered[key] = time.Time{}
	}
	p.keys = nil
	return true
}

// await returns when it is known what became of the part's deliveries; false where ctx is done before.
func (l *lostOffsets) await(ctx context.Context, part *lostPart, looked func()) bool {
	lost := part.join()
	looked()
	if !lost || part.end == 0 {
		return true // at once: nothing in it is too old
	}
	select {
	case <-l.known:
		return true
	case <-ctx.Done():
		return false
	}
}

// judges says whether the record at the offset is one of those that are judged once they are too old.
func (p *lostPart) judges(offset int64) bool { return p != nil && offset < p.end }

// delivered says whether a delivery, whose record was appended at that time, is known to have succeeded since.
func (p *lostPart) delivered(d *dispatcher.Delivery, appended time.Time) bool {
	at := p.of.delivered[lostKeyOf(d.ID, d.Replay)]
	return !at.IsZero() && !at.Before(appended.Add(-topic.ClockSlack))
}
