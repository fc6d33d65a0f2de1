package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"fanout/topic"
)

// missingTries is how often in a row a source must be found missing: just after a right was granted, or the topic created, one answer does
// not tell.
const missingTries = 6

// preparePause is between tries of what is needed before anything can be read.
const preparePause = 500 * time.Millisecond

// preparer sees to it that the topics exist.
type preparer struct {
	cfg     *Config
	cluster *topic.Cluster
	retries topic.RetryTopics
	starts  *sourceStarts
	log     *zap.Logger
	warned  bool // of optional topics
}

// prepare waits for Kafka, sees that the sources exist and that it is decided where they begin, and creates what fanout owns. It tells waits
// why it waits, and returns the sizes of all topics; nil where ctx is done before.
func (p *preparer) prepare(ctx context.Context, waits func(why string)) (map[string]int, error) {
	failures, missing := 0, 0
	for {
		sizes, err := p.tryPrepare(ctx)
		if err == nil {
			return sizes, nil
		}
		if ctx.Err() != nil {
			return nil, nil //nolint:nilerr,nilnil // it is not an error to be stopped
		}
		waits("Kafka: " + err.Error())
		if _, ok := errors.AsType[*topic.UndecidedError](err); ok {
			return nil, err
		}
		if _, ok := errors.AsType[*topic.MissingTopicsError](err); ok {
			if missing++; missing == missingTries {
				return nil, err
			}
		} else if missing = 0; !errors.Is(err, errCreated) {
			if failures%20 == 0 {
				p.log.Warn("Kafka is not ready; waiting for it", zap.Strings("brokers", p.cfg.Kafka.Brokers), zap.Error(err))
			}
			failures++
		}
		topic.Sleep(ctx, preparePause)
	}
}

var errCreated = errors.New("topics were created; looking again")

func (p *preparer) tryPrepare(ctx context.Context) (map[string]int, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	sizes, err := p.cluster.Sizes(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := p.cfg.Existing(sizes); err != nil {
		return nil, err
	}
	var absent, optional []topic.Spec
	for _, spec := range p.cfg.Owned() {
		switch {
		case sizes[spec.Name] > 0:
		case p.cfg.Optional(spec.Name):
			optional = append(optional, spec)
		default:
			absent = append(absent, spec)
		}
	}
	if len(absent) == 0 {
		if p.createOptional(ctx, optional) {
			return nil, errCreated
		}
		return sizes, p.starts.decide(ctx, sizes)
	}
	if !p.cfg.Kafka.CreateTopics {
		return nil, fmt.Errorf("topic %s does not exist and kafka.create_topics is false; run `fanout topics create`", absent[0].Name)
	}
	created, err := p.cluster.Create(ctx, absent)
	if err != nil {
		return nil, err
	}
	if len(created) > 0 {
		p.log.Info("topics created", zap.Strings("topics", created))
	}
	return nil, errCreated
}

// createOptional creates topics that nothing waits for, and says whether it has. Where that cannot be done it warns, once.
func (p *preparer) createOptional(ctx context.Context, absent []topic.Spec) bool {
	if len(absent) == 0 || p.warned {
		return false
	}
	names := make([]string, len(absent))
	for i, spec := range absent {
		names[i] = spec.Name
	}
	if !p.cfg.Kafka.CreateTopics {
		p.warned = true
		p.log.Warn("topics do not exist, and what belongs there is not written; run `fanout topics create`", zap.Strings("topics", names))
		return false
	}
	if _, err := p.cluster.Create(ctx, absent); err != nil {
		p.warned = true
		p.log.Warn("topics do not exist and cannot be created; what belongs there is not written", zap.Strings("topics", names), zap.Error(err))
		return false
	}
	p.log.Info("topics created", zap.Strings("topics", names))
	return true
}

// lost tells that a topic does not exist any more.
func (p *preparer) lost(ctx context.Context, name string) {
	if delay, tier := p.retries.Delay(name); tier && !p.retries.Has(delay) {
		p.log.Info("a retry topic of another schedule was deleted; nobody writes to it any more", zap.String("topic", name))
		return
	}
	p.log.Error("topic does not exist any more; it is read again when it does", zap.String("topic", name))
	p.repair(ctx, name)
}

// repair creates an owned topic again that was deleted, where fanout may create topics.
func (p *preparer) repair(ctx context.Context, name string) {
	if !p.cfg.Kafka.CreateTopics {
		return
	}
	for _, spec := range p.cfg.Owned() {
		if spec.Name != name {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		if created, err := p.cluster.Create(ctx, []topic.Spec{spec}); err == nil && len(created) > 0 {
			p.log.Warn("an owned topic was deleted; it has been created again", zap.String("topic", name))
		}
	}
}

// show tells the groups which of their topics exist.
func (c *Consumer) show(sizes map[string]int) {
	sources, retries := make(map[string]int), make(map[string]int)
	for name, n := range sizes {
		_, tier := c.retries.Delay(name)
		switch {
		case n == 0:
		case tier || name == c.names.Replay:
			retries[name] = n
		case c.sources.Has(name):
			sources[name] = n
		}
	}
	for _, unread := range c.starts.list() {
		delete(sources, unread.Topic)
	}
	if c.attempts != nil {
		c.attempts.resize(sizes[c.names.Attempts])
	}
	c.metrics.sources(sources, retries)
	c.first.setSizes(sources)
	c.retry.setSizes(retries)
}

// lookAtTopics looks now and then which topics exist, and how large they are: sources come and grow, an instance with another schedule may
// have written to retry topics and be gone, and owned topics may have been deleted. Once without a topic may be a broker that has just started.
func (c *Consumer) lookAtTopics(ctx context.Context) {
	absent := make(map[string]int)
	for topic.Sleep(ctx, c.cfg.lookInterval()) {
		asking, cancel := context.WithTimeout(ctx, commitTimeout)
		sizes, err := c.cluster.Sizes(asking)
		cancel()
		if err != nil {
			continue
		}
		c.starts.reconsider(ctx, sizes)
		for _, g := range c.groups() {
			for name, before := range g.topics.all() {
				if sizes[name] > 0 {
					delete(absent, name)
					continue
				}
				if absent[name]++; absent[name] == 1 {
					sizes[name] = before
					continue
				}
				c.topics.lost(ctx, name)
			}
		}
		c.show(sizes)
	}
}
