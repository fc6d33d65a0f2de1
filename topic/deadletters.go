package topic

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// DeadLetters reads the dead-letter topic. It changes nothing.
type DeadLetters struct {
	cluster *Cluster
	name    string // of the topic
}

// DeadLetters of the configuration's dead-letter topic.
func (c *Cluster) DeadLetters() *DeadLetters {
	return &DeadLetters{cluster: c, name: c.cfg.Names().DeadLetter}
}

// ErrNoPartition says that a selection names a partition which the topic does not have.
var ErrNoPartition = errors.New("the dead-letter topic has no such partition")

// Ranges is what must be read to see all that the filter may select, as of now: what dies later is not in it. A topic
// that does not exist yet holds nothing.
func (l *DeadLetters) Ranges(ctx context.Context, f *Filter) (map[int]Range, error) {
	since := f.Since
	if !since.IsZero() {
		since = since.Add(-ClockSlack) // the filter looks at the time of death, Kafka at the record's timestamp
	}
	ranges, err := l.cluster.Ranges(ctx, l.name, since)
	if NoTopic(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, id := range f.Partitions {
		if _, ok := ranges[id]; !ok {
			return nil, fmt.Errorf("%w: %d (it has 0 to %d)", ErrNoPartition, id, len(ranges)-1)
		}
	}
	for id, r := range ranges {
		if len(f.Partitions) > 0 && !slices.Contains(f.Partitions, id) {
			delete(ranges, id)
			continue
		}
		if f.Offsets != nil {
			r.From, r.To = max(r.From, f.Offsets.From), min(r.To, f.Offsets.To)
			ranges[id] = r
		}
	}
	return ranges, nil
}

// Each calls f, from one goroutine a partition, with each dead letter in the ranges that the filter selects. The dead
// letter is good until f returns.
func (l *DeadLetters) Each(ctx context.Context, filter *Filter, ranges map[int]Range, done *atomic.Int64, f func(*DeadLetter) error) error {
	pool := sync.Pool{New: func() any { return new(DeadLetter) }}
	match := filter.Matcher()
	return l.cluster.Scan(ctx, l.name, ranges, done, func(r *Record) error {
		d, _ := pool.Get().(*DeadLetter)
		defer pool.Put(d)
		ReadDeadLetter(r, d)
		if !match(d) {
			return nil
		}
		return f(d)
	})
}

// Get reads one dead letter; nil where the offset holds none.
func (l *DeadLetters) Get(ctx context.Context, partition int, offset int64) (*DeadLetter, error) {
	r, err := l.cluster.readAt(ctx, l.name, partition, offset)
	if err != nil || r == nil {
		return nil, err
	}
	d := new(DeadLetter)
	ReadDeadLetter(r, d)
	return d, nil
}

// fewAtOnce is how many records of a partition are asked for one after the other; what is more is asked for beside that.
const fewAtOnce = 16

// At calls f, from one goroutine at a time, with the dead letters that lie at these offsets of partitions, in no order. Where an offset holds none
// that may be read, nothing is called. A dead letter is good until f returns. The offsets must lie within what Ranges tells: for others Kafka
// would have to be waited for.
func (l *DeadLetters) At(ctx context.Context, offsets map[int][]int64, f func(*DeadLetter)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var one sync.Mutex // calls f at a time
	var partitions sync.WaitGroup
	for id, wanted := range offsets {
		for chunk := range slices.Chunk(slices.Compact(slices.Sorted(slices.Values(wanted))), fewAtOnce) {
			partitions.Go(func() {
				few := few{fetcher: l.cluster.fetcherOfFew(Partition{Topic: l.name, ID: id}), wanted: chunk}
				if err := few.run(ctx, func(r *Record) {
					var d DeadLetter
					ReadDeadLetter(r, &d)
					one.Lock()
					defer one.Unlock()
					f(&d)
				}); err != nil {
					cancel(err)
				}
			})
		}
	}
	partitions.Wait()
	return context.Cause(ctx)
}

// ClockSlack is how far the clocks of producers, brokers and instances may be apart: what came of a record may bear a time a
// little before it.
const ClockSlack = time.Minute
