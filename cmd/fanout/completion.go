package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"fanout/config"
	"fanout/dispatcher"
	"fanout/operate"
	"fanout/subscriptions"
)

// completionCommand prints shells' completion scripts.
type completionCommand struct {
	*output
}

func (c *completionCommand) command() *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion " + strings.Join(shells, "|"),
		Short: "Print a script that completes fanout in a shell",
		Long: `completion prints the script that completes commands, flags and values in a
shell: also accounts and subscriptions, from Redis, and topics, from the
configuration. Where these cannot be read within a second, it completes nothing
and stays silent.`,
		Example: `  source <(fanout completion bash)                      # this bash; for good:
  fanout completion bash > /etc/bash_completion.d/fanout
  fanout completion zsh > "${fpath[1]}/_fanout"
  fanout completion fish > ~/.config/fish/completions/fanout.fish`,
		ValidArgs: shells,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return misusef("name the shell: %s", strings.Join(shells, ", "))
			}
			return choice("completion", args[0], "shell", shells)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(c.stdout, true)
			case "zsh":
				return root.GenZshCompletion(c.stdout)
			case "fish":
				return root.GenFishCompletion(c.stdout, true)
			}
			return root.GenPowerShellCompletionWithDesc(c.stdout)
		},
	}
}

// completionPatience is how long a shell waits for values.
const completionPatience = time.Second

// mostCompletions bounds how many values a shell is told.
const mostCompletions = 200

// completer says which values may stand where the cursor is. args are the arguments before it.
type completer func(cmd *cobra.Command, args []string, typed string) []string

// completing says whether a shell asks what may stand in a command line. Nothing else needs the completers: to find each flag's takes
// as long as to make the tree, and cobra keeps what it is told, the flags with it, until the program ends.
func completing(args []string) bool {
	return len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd)
}

// completions knows the values that may stand in a command line.
type completions struct{ *settings }

// completeValues completes the values of flags and arguments, in the whole tree.
func (c *completions) completeValues(root *cobra.Command) {
	flags := map[string]completer{
		"account":      c.completeAccounts,
		"subscription": c.completeSubscriptionFlag,
		"event":        func(cmd *cobra.Command, _ []string, _ string) []string { return c.catalogue(cmd).Texts() },
		"channel":      func(cmd *cobra.Command, _ []string, _ string) []string { return c.catalogue(cmd).Channels() },
		"reason":       oneOfThese(dispatcher.ReasonNames()),
		"outcome":      oneOfThese(dispatcher.ResultNames()),
		"by":           oneOfThese(byKeys()),
		"sort":         oneOfThese(operate.TopOrders()),
		"topic":        c.completeTopics,
	}
	flags["kafka-start"] = oneOfThese([]string{"earliest", "latest"})
	for key, values := range config.Choices() {
		flags[string(dashed(nil, key))] = oneOfThese(values)
	}
	eachCommand(root, func(cmd *cobra.Command) {
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			complete, ok := flags[f.Name]
			switch {
			case f.Name == "output":
				complete, ok = completeFormats, true
			case f.Name == "reason" && cmd.HasParent() && cmd.Parent().Name() == "deadletter":
				complete = oneOfThese(dispatcher.DeadReasons())
			}
			if ok {
				_ = cmd.RegisterFlagCompletionFunc(f.Name, complete.shell(strings.HasSuffix(f.Value.Type(), "Slice"))) // registered once
			}
		})
		if argument := c.argument(cmd); argument != nil {
			cmd.ValidArgsFunction = argument.shell(false)
		}
	})
}

// eachCommand visits a tree of commands.
func eachCommand(cmd *cobra.Command, f func(*cobra.Command)) {
	f(cmd)
	for _, sub := range cmd.Commands() {
		eachCommand(sub, f)
	}
}

// argument completes a command's arguments, as its usage names them; nil where they are files, or where there are none.
func (c *completions) argument(cmd *cobra.Command) completer {
	switch _, argument, _ := strings.Cut(cmd.Use, " "); {
	case cmd.Name() == "help", cmd.Name() == "completion":
		return nil // they complete themselves
	case argument == "ACCOUNT ID", argument == "ACCOUNT SUBSCRIPTION":
		return c.completeSubscriptions
	case strings.HasPrefix(strings.TrimPrefix(argument, "["), "TOPIC"), strings.Contains(argument, " TOPIC["):
		return func(cmd *cobra.Command, args []string, typed string) []string {
			if len(args) > 0 {
				return nil
			}
			return c.completeTopics(cmd, args, typed)
		}
	case argument == "":
		return func(*cobra.Command, []string, string) []string { return nil } // no files
	}
	return nil
}

// shell is the completer as cobra wants it. Of a list, the last element is completed.
func (c completer) shell(list bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		before := ""
		if at := strings.LastIndexByte(typed, ','); list && at >= 0 {
			before, typed = typed[:at+1], typed[at+1:]
		}
		directive := cobra.ShellCompDirectiveNoFileComp
		var found []cobra.Completion
		for _, value := range c(cmd, args, typed) {
			if strings.HasPrefix(value, typed) && len(found) < mostCompletions {
				found = append(found, before+value)
			}
			if strings.HasSuffix(value, "/") {
				directive |= cobra.ShellCompDirectiveNoSpace
			}
		}
		return found, directive
	}
}

// oneOfThese completes from a list.
func oneOfThese(values []string) completer {
	return func(*cobra.Command, []string, string) []string { return values }
}

func completeFormats(cmd *cobra.Command, _ []string, _ string) []string { return formats(cmd) }

// completeTopics are the source topics; where a partition follows, with a slash.
func (c *completions) completeTopics(cmd *cobra.Command, _ []string, _ string) []string {
	cfg, ok := c.loadQuietly(cmd)
	if !ok {
		return nil
	}
	names := slices.Sorted(slices.Values(sourceNames(&cfg)))
	if strings.HasPrefix(cmd.Use, "explain ") && !cmd.Flags().Changed("event") {
		for i := range names {
			names[i] += "/"
		}
	}
	return names
}

func (c *completions) completeAccounts(cmd *cobra.Command, _ []string, typed string) []string {
	return c.askStore(cmd, func(ctx context.Context, store *subscriptions.Store) []string {
		found, _ := store.AccountNames(ctx, typed, mostCompletions) // what was found in time
		return found
	})
}

// completeSubscriptionFlag completes --subscription, of the account that --account names.
func (c *completions) completeSubscriptionFlag(cmd *cobra.Command, _ []string, _ string) []string {
	account, err := cmd.Flags().GetString("account")
	if err != nil || account == "" {
		return nil
	}
	return c.subscriptionIDs(cmd, account)
}

// completeSubscriptions completes ACCOUNT ID.
func (c *completions) completeSubscriptions(cmd *cobra.Command, args []string, typed string) []string {
	switch len(args) {
	case 0:
		return c.completeAccounts(cmd, args, typed)
	case 1:
		return c.subscriptionIDs(cmd, args[0])
	}
	return nil
}

func (c *completions) subscriptionIDs(cmd *cobra.Command, account string) []string {
	return c.askStore(cmd, func(ctx context.Context, store *subscriptions.Store) (ids []string) {
		list, _ := store.List(ctx, account)
		for _, one := range list {
			ids = append(ids, one.ID)
		}
		return ids
	})
}

// askStore asks Redis something, for a second at most and without a word where that fails.
func (c *completions) askStore(cmd *cobra.Command, ask func(context.Context, *subscriptions.Store) []string) []string {
	cfg, ok := c.loadQuietly(cmd)
	if !ok {
		return nil
	}
	store, err := subscriptions.NewStore(cfg.Redis)
	if err != nil {
		return nil
	}
	defer store.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), completionPatience)
	defer cancel()
	answer := make(chan []string, 1)
	go func() { answer <- ask(ctx, store) }() // a connection may take longer to give up than ctx says
	select {
	case found := <-answer:
		return found
	case <-ctx.Done():
		return nil
	}
}
