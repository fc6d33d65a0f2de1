package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"fanout/cmd/internal/terminal"
	"fanout/config"
	"fanout/dispatcher"
	"fanout/operate"
	"fanout/topic"
)

// selectors are the flags that find a delivery by what a customer knows of it.
type selectors struct {
	q            operate.FindQuery
	since, until string
}

func (s *selectors) flags(f *pflag.FlagSet) {
	f.StringVar(&s.q.Account, "account", "", "of this account")
	f.StringVar(&s.q.TrackingID, "tracking-id", "", "of the event with this tracking id")
	f.StringVar(&s.q.UserID, "user-id", "", "of events of this user")
	f.StringVar(&s.q.NotificationID, "notification-id", "", "of events of this notification")
	f.StringVar(&s.q.ID, "webhook-id", "", "the delivery with this webhook-id")
	f.StringVar(&s.q.Subscription, "subscription", "", "for the subscription with this id")
	f.StringVar(&s.since, "since", "1d", "attempted then or later: a time (RFC 3339), or how long ago (90m, 2d)")
	f.StringVar(&s.until, "until", "", "attempted before then")
}

// query checks the flags.
func (s *selectors) query(now time.Time) (*operate.FindQuery, error) {
	q := s.q
	var err error
	if q.Since, err = moment(s.since, now); err != nil {
		return nil, misusef("--since %s: %w", s.since, err)
	}
	if q.Until, err = moment(s.until, now); err != nil {
		return nil, misusef("--until %s: %w", s.until, err)
	}
	if !q.Until.IsZero() && !q.Since.Before(q.Until) {
		return nil, misusef("--until %s is not after --since %s: nothing lies between them", s.until, s.since)
	}
	if q.Account == "" && q.ID == "" {
		return nil, misusef("give --account, or --webhook-id")
	}
	return &q, nil
}

// findCommand finds deliveries by what a customer knows of them.
type findCommand struct {
	*settings
	*output
	*explaining
}

func (c *findCommand) command() *cobra.Command {
	var s selectors
	limit := 20
	cmd := &cobra.Command{
		Use:   "find",
		Short: "Find deliveries and their attempts, the newest first",
		Long: `find looks through the attempts topic, the newest first, for deliveries by what
a customer knows of them, and says of each what became of it, where it is now
and when it is tried next. Up to three are shown with all their attempts.

Where there is no attempt, and an event was asked for by its account and its
tracking id, user id or notification id, find looks through the source topics in
the same time, and explains the records that it finds: a subscription may have
matched nothing, or the record is not read yet.`,
		Example: `  fanout find --account acme --tracking-id abc123
  fanout find --account acme --outcome dead --since 2h
  fanout find --webhook-id msg_2mbk7qbnrzvv2pfh3esgfzy4ea -o json`,
		Args:        cobra.NoArgs,
		Annotations: map[string]string{streams: ""},
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := s.query(time.Now())
			if err != nil {
				return err
			}
			if limit < 0 {
				return misuse(errNegativeLimit)
			}
			q.Limit = limit
			if err := choice("--outcome", q.Outcome, "outcome", dispatcher.ResultNames()); err != nil {
				return err
			}
			if err := choice("--event", q.Event, "event name", c.catalogue(cmd).Texts()); err != nil {
				return err
			}
			return c.withKafka(cmd, func(ctx context.Context, cfg *config.Config, admin *topic.Cluster) error {
				return c.find(ctx, cfg, admin, q)
			})
		},
	}
	s.flags(cmd.Flags())
	cmd.Flags().StringVar(&s.q.Event, "event", "", "of this event name, such as EMAIL_OPEN")
	cmd.Flags().StringVar(&s.q.Outcome, "outcome", "", "with an attempt that ended so: delivered, retry, deferred, dead, discarded")
	cmd.Flags().IntVar(&s.q.Status, "status", 0, "with an attempt that was answered with this HTTP status")
	cmd.Flags().IntVar(&limit, "limit", limit, "how many deliveries to show at most; 0 means all")
	c.adminFlag(cmd)
	return configured(cmd)
}

// findResult is what find finds out, for programs.
type findResult struct {
	*operate.Found

	Records []*operate.Explained `json:"records,omitempty"` // of the sources, where no delivery was found
}

func (c *findCommand) find(ctx context.Context, cfg *config.Config, admin *topic.Cluster, q *operate.FindQuery) error {
	done, total, end := c.progress("looking through attempts")
	found, err := operate.Search(ctx, admin, q, done, total)
	end()
	if err != nil {
		return err
	}
	out := findResult{Found: found}
	looked := len(found.Deliveries) == 0 && q.OfEvents() && q.Outcome == "" && q.Status == 0
	if looked {
		if out.Records, err = c.explainRecords(ctx, cfg, admin, q); err != nil {
			return err
		}
	}
	switch c.format {
	case "json":
		return c.json(out)
	case "ndjson":
		list := c.lister()
		for _, d := range found.Deliveries {
			if err := list.add(d); err != nil {
				return err
			}
		}
		return list.end()
	}
	return c.showFound(&out, q, looked)
}

// explainRecords looks through the sources and explains what it finds there.
func (c *findCommand) explainRecords(ctx context.Context, cfg *config.Config, admin *topic.Cluster, q *operate.FindQuery) ([]*operate.Explained, error) {
	e, err := c.explainer(cfg, admin, false)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	all, more, err := e.FindRecords(ctx, q)
	c.sayMore(more)
	return all, err
}

func (c *findCommand) showFound(out *findResult, q *operate.FindQuery, looked bool) error {
	w := c.stdout
	switch n := len(out.Deliveries); {
	case n == 0 && looked && len(out.Records) == 0:
		fmt.Fprintf(w, "no attempt, and no record of a source, since %s that the flags select: it was never produced, or before that\n", clock(q.Since))
	case n == 0 && looked:
		fmt.Fprintf(w, "no attempt was made; the sources hold %s that the flags select:\n", count(len(out.Records), "record"))
		fmt.Fprintln(w)
		showExplained(w, out.Records...)
	case n == 0:
		fmt.Fprintf(w, "no delivery that the flags select was attempted since %s (%s read)\n", clock(later(out.Since, q.Since)), count(int(out.Read), "record"))
	case n <= 3:
		for i, d := range out.Deliveries {
			if i > 0 {
				fmt.Fprintln(w)
			}
			showDelivery(w, d)
		}
	default:
		if err := c.table(deliveryTable(out.Deliveries)); err != nil {
			return err
		}
	}
	if out.Cursor != "" {
		fmt.Fprintf(w, "\nthere are more than --limit %d\n", q.Limit)
	}
	if out.Since.After(q.Since.Add(time.Minute)) && len(out.Deliveries) == 0 {
		fmt.Fprintf(w, "of what was attempted before %s nothing is known\n", clock(out.Since))
	}
	for _, g := range out.Gaps {
		fmt.Fprintf(w, "attempts of %s/%d-%d could not be recorded; they may be missing here\n", terminal.Visible(g.Source), g.From, g.To)
	}
	return nil
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// showDelivery shows a person all that is known of a delivery.
func showDelivery(w io.Writer, d *operate.FoundDelivery) {
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%-13s %s\n", name, terminal.Visible(value))
		}
	}
	line("webhook-id", d.ID)
	line("subscription", d.Account+"/"+d.Subscription)
	line("event", fmt.Sprintf("%s: trackingId %s, notificationId %s, userId %s", d.Event, d.TrackingID, d.NotificationID, d.UserID))
	line("record", d.Origin)
	line("now", nowOf(d))
	attempts := make([]topic.Attempt, 0, len(d.Attempts))
	for i := range d.Attempts {
		attempts = append(attempts, d.Attempts[len(d.Attempts)-1-i])
	}
	showTrace(w, &operate.Trace{Attempts: attempts})
}

// nowOf says where a delivery is.
func nowOf(d *operate.FoundDelivery) string {
	switch {
	case d.Waiting != nil:
		return fmt.Sprintf("waiting in %s, next tried about %s", d.Waiting.Topic, clock(d.Waiting.Due))
	case d.Outcome == dispatcher.Dead.String() && d.Dead != nil:
		return fmt.Sprintf("dead since %s: %s, dead letter %d/%d", clock(d.Dead.Due), d.Dead.Reason, d.Dead.Partition, d.Dead.Offset)
	case d.Open():
		return d.Outcome + ": being attempted, or about to be"
	case d.Reason != "":
		return d.Outcome + " (" + d.Reason + ") at " + clock(d.Time)
	}
	return d.Outcome + " at " + clock(d.Time)
}

func deliveryTable(all []*operate.FoundDelivery) *terminal.Table {
	t := &terminal.Table{Columns: []terminal.Column{
		{Name: "TIME"},
		{Name: "SUBSCRIPTION", Least: 8},
		{Name: "EVENT", Leave: 4},
		{Name: "TRACKING-ID", Least: 8, Leave: 2},
		{Name: "WEBHOOK-ID", Leave: 1},
		{Name: "POSTS", Right: true, Leave: 3},
		{Name: "STATUS", Leave: 5},
		{Name: "NOW", Wrap: true, Least: 12},
	}}
	for _, d := range all {
		posts, status := 0, ""
		for i := range d.Attempts {
			if d.Attempts[i].Attempt > 0 {
				posts++
			}
			if status == "" && d.Attempts[i].Status != 0 {
				status = strconv.Itoa(d.Attempts[i].Status)
			}
		}
		now := d.Outcome
		if d.Reason != "" {
			now += " (" + d.Reason + ")"
		}
		if d.Waiting != nil {
			now += ", next about " + shortClock(d.Waiting.Due)
		}
		t.Rows = append(t.Rows, []string{
			shortClock(d.Time), d.Subscription, d.Event, orDash(d.TrackingID), d.ID, strconv.Itoa(posts), orDash(status), strings.TrimSpace(now),
		})
	}
	return t
}
