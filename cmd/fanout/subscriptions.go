package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fanout/config"
	"fanout/dispatcher/egress"
	"fanout/event"
	"fanout/subscriptions"
)

func (a *app) subscriptionsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "subscriptions",
		Aliases: []string{"subscription", "subs"},
		Short:   "List, get, apply, delete and test subscriptions",
		Args:    cobra.NoArgs,
	}
	cmd.AddCommand(a.listCommand(), a.getCommand(), a.applyCommand(), a.deleteCommand(), a.testCommand(), a.acceptCommand())
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
		return hint(fmt.Errorf("redis: %w", err), "is it running? redis.url says where")
	}
	return ask(ctx, &cfg, store)
}

// judgeStored says what is wrong with a subscription as Redis holds it; empty where nothing is.
func judgeStored(stored *subscriptions.Stored, rules *egress.Rules) string {
	sub, bad := subscriptions.Parse(stored.Account, stored.ID, stored.JSON)
	if bad != nil {
		return bad.Error()
	}
	if _, err := rules.ParseURL(sub.URL()); err != nil {
		return "url: " + err.Error()
	}
	return ""
}

// listed is one subscription for a program.
type listed struct {
	Account string          `json:"account"`
	ID      string          `json:"id"`
	State   string          `json:"state"` // enabled, disabled, paused or invalid
	Problem string          `json:"problem,omitempty"`
	Stored  json.RawMessage `json:"subscription,omitempty"` // masked
}

func (a *app) listCommand() *cobra.Command {
	var account string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the subscriptions, and what is wrong with those that are invalid",
		Args:  cobra.NoArgs,
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
	all, err := a.stored(ctx, store, account)
	if err != nil {
		return err
	}
	result, rows := []listed{}, [][]string{{"ACCOUNT", "ID", "STATE", "EVENTS", "URL"}}
	for _, stored := range all {
		sub, _ := subscriptions.Parse(stored.Account, stored.ID, stored.JSON)
		one := listed{stored.Account, stored.ID, stateOf(sub), judgeStored(&stored, rules), subscriptions.Masked(stored.JSON)}
		row := []string{one.Account, one.ID, one.State, eventList(sub.Events()), withoutQuery(sub.URL())}
		if one.Problem != "" {
			one.State, row[2] = "invalid", "invalid"
			row = append(row, one.Problem)
		}
		result, rows = append(result, one), append(rows, row)
	}
	if a.asJSON() {
		return a.json(result)
	}
	return table(a.stdout, rows)
}

// stored are the subscriptions of one account, or of all.
func (a *app) stored(ctx context.Context, store *subscriptions.Store, account string) ([]subscriptions.Stored, error) {
	if account != "" {
		return store.List(ctx, account)
	}
	var all []subscriptions.Stored
	for stored, err := range store.ListAll(ctx) {
		if err != nil {
			return nil, err
		}
		all = append(all, stored)
	}
	return all, nil
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

// withoutQuery is the URL without what may hold a token: its query, and a user and password that the egress rules refuse.
func withoutQuery(url string) string {
	bare, _, ok := strings.Cut(url, "?")
	if scheme, rest, found := strings.Cut(bare, "://"); found {
		host, path, _ := strings.Cut(rest, "/")
		if at := strings.LastIndexByte(host, '@'); at >= 0 {
			bare = strings.TrimSuffix(scheme+"://…@"+host[at+1:]+"/"+path, "/")
		}
	}
	if ok {
		bare += "?…"
	}
	return bare
}

func eventList(set event.Set) string {
	if set == event.AllNames {
		return "*"
	}
	var names []string
	for _, name := range set.Names() {
		names = append(names, name.String())
	}
	return strings.Join(names, ",")
}

func (a *app) getCommand() *cobra.Command {
	var reveal bool
	cmd := &cobra.Command{
		Use:   "get ACCOUNT ID",
		Short: "Show a subscription's JSON, its secrets and header values masked",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd, func(ctx context.Context, _ *config.Config, store *subscriptions.Store) error {
				data, err := getStored(ctx, store, args[0], args[1])
				if err != nil {
					return err
				}
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

func getStored(ctx context.Context, store *subscriptions.Store, account, id string) (json.RawMessage, error) {
	data, found, err := store.Get(ctx, account, id)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, hint(fmt.Errorf("subscription %s/%s: there is none", account, id), "fanout subscriptions list --account %s", account)
	}
	return data, nil
}

func (a *app) deleteCommand() *cobra.Command {
	return configured(&cobra.Command{
		Use:   "delete ACCOUNT ID",
		Short: "Delete a subscription",
		Long:  "delete removes a subscription. Its deliveries that wait in retry topics are then discarded as they come up.",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd, func(ctx context.Context, _ *config.Config, store *subscriptions.Store) error {
				found, err := store.Delete(ctx, args[0], args[1])
				if err != nil {
					return err
				}
				if !found {
					return fmt.Errorf("subscription %s/%s: there is none", args[0], args[1])
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
		Short: "Let every instance take what Redis holds, however little it is",
		Long: "accept confirms a loss that instances have refused: where Redis is empty, or holds less than half of what they\n" +
			"know, they go on with what they know until then (/readyz and the log say so).",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withStore(cmd, func(ctx context.Context, _ *config.Config, store *subscriptions.Store) error {
				all, err := a.stored(ctx, store, "")
				if err != nil {
					return err
				}
				if len(all) == 0 && !yes {
					return hint(errors.New("redis holds no subscription: nothing would be delivered any more"), "if that is meant, repeat with --yes")
				}
				if err := store.AcceptShrink(ctx); err != nil {
					return err
				}
				if a.asJSON() {
					return a.json(map[string]int{"accepted": len(all)})
				}
				fmt.Fprintf(a.stdout, "accepted: %s\n", count(len(all), "subscription"))
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "accept that there is no subscription at all")
	return configured(cmd)
}
