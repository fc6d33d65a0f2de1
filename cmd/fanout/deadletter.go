package main

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	var open bool
	cmd := &cobra.Command{
		Use:   "stats",
		Short: "Count dead letters, by subscription and reason",
		Long: `stats counts the selected dead letters and shows since when and until when they
died; the largest groups come first. OPEN are those that were neither replayed
nor delivered since, SETTLED the others. A malformed one counts as replayed once
--edit has sent it. NOT KNOWN are those that died before the attempts topic
begins.`,
		Example: `  fanout deadletter stats --since 2h
  fanout deadletter stats --by reason,event
  fanout deadletter stats --open --since 1d`,
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
				return a.deadletterStats(ctx, admin, &filter, groups, open)
			})
		},
	}
	s.flags(cmd.Flags())
	cmd.Flags().BoolVar(&open, "open", false, "only those that were neither replayed nor delivered since")
	cmd.Flags().StringSliceVar(&by, "by", []string{"subscription", "reason"}, "what to count by: subscription, event, reason")
	return configured(cmd)
}

func (a *app) deadletterStats(ctx context.Context, admin *topic.Cluster, filter *topic.Filter, by operate.By, open bool) error {
	ranges, err := admin.DeadLetters().Ranges(ctx, filter)
	if err != nil {
		return err
	}
	done, total, end := a.progress("reading dead letters")
	groups, since, err := operate.CountDeadLetters(ctx, admin, &operate.StatsConfig{Filter: *filter, Ranges: ranges, By: by, Open: open, Done: done, Total: total})
	end()
	if err != nil {
		return err
	}
	sum, states := 0, make(map[operate.LetterState]int)
	for _, state := range operate.LetterStates() {
		states[state] = 0 // a program finds each of them
	}
	for _, g := range groups {
		sum += g.Count
		for state, n := range g.States {
			states[state] += n
		}
	}
	if a.asJSON() {
		out := map[string]any{"total": sum, "read": topic.Total(ranges), "states": states, "groups": append([]operate.DeadLetterCount{}, groups...)}
		if !since.IsZero() {
			out["since"] = since.UTC()
		}
		return a.json(out)
	}
	if sum == 0 {
		fmt.Fprintf(a.stdout, "no %s%s (%s read)\n", lettersIn(open), selected(filter), count(int(topic.Total(ranges)), "record"))
		return nil
	}
	if err := a.table(groupTable(groups, by)); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "\n%s in %s: %d open, %d settled (%d replayed, %d delivered since)\n", count(sum, "dead letter"), count(len(groups), "group"),
		states[operate.LetterOpen], states[operate.LetterReplayed]+states[operate.LetterDelivered], states[operate.LetterReplayed], states[operate.LetterDelivered])
	a.sayUnknown(a.stdout, states[operate.LetterUnknown], since)
	return nil
}

// lettersIn is what is counted or listed.
func lettersIn(open bool) string {
	if open {
		return "open dead letters"
	}
	return "dead letters"
}

// sayUnknown says of how many dead letters nobody knows whether they were delivered since, and why.
func (a *app) sayUnknown(w io.Writer, n int, since time.Time) {
	switch {
	case n == 0:
	case since.IsZero():
		fmt.Fprintf(w, "%d not known: there is no attempts topic (attempts.topic) to tell whether they were delivered since\n", n)
	default:
		fmt.Fprintf(w, "%d not known: the topics do not reach back so far; the attempts topic has all from %s on\n", n, clock(since))
	}
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
	if len(groups) > 0 && groups[0].States != nil {
		number := func(name string, states ...operate.LetterState) {
			t.Columns = append(t.Columns, terminal.Column{Name: name, Right: true})
			for i := range groups {
				n := 0
				for _, state := range states {
					n += groups[i].States[state]
				}
				t.Rows[i] = append(t.Rows[i], strconv.Itoa(n))
			}
		}
		number("OPEN", operate.LetterOpen)
		number("SETTLED", operate.LetterReplayed, operate.LetterDelivered)
		if slices.ContainsFunc(groups, func(g operate.DeadLetterCount) bool { return g.States[operate.LetterUnknown] > 0 }) {
			number("NOT KNOWN", operate.LetterUnknown)
		}
	}
	column("FIRST", 2, func(g *operate.DeadLetterCount) string { return shortClock(g.First) })
	column("LAST", 1, func(g *operate.DeadLetterCount) string { return shortClock(g.Last) })
	return t
}

func (a *app) deadletterListCommand() *cobra.Command {
	var s selection
	limit, open := 100, false
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List dead letters, the newest first",
		Long: `list shows the selected dead letters, the newest first, from their headers only.
POSITION is where a dead letter lies, as PARTITION/OFFSET: fanout deadletter
show takes it. ORIGIN is the source record that it was planned from: fanout
explain takes that. STATE is open, replayed, delivered (since it died), or not
known, where it died before the attempts topic begins. A table ends at --limit;
-o json and -o ndjson list all.`,
		Example: `  fanout deadletter list --account acme --reason expired
  fanout deadletter list --since 1d --open
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
				q := operate.LetterList{Filter: filter, Open: open, Limit: limit}
				if a.format == "table" {
					return a.deadletterTable(ctx, admin, &q)
				}
				return a.deadletterList(ctx, admin, &q)
			})
		},
	}
	s.flags(cmd.Flags())
	cmd.Flags().BoolVar(&open, "open", false, "only those that were neither replayed nor delivered since")
	cmd.Flags().IntVar(&limit, "limit", limit, "how many to show at most; 0 means all")
	return configured(cmd)
}

// errNegativeLimit is a --limit of less than nothing.
var errNegativeLimit = errors.New("--limit is not negative; 0 means no limit")

// listLetters calls f with each dead letter that is asked for, the newest first. It says how many records the selection spans, and what is left out.
func (a *app) listLetters(ctx context.Context, admin *topic.Cluster, q *operate.LetterList, f func(operate.ListedLetter) error) (span int64, out *operate.ListedLetters, err error) {
	if q.Ranges, err = admin.DeadLetters().Ranges(ctx, &q.Filter); err != nil {
		return 0, nil, err
	}
	span = topic.Total(q.Ranges)
	done, total, end := a.progress("reading dead letters")
	defer end()
	total(span)
	q.Done, q.Total = done, total
	out, err = operate.List(ctx, admin, q, f)
	return span, out, err
}

// deadletterList is the list for a program.
func (a *app) deadletterList(ctx context.Context, admin *topic.Cluster, q *operate.LetterList) error {
	list := a.lister()
	_, out, err := a.listLetters(ctx, admin, q, func(d operate.ListedLetter) error { return list.add(d) })
	if err == nil || list.some {
		err = errors.Join(err, list.end()) // a part is well-formed too: the exit status says that it is one
	}
	if err == nil {
		a.sayUnknown(a.stderr, out.Unknown, out.Since)
	}
	return err
}

// deadletterTable is the list for a person.
func (a *app) deadletterTable(ctx context.Context, admin *topic.Cluster, q *operate.LetterList) error {
	t := &terminal.Table{Columns: []terminal.Column{
		{Name: "POSITION"},
		{Name: "DIED"},
		{Name: "REASON", Least: 10},
		{Name: "STATUS", Leave: 4},
		{Name: "STATE", Leave: 1},
		{Name: "ACCOUNT", Least: 8},
		{Name: "SUBSCRIPTION", Least: 8},
		{Name: "EVENT", Leave: 3},
		{Name: "ORIGIN", Least: 11},
		{Name: "ATTEMPTS", Right: true, Leave: 6},
		{Name: "REPLAYS", Right: true, Leave: 7},
		{Name: "WEBHOOK-ID", Leave: 5},
		{Name: "DETAIL", Least: 30, Leave: 2},
	}}
	span, out, err := a.listLetters(ctx, admin, q, func(d operate.ListedLetter) error {
		status := ""
		if d.Status != 0 {
			status = strconv.Itoa(d.Status)
		}
		t.Rows = append(t.Rows, []string{
			d.Position(), shortClock(d.DeadAt), d.Reason, orDash(status), string(d.State), orDash(d.Account), orDash(d.Subscription), orDash(d.Event),
			orDash(d.Origin), strconv.Itoa(d.Attempts), strconv.Itoa(d.Replays), orDash(d.ID), d.Detail,
		})
		return nil
	})
	if err != nil {
		return err
	}
	if len(t.Rows) == 0 {
		fmt.Fprintf(a.stdout, "no %s%s (%s read)\n", lettersIn(q.Open), selected(&q.Filter), count(int(span), "record"))
		a.sayUnknown(a.stdout, out.Unknown, out.Since)
		return nil
	}
	if err := a.table(t); err != nil {
		return err
	}
	if out.More {
		fmt.Fprintf(a.stdout, "\nthere are more than --limit %d; `fanout deadletter stats` counts them\n", q.Limit)
	}
	a.sayUnknown(a.stdout, out.Unknown, out.Since)
	return nil
}
