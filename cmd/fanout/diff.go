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

func (a *app) diffCommand() *cobra.Command {
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
			next, warnings, err := config.Load(newFile, true, a.env, nil)
			for _, warning := range warnings {
				fmt.Fprintf(a.stderr, "warning: %s: %s\n", newFile, warning)
			}
			if err != nil {
				return err
			}
			return a.withKafka(cmd, func(ctx context.Context, cfg *config.Config, admin *topic.Cluster) error {
				return a.diff(ctx, admin, cfg, &next, args[0])
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

func (a *app) diff(ctx context.Context, admin *topic.Cluster, cfg, next *config.Config, text string) error {
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
	done, total, end := a.progress("planning twice")
	shown := []operate.Difference{}
	list := a.lister()
	out, err := operate.NewDiff(ctx, admin, operate.DiffConfig{
		Topic: name, Ranges: ranges, Before: before, After: after, Done: done, Total: total,
		Each: func(c operate.Difference) error {
			if a.format == "ndjson" {
				return list.add(c)
			}
			if a.asJSON() || len(shown) < 100 {
				shown = append(shown, c)
			}
			return nil
		},
	})
	end()
	if err != nil {
		return err
	}
	switch a.format {
	case "ndjson":
		err = list.end()
	case "json":
		err = a.json(map[string]any{"records": out.Records, "changes": out.Changes, "list": shown})
	default:
		err = a.diffTable(out, shown)
	}
	if err != nil {
		return err
	}
	if out.Differs() > 0 {
		return said()
	}
	return nil
}

func (a *app) diffTable(out *operate.Diff, shown []operate.Difference) error {
	if out.Differs() == 0 {
		fmt.Fprintf(a.stdout, "%s planned twice: nothing differs\n", count(out.Records, "record"))
		return nil
	}
	t := &terminal.Table{Columns: []terminal.Column{
		{Name: "RECORD"}, {Name: "CHANGE"}, {Name: "ACCOUNT", Least: 8}, {Name: "SUBSCRIPTION", Least: 8}, {Name: "BEFORE", Least: 12}, {Name: "AFTER", Least: 12},
	}}
	for _, c := range shown {
		was, now := c.Before, c.After
		if was == "" {
			was = orDash(c.Why)
		}
		if now == "" {
			now = orDash(c.Why)
		}
		t.Rows = append(t.Rows, []string{c.Record, c.Change, c.Account, c.Subscription, was, now})
	}
	if err := a.table(t); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "\n%s planned twice: %d deliveries appear, %d vanish, %d change their payload\n",
		count(out.Records, "record"), out.Changes[operate.DiffAppears], out.Changes[operate.DiffVanishes], out.Changes[operate.DiffPayload])
	if out.Differs() > len(shown) {
		fmt.Fprintf(a.stdout, "%d are shown; -o ndjson shows all\n", len(shown))
	}
	return nil
}
