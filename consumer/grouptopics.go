package consumer

import (
	"maps"
	"sync"

	"fanout/topic"
)

// groupTopics are the topics that a group has, how large they are, and which of their partitions are younger than this process.
type groupTopics struct {
	mu      sync.Mutex // guards all below
	sizes   map[string]int
	initial map[string]int  // sizes when first looked; partitions beyond are younger than this process
	begun   map[string]bool // topics of which this process has seen the group to have an offset
}

// set tells which of the topics exist, and how large they are. changed says that the group is to share them again.
func (t *groupTopics) set(sizes map[string]int) (changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	first := t.sizes == nil
	if first {
		t.initial = maps.Clone(sizes)
	}
	for name := range t.initial {
		if sizes[name] == 0 {
			t.initial[name] = 0 // deleted: all that it will hold is new
		}
	}
	changed = !first && !maps.Equal(t.sizes, sizes)
	t.sizes = sizes
	return changed
}

// all are those that exist, with their sizes.
func (t *groupTopics) all() map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.sizes)
}

// olderThanThis is how many of a topic's partitions, the first ones, existed before this process.
func (t *groupTopics) olderThanThis(name string, size int) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.begun[name] {
		return 0
	}
	return min(t.initial[name], size)
}

// remember notes that the group has had an offset of the partitions.
func (t *groupTopics) remember(partitions []topic.Partition) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range partitions {
		t.begun[p.Topic] = true
	}
}
