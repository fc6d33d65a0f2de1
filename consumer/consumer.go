package consumer

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"fanout/dispatcher"
	"fanout/event"
	"fanout/topic"
)

// Consumer reads the source, retry and replay topics, has each delivery brought to its outcome, and settles it.
type Consumer struct {
	cfg        Config
	log        *zap.Logger
	dispatcher *dispatcher.Dispatcher
	metrics    *metrics
	cluster    *topic.Cluster
	sources    *topic.Sources
	retries    topic.RetryTopics
	names      topic.Names
	owned      *ownedTopics
	strangers  *strangers
	starts     *sourceStarts
	topics     *preparer
	open       *openTransactions

	background context.Context //nolint:containedctx // outlives Run's ctx until everything has drained; set by Run before anything reads
	end        context.CancelFunc
	writer     *writer
	attempts   *attemptsLog // nil: none are recorded
	large      *largeEvents
	opened     *openedLanes
	died       func(account, subscription, reason string) // nil: nobody asks

	mu    sync.Mutex // guards all below
	state string     // why it is not ready, before the groups run and after
	first *group     // the sources; nil until Run has made it
	retry *group     // the retry topics and the replay topic; likewise
}

// New makes a Consumer. Run it once. A nil log or reg is fine. The options are its cluster's.
func New(cfg Config, d *dispatcher.Dispatcher, log *zap.Logger, reg prometheus.Registerer, opts ...topic.Option) (*Consumer, error) {
	if log == nil {
		log = zap.NewNop()
	}
	c := &Consumer{
		cfg: cfg, log: log, dispatcher: d, retries: cfg.RetryTopics(), names: cfg.Names(), state: "starting",
		opened: newOpenedLanes(d.Capacity),
	}
	var err error
	if c.cluster, err = topic.NewCluster(cfg.Config, append([]topic.Option{topic.WithLog(log)}, opts...)...); err != nil {
		return nil, err
	}
	if c.sources, err = cfg.NewSources(log, reg); err != nil {
		return nil, err
	}
	c.metrics = newMetrics(reg, c)
	c.starts = &sourceStarts{cluster: c.cluster, group: cfg.Kafka.Group, log: log, gauge: c.metrics.unread}
	c.topics = &preparer{cfg: &c.cfg, cluster: c.cluster, retries: c.retries, starts: c.starts, log: log}
	c.owned = newOwnedTopics(c.cluster, log, reg)
	c.strangers = newStrangers(c.cluster, log, reg, cfg.lookInterval())
	c.open = newOpenTransactions(c.cluster, c.assigned, log, cfg.heldAfter())
	if reg != nil {
		reg.MustRegister(c.open)
	}
	return c, nil
}

// OnDeath has died called for each delivery that has become a dead letter, from any goroutine. It must not block. It is set before Run.
func (c *Consumer) OnDeath(died func(account, subscription, reason string)) { c.died = died }

// Owns says whether this instance reads the partition of a retry topic or of the replay topic now.
func (c *Consumer) Owns(p topic.Partition) bool {
	for _, g := range c.groups() {
		if g.holdsNow(p) {
			return true
		}
	}
	return false
}

// Run reads until ctx is done, then drains within the shutdown time-out and returns nil. While Kafka cannot be reached
// it waits. It returns a *topic.MissingTopicsError where a source topic is missing, and a *topic.UndecidedError where a first run would send
// history that nobody has decided about. The dispatcher must run for longer.
func (c *Consumer) Run(ctx context.Context) error {
	c.background, c.end = context.WithCancel(context.WithoutCancel(ctx))
	defer c.end()
	defer c.cluster.Close()
	defer c.sources.Close()
	sizes, err := c.topics.prepare(ctx, c.setState)
	if err != nil || ctx.Err() != nil {
		return err
	}
	c.owned.look(ctx)
	c.owned.warnOfThin(ctx)
	c.writer = newWriter(c.background, guardedCluster{c.cluster, c.owned}, c.log, c.topics.repair)
	recording := c.record()
	c.newGroups()
	c.show(sizes)
	logMappings(c.cfg.Sources, c.log)
	c.setState("")

	stopping, stop := context.WithCancel(c.background)
	defer stop()
	defer context.AfterFunc(ctx, func() {
		by := time.Now().Add(c.cfg.ShutdownTimeout - c.cfg.stopMargin())
		for _, g := range c.groups() {
			g.handover.setDeadline(by)
		}
		stop() // only now, so that whoever is stopped finds the deadline
	})()
	var running sync.WaitGroup
	for _, g := range c.groups() {
		running.Go(func() { g.run(stopping) })
	}
	running.Go(func() { c.lookAtTopics(stopping) })
	running.Go(func() { lookAhead(stopping, c.cluster, c.first) })
	running.Go(func() { c.owned.watch(stopping, c.cfg.lookInterval()) })
	running.Go(func() { c.open.watch(stopping, c.cfg.lookInterval()) })
	running.Go(func() { newIgnoredWatch().run(stopping, ignoredFor, c.metrics.counts, c.log) })
	running.Go(func() { c.boundStop(stopping) })
	running.Wait()
	c.large.wait()
	c.setState("stopped")
	c.end()
	c.writer.wait()
	recording()
	return nil
}

// record begins to write attempts records, where they are wanted. The returned function waits for the end of that.
func (c *Consumer) record() (wait func()) {
	if !c.cfg.AttemptsTopic {
		return func() {}
	}
	encode := topic.AttemptWriter{Instance: c.cfg.Instance, Response: c.cfg.AttemptsResponse}
	c.attempts = newAttemptsLog(c.cluster, c.names.Attempts, encode, c.log, c.metrics.unwritten, c.topics.repair)
	var running sync.WaitGroup
	running.Go(func() { c.attempts.run(c.background) })
	return func() {
		running.Wait()
		c.attempts.close(context.WithoutCancel(c.background))
	}
}

// stopPatience is how long a stop waits for the group's other members to be ready to take over.
const stopPatience = 2 * time.Second

// boundStop sees to it that a stop ends in time, whatever Kafka does.
func (c *Consumer) boundStop(stopping context.Context) {
	<-stopping.Done()
	gone := func() bool { return c.first.membership.isGone() && c.retry.membership.isGone() }
	deadline := c.first.handover.stopBy()
	if deadline.IsZero() {
		return
	}
	hurry := time.Now().Add(min(stopPatience, time.Until(deadline)/3))
	hurried := false
	for !gone() {
		now := time.Now()
		if !hurried && now.After(hurry) {
			hurried = true
			c.first.membership.hurry()
			c.retry.membership.hurry()
		}
		if now.After(deadline.Add(c.cfg.stopMargin() / 2)) {
			c.end() // open records are abandoned
			return
		}
		topic.Sleep(c.background, 10*time.Millisecond)
	}
}

// groups are the two groups, once Run has made them.
func (c *Consumer) groups() []*group {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first == nil {
		return nil
	}
	return []*group{c.first, c.retry}
}

// newIntakes makes what records go through on their way to settled, by the stage that they belong to.
func (c *Consumer) newIntakes(out outbox) map[dispatcher.Stage]*intake {
	all, replays := newBudget(maxUnsettled, maxUnsettledBytes), newBudget(maxReplays, maxUnsettledBytes)
	s := &settler{out: out, retries: c.retries, names: c.names, group: c.cfg.Kafka.Group, attempts: c.attempts, died: c.died, maxAge: c.cfg.MaxAgeOf, metrics: c.metrics}
	intakes := make(map[dispatcher.Stage]*intake)
	for stage, budgets := range map[dispatcher.Stage][]*budget{
		dispatcher.StageFirst: {all}, dispatcher.StageRetry: {all}, dispatcher.StageReplay: {all, replays},
	} {
		intakes[stage] = &intake{
			flow: &flow{stage: stage, settler: s, budgets: budgets}, sources: c.sources, dispatcher: c.dispatcher, metrics: c.metrics,
			maxAge: c.cfg.MaxAgeOf, catalogue: c.cfg.Catalogue, largestBody: c.cfg.LargestBody(), strangers: c.strangers,
		}
	}
	first := intakes[dispatcher.StageFirst]
	c.large = &largeEvents{
		waiting: make(map[string][]*largeEvent), submit: first.submit, accountsTurn: c.dispatcher.WaitForAccount,
		portions: func(ev *event.Event, metadata *dispatcher.RecordMetadata) iter.Seq[[]dispatcher.Delivery] {
			return c.dispatcher.Planner().Portions(ev, metadata, time.Now(), portionSize)
		},
		capacity: func(ctx context.Context) error { return c.waitForCapacity(ctx, first.flow) },
	}
	first.large = c.large
	return intakes
}

// waitForCapacity returns when another record of the flow may be taken: records can be written, and neither the budgets nor the
// dispatcher are full.
func (c *Consumer) waitForCapacity(ctx context.Context, f *flow) error {
	for c.writer.failing() {
		if !topic.Sleep(ctx, capacityPause) {
			return context.Cause(ctx)
		}
	}
	for _, b := range f.budgets {
		if err := b.WaitForCapacity(ctx); err != nil {
			return err
		}
	}
	return c.dispatcher.WaitForCapacity(ctx)
}

// newGroups makes the two groups.
func (c *Consumer) newGroups() {
	intakes := c.newIntakes(c.writer)
	base := groupConfig{
		cluster:  c.cluster,
		writable: func() bool { return !c.writer.failing() }, sending: func() bool { return !c.dispatcher.Suspended() }, stalledAfter: c.cfg.stalledAfter(), background: c.background,
	}
	base.capacity = func(ctx context.Context, name string) error {
		return c.waitForCapacity(ctx, intakes[c.stageOf(name)].flow)
	}
	base.flow = func(name string) *intake { return intakes[c.stageOf(name)] }
	base.delay = func(name string) time.Duration {
		delay, _ := c.retries.Delay(name)
		return delay
	}
	first, retry := base, base
	first.id, first.start = c.cfg.Kafka.Group, func(name string) (int64, error) { return topic.StartTime(c.cfg.StartOf(name)) }
	retry.id, retry.opened, retry.waits = c.cfg.RetryGroup(), c.opened, c.cfg.WaitsFor
	retry.strangers = c.strangers
	sources, retries := c.newGroup(first, "sources", c.starts.begunTopics()), c.newGroup(retry, "retry", make(map[string]bool))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.first, c.retry = sources, retries
}

func (c *Consumer) newGroup(cfg groupConfig, label string, begun map[string]bool) *group {
	log := c.log.With(zap.String("group", cfg.id))
	g := newGroup(cfg, begun, log, c.metrics, label)
	g.membership = newMembership(membershipConfig{
		group: c.cluster.Group(cfg.id), holdings: g, topics: g.topics.all, log: log, instance: c.cfg.Kafka.InstanceID, session: c.cfg.sessionTimeout(), heartbeat: heartbeatInterval,
		sizes: func(ctx context.Context, names []string) (map[string]int, error) {
			return c.cluster.SizesOf(ctx, names, true)
		},
		explain: func(err error) error {
			return topic.Needs("Read and Describe on groups with the prefix of kafka.group", c.cluster.Explain(err))
		},
		observe: g.observe,
	})
	return g
}

// stageOf is where the deliveries of a topic's records come from.
func (c *Consumer) stageOf(name string) dispatcher.Stage {
	if name == c.names.Replay {
		return dispatcher.StageReplay
	}
	if _, tier := c.retries.Delay(name); tier {
		return dispatcher.StageRetry
	}
	return dispatcher.StageFirst
}

func (c *Consumer) setState(s string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = s
}

// Ready says why the consumer does not read: nil once both groups are joined and records can be written.
func (c *Consumer) Ready() error {
	c.mu.Lock()
	state := c.state
	c.mu.Unlock()
	if state != "" {
		return errors.New(state)
	}
	var waiting []error
	for _, g := range c.groups() {
		waiting = append(waiting, g.ready())
	}
	if err := joinErrors(waiting); err != nil {
		return err
	}
	if problem := c.owned.problem(); problem != "" {
		return errors.New(problem)
	}
	if c.writer.failing() {
		return errors.New("records cannot be written to Kafka; reading has stopped until they can")
	}
	return nil
}

// Detail says what is amiss although the consumer is ready: which sources stay unread and what to set, and which topics are not
// set up well. It is empty where all is well.
func (c *Consumer) Detail() string {
	var lines []string
	for _, s := range c.starts.list() {
		lines = append(lines, fmt.Sprintf("source %s stays unread: it holds %s, and neither kafka.start nor its own start says whether they are to be sent", s.Topic, s.Holds()))
	}
	for _, detail := range []string{c.owned.detail(), c.strangers.detail(), c.open.detail()} {
		if detail != "" {
			lines = append(lines, detail)
		}
	}
	return strings.Join(lines, "; ")
}

// SchemasReady says why records wait for the schema registry; nil where none does.
func (c *Consumer) SchemasReady() error { return c.sources.Problem() }

// Healthy says whether the consumer makes progress, for /healthz: nil unless records wait and none has been settled for
// Config.StalledAfter although nothing outside is waited for. Waiting for Kafka, for a record that cannot be written, or for a due time is
// healthy: Ready tells of it.
func (c *Consumer) Healthy() error {
	c.mu.Lock()
	running := c.state == ""
	c.mu.Unlock()
	if !running {
		return nil
	}
	var stalled []error
	for _, g := range c.groups() {
		stalled = append(stalled, g.healthy(time.Now()))
	}
	return joinErrors(stalled)
}
