package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"fanout/cmd/internal/terminal"
	"fanout/config"
	"fanout/operate"
	"fanout/topic"
)

// byKeys are what `deadletter stats` can count by.
func byKeys() []string { return []string{"subscription", "event", "reason"} }

// deadletterStats counts dead letters.
type deadletterStats struct {
	*settings
	*output
}

func (c *deadletterStats) command() *cobra.Command {
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
			filter, err := s.filter(c.catalogue(cmd), time.Now())
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
			return c.withKafka(cmd, func(ctx context.Context, _ *config.Config, admin *topic.Cluster) error {
				return c.show(ctx, admin, &filter, groups, open)
			})
		},
	}
	s.flags(cmd.Flags())
	cmd.Flags().BoolVar(&open, "open", false, "only those that were neither replayed nor delivered since")
	cmd.Flags().StringSliceVar(&by, "by", []string{"subscription", "reason"}, "what to count by: subscription, event, reason")
	return configured(cmd)
}

func (c *deadletterStats) show(ctx context.Context, admin *topic.Cluster, filter *topic.Filter, by operate.By, open bool) error {
	ranges, err := admin.DeadLetters().Ranges(ctx, filter)
	if err != nil {
		return err
	}
	done, total, end := c.progress("reading dead letters")
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
	if c.asJSON() {
		out := map[string]any{"total": sum, "read": topic.Total(ranges), "states": states, "groups": append([]operate.DeadLetterCount{}, groups...)}
		if !since.IsZero() {
			out["since"] = since.UTC()
		}
		return c.json(out)
	}
	if sum == 0 {
		fmt.Fprintf(c.stdout, "no %s%s (%s read)\n", lettersIn(open), selected(filter), count(int(topic.Total(ranges)), "record"))
		return nil
	}
	if err := c.table(groupTable(groups, by)); err != nil {
		return err
	}
	fmt.Fprintf(c.stdout, "\n%s in %s: %d open, %d settled (%d replayed, %d delivered since)\n", count(sum, "dead letter"), count(len(groups), "group"),
		states[operate.LetterOpen], states[operate.LetterReplayed]+states[operate.LetterDelivered], states[operate.LetterReplayed], states[operate.LetterDelivered])
	sayUnknown(c.stdout, states[operate.LetterUnknown], since)
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
func sayUnknown(w io.Writer, n int, since time.Time) {
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
