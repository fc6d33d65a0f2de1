package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"fanout/cmd/internal/terminal"
	"fanout/config"
	"fanout/topic"
)

// settingChange is a setting of a topic that apply changes.
type settingChange struct {
	Topic   string `json:"topic"`
	Setting string `json:"setting"`
	Now     string `json:"now"`
	Want    string `json:"want"`
	Why     string `json:"why"`
}

// topicsApply mends the settings of fanout's topics.
type topicsApply struct {
	*settings
	*output
	*input
}

func (c *topicsApply) command() *cobra.Command {
	var dryRun, yes bool
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Mend the settings of fanout's own topics",
		Long: `apply shows which settings of the topics that fanout owns are not as it needs
them (a cleanup policy that compacts, a retention that is too short, a size
limit, producers' timestamps), asks, and changes them. A retention that is
longer stays as it is. It needs the right AlterConfigs on these topics.`,
		Example: `  fanout topics apply --dry-run
  fanout topics apply --yes`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withKafka(cmd, func(ctx context.Context, cfg *config.Config, admin *topic.Cluster) error {
				return c.apply(ctx, cfg, admin, dryRun, yes)
			})
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show the difference")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return configured(cmd)
}

func (c *topicsApply) apply(ctx context.Context, cfg *config.Config, admin *topic.Cluster, dryRun, yes bool) error {
	changes, err := settingChanges(ctx, cfg, admin)
	if err != nil {
		return err
	}
	if c.asJSON() && (dryRun || len(changes) == 0) {
		return c.json(map[string]any{"changes": changes, "applied": false})
	}
	if len(changes) == 0 {
		fmt.Fprintln(c.stdout, "all topics that exist are set as they should be")
		return nil
	}
	if !c.asJSON() {
		if err := c.table(changeTable(changes)); err != nil {
			return err
		}
	}
	if dryRun {
		return nil
	}
	if err := c.confirm(ctx, yes, fmt.Sprintf("change %s?", count(len(changes), "setting"))); err != nil {
		return err
	}
	settings := make(map[string]map[string]string)
	for _, change := range changes {
		if settings[change.Topic] == nil {
			settings[change.Topic] = make(map[string]string)
		}
		settings[change.Topic][change.Setting] = change.Want
	}
	if err := admin.Alter(ctx, settings); err != nil {
		return err
	}
	if c.asJSON() {
		return c.json(map[string]any{"changes": changes, "applied": true})
	}
	fmt.Fprintf(c.stdout, "changed %s\n", count(len(changes), "setting"))
	return nil
}

// settingChanges are the settings of topics that exist and are not as they should be, topic by topic.
func settingChanges(ctx context.Context, cfg *config.Config, admin *topic.Cluster) ([]settingChange, error) {
	c := cfg.Topic()
	flaws, err := admin.Flaws(ctx, c.Owned())
	if err != nil {
		return nil, err
	}
	changes := []settingChange{}
	for _, f := range flaws {
		changes = append(changes, settingChange{f.Topic, f.Setting, f.Found, f.Want, f.Why})
	}
	return changes, nil
}

func changeTable(changes []settingChange) *terminal.Table {
	t := &terminal.Table{Columns: []terminal.Column{
		{Name: "TOPIC", Least: 16},
		{Name: "SETTING", Least: 14},
		{Name: "NOW"},
		{Name: "WANT"},
		{Name: "ELSE", Wrap: true, Least: 20, Leave: 1},
	}}
	for _, c := range changes {
		t.Rows = append(t.Rows, []string{c.Topic, c.Setting, c.Now, c.Want, c.Why})
	}
	return t
}
