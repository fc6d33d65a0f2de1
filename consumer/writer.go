package consumer

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
	"go.uber.org/zap"

	"fanout/topic"
)

// outgoingRecord is a record to be written. acked is called once, when all in-sync replicas have it.
type outgoingRecord struct {
	topic     string
	key       []byte
	value     []byte
	headers   []topic.Header
	malformed bool // it may be cut when the broker refuses it as too large
	foreign   int  // of a malformed one, how many of the headers, the first ones, are its producer's
	full      int  // of a malformed one whose value has been cut already, what it was
	acked     func()
}

// Bounds of one produce request.
const (
	batchRecords = 1000
	batchBytes   = 900 << 10
)

// truncatedBytes is how much is kept of a record that the broker refuses as too large (docs/contract.md#truncated).
const truncatedBytes = 64 << 10

// writeTimeout is how long one produce request may take before it is made again.
const writeTimeout = 10 * time.Second

// writer writes retry, dead-letter and attempts records, acknowledged by all in-sync replicas. A record that cannot be written is
// tried again for as long as it takes, and failing says so meanwhile: nothing is passed over. What waits in it is bounded by whoever
// sends: the consumer's in-flight budget.
//
// Each topic has one request under way at a time, with all that came up during the one before; batches go round the
// partitions, since no order is promised and one failing subscription would else fill one partition.
type writer struct {
	log    producer
	logger *zap.Logger
	repair func(ctx context.Context, name string) // tries to bring back a topic that was deleted

	failingTopics atomic.Int32

	mu     sync.Mutex // guards topics and each topic's queue
	topics map[string]*topicWriter
	group  sync.WaitGroup
	ctx    context.Context //nolint:containedctx // bounds the topics' goroutines, which send starts; see run
}

// topicWriter writes one topic's records.
type topicWriter struct {
	w       *writer
	name    string
	queue   []outgoingRecord // guarded by w.mu
	wake    chan struct{}
	next    int // partition of the next batch
	count   int // of partitions, when last asked
	asked   time.Time
	failing bool
}

// producer is the cluster that records are written to.
type producer interface {
	// PartitionCount asks how many partitions the topic has.
	PartitionCount(ctx context.Context, name string) (int, error)
	// Produce returns when all in-sync replicas have the records. After an error they may have been written all the same.
	Produce(ctx context.Context, p topic.Partition, records []kafka.Record) (int64, error)
}

// newWriter makes a writer that works until ctx is done. Records that still wait then are given up: they were never acknowledged,
// so the record it came from is not committed either.
func newWriter(ctx context.Context, log producer, logger *zap.Logger, repair func(context.Context, string)) *writer {
	return &writer{ctx: ctx, log: log, logger: logger, repair: repair, topics: make(map[string]*topicWriter)}
}

// failing says that a record could not be written and is being tried again: nothing more should be read.
func (w *writer) failing() bool { return w.failingTopics.Load() > 0 }

// send implements outbox.
func (w *writer) send(o outgoingRecord) {
	w.mu.Lock()
	t := w.topics[o.topic]
	if t == nil {
		t = &topicWriter{w: w, name: o.topic, wake: make(chan struct{}, 1)}
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
func (t *topicWriter) take() []outgoingRecord {
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

func (o *outgoingRecord) size() int {
	n := len(o.key) + len(o.value) + 64
	for _, h := range o.headers {
		n += len(h.Key) + len(h.Value)
	}
	return n
}

// write writes the batch however long it takes; false means that the writer ended before.
func (t *topicWriter) write(batch []outgoingRecord) bool {
	backoff := 50 * time.Millisecond
	var failures failures
	for {
		err := t.produce(batch)
		switch {
		case err == nil:
			t.succeeded()
			for i := range batch {
				batch[i].acked()
			}
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
		if failures.add(err, 1) {
			t.failed(err)
		}
		if topic.NoTopic(err) {
			t.w.repair(t.w.ctx, t.name)
		}
		if !topic.Sleep(t.w.ctx, backoff) {
			return false
		}
		backoff = min(2*backoff, 2*time.Second) // and on another partition, which may have a leader
	}
}

// cut shortens a malformed record to what is surely taken; false where it has been cut already, or must be whole. Of the
// producer's own headers those are kept that fit into as much again, so that a record of nothing but headers cannot
// stop reading for ever either.
func (o *outgoingRecord) cut() bool {
	if !o.malformed {
		return false
	}
	o.malformed = false
	foreign := o.headers[:o.foreign]
	headers := make([]topic.Header, 0, len(o.headers)-len(foreign)+16)
	left := truncatedBytes
	for _, h := range foreign {
		if size := len(h.Key) + len(h.Value) + 16; size <= left {
			left -= size
			headers = append(headers, h)
		}
	}
	o.headers = append(append(headers, o.headers[o.foreign:]...), header(topic.HeaderTruncated, strconv.Itoa(max(o.full, len(o.value)))))
	o.value = o.value[:min(len(o.value), truncatedBytes)]
	o.key = o.key[:min(len(o.key), truncatedBytes)]
	return true
}

func (t *topicWriter) failed(err error) {
	if !t.failing {
		t.failing = true
		t.w.failingTopics.Add(1)
		t.w.logger.Error("a record cannot be written; reading stops until it can", zap.String("topic", t.name), zap.Error(err))
	}
}

func (t *topicWriter) succeeded() {
	if t.failing {
		t.failing = false
		t.w.failingTopics.Add(-1)
		t.w.logger.Info("records can be written again", zap.String("topic", t.name))
	}
}

func (t *topicWriter) produce(batch []outgoingRecord) error {
	ctx, cancel := context.WithTimeout(t.w.ctx, writeTimeout)
	defer cancel()
	if t.count == 0 || t.failing || time.Since(t.asked) > time.Minute {
		n, err := t.w.log.PartitionCount(ctx, t.name)
		if err != nil {
			return err
		}
		t.count, t.asked = n, time.Now()
	}
	records := make([]kafka.Record, len(batch))
	now := time.Now()
	for i := range batch {
		records[i] = kafka.Record{Time: now, Key: kafka.NewBytes(batch[i].key), Value: kafka.NewBytes(batch[i].value), Headers: batch[i].headers}
	}
	id := t.next % t.count
	t.next = id + 1
	_, err := t.w.log.Produce(ctx, topic.Partition{Topic: t.name, ID: id}, records)
	return err
}
