package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"fanout/cmd/internal/terminal"
	"fanout/config"
	"fanout/egress"
	"fanout/operate"
	"fanout/subscriptions"
)

// applyFlags are what apply is told.
type applyFlags struct {
	files              []string
	prune, dryRun, yes bool
}

// subscriptionsApply makes Redis hold what a manifest says.
type subscriptionsApply struct {
	*settings
	*output
	*input
}

func (c *subscriptionsApply) command() *cobra.Command {
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
			return c.withStore(cmd, func(ctx context.Context, cfg *config.Config, store *subscriptions.Store) error {
				return c.apply(ctx, cfg, store, &f)
			})
		},
	}
	cmd.Flags().StringArrayVarP(&f.files, "filename", "f", nil, "`FILE`, folder, or - for standard input; repeatable")
	cmd.Flags().BoolVar(&f.prune, "prune", false, "delete what the files do not name, in the accounts they name")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "only say what would be done")
	cmd.Flags().BoolVar(&f.yes, "yes", false, "delete even more than half of what there is")
	return configured(cmd)
}

func (c *subscriptionsApply) apply(ctx context.Context, cfg *config.Config, store *subscriptions.Store, f *applyFlags) error {
	rules, err := egress.New(cfg.Egress)
	if err != nil {
		return fmt.Errorf("egress: %w", err)
	}
	m, err := c.readManifest(f.files)
	if err != nil {
		return err
	}
	plan, err := m.Plan(ctx, store, rules, f.prune)
	if err != nil {
		return err
	}
	if problems := m.Problems(); len(problems) > 0 {
		return hint(fmt.Errorf("%s; nothing was applied\n  %s", count(len(problems), "problem"), strings.Join(problems, "\n  ")),
			"correct the files and apply them again")
	}
	if plan.DeletesMost() && !f.yes && !f.dryRun {
		return hint(fmt.Errorf("this deletes %d of the %d subscriptions of these accounts; nothing was applied", plan.Count(operate.ManifestDelete), plan.Known),
			"look at it with --dry-run; if it is meant, repeat with --yes")
	}
	if !f.dryRun {
		if err := plan.Apply(ctx, store.As(applier())); err != nil {
			return hint(err, "apply again: subscriptions that were written stay as they are")
		}
	}
	return c.showChanges(plan, f.dryRun)
}

// readManifest reads files, folders (their *.yaml, *.yml and *.json) and - for standard input.
func (c *subscriptionsApply) readManifest(paths []string) (*operate.Manifest, error) {
	m := operate.NewManifest()
	for _, path := range paths {
		files, err := manifestFiles(path)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			data, err := c.readFile(file)
			if err != nil {
				return nil, err
			}
			m.Read(file, data)
		}
	}
	return m, nil
}

func manifestFiles(path string) ([]string, error) {
	if path == "-" {
		return []string{path}, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	var files []string
	err = filepath.WalkDir(path, func(file string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(file)) {
			files = append(files, file)
		}
		return err
	})
	if err == nil && len(files) == 0 {
		return nil, fmt.Errorf("read %s: it holds no *.yaml, *.yml or *.json", path)
	}
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	return files, nil
}

// applier is who the change stream says has made the changes of an apply.
func applier() string {
	me, err := user.Current()
	if err != nil || me.Username == "" {
		return "apply"
	}
	return "apply " + me.Username
}

// shownWarnings bounds how many warnings a person is shown.
const shownWarnings = 50

// warnChanges says on standard error what is odd.
func (c *subscriptionsApply) warnChanges(changes []shownChange) {
	total, shown := 0, 0
	for _, change := range changes {
		total += len(change.Warnings)
		list := change.Warnings[:min(len(change.Warnings), shownWarnings-shown)]
		shown += len(list)
		warn(c.stderr, change.Account, change.ID, list)
	}
	if total > shown {
		fmt.Fprintf(c.stderr, "warning: %d more warnings; -o json has all\n", total-shown)
	}
}

// shownChange is one step of an apply, for a program.
type shownChange struct {
	Action   operate.ManifestAction `json:"action"`
	Account  string                 `json:"account"`
	ID       string                 `json:"id"`
	Warnings []warning              `json:"warnings,omitempty"`
}

func (c *subscriptionsApply) showChanges(plan *operate.ManifestPlan, dryRun bool) error {
	changes := make([]shownChange, 0, len(plan.Changes))
	for _, change := range plan.Changes {
		changes = append(changes, shownChange{change.Action, change.Account, change.ID, warningsOf(change.Warnings)})
	}
	if c.asJSON() {
		return c.json(map[string]any{"dryRun": dryRun, "changes": changes})
	}
	c.warnChanges(changes)
	for _, change := range changes {
		if change.Action != operate.ManifestUnchanged {
			fmt.Fprintf(c.stdout, "%s %s/%s\n", change.Action, terminal.Visible(change.Account), terminal.Visible(change.ID))
		}
	}
	done := "applied"
	if dryRun {
		done = "would be applied"
	}
	fmt.Fprintf(c.stdout, "%s: %d created, %d updated, %d deleted, %d unchanged\n", done, plan.Count(operate.ManifestCreate),
		plan.Count(operate.ManifestUpdate), plan.Count(operate.ManifestDelete), plan.Count(operate.ManifestUnchanged))
	return nil
}
