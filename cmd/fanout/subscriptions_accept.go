package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"fanout/cmd/internal/terminal"
	"fanout/config"
	"fanout/subscriptions"
)

// subscriptionsAccept accepts that subscriptions are gone.
type subscriptionsAccept struct {
	*settings
	*output
	*input
}

func (c *subscriptionsAccept) command() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "accept",
		Short: "Confirm that Redis holds far fewer subscriptions than before",
		Long: `accept confirms a loss that instances have refused. Where Redis is empty, or
holds less than half of what they know, they go on with what they know until
somebody confirms it; /readyz and the log say so. On a terminal it asks for the
number of those that are left.`,
		Example: "  fanout subscriptions accept",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withStore(cmd, func(ctx context.Context, _ *config.Config, store *subscriptions.Store) error {
				all, wrong, err := storedOf(ctx, store, "")
				if err != nil {
					return err
				}
				n := len(all) - len(wrong)
				if n == 0 && !yes {
					return hint(errors.New("redis holds no subscription: nothing would be delivered any more"), "if that is meant, repeat with --yes")
				}
				if in, ok := c.stdin.(*os.File); ok && !yes && terminal.Is(in) {
					question := fmt.Sprintf("Redis holds %s. Whatever else is in force ends on every instance. Type %d to accept that:", count(n, "subscription"), n)
					if !c.answered(ctx, in, question, strconv.Itoa(n)) {
						return &exitError{code: exitProblem, err: errors.New("not accepted")}
					}
				}
				if err := store.AcceptShrink(ctx); err != nil {
					return err
				}
				if c.asJSON() {
					return c.json(map[string]int{"accepted": n})
				}
				fmt.Fprintf(c.stdout, "accepted: %s\n", count(n, "subscription"))
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "ask nothing, and accept that there is no subscription at all too")
	return configured(cmd)
}
