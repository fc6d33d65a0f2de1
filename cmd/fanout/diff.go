package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"fanout/cmd/internal/terminal"
	"fanout/config"
	"fanout/dispatcher"
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

// difference is one delivery that differs.
type difference struct {
	Record       string `json:"record"`
	Change       string `json:"change"` // appears, vanishes, payload
	Account      string `json:"account"`
	Subscription string `json:"subscription"`
	ID           string `json:"id"`
	Before       string `json:"before,omitempty"`
	After        string `json:"after,omitempty"`
	Why          string `json:"why,omitempty"`
}

// planner plans a record, or says why nothing comes of it. Its error is that of a schema registry that cannot be asked.
type planner func(*topic.Record) (planned []dispatcher.Delivery, why string, err error)

// plannerOf plans records under one configuration.
func plannerOf(ctx context.Context, cfg *config.Config) (plan planner, stop func(), err error) {
	sources, err := newSources(cfg)
	if err != nil {
		return nil, nil, err
	}
	directory, unload, err := loadDirectory(ctx, cfg.Redis)
	if err != nil {
		sources.Close()
		return nil, nil, err
	}
	end := func() { unload(); sources.Close() }
	deliveries := dispatcher.NewPlanner(directory)
	return func(m *topic.Record) ([]dispatcher.Delivery, string, error) {
		ev, err := sources.Decode(ctx, m)
		switch {
		case errors.Is(err, topic.ErrRegistryUnavailable):
			return nil, "", err
		case err != nil:
			return nil, err.Error(), nil //nolint:nilerr // it is the answer
		}
		rec := m.Metadata()
		return deliveries.Plan(nil, &ev, &rec, m.Time), "", nil
	}, end, nil
}

func (a *app) diff(ctx context.Context, admin *topic.Cluster, cfg, next *config.Config, text string) error {
	if source, _, _ := strings.Cut(text, "/"); !slices.Contains(sourceNames(cfg), source) && !slices.Contains(sourceNames(next), source) {
		return misuse(notASource(cfg, source))
	}
	name, ranges, err := sourceRange(ctx, admin, text)
	if err != nil {
		return err
	}
	before, stop, err := plannerOf(ctx, cfg)
	if err != nil {
		return fmt.Errorf("today's configuration: %w", err)
	}
	defer stop()
	after, stopNext, err := plannerOf(ctx, next)
	if err != nil {
		return fmt.Errorf("the new configuration: %w", err)
	}
	defer stopNext()
	done, total, end := a.progress("planning twice")
	total(topic.Total(ranges))
	counts := make(map[string]int)
	records := 0
	var shown []difference
	list := a.lister()
	for _, partition := range slices.Sorted(maps.Keys(ranges)) { // one after the other, so that the order is that of the topic
		one := map[int]topic.Range{partition: ranges[partition]}
		if err = admin.Scan(ctx, name, one, done, func(m *topic.Record) error {
			changes, err := compare(m, before, after)
			if err != nil {
				return err
			}
			records++
			for _, c := range changes {
				counts[c.Change]++
				if a.format == "ndjson" {
					if err := list.add(c); err != nil {
						return err
					}
				} else if a.asJSON() || len(shown) < 100 {
					shown = append(shown, c)
				}
			}
			return nil
		}); err != nil {
			break
		}
	}
	end()
	if err != nil {
		return err
	}
	differs := counts["appears"] + counts["vanishes"] + counts["payload"]
	switch a.format {
	case "ndjson":
		err = list.end()
	case "json":
		err = a.json(map[string]any{"records": records, "changes": counts, "list": append([]difference{}, shown...)})
	default:
		err = a.diffTable(records, differs, counts, shown)
	}
	if err != nil {
		return err
	}
	if differs > 0 {
		return said()
	}
	return nil
}

// compare plans one record twice.
func compare(m *topic.Record, before, after planner) (changes []difference, err error) {
	old, whyOld, err := before(m)
	if err != nil {
		return nil, fmt.Errorf("today's configuration: %w", err)
	}
	now, whyNow, err := after(m)
	if err != nil {
		return nil, fmt.Errorf("the new configuration: %w", err)
	}
	record := m.Origin().String()
	kept := make(map[[2]string]*dispatcher.Delivery)
	for i := range old {
		kept[[2]string{old[i].Account, old[i].Subscription}] = &old[i]
	}
	for i := range now {
		d := &now[i]
		key := [2]string{d.Account, d.Subscription}
		was := kept[key]
		delete(kept, key)
		switch {
		case was == nil:
			changes = append(changes, difference{record, "appears", d.Account, d.Subscription, d.ID, "", string(d.Body), whyOld})
		case !bytes.Equal(was.Body, d.Body) || was.ID != d.ID:
			changes = append(changes, difference{record, "payload", d.Account, d.Subscription, d.ID, string(was.Body), string(d.Body), ""})
		}
	}
	for _, d := range kept {
		changes = append(changes, difference{record, "vanishes", d.Account, d.Subscription, d.ID, string(d.Body), "", whyNow})
	}
	slices.SortFunc(changes, func(a, b difference) int {
		return cmp.Or(cmp.Compare(a.Account, b.Account), cmp.Compare(a.Subscription, b.Subscription), cmp.Compare(a.Change, b.Change))
	})
	return changes, nil
}

func (a *app) diffTable(records, differs int, counts map[string]int, shown []difference) error {
	if differs == 0 {
		fmt.Fprintf(a.stdout, "%s planned twice: nothing differs\n", count(records, "record"))
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
		count(records, "record"), counts["appears"], counts["vanishes"], counts["payload"])
	if differs > len(shown) {
		fmt.Fprintf(a.stdout, "%d are shown; -o ndjson shows all\n", len(shown))
	}
	return nil
}
