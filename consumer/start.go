package consumer

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"fanout/topic"
)

// sourceStarts knows of each source whether it is decided where it begins.
type sourceStarts struct {
	cluster *topic.Cluster
	group   string
	log     *zap.Logger
	gauge   *prometheus.GaugeVec // by topic, 1 while it stays unread

	mu     sync.Mutex                   // guards all below
	begun  map[string]bool              // sources of which the group had an offset when this process looked first
	unread map[string]topic.SourceStart // sources that hold history which nobody has decided about
}

// decide looks where the sources begin, before any of them is read.
func (s *sourceStarts) decide(ctx context.Context, sizes map[string]int) error {
	starts, err := s.cluster.Starts(ctx, sizes)
	if err != nil {
		return err
	}
	for i := range starts {
		if starts[i].Undecided() {
			starts[i].Oldest = s.cluster.Oldest(ctx, starts[i].Topic, starts[i].Partitions)
		}
	}
	unread, err := topic.Guard(s.group, starts)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun, s.unread = make(map[string]bool), make(map[string]topic.SourceStart)
	for i := range starts {
		s.begun[starts[i].Topic] = starts[i].Begun
		s.gauge.WithLabelValues(starts[i].Topic).Set(0)
	}
	for _, u := range unread {
		s.unread[u.Topic] = u
		s.gauge.WithLabelValues(u.Topic).Set(1)
		s.log.Warn("source stays unread: it holds old records, and nobody has decided whether they are to be sent; set kafka.start, or start of the source, to earliest, latest or a time",
			zap.String("topic", u.Topic), zap.Int64("count", u.Records), zap.Time("oldest", u.Oldest))
	}
	return nil
}

// reconsider takes up the sources that stay unread and that have been decided about: another instance, with a start, has
// begun them, or they hold no history any more. sizes is the number of partitions by topic.
func (s *sourceStarts) reconsider(ctx context.Context, sizes map[string]int) {
	if len(s.list()) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 3*commitTimeout)
	defer cancel()
	starts, err := s.cluster.Starts(ctx, sizes)
	if err != nil {
		return // it is asked again
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, now := range starts {
		before, unread := s.unread[now.Topic]
		switch {
		case !unread:
		case now.Undecided():
			now.Oldest = before.Oldest
			s.unread[now.Topic] = now
		default:
			delete(s.unread, now.Topic)
			s.gauge.WithLabelValues(now.Topic).Set(0)
			s.log.Info("source is read from now on", zap.String("topic", now.Topic))
		}
	}
}

// begunTopics are the sources of which the group had an offset when this process looked first. The map is the caller's.
func (s *sourceStarts) begunTopics() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.begun)
}

// list returns the sources that stay unread, by topic.
func (s *sourceStarts) list() []topic.SourceStart {
	s.mu.Lock()
	defer s.mu.Unlock()
	unread := make([]topic.SourceStart, 0, len(s.unread))
	for _, source := range s.unread {
		unread = append(unread, source)
	}
	slices.SortFunc(unread, func(a, b topic.SourceStart) int { return strings.Compare(a.Topic, b.Topic) })
	return unread
}
