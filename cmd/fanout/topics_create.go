package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"fanout/config"
	"fanout/topic"
)

// topicsCreate creates fanout's topics.
type topicsCreate struct {
	*settings
	*output
}

func (c *topicsCreate) command() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create those of fanout's own topics that do not exist",
		Long: `create makes the retry, replay and dead-letter topics, and the attempts topic
where it is configured. It leaves topics that exist as they are, and creates no
source topic: those belong to their producers.`,
		Example: `  fanout topics create --dry-run
  fanout topics create --kafka.replication 3`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := c.load(cmd)
			if err != nil {
				return err
			}
			return withAdmin(cmd.Context(), &cfg, func(ctx context.Context, admin *topic.Cluster) error {
				return c.create(ctx, &cfg, admin, dryRun)
			})
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be created")
	return configured(cmd)
}

func (c *topicsCreate) create(ctx context.Context, cfg *config.Config, admin *topic.Cluster, dryRun bool) error {
	existing, err := admin.Sizes(ctx)
	if err != nil {
		return err
	}
	owner := cfg.Consumer()
	var absent []topic.Spec
	names := []string{}
	for _, spec := range owner.Owned() {
		if existing[spec.Name] == 0 {
			absent = append(absent, spec)
			names = append(names, spec.Name)
		}
	}
	verb := "would create"
	if !dryRun {
		verb = "created"
		created, err := admin.Create(ctx, absent)
		names = slices.DeleteFunc(names, func(name string) bool { return !slices.Contains(created, name) })
		if err != nil {
			return hint(err, "kafka.replication must not exceed the number of brokers, and the Kafka user must be allowed to create topics")
		}
	}
	if c.asJSON() {
		return c.json(map[string]any{strings.ReplaceAll(verb, " ", "_"): append([]string{}, names...)})
	}
	for _, name := range names {
		fmt.Fprintf(c.stdout, "%s %s\n", verb, name)
	}
	if len(names) == 0 {
		fmt.Fprintln(c.stdout, "all topics exist")
	}
	return nil
}
