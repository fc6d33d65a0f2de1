package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"fanout/cmd/internal/terminal"
	"fanout/config"
	"fanout/dispatcher"
	"fanout/operate"
	"fanout/subscriptions"
	"fanout/topic"
)

// deadletterShow shows all that is known of a dead letter.
type deadletterShow struct {
	*settings
	*output
}

func (c *deadletterShow) command() *cobra.Command {
	return configured(&cobra.Command{
		Use:   "show PARTITION/OFFSET|WEBHOOK-ID",
		Short: "Show one dead letter: body, attempts, a curl command",
		Long: `show prints all that is known of a dead letter: why it died, its body, its
attempts with their answers (where attempts.topic is on), and the curl command
that would send it again by hand.`,
		Example: `  fanout deadletter show 3/1287
  fanout deadletter show msg_2mbk7qbnrzvv2pfh3esgfzy4ea`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withKafka(cmd, func(ctx context.Context, cfg *config.Config, admin *topic.Cluster) error {
				return c.show(ctx, cfg, admin, args[0])
			})
		},
	})
}

// shownLetter is all that is known of a dead letter.
type shownLetter struct {
	*topic.DeadLetter
	Body  string         `json:"body"` // the value, as text
	Trace *operate.Trace `json:"trace,omitempty"`
	Curl  string         `json:"curl,omitempty"`
	Why   string         `json:"whyNoCurl,omitempty"`
}

func (c *deadletterShow) show(ctx context.Context, cfg *config.Config, admin *topic.Cluster, which string) error {
	letters, err := c.find(ctx, admin, which)
	if err != nil {
		return err
	}
	if len(letters) == 0 {
		return hint(fmt.Errorf("there is no dead letter %s", which), "`fanout deadletter list` shows what there is; it may have passed its retention")
	}
	shown := make([]shownLetter, 0, len(letters))
	for _, d := range letters {
		s := shownLetter{DeadLetter: d, Body: string(d.Value)}
		if !d.Malformed() {
			s.Trace = new(operate.Trace)
			since := d.DeadAt.Add(-cfg.Delivery.MaxAge)
			if d.FirstSeen != nil {
				since = d.FirstSeen.Add(-time.Minute)
			}
			if _, err := operate.FindTraces(ctx, admin, operate.TraceConfig{Since: since, Attempts: true, Want: func(id string) *operate.Trace {
				if id == d.ID {
					return s.Trace
				}
				return nil
			}}); err != nil {
				return err
			}
			s.Curl, s.Why = letterCurl(ctx, cfg, d)
		}
		shown = append(shown, s)
	}
	if c.asJSON() {
		return c.json(shown)
	}
	for i, s := range shown {
		if i > 0 {
			fmt.Fprintln(c.stdout)
		}
		showLetter(c.stdout, &s)
	}
	return nil
}

// letterCurl is the command that sends a dead letter again, or why there is none: the rest is shown without Redis too.
func letterCurl(ctx context.Context, cfg *config.Config, d *topic.DeadLetter) (curl, why string) {
	store, err := subscriptions.NewStore(cfg.Redis)
	if err != nil {
		return "", err.Error()
	}
	defer store.Close()
	renderer, err := dispatcher.NewRenderer(cfg.Egress, cfg.Dispatcher(userAgent()).UserAgent)
	if err != nil {
		return "", err.Error()
	}
	return operate.LetterCurl(ctx, store, renderer, d)
}

func (c *deadletterShow) find(ctx context.Context, admin *topic.Cluster, which string) ([]*topic.DeadLetter, error) {
	filter := topic.Filter{IDs: []string{which}}
	if p, o, ok := strings.Cut(which, "/"); ok {
		partition, err1 := strconv.Atoi(p)
		offset, err2 := strconv.ParseInt(o, 10, 64)
		if err1 != nil || err2 != nil || partition < 0 || offset < 0 {
			return nil, misusef("%s is not a PARTITION/OFFSET, such as 3/1287", which)
		}
		filter = topic.Filter{Partitions: []int{partition}, Offsets: &topic.Range{From: offset, To: offset + 1}}
	}
	return c.selected(ctx, admin, &filter)
}

func showLetter(w io.Writer, s *shownLetter) {
	d := s.DeadLetter
	line := func(name, value string) {
		if value != "" && value != "0" {
			fmt.Fprintf(w, "%-13s %s\n", name, terminal.Visible(value))
		}
	}
	fmt.Fprintf(w, "dead letter   %s\n", d.Position())
	line("died", clock(d.DeadAt)+"  "+d.Reason)
	line("detail", d.Detail)
	line("status", strconv.Itoa(d.Status))
	line("account", d.Account)
	line("subscription", d.Subscription)
	line("event", d.Event)
	line("webhook-id", d.ID)
	line("attempts", strconv.Itoa(d.Attempts))
	if d.FirstSeen != nil {
		line("first seen", clock(*d.FirstSeen))
	}
	line("origin", d.Origin)
	line("replays", strconv.Itoa(d.Replays))
	line("replay", d.Replay)
	line("key", string(d.Key))
	for _, name := range slices.Sorted(maps.Keys(d.Headers)) {
		line("header", name+": "+string(d.Headers[name]))
	}
	fmt.Fprintf(w, "value         %s\n", terminal.Visible(s.Body))
	if s.Trace != nil {
		showTrace(w, s.Trace)
	}
	if s.Curl != "" {
		fmt.Fprintf(w, "\nto send it again by hand:\n%s\n", terminal.VisibleLines(s.Curl))
	}
	if s.Why != "" {
		fmt.Fprintf(w, "\n%s\n", terminal.Visible(s.Why))
	}
}

// showTrace shows the attempts that are known, and where the delivery is.
func showTrace(w io.Writer, t *operate.Trace) {
	if len(t.Attempts) == 0 {
		fmt.Fprintln(w, "no attempts are kept: with attempts.topic: true, those from then on are")
	}
	for _, at := range t.Attempts {
		text := at.Outcome
		if at.Reason != "" {
			text += " (" + at.Reason + ")"
		}
		if at.Attempt > 0 {
			text = fmt.Sprintf("attempt %d, %dms: %s", at.Attempt, at.TookMillis, text)
		}
		if in := at.InBatch(); in != "" && !strings.Contains(at.Detail, at.Batch) {
			text += ", " + in
		}
		fmt.Fprintf(w, "  %s  %-8s %s %s\n", time.UnixMilli(at.Time).Local().Format("01-02 15:04:05.000"), terminal.Visible(at.Stage), terminal.Visible(text), terminal.Visible(at.Detail))
		if at.Response != "" {
			fmt.Fprintf(w, "      answer: %s\n", terminal.Visible(at.Response))
		}
	}
}

// selectedLetters are the dead letters that the filter selects, whole and in the order of their death.
func (c *deadletterShow) selected(ctx context.Context, admin *topic.Cluster, filter *topic.Filter) (found []*topic.DeadLetter, err error) {
	letters := admin.DeadLetters()
	ranges, err := letters.Ranges(ctx, filter)
	if err != nil {
		return nil, err
	}
	done, total, end := c.progress("reading dead letters")
	defer end()
	total(topic.Total(ranges))
	var one sync.Mutex // guards found
	err = letters.Each(ctx, filter, ranges, done, func(d *topic.DeadLetter) error {
		one.Lock()
		defer one.Unlock()
		found = append(found, d.Clone())
		return nil
	})
	slices.SortFunc(found, func(x, y *topic.DeadLetter) int { return x.DeadAt.Compare(y.DeadAt) })
	return found, err
}
