package main

import (
	"github.com/spf13/cobra"

	"fanout/topic"
)

func groupCommand(parts ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "group",
		Short: "Show who reads which partitions; remove an instance",
		Long: `group looks at the two consumer groups: kafka.group, which reads the sources,
and kafka.group.retry, which reads the retry topics and the replay topic.`,
		Example: `  fanout group describe
  fanout group leave fanout-2`,
	}
	cmd.AddCommand(parts...)
	return cmd
}

// groupIDs are the two consumer groups of a configuration.
func groupIDs(cfg *topic.Config) []string { return []string{cfg.Kafka.Group, cfg.RetryGroup()} }
