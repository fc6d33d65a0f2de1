package main

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"fanout/cmd/internal/terminal"
)

// Every help fits 80 columns, says in one line what the command does, and has an example that is understood.
func TestHelp(t *testing.T) {
	t.Parallel()
	root := (&app{stdout: io.Discard, stderr: io.Discard}).command(nil)
	eachCommand(root, func(cmd *cobra.Command) {
		name := cmd.CommandPath()
		var help bytes.Buffer
		cmd.InitDefaultHelpFlag()
		writeHelp(&help, cmd)
		for line := range strings.SplitSeq(help.String(), "\n") {
			if terminal.Width(line) > helpWidth {
				t.Errorf("%s --help has a line of %d cells: %s", name, terminal.Width(line), line)
			}
			if line != strings.TrimRight(line, " ") || strings.Contains(line, "\t") {
				t.Errorf("%s --help: %q ends with a space, or has a tab", name, line)
			}
		}
		if strings.HasSuffix(cmd.Short, ".") || strings.Contains(cmd.Short, "\n") || cmd.Short != strings.TrimSpace(cmd.Short) || cmd.Short == "" {
			t.Errorf("%s: %q is not one line without a full stop", name, cmd.Short)
		}
		if cmd.Long != strings.TrimSpace(cmd.Long) {
			t.Errorf("%s: its text begins or ends with space", name)
		}
		if cmd.Name() == "help" {
			return
		}
		lines := commandLines("```sh\n" + cmd.Example + "\n```\n")
		if len(lines) == 0 {
			t.Errorf("%s has no example", name)
		}
		shown := false
		for _, line := range lines {
			if err := understood(line.words, true); err != nil {
				t.Errorf("%s: example %s: %v", name, strings.Join(line.words, " "), err)
			}
			shown = shown || strings.HasPrefix("fanout "+strings.Join(line.words, " "), name)
		}
		if !shown {
			t.Errorf("%s: no example is of this command", name)
		}
	})
}

// An unknown subcommand, and an unknown flag, of every command end with status 2 on standard error.
func TestUnknownCommands(t *testing.T) {
	t.Parallel()
	root := (&app{stdout: io.Discard, stderr: io.Discard}).command(nil)
	groups := 0
	eachCommand(root, func(cmd *cobra.Command) {
		path := strings.Fields(cmd.CommandPath())[1:]
		wrong := append(path, "--nonsense") //nolint:gocritic // path is not used again but here
		want := cmd.CommandPath() + " has no flag --nonsense"
		if cmd.HasSubCommands() {
			groups++
			wrong, want = append(path, "nonsense"), cmd.CommandPath()+` has no command "nonsense"` //nolint:gocritic // see above
		}
		var stdout, stderr writer
		if code := run(t.Context(), wrong, nil, strings.NewReader(""), &stdout, &stderr); code != 2 || stdout.String() != "" || !strings.Contains(stderr.String(), want) {
			t.Errorf("fanout %s: exit %d\n%s%s", strings.Join(wrong, " "), code, stdout.String(), stderr.String())
		}
	})
	if groups < 4 {
		t.Errorf("only %d groups", groups)
	}
}
