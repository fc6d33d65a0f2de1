package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"fanout/operate"
	"fanout/topic"
)

// backlogState is what is known of the retry topics.
type backlogState struct {
	backlogs map[string]*operate.Backlog
	read     time.Time // when; zero: never
	problem  error     // why the last reading failed
}

// backlogReader reads the retry topics beside all else: they may hold much, and Kafka may hang.
type backlogReader struct {
	admin    *topic.Cluster
	patience time.Duration // how long a reading may make no progress

	mu   sync.Mutex // guards last
	last backlogState
}

func newBacklogReader(admin *topic.Cluster) *backlogReader {
	return &backlogReader{admin: admin, patience: backlogPatience}
}

const (
	backlogEvery    = 10 * time.Second // between two readings
	backlogPatience = 10 * time.Second // without any progress
)

// errKafkaSilent ends a reading that gets nowhere.
var errKafkaSilent = errors.New("no answer from Kafka")

// run reads again and again until ctx is done.
func (b *backlogReader) run(ctx context.Context) {
	for ctx.Err() == nil {
		b.read(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(backlogEvery):
		}
	}
}

// read reads once. Where that fails, what was read before stays.
func (b *backlogReader) read(ctx context.Context) {
	reading, cancel := context.WithCancelCause(ctx)
	var done atomic.Int64
	var watching sync.WaitGroup
	watching.Go(func() { b.watch(reading, &done, cancel) })
	backlogs, err := operate.Backlogs(reading, b.admin, &done, nil)
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
	if b.last.problem = err; err == nil {
		b.last.backlogs, b.last.read = backlogs, time.Now()
	}
}

// watch cancels a reading that makes no progress.
func (b *backlogReader) watch(ctx context.Context, done *atomic.Int64, cancel context.CancelCauseFunc) {
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

// state is what is known so far.
func (b *backlogReader) state() backlogState {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last
}
