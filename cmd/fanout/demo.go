package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/zap"
	"golang.org/x/term"

	"fanout/config"
	"fanout/event"
)

func (a *app) demoCommand() *cobra.Command {
	var (
		length time.Duration
		rate   int
	)
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See it work: everything embedded, nothing to install",
		Long: "demo runs fanout as `run` does, with an embedded Kafka and Redis, live events of all eight names, and three\n" +
			"receivers: one well, one flaky, one dead. Its ladder of retries is short, so that dead letters are seen soon.\n" +
			"It ends with what was sent, delivered, retried and dead, and the loss account.\n\n" +
			"Exit status: 0 where nothing was lost, else 1.",
		Example: "  fanout demo\n  fanout demo --for 10s",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if rate < 1 || rate > 10_000 {
				return &exitError{2, errors.New("--rate: want 1 to 10000 events a second")}
			}
			return a.demo(cmd.Context(), length, rate)
		},
	}
	cmd.Flags().DurationVar(&length, "for", 0, "how long events are sent; 0 means until it is stopped")
	cmd.Flags().IntVar(&rate, "rate", 200, "events a second")
	return cmd
}

// outside is the demo's world: what is somebody else's where fanout is run for good.
type outside struct {
	kafka     *kfake.Cluster
	redis     *miniredis.Miniredis
	receivers receivers
}

func newOutside(ctx context.Context) (*outside, error) {
	o := &outside{}
	var err error
	if o.kafka, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, sourceTopics()...)); err != nil {
		return nil, fmt.Errorf("embedded Kafka: %w", err)
	}
	if o.redis, err = miniredis.Run(); err != nil {
		o.close()
		return nil, fmt.Errorf("embedded Redis: %w", err)
	}
	if o.receivers, err = startReceivers(ctx); err != nil {
		o.close()
		return nil, fmt.Errorf("receivers: %w", err)
	}
	// As a config sync job would: the two commands of DESIGN.md section 5.
	for _, r := range o.receivers {
		o.redis.HSet("fanout:account:"+r.account, r.id, r.subscription())
		if _, err := o.redis.XAdd("fanout:changes", "*", []string{"account", r.account}); err != nil {
			o.close()
			return nil, fmt.Errorf("embedded Redis: %w", err)
		}
	}
	return o, nil
}

func (o *outside) close() {
	o.receivers.close()
	if o.redis != nil {
		o.redis.Close()
	}
	o.kafka.Close()
}

// demoConfig is the default configuration, with the outside's addresses and a ladder for the impatient.
func demoConfig(o *outside) config.Config {
	cfg := config.Default()
	cfg.Kafka.Brokers, cfg.Kafka.Partitions = o.kafka.ListenAddrs(), 3
	cfg.Kafka.RetryPartitions = 1
	cfg.Redis.URL, cfg.Redis.SnapshotFile = "redis://"+o.redis.Addr(), "off"
	cfg.Delivery.Schedule = []time.Duration{500 * time.Millisecond, time.Second, time.Second}
	cfg.Delivery.MaxAge = 5 * time.Second
	cfg.Lanes.ParkAfter, cfg.Lanes.ParkMin, cfg.Lanes.ParkMax = 100, time.Second, 2*time.Second
	cfg.Egress.AllowHTTP, cfg.Egress.AllowCIDRs = true, []string{"127.0.0.0/8"}
	return cfg
}

// drainWithin is how long the last deliveries may take: the ladder, the age at which they expire, and some waits.
const drainWithin = 30 * time.Second

// demo sends events until ctx or length ends, waits until the last delivery is settled, and shows the account.
func (a *app) demo(ctx context.Context, length time.Duration, rate int) error {
	o, err := newOutside(ctx)
	if err != nil {
		return err
	}
	defer o.close()
	cfg := demoConfig(o)
	i, err := newDemoInstance(ctx, &cfg, newLogger(config.Log{Level: "error", Format: "console"}, a.stderr))
	if err != nil {
		return err
	}
	show := a.stdout
	if a.asJSON() { // standard output is the program's
		show = a.stderr
	}
	fmt.Fprintf(show, "fanout demo: embedded Kafka and Redis, %d events a second, three receivers\n", rate)
	for _, r := range o.receivers {
		fmt.Fprintf(show, "  %-18s %s\n", r.account+"/"+r.id, r.manner)
	}
	fmt.Fprintf(show, "dashboard: http://%s\n\n", i.admin.Addr())

	stop := begin(ctx, i.run)
	sending := ctx
	if length > 0 {
		var cancel context.CancelFunc
		sending, cancel = context.WithTimeout(ctx, length)
		defer cancel()
	}
	t := &traffic{receivers: o.receivers, brokers: o.kafka.ListenAddrs(), rate: rate}
	l := newLive(show, i.registry, t)
	sendErr := t.run(sending, func() { l.show() })
	account := l.drain(context.WithoutCancel(ctx), drainWithin)
	if err := errors.Join(sendErr, stop()); err != nil {
		return err
	}
	if a.asJSON() {
		err = a.json(account)
	} else {
		err = account.write(a.stdout)
	}
	if err == nil && !account.Balanced {
		return errors.New("the account does not balance")
	}
	return err
}

// newDemoInstance takes a free port where that of the dashboard is taken.
func newDemoInstance(ctx context.Context, cfg *config.Config, log *zap.Logger) (*instance, error) {
	i, err := newInstance(ctx, cfg, log)
	if errors.Is(err, syscall.EADDRINUSE) {
		cfg.Admin.Listen = net.JoinHostPort("127.0.0.1", "0")
		i, err = newInstance(ctx, cfg, log)
	}
	return i, err
}

// sourceTopics are the six default ones.
func sourceTopics() []string {
	var topics []string
	seen := map[string]bool{}
	for _, name := range event.Names() {
		if topic := sourceTopic(name); !seen[topic] {
			seen[topic] = true
			topics = append(topics, topic)
		}
	}
	return topics
}

// sourceTopic is the default topic that an event comes from.
func sourceTopic(name event.Name) string { return "channel." + strings.ToLower(name.Channel()) }

// isTerminal says whether w shows what is written to a person.
func isTerminal(w io.Writer) bool {
	file, ok := w.(interface{ Fd() uintptr })
	return ok && term.IsTerminal(int(file.Fd()))
}
