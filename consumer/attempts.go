package consumer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go/compress"
	"github.com/segmentio/kafka-go/compress/snappy"
	"go.uber.org/zap"

	"fanout/dispatcher"
	"fanout/topic"
	"fanout/topic/wire"
)

// How attempts records are written, and how long they may hold back what they tell of (docs/contract.md#unwritten-attempts).
const (
	attemptsLinger     = 50 * time.Millisecond // records that come up within it are one batch; far less than a commit's interval
	attemptsPatience   = 10 * time.Second      // after which a record that is not acknowledged is given up
	attemptsTry        = 3 * time.Second       // of one partition, before the next is tried
	attemptsAvoid      = 5 * time.Second       // for how long a partition that failed is gone round
	attemptsRetry      = 250 * time.Millisecond
	attemptsMarks      = time.Second // between tries to mark what was given up
	attemptsBatchBytes = 512 << 10   // before they are compressed
	attemptsBytes      = 32 << 20    // of records that are not acknowledged; more are given up
	attemptsGaps       = 4096        // partitions of sources for which gaps are kept
)

// attemptsCodec compresses batches: it costs writers and readers least. Its default level takes 2.6 times as long, for 2 % fewer bytes of such
// records.
func attemptsCodec() compress.Codec { return &snappy.Codec{Compression: snappy.FasterCompression} }

// attemptsProducer is the cluster that attempts records are written to.
type attemptsProducer interface {
	// ProduceBatch returns when all in-sync replicas have the batch. After an error it may have been written all the same.
	ProduceBatch(ctx context.Context, p topic.Partition, batch []byte) (int64, error)
}

// attemptsLog writes attempts records off the path of deliveries: add packs a record, and a goroutine writes what has come up. An account's
// records go to one partition, as long as that can be written; then to the next that can. A record is acknowledged before the offset of what
// it tells of is committed, or given up on: then it is counted, and marked by a gap in the topic as soon as that can be written again.
type attemptsLog struct {
	log       attemptsProducer
	name      string
	encode    topic.AttemptWriter
	logger    *zap.Logger
	unwritten prometheus.Counter
	repair    func(ctx context.Context, name string)
	wake      chan struct{}
	sending   sync.WaitGroup
	scratch   sync.Pool // of *[]byte
	spare     sync.Pool // of *attemptsBatch that are empty, for their memory

	mu         sync.Mutex // guards all below
	partitions []attemptsPartition
	bytes      int  // of all that is not acknowledged
	down       bool // records have been given up, and are until the mark of that is written
	said       bool // that they are given up
	gaps       map[sourcePartition]offsetRange
}

// attemptsPartition holds the records that wait for one partition, which has one request under way at a time.
type attemptsPartition struct {
	queue []*attemptsBatch
	busy  bool
	avoid time.Time // it failed: until then others are tried before it
}

// attemptsBatch is a run of records, and what each of them holds back.
type attemptsBatch struct {
	began   time.Time
	packer  wire.Packer
	records []*unsettledRecord
	origins []dispatcher.Origin
	memory  []byte // for the batch as it is sent
}

// reset makes it empty, and keeps its memory.
func (b *attemptsBatch) reset() {
	b.packer.Reset()
	clear(b.records)
	clear(b.origins)
	b.records, b.origins = b.records[:0], b.origins[:0]
}

type sourcePartition struct {
	topic string
	id    int
}

// offsetRange has both ends in it.
type offsetRange struct{ from, to int64 }

func newAttemptsLog(log attemptsProducer, name string, encode topic.AttemptWriter, logger *zap.Logger, unwritten prometheus.Counter, repair func(context.Context, string)) *attemptsLog {
	return &attemptsLog{
		log: log, name: name, encode: encode, logger: logger, unwritten: unwritten, repair: repair,
		wake: make(chan struct{}, 1), gaps: make(map[sourcePartition]offsetRange),
		scratch: sync.Pool{New: func() any { return new([]byte) }}, spare: sync.Pool{New: func() any { return new(attemptsBatch) }},
	}
}

// resize says how many partitions the topic has; 0: it does not exist.
func (l *attemptsLog) resize(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.partitions) < n { // it never has fewer, unless it was made again: those that are gone fail, and are gone round
		l.partitions = append(l.partitions, attemptsPartition{})
	}
}

// add takes the record of what became of a delivery, which holds back r until it is written or given up. It never blocks for Kafka.
func (l *attemptsLog) add(r *unsettledRecord, d *dispatcher.Delivery, out *dispatcher.Outcome, now time.Time) {
	scratch, _ := l.scratch.Get().(*[]byte)
	value := l.encode.Append((*scratch)[:0], d, out, now)
	kept := l.pack(r, d, out, now, value)
	*scratch = value
	l.scratch.Put(scratch)
	if kept {
		l.stir()
	}
}

// pack says whether somebody must be told that there is something to write.
func (l *attemptsLog) pack(r *unsettledRecord, d *dispatcher.Delivery, out *dispatcher.Outcome, now time.Time, value []byte) (first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down || len(l.partitions) == 0 || l.bytes > attemptsBytes {
		l.gap(d.Origin)
		l.unwritten.Inc()
		return false
	}
	p := &l.partitions[topic.AccountPartition(d.Account, len(l.partitions))]
	if n := len(p.queue); n == 0 || p.queue[n-1].packer.Bytes() >= attemptsBatchBytes {
		b, _ := l.spare.Get().(*attemptsBatch)
		b.began = now
		p.queue = append(p.queue, b)
		first = true
	}
	b := p.queue[len(p.queue)-1]
	before := b.packer.Bytes()
	b.packer.Add(now.UnixMilli(), d.Account, value, [2]string{topic.HeaderWebhookID, d.ID}, [2]string{topic.HeaderOutcome, out.Result.String()})
	l.bytes += b.packer.Bytes() - before
	r.hold()
	b.records, b.origins = append(b.records, r), append(b.origins, d.Origin)
	return first
}

func (l *attemptsLog) stir() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run writes until ctx is done.
func (l *attemptsLog) run(ctx context.Context) {
	defer l.sending.Wait()
	marks := time.NewTicker(attemptsMarks)
	defer marks.Stop()
	for {
		select {
		case <-l.wake:
			if !topic.Sleep(ctx, attemptsLinger) {
				return
			}
			l.begin(ctx)
		case <-marks.C:
			if l.expire(time.Now()) {
				l.logLost(errAttemptsLate)
			}
			l.mark(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// begin sends a batch for each partition that has something and no request under way.
func (l *attemptsLog) begin(ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.partitions {
		p := &l.partitions[id]
		if p.busy || len(p.queue) == 0 {
			continue
		}
		b := p.queue[0]
		p.queue = p.queue[1:]
		p.busy = true
		l.sending.Go(func() { l.send(ctx, id, b) })
	}
}

// send writes a batch, to its own partition or another, or gives it up.
func (l *attemptsLog) send(ctx context.Context, home int, b *attemptsBatch) {
	packed, err := b.packer.Batch(b.memory, attemptsCodec())
	var failure error
	tries := 0
	deadline := b.began.Add(attemptsPatience)
	written := false
	for err == nil && !written && ctx.Err() == nil && time.Now().Before(deadline) {
		id := l.choose(home, time.Now())
		tries++
		failure = l.try(ctx, id, packed, deadline)
		if written = failure == nil; !written {
			l.failed(ctx, id, failure)
			topic.Sleep(ctx, min(attemptsRetry, time.Until(deadline)))
		}
	}
	if !written && ctx.Err() != nil {
		return // the process ends: the offsets that these records hold back are not committed either
	}
	if !written {
		l.logLost(cmp.Or(err, failure))
	}
	l.finish(home, b, written)
	l.stir()
	for _, r := range b.records {
		r.done()
	}
	if written && tries == 1 { // else a request that was given up on may still be read from its memory
		b.memory = packed
		b.reset()
		l.spare.Put(b)
	}
}

func (l *attemptsLog) try(ctx context.Context, id int, packed []byte, deadline time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, min(attemptsTry, time.Until(deadline)))
	defer cancel()
	_, err := l.log.ProduceBatch(ctx, topic.Partition{Topic: l.name, ID: id}, packed)
	return err
}

// choose is the partition to try: the batch's own, or the next after it that is not avoided.
func (l *attemptsLog) choose(home int, now time.Time) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	for n := range l.partitions {
		if id := (home + n) % len(l.partitions); !now.Before(l.partitions[id].avoid) {
			return id
		}
	}
	return home
}

// failed notes that a partition cannot be written.
func (l *attemptsLog) failed(ctx context.Context, id int, err error) {
	if ctx.Err() != nil {
		return
	}
	l.mu.Lock()
	known := time.Now().Before(l.partitions[id].avoid.Add(attemptsAvoid)) // it failed when it was last tried, too
	l.partitions[id].avoid = time.Now().Add(attemptsAvoid)
	l.mu.Unlock()
	if !known {
		l.logger.Warn("a partition of the attempts topic cannot be written; others are tried", zap.String("topic", l.name), zap.Int("partition", id), zap.Error(err))
	}
	if topic.NoTopic(err) {
		l.repair(ctx, l.name)
	}
}

// logLost says once that records are given up.
func (l *attemptsLog) logLost(err error) {
	l.mu.Lock()
	known := l.said
	l.said = true
	l.mu.Unlock()
	if !known {
		l.logger.Error("attempts records cannot be written; deliveries go on without them until they can, and audit cannot judge these", zap.String("topic", l.name), zap.Error(err))
	}
}

// finish takes a batch out of account.
func (l *attemptsLog) finish(home int, b *attemptsBatch, written bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partitions[home].busy = false
	l.drop(b, written)
}

// drop takes a batch out of account, and notes the gap that it leaves unless it was written. The lock is held.
func (l *attemptsLog) drop(b *attemptsBatch, written bool) {
	l.bytes -= b.packer.Bytes()
	if written {
		return
	}
	l.down = true
	l.unwritten.Add(float64(len(b.records)))
	for _, origin := range b.origins {
		l.gap(origin)
	}
}

// gap notes that the attempt of a delivery of that origin is missing. The lock is held.
func (l *attemptsLog) gap(origin dispatcher.Origin) {
	at := sourcePartition{origin.Topic, origin.Partition}
	known, ok := l.gaps[at]
	switch {
	case ok:
		l.gaps[at] = offsetRange{min(known.from, origin.Offset), max(known.to, origin.Offset)}
	case len(l.gaps) < attemptsGaps: // else audit says missing
		l.gaps[at] = offsetRange{origin.Offset, origin.Offset}
	}
}

var errAttemptsLate = errors.New("not acknowledged in time")

// expire gives up what waits behind a request that takes too long, and says whether there was any.
func (l *attemptsLog) expire(now time.Time) bool {
	var late []*attemptsBatch
	l.mu.Lock()
	for id := range l.partitions {
		p := &l.partitions[id]
		for len(p.queue) > 0 && now.Sub(p.queue[0].began) >= attemptsPatience {
			late = append(late, p.queue[0])
			p.queue = p.queue[1:]
		}
	}
	for _, b := range late {
		l.drop(b, false)
	}
	l.mu.Unlock()
	for _, b := range late {
		for _, r := range b.records {
			r.done()
		}
	}
	return len(late) > 0
}

// mark writes the marks of what was given up; attempts are written again when that has worked.
func (l *attemptsLog) mark(ctx context.Context) {
	l.mu.Lock()
	gaps := l.gaps
	if len(gaps) == 0 || len(l.partitions) == 0 {
		l.down = l.down && len(gaps) > 0
		l.mu.Unlock()
		return
	}
	l.gaps = make(map[sourcePartition]offsetRange)
	l.mu.Unlock()
	packed, err := l.marks(gaps).Batch(nil, attemptsCodec())
	if err == nil {
		id := l.choose(0, time.Now())
		if err = l.try(ctx, id, packed, time.Now().Add(attemptsMarks)); err != nil {
			l.failed(ctx, id, err) // and the next time another
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		if l.said {
			l.logger.Info("attempts records can be written again; what is missing has been marked", zap.String("topic", l.name))
		}
		l.down, l.said = false, false
		return
	}
	for at, missing := range gaps {
		l.gap(dispatcher.Origin{Topic: at.topic, Partition: at.id, Offset: missing.from})
		l.gap(dispatcher.Origin{Topic: at.topic, Partition: at.id, Offset: missing.to})
	}
}

func (l *attemptsLog) marks(gaps map[sourcePartition]offsetRange) *wire.Packer {
	p, now := new(wire.Packer), time.Now().UnixMilli()
	for at, missing := range gaps {
		value, err := json.Marshal(topic.AttemptsGap{
			Kind: topic.KindGap, Source: at.topic + "/" + strconv.Itoa(at.id), From: missing.from, To: missing.to, Time: now, Instance: l.encode.Instance,
		})
		if err == nil { // a struct of strings and numbers always can be encoded
			p.Add(now, "", value)
		}
	}
	return p
}

// close marks, in a short time, what was given up and is not marked yet, after all deliveries have ended.
func (l *attemptsLog) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, attemptsMarks)
	defer cancel()
	l.mark(ctx)
}
