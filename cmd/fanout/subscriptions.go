package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"fanout/subscriptions"
)

func subscriptionsCommand(parts ...*cobra.Command) *cobra.Command {
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
	cmd.AddCommand(parts...)
	return cmd
}

// redisError is an error of Redis with the remedy that it knows, or the usual one.
func redisError(err error) error {
	if e, ok := errors.AsType[*subscriptions.StoreError](err); ok && e.Remedy != "" {
		return hint(fmt.Errorf("redis: %s", e.Found), "%s", e.Remedy)
	}
	return hint(fmt.Errorf("redis: %w", err), "is Redis running? redis.url says where it is")
}

// warning is something odd about a subscription that is in force nevertheless.
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

// storedOf are the subscriptions of one account, or of all, sorted by account and id. An account whose key holds something
// else is there without an id, and wrong says what is to be done about it.
func storedOf(ctx context.Context, store *subscriptions.Store, account string) (all []subscriptions.Stored, wrong map[string]string, err error) {
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
