package admin

import (
	"cmp"
	"crypto/rand"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"fanout/operate"
)

// defaultPageRate is how many dead letters a second a replay of the dashboard sends, unless asked otherwise.
const defaultPageRate = 100

type planBody struct {
	Form    replayForm
	Plan    *operate.ReplayPlan // nil where there is a problem
	Problem *problem
}

// replayForm is what a replay is asked for, as it was typed. The page shows it again as hidden fields.
type replayForm struct {
	Letters     letterForm
	Name        string // of the replay; it is chosen before anything is sent, so that sending the form twice starts one replay
	Selected    bool   // IDs, and not the filter, say what is sent
	IDs         []string
	Rate        string
	MaxFailures string
	Again       bool
	Resume      bool // a replay of that name that has ended goes on
}

func newReplayForm(r *http.Request, s scope) replayForm {
	f := r.Form
	return replayForm{
		Letters: newLetterForm(r, s), Name: cmp.Or(f.Get("name"), newReplayName(time.Now())),
		Selected: f.Get("which") == "selected", IDs: slices.Clone(f["id"]),
		Rate: cmp.Or(f.Get("rate"), strconv.Itoa(pageRate(s))), MaxFailures: cmp.Or(f.Get("maxFailures"), strconv.Itoa(defaultMaxFailures)),
		Again: f.Get("again") != "", Resume: f.Get("resume") != "",
	}
}

// Resume is the form that has a replay go on that did not come to its end; nil where no form says what it was asked for.
func (s *replayStatus) Resume() *replayForm {
	if s.form == nil || s.State != runCanceled && s.State != runFailed {
		return nil
	}
	form := *s.form
	form.Resume = true
	return &form
}

// pageRate is the rate that a form begins with.
func pageRate(s scope) int {
	if s.Portal {
		return portalReplayRate
	}
	return defaultPageRate
}

// newReplayName differs from every other: two customers may ask within one millisecond.
func newReplayName(now time.Time) string {
	return "replay-" + now.UTC().Format("20060102-150405") + "-" + strings.ToLower(rand.Text()[:6])
}

// ask is the form as the API has it.
func (f *replayForm) ask(s scope) (*replayAsk, error) {
	ask := &replayAsk{runAsk: runAsk{Name: f.Name, Again: f.Again, by: s}, Account: f.Letters.Account, form: f}
	var bad []badField
	rate, most, bad := paceOf(bad, f.Rate, f.MaxFailures)
	ask.Rate, ask.MaxFailures = &rate, new(whole(most))
	if f.Selected {
		ask.IDs = f.IDs
		if len(ask.IDs) == 0 {
			return nil, problemf(http.StatusUnprocessableEntity, "nothing is selected: tick dead letters first, or replay all that the filter finds")
		}
	} else {
		filter, wrong := f.Letters.filter()
		bad = append(bad, wrong...)
		if f.Letters.Text != "" {
			return nil, problemf(http.StatusUnprocessableEntity, "a text is looked for in the list only: tick the dead letters that are meant")
		}
		if f.Letters.State == string(operate.LetterSettled) {
			return nil, problemf(http.StatusUnprocessableEntity, "a filter does not send settled dead letters again: tick those that are meant")
		}
		ask.Subscription, ask.Event, ask.Reasons, ask.From, ask.To = filter.Subscription, filter.Event, filter.Reasons, filter.Since, filter.Until
		for _, status := range filter.Statuses {
			ask.Statuses = append(ask.Statuses, whole(status))
		}
	}
	if len(bad) > 0 {
		return nil, invalid(bad...)
	}
	return ask, nil
}

// paceOf reads how fast something is sent, and after how many failures it stops.
func paceOf(bad []badField, rateText, mostText string) (rate float64, most int, wrong []badField) {
	rate, err := strconv.ParseFloat(rateText, 64)
	if err != nil || !(rate >= 1 && rate <= 1e6) {
		bad = append(bad, badField{"rate", "must be a number from 1 to 1000000"})
	}
	if most, err = strconv.Atoi(mostText); err != nil {
		bad = append(bad, badField{"maxFailures", "must be a whole number, or 0 for never"})
	}
	return rate, most, bad
}

// planReplay shows what a replay would send. It sends nothing.
func (p *pages) planReplay(r *http.Request, s scope) (view, error) {
	form := newReplayForm(r, s)
	ask, err := form.ask(s)
	return p.planView(r, form, ask, err)
}

// planView is the plan of a replay, or what is wrong with what was asked.
func (p *pages) planView(r *http.Request, form replayForm, ask *replayAsk, err error) (view, error) {
	v := view{Title: "Replay", Nav: "dead-letters"}
	body := planBody{Form: form}
	if err == nil {
		_, body.Plan, err = p.plan(r.Context(), ask)
	}
	if err != nil {
		bad := asProblem(err)
		if bad.Status == http.StatusServiceUnavailable {
			return view{}, err
		}
		body.Problem, v.Status = bad, bad.Status
	}
	v.Body = body
	return v, nil
}

// startReplay starts the replay whose plan was seen. The form again, of a reload or a double click, starts no other one.
func (p *pages) startReplay(r *http.Request, s scope) (view, error) {
	form := newReplayForm(r, s)
	ask, err := form.ask(s)
	if r.PostForm.Get("do") != "start" { // the plan was not seen
		if form.Selected { // they may be too many for an address
			return p.planView(r, form, ask, err)
		}
		return view{}, moved("/dead-letters/replay?" + r.Form.Encode())
	}
	if err == nil {
		if known, ok := p.replays.get(ask.Name); ok && (!form.Resume || known.Resume() == nil || known.Account != ask.Account) {
			if s.Portal && known.Account != s.Account {
				return view{}, problemf(http.StatusConflict, "another replay has this name: open the plan again")
			}
			return view{}, moved(replayPath(known.Name))
		}
		var begun replayStatus
		if begun, err = p.start(r.Context(), p.callerOf(r, s), ask); err == nil {
			return view{}, moved(replayPath(begun.Name))
		}
	}
	return p.planView(r, form, nil, err)
}

func (p *pages) replay(r *http.Request, s scope) (view, error) {
	one, err := p.ownReplay(r, s)
	if one.form != nil {
		one.Back = scope{Portal: s.Portal}.Letters(one.form.Letters)
	}
	return view{Title: "Replay", Nav: "dead-letters", Body: &one}, err
}

// ownReplay is the replay of the path; in the portal it must have been asked for by the account itself.
func (p *pages) ownReplay(r *http.Request, s scope) (replayStatus, error) {
	one, ok := p.replays.get(r.PathValue("name"))
	if !ok || s.Portal && one.Account != s.Account {
		return replayStatus{}, errNoReplay
	}
	return one, nil
}

// replayPath is where a replay is shown.
func replayPath(name string) string { return "/replays/" + url.PathEscape(name) }

func (p *pages) toReplay(r *http.Request, _ scope) (view, error) {
	return view{}, moved(replayPath(r.PathValue("name")))
}

func (p *pages) cancelReplay(r *http.Request, s scope) (view, error) {
	one, err := p.ownReplay(r, s)
	if err != nil {
		return view{}, err
	}
	p.replays.cancel(one.Name)
	return p.toReplay(r, s)
}
