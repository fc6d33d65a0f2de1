package consumer

import (
	"maps"

	"go.uber.org/zap"

	"fanout/topic"
)

// setSizes tells which of the group's topics exist, and how large they are. The group shares them again where they have grown.
func (g *group) setSizes(sizes map[string]int) {
	g.mu.Lock()
	first := g.sizes == nil
	if first {
		g.initial = maps.Clone(sizes)
	}
	for name := range g.initial {
		if sizes[name] == 0 {
			g.initial[name] = 0 // deleted: all that it will hold is new
		}
	}
	changed := !first && !maps.Equal(g.sizes, sizes)
	g.sizes = sizes
	g.mu.Unlock()
	if changed {
		g.log.Info("topics or partitions have changed; the group shares them again", zap.Any("partitions", sizes))
		g.membership.topicsChanged()
	}
}

// topics implements holdings.
func (g *group) topics() map[string]int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.sizes)
}

// olderThanThis is how many of a topic's partitions, the first ones, existed before this process.
func (g *group) olderThanThis(name string, size int) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.begun[name] {
		return 0
	}
	return min(g.initial[name], size)
}

// remember notes that the group has had an offset of the partitions.
func (g *group) remember(partitions []topic.Partition) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range partitions {
		g.begun[p.Topic] = true
	}
}
