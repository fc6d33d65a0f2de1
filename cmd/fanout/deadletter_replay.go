package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"fanout/cmd/internal/terminal"
	"fanout/config"
	"fanout/dispatcher"
	"fanout/event"
	"fanout/operate"
	"fanout/subscriptions"
	"fanout/topic"
)

// replayFlags are those of `deadletter replay` beside the selection.
type replayFlags struct {
	selection selection
	sendingFlags
	edit     bool
	fromFile string
}

// replayCommand sends dead letters again.
type replayCommand struct {
	*settings
	*output
	*input
	*fleet
}

func (c *replayCommand) command() *cobra.Command {
	f := &replayFlags{}
	cmd := &cobra.Command{
		Use:   "replay",
		Short: "Send dead letters again, each to its own subscription",
		Long: `replay sends the selected dead letters through fanout.replay, each to its own
subscription and with its original webhook-id. It sends nothing that dies after
it began, so what fails again is not picked up again.

With --name it can be interrupted and run again: it goes on where it ended. What
an earlier replay sent is skipped, unless --again is given: that sends the
newest dead letter of each delivery, and nothing that is on its way. It stops
by itself when more than --max-failures of what it sent have failed again.
It says which receivers are parked on any instance, paused, off or gone.
Malformed records are skipped; --edit opens each in $EDITOR, and sends what was
repaired to its source topic, each once.

Exit status: 0 everything is sent, 1 a problem or it stopped by itself, 2 a
command line that is not understood, or nobody to ask and no --yes.`,
		Example: `  fanout deadletter replay --account acme --reason expired --dry-run
  fanout deadletter replay --account acme --rate 100 --name acme-1123 --yes`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.replay(cmd, f)
		},
	}
	f.selection.flags(cmd.Flags())
	flags := cmd.Flags()
	f.flags(flags, "replay", "an earlier replay or --edit sent, or what was delivered since")
	flags.BoolVar(&f.edit, "edit", false, "repair malformed records in $EDITOR and send them to their source topic")
	flags.StringVar(&f.fromFile, "from-file", "", "replay what this `FILE` of deadletter export lists; - is standard input")
	c.adminFlag(cmd)
	return configured(cmd)
}

func (f *replayFlags) check(c *event.Catalogue, now time.Time) (operate.ReplayConfig, error) {
	filter, err := f.selection.filter(c, now)
	if err != nil {
		return operate.ReplayConfig{}, err
	}
	if f.fromFile != "" && len(f.selection.ids) > 0 {
		return operate.ReplayConfig{}, misusef("--id and --from-file both name dead letters: give one of them")
	}
	if f.name == "" {
		f.name = "replay-" + now.UTC().Format("20060102-150405")
	}
	if problems := f.problems(); len(problems) > 0 {
		return operate.ReplayConfig{}, misuse(errors.New(strings.Join(problems, "\n  ")))
	}
	if f.edit {
		for _, s := range []string{filter.Account, filter.Subscription, filter.Event, strings.Join(filter.Reasons, ",")} {
			if s != "" && s != dispatcher.MalformedEvent.String() || len(filter.Statuses) > 0 {
				return operate.ReplayConfig{}, misusef("--edit is for malformed records: they have no account, subscription, event, status or other reason to select by")
			}
		}
	}
	return operate.ReplayConfig{Name: f.name, Filter: filter, Again: f.again, Rate: f.rate, MaxFailures: f.maxFailures}, nil
}

func (c *replayCommand) replay(cmd *cobra.Command, f *replayFlags) error {
	rc, err := f.check(c.catalogue(cmd), time.Now())
	if err != nil {
		return err
	}
	if f.edit && c.asJSON() {
		return misusef("--edit asks a person: it cannot be used with -o json")
	}
	if f.fromFile != "" {
		if err := c.exported(f.fromFile, &rc.Filter); err != nil {
			return err
		}
	}
	return c.withKafka(cmd, func(ctx context.Context, cfg *config.Config, admin *topic.Cluster) error {
		if f.edit {
			return (&repairer{c.settings, c.output, c.input}).repair(ctx, admin, &rc.Filter, f)
		}
		return c.replayLetters(ctx, cfg, admin, &rc, f)
	})
}

func (c *replayCommand) replayLetters(ctx context.Context, cfg *config.Config, admin *topic.Cluster, rc *operate.ReplayConfig, f *replayFlags) error {
	configured, err := configuredLookup(ctx, cfg)
	if err != nil {
		fmt.Fprintf(c.stderr, "warning: it is unknown whether the subscriptions still exist: %v\n", err)
	} else {
		rc.Gone = func(account, subscription string) bool {
			return configured(account, subscription) == operate.ReceiverGone
		}
	}
	if _, err := admin.Create(ctx, missingReplayTopic(cfg)); err != nil {
		return err
	}
	replay := operate.NewReplay(admin, *rc)
	done, total, end := c.progress("planning the replay")
	plan, err := replay.Plan(ctx, done, total)
	end()
	if err != nil {
		return err
	}
	c.lookAtReceivers(ctx, cfg, plan, configured)
	if f.dryRun {
		if c.asJSON() {
			return c.json(plan)
		}
		return c.showPlan(plan, "would send %s")
	}
	if !c.asJSON() {
		if err := c.showPlan(plan, "sends %s"); err != nil {
			return err
		}
	}
	if plan.Send == 0 {
		if c.asJSON() {
			return c.json(sentResult{Name: f.name, Plan: plan})
		}
		return nil
	}
	if err := c.confirm(ctx, f.yes, fmt.Sprintf("send %s as %s?", count(plan.Send, "dead letter"), f.name)); err != nil {
		return err
	}
	return c.sendReplay(ctx, replay, plan, f)
}

func (c *replayCommand) sendReplay(ctx context.Context, replay *operate.Replay, plan *operate.ReplayPlan, f *replayFlags) error {
	begun := time.Now()
	err := c.watchSending(replay, plan.Send, func() error { return replay.Run(ctx, plan) })
	if c.asJSON() {
		return c.jsonSent(replay, f.name, plan, err)
	}
	took := replay.Sending()
	fmt.Fprintf(c.stdout, "sent %d of %d in %s (%.0f a second), %d seen to fail again\n",
		replay.Sent(), plan.Send, took.Round(10*time.Millisecond), float64(replay.Sent())/max(took.Seconds(), 1e-3), replay.Failures())
	if n := replay.Taken(); n > 0 {
		fmt.Fprintf(c.stdout, "%8d not sent: another replay sent them meanwhile\n", n)
	}
	if err != nil {
		return howToGoOn(err, replay, plan.Send, f.name)
	}
	fmt.Fprintf(c.stdout, "they are delivered as fast as their receivers take them; `fanout deadletter list --since %s` shows what dies again\n", begun.UTC().Format(time.RFC3339))
	return nil
}

func (c *replayCommand) showPlan(p *operate.ReplayPlan, does string) error {
	fmt.Fprintf(c.stdout, "replay %s "+does+"\n", p.Name, count(p.Send, "dead letter"))
	if len(p.Groups) > 0 {
		shown := p.Groups[:min(len(p.Groups), 50)]
		if err := c.table(groupTable(shown, operate.By{Subscription: true, Reason: true})); err != nil {
			return err
		}
		if more := len(p.Groups) - len(shown); more > 0 {
			fmt.Fprintf(c.stdout, "and %s more: -o json shows all\n", count(more, "group"))
		}
	}
	c.showReceivers(p.Receivers)
	for _, n := range []struct {
		n    int
		text string
	}{
		{p.Gone, "of these go to a subscription that no longer exists: they will be discarded (deleted)"},
		{p.Uncertain, "of these may have been delivered: a retry topic's offsets were lost (--reason expired selects them)"},
		{p.Sent, "not sent: this replay sent them before"},
		{p.Replayed, "not sent: an earlier replay sent them (--again sends them)"},
		{p.Delivered, "not sent: delivered since, says the attempts topic (--again sends them)"},
		{p.Waiting, "not sent: the delivery waits in a retry topic or the replay topic"},
		{p.Older, "not sent: the delivery has a newer dead letter, which is sent"},
		{p.Own, "not sent: this replay sent them, and they failed again"},
		{p.Later, "not sent: they died after this replay began"},
		{p.Malformed, "not sent: malformed records (--edit repairs them)"},
		{p.Unusable, "not sent: their headers do not describe a delivery"},
		{p.NotFound, "named by --id or the file, and not found among the dead letters that the flags select"},
	} {
		if n.n > 0 {
			fmt.Fprintf(c.stdout, "%8d %s\n", n.n, n.text)
		}
	}
	return nil
}

// missingReplayTopic is what to create before the first replay, where no instance has yet.
func missingReplayTopic(cfg *config.Config) []topic.Spec {
	if !cfg.Kafka.CreateTopics {
		return nil
	}
	c := cfg.Consumer()
	for _, spec := range c.Owned() {
		if strings.HasSuffix(spec.Name, ".replay") {
			return []topic.Spec{spec}
		}
	}
	return nil
}

// configuredLookup asks Redis which state subscriptions have by their configuration, once for each. What cannot be read counts as well.
func configuredLookup(ctx context.Context, cfg *config.Config) (func(account, subscription string) string, error) {
	store, err := subscriptions.NewStore(cfg.Redis)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = store.Close() })
	if err := store.Ping(ctx); err != nil {
		return nil, err
	}
	var mu sync.Mutex // guards known
	known := make(map[[2]string]string)
	return func(account, subscription string) string {
		mu.Lock()
		defer mu.Unlock()
		key := [2]string{account, subscription}
		if state, ok := known[key]; ok {
			return state
		}
		text, there, err := store.Get(ctx, account, subscription)
		stored := struct {
			Enabled bool `json:"enabled"`
			Paused  bool `json:"paused"`
		}{Enabled: true}
		switch {
		case err != nil:
		case !there:
			known[key] = operate.ReceiverGone
		case json.Unmarshal(text, &stored) != nil: // it is invalid, and its last good version may be in force
		case !stored.Enabled:
			known[key] = operate.ReceiverOff
		case stored.Paused:
			known[key] = operate.ReceiverPaused
		}
		known[key] += ""
		return known[key]
	}, nil
}

// showReceivers shows those that do not get at once what is sent to them.
func (c *replayCommand) showReceivers(all []operate.Receiver) {
	const most = 20
	for i := range all[:min(len(all), most)] {
		r := &all[i]
		text := r.State
		if r.Until != nil {
			text += " until " + r.Until.Local().Format("15:04:05")
		}
		if r.Why != "" {
			text += " (" + r.Why + ")"
		}
		becomes := "they wait until it is not, for max_age at most"
		if !r.Waits() {
			becomes = "they will be discarded"
		}
		fmt.Fprintf(c.stdout, "%8d of these go to %s/%s, which is %s: %s\n", r.Send, terminal.Visible(r.Account), terminal.Visible(r.Subscription), terminal.Visible(text), becomes)
	}
	if more := len(all) - most; more > 0 {
		fmt.Fprintf(c.stdout, "and %s more that do not get it at once: -o json shows all\n", count(more, "receiver"))
	}
}

// exported lets the filter select what a file of `deadletter export`, or of list -o ndjson, names.
func (c *replayCommand) exported(name string, filter *topic.Filter) error {
	in := c.stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		defer file.Close()
		in = file
	}
	decoder := json.NewDecoder(in)
	filter.Identities = make(map[string]string)
	for n := 1; ; n++ {
		var d struct {
			topic.DeadLetter
			Partition *int   `json:"partition"`
			Offset    *int64 `json:"offset"`
		}
		err := decoder.Decode(&d)
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && (d.Partition == nil || d.Offset == nil || d.Origin == "") {
			err = errors.New("it is not a dead letter")
		}
		if err != nil {
			return fmt.Errorf("%s: object %d: %w", name, n, err)
		}
		d.DeadLetter.Partition, d.DeadLetter.Offset = *d.Partition, *d.Offset
		filter.IDs = append(filter.IDs, d.Position())
		filter.Identities[d.Position()] = d.Identity()
	}
	if len(filter.IDs) == 0 {
		return fmt.Errorf("%s holds no dead letter", name)
	}
	return nil
}
