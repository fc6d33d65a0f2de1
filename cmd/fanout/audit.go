package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"fanout/config"
	"fanout/consumer"
	"fanout/dispatcher"
	"fanout/subscriptions"
)

func (a *app) auditCommand() *cobra.Command {
	var account, subscription string
	cmd := &cobra.Command{
		Use:   "audit TOPIC[/PARTITION[/FROM-TO]]",
		Short: "Account for every delivery of a range of source offsets",
		Long: "audit plans the range again and finds each delivery: delivered, waiting, dead, discarded, pending (its record is not\n" +
			"committed yet), configuration changed (the account was changed after the record was written), or missing.\n" +
			"It needs attempts.topic: true, since the time of the range.\n\n" +
			"With --subscription it prints the manifest of one receiver, to compare with what they have.\n\n" +
			"Exit status: 0 nothing is missing, 1 a delivery is missing (each is named) or a problem, 2 there is no attempts topic.",
		Example:     "  fanout audit channel.email\n  fanout audit channel.email/3/1000-1999\n  fanout audit channel.email --account acme --subscription crm -o ndjson",
		Args:        cobra.ExactArgs(1),
		Annotations: map[string]string{streams: ""},
		RunE: func(cmd *cobra.Command, args []string) error {
			if subscription != "" && account == "" {
				return &exitError{code: 2, err: errors.New("--subscription needs --account: ids are unique in their account only")}
			}
			return a.withKafka(cmd, func(ctx context.Context, cfg *config.Config, admin *consumer.Admin) error {
				return a.audit(ctx, cfg, admin, args[0], account, subscription)
			})
		},
	}
	cmd.Flags().StringVar(&account, "account", "", "only the deliveries of this account")
	cmd.Flags().StringVar(&subscription, "subscription", "", "the manifest of this subscription: every delivery with its state")
	return configured(cmd)
}

// sourceRange reads TOPIC[/PARTITION[/FROM-TO]] and finds the offsets that it means now.
func sourceRange(ctx context.Context, admin *consumer.Admin, text string) (string, map[int]consumer.Range, error) {
	parts := strings.Split(text, "/")
	if len(parts) > 3 || parts[0] == "" {
		return "", nil, &exitError{code: 2, err: fmt.Errorf("%s is no TOPIC[/PARTITION[/FROM-TO]]", text)}
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
		return "", nil, &exitError{code: 2, err: fmt.Errorf("topic %s has no partition %s; it has 0 to %d", parts[0], parts[1], len(ranges)-1)}
	}
	if len(parts) == 3 {
		asked, err := offsetRange(parts[2])
		if err != nil {
			return "", nil, &exitError{code: 2, err: fmt.Errorf("%s %w", parts[2], err)}
		}
		if asked.From < held.From || asked.To > held.To {
			return "", nil, &exitError{code: 2, err: fmt.Errorf("%s/%d holds the offsets %d to %d; %s is not all there", parts[0], id, held.From, held.To-1, parts[2])}
		}
		held = asked
	}
	return parts[0], map[int]consumer.Range{id: held}, nil
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
	return nil, nil, hint(fmt.Errorf("subscriptions are not known: %s", directory.Status().Error), "Redis must answer for this")
}

// changeSlack is how much earlier than a record a change may be that was not in force yet when the record was planned: a
// change takes up to a second, and the clocks of Redis and of the producer differ.
const changeSlack = 5 * time.Second

func (a *app) audit(ctx context.Context, cfg *config.Config, admin *consumer.Admin, text, account, subscription string) error {
	topic, ranges, err := sourceRange(ctx, admin, text)
	if err != nil {
		return err
	}
	decoders, err := consumer.NewDecoders(consumerConfig(cfg))
	if err != nil {
		return err
	}
	defer decoders.Close()
	if !decoders.Source(topic) {
		return &exitError{code: 2, err: fmt.Errorf("topic %s is no source of the configuration", topic)}
	}
	directory, stop, err := loadDirectory(ctx, cfg.Redis)
	if err != nil {
		return err
	}
	defer stop()
	planner, err := dispatcher.New(cfg.Dispatcher(userAgent()), directory, nil, nil)
	if err != nil {
		return err
	}
	store, err := subscriptions.NewStore(cfg.Redis)
	if err != nil {
		return err
	}
	defer store.Close()
	changes, err := store.ChangedSince(ctx, time.Now().Add(-cfg.Delivery.MaxAge-7*24*time.Hour))
	if err != nil {
		return err
	}
	done, total, end := a.progress("auditing")
	begun := time.Now()
	result, err := admin.Audit(ctx, consumer.AuditConfig{
		Topic: topic, Ranges: ranges, Plan: planner.Plan, Done: done, Total: total,
		Changed: func(account string, since time.Time) bool { return changes[account].After(since.Add(-changeSlack)) },
		Keep: func(d *dispatcher.Delivery) bool {
			return (account == "" || d.Account == account) && (subscription == "" || d.Subscription == subscription)
		},
	})
	end()
	if errors.Is(err, consumer.ErrNoAttempts) {
		return &exitError{code: 2, err: err}
	}
	if err != nil {
		return err
	}
	if result.NoCommit {
		fmt.Fprintf(a.stderr, "warning: group %s has committed nothing of %s, so that nothing counts as missing; is kafka.group right?\n", cfg.Kafka.Group, topic)
	}
	return a.showAudit(result, subscription != "", time.Since(begun))
}

func (a *app) showAudit(r *consumer.Audit, manifest bool, took time.Duration) error {
	var missing []consumer.Audited
	for _, d := range r.Deliveries {
		if d.State == consumer.AuditMissing {
			missing = append(missing, d)
		}
	}
	for _, s := range consumer.AuditStates() {
		r.States[s] += 0 // a program finds each of them
	}
	shown := missing
	if manifest {
		shown = r.Deliveries
	}
	switch a.format {
	case "json":
		if err := a.json(map[string]any{
			"records": r.Records, "events": r.Events, "ignored": r.Ignored, "malformed": r.Malformed, "unmatched": r.Unmatched,
			"deliveries": len(r.Deliveries), "states": r.States, "seconds": took.Seconds(), "list": append([]consumer.Audited{}, shown...),
		}); err != nil {
			return err
		}
	case "ndjson":
		list := a.lister()
		for _, d := range shown {
			if err := list.add(d); err != nil {
				return err
			}
		}
		if err := list.end(); err != nil {
			return err
		}
	default:
		if err := a.auditTable(r, shown, took); err != nil {
			return err
		}
	}
	if len(missing) > 0 {
		return &exitError{code: 1, err: fmt.Errorf("%d of %d deliveries missing", len(missing), len(r.Deliveries))}
	}
	return nil
}

func (a *app) auditTable(r *consumer.Audit, shown []consumer.Audited, took time.Duration) error {
	w := a.stdout
	fmt.Fprintf(w, "%s: %s, %d ignored, %d malformed, %d unmatched\n", count(r.Records, "record"), count(r.Events, "event"), r.Ignored, r.Malformed, r.Unmatched)
	for _, s := range consumer.AuditStates() {
		if n := r.States[s]; n > 0 || s == consumer.AuditMissing {
			fmt.Fprintf(w, "%9d %s\n", n, s)
		}
	}
	fmt.Fprintf(w, "%9d deliveries, accounted for in %s\n", len(r.Deliveries), took.Round(10*time.Millisecond))
	if len(shown) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	rows := [][]string{{"RECORD", "TIME", "EVENT", "ACCOUNT", "SUBSCRIPTION", "WEBHOOK-ID", "STATE"}}
	for _, d := range shown {
		state := string(d.State)
		if d.Why != "" {
			state += ": " + d.Why
		}
		rows = append(rows, []string{d.OriginText, clock(d.Time), d.EventName, d.Account, d.Subscription, d.ID, state})
	}
	return table(w, rows)
}
