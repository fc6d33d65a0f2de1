package main

import (
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"fanout/admin"
	"fanout/config"
	"fanout/dispatcher/resolve"
)

// app is what all commands share: where they read and write, and the flags that every command takes.
type app struct {
	env            []string
	stdin          io.Reader
	stdout, stderr io.Writer
	network        resolve.Config // how receivers are reached; the zero value is the system's

	file    string      // --config
	format  string      // -o
	admins  []string    // --admin
	keys    *admin.Keys // of admin.token, once they were asked for
	started bool        // the command line was understood
}

// command is the whole tree.
func (a *app) command(args []string) *cobra.Command {
	root := &cobra.Command{
		Use:   "fanout",
		Short: "Kafka events to webhooks, none lost",
		Long: `fanout reads raw channel events from Kafka and POSTs each one to the webhook
subscriptions that want it. What fails is retried from Kafka, and at last kept
as a dead letter.

Tables fit the terminal's width, or COLUMNS where that is set. Into a pipe or a
file they go whole. -o json is for programs.

Exit status: 0 done, 1 a problem (a bad configuration too), 2 a command line
that is not understood. A command that means more by it says so in its help.`,
		Example: `  fanout demo      # see it work, with nothing to install
  fanout check     # is everything in place?
  fanout run`,
		Version:           thisBuild().Version,
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: a.understand,
	}
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetVersionTemplate("fanout {{.Version}}\n")
	flags := root.PersistentFlags()
	flags.StringVar(&a.file, "config", "", "configuration `FILE` (default $FANOUT_CONFIG, else fanout.yaml if it is there)")
	flags.StringVarP(&a.format, "output", "o", "table", "`FORMAT`: table, or json for programs")
	root.SetGlobalNormalizationFunc(dashed)
	root.SetFlagErrorFunc(flagError)
	helpful(root)
	for _, part := range []struct {
		title    string
		commands []*cobra.Command
	}{
		{"Start:", []*cobra.Command{a.demoCommand(), a.runCommand(), a.checkCommand(), a.topicsCommand(), a.planCommand()}},
		{"Webhooks:", []*cobra.Command{a.subscriptionsCommand(), a.sendCommand(), a.verifyCommand()}},
		{"Look:", []*cobra.Command{a.topCommand(), a.tailCommand(), a.healthCommand(), a.findCommand(), a.explainCommand(), a.auditCommand(), a.diffCommand(), a.groupCommand(), a.schemaCommand()}},
		{"Repair:", []*cobra.Command{a.releaseCommand(), a.deadletterCommand(), a.resendCommand(), a.backfillCommand()}},
		{"More:", []*cobra.Command{a.tokenCommand(), a.completionCommand(), a.versionCommand()}},
	} {
		root.AddGroup(&cobra.Group{ID: part.title, Title: part.title})
		for _, cmd := range part.commands {
			cmd.GroupID = part.title
			root.AddCommand(cmd)
		}
	}
	eachCommand(root, func(cmd *cobra.Command) {
		if cmd.HasSubCommands() {
			group(cmd)
		}
	})
	a.completeValues(root)
	return root
}

// understand is the last step of reading a command line. What fails up to here ends with status 2.
func (a *app) understand(cmd *cobra.Command, _ []string) error {
	if err := choice("-o", a.format, "format", formats(cmd)); err != nil {
		return err
	}
	if err := cmd.ValidateRequiredFlags(); err != nil { // cobra does that too, but later
		return err
	}
	a.started = true
	return nil
}

// formats are what -o may say.
func formats(cmd *cobra.Command) []string {
	if _, lines := cmd.Annotations[streams]; lines {
		return []string{"table", "json", "ndjson"}
	}
	return []string{"table", "json"}
}

// streams marks a command whose results can be written one a line (ndjson).
const streams = "streams"

// dashed lets a key's flag be spelled like the key: --kafka.create_topics is --kafka-create-topics.
func dashed(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	return pflag.NormalizedName(dashes.Replace(name))
}

var dashes = strings.NewReplacer(".", "-", "_", "-")

// configured marks a command that reads the configuration: it takes a flag for each key. The help of `run` lists them.
func configured(cmd *cobra.Command) *cobra.Command {
	keys := pflag.NewFlagSet("", pflag.ContinueOnError)
	config.AddFlags(keys)
	keys.VisitAll(func(flag *pflag.Flag) { flag.Hidden = cmd.Name() != "run" })
	cmd.Flags().AddFlagSet(keys)
	return cmd
}

// isConfigured says whether configured marked the command.
func isConfigured(cmd *cobra.Command) bool { return cmd.Flags().Lookup("kafka-brokers") != nil }
