package operate

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"fanout/topic"
)

// BacklogState is what is known of the retry topics.
type BacklogState struct {
	Backlogs map[string]*Backlog
	Read     time.Time // when; zero: never
	Problem  error     // why the last reading failed
}

// BacklogReader reads the retry topics beside all else: they may hold much, and Kafka may hang.
type BacklogReader struct {
	cluster  *topic.Cluster
	patience time.Duration

	mu   sync.Mutex // guards last
	last BacklogState
}

// NewBacklogReader makes a BacklogReader. A reading that makes no progress for patience is given up.
func NewBacklogReader(c *topic.Cluster, patience time.Duration) *BacklogReader {
	return &BacklogReader{cluster: c, patience: patience}
}

// backlogEvery is how long it waits between two readings.
const backlogEvery = 10 * time.Second

// errKafkaSilent ends a reading that gets nowhere.
var errKafkaSilent = errors.New("no answer from Kafka")

// Run reads again and again until ctx is done.
func (b *BacklogReader) Run(ctx context.Context) {
	for ctx.Err() == nil {
		b.Read(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(backlogEvery):
		}
	}
}

// Read reads once. Where that fails, what was read before stays.
func (b *BacklogReader) Read(ctx context.Context) {
	reading, cancel := context.WithCancelCause(ctx)
	var done atomic.Int64
	var watching sync.WaitGroup
	watching.Go(func() { b.watch(reading, &done, cancel) })
	backlogs, err := findBacklogs(reading, b.cluster, &done, nil)
	if errors.Is(context.Cause(reading), errKafkaSilent) {
		err = errKafkaSilent
	}
	cancel(nil)
	watching.Wait()
	if ctx.Err() != nil {
		return // it was interrupted
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last.Problem = err; err == nil {
		b.last.Backlogs, b.last.Read = backlogs, time.Now()
	}
}

// watch cancels a reading that makes no progress.
func (b *BacklogReader) watch(ctx context.Context, done *atomic.Int64, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(b.patience)
	defer tick.Stop()
	for before := int64(0); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := done.Load()
		if now == before {
			cancel(errKafkaSilent)
			return
		}
		before = now
	}
}

// State is what is known so far.
func (b *BacklogReader) State() BacklogState {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last
}
