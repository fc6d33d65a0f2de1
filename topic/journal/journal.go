// Package journal writes the events topic, from which the platform learns what happened to its customers' endpoints
// (docs/contract.md#endpoint-events).
//
// It promises never to hold anything up: whoever tells it something goes on at once, and what cannot be written within ten seconds is
// counted and given up. So no event is the reason that a delivery waits.
package journal

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
	"go.uber.org/zap"

	"fanout/topic"
)

// Bounds of what waits to be written.
const (
	patience = 10 * time.Second // after which an event is given up
	most     = 10_000           // events that wait
	batch    = 500              // events that one request writes
	pause    = 250 * time.Millisecond
	flushing = time.Second // at a stop
)

// Log is the cluster that the events are written to.
type Log interface {
	// PartitionCount asks how many partitions the topic has.
	PartitionCount(ctx context.Context, name string) (int, error)
	// Produce returns when all in-sync replicas have the records.
	Produce(ctx context.Context, p topic.Partition, records []kafka.Record) (int64, error)
}

// Journal writes what it is told, in the order of each endpoint as long as each partition can be written.
type Journal struct {
	log       Log
	topic     string
	logger    *zap.Logger
	unwritten prometheus.Counter
	wake      chan struct{}

	mu    sync.Mutex // guards queue
	queue []pending
}

// pending is an event that is not written yet.
type pending struct {
	key, value []byte
	told       time.Time
}

// New makes a Journal. Run writes it. A nil logger and a nil registerer work.
func New(log Log, name string, logger *zap.Logger, reg prometheus.Registerer) *Journal {
	if logger == nil {
		logger = zap.NewNop()
	}
	j := &Journal{
		log: log, topic: name, logger: logger, wake: make(chan struct{}, 1),
		unwritten: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fanout_events_unwritten_total", Help: "Endpoint events that could not be written to the events topic in time.",
		}),
	}
	if reg != nil {
		reg.MustRegister(j.unwritten)
	}
	return j
}

// Tell has the event written, at the time of now where it names none. It never blocks.
func (j *Journal) Tell(e topic.EndpointEvent) {
	now := time.Now()
	if e.Time == 0 {
		e.Time = now.UnixMilli()
	}
	if e.Actor == "" {
		e.Actor = topic.ActorFanout
	}
	e.Detail = topic.Clip(e.Detail, topic.MaxDetail)
	one := pending{told: now}
	one.key, one.value = e.Record()
	j.mu.Lock()
	full := len(j.queue) >= most
	if !full {
		j.queue = append(j.queue, one)
	}
	j.mu.Unlock()
	if full {
		j.unwritten.Inc()
		return
	}
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// Run writes until ctx is done, and for a second more what still waits then. It returns nil.
func (j *Journal) Run(ctx context.Context) error {
	failing := false
	for {
		select {
		case <-j.wake:
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushing)
			defer cancel()
			_ = j.write(last) // records that are left are counted
			j.giveUp(time.Now().Add(patience))
			return nil
		}
		err := j.write(ctx)
		if err == nil {
			failing = false
			continue
		}
		if ctx.Err() != nil {
			continue
		}
		if !failing {
			failing = true
			j.logger.Warn("endpoint events cannot be written; they are given up after ten seconds each", zap.String("topic", j.topic), zap.Error(err))
		}
		j.giveUp(time.Now())
		j.again(ctx)
	}
}

// again lets a moment pass, and has what waits tried again.
func (j *Journal) again(ctx context.Context) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// giveUp counts and forgets what has waited for too long.
func (j *Journal) giveUp(now time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := 0
	for n < len(j.queue) && now.Sub(j.queue[n].told) >= patience {
		n++
	}
	j.queue = j.queue[n:]
	j.unwritten.Add(float64(n))
}

// take removes the next events from the queue.
func (j *Journal) take() []pending {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := min(batch, len(j.queue))
	taken := j.queue[:n:n]
	j.queue = j.queue[n:]
	if len(j.queue) == 0 {
		j.queue = nil // let go of the array
	}
	return taken
}

// putBack puts events that were not written before what has come meanwhile.
func (j *Journal) putBack(list []pending) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.queue = append(list, j.queue...)
}

// write writes all that waits. What it could not write waits on.
func (j *Journal) write(ctx context.Context) error {
	for {
		list := j.take()
		if len(list) == 0 {
			return nil
		}
		left, err := j.produce(ctx, list)
		if err != nil {
			j.putBack(left)
			return err
		}
	}
}

// produce writes events, each to the partition of its key, or to the next one that can be written. It returns those that it could not
// write.
func (j *Journal) produce(ctx context.Context, list []pending) (left []pending, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	n, err := j.log.PartitionCount(ctx, j.topic)
	if err != nil {
		return list, err
	}
	ids := make([]int, n)
	for i := range ids {
		ids[i] = i
	}
	byPartition := make([][]pending, n)
	for _, one := range list {
		id := 0
		if len(one.key) > 0 {
			id = kafka.Murmur2Balancer{}.Balance(kafka.Message{Key: one.key}, ids...)
		}
		byPartition[id] = append(byPartition[id], one)
	}
	var errs []error
	for id, part := range byPartition {
		if len(part) == 0 {
			continue
		}
		if err := j.produceOne(ctx, id, n, part); err != nil {
			errs = append(errs, err)
			left = append(left, part...)
		}
	}
	return left, errors.Join(errs...)
}

// produceOne writes to the partition id of n; where it cannot be written, to the next one.
func (j *Journal) produceOne(ctx context.Context, id, n int, part []pending) (err error) {
	records := func() []kafka.Record { // reading a record's bytes uses them up
		list := make([]kafka.Record, len(part))
		for i, one := range part {
			list[i] = kafka.Record{Time: one.told, Key: kafka.NewBytes(one.key), Value: kafka.NewBytes(one.value)}
		}
		return list
	}
	for range min(n, 2) {
		if _, err = j.log.Produce(ctx, topic.Partition{Topic: j.topic, ID: id}, records()); err == nil || ctx.Err() != nil {
			return err
		}
		id = (id + 1) % n
	}
	return err
}
