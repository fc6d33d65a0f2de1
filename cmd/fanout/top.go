package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fanout/config"
	"fanout/consumer"
)

func (a *app) topCommand() *cobra.Command {
	var once, tiers bool
	interval := 2 * time.Second
	rows := 30
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show the subscriptions that the work and the waiting belong to",
		Long: "top shows subscriptions by load: attempts under way, deliveries waiting in their lane, what waits in the retry\n" +
			"tiers, since when they fail, and their share of all that waits. It asks the instances that --admin names, and says\n" +
			"who answered. On a terminal it is shown again and again; elsewhere, and with -o json, once.",
		Example: "  fanout top\n  fanout top --once --tiers=false --admin http://10.0.0.7:8080 --admin http://10.0.0.8:8080",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load(cmd)
			if err != nil {
				return err
			}
			if interval < 100*time.Millisecond || rows < 1 {
				return &exitError{code: 2, err: errors.New("--interval is at least 100ms, and --rows at least 1")}
			}
			t := &topper{a: a, cfg: &cfg, rows: rows}
			if tiers {
				admin, err := consumer.NewAdmin(cfg.Consumer())
				if err != nil {
					return err
				}
				defer admin.Close()
				t.admin = admin
			}
			return t.run(cmd.Context(), once || a.asJSON() || !isTerminal(a.stdout), interval)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&once, "once", false, "show it once")
	f.BoolVar(&tiers, "tiers", true, "also count what waits in the retry topics (read from Kafka)")
	f.DurationVar(&interval, "interval", interval, "how often to look")
	f.IntVar(&rows, "rows", rows, "how many subscriptions to show")
	a.adminFlag(cmd)
	return configured(cmd)
}

// topRow is one subscription's load, over all instances that answered.
type topRow struct {
	Account      string         `json:"account"`
	Subscription string         `json:"subscription"`
	State        string         `json:"state"` // open, limited, parked; idle without a lane
	Why          string         `json:"why,omitempty"`
	InFlight     int            `json:"inFlight"`
	Queued       int            `json:"queued"`
	Tiers        map[string]int `json:"tiers,omitempty"` // waiting, by retry topic
	Waiting      int            `json:"waiting"`         // in all tiers
	Oldest       *time.Time     `json:"oldest,omitempty"`
	FailingSince *time.Time     `json:"failingSince,omitempty"`
	Pace         float64        `json:"pace"`  // attempts a second
	Share        float64        `json:"share"` // of all that is under way or waits
}

func (r *topRow) load() int { return r.InFlight + r.Queued + r.Waiting }

// topView is one look.
type topView struct {
	Time      time.Time         `json:"time"`
	Answered  []string          `json:"answered"`
	Silent    map[string]string `json:"silent,omitempty"`
	Rows      []topRow          `json:"subscriptions"`
	InFlight  int               `json:"inFlight"`
	Queued    int               `json:"queued"`
	Waiting   int               `json:"waiting"`
	TiersFrom string            `json:"tiersProblem,omitempty"`
}

type topper struct {
	a        *app
	cfg      *config.Config
	admin    *consumer.Admin // nil: without the tiers
	rows     int
	backlogs map[string]*consumer.Backlog
	problem  string
	read     time.Time
}

// tiersEvery bounds how often the retry topics are read: they may hold much.
const tiersEvery = 10 * time.Second

func (t *topper) run(ctx context.Context, once bool, interval time.Duration) error {
	for {
		view := t.look(ctx)
		if ctx.Err() != nil && !once {
			return nil
		}
		if len(view.Answered) == 0 && len(view.Rows) == 0 {
			return hint(errors.New("no instance answers: "+describeSilent(view.Silent)), "--admin URL or admin.listen says where they are")
		}
		if t.a.asJSON() {
			return t.a.json(view)
		}
		if !once {
			fmt.Fprint(t.a.stdout, "\x1b[H\x1b[2J")
		}
		if err := t.show(view); err != nil {
			return err
		}
		if once {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(interval):
		}
	}
}

func describeSilent(silent map[string]string) string {
	var parts []string
	for base, why := range silent {
		parts = append(parts, base+" ("+why+")")
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

func (t *topper) look(ctx context.Context) topView {
	view := topView{Time: time.Now(), Answered: []string{}, Rows: []topRow{}, Silent: make(map[string]string)}
	rows := make(map[string]*topRow)
	row := func(account, subscription string) *topRow {
		r := rows[account+"/"+subscription]
		if r == nil {
			r = &topRow{Account: account, Subscription: subscription, State: "idle", Tiers: map[string]int{}}
			rows[account+"/"+subscription] = r
		}
		return r
	}
	for _, base := range t.a.instances(t.cfg) {
		lanes, err := askLanes(ctx, base, t.cfg.Admin.Token)
		if err != nil {
			view.Silent[base] = err.Error()
			continue
		}
		view.Answered = append(view.Answered, base)
		for _, l := range lanes {
			row(l.Account, l.Subscription).add(&l)
		}
	}
	if t.admin != nil && time.Since(t.read) > tiersEvery {
		t.problem = ""
		backlogs, err := t.admin.Backlogs(ctx, nil, nil)
		if err != nil {
			t.problem = err.Error()
		}
		t.backlogs, t.read = backlogs, time.Now()
	}
	view.TiersFrom = t.problem
	for _, b := range t.backlogs {
		r := row(b.Account, b.Subscription)
		for topic, n := range b.Waiting {
			r.Tiers[topic] = n
			r.Waiting += n
		}
		r.Oldest = oldest(r.Oldest, &b.Oldest)
	}
	total := 0
	for _, r := range rows {
		total += r.load()
		view.InFlight += r.InFlight
		view.Queued += r.Queued
		view.Waiting += r.Waiting
	}
	for _, r := range rows {
		if total > 0 {
			r.Share = float64(r.load()) / float64(total)
		}
		view.Rows = append(view.Rows, *r)
	}
	slices.SortFunc(view.Rows, func(x, y topRow) int {
		return cmp.Or(cmp.Compare(y.load(), x.load()), cmp.Compare(y.Pace, x.Pace), cmp.Compare(x.Account, y.Account), cmp.Compare(x.Subscription, y.Subscription))
	})
	return view
}

func oldest(a, b *time.Time) *time.Time {
	if a == nil || b != nil && b.Before(*a) {
		return b
	}
	return a
}

// laneLine is what an instance tells of a lane.
type laneLine struct {
	Account      string     `json:"account"`
	Subscription string     `json:"subscription"`
	State        string     `json:"state"`
	Why          string     `json:"why"`
	Since        *time.Time `json:"since"`
	Until        *time.Time `json:"until"`
	InFlight     int        `json:"inFlight"`
	Limit        int        `json:"limit"`
	Queued       int        `json:"queued"`
	OldestQueued *time.Time `json:"oldestQueued"`
	Failures     int        `json:"failures"`
	Pace         float64    `json:"pace"`
}

// add counts one instance's lane in. The worst state is shown.
func (r *topRow) add(l *laneLine) {
	order := []string{"idle", "open", "limited", "parked"}
	if slices.Index(order, l.State) > slices.Index(order, r.State) {
		r.State, r.Why = l.State, l.Why
	}
	r.InFlight += l.InFlight
	r.Queued += l.Queued
	r.Pace += l.Pace
	r.Oldest = oldest(r.Oldest, l.OldestQueued)
	if l.Failures > 0 || l.State == "parked" {
		r.FailingSince = oldest(r.FailingSince, l.Since)
	}
}

func askLanes(ctx context.Context, base, token string) ([]laneLine, error) {
	status, body, err := askAdmin(ctx, base+"/api/v1/lanes", token)
	switch {
	case err != nil:
		return nil, errors.New("no answer")
	case status == http.StatusUnauthorized:
		return nil, errors.New("it wants another admin.token")
	case status != http.StatusOK:
		return nil, fmt.Errorf("status %d", status)
	}
	var answer struct {
		Lanes []laneLine `json:"lanes"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("its answer is not understood: %w", err)
	}
	return answer.Lanes, nil
}

func (t *topper) show(v topView) error {
	w := t.a.stdout
	fmt.Fprintf(w, "%s  %s answered", v.Time.Local().Format("15:04:05"), count(len(v.Answered), "instance"))
	if len(v.Silent) > 0 {
		fmt.Fprintf(w, ", silent: %s", printable(describeSilent(v.Silent)))
	}
	fmt.Fprintf(w, "\nin flight %d  queued %d  waiting in tiers %d\n", v.InFlight, v.Queued, v.Waiting)
	if v.TiersFrom != "" {
		fmt.Fprintf(w, "the retry topics cannot be read: %s\n", printable(v.TiersFrom))
	}
	fmt.Fprintln(w)
	if len(v.Rows) == 0 {
		fmt.Fprintln(w, "nothing is under way and nothing waits")
		return nil
	}
	rows := [][]string{{"SHARE", "ACCOUNT", "SUBSCRIPTION", "STATE", "IN FLIGHT", "QUEUED", "PACE/S", "TIERS", "OLDEST", "FAILING SINCE", "WHY"}}
	for i := range v.Rows {
		if i == t.rows {
			break
		}
		r := &v.Rows[i]
		rows = append(rows, []string{
			fmt.Sprintf("%.0f%%", 100*r.Share), r.Account, r.Subscription, r.State, strconv.Itoa(r.InFlight), strconv.Itoa(r.Queued),
			strconv.FormatFloat(r.Pace, 'f', 1, 64), tierText(r.Tiers), ago(v.Time, r.Oldest), ago(v.Time, r.FailingSince), r.Why,
		})
	}
	if err := table(w, rows); err != nil {
		return err
	}
	if n := len(v.Rows) - t.rows; n > 0 {
		fmt.Fprintf(w, "and %d more\n", n)
	}
	return nil
}

// tierText is "30s:120 5m:7".
func tierText(tiers map[string]int) string {
	if len(tiers) == 0 {
		return "-"
	}
	var parts []string
	for topic, n := range tiers {
		name := topic[strings.LastIndexByte(topic, '.')+1:]
		parts = append(parts, fmt.Sprintf("%s:%d", name, n))
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}

func ago(now time.Time, t *time.Time) string {
	if t == nil {
		return "-"
	}
	return now.Sub(*t).Round(time.Second).String()
}
