package main

import (
	"context"
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
	"fanout/operate"
	"fanout/subscriptions"
	"fanout/topic"
)

// topCommand shows which subscriptions the load belongs to.
type topCommand struct {
	*settings
	*output
	*input
	*fleet
}

func (c *topCommand) command() *cobra.Command {
	var once, tiers bool
	t := &topper{output: c.output, fleet: c.fleet, stdin: c.stdin, sort: "load"}
	interval := 2 * time.Second
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show which subscriptions the load belongs to",
		Long: `top shows subscriptions by load: attempts in flight, deliveries queued in their
lane, what waits in the retry topics, since when they fail, and their share of
all that. It asks the instances that announce themselves (admin.advertise), or
those that --admin names, and says which answered.

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
			if err := choice("--sort", t.sort, "order", operate.TopOrders()); err != nil {
				return err
			}
			cfg, err := c.load(cmd)
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
				t.backlog = operate.NewBacklogReader(admin, backlogPatience)
			}
			if screen, ok := c.stdout.(*os.File); ok && !once && c.format == "table" && terminal.Is(screen) {
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
	f.StringVar(&t.sort, "sort", t.sort, "`ORDER`: "+strings.Join(operate.TopOrders(), ", "))
	c.adminFlag(cmd)
	return configured(cmd)
}

// topper looks at the load, once or again and again.
type topper struct {
	*output
	*fleet

	stdin   io.Reader
	cfg     *config.Config
	backlog *operate.BacklogReader // nil: without the retry topics
	rows    int

	mu   sync.Mutex // guards sort
	sort string     // one of operate.TopOrders
}

func (t *topper) order() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sort
}

// press is what a key does besides quitting: each order has its first letter.
func (t *topper) press(key byte) {
	for _, order := range operate.TopOrders() {
		if key == order[0] {
			t.mu.Lock()
			t.sort = order
			t.mu.Unlock()
		}
	}
}

// once shows one look.
func (t *topper) once(ctx context.Context) error {
	if t.backlog != nil {
		t.backlog.Read(ctx)
	}
	view := t.look(ctx)
	if err := view.Err(); err != nil {
		return err
	}
	if t.asJSON() {
		return t.json(&view)
	}
	for _, line := range topLines(&view, t.width(), t.rows) {
		fmt.Fprintln(t.stdout, line)
	}
	return nil
}

// live shows looks in place of one another, until a key or the context ends it.
func (t *topper) live(ctx context.Context, out *os.File, interval time.Duration) (err error) {
	first := t.look(ctx)
	if t.backlog == nil { // else Kafka may still have something to tell
		if err := first.Err(); err != nil {
			return err
		}
	}
	screen, err := terminal.Open(t.stdin, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, screen.Close()) }()
	ctx, cancel := context.WithCancel(ctx)
	looks := make(chan operate.Top)
	var looking sync.WaitGroup
	defer looking.Wait()
	defer cancel()
	if t.backlog != nil {
		looking.Go(func() { t.backlog.Run(ctx) })
	}
	looking.Go(func() { t.lookAgain(ctx, interval, looks) })
	return t.show(ctx, screen, first, looks)
}

// lookAgain looks at every interval.
func (t *topper) lookAgain(ctx context.Context, interval time.Duration, looks chan<- operate.Top) {
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
func (t *topper) show(ctx context.Context, screen *terminal.Screen, view operate.Top, looks <-chan operate.Top) error {
	for {
		width, height := screen.Size()
		view.Sort(t.order())
		if err := screen.Draw(topPage(&view, width, height, t.rows, t.order())); err != nil {
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

// askNotes asks the instances that answered what is amiss.
func (t *topper) askNotes(ctx context.Context, answers []operate.InstanceLanes) {
	askAll(t.remotes(ctx, t.cfg), func(i int, r remote) {
		if i < len(answers) && answers[i].Err == nil {
			health := askHealth(ctx, r, true)
			answers[i].Notes = health.notes()
		}
	})
}

// look asks the instances, and takes what is known of the retry topics.
func (t *topper) look(ctx context.Context) operate.Top {
	answers := t.lanes(ctx, t.cfg)
	t.askNotes(ctx, answers)
	var waiting operate.BacklogState
	if t.backlog != nil {
		waiting = t.backlog.State()
	}
	view := operate.NewTop(time.Now(), answers, waiting, t.backlog != nil)
	view.Sort(t.order())
	stored := storedSubscriptions{redis: t.cfg.Redis}
	defer stored.close()
	view.AskStates(ctx, stored.get)
	return view
}

// backlogPatience is how long a reading of the retry topics may make no progress.
const backlogPatience = 10 * time.Second

// storedSubscriptions asks Redis for subscriptions, and connects when the first one is asked for. Close it.
type storedSubscriptions struct {
	redis subscriptions.Config
	store *subscriptions.Store
}

// get is a subscription as it is stored; nil: there is none. Of an invalid one it has what can be read.
func (s *storedSubscriptions) get(ctx context.Context, account, id string) (*subscriptions.Subscription, error) {
	if s.store == nil {
		store, err := subscriptions.NewStore(s.redis)
		if err != nil {
			return nil, err
		}
		s.store = store
	}
	stored, there, err := s.store.Get(ctx, account, id)
	if err != nil || !there {
		return nil, err
	}
	sub, _ := s.store.Reader().Parse(account, id, stored)
	return sub, nil
}

func (s *storedSubscriptions) close() {
	if s.store != nil {
		s.store.Close()
	}
}
