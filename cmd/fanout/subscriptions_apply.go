package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os/user"
	"reflect"
	"slices"

	"github.com/spf13/cobra"

	"fanout/cmd/internal/terminal"
	"fanout/config"
	"fanout/egress"
	"fanout/subscriptions"
)

// applyFlags are what apply is told.
type applyFlags struct {
	files              []string
	prune, dryRun, yes bool
}

func (a *app) applyCommand() *cobra.Command {
	var f applyFlags
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Create and update the subscriptions that files name",
		Long: "apply creates and updates the subscriptions that files name; with --prune it\n" +
			"deletes the others of the accounts that the files name. Files are YAML or JSON,\n" +
			"with one or more documents:\n" +
			"\n" +
			"  {account: acme, id: crm, url: https://example.com/hooks,\n" +
			"   events: [EMAIL_OPEN]}\n" +
			"  {account: acme, subscriptions: {crm: {url: …, events: ['*']}}}\n" +
			"\n" +
			"Secrets and headers that a file leaves out, and whatever it masks as get shows\n" +
			"it, stay as they are; [] and {} remove them. Everything is validated first, the\n" +
			"URLs by the egress rules too: where anything is wrong, nothing is applied. What\n" +
			"is odd is said on standard error, also with --dry-run: unknown keys, no secret\n" +
			"that signs, secrets that expire or would be removed.",
		Example: "  fanout subscriptions apply -f subscriptions/ --prune --dry-run\n" +
			"  generate | fanout subscriptions apply -f -",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(f.files) == 0 {
				return misuse(hint(errors.New("apply which files?"), "give -f FILE, a folder, or - for standard input"))
			}
			return a.withStore(cmd, func(ctx context.Context, cfg *config.Config, store *subscriptions.Store) error {
				return a.apply(ctx, cfg, store, &f)
			})
		},
	}
	cmd.Flags().StringArrayVarP(&f.files, "filename", "f", nil, "`FILE`, folder, or - for standard input; repeatable")
	cmd.Flags().BoolVar(&f.prune, "prune", false, "delete what the files do not name, in the accounts they name")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "only say what would be done")
	cmd.Flags().BoolVar(&f.yes, "yes", false, "delete even more than half of what there is")
	return configured(cmd)
}

// change is one step of an apply.
type change struct {
	Action   string    `json:"action"` // create, update, unchanged or delete
	Account  string    `json:"account"`
	ID       string    `json:"id"`
	Warnings []warning `json:"warnings,omitempty"`
	was      []byte    // as it is stored; nil: not at all
	json     []byte    // as it is to be stored
}

// guardFrom is from how many deletions on the mass-delete guard looks.
const guardFrom = 10

func (a *app) apply(ctx context.Context, cfg *config.Config, store *subscriptions.Store, f *applyFlags) error {
	rules, err := egress.New(cfg.Egress)
	if err != nil {
		return fmt.Errorf("egress: %w", err)
	}
	m, err := a.readManifest(f.files)
	if err != nil {
		return err
	}
	changes, known, err := planChanges(ctx, store, m, rules, f.prune)
	if err == nil {
		err = m.err()
	}
	if err != nil {
		return err
	}
	deletions := 0
	for _, c := range changes {
		if c.Action == "delete" {
			deletions++
		}
	}
	if deletions >= guardFrom && deletions*2 > known && !f.yes && !f.dryRun {
		return hint(fmt.Errorf("this deletes %d of the %d subscriptions of these accounts; nothing was applied", deletions, known),
			"look at it with --dry-run; if it is meant, repeat with --yes")
	}
	if !f.dryRun {
		if err := applyChanges(ctx, store.As(applier()), changes); err != nil {
			return err
		}
	}
	return a.showChanges(changes, f.dryRun)
}

// planChanges validates the manifest, and compares it with what Redis holds; known counts what the manifest's accounts have there.
func planChanges(ctx context.Context, store *subscriptions.Store, m *manifest, rules *egress.Rules, prune bool) (changes []change, known int, err error) {
	for _, account := range slices.Sorted(maps.Keys(m.accounts)) {
		stored, err := store.List(ctx, account)
		if err != nil {
			return nil, 0, err
		}
		known += len(stored)
		now := map[string][]byte{}
		for _, s := range stored {
			now[s.ID] = s.JSON
			if _, wanted := m.accounts[account][s.ID]; !wanted && prune {
				changes = append(changes, change{Action: "delete", Account: account, ID: s.ID})
			}
		}
		for _, id := range slices.Sorted(maps.Keys(m.accounts[account])) {
			old, found := now[id]
			c := change{Action: "update", Account: account, ID: id, was: old}
			c.json, c.Warnings = m.complete(store.Reader(), account, id, old, rules)
			switch {
			case !found:
				c.Action = "create"
			case sameJSON(old, c.json):
				c.Action = "unchanged"
			}
			changes = append(changes, c)
		}
	}
	return changes, known, nil
}

func sameJSON(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// applier is who the change stream says has made the changes of an apply.
func applier() string {
	me, err := user.Current()
	if err != nil || me.Username == "" {
		return "apply"
	}
	return "apply " + me.Username
}

// applyChanges writes first and deletes last, so that a subscription that moves to another id misses nothing.
func applyChanges(ctx context.Context, store *subscriptions.Store, changes []change) error {
	for _, deleting := range []bool{false, true} {
		for _, c := range changes {
			var err error
			switch {
			case c.Action == "delete" && deleting:
				_, err = store.Delete(ctx, c.Account, c.ID)
			case (c.Action == "create" || c.Action == "update") && !deleting:
				_, err = store.Update(ctx, c.Account, c.ID, c.make)
			}
			if err != nil {
				return hint(fmt.Errorf("%s %s/%s: %w", c.Action, c.Account, c.ID, err), "apply again: what has been written is left as it is")
			}
		}
	}
	return nil
}

// make is the change to what is stored, which must be what was compared with the files: a secret that somebody has rotated
// meanwhile is not undone.
func (c *change) make(stored json.RawMessage) (json.RawMessage, error) {
	if !bytes.Equal(stored, c.was) {
		return nil, errors.New("it was changed by somebody else meanwhile")
	}
	return c.json, nil
}

// shownWarnings bounds how many warnings a person is shown.
const shownWarnings = 50

// warnChanges says on standard error what is odd.
func (a *app) warnChanges(changes []change) {
	total, shown := 0, 0
	for _, c := range changes {
		total += len(c.Warnings)
		list := c.Warnings[:min(len(c.Warnings), shownWarnings-shown)]
		shown += len(list)
		a.warn(c.Account, c.ID, list)
	}
	if total > shown {
		fmt.Fprintf(a.stderr, "warning: %d more warnings; -o json has all\n", total-shown)
	}
}

func (a *app) showChanges(changes []change, dryRun bool) error {
	if a.asJSON() {
		return a.json(map[string]any{"dryRun": dryRun, "changes": append([]change{}, changes...)})
	}
	a.warnChanges(changes)
	counts := map[string]int{}
	for _, c := range changes {
		counts[c.Action]++
		if c.Action != "unchanged" {
			fmt.Fprintf(a.stdout, "%s %s/%s\n", c.Action, terminal.Visible(c.Account), terminal.Visible(c.ID))
		}
	}
	done := "applied"
	if dryRun {
		done = "would be applied"
	}
	fmt.Fprintf(a.stdout, "%s: %d created, %d updated, %d deleted, %d unchanged\n", done, counts["create"], counts["update"], counts["delete"], counts["unchanged"])
	return nil
}
