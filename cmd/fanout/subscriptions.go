package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
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

func (a *app) subscriptionsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "subscriptions",
		Aliases: []string{"subscription", "subs"},
		Short:   "List, get, apply, delete, rotate and test subscriptions",
		Long: `A subscription is an account's webhook: its URL, the events it wants, its
secrets. It is kept in Redis, and a change is in force everywhere in a second.`,
		Example: `  fanout subscriptions list --account acme
  fanout subscriptions apply -f subscriptions.yaml
  fanout subscriptions test acme crm`,
	}
	cmd.AddCommand(a.listCommand(), a.getCommand(), a.applyCommand(), a.deleteCommand(), a.rotateCommand(), a.testCommand(), a.acceptCommand())
	return cmd
}

// withStore asks something of Redis, and gives up after a minute.
func (a *app) withStore(cmd *cobra.Command, ask func(context.Context, *config.Config, *subscriptions.Store) error) error {
	cfg, err := a.load(cmd)
	if err != nil {
		return err
	}
	store, err := subscriptions.NewStore(cfg.Redis)
	if err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	defer store.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
	defer cancel()
	if err := store.Ping(ctx); err != nil {
		return redisError(err)
	}
	return ask(ctx, &cfg, store)
}

// redisError is an error of Redis with the remedy that it knows, or the usual one.
func redisError(err error) error {
	if e, ok := errors.AsType[*subscriptions.StoreError](err); ok && e.Remedy != "" {
		return hint(fmt.Errorf("redis: %s", e.Found), "%s", e.Remedy)
	}
	return hint(fmt.Errorf("redis: %w", err), "is Redis running? redis.url says where it is")
}

// warning is something odd about a subscription that is in force all the same.
type warning struct {
	Field  string `json:"field"` // as the JSON names it; empty: the whole of it
	Detail string `json:"detail"`
}

func warningsOf(list []subscriptions.FieldProblem) []warning {
	var warnings []warning
	for _, w := range list {
		warnings = append(warnings, warning{w.Field, w.Problem})
	}
	return warnings
}

func (w warning) String() string { return strings.TrimPrefix(w.Field+": "+w.Detail, ": ") }

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

// listed is one subscription for a program.
type listed struct {
	Account  string          `json:"account"`
	ID       string          `json:"id"`
	State    string          `json:"state"` // enabled, disabled, paused or invalid
	Problem  string          `json:"problem,omitempty"`
	Warnings []warning       `json:"warnings,omitempty"`
	Stored   json.RawMessage `json:"subscription,omitempty"` // masked
}

func (a *app) listCommand() *cobra.Command {
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
			return a.withStore(cmd, func(ctx context.Context, cfg *config.Config, store *subscriptions.Store) error {
				return a.list(ctx, cfg, store, account)
			})
		},
	}
	cmd.Flags().StringVar(&account, "account", "", "those of one account only")
	return configured(cmd)
}

func (a *app) list(ctx context.Context, cfg *config.Config, store *subscriptions.Store, account string) error {
	rules, err := egress.New(cfg.Egress)
	if err != nil {
		return fmt.Errorf("egress: %w", err)
	}
	all, wrong, err := a.stored(ctx, store, account)
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
	a.noteSearchOnly(ctx, cfg, rules, judgements, names)
	for i, stored := range all {
		j := judgements[i]
		one := listed{stored.Account, stored.ID, j.state(), j.problem, j.warnings, subscriptions.Masked(stored.JSON)}
		t.Rows = append(t.Rows, []string{one.Account, one.ID, one.State, eventList(store.Reader().Catalogue, j.sub), subscriptions.MaskedURL(j.sub.URL()), j.notes()})
		result = append(result, one)
	}
	if a.asJSON() {
		return a.json(result)
	}
	return a.table(t)
}

// noteSearchOnly adds a warning to those whose hosts exist only with the resolver's search list.
func (a *app) noteSearchOnly(ctx context.Context, cfg *config.Config, rules *egress.Rules, judgements []judged, names hostNames) {
	if cfg.Egress.Search || cfg.Egress.ProxyNames {
		return
	}
	resolver := resolve.New(a.network)
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

// stored are the subscriptions of one account, or of all, sorted by account and id. An account whose key holds something
// else is there without an id, and wrong says what is to be done about it.
func (a *app) stored(ctx context.Context, store *subscriptions.Store, account string) (all []subscriptions.Stored, wrong map[string]string, err error) {
	wrong = make(map[string]string)
	take := func(err error) error {
		broken, ok := errors.AsType[*subscriptions.WrongTypeError](err)
		if !ok {
			return err
		}
		wrong[broken.Account] = broken.Error()
		all = append(all, subscriptions.Stored{Account: broken.Account})
		return nil
	}
	if account != "" {
		all, err = store.List(ctx, account)
		return all, wrong, take(err)
	}
	for stored, err := range store.ListAll(ctx) {
		if err == nil {
			all = append(all, stored)
		} else if err := take(err); err != nil {
			return nil, nil, err
		}
	}
	return sorted(all), wrong, nil
}

// sorted is the list by account and id. An account that came twice, as it may while Redis resizes its table, is there once.
func sorted(list []subscriptions.Stored) []subscriptions.Stored {
	order := func(a, b subscriptions.Stored) int {
		return cmp.Or(cmp.Compare(a.Account, b.Account), cmp.Compare(a.ID, b.ID))
	}
	slices.SortFunc(list, order)
	return slices.CompactFunc(list, func(a, b subscriptions.Stored) bool { return order(a, b) == 0 })
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

func (a *app) getCommand() *cobra.Command {
	var reveal bool
	cmd := &cobra.Command{
		Use:   "get ACCOUNT ID",
		Short: "Show a subscription's JSON, masked",
		Long: "get shows a subscription as Redis holds it. Secrets, header values and whatever\n" +
			"else looks like a secret are masked, but for url and events: the JSON can be\n" +
			"applied again, and what is masked stays as it is. What is odd is said on\n" +
			"standard error.",
		Example: "  fanout subscriptions get acme crm",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd, func(ctx context.Context, _ *config.Config, store *subscriptions.Store) error {
				data, err := getStored(ctx, store, args[0], args[1])
				if err != nil {
					return err
				}
				a.warn(args[0], args[1], warningsOf(store.Reader().ReviewStored(args[0], args[1], data, time.Now()).Warnings))
				if !reveal {
					data = subscriptions.Masked(data)
				}
				return a.json(data)
			})
		},
	}
	cmd.Flags().BoolVar(&reveal, "show-secrets", false, "mask nothing")
	return configured(cmd)
}

// warn says on standard error what is odd about a subscription.
func (a *app) warn(account, id string, warnings []warning) {
	for _, w := range warnings {
		fmt.Fprintf(a.stderr, "warning: %s\n", terminal.Visible(account+"/"+id+" "+w.String()))
	}
}

func getStored(ctx context.Context, store *subscriptions.Store, account, id string) (json.RawMessage, error) {
	data, found, err := store.Get(ctx, account, id)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, noSubscription(account, id)
	}
	return data, nil
}

func noSubscription(account, id string) error {
	return hint(fmt.Errorf("there is no subscription %s/%s", account, id), "fanout subscriptions list --account %s", account)
}

func (a *app) deleteCommand() *cobra.Command {
	return configured(&cobra.Command{
		Use:   "delete ACCOUNT ID",
		Short: "Delete a subscription",
		Long: `delete removes a subscription. Its deliveries that wait in retry topics are
discarded when they are due.`,
		Example: "  fanout subscriptions delete acme crm",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd, func(ctx context.Context, _ *config.Config, store *subscriptions.Store) error {
				found, err := store.Delete(ctx, args[0], args[1])
				if err != nil {
					return err
				}
				if !found {
					return fmt.Errorf("there is no subscription %s/%s", args[0], args[1])
				}
				if a.asJSON() {
					return a.json(map[string]string{"deleted": args[0] + "/" + args[1]})
				}
				fmt.Fprintf(a.stdout, "deleted %s/%s\n", args[0], args[1])
				return nil
			})
		},
	})
}

func (a *app) acceptCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "accept",
		Short: "Confirm that Redis holds far fewer subscriptions than before",
		Long: `accept confirms a loss that instances have refused. Where Redis is empty, or
holds less than half of what they know, they go on with what they know until
somebody confirms it; /readyz and the log say so. On a terminal it asks for the
number of those that are left.`,
		Example: "  fanout subscriptions accept",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withStore(cmd, func(ctx context.Context, _ *config.Config, store *subscriptions.Store) error {
				all, wrong, err := a.stored(ctx, store, "")
				if err != nil {
					return err
				}
				n := len(all) - len(wrong)
				if n == 0 && !yes {
					return hint(errors.New("redis holds no subscription: nothing would be delivered any more"), "if that is meant, repeat with --yes")
				}
				if in, ok := a.stdin.(*os.File); ok && !yes && terminal.Is(in) {
					question := fmt.Sprintf("Redis holds %s. Whatever else is in force ends on every instance. Type %d to accept that:", count(n, "subscription"), n)
					if !a.answered(ctx, in, question, strconv.Itoa(n)) {
						return &exitError{code: exitProblem, err: errors.New("not accepted")}
					}
				}
				if err := store.AcceptShrink(ctx); err != nil {
					return err
				}
				if a.asJSON() {
					return a.json(map[string]int{"accepted": n})
				}
				fmt.Fprintf(a.stdout, "accepted: %s\n", count(n, "subscription"))
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "ask nothing, and accept that there is no subscription at all too")
	return configured(cmd)
}
