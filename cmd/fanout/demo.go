//go:build !nodemo

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/zap"

	"fanout/config"
	"fanout/dispatcher/resolve"
)

// demoFlags are the flags of `demo`.
type demoFlags struct {
	length time.Duration // how long events are sent; 0: until the demo is stopped
	rate   int           // events a second
	file   string        // where the configuration is written; empty: a new file in the temporary folder
}

// demoCommand runs fanout with all that is around it.
type demoCommand struct {
	*settings
	*output
}

func (c *demoCommand) command() *cobra.Command {
	var f demoFlags
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See it work, with nothing to install",
		Long: `demo runs fanout as run does, together with an embedded Kafka, an embedded
Redis, three receivers (one well, one flaky, one dead) and live traffic.

It is a playground: it writes a configuration file with which every command can
be tried on it from a second terminal. Only you can read the file, and it is
removed at the end. Retries are quick, and a delivery expires after 5 s, so that
dead letters are seen soon. Records are kept for 10 minutes.

Ctrl-C stops the traffic. The demo then waits for the last deliveries, for 30 s
at most, and accounts for all of them. A second Ctrl-C ends it at once.

The dashboard listens on admin.listen (--admin-listen, FANOUT_ADMIN_LISTEN), or
on a free port where that one is taken. FANOUT_ADMIN_TOKEN is asked for if set.
The rest of the configuration is the demo's own.

Exit status: 0 where nothing was lost, 1 where the account does not balance or
the demo cannot run, 130 after a second Ctrl-C.`,
		Example: "  fanout demo\n  fanout demo --for 10s\n  fanout demo --config-file demo.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(c.file); err != nil {
				return misuse(err)
			}
			cfg, err := c.admin(cmd.Flags())
			if err != nil {
				return err
			}
			return c.demo(cmd.Context(), &cfg, &f)
		},
	}
	flags := cmd.Flags()
	flags.DurationVar(&f.length, "for", 0, "`DURATION` for which events are sent; 0 is until it is stopped")
	flags.IntVar(&f.rate, "rate", 200, "`EVENTS` a second, 1 to 10000")
	flags.StringVar(&f.file, "config-file", "", "`FILE` to write the demo's configuration to (default a new one in the temporary folder)")
	keys := pflag.NewFlagSet("", pflag.ContinueOnError)
	config.AddFlags(keys)
	keys.VisitAll(func(flag *pflag.Flag) {
		if strings.HasPrefix(flag.Name, "admin-") {
			flag.Hidden = true // as with every command but run
			flags.AddFlag(flag)
		}
	})
	return cmd
}

// check looks for flags that make no sense. file is that of --config.
func (f *demoFlags) check(file string) error {
	switch {
	case file != "":
		return hint(fmt.Errorf("--config %s: the demo reads no configuration", file), "--config-file says where it writes its own")
	case f.length < 0:
		return fmt.Errorf("--for %s: want a duration above 0, as in 10s, or 0 to run until it is stopped", f.length)
	case f.rate < 1 || f.rate > 10_000:
		return fmt.Errorf("--rate %d: want 1 to 10000 events a second", f.rate)
	}
	return nil
}

// demoAdmin is the default configuration with the section admin of flags and variables. Whatever else is set there may be
// meant for production, and is left alone.
func (c *demoCommand) admin(flags *pflag.FlagSet) (config.Config, error) {
	var env []string
	for _, pair := range c.env {
		if strings.HasPrefix(pair, "FANOUT_ADMIN_") {
			env = append(env, pair)
		}
	}
	cfg, warnings, err := config.Load("", false, env, flags)
	for _, warning := range warnings {
		fmt.Fprintf(c.stderr, "warning: %s\n", warning)
	}
	return cfg, err
}

// exitInterrupted is the exit status after a second SIGINT or SIGTERM, as a shell has it for a program that SIGINT ended.
const exitInterrupted = 130

// drainWithin is how long the last deliveries may take: an attempt that hangs, the age at which deliveries expire, and
// some waiting.
const drainWithin = 30 * time.Second

// demo sends events until ctx or f.length ends, waits until the last delivery has ended, and shows the account.
func (c *demoCommand) demo(ctx context.Context, cfg *config.Config, f *demoFlags) (err error) {
	atOnce, stop := interruptedAgain(ctx)
	defer stop()
	show := c.newView(f)
	defer show.close()
	show.starting("Kafka and Redis")

	o, err := newOutside(ctx)
	if err != nil {
		return err
	}
	defer o.close()
	o.configure(cfg)
	i, taken, err := newDemoInstance(ctx, cfg, newLogger(config.Log{Level: "error", Format: "console"}, show.logs()))
	if err != nil {
		return err
	}
	r := beginInstance(ctx, i)
	defer func() { err = errors.Join(err, r.stop()) }()
	file, err := writeDemoFile(f.file, cfg)
	if err != nil {
		return err
	}
	defer file.remove()
	if !r.ready(ctx, show.starting) {
		show.say("Stopped before it was ready.")
		return nil
	}
	show.started(&playground{
		dashboard: adminURL(cfg.Admin.Listen), taken: taken, kafka: cfg.Kafka.Brokers[0], redis: cfg.Redis.URL,
		file: file.name, receivers: o.receivers, unset: overriding(c.env, cfg),
	})

	pruned, stopPruning := context.WithCancel(context.WithoutCancel(ctx))
	defer stopPruning()
	go o.prune(pruned)
	t := &traffic{receivers: o.receivers, brokers: cfg.Kafka.Brokers, rate: f.rate}
	b := &books{cfg: cfg, registry: i.registry, outside: o, traffic: t, start: time.Now()}
	sendErr := r.send(ctx, atOnce, t, f.length, func() { show.progress(b.account()) })
	show.stopping()
	drained, cancel := context.WithTimeout(r.while(atOnce), drainWithin)
	defer cancel()
	account := b.drain(drained, show.progress)
	if err := errors.Join(sendErr, c.showAccount(show, account)); err != nil {
		return err
	}
	if atOnce.Err() != nil && !account.Settled {
		return &exitError{exitInterrupted, errors.New("some deliveries had not ended")}
	}
	return account.problem()
}

// interruptedAgain returns a context that ends at the second SIGINT or SIGTERM (the first one ends ctx, elsewhere), or at
// SIGHUP, which a terminal sends when it is closed. From then on signals have their default effect.
func interruptedAgain(ctx context.Context) (again context.Context, stop func()) {
	again, cancel := context.WithCancel(context.WithoutCancel(ctx))
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // by nohup
		signal.Notify(signals, syscall.SIGHUP)
	}
	go func() {
		defer cancel()
		defer signal.Stop(signals)
		for first := true; ; first = false {
			select {
			case <-again.Done():
				return
			case s := <-signals:
				if !first || s == syscall.SIGHUP {
					return
				}
			}
		}
	}()
	return again, cancel
}

// newDemoInstance takes a free port where that of the dashboard is taken, and says so. cfg has the address then.
func newDemoInstance(ctx context.Context, cfg *config.Config, log *zap.Logger) (i *instance, taken string, err error) {
	i, err = newInstance(ctx, cfg, log, resolve.Config{})
	if errors.Is(err, syscall.EADDRINUSE) {
		taken = cfg.Admin.Listen
		host, _, _ := net.SplitHostPort(taken) // newInstance has understood it
		cfg.Admin.Listen = net.JoinHostPort(host, "0")
		i, err = newInstance(ctx, cfg, log, resolve.Config{})
	}
	if failed, ok := errors.AsType[*net.OpError](err); ok && failed.Op == "listen" {
		return nil, "", hint(err, "--admin-listen or FANOUT_ADMIN_LISTEN says where the dashboard listens")
	}
	if err != nil {
		return nil, "", err
	}
	cfg.Admin.Listen = i.admin.Addr().String()
	return i, taken, nil
}

// demoInstance is an instance that runs.
type demoInstance struct {
	*instance
	ended chan struct{} // closed when it has ended, by itself too
	stop  func() error  // stops it, and returns its error
}

func beginInstance(ctx context.Context, i *instance) *demoInstance {
	r := &demoInstance{instance: i, ended: make(chan struct{})}
	r.stop = begin(ctx, func(ctx context.Context) error {
		defer close(r.ended)
		return i.run(ctx)
	})
	return r
}

// while is ctx for as long as the instance runs.
func (r *demoInstance) while(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		select {
		case <-r.ended:
		case <-ctx.Done():
		}
	}()
	return ctx
}

// ready waits until the instance delivers, and says meanwhile what it waits for. It is false where ctx or the instance
// ends before.
func (r *demoInstance) ready(ctx context.Context, say func(waitsFor string)) bool {
	ctx = r.while(ctx)
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for ctx.Err() == nil {
		if r.admin.Ready() {
			return true
		}
		say("fanout")
		select {
		case <-poll.C:
		case <-ctx.Done():
		}
	}
	return false
}

// send produces traffic until ctx, atOnce or length ends; a length of 0 never does.
func (r *demoInstance) send(ctx, atOnce context.Context, t *traffic, length time.Duration, tick func()) error {
	ctx, cancel := context.WithCancel(r.while(ctx))
	defer cancel()
	defer context.AfterFunc(atOnce, cancel)()
	if length > 0 {
		defer time.AfterFunc(length, cancel).Stop()
	}
	return t.run(ctx, tick)
}
