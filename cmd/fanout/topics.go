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

	"fanout/config"
	"fanout/consumer"
)

func (a *app) topicsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "topics", Short: "Create or describe fanout's topics", Args: cobra.NoArgs}
	cmd.AddCommand(a.topicsCreateCommand(), configured(&cobra.Command{
		Use:   "describe",
		Short: "Show the source topics, and those that fanout owns",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load(cmd)
			if err != nil {
				return err
			}
			return withAdmin(cmd.Context(), &cfg, func(ctx context.Context, admin *consumer.Admin) error {
				topics, err := describeTopics(ctx, &cfg, admin)
				if err != nil {
					return err
				}
				if a.asJSON() {
					return a.json(topics)
				}
				return table(a.stdout, topicRows(topics))
			})
		},
	}))
	return cmd
}

func (a *app) topicsCreateCommand() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create those of fanout's own topics that do not exist",
		Long:  "create makes the retry, replay and dead-letter topics (and the attempts topic, where it is configured) that do\nnot exist. It changes no topic that does, and no source topic: their producers own those.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load(cmd)
			if err != nil {
				return err
			}
			return withAdmin(cmd.Context(), &cfg, func(ctx context.Context, admin *consumer.Admin) error {
				return a.createTopics(ctx, &cfg, admin, dryRun)
			})
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be created")
	return configured(cmd)
}

func (a *app) createTopics(ctx context.Context, cfg *config.Config, admin *consumer.Admin, dryRun bool) error {
	existing, err := admin.Partitions(ctx)
	if err != nil {
		return err
	}
	c := cfg.Consumer()
	var absent []consumer.TopicSpec
	names := []string{}
	for _, spec := range c.Owned() {
		if existing[spec.Name] == 0 {
			absent = append(absent, spec)
			names = append(names, spec.Name)
		}
	}
	verb := "would create"
	if !dryRun {
		verb = "created"
		if names, err = admin.Create(ctx, absent); err != nil {
			return hint(err, "kafka.replication must not exceed the number of brokers, and the user must be allowed to create topics")
		}
	}
	if a.asJSON() {
		return a.json(map[string]any{strings.ReplaceAll(verb, " ", "_"): append([]string{}, names...)})
	}
	for _, name := range names {
		fmt.Fprintf(a.stdout, "%s %s\n", verb, name)
	}
	if len(names) == 0 {
		fmt.Fprintln(a.stdout, "all topics exist")
	}
	return nil
}

// withAdmin asks something of Kafka, and gives up after 15 seconds.
func withAdmin(ctx context.Context, cfg *config.Config, ask func(context.Context, *consumer.Admin) error) error {
	admin, err := consumer.NewAdmin(cfg.Consumer())
	if err != nil {
		return err
	}
	defer admin.Close()
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	return kafkaHint(cfg, ask(ctx, admin))
}

// topic is one that fanout reads or writes.
type topic struct {
	Name       string `json:"name"`
	Role       string `json:"role"`       // source or own
	Partitions int    `json:"partitions"` // 0: it does not exist
	Replicas   int    `json:"replicas,omitempty"`
	InSync     int    `json:"inSync,omitempty"`
	Config     values `json:"config,omitempty"`
	spec       *consumer.TopicSpec
}

// values are a topic's configuration.
type values map[string]string

// shown are the keys that matter to fanout.
func (v values) shown() values {
	out := values{}
	for _, key := range []string{"cleanup.policy", "retention.ms", "retention.bytes", "max.message.bytes", "min.insync.replicas"} {
		if value, ok := v[key]; ok {
			out[key] = value
		}
	}
	return out
}

// describeTopics looks at the sources first, then at what fanout owns.
func describeTopics(ctx context.Context, cfg *config.Config, admin *consumer.Admin) ([]topic, error) {
	partitions, err := admin.Partitions(ctx)
	if err != nil {
		return nil, err
	}
	c := cfg.Consumer()
	sources := c.Sources
	if len(sources) == 0 {
		sources = consumer.DefaultSources()
	}
	var topics []topic
	for _, source := range sources {
		topics = append(topics, topic{Name: source.Topic, Role: "source", Partitions: partitions[source.Topic]})
	}
	for _, spec := range c.Owned() {
		topics = append(topics, topic{Name: spec.Name, Role: "own", Partitions: partitions[spec.Name], spec: &spec})
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
		t.Config, t.Replicas, t.InSync = values(configs[t.Name]).shown(), replicas[t.Name][0], replicas[t.Name][1]
	}
	return topics, nil
}

func topicRows(topics []topic) [][]string {
	rows := [][]string{{"TOPIC", "ROLE", "PARTITIONS", "REPLICAS", "IN SYNC", "RETENTION", "OTHER"}}
	for _, t := range topics {
		if t.Partitions == 0 {
			rows = append(rows, []string{t.Name, t.Role, "none: it does not exist"})
			continue
		}
		var other []string
		for _, key := range slices.Sorted(maps.Keys(t.Config)) {
			if key != "retention.ms" {
				other = append(other, key+"="+t.Config[key])
			}
		}
		rows = append(rows, []string{
			t.Name, t.Role, strconv.Itoa(t.Partitions), strconv.Itoa(t.Replicas), strconv.Itoa(t.InSync), retention(t.Config["retention.ms"]), strings.Join(other, " "),
		})
	}
	return rows
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
