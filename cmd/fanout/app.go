package main

import (
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"fanout/config"
	"fanout/dispatcher/resolve"
)

// app wires the commands, and obeys one command line.
type app struct {
	env            []string
	stdin          io.Reader
	stdout, stderr io.Writer
	network        resolve.Config // how receivers are reached; the zero value is the system's

	started bool // the command line was understood
}

// part is a part of the list of commands.
type part struct {
	title    string
	commands []*cobra.Command
}

// parts hands each command what it needs.
func (a *app) parts(out *output, set *settings) []part {
	in, instances := &input{output: out, stdin: a.stdin}, &fleet{output: out}
	explains := &explaining{out, instances}
	topics := topicsCommand((&topicsCreate{set, out}).command(), (&topicsApply{set, out, in}).command(), (&topicsDescribe{set, out}).command())
	webhooks := subscriptionsCommand(
		(&subscriptionsList{set, out, a.network}).command(), (&subscriptionsGet{set, out}).command(), (&subscriptionsApply{set, out, in}).command(),
		(&subscriptionsDelete{set, out}).command(), (&subscriptionsRotate{set, out}).command(), (&subscriptionsTest{set, out, a.network}).command(),
		(&subscriptionsAccept{set, out, in}).command(),
	)
	groups := groupCommand((&groupDescribe{set, out}).command(), (&groupLeave{set, out}).command())
	letters := deadletterCommand(
		(&deadletterStats{set, out}).command(), (&deadletterList{set, out}).command(), (&deadletterShow{set, out}).command(),
		(&deadletterExport{set, out}).command(), (&replayCommand{set, out, in, instances}).command(),
	)
	return []part{
		{"Start:", []*cobra.Command{
			(&demoCommand{set, out}).command(), (&runCommand{set, out, a.network}).command(), (&checkCommand{set, out, a.network}).command(),
			topics, (&planCommand{out}).command(),
		}},
		{"Webhooks:", []*cobra.Command{webhooks, (&sendCommand{set, out, in}).command(), (&verifyCommand{out, in}).command()}},
		{"Look:", []*cobra.Command{
			(&topCommand{set, out, in, instances}).command(), (&tailCommand{set, out, instances}).command(), (&healthCommand{set, out, instances}).command(),
			(&findCommand{set, out, explains}).command(), (&explainCommand{set, out, in, explains}).command(), (&auditCommand{set, out}).command(),
			(&diffCommand{set, out}).command(), groups, (&schemaCommand{set, out}).command(),
		}},
		{"Repair:", []*cobra.Command{
			(&releaseCommand{set, out}).command(), letters, (&resendCommand{set, out, in, instances}).command(),
			(&backfillCommand{set, out, in, instances}).command(),
		}},
		{"More:", []*cobra.Command{(&tokenCommand{out}).command(), (&completionCommand{out}).command(), (&versionCommand{out}).command()}},
	}
}

// command is the whole tree.
func (a *app) command(args []string) *cobra.Command {
	out := &output{stdout: a.stdout, stderr: a.stderr, columns: environment(a.env).variable("COLUMNS")}
	set := &settings{output: out, env: a.env}
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
		Version:       thisBuild().Version,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			err := understand(cmd, out.format)
			a.started = err == nil
			return err
		},
	}
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetVersionTemplate("fanout {{.Version}}\n")
	flags := root.PersistentFlags()
	flags.StringVar(&set.file, "config", "", "configuration `FILE` (default $FANOUT_CONFIG, else fanout.yaml if it is there)")
	flags.StringVarP(&out.format, "output", "o", "table", "`FORMAT`: table, or json for programs")
	root.SetGlobalNormalizationFunc(dashed)
	root.SetFlagErrorFunc(flagError)
	helpful(root)
	for _, part := range a.parts(out, set) {
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
	root.CompletionOptions.DisableDefaultCmd = true
	if completing(args) {
		(&completions{set}).completeValues(root)
	}
	return root
}

// understand is the last step of reading a command line. What fails up to here ends with status 2.
func understand(cmd *cobra.Command, format string) error {
	if err := choice("-o", format, "format", formats(cmd)); err != nil {
		return err
	}
	return cmd.ValidateRequiredFlags() // cobra does that too, but later
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
	return pflag.NormalizedName(strings.ReplaceAll(strings.ReplaceAll(name, ".", "-"), "_", "-"))
}

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
