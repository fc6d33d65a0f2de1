package dispatcher

import (
	"bytes"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// watchers are told of every outcome. While there are none, that costs one load.
type watchers struct {
	mu   sync.Mutex // taken to change list
	list atomic.Pointer[[]*Watcher]
}

// Watcher sees every outcome, as it happens. Close it.
type Watcher struct {
	of      *watchers
	keep    func(*Delivery, *Outcome) bool
	events  chan Attempt
	dropped atomic.Uint64
}

// watch is Dispatcher.Watch.
func (ws *watchers) watch(buffer int, keep func(*Delivery, *Outcome) bool) *Watcher {
	w := &Watcher{of: ws, keep: keep, events: make(chan Attempt, max(buffer, 1))}
	ws.change(func(list []*Watcher) []*Watcher { return append(list, w) })
	return w
}

// Events are the outcomes. The channel is never closed: what is told and closed at the same moment would panic.
func (w *Watcher) Events() <-chan Attempt { return w.events }

// Dropped counts the outcomes that found no room.
func (w *Watcher) Dropped() uint64 { return w.dropped.Load() }

// Close ends it. A few outcomes may still arrive.
func (w *Watcher) Close() {
	w.of.change(func(list []*Watcher) []*Watcher {
		return slices.DeleteFunc(list, func(other *Watcher) bool { return other == w })
	})
}

func (ws *watchers) change(f func([]*Watcher) []*Watcher) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	var list []*Watcher
	if was := ws.list.Load(); was != nil {
		list = slices.Clone(*was)
	}
	if list = f(list); len(list) == 0 {
		ws.list.Store(nil)
		return
	}
	ws.list.Store(&list)
}

func (ws *watchers) tell(del *Delivery, out *Outcome) {
	list := ws.list.Load()
	if list == nil {
		return
	}
	for _, w := range *list {
		if w.keep != nil && !w.keep(del, out) {
			continue
		}
		a := newAttempt(del, out, time.Now())
		a.Body = bytes.Clone(a.Body)
		select {
		case w.events <- a:
		default:
			w.dropped.Add(1)
		}
	}
}
