package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"fanout/cmd/internal/terminal"
	"fanout/config"
	"fanout/operate"
	"fanout/topic"
)

// deadletterList lists dead letters.
type deadletterList struct {
	*settings
	*output
}

func (c *deadletterList) command() *cobra.Command {
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
			filter, err := s.filter(c.catalogue(cmd), time.Now())
			if err != nil {
				return err
			}
			if limit < 0 {
				return misuse(errNegativeLimit)
			}
			if c.format != "table" && !cmd.Flags().Changed("limit") {
				limit = 0
			}
			return c.withKafka(cmd, func(ctx context.Context, _ *config.Config, admin *topic.Cluster) error {
				q := operate.LetterList{Filter: filter, Open: open, Limit: limit}
				if c.format == "table" {
					return c.show(ctx, admin, &q)
				}
				return c.list(ctx, admin, &q)
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
func (c *deadletterList) each(ctx context.Context, admin *topic.Cluster, q *operate.LetterList, f func(operate.ListedLetter) error) (span int64, out *operate.ListedLetters, err error) {
	if q.Ranges, err = admin.DeadLetters().Ranges(ctx, &q.Filter); err != nil {
		return 0, nil, err
	}
	span = topic.Total(q.Ranges)
	done, total, end := c.progress("reading dead letters")
	defer end()
	total(span)
	q.Done, q.Total = done, total
	out, err = operate.List(ctx, admin, q, f)
	return span, out, err
}

// deadletterList is the list for a program.
func (c *deadletterList) list(ctx context.Context, admin *topic.Cluster, q *operate.LetterList) error {
	list := c.lister()
	_, out, err := c.each(ctx, admin, q, func(d operate.ListedLetter) error { return list.add(d) })
	if err == nil || list.some {
		err = errors.Join(err, list.end()) // a part is well-formed too: the exit status says that it is one
	}
	if err == nil {
		sayUnknown(c.stderr, out.Unknown, out.Since)
	}
	return err
}

// deadletterTable is the list for a person.
func (c *deadletterList) show(ctx context.Context, admin *topic.Cluster, q *operate.LetterList) error {
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
	span, out, err := c.each(ctx, admin, q, func(d operate.ListedLetter) error {
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
		fmt.Fprintf(c.stdout, "no %s%s (%s read)\n", lettersIn(q.Open), selected(&q.Filter), count(int(span), "record"))
		sayUnknown(c.stdout, out.Unknown, out.Since)
		return nil
	}
	if err := c.table(t); err != nil {
		return err
	}
	if out.More {
		fmt.Fprintf(c.stdout, "\nthere are more than --limit %d; `fanout deadletter stats` counts them\n", q.Limit)
	}
	sayUnknown(c.stdout, out.Unknown, out.Since)
	return nil
}
