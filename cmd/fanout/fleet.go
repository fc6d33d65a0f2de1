package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fanout/admin"
	"fanout/config"
	"fanout/operate"
	"fanout/subscriptions"
)

// fleet is the running instances, as --admin or Redis names them.
type fleet struct {
	*output

	admins []string    // --admin
	keys   *admin.Keys // of admin.token, once they were asked for
}

// adminFlag adds --admin to a command that asks running instances.
func (f *fleet) adminFlag(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.admins, "admin", nil, "`URL` of an instance, repeatable (default those that announce themselves, or else admin.listen)")
}

// remotes are the instances to ask: those of --admin, or all that announce themselves, or else the one on this machine.
func (f *fleet) remotes(ctx context.Context, cfg *config.Config) []remote {
	if len(f.admins) == 0 {
		if all := f.announced(ctx, cfg); len(all) > 0 {
			return all
		}
	}
	return f.named(cfg)
}

// named are the instances of --admin, or the one on this machine.
func (f *fleet) named(cfg *config.Config) []remote {
	if len(f.admins) == 0 {
		return []remote{{base: adminURL(cfg.Admin.Listen), token: cfg.Admin.Token}}
	}
	all := make([]remote, len(f.admins))
	for i, base := range f.admins {
		if !strings.Contains(base, "://") {
			base = "http://" + base
		}
		all[i] = remote{base: strings.TrimRight(base, "/"), token: cfg.Admin.Token}
	}
	return all
}

// announcedPatience bounds how long Redis is asked for the instances.
const announcedPatience = 2 * time.Second

// announced are the instances that announce themselves in Redis with a right MAC (docs/contract.md#advertise). They are asked with a signature,
// never with the token.
func (f *fleet) announced(ctx context.Context, cfg *config.Config) []remote {
	if cfg.Admin.Token == "" {
		return nil
	}
	if f.keys == nil { // it takes a good part of a second
		f.keys = new(admin.DeriveKeys(cfg.Admin.Token))
	}
	ctx, cancel := context.WithTimeout(ctx, announcedPatience)
	defer cancel()
	instances, err := subscriptions.Announced(ctx, cfg.Redis, f.keys.Heartbeat())
	if err != nil {
		return nil // whom the output names as having answered is who was asked
	}
	var all []remote
	for _, one := range instances {
		all = append(all, remote{base: one.URL, keys: f.keys})
	}
	return all
}

// lanes asks all instances for their lanes.
func (f *fleet) lanes(ctx context.Context, cfg *config.Config) []operate.InstanceLanes {
	remotes := f.remotes(ctx, cfg)
	answers := make([]operate.InstanceLanes, len(remotes))
	askAll(remotes, func(i int, r remote) {
		lanes, err := r.lanes(ctx)
		answers[i] = operate.InstanceLanes{Instance: r.base, Lanes: lanes, Err: err}
	})
	return answers
}

// lookAtReceivers notes in the plan which receivers do not get at once what is sent to them.
func (f *fleet) lookAtReceivers(ctx context.Context, cfg *config.Config, plan *operate.ReplayPlan, configured func(account, subscription string) string) {
	if plan.Send == 0 {
		return
	}
	if configured == nil {
		configured = func(_, _ string) string { return "" }
	}
	var lanes []operate.Lane
	var silent []string
	for _, instance := range f.lanes(ctx, cfg) {
		if instance.Err != nil {
			silent = append(silent, instance.Instance)
			fmt.Fprintf(f.stderr, "warning: whether receivers are parked is not known: %v\n", instance.Err)
		}
		lanes = append(lanes, instance.Lanes...)
	}
	plan.Look(configured, lanes, silent, time.Now())
}

// warnReceiver says on standard error what keeps the subscription's receiver from getting at once what is sent to it. An instance
// that does not answer is named: nothing is known of its lane. It returns the same for programs.
func (f *fleet) warnReceiver(ctx context.Context, cfg *config.Config, sub *subscriptions.Subscription, send int) *operate.Receiver {
	if sub.Paused() {
		fmt.Fprintln(f.stderr, "warning: the subscription is paused: what is sent waits until it is resumed, for max_age at most")
	}
	now := time.Now()
	var lanes []operate.Lane
	for _, instance := range f.lanes(ctx, cfg) {
		if instance.Err != nil {
			fmt.Fprintf(f.stderr, "warning: whether the receiver is parked is not known: %v\n", instance.Err)
		}
		for i := range instance.Lanes {
			l := &instance.Lanes[i]
			if l.Account == sub.Account() && l.Subscription == sub.ID() && (l.State == "parked" || l.Condition(now) == "held") {
				fmt.Fprintf(f.stderr, "warning: %s: the receiver is %s\n", instance.Instance, laneWords(l, now))
			}
		}
		lanes = append(lanes, instance.Lanes...)
	}
	return operate.NewReceiver(sub.Account(), sub.ID(), send, operate.Configured(sub), lanes, now)
}
