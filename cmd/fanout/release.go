package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"fanout/cmd/internal/terminal"
	"fanout/config"
	"fanout/subscriptions"
)

// releaseCommand opens a lane.
type releaseCommand struct {
	*settings
	*output
}

func (c *releaseCommand) command() *cobra.Command {
	return configured(&cobra.Command{
		Use:   "release ACCOUNT SUBSCRIPTION",
		Short: "Open a webhook's lane and fetch what waits for it",
		Long: `release tells every instance that a webhook's receiver is well again. Its lane
opens: a cool-down, and a pause that the receiver asked for with Retry-After,
end. What was deferred for it, or waits for the time that a 429 or 503 asked
for, is fetched from the retry topics: the first within a minute, the rest at
the lane's pace, nothing twice.

Other retries keep their time. What the configuration says stays: a paused or
disabled subscription is sent nothing, and neither is one whose receiver
answered 410 Gone, until its configuration changes.`,
		Example: "  fanout release acme crm",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withStore(cmd, func(ctx context.Context, _ *config.Config, store *subscriptions.Store) error {
				return c.release(ctx, store, args[0], args[1])
			})
		},
	})
}

func (c *releaseCommand) release(ctx context.Context, store *subscriptions.Store, account, id string) error {
	data, err := getStored(ctx, store, account, id)
	if err != nil {
		return err
	}
	if err := store.Release(ctx, account, id); err != nil {
		return redisError(err)
	}
	if sub, bad := subscriptions.Parse(account, id, data); bad == nil {
		switch {
		case !sub.Enabled():
			fmt.Fprintln(c.stderr, "warning: it is disabled: what waits for it is discarded when it is due")
		case sub.Paused():
			fmt.Fprintln(c.stderr, "warning: it is paused: nothing is sent before it is resumed")
		}
	}
	if c.asJSON() {
		return c.json(map[string]string{"released": account + "/" + id})
	}
	fmt.Fprintf(c.stdout, "released %s\n", terminal.Visible(account+"/"+id))
	return nil
}
