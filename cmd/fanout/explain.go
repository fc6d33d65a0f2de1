package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"fanout/cmd/internal/terminal"
	"fanout/config"
	"fanout/dispatcher"
	"fanout/operate"
	"fanout/subscriptions"
	"fanout/topic"
)

// explainCommand says what fanout makes of an event, and why.
type explainCommand struct {
	*settings
	*output
	*input
	*explaining
}

func (c *explainCommand) command() *cobra.Command {
	var eventFile, source string
	var reveal bool
	var s selectors
	cmd := &cobra.Command{
		Use:   "explain [TOPIC/PARTITION/OFFSET]",
		Short: "Say who gets a record, who does not and why",
		Long: `explain decodes a record of a source topic. For each subscription of its account
it shows whether the event matches or why not, the exact request as a curl
command, and where the delivery is now. Given a retry record or a dead letter,
it explains the record that this came from. It sends nothing. Instead of a
record's place it takes what find takes, and explains what that leads to.

  ✓ matches    ! matches, and would become a dead letter    ✗ does not match

The subscriptions are those of now: one that was changed since the record was
read may have matched otherwise.`,
		Example: `  fanout explain channel.email/3/1287
  fanout explain --account acme --tracking-id abc123
  fanout explain --event event.json --topic channel.email`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			selecting := s.q.Account+s.q.ID != ""
			ways := 0
			for _, given := range []bool{len(args) == 1, eventFile != "", selecting} {
				if given {
					ways++
				}
			}
			if ways != 1 {
				return misusef("give one of TOPIC/PARTITION/OFFSET, --event FILE, and what selects an event (--account with --tracking-id, say)")
			}
			var q *operate.FindQuery
			if selecting {
				var err error
				if q, err = s.query(time.Now()); err != nil {
					return err
				}
			}
			if source != "" && eventFile == "" {
				return misusef("--topic goes with --event: a record names its topic")
			}
			return c.withKafka(cmd, func(ctx context.Context, cfg *config.Config, admin *topic.Cluster) error {
				e, err := c.explainer(cfg, admin, reveal)
				if err != nil {
					return err
				}
				defer e.Close()
				var shown []*operate.Explained
				if q != nil {
					shown, err = c.explainFound(ctx, e, q)
				} else {
					shown, err = c.explainOne(ctx, cfg, e, args, eventFile, source)
				}
				if err != nil {
					return err
				}
				switch {
				case c.asJSON() && q != nil:
					return c.json(shown)
				case c.asJSON():
					return c.json(shown[0])
				}
				showExplained(c.stdout, shown...)
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&eventFile, "event", "", "explain the raw event in this `FILE` as if it were read now; - is standard input")
	cmd.Flags().StringVar(&source, "topic", "", "with --event: the source topic whose mapping decodes it (default the first)")
	s.flags(cmd.Flags())
	c.adminFlag(cmd)
	cmd.Flags().BoolVar(&reveal, "reveal", false, "show the values of the subscriptions' own headers, which may be secrets")
	return configured(cmd)
}

// explaining makes what explains records, for explain and find.
type explaining struct {
	*output
	*fleet
}

// explainer is an Explainer with what the command line gives it. Close it.
func (e *explaining) explainer(cfg *config.Config, admin *topic.Cluster, reveal bool) (*operate.Explainer, error) {
	redis := cfg.Redis
	redis.SnapshotFile = "off"
	directory, err := subscriptions.New(redis, nil, prometheus.NewRegistry())
	if err != nil {
		return nil, err
	}
	renderer, err := dispatcher.NewRenderer(cfg.Egress, cfg.Dispatcher(userAgent()).UserAgent)
	if err != nil {
		return nil, err
	}
	lanes := &askedLanes{fleet: e.fleet, cfg: cfg}
	return operate.NewExplainer(admin, operate.ExplainConfig{
		Directory: directory, Renderer: renderer, Reveal: reveal, Lane: lanes.of, Clock: clock, Progress: e.progress,
		Load: func(ctx context.Context, account string) error {
			if err := directory.Refresh(ctx, account); err != nil {
				return hint(fmt.Errorf("subscriptions of %s: %w", account, err), "explain asks Redis who wants the event: redis.url says where it is")
			}
			return nil
		},
	})
}

// explainOne explains the event in a file, where one is named, or else a record.
func (c *explainCommand) explainOne(ctx context.Context, cfg *config.Config, e *operate.Explainer, args []string, file, source string) ([]*operate.Explained, error) {
	var out *operate.Explained
	var err error
	if file != "" {
		out, err = c.explainFile(ctx, cfg, e, file, source)
	} else {
		out, err = c.explainRecord(ctx, cfg, e, args[0])
	}
	return []*operate.Explained{out}, err
}

// explainRecord explains the record that is named, or the one that it comes from.
func (c *explainCommand) explainRecord(ctx context.Context, cfg *config.Config, e *operate.Explainer, place string) (*operate.Explained, error) {
	at, err := topic.ParseOrigin(place)
	if err != nil {
		return nil, misusef("%s is not a TOPIC/PARTITION/OFFSET, such as channel.email/3/1287", place)
	}
	out, err := e.Record(ctx, at)
	if not, ok := errors.AsType[*operate.NotASourceError](err); ok && not.Origin != "" {
		return nil, fmt.Errorf("%w, nor is %s, which the record says it comes from", notASource(cfg, not.Topic), terminal.Visible(not.Origin))
	} else if ok {
		return nil, notASource(cfg, not.Topic)
	}
	if err == nil && out.Record != at.String() {
		fmt.Fprintf(c.stderr, "%s comes from %s, which is explained here\n", at, terminal.Visible(out.Record))
	}
	return out, err
}

// explainFile explains the raw event in a file, as one of the source topic, or of the first where none is named.
func (c *explainCommand) explainFile(ctx context.Context, cfg *config.Config, e *operate.Explainer, name, source string) (*operate.Explained, error) {
	in := c.stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		in = file
	}
	value, err := io.ReadAll(io.LimitReader(in, int64(cfg.MaxEventBytes)+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	out, err := e.Event(ctx, cmp.Or(source, sourceNames(cfg)[0]), value)
	if _, not := errors.AsType[*operate.NotASourceError](err); not {
		return nil, misuse(notASource(cfg, source))
	}
	return out, err
}

// explainFound explains the records that the selectors lead to.
func (c *explainCommand) explainFound(ctx context.Context, e *operate.Explainer, q *operate.FindQuery) ([]*operate.Explained, error) {
	all, more, err := e.Find(ctx, q)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("nothing that the flags select was found since %s", clock(q.Since))
	}
	c.sayMore(more)
	return all, nil
}

// sayMore says that records were left out.
func (e *explaining) sayMore(records int) {
	if records > 0 {
		fmt.Fprintf(e.stderr, "%s more that the flags select; give more of them, or another --since, to see those\n", count(records, "record"))
	}
}

// askedLanes asks the instances for their lanes, once: one that does not answer would cost its time for each subscription.
type askedLanes struct {
	fleet     *fleet
	cfg       *config.Config
	instances []operate.InstanceLanes
}

// of says how the subscription's lane is, on each instance.
func (l *askedLanes) of(ctx context.Context, sub *subscriptions.Subscription) string {
	if l.instances == nil {
		l.instances = l.fleet.lanes(ctx, l.cfg)
	}
	now := time.Now()
	parts := make([]string, len(l.instances))
	for i := range l.instances {
		parts[i] = l.instances[i].Instance + ": " + laneOn(&l.instances[i], sub, now)
	}
	return strings.Join(parts, "; ")
}

// laneOn says how the subscription's lane is on the instance.
func laneOn(i *operate.InstanceLanes, sub *subscriptions.Subscription, now time.Time) string {
	for n := range i.Lanes {
		if l := &i.Lanes[n]; l.Account == sub.Account() && l.Subscription == sub.ID() {
			return laneWords(l, now)
		}
	}
	switch {
	case i.Err != nil:
		return "unknown: " + strings.TrimPrefix(i.Err.Error(), i.Instance+": ")
	case sub.Paused():
		return "paused"
	}
	return "idle"
}
