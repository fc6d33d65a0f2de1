package consumer

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.uber.org/zap"

	"fanout/topic"
)

// decide looks where the sources begin, before any of them is read.
func (c *Consumer) decide(ctx context.Context, sizes map[string]int) error {
	starts, err := c.cluster.Starts(ctx, sizes)
	if err != nil {
		return err
	}
	for i := range starts {
		if starts[i].Undecided() {
			starts[i].Oldest = c.cluster.Oldest(ctx, starts[i].Topic, starts[i].Partitions)
		}
	}
	unread, err := topic.Guard(c.cfg.Kafka.Group, starts)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.begun)
	for i := range starts {
		c.begun[starts[i].Topic] = starts[i].Begun
		c.metrics.unread.WithLabelValues(starts[i].Topic).Set(0)
	}
	clear(c.unread)
	for _, s := range unread {
		c.unread[s.Topic] = s
		c.metrics.unread.WithLabelValues(s.Topic).Set(1)
		c.log.Warn("source stays unread: it holds old records, and nobody has decided whether they are to be sent; set kafka.start, or start of the source, to earliest, latest or a time",
			zap.String("topic", s.Topic), zap.Int64("count", s.Records), zap.Time("oldest", s.Oldest))
	}
	return nil
}

// reconsider takes up the sources that stay unread and that have been decided about: another instance, with a start, has
// begun them, or they hold no history any more. sizes is the number of partitions by topic.
func (c *Consumer) reconsider(ctx context.Context, sizes map[string]int) {
	if len(c.unreadSources()) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 3*commitTimeout)
	defer cancel()
	starts, err := c.cluster.Starts(ctx, sizes)
	if err != nil {
		return // it is asked again
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range starts {
		before, unread := c.unread[s.Topic]
		switch {
		case !unread:
		case s.Undecided():
			s.Oldest = before.Oldest
			c.unread[s.Topic] = s
		default:
			delete(c.unread, s.Topic)
			c.metrics.unread.WithLabelValues(s.Topic).Set(0)
			c.log.Info("source is read from now on", zap.String("topic", s.Topic))
		}
	}
}

// begunTopics are the sources of which the group had an offset when this process looked first. The map is the caller's.
func (c *Consumer) begunTopics() map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.begun)
}

func (c *Consumer) isUnread(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, unread := c.unread[name]
	return unread
}

// unreadSources are the sources that stay unread, by topic.
func (c *Consumer) unreadSources() []topic.SourceStart {
	c.mu.Lock()
	defer c.mu.Unlock()
	unread := make([]topic.SourceStart, 0, len(c.unread))
	for _, s := range c.unread {
		unread = append(unread, s)
	}
	slices.SortFunc(unread, func(a, b topic.SourceStart) int { return strings.Compare(a.Topic, b.Topic) })
	return unread
}

// Detail says what is amiss although the consumer is ready: which sources stay unread and what to set, and which topics are not
// set up well. It is empty where all is well.
func (c *Consumer) Detail() string {
	var lines []string
	for _, s := range c.unreadSources() {
		lines = append(lines, fmt.Sprintf("source %s stays unread: it holds %s, and neither kafka.start nor its own start says whether they are to be sent", s.Topic, s.Holds()))
	}
	for _, detail := range []string{c.owned.detail(), c.strangers.detail(), c.open.detail()} {
		if detail != "" {
			lines = append(lines, detail)
		}
	}
	return strings.Join(lines, "; ")
}
