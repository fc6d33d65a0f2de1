package consumer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"fanout/dispatcher"
)

// missingTries is how often in a row a source must be found missing: an answer of Kafka's is as old as the transport's
// metadata, and just after a right was granted, or the topic created, that does not tell.
const missingTries = 6

// prepare waits for Kafka, sees that the sources exist, and creates what fanout owns.
func (c *Consumer) prepare(ctx context.Context) ([]SourceConfig, map[string]int, error) {
	failures, missing := 0, 0
	for {
		sources, existing, err := c.tryPrepare(ctx)
		if err == nil {
			return sources, existing, nil
		}
		if ctx.Err() != nil {
			return nil, nil, nil //nolint:nilerr // it is no error to be stopped
		}
		c.setState("Kafka: " + err.Error())
		if _, ok := errors.AsType[*MissingTopicsError](err); ok {
			if missing++; missing == missingTries {
				return nil, nil, err
			}
		} else {
			if missing = 0; failures%20 == 0 {
				c.log.Warn("Kafka is not ready; waiting for it", zap.Strings("brokers", c.cfg.Kafka.Brokers), zap.Error(err))
			}
			failures++
		}
		sleep(ctx, 500*time.Millisecond)
	}
}

func (c *Consumer) tryPrepare(ctx context.Context) ([]SourceConfig, map[string]int, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	existing, err := c.admin.Partitions(ctx)
	if err != nil {
		return nil, nil, err
	}
	sources, err := c.admin.Sources(existing)
	if err != nil {
		return nil, nil, err
	}
	if len(c.cfg.Sources) == 0 {
		sources = DefaultSources() // those that do not exist yet are read once they do
	}
	var absent []TopicSpec
	for _, spec := range c.cfg.Owned() {
		if existing[spec.Name] == 0 {
			absent = append(absent, spec)
		}
	}
	if len(absent) == 0 {
		return sources, existing, nil
	}
	if !c.cfg.Kafka.CreateTopics {
		return nil, nil, fmt.Errorf("topic %s does not exist and kafka.create_topics is false; run `fanout topics create`", absent[0].Name)
	}
	created, err := c.admin.Create(ctx, absent)
	if err != nil {
		return nil, nil, err
	}
	if len(created) > 0 {
		c.log.Info("topics created", zap.Strings("topics", created))
	}
	return nil, nil, errAgain
}

var errAgain = errors.New("topics were created; looking again")

// layGroups makes a group for the sources, one for each retry topic that exists, and one for replay.
func (c *Consumer) layGroups(sources []SourceConfig, existing map[string]int) []*group {
	first := &group{c: c, id: c.cfg.Kafka.Group, stage: dispatcher.StageFirst, optional: len(c.cfg.Sources) == 0}
	for _, s := range sources {
		first.topics = append(first.topics, s.Topic)
	}
	groups := []*group{first, {c: c, id: c.cfg.Kafka.Group + ".replay", stage: dispatcher.StageReplay, topics: []string{c.names.replay}}}
	c.mu.Lock()
	for _, g := range groups {
		c.groups[g] = &membership{committed: time.Now()}
	}
	c.mu.Unlock()
	return append(groups, c.layTiers(existing)...)
}

// layTiers makes a group for each retry topic that exists and has none yet, whether it is in the schedule or not.
func (c *Consumer) layTiers(existing map[string]int) (laid []*group) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := make(map[string]bool)
	for g := range c.groups {
		known[g.topics[0]] = true
	}
	for _, topic := range slices.Sorted(maps.Keys(existing)) {
		delay, ok := c.ladder.tierDelay(topic)
		if !ok || known[topic] {
			continue
		}
		g := &group{
			c: c, id: c.cfg.Kafka.Group + ".retry." + formatDelay(delay), stage: dispatcher.StageRetry, topics: []string{topic}, delay: delay,
			owned: slices.Contains(c.ladder.delays, delay),
		}
		c.groups[g] = &membership{committed: time.Now()}
		laid = append(laid, g)
	}
	return laid
}

func (c *Consumer) forget(g *group) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.groups, g)
}

// mend brings back a topic of ours that is gone, where fanout may create topics.
func (c *Consumer) mend(ctx context.Context, topic string) {
	if !c.cfg.Kafka.CreateTopics {
		return
	}
	for _, spec := range c.cfg.Owned() {
		if spec.Name == topic {
			ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			if created, err := c.admin.Create(ctx, []TopicSpec{spec}); err == nil && len(created) > 0 {
				c.log.Warn("a topic of ours was gone; it is created anew", zap.String("topic", topic))
			}
		}
	}
}
