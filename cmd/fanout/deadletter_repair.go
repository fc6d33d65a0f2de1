package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"fanout/cmd/internal/terminal"
	"fanout/operate"
	"fanout/topic"
)

// repairer lets an operator repair malformed records.
type repairer struct {
	*settings
	*output
	*input
}

// repair opens each malformed record in an editor, as kubectl edit does, and sends what was repaired to its source topic.
func (c *repairer) repair(ctx context.Context, admin *topic.Cluster, filter *topic.Filter, f *replayFlags) error {
	sent, left, before := 0, 0, 0
	r, err := operate.NewRepairer(admin, operate.RepairConfig{
		Filter: *filter, Again: f.again, DryRun: f.dryRun, Edit: c.edit,
		Confirm: func(ctx context.Context, letter, source string) error {
			return c.confirm(ctx, f.yes, fmt.Sprintf("send %s to %s?", letter, source))
		},
		Tell: func(one operate.Repair) {
			switch one.State {
			case operate.RepairSent, operate.RepairPlanned:
				sent++
			case operate.RepairSentBefore:
				before++
				return
			case operate.RepairDeleted, operate.RepairUnknownSource, operate.RepairUneditable, operate.RepairUnchanged, operate.RepairMalformed:
				left++
			}
			fmt.Fprintf(c.stdout, "%s: %s\n", one.Letter, repairText(&one))
		},
	})
	if err != nil {
		return err
	}
	defer r.Close()
	done, total, end := c.progress("looking for malformed records")
	selected, err := r.Find(ctx, done, total)
	end()
	if err != nil {
		return err
	}
	if selected == 0 {
		fmt.Fprintln(c.stdout, "the flags select no malformed record")
		return nil
	}
	if err := r.Run(ctx); err != nil {
		return fmt.Errorf("%w (%d sent before)", err, sent)
	}
	again := ""
	if before > 0 {
		again = fmt.Sprintf(", %d sent before (--again sends them again)", before)
	}
	fmt.Fprintf(c.stdout, "%d repaired and sent, %d left as they are%s\n", sent, left, again)
	return nil
}

// repairText is what became of a malformed record, for a person.
func repairText(r *operate.Repair) string {
	switch r.State {
	case operate.RepairSent:
		return "sent as " + r.SentAs
	case operate.RepairPlanned:
		return "would be sent to " + r.Source
	case operate.RepairUnknownSource:
		return fmt.Sprintf("its origin %s is not a source topic of the configuration; left", orDash(terminal.Visible(r.Origin)))
	case operate.RepairUneditable:
		return fmt.Sprintf("still malformed (%s), and not text that can be edited; left", terminal.Visible(r.Problem))
	case operate.RepairMalformed:
		return fmt.Sprintf("still malformed (%s); left", terminal.Visible(r.Problem))
	case operate.RepairUnchanged:
		return "not changed; left"
	case operate.RepairDeleted, operate.RepairSentBefore:
	}
	return string(r.State)
}

// edit opens value in the editor, and returns what is left of it.
func (c *repairer) edit(ctx context.Context, value []byte, name, problem string) ([]byte, error) {
	file, err := os.CreateTemp("", "fanout-"+name+"-*.json")
	if err != nil {
		return nil, err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(value)
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	editor := cmp.Or(c.env.variable("EDITOR"), "vi")
	fmt.Fprintf(c.stderr, "%s: %s\n", name, terminal.Visible(problem))
	// As git and kubectl do it: the editor may be a command with arguments.
	cmd := exec.CommandContext(ctx, "sh", "-c", editor+` "$1"`, "fanout", file.Name()) //nolint:gosec // the operator's own editor
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.stdin, c.stderr, c.stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("editor %s: %w", editor, err)
	}
	return os.ReadFile(file.Name())
}
