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
	"fanout/topic"
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

func newBackfillForm(r *http.Request, s scope) backfillForm {
	f := r.Form
	return backfillForm{
		Name:    cmp.Or(f.Get("name"), "backfill-"+time.Now().UTC().Format("20060102-150405")+"-"+strings.ToLower(rand.Text()[:6])),
		Account: own(s, r), ID: f.Get("id"), Topic: f.Get("topic"), From: f.Get("from"), To: f.Get("to"),
		Rate: cmp.Or(f.Get("rate"), strconv.Itoa(pageRate(s))), MaxFailures: cmp.Or(f.Get("maxFailures"), strconv.Itoa(defaultMaxFailures)),
		Again: f.Get("again") != "",
	}
}

// ask is the form as the API has it. The source is one of those that it offers.
func (f *backfillForm) ask(s scope, sources []sourceChoice) (*backfillAsk, error) {
	ask := &backfillAsk{runAsk: runAsk{Name: f.Name, Again: f.Again, by: s}, Account: f.Account, Subscription: f.ID}
	for _, one := range sources {
		if one.Value == f.Topic {
			ask.Topic = one.topic
		}
	}
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
	Sources []sourceChoice
	Plan    *operate.BackfillPlan // nil where there is a problem, or Slow
	Slow    bool                  // nobody can say yet what it would send
	Problem *problem
}

// sourceChoice is a source as a form offers it: to operators by its topic, to customers by its channel, since topics are ours.
type sourceChoice struct{ Value, Text, topic string }

func (p *panel) sourceChoices(s scope) (list []sourceChoice) {
	cfg := p.Kafka.Config()
	channels := make(map[string]string) // by topic
	for _, channel := range p.catalogue().Channels() {
		channels[topic.DefaultTopic(channel)] = channel
	}
	for _, one := range cfg.Sources {
		if one.Channel != "" {
			channels[one.Topic] = one.Channel
		}
	}
	for i, name := range p.sources() {
		one := sourceChoice{name, name, name}
		if s.Portal {
			one.Value = strconv.Itoa(i + 1)
			one.Text = cmp.Or(channels[name], "Source "+one.Value)
		}
		list = append(list, one)
	}
	return list
}

// backfillAsked is what the form asks for. There must be such a webhook, of the account itself in the portal, and the link must not be for
// looking only: to plan a backfill takes as long as to read a topic.
func (p *pages) backfillAsked(r *http.Request, s scope) (form backfillForm, cfg operate.BackfillConfig, bad, err error) {
	form = newBackfillForm(r, s)
	if p.Directory.Lookup(form.Account, form.ID) == nil {
		return form, cfg, nil, errNoWebhook
	}
	if s.ReadOnly {
		return form, cfg, nil, errReadOnly
	}
	ask, bad := form.ask(s, p.sourceChoices(s))
	if bad == nil {
		cfg, bad = p.backfillConfig(ask)
	}
	return form, cfg, bad, nil
}

// planBackfill shows what a backfill would send. It sends nothing.
func (p *pages) planBackfill(r *http.Request, s scope) (view, error) {
	form, cfg, bad, err := p.backfillAsked(r, s)
	if err != nil {
		return view{}, err
	}
	var plan *operate.BackfillPlan
	if bad == nil {
		plan, bad = p.backfillPlan(r.Context(), s, &cfg, pagePlanPatience)
	}
	return p.backfillView(form, s, plan, bad)
}

// backfillView is the plan of a backfill, or what is wrong with what was asked.
func (p *pages) backfillView(form backfillForm, s scope, plan *operate.BackfillPlan, err error) (view, error) {
	v := view{Title: "Backfill", Nav: "endpoints", Hub: &hub{form.Account, form.ID, "backfill"}}
	body := backfillBody{Form: form, Sources: p.sourceChoices(s), Plan: plan, Slow: errors.Is(err, context.DeadlineExceeded)}
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
	form, cfg, bad, err := p.backfillAsked(r, s)
	if err != nil {
		return view{}, err
	}
	if known, ok := p.backfills.get(form.Name); ok {
		if s.Portal && known.Account != s.Account {
			return view{}, problemf(http.StatusConflict, "another backfill has this name: open the plan again")
		}
		return view{}, moved(backfillAt(form.Name))
	}
	if bad == nil {
		_, bad = p.panel.backfill(r.Context(), s, p.callerOf(r, s), &cfg)
	}
	if bad != nil {
		return p.backfillView(form, s, nil, bad)
	}
	return view{}, moved(backfillAt(form.Name))
}

// backfillAt is where a backfill is shown.
func backfillAt(name string) string { return "/backfills/" + url.PathEscape(name) }

func (p *pages) backfill(r *http.Request, s scope) (view, error) {
	one, err := p.ownBackfill(r, s)
	if err != nil {
		return view{}, err
	}
	return view{Title: "Backfill", Nav: "endpoints", Hub: &hub{one.Account, one.Subscription, "backfill"}, Body: one}, nil
}

// ownBackfill is the backfill of the path; in the portal it must be of the account itself.
func (p *pages) ownBackfill(r *http.Request, s scope) (backfillStatus, error) {
	one, known := p.backfills.get(r.PathValue("name"))
	if !known || s.Portal && one.Account != s.Account {
		return backfillStatus{}, errNoBackfill
	}
	return one, nil
}

func (p *pages) toBackfill(r *http.Request, _ scope) (view, error) {
	return view{}, moved(backfillAt(r.PathValue("name")))
}

func (p *pages) endBackfill(r *http.Request, s scope) (view, error) {
	one, err := p.ownBackfill(r, s)
	if err != nil {
		return view{}, err
	}
	p.backfills.cancel(one.Name)
	return p.toBackfill(r, s)
}
