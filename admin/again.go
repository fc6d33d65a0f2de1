package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"fanout/dispatcher"
	"fanout/event"
	"fanout/operate"
	"fanout/subscriptions"
	"fanout/topic"
	"fanout/webhook"
)

// resendDelivery sends one delivery again, or with dryRun says that it could be.
func (a *api) resendDelivery(w http.ResponseWriter, r *http.Request) error {
	var ask struct {
		DryRun bool `json:"dryRun"`
	}
	id := r.PathValue("id")
	if !webhook.ValidID(id) {
		return problemf(http.StatusNotFound, "there is no such webhook-id: it is msg_ and 26 characters")
	}
	if err := decode(r, &ask); err != nil {
		return err
	}
	found, err := a.resend(r.Context(), a.callerOf(r, scope{}), scope{}, id, ask.DryRun)
	if err != nil {
		return err
	}
	status := http.StatusAccepted
	if ask.DryRun {
		status = http.StatusOK
	}
	writeJSON(w, status, "application/json", found)
	return nil
}

// resend sends a delivery again; in the portal one of its account.
func (p *panel) resend(ctx context.Context, by caller, s scope, id string, dryRun bool) (*operate.Resend, error) {
	release, err := p.budgets.scan(ctx, s)
	if err != nil {
		return nil, err
	}
	defer release()
	found, err := operate.FindResend(ctx, p.Kafka, operate.ResendConfig{
		ID: id, Account: s.Account, Name: operate.ResendName(time.Now()),
		Wants: func(account, subscription string, name event.Name) string {
			return operate.Unwanted(p.Directory.Lookup(account, subscription), name)
		},
	})
	if err != nil {
		return nil, asRefusal(err, s)
	}
	found.Receiver = p.receiver(ctx, s, found.Account, found.Subscription, 1)
	if dryRun {
		return found, nil
	}
	if _, err := p.Kafka.Create(ctx, p.ReplayTopic); err != nil {
		return nil, err
	}
	if err := found.Send(ctx, p.Kafka); err != nil {
		return nil, err
	}
	p.record(by, &topic.EndpointEvent{Kind: topic.KindResent, Account: found.Account, Subscription: found.Subscription, Detail: found.ID})
	return found, nil
}

// asRefusal is the problem of a delivery that is not sent again. A customer is told nothing of our topics.
func asRefusal(err error, s scope) error {
	_, busy := errors.AsType[*operate.BusyError](err)
	_, unwanted := errors.AsType[*operate.UnwantedError](err)
	switch {
	case busy && s.Portal:
		return problemf(http.StatusConflict, "it is on its way already, or waits for its next attempt")
	case errors.Is(err, operate.ErrNoBody) && s.Portal:
		return problemf(http.StatusConflict, "the event that it was made of is no longer kept")
	case busy, unwanted, errors.Is(err, operate.ErrNoBody):
		return problemf(http.StatusConflict, "%v", err)
	case errors.Is(err, operate.ErrNoDelivery):
		return problemf(http.StatusNotFound, "%v", err)
	}
	return err
}

// backfillAsk says what a backfill plans again, and for whom.
type backfillAsk struct {
	runAsk
	Topic        string    `json:"topic"`
	Account      string    `json:"account"`
	Subscription string    `json:"subscription"`
	From         time.Time `json:"from"`
	To           time.Time `json:"to"`
}

// config is the backfill that is asked for. All that is wrong is said together.
func (ask *backfillAsk) config(sources []string, sub *subscriptions.Subscription, now time.Time) (operate.BackfillConfig, error) {
	var bad []badField
	fail := func(field, detail string) { bad = append(bad, badField{field, detail}) }
	if ask.Name == "" {
		ask.Name = operate.DefaultBackfillName(now)
	}
	rate, most := ask.check(fail)
	switch known := slices.Contains(sources, ask.Topic); {
	case !known && ask.by.Portal: // topics are ours
		fail("topic", "must be one of those that are offered")
	case !known:
		fail("topic", "must be a source: "+strings.Join(sources, ", "))
	}
	switch {
	case sub == nil:
		fail("subscription", "the account has no such subscription")
	case !sub.Enabled():
		fail("subscription", "is off: its deliveries would be discarded")
	}
	if ask.From.IsZero() {
		fail("from", "is required: a time such as 2006-01-02T15:04:05Z (RFC 3339)")
	}
	if !ask.To.IsZero() && !ask.From.Before(ask.To) {
		fail("to", "must be after from")
	}
	if len(bad) > 0 {
		return operate.BackfillConfig{}, invalid(bad...)
	}
	return operate.BackfillConfig{
		Name: ask.Name, Topic: ask.Topic, Account: ask.Account, Subscription: ask.Subscription, Since: since(ask.From), Until: ask.To, Again: ask.Again,
		Rate: rate, MaxFailures: most,
	}, nil
}

// backfillStatus is a backfill as the API shows it.
type backfillStatus struct {
	runStatus
	Topic        string                `json:"topic"`
	Account      string                `json:"account"`
	Subscription string                `json:"subscription"`
	Plan         *operate.BackfillPlan `json:"plan,omitempty"` // once the group has committed all that it is about
}

var errNoBackfill = problemf(http.StatusNotFound, "this instance knows no backfill of this name; backfills that another instance runs are shown there")

// planPatience is how long a dry run waits for the group to commit all that the backfill is about.
const planPatience = time.Minute

// backfillConfig is the backfill that is asked for, ready to plan.
func (p *panel) backfillConfig(ask *backfillAsk) (operate.BackfillConfig, error) {
	cfg, err := ask.config(p.sources(), p.Directory.Lookup(ask.Account, ask.Subscription), time.Now())
	cfg.Plan = dispatcher.NewPlanner(p.Directory).Plan
	return cfg, err
}

// backfill begins a backfill that somebody in the scope asks for. It goes on after ctx.
func (p *panel) backfill(ctx context.Context, s scope, by caller, cfg *operate.BackfillConfig) (backfillStatus, error) {
	status, err := begin(ctx, p, p.backfills, s, cfg.Name, func(context.Context) (*running[backfillStatus], error) {
		backfill := operate.NewBackfill(p.Kafka, *cfg)
		var known atomic.Pointer[operate.BackfillPlan]
		return &running[backfillStatus]{
			show: func(run runStatus) backfillStatus {
				run.Sent, run.Failures = backfill.Sent(), backfill.Failures()
				return backfillStatus{runStatus: run, Topic: cfg.Topic, Account: cfg.Account, Subscription: cfg.Subscription, Plan: known.Load()}
			},
			run: func(ctx context.Context) error {
				plan, err := backfill.Plan(ctx)
				if err != nil {
					return err
				}
				known.Store(plan)
				return backfill.Run(ctx, plan)
			},
		}, nil
	})
	if err != nil {
		return backfillStatus{}, err
	}
	p.record(by, &topic.EndpointEvent{
		Kind: topic.KindBackfill, Account: cfg.Account, Subscription: cfg.Subscription, Detail: fmt.Sprintf("backfill %s of %s", cfg.Name, cfg.Topic),
	})
	return status, nil
}

func (a *api) startBackfill(w http.ResponseWriter, r *http.Request) error {
	var ask backfillAsk
	if err := decode(r, &ask); err != nil {
		return err
	}
	cfg, err := a.backfillConfig(&ask)
	if err != nil {
		return err
	}
	if ask.DryRun {
		return a.planBackfill(w, r, &cfg)
	}
	status, err := a.backfill(r.Context(), scope{}, a.callerOf(r, scope{}), &cfg)
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/api/v1/backfills/"+status.Name)
	writeJSON(w, http.StatusAccepted, "application/json", status)
	return nil
}

func (a *api) planBackfill(w http.ResponseWriter, r *http.Request, cfg *operate.BackfillConfig) error {
	plan, err := a.backfillPlan(r.Context(), scope{}, cfg, planPatience)
	if errors.Is(err, context.DeadlineExceeded) {
		return problemf(http.StatusServiceUnavailable, "the group has not committed all that the backfill is about: begin it without dryRun, and it waits")
	}
	if err != nil {
		return err
	}
	plan.Receiver = a.receiver(r.Context(), scope{}, plan.Account, plan.Subscription, plan.Send)
	writeJSON(w, http.StatusOK, "application/json", plan)
	return nil
}

// backfillPlan is what a backfill would send now. The error is context.DeadlineExceeded where that is not known in time.
func (p *panel) backfillPlan(ctx context.Context, s scope, cfg *operate.BackfillConfig, patience time.Duration) (*operate.BackfillPlan, error) {
	if s.Portal {
		release, err := p.budgets.scan(ctx, s)
		if err != nil {
			return nil, err
		}
		defer release()
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return operate.NewBackfill(p.Kafka, *cfg).Plan(ctx)
}

func (a *api) getBackfill(w http.ResponseWriter, r *http.Request) error {
	return getRun(w, r, a.backfills, errNoBackfill)
}

func (a *api) cancelBackfill(w http.ResponseWriter, r *http.Request) error {
	return cancelRun(w, r, a.backfills, errNoBackfill)
}
