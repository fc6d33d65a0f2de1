package consumer

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"go.uber.org/zap"

	"fanout/dispatcher"
)

// group is one consumer group: one for the sources, one for each retry tier, one for replay, so that a missing topic
// or a wait in one of them holds up no other (FACTS.md 5).
type group struct {
	c        *Consumer
	id       string
	stage    dispatcher.Stage
	topics   []string
	delay    time.Duration // of a retry tier
	owned    bool          // its topic is one that this configuration writes to
	optional bool          // its topics need not exist: they are the default sources
	client   *kafka.Client
	fetcher  *fetcher

	initial map[string]int  // partitions when first looked; later ones are younger than this process
	begun   map[string]bool // partitions of which this process has seen the group to have an offset
}

// run is a member of the group until ctx is done. It joins anew when the group's topics change. It ends where a tier
// that is in no schedule of ours has been deleted.
func (g *group) run(ctx context.Context) {
	log := g.c.log.With(zap.String("group", g.id))
	failures := 0
	for ctx.Err() == nil {
		layout, err := g.layout(ctx)
		if err == nil && len(layout) == 0 {
			if g.stage == dispatcher.StageRetry && !g.owned {
				log.Info("the tier is gone; nobody writes to it any more")
				g.c.forget(g)
				return
			}
			err = kafka.UnknownTopicOrPartition
			for _, topic := range g.topics {
				g.c.mend(ctx, topic)
			}
		}
		if err != nil {
			err = g.c.cfg.Kafka.SASL.explain(err)
			if failures++; failures == 1 || failures%60 == 0 {
				log.Warn("the group's topics cannot be found; it is tried again", zap.Strings("topics", g.topics), zap.Error(err))
			}
			g.c.notJoined(g, err)
			sleep(ctx, joinBackoff)
			continue
		}
		failures = 0
		if g.initial == nil {
			g.initial, g.begun = layout, make(map[string]bool)
		}
		g.member(ctx, log, layout)
	}
}

// layout is how many partitions those of the group's topics have that exist.
func (g *group) layout(ctx context.Context) (map[string]int, error) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	counts := make(map[string]int, len(g.topics))
	for _, topic := range g.topics {
		n, err := partitionCount(ctx, g.client, topic)
		switch {
		case errors.Is(err, kafka.UnknownTopicOrPartition), g.optional && errors.Is(err, kafka.TopicAuthorizationFailed):
		case err != nil:
			return nil, err
		case n > 0:
			counts[topic] = n
		}
	}
	return counts, nil
}

// member joins the group and serves its generations until ctx is done or the partitions are no longer those of layout.
// A source topic that is gone is left out: it must not keep the others from being read.
func (g *group) member(ctx context.Context, log *zap.Logger, layout map[string]int) {
	var topics []string
	for _, topic := range g.topics {
		switch {
		case layout[topic] > 0:
			topics = append(topics, topic)
		case g.initial[topic] == 0:
			log.Info("topic does not exist; it is read once it does", zap.String("topic", topic))
		default:
			log.Error("topic does not exist any more; it is read again when it does", zap.String("topic", topic))
			g.initial[topic] = 0 // all that it will hold is new
		}
	}
	members, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID:                g.id,
		Brokers:           g.c.cfg.Kafka.Brokers,
		Dialer:            g.c.dialer,
		Topics:            topics,
		GroupBalancers:    []kafka.GroupBalancer{kafka.RoundRobinGroupBalancer{}},
		HeartbeatInterval: heartbeatInterval,
		SessionTimeout:    sessionTimeout,
		RebalanceTimeout:  rebalanceTimeout,
		JoinGroupBackoff:  joinBackoff,
		Timeout:           commitTimeout,
	})
	if err != nil {
		log.Error("group cannot be joined", zap.Error(err))
		sleep(ctx, 10*joinBackoff)
		return
	}
	defer g.leave(ctx, members)
	watching, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel()
	watch.Go(func() {
		defer cancel()
		g.watch(watching, log, layout)
	})
	failures, member := 0, ""
	for {
		gen, err := members.Next(watching)
		if watching.Err() != nil {
			return
		}
		if err != nil {
			err = needs("Read and Describe on groups with the prefix of kafka.group", g.c.cfg.Kafka.SASL.explain(err))
			if failures++; failures == 1 || failures%20 == 0 {
				log.Warn("joining the group fails; it is tried again", zap.Error(err), zap.Int("failures", failures))
			}
			g.c.notJoined(g, err)
			if errors.Is(err, kafka.ErrGroupClosed) {
				return
			}
			if former := member; former != "" && !errors.Is(err, kafka.RebalanceInProgress) {
				member = ""
				watch.Go(func() { g.takeLeave(watching, former) })
			}
			continue
		}
		failures, member = 0, gen.MemberID
		log.Info("joined", zap.Int32("generation", gen.ID), zap.Any("partitions", assigned(gen)))
		done := make(chan struct{})
		gen.Start(func(genCtx context.Context) {
			defer close(done)
			s := &session{c: g.c, g: g, gen: gen, log: log}
			s.serve(watching, genCtx)
		})
		<-done
	}
}

// takeLeave takes a former self out of the group. kafka-go has forgotten its id, after an error that kept it from leaving;
// a broker that was killed and comes back would wait for that member until its session times out.
func (g *group) takeLeave(ctx context.Context, member string) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		attempt, done := context.WithTimeout(ctx, 2*time.Second)
		res, err := g.client.LeaveGroup(attempt, &kafka.LeaveGroupRequest{
			Addr: g.client.Addr, GroupID: g.id, Members: []kafka.LeaveGroupRequestMember{{ID: member}},
		})
		done()
		if err == nil && !errors.Is(res.Error, kafka.GroupLoadInProgress) && !errors.Is(res.Error, kafka.GroupCoordinatorNotAvailable) &&
			!errors.Is(res.Error, kafka.NotCoordinatorForGroup) {
			return // it has left, or is no member any more
		}
		if !sleep(ctx, 200*time.Millisecond) {
			return
		}
	}
}

// leave leaves the group, after its last session has drained: heartbeats go on until then. kafka-go may be in the middle
// of something that it cannot be called away from, with a broker that does not answer; a stop does not wait for that.
func (g *group) leave(ctx context.Context, members *kafka.ConsumerGroup) {
	left := make(chan struct{})
	go func() {
		defer close(left)
		_ = members.Close()
	}()
	select {
	case <-left:
		return
	case <-ctx.Done():
	}
	late := time.NewTimer(time.Until(g.c.stopBy()) + g.c.stopMargin()/2)
	defer late.Stop()
	select {
	case <-left:
	case <-g.c.background.Done():
	case <-late.C:
	}
}

// layoutInterval is how often it is looked whether topics have changed. kafka-go's own watch is a storm where a topic is
// missing (FACTS.md 5).
const layoutInterval = 5 * time.Second

// watch returns when ctx is done or the group's topics are no longer those of layout.
func (g *group) watch(ctx context.Context, log *zap.Logger, layout map[string]int) {
	missing := 0
	for sleep(ctx, layoutInterval) {
		now, err := g.layout(ctx)
		if err != nil {
			continue
		}
		if grown(layout, now) {
			log.Info("topics or partitions were added; joining anew", zap.Any("partitions", now))
			return
		}
		if len(now) == len(layout) {
			missing = 0
			continue
		}
		if missing++; missing > 1 { // once may be a broker that has just started
			log.Warn("a topic is gone; joining anew", zap.Any("partitions", now))
			return
		}
	}
}

func grown(before, now map[string]int) bool {
	for topic, n := range now {
		if n > before[topic] {
			return true
		}
	}
	return false
}

// startOffsets is where partitions without a committed offset are read from, by partition: as kafka.start says, except
// for partitions that were added, or deleted with their topic and created anew, while this process ran: all of their
// records are new.
func (g *group) startOffsets(ctx context.Context, fresh map[string][]int) (map[string]int64, error) {
	starts := make(map[string]int64)
	if len(fresh) == 0 {
		return starts, nil
	}
	wanted, err := g.c.cfg.Kafka.startTime()
	if err != nil {
		return nil, err
	}
	if g.stage != dispatcher.StageFirst {
		wanted = kafka.FirstOffset
	}
	req := make(map[string][]kafka.OffsetRequest)
	for topic, ids := range fresh {
		for _, id := range ids {
			at := wanted
			if id >= g.initial[topic] || g.begun[partitionName(topic, id)] {
				at = kafka.FirstOffset
			}
			req[topic] = append(req[topic], kafka.OffsetRequest{Partition: id, Timestamp: at})
		}
	}
	if err := offsetsAt(ctx, g.client, req, starts); err != nil {
		return nil, err
	}
	young := make(map[string][]kafka.OffsetRequest) // nothing is as young as the time asked for: begin with what comes
	for topic, list := range req {
		for _, r := range list {
			if starts[partitionName(topic, r.Partition)] < 0 {
				young[topic] = append(young[topic], kafka.LastOffsetOf(r.Partition))
			}
		}
	}
	if len(young) == 0 {
		return starts, nil
	}
	return starts, offsetsAt(ctx, g.client, young, starts)
}

// startTime is kafka.start as the protocol has it: FirstOffset, LastOffset or Unix milliseconds.
func (c *KafkaConfig) startTime() (int64, error) {
	switch c.Start {
	case "", "earliest":
		return kafka.FirstOffset, nil
	case "latest":
		return kafka.LastOffset, nil
	}
	at, err := time.Parse(time.RFC3339, c.Start)
	if err != nil {
		return 0, err
	}
	return max(0, at.UnixMilli()), nil
}

func assigned(gen *kafka.Generation) map[string][]int {
	ids := make(map[string][]int, len(gen.Assignments))
	for topic, list := range gen.Assignments {
		for _, a := range list {
			ids[topic] = append(ids[topic], a.ID)
		}
		slices.Sort(ids[topic])
	}
	return ids
}
