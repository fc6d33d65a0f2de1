package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"fanout/cmd/internal/terminal"
	"fanout/config"
	"fanout/dispatcher"
	"fanout/event"
	"fanout/topic"
)

// tailCommand shows outcomes as they happen.
type tailCommand struct {
	*settings
	*output
	*fleet
}

func (c *tailCommand) command() *cobra.Command {
	var f tailFlags
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Follow outcomes as they happen",
		Long: `tail shows every attempt, and every decision not to make one, of the instances
that announce themselves (admin.advertise), or of those that --admin names,
until it is interrupted. It counts what a slow terminal
misses, and says so. With -o json, as with -o ndjson, each outcome is one line.

With --forward each attempt's request is POSTed to a local program as well, with
its webhook-id, and signed with a secret that is printed when it begins.

With --portal-link a customer's developer follows their own account, with no
other configuration: what the instance sees that the link leads to. One such
stream is open at a time, and it ends with the link.`,
		Example: `  fanout tail --account acme --outcome retry
  fanout tail --reason timeout --admin 10.0.0.7:8080 --admin 10.0.0.8:8080
  fanout tail --portal-link https://HOST/portal/TOKEN/ \
    --forward http://localhost:3000/hooks`,
		Args:        cobra.NoArgs,
		Annotations: map[string]string{streams: ""},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(c.catalogue(cmd)); err != nil {
				return err
			}
			cfg, err := c.load(cmd)
			if err != nil {
				return err
			}
			remotes, err := c.toFollow(cmd.Context(), &cfg, &f)
			if err != nil {
				return err
			}
			var to *localProgram
			if f.forward != "" {
				if to, err = newLocalProgram(f.forward); err != nil {
					return err
				}
				fmt.Fprintf(c.stderr, "forwarding to %s, signed with %s\n", to.url, to.secret)
			}
			t := &tailer{localProgram: to, output: c.output, flags: f, width: c.width(), silence: 30 * time.Second} // an instance sends a line every 5 seconds
			return t.run(cmd.Context(), remotes)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.account, "account", "", "of this account")
	flags.StringVar(&f.subscription, "subscription", "", "of the subscription with this id")
	flags.StringVar(&f.outcome, "outcome", "", "with this outcome: "+strings.Join(dispatcher.ResultNames(), ", "))
	flags.StringVar(&f.event, "event", "", "of this event name, such as EMAIL_OPEN")
	flags.StringVar(&f.reason, "reason", "", "with this reason, such as timeout")
	flags.StringVar(&f.forward, "forward", "", "POST each attempt's request to this `URL`, such as http://localhost:3000/hooks")
	flags.StringVar(&f.portalLink, "portal-link", "", "follow the account of this portal link, a `URL`")
	flags.IntVar(&f.limit, "limit", 0, "end after so many; 0 means never")
	c.adminFlag(cmd)
	return configured(cmd)
}

// toFollow are the instances to follow, or the portal that a link leads to.
func (c *tailCommand) toFollow(ctx context.Context, cfg *config.Config, f *tailFlags) ([]remote, error) {
	if f.portalLink == "" {
		return c.remotes(ctx, cfg), nil
	}
	if f.account != "" || len(c.admins) > 0 {
		return nil, misusef("--portal-link says whose account it is and whom to ask: leave out --account and --admin")
	}
	portal, err := openPortal(ctx, f.portalLink)
	return []remote{portal}, err
}

// tailFlags select the outcomes to show.
type tailFlags struct {
	account, subscription, outcome, event, reason string
	limit                                         int
	forward, portalLink                           string
}

func (f *tailFlags) check(c *event.Catalogue) error {
	if f.limit < 0 {
		return misuse(errNegativeLimit)
	}
	return errors.Join(
		choice("--outcome", f.outcome, "outcome", dispatcher.ResultNames()),
		choice("--event", f.event, "event name", c.Texts()),
		choice("--reason", f.reason, "reason", dispatcher.ReasonNames()))
}

// query is what an instance selects by; it knows no event and no reason.
func (f *tailFlags) query() string {
	query := url.Values{}
	for name, value := range map[string]string{"account": f.account, "subscription": f.subscription, "outcome": f.outcome} {
		if value != "" {
			query.Set(name, value)
		}
	}
	return query.Encode()
}

// outcomeLine is what an instance tells of one outcome.
type outcomeLine struct {
	Time         time.Time  `json:"time"`
	ID           string     `json:"id"`
	Account      string     `json:"account"`
	Subscription string     `json:"subscription"`
	Event        string     `json:"event"`
	Stage        string     `json:"stage"`
	Attempt      int        `json:"attempt"`
	Outcome      string     `json:"outcome"`
	Reason       string     `json:"reason,omitempty"`
	Status       int        `json:"status,omitempty"`
	TookMs       float64    `json:"tookMs"`
	Batch        string     `json:"batch,omitempty"`
	BatchSize    int        `json:"batchSize,omitempty"`
	Detail       string     `json:"detail,omitempty"`
	NotBefore    *time.Time `json:"notBefore,omitempty"`
	Request      string     `json:"request,omitempty"`
	Dropped      uint64     `json:"dropped,omitempty"`
}

type tailer struct {
	*output

	flags   tailFlags
	width   int           // of the terminal; 0: no limit
	silence time.Duration // an instance may say nothing for so long

	localProgram *localProgram // nil: nothing is forwarded

	mu    sync.Mutex // guards the output and all below
	shown int
}

// errEnough ends following when what was asked for has been shown.
var errEnough = errors.New("enough")

// errSilent ends following an instance that hangs.
var errSilent = errors.New("the instance has stopped answering")

// run follows all instances until ctx is done or the limit is reached. An instance that goes away is an error once all
// have.
func (t *tailer) run(ctx context.Context, remotes []remote) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	errs := make([]error, len(remotes))
	askAll(remotes, func(i int, r remote) {
		errs[i] = t.follow(ctx, r)
		if errors.Is(errs[i], errEnough) {
			cancel(errEnough)
		} else if errs[i] != nil && len(remotes) > 1 && ctx.Err() == nil { // the others go on
			t.note("%v", errs[i])
		}
	})
	if ctx.Err() != nil {
		return nil
	}
	return errors.Join(errs...)
}

// note says something beside the outcomes.
func (t *tailer) note(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintln(t.stderr, terminal.Visible(fmt.Sprintf(format, args...)))
}

func (t *tailer) follow(ctx context.Context, r remote) error {
	ctx, hangUp := context.WithCancelCause(ctx)
	defer hangUp(nil)
	silence := time.AfterFunc(t.silence, func() { hangUp(errSilent) })
	defer silence.Stop()
	path := "/api/v1/tail?"
	if r.portal != "" {
		path = r.portal + "/api/v1/stream?"
	}
	answer, err := r.get(ctx, path+t.flags.query())
	if context.Cause(ctx) == errSilent { //nolint:errorlint // it is ours, unwrapped
		return r.unreachable(context.DeadlineExceeded)
	}
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
		return r.refused(answer.StatusCode, answer.Header, body)
	}
	t.note("following %s", r.base)
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		silence.Reset(t.silence)
		if len(lines.Bytes()) == 0 {
			continue // it lives
		}
		if err := t.show(ctx, r, lines.Bytes()); err != nil {
			return err
		}
	}
	if context.Cause(ctx) == errSilent { //nolint:errorlint // it is ours, unwrapped
		return fmt.Errorf("%s: %w", r.base, errSilent)
	}
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("%s: the instance has gone", r.base)
}

func (t *tailer) show(ctx context.Context, r remote, line []byte) error {
	var o outcomeLine
	if json.Unmarshal(line, &o) != nil {
		return r.stranger()
	}
	if o.Dropped > 0 {
		t.note("%s: %d outcomes came too fast to be shown", r.base, o.Dropped)
		return nil
	}
	if t.flags.event != "" && o.Event != t.flags.event || t.flags.reason != "" && o.Reason != t.flags.reason {
		return nil
	}
	if t.localProgram != nil && o.Attempt > 0 {
		status, err := t.localProgram.forward(ctx, &o)
		t.note("%s", t.localProgram.text(&o, status, err))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.flags.limit > 0 && t.shown >= t.flags.limit { // another instance's was the last one
		return errEnough
	}
	t.shown++
	if t.format == "table" {
		fmt.Fprintln(t.stdout, o.text(t.width))
	} else {
		fmt.Fprintf(t.stdout, "%s\n", line)
	}
	if t.flags.limit > 0 && t.shown >= t.flags.limit {
		return errEnough
	}
	return nil
}

// text is the outcome for a person: on one line, or on more where the terminal is too narrow for that.
func (o *outcomeLine) text(width int) string {
	what := o.Outcome
	if o.Reason != "" {
		what += "/" + o.Reason
	}
	parts := []string{
		o.Time.Local().Format("15:04:05.000"), fmt.Sprintf("%-21s", what), fmt.Sprintf("%-16s", o.Event), o.Account + "/" + o.Subscription, o.ID,
	}
	if o.Stage != "first" {
		parts = append(parts, o.Stage)
	}
	if o.Attempt > 0 {
		parts = append(parts, fmt.Sprintf("attempt %d in %sms", o.Attempt, strconv.FormatFloat(o.TookMs, 'f', 1, 64)))
	}
	if in := topic.InBatch(o.Batch, o.BatchSize); in != "" && !strings.Contains(o.Detail, o.Batch) {
		parts = append(parts, in)
	}
	if o.Detail != "" {
		parts = append(parts, o.Detail)
	}
	if o.NotBefore != nil {
		parts = append(parts, "next "+o.NotBefore.Local().Format("15:04:05"))
	}
	const indent = 14 // below the second part
	line, lines := "", ""
	for _, part := range parts {
		part = terminal.Visible(part) // whatever answers at that address
		if width > 2*indent {
			part = terminal.Cut(part, width-indent)
		}
		if line != "" && width > 0 && terminal.Width(line)+2+terminal.Width(strings.TrimRight(part, " ")) > width {
			lines, line = lines+strings.TrimRight(line, " ")+"\n", strings.Repeat(" ", indent-2)
		}
		if line != "" {
			line += "  "
		}
		line += part
	}
	return lines + strings.TrimRight(line, " ")
}
