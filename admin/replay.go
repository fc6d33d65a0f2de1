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

	"fanout/dispatcher"
	"fanout/event"
	"fanout/operate"
	"fanout/topic"
)

// replayAsk selects what a replay sends. Without any selection that is every dead letter.
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

	by   scope       // whoever asks
	form *replayForm // that it was asked for with; nil: a program asks
}

// Bounds and defaults of a replay, the same as those of the command.
const (
	maxReplayName      = 200
	maxReplayIDs       = 1000
	defaultReplayRate  = 1000
	defaultMaxFailures = 100
)

func (ask *replayAsk) config(c *event.Catalogue, now time.Time) (operate.ReplayConfig, error) {
	var bad []badField
	fail := func(field, detail string) { bad = append(bad, badField{field, detail}) }
	if ask.Name == "" {
		ask.Name = "replay-" + now.UTC().Format("20060102-150405.000")
	}
	if len(ask.Name) > maxReplayName || strings.ContainsFunc(ask.Name, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '/' }) {
		fail("name", fmt.Sprintf("must be at most %d ASCII characters, without spaces and slashes", maxReplayName))
	}
	if _, ok := c.ParseAny(ask.Event); ask.Event != "" && !ok {
		fail("event", "is not an event name")
	}
	for _, reason := range ask.Reasons {
		if !slices.Contains(dispatcher.DeadReasons(), reason) {
			fail("reasons", "must be some of "+strings.Join(dispatcher.DeadReasons(), ", "))
			break
		}
	}
	if slices.ContainsFunc(ask.Statuses, func(n whole) bool { return n < 100 || n > 999 }) {
		fail("statuses", "must be HTTP statuses, from 100 to 999")
	}
	if len(ask.IDs) > maxReplayIDs || slices.Contains(ask.IDs, "") {
		fail("ids", fmt.Sprintf("must be at most %d, none of them empty", maxReplayIDs))
	}
	rate, most := float64(defaultReplayRate), whole(defaultMaxFailures)
	if ask.Rate != nil {
		rate = *ask.Rate
	}
	if ask.MaxFailures != nil {
		most = *ask.MaxFailures
	}
	if rate < 0 || rate > 1e6 {
		fail("rate", "must be from 0 (no limit) to 1000000 a second")
	}
	if most < 0 || most > math.MaxInt32 {
		fail("maxFailures", "must be 0 (no limit) or more")
	}
	if ask.by.Portal {
		bad = append(bad, paceForCustomer(ask.Again, rate, most)...)
	}
	if len(bad) > 0 {
		return operate.ReplayConfig{}, invalid(bad...)
	}
	var statuses []int
	for _, n := range ask.Statuses {
		statuses = append(statuses, int(n))
	}
	return operate.ReplayConfig{
		Name: ask.Name, Again: ask.Again, Rate: rate, MaxFailures: int(most),
		Filter: topic.Filter{
			Account: ask.Account, Subscription: ask.Subscription, Event: ask.Event, Reasons: ask.Reasons, Statuses: statuses,
			Since: since(ask.From), Until: ask.To, IDs: ask.IDs,
		},
	}, nil
}

// paceForCustomer says what is wrong with a replay or a backfill where it is asked for in the portal.
func paceForCustomer(again bool, rate float64, most whole) (bad []badField) {
	if again {
		bad = append(bad, badField{"again", "what was sent before is not sent again from here"})
	}
	if rate <= 0 || rate > portalReplayRate {
		bad = append(bad, badField{"rate", fmt.Sprintf("must be from 1 to %d a second", portalReplayRate)})
	}
	if most < 1 || most > defaultMaxFailures {
		bad = append(bad, badField{"maxFailures", fmt.Sprintf("must be from 1 to %d", defaultMaxFailures)})
	}
	return bad
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
	Name     string              `json:"name"`
	State    string              `json:"state"`
	Account  string              `json:"account,omitempty"` // the one it was asked for
	Sent     int64               `json:"sent"`
	Failures int64               `json:"failures"` // first attempts that are known to have failed
	Plan     *operate.ReplayPlan `json:"plan"`
	Started  time.Time           `json:"started"`
	Ended    *time.Time          `json:"ended,omitempty"`
	Error    string              `json:"error,omitempty"`

	Back    string        `json:"-"` // on its page: the list of dead letters that it was asked for from, without the scope's base
	form    *replayForm   // that it was asked for with; nil: a program asked
	sending time.Duration // how long it has been writing, or waiting for its rate
}

// Pace is how many it sends a second, 0 before the first.
func (s *replayStatus) Pace() float64 {
	if s.sending <= 0 {
		return 0
	}
	return float64(s.Sent) / s.sending.Seconds()
}

// Left is how long it will take to send the rest, in words; empty where that is not known, or it has ended.
func (s *replayStatus) Left() string {
	rest, pace := float64(int64(s.Plan.Send)-s.Sent), s.Pace()
	if s.State != replayRunning || pace == 0 || rest <= 0 {
		return ""
	}
	return length(max(time.Second, time.Duration(rest/pace*float64(time.Second))))
}

// Outcome is what became of it, in words; empty while it runs.
func (s *replayStatus) Outcome(portal bool) string {
	switch {
	case s.State == replayRunning:
		return ""
	case s.State == replayFailed && portal:
		return "It could not go on."
	case s.State == replayFailed:
		return sentence(s.Error)
	case s.State == replayCanceled:
		return fmt.Sprintf("Canceled, %d left.", max(0, int64(s.Plan.Send)-s.Sent))
	case s.Failures == 0:
		return "All sent, none failed at first."
	}
	return fmt.Sprintf("All sent, %d failed at first.", s.Failures)
}

// replays are those that this instance runs or ran. The replay topic records what each has sent, so any instance can
// continue one.
type replays struct {
	mu   sync.Mutex // guards all below
	list map[string]*runningReplay
	wait sync.WaitGroup
}

type runningReplay struct {
	replay *operate.Replay
	cancel context.CancelFunc
	status replayStatus
}

// Bounds of replays on one instance: more at once are not faster, and only the last ones that ended are remembered.
const (
	maxRunning = 4
	maxPortals = 2 // replays and backfills that were asked for in portals, one for each account: the others are the operators'
	maxEnded   = 100
)

// plan returns what a replay would send, and the replay itself.
func (p *panel) plan(ctx context.Context, ask *replayAsk) (*operate.Replay, *operate.ReplayPlan, error) {
	cfg, err := ask.config(p.catalogue(), time.Now())
	if err != nil {
		return nil, nil, err
	}
	release, err := p.budgets.scan(ctx, ask.by)
	if err != nil {
		return nil, nil, err
	}
	defer release()
	cfg.Gone = func(account, subscription string) bool { return p.Directory.Lookup(account, subscription) == nil }
	replay := operate.NewReplay(p.Kafka, cfg)
	plan, err := replay.Plan(ctx, nil, nil)
	if err != nil {
		return nil, nil, err
	}
	p.lookAtReceivers(ctx, ask.by, plan)
	if plan.Groups == nil {
		plan.Groups = []operate.DeadLetterCount{}
	}
	return replay, plan, nil
}

// lookAtReceivers notes in the plan which receivers do not get at once what is sent to them. A customer is told neither why nor which of our
// instances knows it.
func (p *panel) lookAtReceivers(ctx context.Context, s scope, plan *operate.ReplayPlan) {
	if plan.Send == 0 {
		return
	}
	lanes, silent := p.lanesNow(ctx, s.Account)
	plan.Look(p.configured, lanes, silent, time.Now())
	if s.Portal {
		plan.Silent = nil
		for i := range plan.Receivers {
			plan.Receivers[i].Why = ""
		}
	}
}

// receiver is what keeps a subscription from getting at once what is sent to it; nil: nothing that is known.
func (p *panel) receiver(ctx context.Context, s scope, account, subscription string, send int) *operate.Receiver {
	lanes, _ := p.lanesNow(ctx, account)
	r := operate.NewReceiver(account, subscription, send, p.configured(account, subscription), lanes, time.Now())
	if r != nil && s.Portal {
		r.Why = ""
	}
	return r
}

// configured is the state that a subscription has by its configuration.
func (p *panel) configured(account, subscription string) string {
	return operate.Configured(p.Directory.Lookup(account, subscription))
}

// lanesNow are the lanes of all instances, of one account or, where that is empty, of all. silent are the instances that did not tell theirs.
func (p *panel) lanesNow(ctx context.Context, account string) (lanes []operate.Lane, silent []string) {
	all, others := p.allLanes(ctx, func(l *dispatcher.LaneStatus) bool { return account == "" || l.Account == account })
	for _, l := range all {
		lanes = append(lanes, newLane(l))
	}
	for _, one := range others {
		silent = append(silent, one.URL)
	}
	return lanes, silent
}

// start starts a replay. The replay continues after ctx ends.
func (p *panel) start(ctx context.Context, by caller, ask *replayAsk) (replayStatus, error) {
	if _, err := ask.config(p.catalogue(), time.Now()); err != nil {
		return replayStatus{}, err
	}
	leave, err := p.budgets.send(ask.by)
	if err != nil {
		return replayStatus{}, err
	}
	begun := false
	defer func() {
		if !begun {
			leave()
		}
	}()
	running := &runningReplay{status: replayStatus{Name: ask.Name, State: replayRunning, Account: ask.Account, Started: time.Now().UTC(), form: ask.form}}
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
	begun = true
	p.replays.wait.Go(func() {
		defer leave()
		defer cancel()
		err := replay.Run(ctx, plan)
		p.replays.end(running, err)
	})
	p.record(by, &topic.EndpointEvent{
		Kind: topic.KindReplay, Account: ask.Account, Subscription: ask.Subscription, Detail: fmt.Sprintf("replay %s: %d to send", ask.Name, plan.Send),
	})
	status, _ := p.replays.get(ask.Name)
	return status, nil
}

// reserve takes the name, so that only one replay of that name runs at a time.
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
		return problemf(http.StatusConflict, "a replay of this name is already running")
	}
	if n >= maxRunning {
		return problemf(http.StatusConflict, "%d replays are running, which is the limit: wait until one ends, or cancel one", n)
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
	s.Sent, s.Failures, s.sending = r.replay.Sent(), r.replay.Failures(), r.replay.Sending()
	return s
}

// all returns those that keep selects, the newest first.
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

// cancel ends a replay if it is running.
func (r *replays) cancel(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if running := r.list[name]; running != nil && running.cancel != nil {
		running.cancel()
	}
}

// stop ends all replays and waits for them.
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

var errNoReplay = problemf(http.StatusNotFound, "this instance knows no replay of this name; replays that another instance runs are shown there")

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
	status, err := a.start(r.Context(), a.callerOf(r, scope{}), &ask)
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
