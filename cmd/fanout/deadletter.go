package main

import (
	"github.com/spf13/cobra"
)

func deadletterCommand(parts ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "deadletter",
		Aliases: []string{"deadletters", "dlq"},
		Short:   "Count, list, show, export or replay dead letters",
		Long: `A dead letter is a delivery that fanout has given up on, or a record that it
could not decode. It is kept in fanout.dead-letter with its reason.`,
		Example: `  fanout deadletter stats --since 1d
  fanout deadletter list --account acme
  fanout deadletter replay --account acme --dry-run`,
	}
	cmd.AddCommand(parts...)
	return cmd
}
