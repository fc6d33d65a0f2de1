package consumer

import (
	"context"
	"sync"
	"sync/atomic"
)

// Bounds of what is read and not settled, the in-flight budgets (docs/contract.md, "in-flight budget"). What waits for receivers has
// tighter bounds, the lanes' own: these fill when retry or dead-letter records cannot be written.
const (
	maxUnsettled      = 50_000
	maxUnsettledBytes = 64 << 20
	maxReplays        = 256     // of them, from the replay topic: a replay leaves most to others
	maxReadAhead      = 1 << 18 // of one partition, records read beyond its first unsettled one
)

// budget bounds what this process has read and not settled, in records and in bytes.
type budget struct {
	maxRecords, maxBytes int64
	records, bytes       atomic.Int64

	mu       sync.Mutex    // guards capacity
	capacity chan struct{} // closed when there is some again
}

func newBudget(records, bytes int64) *budget {
	return &budget{maxRecords: records, maxBytes: bytes, capacity: make(chan struct{})}
}

func (b *budget) take(bytes int64) {
	b.records.Add(1)
	b.bytes.Add(bytes)
}

// grow notes that a record costs more than was known when it was taken.
func (b *budget) grow(bytes int64) { b.bytes.Add(bytes) }

func (b *budget) release(bytes int64) {
	records, left := b.records.Add(-1), b.bytes.Add(-bytes)
	if records == b.maxRecords-1 || left < b.maxBytes && left+bytes >= b.maxBytes {
		b.mu.Lock()
		close(b.capacity)
		b.capacity = make(chan struct{})
		b.mu.Unlock()
	}
}

func (b *budget) full() bool {
	return b.records.Load() >= b.maxRecords || b.bytes.Load() >= b.maxBytes
}

// WaitForCapacity returns when another record may be read, or with ctx's cause.
func (b *budget) WaitForCapacity(ctx context.Context) error {
	for b.full() {
		b.mu.Lock()
		capacity := b.capacity
		b.mu.Unlock()
		if !b.full() {
			return nil
		}
		select {
		case <-capacity:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
