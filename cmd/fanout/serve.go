package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"fanout/admin"
	"fanout/config"
	"fanout/consumer"
	"fanout/dispatcher"
	"fanout/dispatcher/resolve"
	"fanout/operate/letters"
	"fanout/subscriptions"
	"fanout/topic"
	"fanout/topic/journal"
)

// runCommand delivers until it is stopped.
type runCommand struct {
	*settings
	*output

	network resolve.Config // how receivers are reached
}

func (c *runCommand) command() *cobra.Command {
	return configured(&cobra.Command{
		Use:   "run",
		Short: "Deliver events until stopped",
		Long: `run reads the source, retry and replay topics and delivers what they hold, until
SIGTERM or SIGINT; a second signal ends it at once. While Kafka or Redis cannot
be reached it waits, and says so in its log and on /readyz.

A source that the group has never read, and that holds records older than an
hour, stays unread until kafka.start, or the start of the source, says whether
to send them. fanout check shows what a first run would send.

Its flags are the keys of the configuration.

Exit status: 0 it was stopped, 1 a bad configuration, a source topic that is
missing, or a first run on old records with no start set.`,
		Example: `  fanout run
  fanout run --config /etc/fanout/fanout.yaml --log-level debug`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := c.load(cmd)
			if problems, ok := errors.AsType[config.Problems](err); ok {
				return append(problems, missingSources(cmd.Context(), &cfg)...)
			}
			if err != nil {
				return err
			}
			log := newLogger(cfg.Log, c.stderr)
			i, err := newInstance(cmd.Context(), &cfg, log, c.network)
			if err != nil {
				return err
			}
			return i.run(cmd.Context())
		},
	})
}

// newRegistry has what every instance shows of itself.
func newRegistry() *prometheus.Registry {
	b := thisBuild()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "fanout_build_info", Help: "Which build this is; always 1.",
		ConstLabels: prometheus.Labels{"version": b.Version, "revision": b.Revision, "modified": strconv.FormatBool(b.Modified), "goversion": b.Go},
	})
	info.Set(1)
	registry := prometheus.NewRegistry()
	registry.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// instance is one running fanout: all that `run` and `demo` wire, in the order of a record.
type instance struct {
	cfg      *config.Config
	log      *zap.Logger
	registry *prometheus.Registry

	admin      *admin.Server
	release    func() // what the dashboard uses
	directory  *subscriptions.Directory
	tracing    *tracing // nil: off
	dispatcher *dispatcher.Dispatcher
	peers      *subscriptions.Peers
	consumer   *consumer.Consumer
	journal    *journal.Journal
	letters    *letters.Builder // the index of the dead letters
	kafka      *topic.Cluster   // what the journal, the API and the dashboard use
}

// newInstance wires an instance and listens on its admin address. Its run must be called.
func newInstance(ctx context.Context, cfg *config.Config, log *zap.Logger, network resolve.Config) (*instance, error) {
	i := &instance{cfg: cfg, log: log, registry: newRegistry()}
	var err error
	if i.directory, err = subscriptions.New(cfg.Redis, log, i.registry); err != nil {
		return nil, fmt.Errorf("subscriptions: %w", err)
	}
	if i.kafka, err = topic.NewCluster(cfg.Topic()); err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	lanes := i.keepJournal()
	options := []dispatcher.Option{
		dispatcher.WithShare(func(account, subscription string) float64 { return i.peers.Share(account, subscription) }),
		dispatcher.WithLaneObserver(func(e dispatcher.LaneEvent) {
			lanes.Observe(e)
			i.consumer.FollowLane(e)
		}),
	}
	if cfg.Tracing.Endpoint != "" {
		if i.tracing, err = newTracing(ctx, cfg, log, i.registry); err != nil {
			return nil, err
		}
		options = append(options, dispatcher.WithTracer(i.tracing))
	}
	receivers := cfg.Dispatcher(userAgent())
	receivers.Network = network
	if i.dispatcher, err = dispatcher.New(receivers, i.directory, log, i.registry, options...); err != nil {
		return nil, fmt.Errorf("dispatcher: %w", err)
	}
	if i.peers, err = subscriptions.NewPeers(cfg.Redis, log, i.dispatcher.Demand); err != nil {
		return nil, fmt.Errorf("instances: %w", err)
	}
	if i.consumer, err = consumer.New(cfg.Consumer(), i.dispatcher, log, i.registry); err != nil {
		return nil, fmt.Errorf("consumer: %w", err)
	}
	i.consumer.OnDeath(journal.NewDeaths(i.journal.Tell, cfg.Instance()).Died)
	i.directory.ObserveLanes(subscriptions.LaneObserver{Changed: i.consumer.FollowChange, Released: i.released})
	if err := i.indexLetters(); err != nil {
		return nil, err
	}
	checks := []admin.Check{
		{Name: "subscriptions", Ready: i.subscriptionsReady},
		{Name: "kafka", Ready: i.kafkaReady, Alive: i.consumer.Healthy},
		{Name: "receivers", Ready: i.receiversReady},
	}
	if cfg.SchemaRegistry.URL != "" {
		checks = append(checks, admin.Check{Name: "schema registry", Ready: i.schemasReady})
	}
	i.admin, err = admin.New(ctx, cfg.Admin, log, i.registry, checks...)
	if err != nil {
		return nil, err
	}
	i.peers.Announce(cfg.Instance(), cfg.Admin.AdvertiseURL(), i.admin.Keys().Heartbeat())
	i.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "fanout_ready", Help: "1 where /readyz answers 200, else 0.",
	}, i.ready))
	if i.release, err = i.attach(); err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	return i, nil
}

// keepJournal makes what tells the platform about its customers' endpoints (docs/contract.md#endpoint-events).
func (i *instance) keepJournal() *journal.Lanes {
	i.journal = journal.New(i.kafka, i.kafka.Config().Names().Events, i.log, i.registry)
	lanes := journal.NewLanes(i.journal.Tell, i.cfg.Instance())
	replays := topic.Partition{Topic: i.kafka.Config().Names().Replay}
	i.directory.RecordChanges(changesKept(i.cfg))
	i.directory.Observe(func(c subscriptions.Changed) {
		if c.Kind == subscriptions.ChangeDeleted {
			lanes.Forget(c.Account, c.ID)
		}
		if i.consumer.Owns(replays) { // so that one instance tells
			i.journal.Tell(topic.EndpointEvent{
				Kind: string(c.Kind), Account: c.Account, Subscription: c.ID, Detail: c.Detail, Actor: cmp.Or(c.By, actorRedis),
			})
		}
	})
	return lanes
}

// busyFrom is how many records wait to be read before the index of the dead letters gives way.
const busyFrom = 1000

// indexLetters makes the index of the dead letters, which lies beside the snapshot of the subscriptions.
func (i *instance) indexLetters() error {
	file, err := i.cfg.Redis.Beside("dead-letters")
	if err != nil {
		return fmt.Errorf("index of dead letters: %w", err)
	}
	i.letters = letters.NewBuilder(i.kafka, letters.Config{File: file, Busy: func() bool { return i.consumer.Unread() > busyFrom }}, i.log)
	i.registry.MustRegister(i.letters.Metrics()...)
	return nil
}

// released opens a lane that somebody has released. An instance that did so at somebody's request has told of it.
func (i *instance) released(account, id, by string) {
	i.dispatcher.Release(account, id)
	if by == "" && i.consumer.Owns(topic.Partition{Topic: i.kafka.Config().Names().Replay}) {
		i.journal.Tell(topic.EndpointEvent{Kind: topic.KindReleased, Account: account, Subscription: id, Actor: actorRedis})
	}
}

// actorRedis is who changes subscriptions without saying so.
const actorRedis = "redis"

// ready is the value of fanout_ready.
func (i *instance) ready() float64 {
	if i.admin.Ready() {
		return 1
	}
	return 0
}

// subscriptionsReady says whether it is known who wants what, and how good that knowledge is.
func (i *instance) subscriptionsReady() (ok bool, detail string) {
	s := i.directory.Status()
	switch {
	case !s.Loaded && s.Error != "":
		return false, "waiting for Redis: " + s.Error
	case !s.Loaded:
		return false, "loading"
	case s.Shrink != nil && s.Shrink.Policy != "":
		return true, fmt.Sprintf("Redis evicts keys (maxmemory-policy %s) and holds %d of the %d subscriptions known: the others stay in force until they are written again, or `fanout subscriptions accept`",
			s.Shrink.Policy, s.Shrink.Found, s.Shrink.Known)
	case s.Shrink != nil:
		return true, fmt.Sprintf("Redis holds %d of the %d subscriptions known: refused until `fanout subscriptions accept`", s.Shrink.Found, s.Shrink.Known)
	case s.Error != "":
		return true, fmt.Sprintf("going on with the subscriptions of %s ago: %s", s.Age.Round(time.Second), s.Error)
	}
	return true, ""
}

// kafkaReady says whether every group is joined and records can be written, and which sources stay unread nevertheless.
func (i *instance) kafkaReady() (ok bool, detail string) {
	if err := i.consumer.Ready(); err != nil {
		return false, err.Error()
	}
	return true, i.consumer.Detail()
}

// receiversReady says whether a fault of our own keeps everything from being sent. It is ready nevertheless: it would be
// the same in another instance.
func (i *instance) receiversReady() (ok bool, detail string) {
	why, since := i.dispatcher.NetworkFault()
	if why == "" {
		return true, ""
	}
	return true, fmt.Sprintf("nothing is sent for %s: %s", time.Since(since).Round(time.Second), why)
}

// schemasReady says whether no record waits for the schema registry.
func (i *instance) schemasReady() (ok bool, detail string) {
	if err := i.consumer.SchemasReady(); err != nil {
		return false, err.Error()
	}
	return true, ""
}

// run delivers until ctx ends, and stops within the configuration's shutdown_timeout. What sends ends before what it
// needs: first the consumer, then the dispatcher, then the directory; the admin listener answers to the last.
func (i *instance) run(ctx context.Context) error {
	i.log.Info("starting", zap.String("version", thisBuild().Version), zap.Stringer("admin", i.admin.Addr()))
	admin := begin(ctx, i.serveAdmin)
	directory := begin(ctx, i.directory.Run)
	dispatcher := begin(ctx, i.dispatcher.Run)
	peers := begin(ctx, i.peers.Run)
	journal := begin(ctx, i.journal.Run)
	collector := begin(ctx, tuneCollector)
	letters := begin(ctx, i.letters.Run)
	deadline := make(chan time.Time, 1)
	signalled := context.AfterFunc(ctx, func() { deadline <- time.Now().Add(i.cfg.ShutdownTimeout) })

	err := i.consume(ctx)
	if signalled() { // it ended by itself
		deadline <- time.Now().Add(i.cfg.ShutdownTimeout)
	}
	stopErr := dispatcher()
	i.flushTraces(ctx, <-deadline)
	stopErr = errors.Join(stopErr, peers(), collector(), directory(), admin(), journal(), letters())
	i.kafka.Close()
	if err != nil {
		return err
	}
	if stopErr != nil {
		return stopErr
	}
	i.log.Info("stopped")
	return nil
}

// flushTraces ends tracing, by the deadline; the dispatcher has ended. A collector that is away holds no stop up for long.
func (i *instance) flushTraces(ctx context.Context, deadline time.Time) {
	if i.tracing == nil {
		return
	}
	if soon := time.Now().Add(flushTimeout); soon.Before(deadline) {
		deadline = soon
	}
	i.tracing.stop(context.WithoutCancel(ctx), deadline)
}

// consume waits until subscriptions are known, since an event is matched against nothing else, and then reads.
func (i *instance) consume(ctx context.Context) error {
	select {
	case <-i.directory.Ready():
	case <-ctx.Done():
		return nil
	}
	return i.consumer.Run(ctx)
}

// begin runs a part in its own goroutine, past the end of ctx: until the returned function is called, which waits for it.
func begin(ctx context.Context, part func(context.Context) error) (stop func() error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var group errgroup.Group
	group.Go(func() error { return part(ctx) })
	return func() error {
		cancel()
		return group.Wait()
	}
}
