package admin

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"fanout/consumer"
	"fanout/dispatcher"
	"fanout/event"
)

// replayAsk is what a replay is asked for. Nothing chosen chooses every dead letter.
type replayAsk struct {
	Name         string    `json:"name"`
	Account      string    `json:"account"`
	Subscription string    `json:"subscription"`
	Event        string    `json:"event"`
	Reasons      []string  `json:"reasons"`
	Statuses     []whole   `json:"statuses"`
	From         time.Time `json:"from"`
	To           time.Time `json:"to"`
	IDs          []string  `json:"ids"` // webhook-ids, or positions
	Again        bool      `json:"again"`
	Rate         *float64  `json:"rate"`
	MaxFailures  *whole    `json:"maxFailures"`
	DryRun       bool      `json:"dryRun"`
}

// Bounds and defaults of a replay, as those of the command.
const (
	maxReplayName      = 200
	maxReplayIDs       = 1000
	defaultReplayRate  = 1000
	defaultMaxFailures = 100
)

func (ask *replayAsk) config(now time.Time) (consumer.ReplayConfig, error) {
	var bad []badField
	fail := func(field, detail string) { bad = append(bad, badField{field, detail}) }
	if ask.Name == "" {
		ask.Name = "replay-" + now.UTC().Format("20060102-150405.000")
	}
	if len(ask.Name) > maxReplayName || strings.ContainsFunc(ask.Name, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '/' }) {
		fail("name", fmt.Sprintf("want at most %d characters of ASCII without spaces and slashes", maxReplayName))
	}
	if _, ok := event.ParseName(ask.Event); ask.Event != "" && !ok {
		fail("event", "is no event name")
	}
	for _, reason := range ask.Reasons {
		if !slices.Contains(dispatcher.DeadReasons(), reason) {
			fail("reasons", "want some of "+strings.Join(dispatcher.DeadReasons(), ", "))
			break
		}
	}
	if slices.ContainsFunc(ask.Statuses, func(n whole) bool { return n < 100 || n > 999 }) {
		fail("statuses", "want HTTP statuses")
	}
	if len(ask.IDs) > maxReplayIDs || slices.Contains(ask.IDs, "") {
		fail("ids", fmt.Sprintf("want at most %d, none of them empty", maxReplayIDs))
	}
	rate, most := float64(defaultReplayRate), whole(defaultMaxFailures)
	if ask.Rate != nil {
		rate = *ask.Rate
	}
	if ask.MaxFailures != nil {
		most = *ask.MaxFailures
	}
	if rate < 0 || rate > 1e6 {
		fail("rate", "want 0 (no bound) to 1000000 a second")
	}
	if most < 0 || most > math.MaxInt32 {
		fail("maxFailures", "want 0 (no bound) or more")
	}
	if len(bad) > 0 {
		return consumer.ReplayConfig{}, invalid(bad...)
	}
	var statuses []int
	for _, n := range ask.Statuses {
		statuses = append(statuses, int(n))
	}
	return consumer.ReplayConfig{
		Name: ask.Name, Again: ask.Again, Rate: rate, MaxFailures: int(most),
		Filter: consumer.Filter{
			Account: ask.Account, Subscription: ask.Subscription, Event: ask.Event, Reasons: ask.Reasons, Statuses: statuses,
			Since: since(ask.From), Until: ask.To, IDs: ask.IDs,
		},
	}, nil
}

// States of a replay.
const (
	replayRunning  = "running"
	replayDone     = "done"
	replayCanceled = "canceled"
	replayFailed   = "failed"
)

// replayStatus is a replay as the API and the pages show it.
type replayStatus struct {
	Name     string               `json:"name"`
	State    string               `json:"state"`
	Account  string               `json:"account,omitempty"` // the one it was asked for
	Sent     int64                `json:"sent"`
	Failures int64                `json:"failures"` // first attempts that are known to have failed
	Plan     *consumer.ReplayPlan `json:"plan"`
	Started  time.Time            `json:"started"`
	Ended    *time.Time           `json:"ended,omitempty"`
	Error    string               `json:"error,omitempty"`
}

// replays are those of this instance; the replay topic knows what each has sent, so that any instance goes on.
type replays struct {
	mu   sync.Mutex // guards all below
	list map[string]*runningReplay
	wait sync.WaitGroup
}

type runningReplay struct {
	replay *consumer.Replay
	cancel context.CancelFunc
	status replayStatus
}

// Bounds of replays on one instance: more at once gains nothing, and what has ended is remembered for a while only.
const (
	maxRunning = 4
	maxEnded   = 100
)

// plan finds out what a replay would send.
func (p *panel) plan(ctx context.Context, ask *replayAsk) (*consumer.Replay, *consumer.ReplayPlan, error) {
	cfg, err := ask.config(time.Now())
	if err != nil {
		return nil, nil, err
	}
	cfg.Gone = func(account, subscription string) bool { return p.Directory.Lookup(account, subscription) == nil }
	replay := p.Kafka.Replay(cfg)
	plan, err := replay.Plan(ctx, nil, nil)
	if err != nil {
		return nil, nil, err
	}
	if plan.Groups == nil {
		plan.Groups = []consumer.Group{}
	}
	return replay, plan, nil
}

// start begins a replay; it goes on when ctx ends.
func (p *panel) start(ctx context.Context, ask *replayAsk) (replayStatus, error) {
	if _, err := ask.config(time.Now()); err != nil {
		return replayStatus{}, err
	}
	running := &runningReplay{status: replayStatus{Name: ask.Name, State: replayRunning, Account: ask.Account, Started: time.Now().UTC()}}
	if err := p.replays.reserve(running); err != nil {
		return replayStatus{}, err
	}
	if _, err := p.Kafka.Create(ctx, p.ReplayTopic); err != nil {
		p.replays.forget(ask.Name)
		return replayStatus{}, err
	}
	replay, plan, err := p.plan(ctx, ask)
	if err != nil {
		p.replays.forget(ask.Name)
		return replayStatus{}, err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p.replays.mu.Lock()
	running.replay, running.cancel, running.status.Plan = replay, cancel, plan
	p.replays.mu.Unlock()
	p.replays.wait.Go(func() {
		defer cancel()
		err := replay.Run(ctx, plan)
		p.replays.end(running, err)
	})
	status, _ := p.replays.get(ask.Name)
	return status, nil
}

// reserve takes the name: one replay of a name runs at a time.
func (r *replays) reserve(running *runningReplay) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.list == nil {
		r.list = make(map[string]*runningReplay)
	}
	n := 0
	var oldest *runningReplay
	for _, other := range r.list {
		switch {
		case other.status.State == replayRunning:
			n++
		case oldest == nil || other.status.Started.Before(oldest.status.Started):
			oldest = other
		}
	}
	if was := r.list[running.status.Name]; was != nil && was.status.State == replayRunning {
		return problemf(http.StatusConflict, "a replay of that name is running")
	}
	if n >= maxRunning {
		return problemf(http.StatusConflict, "%d replays are running: wait for one, or cancel it", n)
	}
	if len(r.list) >= maxEnded && oldest != nil {
		delete(r.list, oldest.status.Name)
	}
	r.list[running.status.Name] = running
	return nil
}

func (r *replays) forget(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.list, name)
}

func (r *replays) end(running *runningReplay, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &running.status
	s.Ended = new(time.Now().UTC())
	switch {
	case err == nil:
		s.State = replayDone
	case errors.Is(err, context.Canceled):
		s.State = replayCanceled
	default:
		s.State, s.Error = replayFailed, err.Error()
	}
}

func (r *replays) get(name string) (replayStatus, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	running := r.list[name]
	if running == nil || running.replay == nil {
		return replayStatus{}, false
	}
	return running.now(), true
}

func (r *runningReplay) now() replayStatus {
	s := r.status
	s.Sent, s.Failures = r.replay.Sent(), r.replay.Failures()
	return s
}

// all are those that keep wants, the newest first.
func (r *replays) all(keep func(*replayStatus) bool) (list []replayStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, running := range r.list {
		if running.replay != nil && keep(&running.status) {
			list = append(list, running.now())
		}
	}
	slices.SortFunc(list, func(a, b replayStatus) int { return b.Started.Compare(a.Started) })
	return list
}

// cancel ends a replay, if it runs.
func (r *replays) cancel(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if running := r.list[name]; running != nil && running.cancel != nil {
		running.cancel()
	}
}

// stop ends all and waits for them.
func (r *replays) stop() {
	r.mu.Lock()
	for _, running := range r.list {
		if running.cancel != nil {
			running.cancel()
		}
	}
	r.mu.Unlock()
	r.wait.Wait()
}

var errNoReplay = problemf(http.StatusNotFound, "this instance knows no replay of that name")

func (a *api) startReplay(w http.ResponseWriter, r *http.Request) error {
	var ask replayAsk
	if err := decode(r, &ask); err != nil {
		return err
	}
	if ask.DryRun {
		_, plan, err := a.plan(r.Context(), &ask)
		if err != nil {
			return err
		}
		writeJSON(w, http.StatusOK, "application/json", plan)
		return nil
	}
	status, err := a.start(r.Context(), &ask)
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/api/v1/replays/"+status.Name)
	writeJSON(w, http.StatusAccepted, "application/json", status)
	return nil
}

func (a *api) getReplay(w http.ResponseWriter, r *http.Request) error {
	status, ok := a.replays.get(r.PathValue("name"))
	if !ok {
		return errNoReplay
	}
	writeJSON(w, http.StatusOK, "application/json", status)
	return nil
}

func (a *api) cancelReplay(w http.ResponseWriter, r *http.Request) error {
	if _, ok := a.replays.get(r.PathValue("name")); !ok {
		return errNoReplay
	}
	a.replays.cancel(r.PathValue("name"))
	w.WriteHeader(http.StatusNoContent)
	return nil
}
