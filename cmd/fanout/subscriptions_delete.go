package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"fanout/config"
	"fanout/subscriptions"
)

// subscriptionsDelete deletes one subscription.
type subscriptionsDelete struct {
	*settings
	*output
}

func (c *subscriptionsDelete) command() *cobra.Command {
	return configured(&cobra.Command{
		Use:   "delete ACCOUNT ID",
		Short: "Delete a subscription",
		Long: `delete removes a subscription. Its deliveries that wait in retry topics are
discarded when they are due.`,
		Example: "  fanout subscriptions delete acme crm",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withStore(cmd, func(ctx context.Context, _ *config.Config, store *subscriptions.Store) error {
				found, err := store.Delete(ctx, args[0], args[1])
				if err != nil {
					return err
				}
				if !found {
					return fmt.Errorf("there is no subscription %s/%s", args[0], args[1])
				}
				if c.asJSON() {
					return c.json(map[string]string{"deleted": args[0] + "/" + args[1]})
				}
				fmt.Fprintf(c.stdout, "deleted %s/%s\n", args[0], args[1])
				return nil
			})
		},
	})
}
