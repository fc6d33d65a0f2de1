package consumer

import (
	"maps"
	"sync"

	"fanout/topic"
)

// layout is which topics a group has, how large they are, and which of their partitions are younger than this process.
type layout struct {
	mu      sync.Mutex // guards all below
	sizes   map[string]int
	initial map[string]int  // sizes when first looked; partitions beyond are younger than this process
	begun   map[string]bool // topics of which this process has seen the group to have an offset
}

// set tells which of the topics exist, and how large they are. changed says that the group is to share them again.
func (l *layout) set(sizes map[string]int) (changed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first := l.sizes == nil
	if first {
		l.initial = maps.Clone(sizes)
	}
	for name := range l.initial {
		if sizes[name] == 0 {
			l.initial[name] = 0 // deleted: all that it will hold is new
		}
	}
	changed = !first && !maps.Equal(l.sizes, sizes)
	l.sizes = sizes
	return changed
}

// topics are those that exist, with their sizes.
func (l *layout) topics() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.sizes)
}

// olderThanThis is how many of a topic's partitions, the first ones, existed before this process.
func (l *layout) olderThanThis(name string, size int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.begun[name] {
		return 0
	}
	return min(l.initial[name], size)
}

// remember notes that the group has had an offset of the partitions.
func (l *layout) remember(partitions []topic.Partition) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range partitions {
		l.begun[p.Topic] = true
	}
}
