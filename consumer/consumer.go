package consumer

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
	"go.uber.org/zap"

	"fanout/consumer/registry"
	"fanout/dispatcher"
	"fanout/event"
)

// Bounds of what is read and not settled.
const (
	maxUnsettled      = 50_000
	maxUnsettledBytes = 64 << 20
	maxReplays        = 256 // of them, from the replay topic
)

// Consumer reads the source, retry and replay topics, has each delivery brought to its outcome, and settles it.
type Consumer struct {
	cfg        Config
	log        *zap.Logger
	dispatcher *dispatcher.Dispatcher
	metrics    *metrics
	ladder     ladder
	names      names
	window     *window

	replays *window            // of the replay topic alone: a replay leaves most of the room to others
	schemas *registry.Registry // nil where no source needs it

	// Set by Run before anything reads.
	dialer     *kafka.Dialer
	writer     *writer
	admin      *Admin
	decoders   map[string]*event.Decoder
	framed     map[string]bool // source topics whose values carry a schema's id
	background context.Context //nolint:containedctx // outlives Run's ctx until everything has drained
	end        context.CancelFunc

	mu       sync.Mutex // guards all below
	state    string     // why it is not ready, before any group
	groups   map[*group]*membership
	deadline time.Time // of the drain
}

// membership is what is known of this process's part in a group.
type membership struct {
	partitions []*partition
	joined     bool
	problem    string
	committed  time.Time
	beat       time.Time // when its session last looked after itself
	wedged     error     // until it gets on again
}

// New makes a Consumer. Run it once. A nil log or reg is fine.
func New(cfg Config, d *dispatcher.Dispatcher, log *zap.Logger, reg prometheus.Registerer) (*Consumer, error) {
	if log == nil {
		log = zap.NewNop()
	}
	c := &Consumer{
		cfg: cfg, log: log, dispatcher: d,
		ladder: newLadder(cfg.TopicPrefix, cfg.Schedule, cfg.ParkMin, cfg.ParkMax),
		names:  newNames(cfg.TopicPrefix),
		window: newWindow(maxUnsettled, maxUnsettledBytes), replays: newWindow(maxReplays, maxUnsettledBytes),
		groups: make(map[*group]*membership),
		state:  "starting",
	}
	var err error
	if c.admin, err = NewAdmin(cfg); err != nil {
		return nil, err
	}
	if c.dialer, err = newDialer(&c.cfg); err != nil {
		return nil, err
	}
	if c.schemas, err = newSchemas(&c.cfg, log, reg); err != nil {
		return nil, err
	}
	c.metrics = newMetrics(reg, c)
	return c, nil
}

// Run reads until ctx is done, then drains within the shutdown time-out and returns nil. While Kafka cannot be reached
// it waits. It returns a *MissingTopicsError where a source topic is missing. The dispatcher must run for longer.
func (c *Consumer) Run(ctx context.Context) error {
	c.background, c.end = context.WithCancel(context.WithoutCancel(ctx))
	defer c.end()
	defer c.admin.Close()
	defer c.closeSchemas()
	sources, existing, err := c.prepare(ctx)
	if err != nil || ctx.Err() != nil {
		return err
	}
	groups := c.layGroups(sources, existing)
	if c.decoders, err = decoders(sources); err != nil {
		return err
	}
	c.framed = framed(sources)
	topics := []string{c.names.deadLetter}
	if c.cfg.AttemptsTopic {
		topics = append(topics, c.names.attempts)
	}
	for _, g := range groups {
		topics = append(topics, g.topics...)
		for _, t := range g.topics {
			c.metrics.source(t)
		}
	}
	transport, err := newTransport(&c.cfg, topics)
	if err != nil {
		return err
	}
	defer transport.CloseIdleConnections()
	for _, g := range groups {
		g.connect(&c.cfg, transport)
	}
	c.writer = newWriter(c.background, groups[0].client, c.log, c.mend)

	reading, stop := context.WithCancel(c.background)
	defer stop()
	defer context.AfterFunc(ctx, func() {
		c.mu.Lock()
		c.deadline = time.Now().Add(c.cfg.ShutdownTimeout - c.stopMargin())
		c.mu.Unlock()
		stop() // only now, so that whoever is stopped finds the deadline
	})()
	c.setState("")
	var running sync.WaitGroup
	for _, g := range groups {
		running.Go(func() { g.run(reading) })
	}
	running.Go(func() { c.findTiers(reading, &running) })
	running.Wait()
	c.setState("stopped")
	c.end()
	c.writer.wait()
	return nil
}

// stopMargin is what of the shutdown time-out is left for leaving the groups, and for what ends after the consumer.
func (c *Consumer) stopMargin() time.Duration { return min(2*time.Second, c.cfg.ShutdownTimeout/4) }

// findTiers looks now and then for retry topics that were not there before: an instance with another schedule may have
// written to them, and be gone.
func (c *Consumer) findTiers(ctx context.Context, running *sync.WaitGroup) {
	for sleep(ctx, c.cfg.tierInterval()) {
		asking, cancel := context.WithTimeout(ctx, commitTimeout)
		existing, err := c.admin.Partitions(asking)
		cancel()
		if err != nil {
			continue
		}
		for _, g := range c.layTiers(existing) {
			transport, err := newTransport(&c.cfg, g.topics)
			if err != nil {
				c.log.Error("a retry topic cannot be read", zap.Strings("topics", g.topics), zap.Error(err))
				c.forget(g)
				continue
			}
			c.log.Info("a retry topic of another schedule is read too", zap.Strings("topics", g.topics))
			g.connect(&c.cfg, transport)
			running.Go(func() {
				defer transport.CloseIdleConnections()
				g.run(ctx)
			})
		}
	}
}

func (g *group) connect(cfg *Config, transport *kafka.Transport) {
	g.client = &kafka.Client{Addr: kafka.TCP(cfg.Kafka.Brokers...), Transport: transport}
	g.fetcher = &fetcher{transport: transport, addr: g.client.Addr}
}
