package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"fanout/config"
)

// app is what all commands share: where they read and write, and the flags that every command takes.
type app struct {
	env            []string
	stdin          io.Reader
	stdout, stderr io.Writer

	file    string   // --config
	format  string   // -o
	admins  []string // --admin
	started bool     // the command line was understood
}

// command is the whole tree.
func (a *app) command(args []string) *cobra.Command {
	root := &cobra.Command{
		Use:   "fanout",
		Short: "Kafka events to webhooks, none lost",
		Long: "fanout reads raw channel events from Kafka and POSTs each to the webhook subscriptions that want it.\n" +
			"What fails is retried from Kafka, then kept as a dead letter.\n\n" +
			"Exit status: 0 done, 1 a problem or a bad configuration, 2 a command line that is not understood.",
		Example:       "  fanout demo              # see it work, nothing to install\n  fanout check             # is everything in place?\n  fanout run",
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			_, lines := cmd.Annotations[streams]
			switch {
			case a.format == "table", a.format == "json", a.format == "ndjson" && lines:
			case lines:
				return fmt.Errorf("-o %s: want table, json or ndjson", a.format)
			default:
				return fmt.Errorf("-o %s: want table or json", a.format)
			}
			if err := cmd.ValidateRequiredFlags(); err != nil { // cobra does that too, later
				return err
			}
			a.started = true
			return nil
		},
	}
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	flags := root.PersistentFlags()
	flags.StringVar(&a.file, "config", "", "configuration file (default fanout.yaml, if it is there)")
	flags.StringVarP(&a.format, "output", "o", "table", "table, or json for programs")
	root.SetGlobalNormalizationFunc(dashed)
	root.AddCommand(
		a.runCommand(), a.demoCommand(), a.checkCommand(), a.topicsCommand(), a.subscriptionsCommand(),
		a.sendCommand(), a.verifyCommand(), a.deadletterCommand(), a.explainCommand(), a.auditCommand(), a.diffCommand(), a.tailCommand(), a.topCommand(),
		a.planCommand(), a.healthCommand(), a.versionCommand(),
	)
	return root
}

// dashed lets a key's flag be spelled like the key: --kafka.create_topics is --kafka-create-topics.
func dashed(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	return pflag.NormalizedName(strings.NewReplacer(".", "-", "_", "-").Replace(name))
}

// configured marks a command that reads the configuration: it takes a flag for each key. They are listed in the help
// of `run`.
func configured(cmd *cobra.Command) *cobra.Command {
	keys := pflag.NewFlagSet("", pflag.ContinueOnError)
	config.AddFlags(keys)
	keys.VisitAll(func(flag *pflag.Flag) { flag.Hidden = cmd.Name() != "run" })
	cmd.Flags().AddFlagSet(keys)
	if cmd.Name() != "run" {
		cmd.Long = strings.TrimSpace(cmd.Long + "\n\nIt takes a flag for every key of the configuration too: see fanout run --help.")
	}
	return cmd
}

// load reads the configuration for cmd, and warns of what is odd.
func (a *app) load(cmd *cobra.Command) (config.Config, error) {
	file, explicit := a.file, a.file != ""
	for _, pair := range a.env {
		if name, value, _ := strings.Cut(pair, "="); !explicit && name == config.FileVariable && value != "" {
			file, explicit = value, true
		}
	}
	if !explicit {
		file = "fanout.yaml"
	}
	cfg, warnings, err := config.Load(file, explicit, a.env, cmd.Flags())
	for _, warning := range warnings {
		fmt.Fprintf(a.stderr, "warning: %s\n", warning)
	}
	return cfg, err
}
