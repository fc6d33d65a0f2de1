package admin

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"fanout/operate"
)

const (
	backfillPath = "/endpoints/backfill"
	// pagePlanPatience is how long the page waits for a plan. It can be begun without one.
	pagePlanPatience = 5 * time.Second
	formMinute       = "2006-01-02T15:04"
)

// backfillForm is what a backfill is asked for, as it was typed.
type backfillForm struct {
	Name, Account, ID, Topic, From, To, Rate, MaxFailures string
	Again                                                 bool
}

func newBackfillForm(r *http.Request) backfillForm {
	f := r.Form
	return backfillForm{
		Name:    cmp.Or(f.Get("name"), "backfill-"+time.Now().UTC().Format("20060102-150405")+"-"+strings.ToLower(rand.Text()[:6])),
		Account: f.Get("account"), ID: f.Get("id"), Topic: f.Get("topic"), From: f.Get("from"), To: f.Get("to"),
		Rate: cmp.Or(f.Get("rate"), strconv.Itoa(defaultPageRate)), MaxFailures: cmp.Or(f.Get("maxFailures"), strconv.Itoa(defaultMaxFailures)),
		Again: f.Get("again") != "",
	}
}

// ask is the form as the API has it.
func (f *backfillForm) ask() (*backfillAsk, error) {
	ask := &backfillAsk{Name: f.Name, Topic: f.Topic, Account: f.Account, Subscription: f.ID, Again: f.Again}
	var bad []badField
	ask.From, bad = formTime(bad, "from", f.From)
	ask.To, bad = formTime(bad, "to", f.To)
	rate, most, bad := paceOf(bad, f.Rate, f.MaxFailures)
	ask.Rate, ask.MaxFailures = &rate, new(whole(most))
	if len(bad) > 0 {
		return nil, invalid(bad...)
	}
	return ask, nil
}

type backfillBody struct {
	Form    backfillForm
	Sources []string
	Plan    *operate.BackfillPlan // nil where there is a problem, or Slow
	Slow    bool                  // nobody can say yet what it would send
	Problem *problem
}

// planBackfill shows what a backfill would send. It sends nothing.
func (p *pages) planBackfill(r *http.Request, _ scope) (view, error) {
	form := newBackfillForm(r)
	var cfg operate.BackfillConfig
	ask, err := form.ask()
	if err == nil {
		cfg, err = p.backfillConfig(ask)
	}
	var plan *operate.BackfillPlan
	if err == nil {
		plan, err = p.backfillPlan(r.Context(), &cfg, pagePlanPatience)
	}
	return p.backfillView(form, plan, err)
}

// backfillView is the plan of a backfill, or what is wrong with what was asked.
func (p *pages) backfillView(form backfillForm, plan *operate.BackfillPlan, err error) (view, error) {
	if p.Directory.Lookup(form.Account, form.ID) == nil {
		return view{}, errNoWebhook
	}
	v := view{Title: "Backfill", Nav: "endpoints", Hub: &hub{form.Account, form.ID, "backfill"}}
	body := backfillBody{Form: form, Sources: p.sources(), Plan: plan, Slow: errors.Is(err, context.DeadlineExceeded)}
	if err != nil && !body.Slow {
		bad := asProblem(err)
		if bad.Status == http.StatusServiceUnavailable {
			return view{}, err
		}
		body.Problem, v.Status = bad, bad.Status
	}
	v.Body = body
	return v, nil
}

// beginBackfill begins what was seen. The form again, of a reload or a double click, begins nothing else.
func (p *pages) beginBackfill(r *http.Request, s scope) (view, error) {
	form := newBackfillForm(r)
	if _, known := p.backfills.get(form.Name); known {
		return view{}, moved(backfillAt(form.Name))
	}
	ask, err := form.ask()
	var cfg operate.BackfillConfig
	if err == nil {
		cfg, err = p.backfillConfig(ask)
	}
	if err == nil {
		_, err = p.panel.backfill(r.Context(), p.callerOf(r, s), &cfg)
	}
	if err != nil {
		return p.backfillView(form, nil, err)
	}
	return view{}, moved(backfillAt(form.Name))
}

// backfillAt is where a backfill is shown.
func backfillAt(name string) string { return "/backfills/" + url.PathEscape(name) }

func (p *pages) backfill(r *http.Request, _ scope) (view, error) {
	one, known := p.backfills.get(r.PathValue("name"))
	if !known {
		return view{}, errNoBackfill
	}
	return view{Title: "Backfill", Nav: "endpoints", Hub: &hub{one.Account, one.Subscription, "backfill"}, Body: one}, nil
}

func (p *pages) toBackfill(r *http.Request, _ scope) (view, error) {
	return view{}, moved(backfillAt(r.PathValue("name")))
}

func (p *pages) endBackfill(r *http.Request, s scope) (view, error) {
	if !p.backfills.cancel(r.PathValue("name")) {
		return view{}, errNoBackfill
	}
	return p.toBackfill(r, s)
}
