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

	"fanout/dispatcher"
	"fanout/event"
)

func (a *app) tailCommand() *cobra.Command {
	var account, subscription, outcome, eventName, reason string
	var limit int
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Follow outcomes as they happen",
		Long: "tail shows every attempt, and every decision not to make one, of the instances that --admin names, until it is\n" +
			"interrupted. What a slow terminal misses is counted, and said.",
		Example:     "  fanout tail --account acme --outcome retry\n  fanout tail -o ndjson --admin http://10.0.0.7:8080 --admin http://10.0.0.8:8080",
		Args:        cobra.NoArgs,
		Annotations: map[string]string{streams: ""},
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load(cmd)
			if err != nil {
				return err
			}
			if limit < 0 {
				return &exitError{code: 2, err: errNegativeLimit}
			}
			if _, ok := event.ParseName(eventName); eventName != "" && !ok {
				return &exitError{code: 2, err: fmt.Errorf("--event %s: no event has that name; use one of %s", eventName, eventNames())}
			}
			if _, ok := dispatcher.ParseReason(reason); reason != "" && !ok {
				return &exitError{code: 2, err: fmt.Errorf("--reason %s: there is no such reason", reason)}
			}
			query := url.Values{}
			for name, value := range map[string]string{"account": account, "subscription": subscription, "outcome": outcome} {
				if value != "" {
					query.Set(name, value)
				}
			}
			t := &tailer{a: a, token: cfg.Admin.Token, query: query.Encode(), event: eventName, reason: reason, limit: limit, silence: 30 * time.Second} // it sends a line every 5 seconds
			return hint(t.run(cmd.Context(), a.instances(&cfg)), "is an instance running? --admin URL or admin.listen says where")
		},
	}
	f := cmd.Flags()
	f.StringVar(&account, "account", "", "of this account")
	f.StringVar(&subscription, "subscription", "", "of this subscription")
	f.StringVar(&outcome, "outcome", "", "with this outcome: delivered, retry, deferred, dead, discarded")
	f.StringVar(&eventName, "event", "", "of this event name")
	f.StringVar(&reason, "reason", "", "with this reason")
	f.IntVar(&limit, "limit", 0, "end after so many; 0 means never")
	a.adminFlag(cmd)
	return configured(cmd)
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
	Detail       string     `json:"detail,omitempty"`
	NotBefore    *time.Time `json:"notBefore,omitempty"`
	Dropped      uint64     `json:"dropped,omitempty"`
}

type tailer struct {
	a             *app
	token, query  string
	event, reason string
	limit         int
	silence       time.Duration // an instance may say nothing for so long

	mu    sync.Mutex // guards the output and all below
	shown int
}

// errSilent ends following an instance that hangs.
var errSilent = errors.New("the instance says nothing any more")

// run follows all instances until ctx is done or the limit is reached. An instance that goes away is an error once all
// have.
func (t *tailer) run(ctx context.Context, bases []string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	errs := make([]error, len(bases))
	var following sync.WaitGroup
	for i, base := range bases {
		following.Go(func() {
			errs[i] = t.follow(ctx, base)
			if errors.Is(errs[i], errEnough) {
				cancel(errEnough)
			} else if errs[i] != nil && ctx.Err() == nil {
				fmt.Fprintf(t.a.stderr, "%s: %v\n", base, errs[i])
			}
		})
	}
	following.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return errors.Join(errs...)
}

func (t *tailer) follow(ctx context.Context, base string) error {
	ctx, hangUp := context.WithCancelCause(ctx)
	defer hangUp(nil)
	silence := time.AfterFunc(t.silence, func() { hangUp(errSilent) })
	defer silence.Stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/api/v1/tail?"+t.query, http.NoBody)
	if err != nil {
		return err
	}
	if t.token != "" {
		request.Header.Set("Authorization", "Bearer "+t.token)
	}
	answer, err := adminClient().Do(request)
	if err != nil {
		return errors.New("the instance does not answer")
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
		return fmt.Errorf("status %d: %s", answer.StatusCode, printable(string(body)))
	}
	fmt.Fprintf(t.a.stderr, "following %s\n", base)
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		silence.Reset(t.silence)
		if len(lines.Bytes()) == 0 {
			continue // it lives
		}
		if err := t.show(base, lines.Bytes()); err != nil {
			return err
		}
	}
	if context.Cause(ctx) == errSilent { //nolint:errorlint // it is ours, unwrapped
		return errSilent
	}
	if ctx.Err() != nil {
		return nil
	}
	return errors.New("the instance has gone")
}

func (t *tailer) show(base string, line []byte) error {
	var o outcomeLine
	if err := json.Unmarshal(line, &o); err != nil {
		return fmt.Errorf("not understood: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case o.Dropped > 0:
		fmt.Fprintf(t.a.stderr, "%s: %d outcomes were too fast to be shown\n", base, o.Dropped)
		return nil
	case t.event != "" && o.Event != t.event, t.reason != "" && o.Reason != t.reason:
		return nil
	}
	t.shown++
	if t.a.format == "table" {
		fmt.Fprintln(t.a.stdout, o.String())
	} else {
		fmt.Fprintf(t.a.stdout, "%s\n", line)
	}
	if t.limit > 0 && t.shown >= t.limit {
		return errEnough
	}
	return nil
}

// String is the outcome on one line.
func (o *outcomeLine) String() string {
	what := o.Outcome
	if o.Reason != "" {
		what += "/" + o.Reason
	}
	text := fmt.Sprintf("%s  %-24s %-6s %-16s %s/%s  %s", o.Time.Local().Format("15:04:05.000"), what, o.Stage, o.Event, o.Account, o.Subscription, o.ID)
	if o.Attempt > 0 {
		text += fmt.Sprintf("  attempt %d in %sms", o.Attempt, strconv.FormatFloat(o.TookMs, 'f', 1, 64))
	}
	if o.Detail != "" {
		text += "  " + o.Detail
	}
	if o.NotBefore != nil {
		text += "  next " + o.NotBefore.Local().Format("15:04:05")
	}
	return strings.TrimRight(printable(text), " ") // whatever answers at that address
}
