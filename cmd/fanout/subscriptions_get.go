package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"fanout/cmd/internal/terminal"
	"fanout/config"
	"fanout/subscriptions"
)

// subscriptionsGet shows one subscription.
type subscriptionsGet struct {
	*settings
	*output
}

func (c *subscriptionsGet) command() *cobra.Command {
	var reveal bool
	cmd := &cobra.Command{
		Use:   "get ACCOUNT ID",
		Short: "Show a subscription's JSON, masked",
		Long: "get shows a subscription as Redis holds it. Secrets, header values and whatever\n" +
			"else looks like a secret are masked, but for url and events: the JSON can be\n" +
			"applied again, and what is masked stays as it is. What is odd is said on\n" +
			"standard error.",
		Example: "  fanout subscriptions get acme crm",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withStore(cmd, func(ctx context.Context, _ *config.Config, store *subscriptions.Store) error {
				data, err := getStored(ctx, store, args[0], args[1])
				if err != nil {
					return err
				}
				warn(c.stderr, args[0], args[1], warningsOf(store.Reader().ReviewStored(args[0], args[1], data, time.Now()).Warnings))
				if !reveal {
					data = subscriptions.Masked(data)
				}
				return c.json(data)
			})
		},
	}
	cmd.Flags().BoolVar(&reveal, "show-secrets", false, "mask nothing")
	return configured(cmd)
}

// warn says what is odd about a subscription.
func warn(w io.Writer, account, id string, warnings []warning) {
	for _, one := range warnings {
		fmt.Fprintf(w, "warning: %s\n", terminal.Visible(account+"/"+id+" "+one.String()))
	}
}

func getStored(ctx context.Context, store *subscriptions.Store, account, id string) (json.RawMessage, error) {
	data, found, err := store.Get(ctx, account, id)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, noSubscription(account, id)
	}
	return data, nil
}

func noSubscription(account, id string) error {
	return hint(fmt.Errorf("there is no subscription %s/%s", account, id), "fanout subscriptions list --account %s", account)
}
