package consumer

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"fanout/topic"
)

// strangers keeps apart what another deployment has written to the same retry and replay topics (docs/contract.md#records-of-other-groups).
type strangers struct {
	cluster *topic.Cluster
	log     *zap.Logger
	pause   time.Duration // between looks at a partition that is held
	passed  *prometheus.CounterVec
	held    *prometheus.GaugeVec

	mu      sync.Mutex                 // guards all below
	said    map[string]time.Time       // groups whose records were passed over, and when that was last said
	orphans map[topic.Partition]string // partitions that are not read, and the group whose records they hold
}

// sayAgain is how often it is said of a group that its records are passed over; maxSaid bounds how many groups are remembered.
const (
	sayAgain = time.Minute
	maxSaid  = 64
)

func newStrangers(cluster *topic.Cluster, log *zap.Logger, reg prometheus.Registerer, pause time.Duration) *strangers {
	s := &strangers{
		cluster: cluster, log: log, pause: pause, said: make(map[string]time.Time), orphans: make(map[topic.Partition]string),
		passed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fanout_foreign_records_total", Help: "Records of another consumer group in the retry and replay topics, which are passed over.",
		}, []string{"topic"}),
		held: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fanout_foreign_partitions", Help: "Partitions of a topic that are not read, since they hold records of another group that has no members.",
		}, []string{"topic"}),
	}
	if reg != nil {
		reg.MustRegister(s.passed, s.held)
	}
	return s
}

// passesOver says whether a record is another group's, and counts it.
func (s *strangers) passesOver(r *topic.Record) bool {
	group := r.Header(topic.HeaderGroup)
	if s.cluster.Config().Ours(group) {
		return false
	}
	s.passed.WithLabelValues(r.Topic).Inc()
	group = topic.Clip(group, 200)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if last, known := s.said[group]; known && now.Sub(last) < sayAgain || !known && len(s.said) == maxSaid {
		return true
	}
	s.said[group] = now
	s.log.Warn("records of another consumer group are passed over: two deployments share these topics; give each its own topics.prefix, or name the group in kafka.former_groups",
		zap.String("group", group), zap.String("topic", r.Topic), zap.Int("partition", r.ID))
	return true
}

// clear waits until nothing keeps a partition that the group has no offset of from being read; false where ctx is done before. looked is
// called once the partition has been looked through, for lost, where the partitions meet that were given together.
func (s *strangers) clear(ctx context.Context, p *partition, lost *lostOffsets, looked func()) bool {
	defer s.release(p.Partition)
	var failures failures
	for ctx.Err() == nil {
		part := lost.part(p.delay, time.Now())
		group, err := s.cluster.Orphans(ctx, p.Partition, part.look)
		if err != nil || group != "" {
			part.forget()
		}
		switch {
		case ctx.Err() != nil:
		case err != nil:
			p.on(brokerFailed)
			if failures.add(err, 20) {
				s.log.Warn("reading fails; it is tried again", zap.String("topic", p.Topic), zap.Int("partition", p.ID), zap.Error(err), zap.Int("failures", failures.count))
			}
			topic.Sleep(ctx, min(time.Duration(failures.count)*failPause, failPauseMax))
		case group != "":
			p.on(ownerUnknown)
			s.hold(p.Partition, group)
			looked() // the others do not wait for it: once it is cleared it is on its own
			lost = newLostOffsets(s.cluster, 1, s.log)
			looked = func() {
				lost.looked.Done()
				lost.run(ctx)
			}
			topic.Sleep(ctx, s.pause)
		default:
			if !lost.await(ctx, part, looked) {
				return false
			}
			p.on(goesOn)
			p.release(part)
			return true
		}
	}
	return false
}

func (s *strangers) hold(p topic.Partition, group string) {
	s.mu.Lock()
	before := s.orphans[p]
	s.orphans[p] = group
	s.count()
	s.mu.Unlock()
	if before != group {
		s.log.Error("a partition is not read: it holds records of another consumer group, which has no members; name that group in kafka.former_groups if they are to be delivered, or start it",
			zap.String("group", group), zap.String("topic", p.Topic), zap.Int("partition", p.ID))
	}
}

func (s *strangers) release(p topic.Partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.orphans, p)
	s.count()
}

// count shows how many partitions are held. s.mu is held.
func (s *strangers) count() {
	s.held.Reset()
	for p := range s.orphans {
		s.held.WithLabelValues(p.Topic).Inc()
	}
}

// detail says which partitions are not read, and whose records are passed over.
func (s *strangers) detail() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	by := make(map[string][]string)
	for p, group := range s.orphans {
		by[group] = append(by[group], p.String())
	}
	var lines []string
	for _, group := range slices.Sorted(maps.Keys(by)) {
		slices.Sort(by[group])
		lines = append(lines, fmt.Sprintf("%s not read: records of group %s, which has no members; name it in kafka.former_groups if they are to be delivered",
			strings.Join(by[group], ", "), group))
	}
	for _, group := range slices.Sorted(maps.Keys(s.said)) {
		if time.Since(s.said[group]) < 2*sayAgain {
			lines = append(lines, "records of group "+group+" are passed over")
		}
	}
	return strings.Join(lines, "; ")
}
