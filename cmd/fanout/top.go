package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"fanout/cmd/internal/terminal"
	"fanout/config"
	"fanout/subscriptions"
	"fanout/topic"
)

func (a *app) topCommand() *cobra.Command {
	var once, tiers bool
	t := &topper{a: a, sort: "load"}
	interval := 2 * time.Second
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show which subscriptions the load belongs to",
		Long: `top shows subscriptions by load: attempts in flight, deliveries queued in their
lane, what waits in the retry topics, since when they fail, and their share of
all that. It asks the instances that --admin names, and says which answered.

On a terminal it is shown again and again, until q or Ctrl-C. Elsewhere, with
--once and with -o json, it is shown once. What could not be asked is unknown,
shown as ?, and null in JSON.

STATE: open, limited after failures, held because the receiver asked for a pause
(Retry-After), parked after many failures, paused or disabled by configuration,
deleted, idle with no lane, or unknown.`,
		Example: `  fanout top
  fanout top --sort oldest --admin 10.0.0.7:8080 --admin 10.0.0.8:8080
  fanout top --once --tiers=false -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if interval < 100*time.Millisecond || t.rows < 1 {
				return misusef("--interval must be at least 100ms, and --rows at least 1")
			}
			if err := choice("--sort", t.sort, "order", topOrderNames()); err != nil {
				return err
			}
			cfg, err := a.load(cmd)
			if err != nil {
				return err
			}
			t.cfg = &cfg
			if tiers {
				admin, err := topic.NewCluster(cfg.Topic())
				if err != nil {
					return err
				}
				defer admin.Close()
				t.backlog = newBacklogReader(admin)
			}
			if screen, ok := a.stdout.(*os.File); ok && !once && a.format == "table" && terminal.Is(screen) {
				return t.live(cmd.Context(), screen, interval)
			}
			return t.once(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.BoolVar(&once, "once", false, "show it once")
	f.BoolVar(&tiers, "tiers", true, "count what waits in the retry topics too, which is read from Kafka")
	f.DurationVar(&interval, "interval", interval, "how often to look")
	f.IntVar(&t.rows, "rows", 30, "how many subscriptions to show at most")
	f.StringVar(&t.sort, "sort", t.sort, "`ORDER`: "+strings.Join(topOrderNames(), ", "))
	a.adminFlag(cmd)
	return configured(cmd)
}

// topper looks at the load, once or again and again.
type topper struct {
	a       *app
	cfg     *config.Config
	backlog *backlogReader // nil: without the retry topics
	rows    int

	mu   sync.Mutex // guards sort
	sort string     // the name of a topOrder
}

func (t *topper) order() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sort
}

// press is what a key does besides quitting.
func (t *topper) press(key byte) {
	for _, order := range topOrders() {
		if key == order.key {
			t.mu.Lock()
			t.sort = order.name
			t.mu.Unlock()
		}
	}
}

// once shows one look.
func (t *topper) once(ctx context.Context) error {
	if t.backlog != nil {
		t.backlog.read(ctx)
	}
	view := t.look(ctx)
	if err := view.nobody(); err != nil {
		return err
	}
	if t.a.asJSON() {
		return t.a.json(&view)
	}
	for _, line := range view.lines(t.a.width(), t.rows) {
		fmt.Fprintln(t.a.stdout, line)
	}
	return nil
}

// live shows looks in place of one another, until a key or the context ends it.
func (t *topper) live(ctx context.Context, out *os.File, interval time.Duration) (err error) {
	first := t.look(ctx)
	if t.backlog == nil { // else Kafka may still have something to tell
		if err := first.nobody(); err != nil {
			return err
		}
	}
	screen, err := terminal.Open(t.a.stdin, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, screen.Close()) }()
	ctx, cancel := context.WithCancel(ctx)
	looks := make(chan topView)
	var looking sync.WaitGroup
	defer looking.Wait()
	defer cancel()
	if t.backlog != nil {
		looking.Go(func() { t.backlog.run(ctx) })
	}
	looking.Go(func() { t.lookAgain(ctx, interval, looks) })
	return t.show(ctx, screen, first, looks)
}

// lookAgain looks at every interval.
func (t *topper) lookAgain(ctx context.Context, interval time.Duration, looks chan<- topView) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		view := t.look(ctx)
		select {
		case <-ctx.Done():
			return
		case looks <- view:
		}
	}
}

// show draws what is looked at, until a key or the context ends it.
func (t *topper) show(ctx context.Context, screen *terminal.Screen, view topView, looks <-chan topView) error {
	for {
		width, height := screen.Size()
		view.sort(t.order())
		if err := screen.Draw(view.page(width, height, t.rows, t.order())); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case view = <-looks:
		case <-screen.Resized():
		case key := <-screen.Keys():
			if key == 'q' || key == 'Q' || key == terminal.Interrupt {
				return nil
			}
			t.press(key)
		}
	}
}

// look asks the instances, and takes what is known of the retry topics.
func (t *topper) look(ctx context.Context) topView {
	remotes := t.a.remotes(t.cfg)
	answers := make([]instanceLanes, len(remotes))
	askAll(remotes, func(i int, r remote) {
		lanes, err := r.lanes(ctx)
		answers[i] = instanceLanes{r.base, lanes, err}
	})
	var waiting backlogState
	if t.backlog != nil {
		waiting = t.backlog.state()
	}
	view := newTopView(time.Now(), answers, waiting, t.backlog != nil)
	view.sort(t.order())
	t.askStates(ctx, &view)
	return view
}

// mostStates and statesPatience bound what Redis is asked for a look.
const (
	mostStates     = 1000
	statesPatience = 2 * time.Second
)

// askStates asks Redis how the subscriptions are configured that no instance has a lane for.
func (t *topper) askStates(ctx context.Context, view *topView) {
	var store *subscriptions.Store
	ctx, cancel := context.WithTimeout(ctx, statesPatience)
	defer cancel()
	asked := 0
	for i := range view.Rows {
		r := &view.Rows[i]
		if r.State != "" {
			continue
		}
		r.State = "unknown"
		if asked++; asked > mostStates || view.StatesProblem != "" {
			continue
		}
		if store == nil {
			var err error
			if store, err = subscriptions.NewStore(t.cfg.Redis); err != nil {
				view.StatesProblem = err.Error()
				continue
			}
			defer store.Close()
		}
		stored, there, err := store.Get(ctx, r.Account, r.Subscription)
		if err != nil {
			view.StatesProblem = err.Error()
			continue
		}
		r.State = storedState(store.Reader(), r, stored, there, len(view.Silent) == 0)
	}
}

// storedState is the state of a subscription that has no lane on the instances that answered.
func storedState(reader subscriptions.Reader, r *topRow, stored []byte, there, allAnswered bool) string {
	if !there {
		return "deleted"
	}
	sub, _ := reader.Parse(r.Account, r.Subscription, stored) // of an invalid one it tells what can be read
	switch state := stateOf(sub); {
	case state != "enabled":
		return state
	case allAnswered:
		return "idle"
	}
	return "unknown"
}
