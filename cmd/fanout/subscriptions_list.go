package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fanout/cmd/internal/terminal"
	"fanout/config"
	"fanout/dispatcher/resolve"
	"fanout/egress"
	"fanout/event"
	"fanout/subscriptions"
)

// listed is one subscription for a program.
type listed struct {
	Account  string          `json:"account"`
	ID       string          `json:"id"`
	State    string          `json:"state"` // enabled, disabled, paused or invalid
	Problem  string          `json:"problem,omitempty"`
	Warnings []warning       `json:"warnings,omitempty"`
	Stored   json.RawMessage `json:"subscription,omitempty"` // masked
}

// judged is what there is to say about a subscription as Redis holds it.
type judged struct {
	sub      *subscriptions.Subscription
	problem  string // what is wrong with it; empty where nothing is
	unsigned bool
	warnings []warning
}

func judge(reader subscriptions.Reader, stored *subscriptions.Stored, rules *egress.Rules) judged {
	review := reader.ReviewStored(stored.Account, stored.ID, stored.JSON, time.Now())
	j := judged{sub: review.Subscription, unsigned: review.Unsigned, warnings: warningsOf(review.Warnings)}
	_, blocked := rules.ParseStoredURL(stored.Account, j.sub.URL())
	_, refused := rules.ParseURL(stored.Account, j.sub.URL())
	switch {
	case review.Invalid != nil:
		j.problem = review.Invalid.Error()
	case blocked != nil:
		j.problem = "url: " + blocked.Error()
	case refused != nil:
		j.warnings = append(j.warnings, warning{"url", refused.Error() + "; it stays in force, and is refused in what is written from now on"})
	}
	return j
}

// notes are the problem and the warnings in one cell.
func (j *judged) notes() string {
	var notes []string
	if j.problem != "" {
		notes = append(notes, j.problem)
	}
	for _, w := range j.warnings {
		notes = append(notes, w.String())
	}
	return strings.Join(notes, "; ")
}

func (j *judged) state() string {
	if j.problem != "" {
		return "invalid"
	}
	return stateOf(j.sub)
}

func stateOf(sub *subscriptions.Subscription) string {
	switch {
	case !sub.Enabled():
		return "disabled"
	case sub.Paused():
		return "paused"
	}
	return "enabled"
}

func eventList(c *event.Catalogue, sub *subscriptions.Subscription) string {
	if sub.SelectsEvery() {
		return "*"
	}
	var names []string
	for _, name := range sub.Events().Names(c) {
		names = append(names, name.String())
	}
	return strings.Join(names, ",")
}

// subscriptionsList lists subscriptions, and what is wrong with them.
type subscriptionsList struct {
	*settings
	*output

	network resolve.Config // how receivers are reached
}

func (c *subscriptionsList) command() *cobra.Command {
	var account string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List subscriptions, and what is wrong or odd about them",
		Long: "list shows the subscriptions as Redis holds them, by account and id. NOTES says\n" +
			"what is wrong with an invalid one, whose last good version stays in force, and\n" +
			"what is odd: unknown keys, no secret that signs, secrets that expire, and what\n" +
			"breaks a rule that is newer than the subscription. URLs are shown without what\n" +
			"may be a credential; -o json has each subscription as get shows it.",
		Example: "  fanout subscriptions list\n  fanout subscriptions list --account acme -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withStore(cmd, func(ctx context.Context, cfg *config.Config, store *subscriptions.Store) error {
				return c.list(ctx, cfg, store, account)
			})
		},
	}
	cmd.Flags().StringVar(&account, "account", "", "those of one account only")
	return configured(cmd)
}

func (c *subscriptionsList) list(ctx context.Context, cfg *config.Config, store *subscriptions.Store, account string) error {
	rules, err := egress.New(cfg.Egress)
	if err != nil {
		return fmt.Errorf("egress: %w", err)
	}
	all, wrong, err := storedOf(ctx, store, account)
	if err != nil {
		return err
	}
	result := []listed{}
	t := &terminal.Table{Columns: []terminal.Column{
		{Name: "ACCOUNT", Least: 8},
		{Name: "ID", Least: 8},
		{Name: "STATE"},
		{Name: "EVENTS", Least: 8, Leave: 2},
		{Name: "URL", Least: 12, Leave: 1},
		{Name: "NOTES", Wrap: true, Least: 24},
	}}
	judgements, names := make([]judged, len(all)), hostNames{}
	for i := range all {
		judgements[i] = judge(store.Reader(), &all[i], rules)
		if problem := wrong[all[i].Account]; problem != "" {
			judgements[i] = judged{sub: judgements[i].sub, problem: problem}
			continue
		}
		names.add(judgements[i].sub, rules)
	}
	c.noteSearchOnly(ctx, cfg, rules, judgements, names)
	for i, stored := range all {
		j := judgements[i]
		one := listed{stored.Account, stored.ID, j.state(), j.problem, j.warnings, subscriptions.Masked(stored.JSON)}
		t.Rows = append(t.Rows, []string{one.Account, one.ID, one.State, eventList(store.Reader().Catalogue, j.sub), subscriptions.MaskedURL(j.sub.URL()), j.notes()})
		result = append(result, one)
	}
	if c.asJSON() {
		return c.json(result)
	}
	return c.table(t)
}

// noteSearchOnly adds a warning to those whose hosts exist only with the resolver's search list.
func (c *subscriptionsList) noteSearchOnly(ctx context.Context, cfg *config.Config, rules *egress.Rules, judgements []judged, names hostNames) {
	if cfg.Egress.Search || cfg.Egress.ProxyNames {
		return
	}
	resolver := resolve.New(c.network)
	defer resolver.Close()
	found := searchOnly(ctx, resolver, names)
	for i := range judgements {
		sub := judgements[i].sub
		t, err := rules.ParseStoredURL(sub.Account(), sub.URL())
		if name := found[t.Host]; err == nil && name != "" {
			judgements[i].warnings = append(judgements[i].warnings, warning{"url", "the host exists only with the resolver's search list, as " + name + ": write it in full, or set egress.search"})
		}
	}
}
