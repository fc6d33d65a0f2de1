//go:build !nodemo

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"fanout/config"
	"fanout/event"
	"fanout/topic"
)

// outside is the demo's world: what is somebody else's where fanout runs for good.
type outside struct {
	kafka     *kfake.Cluster
	client    *kadm.Client // asks kafka
	redis     *miniredis.Miniredis
	receivers receivers
	stored    string // the subscriptions as they were stored at the start
}

const (
	sourcePartitions = 4
	segmentBytes     = "1048576" // of Kafka's logs, whose memory is given back by segments
	demoKeeps        = 10 * time.Minute
)

// newOutside starts a Kafka with the source topics, a Redis with the receivers' subscriptions, and the receivers.
func newOutside(ctx context.Context) (_ *outside, err error) {
	o := &outside{}
	defer func() {
		if err != nil {
			o.close()
		}
	}()
	if o.kafka, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(sourcePartitions, sourceTopics()...),
		kfake.BrokerConfigs(map[string]string{"log.segment.bytes": segmentBytes})); err != nil {
		return nil, fmt.Errorf("embedded Kafka: %w", err)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(o.kafka.ListenAddrs()...))
	if err != nil {
		return nil, fmt.Errorf("embedded Kafka: %w", err)
	}
	o.client = kadm.NewClient(client)
	if o.redis, err = miniredis.Run(); err != nil {
		return nil, fmt.Errorf("embedded Redis: %w", err)
	}
	if o.receivers, err = startReceivers(ctx); err != nil {
		return nil, fmt.Errorf("receivers: %w", err)
	}
	for _, r := range o.receivers { // the two commands of a config sync job
		o.redis.HSet("fanout:account:"+r.account, r.id, r.subscription())
		if _, err = o.redis.XAdd("fanout:changes", "*", []string{"account", r.account}); err != nil {
			return nil, fmt.Errorf("embedded Redis: %w", err)
		}
	}
	o.stored = o.subscriptions()
	return o, nil
}

func (o *outside) close() {
	o.receivers.close()
	if o.redis != nil {
		o.redis.Close()
	}
	if o.client != nil {
		o.client.Close()
	}
	if o.kafka != nil {
		o.kafka.Close()
	}
}

// configure makes fanout use this world, and retry soon.
func (o *outside) configure(cfg *config.Config) {
	cfg.Kafka.Brokers, cfg.Kafka.Partitions, cfg.Kafka.RetryPartitions = o.kafka.ListenAddrs(), 3, 1
	cfg.Kafka.Start = "earliest"
	cfg.Sources = demoSources()
	cfg.Redis.URL, cfg.Redis.SnapshotFile = "redis://"+o.redis.Addr()+"/0", "off"
	cfg.Delivery.Schedule = []time.Duration{500 * time.Millisecond, time.Second, time.Second}
	cfg.Delivery.MaxAge = 5 * time.Second
	cfg.Lanes.ParkAfter, cfg.Lanes.ParkMin, cfg.Lanes.ParkMax = 100, time.Second, 2*time.Second
	cfg.Egress.AllowHTTP, cfg.Egress.AllowCIDRs = true, []string{"127.0.0.0/8", "::1/128"}
	cfg.Attempts.Topic = true // audit and explain need it
	cfg.ShutdownTimeout = 2 * time.Second
}

// bounces is a source whose producer has a shape of its own, which a mapping reads.
const bounces = "bounces"

// demoSources are the six default topics and bounces.
func demoSources() (sources []topic.SourceConfig) {
	for _, name := range sourceTopics() {
		source := topic.SourceConfig{Topic: name}
		if name == bounces {
			source.Mapping = event.Mapping{
				Channel: "EMAIL", Fields: map[string]string{"trackingId": "message.tracking_id"}, Types: map[string]string{"bounced": "FAILED"},
			}
		}
		sources = append(sources, source)
	}
	return sources
}

func sourceTopics() []string {
	var topics []string
	for _, name := range event.BuiltIn().Names() {
		topics = append(topics, sourceTopic(name), "channel."+strings.ToLower(name.Channel()))
	}
	slices.Sort(topics)
	return slices.Compact(topics)
}

// sourceTopic is where the demo's events of that name come from.
func sourceTopic(name event.Name) string {
	if name.String() == "EMAIL_FAILED" {
		return bounces
	}
	return "channel." + strings.ToLower(name.Channel())
}

// atRest says whether everything that was written for fanout has been settled: the committed offsets are the ends of the
// logs, in each source, retry and replay topic.
func (o *outside) atRest(ctx context.Context, cfg *config.Config) (bool, error) {
	groups, err := o.client.ListGroups(ctx)
	if err != nil {
		return false, fmt.Errorf("embedded Kafka: %w", err)
	}
	ends, err := o.client.ListEndOffsets(ctx)
	if err != nil {
		return false, fmt.Errorf("embedded Kafka: %w", err)
	}
	committed := o.client.FetchManyOffsets(ctx, groups.Groups()...)
	if err := committed.Error(); err != nil {
		return false, fmt.Errorf("embedded Kafka: %w", err)
	}
	settled := true
	ends.Each(func(end kadm.ListedOffset) {
		if end.Offset == 0 || !isRead(end.Topic, cfg) {
			return
		}
		settled = settled && slices.ContainsFunc(groups.Groups(), func(group string) bool {
			at, ok := committed[group].Fetched.Lookup(end.Topic, end.Partition)
			return ok && at.At >= end.Offset
		})
	})
	return settled, nil
}

// isRead says whether fanout reads the topic.
func isRead(name string, cfg *config.Config) bool {
	return strings.HasPrefix(name, cfg.Topics.Prefix+".retry.") || name == cfg.Topics.Prefix+".replay" ||
		slices.ContainsFunc(cfg.Sources, func(s topic.SourceConfig) bool { return s.Topic == name })
}

// prune deletes records that are older than demoKeeps, until ctx ends: the embedded Kafka has nothing but memory.
func (o *outside) prune(ctx context.Context) {
	clock := time.NewTicker(time.Minute)
	defer clock.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-clock.C:
			o.deleteBefore(ctx, now.Add(-demoKeeps))
		}
	}
}

// deleteBefore deletes what was written before a time. Nothing that old waits: deliveries expire long before.
func (o *outside) deleteBefore(ctx context.Context, t time.Time) {
	first, err := o.client.ListOffsetsAfterMilli(ctx, t.UnixMilli())
	if err != nil {
		return // it is tried again in a minute
	}
	_, _ = o.client.DeleteRecords(ctx, first.Offsets()) // as well
}

// subscriptions are those that Redis holds, as one text that changes with any of them.
func (o *outside) subscriptions() string {
	var all []string
	for _, key := range o.redis.Keys() {
		if !strings.HasPrefix(key, "fanout:account:") {
			continue
		}
		ids, err := o.redis.HKeys(key)
		if err != nil {
			continue // deleted just now
		}
		for _, id := range ids {
			all = append(all, key, id, o.redis.HGet(key, id))
		}
	}
	return strings.Join(all, "\n")
}

// instances is how many instances have announced themselves.
func (o *outside) instances() int {
	names, err := o.redis.HKeys("fanout:instances")
	if err != nil {
		return 0 // none yet
	}
	return len(names)
}
