package consumer

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
	"go.uber.org/zap"

	"fanout/topic"
)

// ownedTopics knows which settings of the topics that fanout owns would lose records, and keeps the writer off those topics
// (docs/contract.md#checks-of-owned-topics).
type ownedTopics struct {
	cluster *topic.Cluster
	specs   []topic.Spec
	log     *zap.Logger
	metric  *prometheus.GaugeVec

	mu     sync.Mutex // guards all below
	flaws  map[string]topic.Flaw
	failed bool // the settings could not be read when last asked
}

func newOwnedTopics(cluster *topic.Cluster, log *zap.Logger, reg prometheus.Registerer) *ownedTopics {
	o := &ownedTopics{
		cluster: cluster, specs: cluster.Config().Owned(), log: log, flaws: make(map[string]topic.Flaw),
		metric: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fanout_topic_flaws", Help: "Settings of a topic that fanout owns which are not as it needs them; of severity error nothing is written to the topic.",
		}, []string{"topic", "severity"}),
	}
	if reg != nil {
		reg.MustRegister(o.metric)
	}
	return o
}

// ownedEvery is how many looks at the topics there are for each look at their settings: one a minute.
const ownedEvery = 12

// watch looks again and again until ctx is done: soon while a topic must not be written to.
func (o *ownedTopics) watch(ctx context.Context, interval time.Duration) {
	for n := 1; topic.Sleep(ctx, interval); n++ {
		if n%ownedEvery == 0 || o.problem() != "" {
			o.look(ctx)
		}
	}
}

// look reads the settings, and says what has changed.
func (o *ownedTopics) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	flaws, err := o.cluster.Flaws(ctx, o.specs)
	if err != nil {
		o.unknown(ctx, err)
		return
	}
	now := make(map[string]topic.Flaw, len(flaws))
	for i := range flaws {
		now[flaws[i].Topic+" "+flaws[i].Setting] = flaws[i]
	}
	o.mu.Lock()
	before := o.flaws
	o.flaws, o.failed = now, false
	o.mu.Unlock()
	for name, flaw := range now {
		if before[name] != flaw {
			o.say(&flaw)
		}
	}
	for name, flaw := range before {
		if _, still := now[name]; !still {
			o.log.Info("a setting of a topic has been mended", zap.String("topic", flaw.Topic), zap.String("setting", flaw.Setting))
		}
	}
	o.count(now)
}

func (o *ownedTopics) unknown(ctx context.Context, err error) {
	o.mu.Lock()
	first := !o.failed && ctx.Err() == nil && !topic.NoTopic(err)
	o.failed = o.failed || first
	o.mu.Unlock()
	if first {
		o.log.Warn("the settings of fanout's topics cannot be read, so that none is known to lose records; it is tried again", zap.Error(err))
	}
}

func (o *ownedTopics) say(flaw *topic.Flaw) {
	fields := []zap.Field{
		zap.String("topic", flaw.Topic), zap.String("setting", flaw.Setting), zap.String("found", flaw.Found), zap.String("want", flaw.Want), zap.String("why", flaw.Why),
	}
	if flaw.Fatal {
		o.log.Error("a topic would lose deliveries: nothing is written to it until `fanout topics apply` has mended it", fields...)
		return
	}
	o.log.Warn("a topic's setting is not as fanout needs it; `fanout topics apply` mends it", fields...)
}

func (o *ownedTopics) count(flaws map[string]topic.Flaw) {
	o.metric.Reset()
	for i := range o.specs {
		for _, severity := range []string{"error", "warning"} {
			o.metric.WithLabelValues(o.specs[i].Name, severity).Set(0)
		}
	}
	for _, flaw := range flaws {
		severity := "warning"
		if flaw.Fatal {
			severity = "error"
		}
		o.metric.WithLabelValues(flaw.Topic, severity).Inc()
	}
}

// fit is an error while the topic must not be written to.
func (o *ownedTopics) fit(name string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, flaw := range o.flaws {
		if flaw.Fatal && flaw.Topic == name {
			return fmt.Errorf("topic %s must not be written to: %s", name, flaw.String())
		}
	}
	return nil
}

// problem says which topics must not be written to; empty where there is none.
func (o *ownedTopics) problem() string {
	text := o.list(true)
	if text == "" {
		return ""
	}
	return text + ": nothing is written there until `fanout topics apply` has mended it"
}

// detail says what else is not as it should be.
func (o *ownedTopics) detail() string { return o.list(false) }

func (o *ownedTopics) list(fatal bool) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var lines []string
	for _, flaw := range o.flaws {
		if flaw.Fatal == fatal {
			lines = append(lines, "topic "+flaw.Topic+": "+flaw.String())
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "; ")
}

// warnOfThin says which topics are lost with one broker, where their replicas were left to the brokers. It is asked once.
func (o *ownedTopics) warnOfThin(ctx context.Context) {
	if o.cluster.Config().Kafka.Replication > 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	var names []string
	for i := range o.specs {
		if o.specs[i].Vital {
			names = append(names, o.specs[i].Name)
		}
	}
	settings, err := o.cluster.Describe(ctx, names)
	if err != nil {
		return // it has been said
	}
	replicas, err := o.cluster.Replicas(ctx, names)
	if err != nil {
		return
	}
	for _, name := range names {
		if why := topic.Thin(replicas[name], settings[name]); why != "" {
			o.log.Warn("fanout's topics are not safe from the loss of a broker: kafka.replication leaves that to the brokers, and this is what they chose",
				zap.String("topic", name), zap.String("why", why))
			return // the others are alike
		}
	}
}

// guardedCluster writes to no topic that would lose records.
type guardedCluster struct {
	*topic.Cluster

	owned *ownedTopics
}

// Produce implements producer.
func (g guardedCluster) Produce(ctx context.Context, p topic.Partition, records []kafka.Record) (int64, error) {
	if err := g.owned.fit(p.Topic); err != nil {
		return 0, err
	}
	at, err := g.Cluster.Produce(ctx, p, records)
	if err != nil {
		return 0, fmt.Errorf("write to %s: %w", p, err)
	}
	return at, nil
}
