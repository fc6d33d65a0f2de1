package consumer

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"go.uber.org/zap"
)

// outgoing is a record to be written. acked is called once, when all in-sync replicas have it.
type outgoing struct {
	topic   string
	key     []byte
	value   []byte
	headers []kafka.Header
	raw     bool // a malformed record: it may be cut when the broker refuses it as too large
	foreign int  // how many of the headers, the first ones, are its producer's
	acked   func()
}

// Bounds of one produce request.
const (
	batchRecords = 1000
	batchBytes   = 900 << 10
)

// truncatedBytes is what is kept of a record that the broker refuses as too large (DESIGN.md section 2).
const truncatedBytes = 64 << 10

// writeTimeout is how long one produce request may take before it is made again.
const writeTimeout = 10 * time.Second

// writer writes retry, dead-letter, replay and attempt records, acknowledged by all in-sync replicas. A record that
// cannot be written is tried again for as long as it takes, and blocked says so meanwhile: nothing is passed over. What
// waits in it is bounded by whoever sends: the consumer's window.
//
// Each topic has one request under way at a time, with all that came up during the one before; batches go round the
// partitions, since no order is promised and one failing subscription would else fill one partition.
type writer struct {
	client *kafka.Client
	log    *zap.Logger
	mend   func(context.Context, string) // tries to bring back a topic that is gone

	blockedTopics atomic.Int32
	pending       atomic.Int64

	mu     sync.Mutex // guards topics and each topic's queue
	topics map[string]*topicWriter
	group  sync.WaitGroup
	ctx    context.Context //nolint:containedctx // bounds the topics' goroutines, which send starts; see run
}

type topicWriter struct {
	w     *writer
	topic string
	queue []outgoing
	wake  chan struct{}
	next  int // partition of the next batch
	count int // partitions, when last asked
	asked time.Time
	stuck bool
}

// newWriter makes a writer that works until ctx is done. What then still waits is given up: it was never acknowledged,
// so the record it came from is not committed either.
func newWriter(ctx context.Context, client *kafka.Client, log *zap.Logger, mend func(context.Context, string)) *writer {
	return &writer{ctx: ctx, client: client, log: log, mend: mend, topics: make(map[string]*topicWriter)}
}

// blocked says that a record could not be written and is being tried again: nothing more should be read.
func (w *writer) blocked() bool { return w.blockedTopics.Load() > 0 }

// send queues a record. It never blocks.
func (w *writer) send(o outgoing) {
	w.pending.Add(1)
	w.mu.Lock()
	t := w.topics[o.topic]
	if t == nil {
		t = &topicWriter{w: w, topic: o.topic, wake: make(chan struct{}, 1)}
		w.topics[o.topic] = t
		w.group.Go(t.run)
	}
	t.queue = append(t.queue, o)
	first := len(t.queue) == 1
	w.mu.Unlock()
	if first {
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
}

// wait returns when the topics' goroutines have ended, which they do when the writer's context is done.
func (w *writer) wait() { w.group.Wait() }

func (t *topicWriter) run() {
	for {
		batch := t.take()
		if batch == nil {
			select {
			case <-t.wake:
				continue
			case <-t.w.ctx.Done():
				return
			}
		}
		if !t.write(batch) {
			return
		}
	}
}

// take removes the next batch from the queue; nil where there is none.
func (t *topicWriter) take() []outgoing {
	t.w.mu.Lock()
	defer t.w.mu.Unlock()
	n, bytes := 0, 0
	for n < len(t.queue) && n < batchRecords {
		bytes += t.queue[n].size()
		if n > 0 && bytes > batchBytes {
			break
		}
		n++
	}
	if n == 0 {
		return nil
	}
	batch := t.queue[:n:n]
	t.queue = t.queue[n:]
	if len(t.queue) == 0 {
		t.queue = nil // let go of the array
	}
	return batch
}

func (o *outgoing) size() int {
	n := len(o.key) + len(o.value) + 64
	for _, h := range o.headers {
		n += len(h.Key) + len(h.Value)
	}
	return n
}

// write writes the batch however long it takes; false means that the writer ended before.
func (t *topicWriter) write(batch []outgoing) bool {
	backoff := 50 * time.Millisecond
	for {
		err := t.produce(batch)
		switch {
		case err == nil:
			t.unstick()
			for i := range batch {
				batch[i].acked()
			}
			t.w.pending.Add(int64(-len(batch)))
			return true
		case t.w.ctx.Err() != nil:
			return false
		case errors.Is(err, kafka.MessageSizeTooLarge) || errors.Is(err, kafka.RecordListTooLarge):
			if len(batch) > 1 {
				half := len(batch) / 2
				return t.write(batch[:half]) && t.write(batch[half:])
			}
			if batch[0].cut() {
				continue
			}
		}
		t.stick(err)
		if errors.Is(err, kafka.UnknownTopicOrPartition) || errors.Is(err, protocol.ErrNoTopic) {
			t.w.mend(t.w.ctx, t.topic)
		}
		if !sleep(t.w.ctx, backoff) {
			return false
		}
		backoff = min(2*backoff, 2*time.Second) // and on another partition, which may have a leader
	}
}

// cut shortens a malformed record to what is surely taken; false where it has been cut already, or must be whole. Of the
// producer's own headers those are kept that fit into as much again, so that a record of nothing but headers cannot
// stop reading for ever either.
func (o *outgoing) cut() bool {
	if !o.raw {
		return false
	}
	o.raw = false
	foreign := o.headers[:o.foreign]
	headers := make([]kafka.Header, 0, len(o.headers)-len(foreign)+16)
	room := truncatedBytes
	for _, h := range foreign {
		if size := len(h.Key) + len(h.Value) + 16; size <= room {
			room -= size
			headers = append(headers, h)
		}
	}
	o.headers = append(append(headers, o.headers[o.foreign:]...), kafka.Header{Key: headerTruncated, Value: []byte(strconv.Itoa(len(o.value)))})
	o.value = o.value[:min(len(o.value), truncatedBytes)]
	o.key = o.key[:min(len(o.key), truncatedBytes)]
	return true
}

func (t *topicWriter) stick(err error) {
	if !t.stuck {
		t.stuck = true
		t.w.blockedTopics.Add(1)
		t.w.log.Error("a record cannot be written; reading stops until it can", zap.String("topic", t.topic), zap.Error(err))
	}
}

func (t *topicWriter) unstick() {
	if t.stuck {
		t.stuck = false
		t.w.blockedTopics.Add(-1)
		t.w.log.Info("records can be written again", zap.String("topic", t.topic))
	}
}

func (t *topicWriter) produce(batch []outgoing) error {
	ctx, cancel := context.WithTimeout(t.w.ctx, writeTimeout)
	defer cancel()
	if t.count == 0 || t.stuck || time.Since(t.asked) > time.Minute {
		n, err := partitionCount(ctx, t.w.client, t.topic)
		if err == nil && n == 0 {
			err = kafka.LeaderNotAvailable
		}
		if err != nil {
			return err
		}
		t.count, t.asked = n, time.Now()
	}
	records := make([]kafka.Record, len(batch))
	now := time.Now()
	for i := range batch {
		records[i] = kafka.Record{Time: now, Key: bytesOrNull(batch[i].key), Value: bytesOrNull(batch[i].value), Headers: batch[i].headers}
	}
	partition := t.next % t.count
	t.next = partition + 1
	res, err := t.w.client.Produce(ctx, &kafka.ProduceRequest{
		Topic: t.topic, Partition: partition, RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(records...),
	})
	if err != nil {
		return err
	}
	return needs("Write", res.Error)
}

func bytesOrNull(b []byte) protocol.Bytes {
	if b == nil {
		return nil
	}
	return protocol.NewBytes(b)
}

// partitionCount asks how many partitions the topic has.
func partitionCount(ctx context.Context, client *kafka.Client, topic string) (int, error) {
	res, err := client.Metadata(ctx, &kafka.MetadataRequest{Addr: client.Addr, Topics: []string{topic}})
	if err != nil {
		return 0, err
	}
	for _, t := range res.Topics {
		if t.Name == topic {
			if t.Error != nil {
				return 0, needs("Describe on topic "+topic, t.Error)
			}
			return len(t.Partitions), nil
		}
	}
	return 0, kafka.UnknownTopicOrPartition
}
