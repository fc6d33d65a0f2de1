package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"fanout/config"
	"fanout/event"
	"fanout/operate"
	"fanout/topic"
	"fanout/webhook"
)

// resendCommand sends deliveries again that ended well.
type resendCommand struct {
	*settings
	*output
	*input
	*fleet
}

func (c *resendCommand) command() *cobra.Command {
	var account, name string
	var dryRun, yes bool
	cmd := &cobra.Command{
		Use:   "resend WEBHOOK-ID",
		Short: "Send one delivery again, also one that was delivered",
		Long: `resend sends one delivery again, through fanout.replay: to its own subscription
as that is now, with its webhook-id. The body is from its dead letter, its
source record, or a record that it has waited in. A delivery that is on its way
is refused: fanout release brings forward what waits.

Exit status: 0 it is sent, 1 a problem, 2 a command line that is not understood,
or nobody to ask and no --yes.`,
		Example: `  fanout resend msg_2mbk7qbnrzvv2pfh3esgfzy4ea --dry-run
  fanout resend msg_2mbk7qbnrzvv2pfh3esgfzy4ea --account acme --yes`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !webhook.ValidID(args[0]) {
				return misusef("%s is not a webhook-id: msg_ and 26 characters", args[0])
			}
			if name == "" {
				name = operate.ResendName(time.Now())
			}
			return c.withKafka(cmd, func(ctx context.Context, cfg *config.Config, admin *topic.Cluster) error {
				return c.resend(ctx, cfg, admin, operate.ResendConfig{ID: args[0], Account: account, Name: name}, dryRun, yes)
			})
		},
	}
	cmd.Flags().StringVar(&account, "account", "", "only where the delivery is this account's")
	cmd.Flags().StringVar(&name, "name", "", "`NAME` on the record that is sent (default resend-<date>-<time>)")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be sent")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	c.adminFlag(cmd)
	return configured(cmd)
}

func (c *resendCommand) resend(ctx context.Context, cfg *config.Config, admin *topic.Cluster, rc operate.ResendConfig, dryRun, yes bool) error {
	directory, stop, err := loadDirectory(ctx, cfg.Redis)
	if err != nil {
		return err
	}
	defer stop()
	rc.Wants = func(account, subscription string, name event.Name) string {
		return operate.Unwanted(directory.Lookup(account, subscription), name)
	}
	r, err := operate.FindResend(ctx, admin, rc)
	if err != nil {
		return fmt.Errorf("%s is not sent: %w", rc.ID, err)
	}
	r.Receiver = c.warnReceiver(ctx, cfg, directory.Lookup(r.Account, r.Subscription), 1)
	if !c.asJSON() {
		was := "of which nothing is known to have come"
		if r.Was != "" {
			was = "which is " + r.Was
		}
		fmt.Fprintf(c.stdout, "%s, %s of %s/%s, %s; its body is from the %s\n", r.ID, r.Event, r.Account, r.Subscription, was, r.Body)
	}
	if !dryRun {
		if err := c.confirm(ctx, yes, "send it again?"); err != nil {
			return err
		}
		if _, err := admin.Create(ctx, missingReplayTopic(cfg)); err != nil {
			return err
		}
		if err := r.Send(ctx, admin); err != nil {
			return err
		}
	}
	switch {
	case c.asJSON():
		return c.json(r)
	case !dryRun:
		fmt.Fprintf(c.stdout, "sent as %s; it is delivered as soon as its receiver takes it\n", r.Name)
	}
	return nil
}
