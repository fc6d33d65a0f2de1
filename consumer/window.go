package consumer

import (
	"context"
	"sync"
	"sync/atomic"
)

// window bounds what this process has read and not settled, in records and in bytes. It is the last bound: what waits
// for receivers has tighter ones. It fills when retry or dead-letter records cannot be written.
type window struct {
	maxRecords, maxBytes int64
	records, bytes       atomic.Int64

	mu   sync.Mutex // guards room
	room chan struct{}
}

func newWindow(records, bytes int64) *window {
	return &window{maxRecords: records, maxBytes: bytes, room: make(chan struct{})}
}

func (w *window) take(bytes int64) {
	w.records.Add(1)
	w.bytes.Add(bytes)
}

func (w *window) release(bytes int64) {
	records, left := w.records.Add(-1), w.bytes.Add(-bytes)
	if records == w.maxRecords-1 || left < w.maxBytes && left+bytes >= w.maxBytes {
		w.mu.Lock()
		close(w.room)
		w.room = make(chan struct{})
		w.mu.Unlock()
	}
}

func (w *window) full() bool {
	return w.records.Load() >= w.maxRecords || w.bytes.Load() >= w.maxBytes
}

// wait returns when there is room.
func (w *window) wait(ctx context.Context) error {
	for w.full() {
		w.mu.Lock()
		room := w.room
		w.mu.Unlock()
		if !w.full() {
			return nil
		}
		select {
		case <-room:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
