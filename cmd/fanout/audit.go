package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"fanout/cmd/internal/terminal"
	"fanout/config"
	"fanout/dispatcher"
	"fanout/operate"
	"fanout/subscriptions"
	"fanout/topic"
)

// auditCommand accounts for every delivery of a source topic.
type auditCommand struct {
	*settings
	*output
}

func (c *auditCommand) command() *cobra.Command {
	var account, subscription string
	cmd := &cobra.Command{
		Use:   "audit TOPIC[/PARTITION[/FROM-TO]]",
		Short: "Say what became of every delivery of a source topic",
		Long: `audit plans the records again and says of each delivery what became of it:

  delivered, dead, discarded
  waiting                in a retry topic or the replay topic
  pending                its record is not committed yet
  configuration changed  the account was changed after the record was written
  cannot be judged       its attempts were not recorded, or are not kept now
  missing                it should have been made, and there is no trace of it

It needs the attempts topic (attempts.topic). With
--subscription it lists every delivery of one receiver, to compare with what
they received.

Exit status: 0 nothing is missing, 1 a delivery is missing (each is named) or a
problem, 2 a command line that is not understood, or no attempts topic, 3
nothing is missing that can be judged, but not all can.`,
		Example: `  fanout audit channel.email
  fanout audit channel.email/3/1000-1999
  fanout audit channel.email --account acme --subscription crm -o ndjson`,
		Args:        cobra.ExactArgs(1),
		Annotations: map[string]string{streams: ""},
		RunE: func(cmd *cobra.Command, args []string) error {
			if subscription != "" && account == "" {
				return misusef("--subscription needs --account: ids are unique in their account only")
			}
			return c.withKafka(cmd, func(ctx context.Context, cfg *config.Config, admin *topic.Cluster) error {
				return c.audit(ctx, cfg, admin, args[0], account, subscription)
			})
		},
	}
	cmd.Flags().StringVar(&account, "account", "", "only the deliveries of this account")
	cmd.Flags().StringVar(&subscription, "subscription", "", "list every delivery of this subscription, with its state")
	return configured(cmd)
}

// sourceRange reads TOPIC[/PARTITION[/FROM-TO]] and finds the offsets that it means now.
func sourceRange(ctx context.Context, admin *topic.Cluster, text string) (string, map[int]topic.Range, error) {
	parts := strings.Split(text, "/")
	if len(parts) > 3 || parts[0] == "" {
		return "", nil, misusef("%s is not a TOPIC[/PARTITION[/FROM-TO]], such as channel.email/3/1000-1999", text)
	}
	ranges, err := admin.Ranges(ctx, parts[0], time.Time{})
	if err != nil {
		return "", nil, err
	}
	if len(parts) == 1 {
		return parts[0], ranges, nil
	}
	id, err := strconv.Atoi(parts[1])
	held, ok := ranges[id]
	if err != nil || !ok {
		return "", nil, misusef("topic %s has no partition %s; it has 0 to %d", parts[0], parts[1], len(ranges)-1)
	}
	if len(parts) == 3 {
		asked, err := offsetRange(parts[2])
		if err != nil {
			return "", nil, misusef("%s: %w", parts[2], err)
		}
		if asked.From < held.From || asked.To > held.To {
			return "", nil, misusef("%s/%d holds the offsets %d to %d, not all of %s", parts[0], id, held.From, held.To-1, parts[2])
		}
		held = asked
	}
	return parts[0], map[int]topic.Range{id: held}, nil
}

// loadDirectory reads all subscriptions from Redis, once.
func loadDirectory(ctx context.Context, redis subscriptions.Config) (*subscriptions.Directory, func(), error) {
	redis.SnapshotFile = "off"
	directory, err := subscriptions.New(redis, nil, prometheus.NewRegistry())
	if err != nil {
		return nil, nil, err
	}
	stop := begin(ctx, directory.Run)
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	select {
	case <-directory.Ready():
		return directory, func() { _ = stop() }, nil
	case <-ctx.Done():
	}
	_ = stop()
	return nil, nil, hint(fmt.Errorf("the subscriptions cannot be read: %s", directory.Status().Error), "is Redis running? redis.url says where")
}

func (c *auditCommand) audit(ctx context.Context, cfg *config.Config, admin *topic.Cluster, text, account, subscription string) error {
	if source, _, _ := strings.Cut(text, "/"); !slices.Contains(sourceNames(cfg), source) {
		return misuse(notASource(cfg, source))
	}
	name, ranges, err := sourceRange(ctx, admin, text)
	if err != nil {
		return err
	}
	directory, stop, err := loadDirectory(ctx, cfg.Redis)
	if err != nil {
		return err
	}
	defer stop()
	planner := dispatcher.NewPlanner(directory)
	store, err := subscriptions.NewStore(cfg.Redis)
	if err != nil {
		return err
	}
	defer store.Close()
	changes, err := store.ChangedSince(ctx, time.Now().Add(-changesKept(cfg)))
	if err != nil {
		return err
	}
	done, total, end := c.progress("auditing")
	begun := time.Now()
	result, err := operate.NewAudit(ctx, admin, operate.AuditConfig{
		Topic: name, Ranges: ranges, Plan: planner.Plan, Done: done, Total: total, ChangesSince: knownSince(&changes),
		Changed: func(account string, since time.Time) bool {
			return changes.Last[account].After(since.Add(-operate.ChangeSlack))
		},
		Keep: func(d *dispatcher.Delivery) bool {
			return (account == "" || d.Account == account) && (subscription == "" || d.Subscription == subscription)
		},
	})
	end()
	if errors.Is(err, operate.ErrNoAttempts) {
		return misuse(err)
	}
	if err != nil {
		return err
	}
	if result.NoCommit {
		fmt.Fprintf(c.stderr, "warning: group %s has committed nothing of %s, so that nothing counts as missing; is kafka.group right?\n", cfg.Kafka.Group, name)
	}
	return c.showAudit(result, subscription != "", time.Since(begun))
}

// knownSince is since when it is known what changed; zero where nothing was ever announced.
func knownSince(c *subscriptions.Changes) time.Time {
	if c.Since.IsZero() {
		return c.Since
	}
	return c.Since.Add(-operate.ChangeSlack)
}

// changesKept is how long it is remembered when an account changed (docs/contract.md#changed-accounts).
func changesKept(cfg *config.Config) time.Duration { return cfg.Delivery.MaxAge + 7*24*time.Hour }

func (c *auditCommand) showAudit(r *operate.Audit, manifest bool, took time.Duration) error {
	var missing []operate.Audited
	for _, d := range r.Deliveries {
		if d.State == operate.AuditMissing {
			missing = append(missing, d)
		}
	}
	for _, s := range operate.AuditStates() {
		r.States[s] += 0 // a program finds each of them
	}
	shown := missing
	if manifest {
		shown = r.Deliveries
	}
	switch c.format {
	case "json":
		if err := c.json(map[string]any{
			"records": r.Records, "events": r.Events, "ignored": r.Ignored, "malformed": r.Malformed, "unmatched": r.Unmatched,
			"deliveries": len(r.Deliveries), "states": r.States, "seconds": took.Seconds(), "list": append([]operate.Audited{}, shown...),
		}); err != nil {
			return err
		}
	case "ndjson":
		list := c.lister()
		for _, d := range shown {
			if err := list.add(d); err != nil {
				return err
			}
		}
		if err := list.end(); err != nil {
			return err
		}
	default:
		if err := c.auditTable(r, shown, took); err != nil {
			return err
		}
	}
	unjudged := r.States[operate.AuditChanged] + r.States[operate.AuditUnknown]
	switch {
	case len(missing) > 0:
		return &exitError{code: exitProblem, err: fmt.Errorf("%d of %d deliveries missing", len(missing), len(r.Deliveries))}
	case unjudged > 0:
		return &exitError{code: exitUnjudged, err: fmt.Errorf("%d of %d deliveries cannot be judged", unjudged, len(r.Deliveries))}
	}
	return nil
}

func (c *auditCommand) auditTable(r *operate.Audit, shown []operate.Audited, took time.Duration) error {
	w := c.stdout
	fmt.Fprintf(w, "%s: %s, %d ignored, %d malformed, %d unmatched\n", count(r.Records, "record"), count(r.Events, "event"), r.Ignored, r.Malformed, r.Unmatched)
	for _, s := range operate.AuditStates() {
		if n := r.States[s]; n > 0 || s == operate.AuditMissing {
			fmt.Fprintf(w, "%9d %s\n", n, s)
		}
	}
	fmt.Fprintf(w, "%9d deliveries, accounted for in %s\n", len(r.Deliveries), took.Round(10*time.Millisecond))
	if len(shown) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	t := &terminal.Table{Columns: []terminal.Column{
		{Name: "RECORD"},
		{Name: "TIME", Leave: 1},
		{Name: "EVENT", Leave: 2},
		{Name: "ACCOUNT", Least: 8},
		{Name: "SUBSCRIPTION", Least: 8},
		{Name: "WEBHOOK-ID", Leave: 3},
		{Name: "STATE", Wrap: true, Least: 9},
	}}
	for _, d := range shown {
		state := string(d.State)
		if d.Why != "" {
			state += ": " + d.Why
		}
		if d.Batch != nil {
			state += ", " + topic.InBatch(d.Batch.ID, d.Size)
		}
		t.Rows = append(t.Rows, []string{d.OriginText, shortClock(d.Time), d.EventName, d.Account, d.Subscription, d.ID, state})
	}
	return c.table(t)
}
