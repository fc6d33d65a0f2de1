package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"fanout/cmd/internal/terminal"
	"fanout/config"
	"fanout/dispatcher"
	"fanout/operate"
	"fanout/topic"
)

// diffCommand compares two configurations by recorded traffic.
type diffCommand struct {
	*settings
	*output
}

func (c *diffCommand) command() *cobra.Command {
	var newFile string
	cmd := &cobra.Command{
		Use:   "diff --new-config FILE TOPIC[/PARTITION[/FROM-TO]]",
		Short: "Show which deliveries a new configuration would change",
		Long: `diff plans recorded traffic under today's configuration and under a new one, and
shows which deliveries appear, vanish, or change their payload. Mappings, the
size limit and the Redis that holds the subscriptions may differ. Nothing is
sent.

Exit status: 0 nothing differs, 1 something differs or a problem, 2 a command
line that is not understood.`,
		Example: `  fanout diff --new-config fanout.new.yaml bounces
  fanout diff --new-config fanout.new.yaml bounces/0/1000-1999 -o ndjson`,
		Args:        cobra.ExactArgs(1),
		Annotations: map[string]string{streams: ""},
		RunE: func(cmd *cobra.Command, args []string) error {
			next, warnings, err := config.Load(newFile, true, c.env, nil)
			for _, warning := range warnings {
				fmt.Fprintf(c.stderr, "warning: %s: %s\n", newFile, warning)
			}
			if err != nil {
				return err
			}
			return c.withKafka(cmd, func(ctx context.Context, cfg *config.Config, admin *topic.Cluster) error {
				return c.diff(ctx, admin, cfg, &next, args[0])
			})
		},
	}
	cmd.Flags().StringVar(&newFile, "new-config", "", "the new configuration `FILE`")
	_ = cmd.MarkFlagRequired("new-config")
	return configured(cmd)
}

// planning plans records under one configuration.
func planning(ctx context.Context, cfg *config.Config) (p operate.Planning, stop func(), err error) {
	sources, err := newSources(cfg)
	if err != nil {
		return p, nil, err
	}
	directory, unload, err := loadDirectory(ctx, cfg.Redis)
	if err != nil {
		sources.Close()
		return p, nil, err
	}
	return operate.Planning{Sources: sources, Planner: dispatcher.NewPlanner(directory)}, func() { unload(); sources.Close() }, nil
}

func (c *diffCommand) diff(ctx context.Context, admin *topic.Cluster, cfg, next *config.Config, text string) error {
	if source, _, _ := strings.Cut(text, "/"); !slices.Contains(sourceNames(cfg), source) && !slices.Contains(sourceNames(next), source) {
		return misuse(notASource(cfg, source))
	}
	name, ranges, err := sourceRange(ctx, admin, text)
	if err != nil {
		return err
	}
	before, stop, err := planning(ctx, cfg)
	if err != nil {
		return fmt.Errorf("today's configuration: %w", err)
	}
	defer stop()
	after, stopNext, err := planning(ctx, next)
	if err != nil {
		return fmt.Errorf("the new configuration: %w", err)
	}
	defer stopNext()
	done, total, end := c.progress("planning twice")
	shown := []operate.Difference{}
	list := c.lister()
	out, err := operate.NewDiff(ctx, admin, operate.DiffConfig{
		Topic: name, Ranges: ranges, Before: before, After: after, Done: done, Total: total,
		Each: func(d operate.Difference) error {
			if c.format == "ndjson" {
				return list.add(d)
			}
			if c.asJSON() || len(shown) < 100 {
				shown = append(shown, d)
			}
			return nil
		},
	})
	end()
	if err != nil {
		return err
	}
	switch c.format {
	case "ndjson":
		err = list.end()
	case "json":
		err = c.json(map[string]any{"records": out.Records, "changes": out.Changes, "list": shown})
	default:
		err = c.diffTable(out, shown)
	}
	if err != nil {
		return err
	}
	if out.Differs() > 0 {
		return said()
	}
	return nil
}

func (c *diffCommand) diffTable(out *operate.Diff, shown []operate.Difference) error {
	if out.Differs() == 0 {
		fmt.Fprintf(c.stdout, "%s planned twice: nothing differs\n", count(out.Records, "record"))
		return nil
	}
	t := &terminal.Table{Columns: []terminal.Column{
		{Name: "RECORD"}, {Name: "CHANGE"}, {Name: "ACCOUNT", Least: 8}, {Name: "SUBSCRIPTION", Least: 8}, {Name: "BEFORE", Least: 12}, {Name: "AFTER", Least: 12},
	}}
	for _, d := range shown {
		was, now := d.Before, d.After
		if was == "" {
			was = orDash(d.Why)
		}
		if now == "" {
			now = orDash(d.Why)
		}
		t.Rows = append(t.Rows, []string{d.Record, d.Change, d.Account, d.Subscription, was, now})
	}
	if err := c.table(t); err != nil {
		return err
	}
	fmt.Fprintf(c.stdout, "\n%s planned twice: %d deliveries appear, %d vanish, %d change their payload\n",
		count(out.Records, "record"), out.Changes[operate.DiffAppears], out.Changes[operate.DiffVanishes], out.Changes[operate.DiffPayload])
	if out.Differs() > len(shown) {
		fmt.Fprintf(c.stdout, "%d are shown; -o ndjson shows all\n", len(shown))
	}
	return nil
}
