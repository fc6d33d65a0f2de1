package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fanout/config"
	"fanout/dispatcher"
	"fanout/operate"
	"fanout/topic"
)

// backfillFlags say what is planned again, and how it is sent.
type backfillFlags struct {
	account, subscription string
	since, until          string
	sendingFlags
}

// backfillCommand sends what a subscription has not had.
type backfillCommand struct {
	*settings
	*output
	*input
	*fleet
}

func (c *backfillCommand) command() *cobra.Command {
	var f backfillFlags
	cmd := &cobra.Command{
		Use:   "backfill TOPIC",
		Short: "Send source records to a subscription that did not get them",
		Long: `backfill plans the records of a source topic again for one subscription, as it
is now, and sends what it wants through fanout.replay, with the webhook-ids
that live deliveries would have had. It is for what was never planned: the
subscription was made too late, selected too little, or was off by mistake.

It takes each partition's end, or --until, when it starts, and waits until the
group has committed all up to it. What was delivered, waits, or is dead is
skipped and counted, and so is what the attempts topic cannot tell of; --again
sends it, but for what waits. With --name it can be interrupted and run again:
it goes on where it ended. It stops by itself when more than --max-failures of
what it sent have failed.

Exit status: 0 everything is sent, 1 a problem or it stopped by itself, 2 a
command line that is not understood, or nobody to ask and no --yes.`,
		Example: `  fanout backfill channel.email --account acme --subscription crm --since 2d
  fanout backfill channel.sms --account acme --subscription crm \
    --since 2026-03-01T00:00:00Z --until 2026-03-02T00:00:00Z --dry-run`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			bc, err := f.check(args[0], time.Now())
			if err != nil {
				return err
			}
			return c.withKafka(cmd, func(ctx context.Context, cfg *config.Config, admin *topic.Cluster) error {
				return c.backfill(ctx, cfg, admin, &bc, &f)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.account, "account", "", "the subscription's account")
	flags.StringVar(&f.subscription, "subscription", "", "its id")
	flags.StringVar(&f.since, "since", "", "records from then on: a time (RFC 3339), or how long ago (90m, 2d)")
	flags.StringVar(&f.until, "until", "", "records from before then (default: all that there are now)")
	f.flags(flags, "backfill", "was delivered or is dead, and what nobody can tell of")
	for _, name := range []string{"account", "subscription", "since"} {
		_ = cmd.MarkFlagRequired(name) // it is there
	}
	c.adminFlag(cmd)
	return configured(cmd)
}

// check reads the flags. All that is wrong is said together.
func (f *backfillFlags) check(source string, now time.Time) (operate.BackfillConfig, error) {
	var problems []string
	since, err := moment(f.since, now)
	if err != nil {
		problems = append(problems, fmt.Sprintf("--since %s: %v", f.since, err))
	}
	until, err := moment(f.until, now)
	if err != nil {
		problems = append(problems, fmt.Sprintf("--until %s: %v", f.until, err))
	}
	if !until.IsZero() && !since.Before(until) && len(problems) == 0 {
		problems = append(problems, fmt.Sprintf("--until %s: is not after --since %s: nothing lies between them", f.until, f.since))
	}
	if f.name == "" {
		f.name = operate.DefaultBackfillName(now)
	}
	problems = append(problems, f.problems()...)
	if len(problems) > 0 {
		return operate.BackfillConfig{}, misuse(errors.New(strings.Join(problems, "\n  ")))
	}
	return operate.BackfillConfig{
		Name: f.name, Topic: source, Account: f.account, Subscription: f.subscription, Since: since, Until: until, Again: f.again, Rate: f.rate,
		MaxFailures: f.maxFailures,
	}, nil
}

func (c *backfillCommand) backfill(ctx context.Context, cfg *config.Config, admin *topic.Cluster, bc *operate.BackfillConfig, f *backfillFlags) error {
	if !slices.Contains(sourceNames(cfg), bc.Topic) {
		return misuse(notASource(cfg, bc.Topic))
	}
	directory, stop, err := loadDirectory(ctx, cfg.Redis)
	if err != nil {
		return err
	}
	defer stop()
	sub := directory.Lookup(bc.Account, bc.Subscription)
	switch {
	case sub == nil:
		return hint(fmt.Errorf("account %s has no subscription %s", bc.Account, bc.Subscription), "`fanout subscriptions list --account %s` shows those that it has", bc.Account)
	case !sub.Enabled():
		return hint(fmt.Errorf("subscription %s/%s is off: its deliveries would be discarded", bc.Account, bc.Subscription), "enable it first")
	}
	if _, err := admin.Create(ctx, missingReplayTopic(cfg)); err != nil {
		return err
	}
	bc.Plan = dispatcher.NewPlanner(directory).Plan
	bc.Waits = func(n int) {
		fmt.Fprintf(c.stderr, "waiting for group %s to commit %s up to where the backfill ends\n", cfg.Kafka.Group, count(n, "partition"))
	}
	done, total, end := c.progress("planning the backfill")
	bc.Done, bc.Total = done, total
	b := operate.NewBackfill(admin, *bc)
	plan, err := b.Plan(ctx)
	end()
	if err != nil {
		return err
	}
	plan.Receiver = c.warnReceiver(ctx, cfg, sub, plan.Send)
	if f.dryRun && c.asJSON() {
		return c.json(plan)
	}
	if !c.asJSON() {
		c.showBackfill(plan, f.dryRun)
	}
	if f.dryRun {
		return nil
	}
	if plan.Send > 0 {
		if err := c.confirm(ctx, f.yes, fmt.Sprintf("send %s to %s/%s as %s?", count(plan.Send, "event"), bc.Account, bc.Subscription, f.name)); err != nil {
			return err
		}
	}
	return c.sendBackfill(ctx, b, plan)
}

func (c *backfillCommand) showBackfill(p *operate.BackfillPlan, dry bool) {
	does := "sends"
	if dry {
		does = "would send"
	}
	fmt.Fprintf(c.stdout, "backfill %s %s %s to %s/%s: of %s it wants %d\n", p.Name, does, count(p.Send, "event"), p.Account, p.Subscription, count(p.Records, "record"), p.Matched)
	for _, line := range p.Lines() {
		fmt.Fprintln(c.stdout, line)
	}
}

func (c *backfillCommand) sendBackfill(ctx context.Context, b *operate.Backfill, plan *operate.BackfillPlan) error {
	var err error
	if plan.Send > 0 {
		err = c.watchSending(b, plan.Send, func() error { return b.Run(ctx, plan) })
	}
	if c.asJSON() {
		return c.jsonSent(b, plan.Name, plan, err)
	}
	if plan.Send == 0 {
		return nil
	}
	fmt.Fprintf(c.stdout, "sent %d of %d in %s, %d seen to fail\n", b.Sent(), plan.Send, b.Sending().Round(10*time.Millisecond), b.Failures())
	if n := b.Taken(); n > 0 {
		fmt.Fprintf(c.stdout, "%8d not sent: another one sent them meanwhile\n", n)
	}
	return howToGoOn(err, b, plan.Send, plan.Name)
}
