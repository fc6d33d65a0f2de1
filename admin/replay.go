package admin

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"fanout/dispatcher"
	"fanout/event"
	"fanout/operate"
	"fanout/topic"
)

// replayAsk selects what a replay sends. Without any selection that is every dead letter.
type replayAsk struct {
	runAsk
	Account      string    `json:"account"`
	Subscription string    `json:"subscription"`
	Event        string    `json:"event"`
	Reasons      []string  `json:"reasons"`
	Statuses     []whole   `json:"statuses"`
	From         time.Time `json:"from"`
	To           time.Time `json:"to"`
	IDs          []string  `json:"ids"` // webhook-ids, or positions

	form *replayForm // that it was asked for with; nil: a program asks
}

const maxReplayIDs = 1000

func (ask *replayAsk) config(c *event.Catalogue, now time.Time) (operate.ReplayConfig, error) {
	var bad []badField
	fail := func(field, detail string) { bad = append(bad, badField{field, detail}) }
	if ask.Name == "" {
		ask.Name = "replay-" + now.UTC().Format("20060102-150405.000")
	}
	rate, most := ask.check(fail)
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
	if len(bad) > 0 {
		return operate.ReplayConfig{}, invalid(bad...)
	}
	var statuses []int
	for _, n := range ask.Statuses {
		statuses = append(statuses, int(n))
	}
	return operate.ReplayConfig{
		Name: ask.Name, Again: ask.Again, Rate: rate, MaxFailures: most,
		Filter: topic.Filter{
			Account: ask.Account, Subscription: ask.Subscription, Event: ask.Event, Reasons: ask.Reasons, Statuses: statuses,
			Since: since(ask.From), Until: ask.To, IDs: ask.IDs,
		},
	}, nil
}

// replayStatus is a replay as the API and the pages show it.
type replayStatus struct {
	runStatus
	Account string              `json:"account,omitempty"` // the one it was asked for
	Plan    *operate.ReplayPlan `json:"plan"`

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
	if s.State != runRunning || pace == 0 || rest <= 0 {
		return ""
	}
	return length(max(time.Second, time.Duration(rest/pace*float64(time.Second))))
}

// Outcome is what became of it, in words; empty while it runs.
func (s *replayStatus) Outcome(portal bool) string {
	switch {
	case s.State == runRunning:
		return ""
	case s.State == runFailed && portal:
		return "It could not go on."
	case s.State == runFailed:
		return sentence(s.Error)
	case s.State == runCanceled:
		return fmt.Sprintf("Canceled, %d left.", max(0, int64(s.Plan.Send)-s.Sent))
	case s.Failures == 0:
		return "All sent, none failed at first."
	}
	return fmt.Sprintf("All sent, %d failed at first.", s.Failures)
}

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
	status, err := begin(ctx, p, p.replays, ask.by, ask.Name, func(ctx context.Context) (*running[replayStatus], error) {
		replay, plan, err := p.plan(ctx, ask)
		return &running[replayStatus]{
			show: func(run runStatus) replayStatus {
				run.Sent, run.Failures = replay.Sent(), replay.Failures()
				return replayStatus{runStatus: run, Account: ask.Account, Plan: plan, form: ask.form, sending: replay.Sending()}
			},
			run: func(ctx context.Context) error { return replay.Run(ctx, plan) },
		}, err
	})
	if err != nil {
		return replayStatus{}, err
	}
	p.record(by, &topic.EndpointEvent{
		Kind: topic.KindReplay, Account: ask.Account, Subscription: ask.Subscription, Detail: fmt.Sprintf("replay %s: %d to send", ask.Name, status.Plan.Send),
	})
	return status, nil
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
	return getRun(w, r, a.replays, errNoReplay)
}

func (a *api) cancelReplay(w http.ResponseWriter, r *http.Request) error {
	return cancelRun(w, r, a.replays, errNoReplay)
}
