package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fanout/cmd/internal/terminal"
	"fanout/config"
	"fanout/topic"
)

func topicsCommand(parts ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "topics",
		Short: "Create, describe or repair fanout's topics",
		Example: `  fanout topics describe
  fanout topics create --dry-run
  fanout topics apply --dry-run`,
	}
	cmd.AddCommand(parts...)
	return cmd
}

// topicsDescribe shows fanout's topics.
type topicsDescribe struct {
	*settings
	*output
}

func (c *topicsDescribe) command() *cobra.Command {
	return configured(&cobra.Command{
		Use:   "describe",
		Short: "Show the source topics and those that fanout owns",
		Long: `describe shows each topic with its partitions, the smallest number of replicas
and of replicas in sync, and the settings that matter to fanout.`,
		Example: "  fanout topics describe",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := c.load(cmd)
			if err != nil {
				return err
			}
			return withAdmin(cmd.Context(), &cfg, func(ctx context.Context, admin *topic.Cluster) error {
				topics, err := describeTopics(ctx, &cfg, admin)
				if err != nil {
					return err
				}
				if c.asJSON() {
					return c.json(topics)
				}
				return c.table(topicTable(topics))
			})
		},
	})
}

// describedTopic is one that fanout reads or writes.
type describedTopic struct {
	Name       string `json:"name"`
	Role       string `json:"role"`       // source or own
	Partitions int    `json:"partitions"` // 0: it does not exist
	Replicas   int    `json:"replicas,omitempty"`
	InSync     int    `json:"inSync,omitempty"`
	Config     values `json:"config,omitempty"`
	spec       *topic.Spec
}

// values are a topic's configuration.
type values map[string]string

// shown are the keys that matter to fanout.
func (v values) shown() values {
	out := values{}
	for _, key := range []string{"cleanup.policy", "retention.ms", "retention.bytes", "max.message.bytes", "message.timestamp.type", "min.insync.replicas"} {
		if value, ok := v[key]; ok {
			out[key] = value
		}
	}
	return out
}

// describeTopics looks at the sources first, then at what fanout owns.
func describeTopics(ctx context.Context, cfg *config.Config, admin *topic.Cluster) ([]describedTopic, error) {
	partitions, err := admin.Sizes(ctx)
	if err != nil {
		return nil, err
	}
	c := cfg.Topic()
	var topics []describedTopic
	for _, source := range c.AllSources() {
		topics = append(topics, describedTopic{Name: source.Topic, Role: "source", Partitions: partitions[source.Topic]})
	}
	for _, spec := range c.Owned() {
		topics = append(topics, describedTopic{Name: spec.Name, Role: "own", Partitions: partitions[spec.Name], spec: &spec})
	}
	var present []string
	for _, t := range topics {
		if t.Partitions > 0 {
			present = append(present, t.Name)
		}
	}
	if len(present) == 0 {
		return topics, nil
	}
	configs, err := admin.Describe(ctx, present)
	if err != nil {
		return nil, err
	}
	replicas, err := admin.Replicas(ctx, present)
	if err != nil {
		return nil, err
	}
	for i := range topics {
		t := &topics[i]
		t.Config, t.Replicas, t.InSync = values(configs[t.Name]).shown(), replicas[t.Name].All, replicas[t.Name].InSync
	}
	return topics, nil
}

func topicTable(topics []describedTopic) *terminal.Table {
	t := &terminal.Table{Columns: []terminal.Column{
		{Name: "TOPIC", Least: 16},
		{Name: "ROLE"},
		{Name: "PARTITIONS", Right: true},
		{Name: "REPLICAS", Right: true, Leave: 2},
		{Name: "IN SYNC", Right: true, Leave: 1},
		{Name: "RETENTION"},
		{Name: "OTHER", Wrap: true, Least: 20, Leave: 3},
	}}
	for _, one := range topics {
		if one.Partitions == 0 {
			t.Rows = append(t.Rows, []string{one.Name, one.Role, "0", "-", "-", "-", "it does not exist"})
			continue
		}
		var other []string
		for _, key := range slices.Sorted(maps.Keys(one.Config)) {
			if key != "retention.ms" {
				other = append(other, key+"="+one.Config[key])
			}
		}
		t.Rows = append(t.Rows, []string{
			one.Name, one.Role, strconv.Itoa(one.Partitions), strconv.Itoa(one.Replicas), strconv.Itoa(one.InSync),
			retention(one.Config["retention.ms"]), strings.Join(other, " "),
		})
	}
	return t
}

// retention is retention.ms for people.
func retention(ms string) string {
	n, err := strconv.ParseInt(ms, 10, 64)
	switch {
	case err != nil:
		return ms
	case n < 0:
		return "unlimited"
	case n >= 24*time.Hour.Milliseconds():
		return strconv.FormatInt(n/(24*time.Hour).Milliseconds(), 10) + "d"
	}
	return (time.Duration(n) * time.Millisecond).String()
}

// sourceNames are the source topics of the configuration, or the default ones; never none.
func sourceNames(cfg *config.Config) []string {
	c := cfg.Topic()
	sources := c.AllSources()
	names := make([]string, len(sources))
	for i, s := range sources {
		names[i] = s.Topic
	}
	return names
}

// notASource says that a topic is not one of them, and which was probably meant.
func notASource(cfg *config.Config, name string) error {
	return fmt.Errorf("topic %s is not a source of the configuration%s", name, meant(name, sourceNames(cfg)))
}
