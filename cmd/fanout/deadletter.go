package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"fanout/cmd/internal/terminal"
	"fanout/config"
	"fanout/operate"
	"fanout/topic"
)

func (a *app) deadletterCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "deadletter",
		Aliases: []string{"deadletters", "dlq"},
		Short:   "Count, list, show, export or replay dead letters",
		Long: `A dead letter is a delivery that fanout has given up on, or a record that it
could not decode. It is kept in fanout.dead-letter with its reason.`,
		Example: `  fanout deadletter stats --since 1d
  fanout deadletter list --account acme
  fanout deadletter replay --account acme --dry-run`,
	}
	cmd.AddCommand(a.deadletterStatsCommand(), a.deadletterListCommand(), a.deadletterShowCommand(), a.deadletterExportCommand(), a.replayCommand())
	return cmd
}

// selectedLetters are the dead letters that the filter selects, whole and in the order of their death.
func (a *app) selectedLetters(ctx context.Context, admin *topic.Cluster, filter *topic.Filter) (found []*topic.DeadLetter, err error) {
	letters := admin.DeadLetters()
	ranges, err := letters.Ranges(ctx, filter)
	if err != nil {
		return nil, err
	}
	done, total, end := a.progress("reading dead letters")
	defer end()
	total(topic.Total(ranges))
	var one sync.Mutex // guards found
	err = letters.Each(ctx, filter, ranges, done, func(d *topic.DeadLetter) error {
		one.Lock()
		defer one.Unlock()
		found = append(found, d.Clone())
		return nil
	})
	slices.SortFunc(found, func(x, y *topic.DeadLetter) int { return x.DeadAt.Compare(y.DeadAt) })
	return found, err
}

// byKeys are what `deadletter stats` can count by.
func byKeys() []string { return []string{"subscription", "event", "reason"} }

func (a *app) deadletterStatsCommand() *cobra.Command {
	var s selection
	var by []string
	cmd := &cobra.Command{
		Use:   "stats",
		Short: "Count dead letters, by subscription and reason",
		Long: `stats counts the selected dead letters and shows since when and until when they
died; the largest groups come first.`,
		Example: `  fanout deadletter stats --since 2h
  fanout deadletter stats --by reason,event`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := s.filter(a.catalogue(cmd), time.Now())
			if err != nil {
				return err
			}
			for _, key := range by {
				if err := choice("--by", key, "key", byKeys()); err != nil {
					return err
				}
			}
			groups := operate.By{
				Subscription: slices.Contains(by, "subscription"), Event: slices.Contains(by, "event"), Reason: slices.Contains(by, "reason"),
			}
			return a.withKafka(cmd, func(ctx context.Context, _ *config.Config, admin *topic.Cluster) error {
				return a.deadletterStats(ctx, admin, &filter, groups)
			})
		},
	}
	s.flags(cmd.Flags())
	cmd.Flags().StringSliceVar(&by, "by", []string{"subscription", "reason"}, "what to count by: subscription, event, reason")
	return configured(cmd)
}

func (a *app) deadletterStats(ctx context.Context, admin *topic.Cluster, filter *topic.Filter, by operate.By) error {
	letters := admin.DeadLetters()
	ranges, err := letters.Ranges(ctx, filter)
	if err != nil {
		return err
	}
	done, total, end := a.progress("reading dead letters")
	total(topic.Total(ranges))
	groups, err := operate.CountDeadLetters(ctx, letters, filter, by, ranges, done)
	end()
	if err != nil {
		return err
	}
	sum := 0
	for _, g := range groups {
		sum += g.Count
	}
	if a.asJSON() {
		return a.json(map[string]any{"total": sum, "read": topic.Total(ranges), "groups": append([]operate.DeadLetterCount{}, groups...)})
	}
	if sum == 0 {
		fmt.Fprintf(a.stdout, "no dead letters%s (%s read)\n", selected(filter), count(int(topic.Total(ranges)), "record"))
		return nil
	}
	if err := a.table(groupTable(groups, by)); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "\n%s in %s\n", count(sum, "dead letter"), count(len(groups), "group"))
	return nil
}

func groupTable(groups []operate.DeadLetterCount, by operate.By) *terminal.Table {
	t := &terminal.Table{Columns: []terminal.Column{{Name: "COUNT", Right: true}}, Rows: make([][]string, len(groups))}
	column := func(name string, leave int, value func(g *operate.DeadLetterCount) string) {
		t.Columns = append(t.Columns, terminal.Column{Name: name, Least: 8, Leave: leave})
		for i := range groups {
			t.Rows[i] = append(t.Rows[i], value(&groups[i]))
		}
	}
	for i := range groups {
		t.Rows[i] = []string{strconv.Itoa(groups[i].Count)}
	}
	if by.Subscription {
		column("ACCOUNT", 0, func(g *operate.DeadLetterCount) string { return orDash(g.Account) })
		column("SUBSCRIPTION", 0, func(g *operate.DeadLetterCount) string { return orDash(g.Subscription) })
	}
	if by.Event {
		column("EVENT", 0, func(g *operate.DeadLetterCount) string { return orDash(g.Event) })
	}
	if by.Reason {
		column("REASON", 0, func(g *operate.DeadLetterCount) string { return orDash(g.Reason) })
	}
	column("FIRST", 2, func(g *operate.DeadLetterCount) string { return shortClock(g.First) })
	column("LAST", 1, func(g *operate.DeadLetterCount) string { return shortClock(g.Last) })
	return t
}

func (a *app) deadletterListCommand() *cobra.Command {
	var s selection
	limit := 100
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List dead letters, the newest first",
		Long: `list shows the selected dead letters, the newest first, from their headers only.
POSITION is where a dead letter lies, as PARTITION/OFFSET: fanout deadletter
show takes it. ORIGIN is the source record that it was planned from: fanout
explain takes that. A table ends at --limit; -o json and -o ndjson list all.`,
		Example: `  fanout deadletter list --account acme --reason expired
  fanout deadletter list --since 1d -o ndjson | jq .detail`,
		Args:        cobra.NoArgs,
		Annotations: map[string]string{streams: ""},
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := s.filter(a.catalogue(cmd), time.Now())
			if err != nil {
				return err
			}
			if limit < 0 {
				return misuse(errNegativeLimit)
			}
			if a.format != "table" && !cmd.Flags().Changed("limit") {
				limit = 0
			}
			return a.withKafka(cmd, func(ctx context.Context, _ *config.Config, admin *topic.Cluster) error {
				if a.format == "table" {
					return a.deadletterTable(ctx, admin, &filter, limit)
				}
				return a.deadletterList(ctx, admin, &filter, limit)
			})
		},
	}
	s.flags(cmd.Flags())
	cmd.Flags().IntVar(&limit, "limit", limit, "how many to show at most; 0 means all")
	return configured(cmd)
}

// errNegativeLimit is a --limit of less than nothing.
var errNegativeLimit = errors.New("--limit is not negative; 0 means no limit")

// errEnough ends a scan that has shown what was asked for.
var errEnough = errors.New("enough")

// newestLetters calls f with each selected dead letter, the newest first, and with no more than limit of them; 0 is no
// limit. It says how many records the selection spans, and whether there are more.
func (a *app) newestLetters(ctx context.Context, admin *topic.Cluster, filter *topic.Filter, limit int, f func(*topic.DeadLetter) error) (span int64, more bool, err error) {
	letters := admin.DeadLetters()
	ranges, err := letters.Ranges(ctx, filter)
	if err != nil {
		return 0, false, err
	}
	span = topic.Total(ranges)
	done, total, end := a.progress("reading dead letters")
	defer end()
	total(span)
	shown := 0
	err = letters.Newest(ctx, filter, ranges, done, func(d *topic.DeadLetter) error {
		if limit > 0 && shown >= limit {
			return errEnough
		}
		shown++
		return f(d)
	})
	if errors.Is(err, errEnough) {
		return span, true, nil
	}
	return span, false, err
}

// deadletterList is the list for a program.
func (a *app) deadletterList(ctx context.Context, admin *topic.Cluster, filter *topic.Filter, limit int) error {
	list := a.lister()
	_, _, err := a.newestLetters(ctx, admin, filter, limit, func(d *topic.DeadLetter) error { return list.add(d) })
	if err == nil || list.some {
		err = errors.Join(err, list.end()) // a part is well-formed too: the exit status says that it is one
	}
	return err
}

// deadletterTable is the list for a person.
func (a *app) deadletterTable(ctx context.Context, admin *topic.Cluster, filter *topic.Filter, limit int) error {
	t := &terminal.Table{Columns: []terminal.Column{
		{Name: "POSITION"},
		{Name: "DIED"},
		{Name: "REASON", Least: 10},
		{Name: "STATUS", Leave: 3},
		{Name: "ACCOUNT", Least: 8},
		{Name: "SUBSCRIPTION", Least: 8},
		{Name: "EVENT", Leave: 2},
		{Name: "ORIGIN", Least: 12},
		{Name: "ATTEMPTS", Right: true, Leave: 5},
		{Name: "REPLAYS", Right: true, Leave: 6},
		{Name: "WEBHOOK-ID", Leave: 4},
		{Name: "DETAIL", Least: 30, Leave: 1},
	}}
	span, more, err := a.newestLetters(ctx, admin, filter, limit, func(d *topic.DeadLetter) error {
		status := ""
		if d.Status != 0 {
			status = strconv.Itoa(d.Status)
		}
		t.Rows = append(t.Rows, []string{
			d.Position(), shortClock(d.DeadAt), d.Reason, orDash(status), orDash(d.Account), orDash(d.Subscription), orDash(d.Event),
			orDash(d.Origin), strconv.Itoa(d.Attempts), strconv.Itoa(d.Replays), orDash(d.ID), d.Detail,
		})
		return nil
	})
	if err != nil {
		return err
	}
	if len(t.Rows) == 0 {
		fmt.Fprintf(a.stdout, "no dead letters%s (%s read)\n", selected(filter), count(int(span), "record"))
		return nil
	}
	if err := a.table(t); err != nil {
		return err
	}
	if more {
		fmt.Fprintf(a.stdout, "\nthere are more than --limit %d; `fanout deadletter stats` counts them\n", limit)
	}
	return nil
}
