package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"fanout/topic"
)

// groupLeave removes an instance from the groups.
type groupLeave struct {
	*settings
	*output
}

func (c *groupLeave) command() *cobra.Command {
	return configured(&cobra.Command{
		Use:   "leave INSTANCE_ID",
		Short: "Remove an instance that was stopped for good",
		Long: `leave tells Kafka that the instance with this kafka.instance_id does not come
back, so that its partitions go to the others at once. Otherwise nobody reads
them until kafka.session_timeout has passed. An instance without a
kafka.instance_id leaves by itself when it stops.`,
		Example: "  fanout group leave fanout-2",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := c.load(cmd)
			if err != nil {
				return err
			}
			return withAdmin(cmd.Context(), &cfg, func(ctx context.Context, cluster *topic.Cluster) error {
				return c.leave(ctx, cluster, args[0])
			})
		},
	})
}

func (c *groupLeave) leave(ctx context.Context, cluster *topic.Cluster, instance string) error {
	left := []string{}
	for _, id := range groupIDs(cluster.Config()) {
		if err := cluster.Group(id).Leave(ctx, "", instance); err != nil {
			return cluster.Explain(fmt.Errorf("%s: %w", instance, err))
		}
		left = append(left, id)
		if !c.asJSON() {
			fmt.Fprintf(c.stdout, "%s has left group %s\n", instance, id)
		}
	}
	if c.asJSON() {
		return c.json(map[string]any{"instance": instance, "left": left})
	}
	return nil
}
