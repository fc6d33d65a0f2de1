package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"fanout/cmd/internal/terminal"
)

// helpWidth is how wide a help text is, in cells.
const helpWidth = 80

// group makes a command one that only holds others: alone it shows its help, and an argument is a mistyped subcommand.
func group(cmd *cobra.Command) {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return unknownCommand(cmd, args[0])
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
}

// unknownCommand names the subcommand that was probably meant.
func unknownCommand(parent *cobra.Command, name string) error {
	var known []string
	for _, sub := range parent.Commands() {
		if sub.IsAvailableCommand() || sub.Name() == "help" {
			known = append(append(known, sub.Name()), sub.Aliases...)
		}
	}
	return misusef("%s has no command %q%s", parent.CommandPath(), name, meant(name, known))
}

// flagError names the flag that was probably meant.
func flagError(cmd *cobra.Command, err error) error {
	unknown, ok := strings.CutPrefix(err.Error(), "unknown flag: --")
	if !ok {
		return misuse(err)
	}
	var known []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, "--"+f.Name) })
	return misusef("%s has no flag --%s%s", cmd.CommandPath(), unknown, meant("--"+unknown, known))
}

// helpful gives the tree its help command and the layout of its help.
func helpful(root *cobra.Command) {
	root.SetHelpCommand(&cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Show the help of a command",
		Args: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err != nil || cmd.HasSubCommands() && len(rest) > 0 {
				return unknownCommand(cmd, rest[0])
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, _, err := root.Find(args)
			if err != nil {
				return err
			}
			cmd.InitDefaultHelpFlag()
			return cmd.Help()
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) (names []cobra.Completion, _ cobra.ShellCompDirective) {
			cmd, _, err := root.Find(args)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			for _, sub := range cmd.Commands() {
				if sub.IsAvailableCommand() {
					names = append(names, cobra.CompletionWithDesc(sub.Name(), sub.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	})
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { writeHelp(cmd.OutOrStdout(), cmd) })
	root.SetUsageFunc(func(cmd *cobra.Command) error {
		writeHelp(cmd.OutOrStderr(), cmd)
		return nil
	})
}

// writeHelp is the whole help of a command.
func writeHelp(w io.Writer, cmd *cobra.Command) {
	fmt.Fprintf(w, "%s.\n", cmd.Short)
	if cmd.Long != "" {
		fmt.Fprintf(w, "\n%s\n", cmd.Long)
	}
	fmt.Fprintf(w, "\nUsage:\n  %s\n", usageLine(cmd))
	if len(cmd.Aliases) > 0 {
		fmt.Fprintf(w, "\nAlso called: %s\n", strings.Join(cmd.Aliases, ", "))
	}
	if cmd.Example != "" {
		fmt.Fprintf(w, "\nExamples:\n%s\n", strings.TrimRight(cmd.Example, "\n"))
	}
	writeCommands(w, cmd)
	if flags := cmd.LocalFlags(); flags.HasAvailableFlags() && cmd.HasParent() {
		fmt.Fprint(w, "\nFlags:\n")
		writeFlags(w, flags)
	}
	shared := cmd.InheritedFlags()
	if !cmd.HasParent() {
		shared = cmd.LocalFlags()
	}
	fmt.Fprint(w, "\nFlags of every command:\n")
	writeFlags(w, shared)
	switch {
	case cmd.HasAvailableSubCommands():
		fmt.Fprintf(w, "\n%s COMMAND --help says more about a command.\n", cmd.CommandPath())
	case isConfigured(cmd) && cmd.Name() != "run":
		fmt.Fprint(w, "\nEvery key of the configuration is a flag too; fanout run --help lists them.\n")
	}
}

// writeFlags lists flags with what they mean: beside their names or, where names are long, below.
func writeFlags(w io.Writer, flags *pflag.FlagSet) {
	const mostBeside = 30 // cells
	type flag struct{ name, usage string }
	var all []flag
	widest := 0
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		kind, usage := pflag.UnquoteUsage(f)
		name := "      --" + f.Name
		if f.Shorthand != "" {
			name = "  -" + f.Shorthand + ", --" + f.Name
		}
		name = strings.TrimRight(name+" "+kind, " ")
		if def := shownDefault(f); def != "" {
			usage += " (default " + def + ")"
		}
		all = append(all, flag{name, usage})
		widest = max(widest, terminal.Width(name))
	})
	for _, f := range all {
		if widest <= mostBeside {
			fmt.Fprint(w, strings.Join(hang(fmt.Sprintf("%-*s   ", widest, f.name), strings.Repeat(" ", widest+3), f.usage, helpWidth), "\n"), "\n")
		} else {
			fmt.Fprintf(w, "%s\n%s\n", f.name, strings.Join(hang("          ", "          ", f.usage, helpWidth), "\n"))
		}
	}
}

// shownDefault is a flag's default value, empty where it is nothing to speak of.
func shownDefault(f *pflag.Flag) string {
	if slices.Contains([]string{"", "0", "0s", "false", "[]"}, f.DefValue) || strings.Contains(f.Usage, "(default") {
		return ""
	}
	return strings.Trim(f.DefValue, "[]")
}

// usageLine is how a command is called.
func usageLine(cmd *cobra.Command) string {
	if cmd.HasAvailableSubCommands() {
		return cmd.CommandPath() + " COMMAND"
	}
	cmd.InheritedFlags() // cobra now counts the root's among its flags
	return cmd.UseLine()
}

// writeCommands lists a command's subcommands: by group, where it has groups.
func writeCommands(w io.Writer, cmd *cobra.Command) {
	list := func(title, id string) {
		fmt.Fprintf(w, "\n%s\n", title)
		for _, sub := range cmd.Commands() {
			if sub.GroupID == id && sub.IsAvailableCommand() {
				fmt.Fprintf(w, "  %-*s  %s\n", sub.NamePadding(), sub.Name(), sub.Short)
			}
		}
	}
	for _, g := range cmd.Groups() {
		list(g.Title, g.ID)
	}
	if len(cmd.Groups()) == 0 && cmd.HasAvailableSubCommands() {
		list("Commands:", "")
	}
}
