package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/spf13/cobra"

	"fanout/config"
	"fanout/consumer"
	"fanout/consumer/registry"
	"fanout/dispatcher"
)

func (a *app) diffCommand() *cobra.Command {
	var newFile string
	cmd := &cobra.Command{
		Use:   "diff --new-config FILE TOPIC[/PARTITION[/FROM-TO]]",
		Short: "Show which deliveries a new configuration adds, drops or changes",
		Long: "diff plans recorded traffic under today's configuration and under a new one, and shows which deliveries appear,\n" +
			"vanish, or change their payload. Mappings, the size limit and the Redis that holds the subscriptions may differ.\n" +
			"It sends nothing.\n\nExit status: 0 nothing differs, 1 something does or a problem, 2 flags that are not understood.",
		Example:     "  fanout diff --new-config fanout.new.yaml bounces\n  fanout diff --new-config fanout.new.yaml bounces/0/1000-1999 -o ndjson",
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
			return a.withKafka(cmd, func(ctx context.Context, cfg *config.Config, admin *consumer.Admin) error {
				return a.diff(ctx, admin, cfg, &next, args[0])
			})
		},
	}
	cmd.Flags().StringVar(&newFile, "new-config", "", "the new configuration file")
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
type planner func(*consumer.Message) (planned []dispatcher.Delivery, why string, err error)

// plannerOf plans records under one configuration.
func plannerOf(ctx context.Context, cfg *config.Config) (plan planner, stop func(), err error) {
	decoders, err := consumer.NewDecoders(consumerConfig(cfg))
	if err != nil {
		return nil, nil, err
	}
	directory, unload, err := loadDirectory(ctx, cfg.Redis)
	if err != nil {
		decoders.Close()
		return nil, nil, err
	}
	end := func() { unload(); decoders.Close() }
	deliveries, err := dispatcher.New(cfg.Dispatcher(userAgent()), directory, nil, nil)
	if err != nil {
		end()
		return nil, nil, err
	}
	return func(m *consumer.Message) ([]dispatcher.Delivery, string, error) {
		ev, rec, err := decoders.Decode(ctx, m)
		switch {
		case errors.Is(err, registry.ErrUnavailable):
			return nil, "", err
		case err != nil:
			return nil, err.Error(), nil //nolint:nilerr // it is the answer
		}
		return deliveries.Plan(nil, &ev, &rec, m.Time), "", nil
	}, end, nil
}

func (a *app) diff(ctx context.Context, admin *consumer.Admin, cfg, next *config.Config, text string) error {
	topic, ranges, err := sourceRange(ctx, admin, text)
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
	total(consumer.Total(ranges))
	var mu sync.Mutex // guards all below
	counts := make(map[string]int)
	records := 0
	var shown []difference
	list := a.lister()
	err = admin.Scan(ctx, topic, ranges, done, func(m *consumer.Message) error {
		changes, err := compare(m, before, after)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
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
	})
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
func compare(m *consumer.Message, before, after planner) (changes []difference, err error) {
	old, whyOld, err := before(m)
	if err != nil {
		return nil, fmt.Errorf("today's configuration: %w", err)
	}
	now, whyNow, err := after(m)
	if err != nil {
		return nil, fmt.Errorf("the new configuration: %w", err)
	}
	record := dispatcher.Origin{Topic: m.Topic, Partition: m.Partition, Offset: m.Offset}.String()
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
	return changes, nil
}

func (a *app) diffTable(records, differs int, counts map[string]int, shown []difference) error {
	if differs == 0 {
		fmt.Fprintf(a.stdout, "%s planned twice: nothing differs\n", count(records, "record"))
		return nil
	}
	rows := [][]string{{"RECORD", "CHANGE", "ACCOUNT", "SUBSCRIPTION", "BEFORE", "AFTER"}}
	for _, c := range shown {
		was, now := c.Before, c.After
		if was == "" {
			was = orDash(c.Why)
		}
		if now == "" {
			now = orDash(c.Why)
		}
		rows = append(rows, []string{c.Record, c.Change, c.Account, c.Subscription, was, now})
	}
	if err := table(a.stdout, rows); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "\n%s planned twice: %d deliveries appear, %d vanish, %d change their payload\n",
		count(records, "record"), counts["appears"], counts["vanishes"], counts["payload"])
	if differs > len(shown) {
		fmt.Fprintf(a.stdout, "%d are shown; -o ndjson shows all\n", len(shown))
	}
	return nil
}
