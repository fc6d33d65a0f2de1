package admin

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"fanout/consumer"
	"fanout/dispatcher"
)

// shownLetters bounds the list on the page.
const shownLetters = 100

type lettersBody struct {
	F                consumer.Filter
	Reason, From, To string
	Reasons          []string
	Filtered         bool
	List             letterList
	Replays          []replayStatus
	Problem          *problem
}

func (p *pages) deadLetters(r *http.Request, s scope) (view, error) {
	body := lettersBody{Reason: r.Form.Get("reason"), From: r.Form.Get("from"), To: r.Form.Get("to"), Reasons: dispatcher.DeadReasons()}
	body.Filtered = r.Form.Get("account") != "" || r.Form.Get("subscription") != "" || body.Reason != "" || body.From != "" || body.To != ""
	var bad []badField
	var err error
	if body.F.Since, err = parseFormTime(body.From); err != nil {
		bad = append(bad, badField{"from", "is no time"})
	}
	if body.F.Until, err = parseFormTime(body.To); err != nil {
		bad = append(bad, badField{"to", "is no time"})
	}
	body.F.Account, body.F.Subscription = own(s, r), r.Form.Get("subscription")
	if body.Reason != "" {
		body.F.Reasons = []string{body.Reason}
	}
	body.Replays = p.replays.all(func(one *replayStatus) bool {
		return one.State == replayRunning && (!s.Portal || one.Account == s.Account)
	})
	v := view{Title: "Dead letters", Nav: "dead-letters"}
	if len(bad) > 0 {
		body.Problem = invalid(bad...)
	} else if body.List, err = p.letters(r.Context(), &body.F, shownLetters); err != nil {
		return view{}, err
	}
	v.Body = body
	return v, nil
}

func (p *pages) deadLetter(r *http.Request, s scope) (view, error) {
	l, err := p.letterAt(r.Context(), r.Form.Get("at"))
	if err == nil && s.Portal && l.Account != s.Account {
		err = errNoLetter // it says no more than of one that does not exist
	}
	if err != nil {
		return view{}, err
	}
	return view{Title: "Dead letter " + l.Position, Nav: "dead-letters", Body: l}, nil
}

type planBody struct {
	Plan        *consumer.ReplayPlan
	Problem     *problem
	Hidden      []hidden
	Rate        string
	MaxFailures string
	Again       bool
}

type hidden struct{ Name, Value string }

// planReplay shows what a replay would send, and begins it once that was seen.
func (p *pages) planReplay(r *http.Request, s scope) (view, error) {
	f := r.PostForm
	body := planBody{Rate: f.Get("rate"), MaxFailures: f.Get("maxFailures"), Again: f.Get("again") != ""}
	if body.Rate == "" {
		body.Rate = "100"
	}
	if body.MaxFailures == "" {
		body.MaxFailures = strconv.Itoa(defaultMaxFailures)
	}
	for _, name := range []string{"which", "account", "subscription", "reason", "from", "to", "id"} {
		for _, value := range f[name] {
			body.Hidden = append(body.Hidden, hidden{name, value})
		}
	}
	v := view{Title: "Replay", Nav: "dead-letters"}
	ask, err := replayForm(r, s, &body)
	if err == nil && f.Get("do") == "start" {
		var begun replayStatus
		if begun, err = p.start(r.Context(), ask); err == nil {
			return view{}, moved("/replays/" + begun.Name)
		}
	}
	if err == nil {
		_, body.Plan, err = p.plan(r.Context(), ask)
	}
	if err != nil {
		body.Problem = asProblem(err)
	}
	v.Body = body
	return v, nil
}

// replayForm is what a form asks for; in the portal of its own account only.
func replayForm(r *http.Request, s scope, body *planBody) (*replayAsk, error) {
	f := r.PostForm
	ask := &replayAsk{Account: own(s, r), Again: body.Again}
	rate, rateErr := strconv.ParseFloat(body.Rate, 64)
	most, mostErr := strconv.Atoi(body.MaxFailures)
	if rateErr != nil || rate < 1 || mostErr != nil {
		return nil, invalid(badField{"rate", "want whole numbers"})
	}
	ask.Rate, ask.MaxFailures = &rate, new(whole(most))
	if f.Get("which") == "selected" {
		if ask.IDs = slices.Clone(f["id"]); len(ask.IDs) == 0 {
			return nil, problemf(http.StatusUnprocessableEntity, "nothing is selected: tick dead letters first, or replay all that the filter shows")
		}
		return ask, nil
	}
	ask.Subscription = f.Get("subscription")
	if reason := f.Get("reason"); reason != "" {
		ask.Reasons = []string{reason}
	}
	var err error
	if ask.From, err = parseFormTime(f.Get("from")); err == nil {
		ask.To, err = parseFormTime(f.Get("to"))
	}
	if err != nil {
		return nil, fmt.Errorf("time: %w", err)
	}
	return ask, nil
}

type replayBody struct {
	replayStatus
	Base string
}

func (p *pages) replay(r *http.Request, s scope) (view, error) {
	one, err := p.ownReplay(r, s)
	if err != nil {
		return view{}, err
	}
	return view{Title: "Replay", Nav: "dead-letters", Body: replayBody{one, s.Base}}, nil
}

// ownReplay is the replay of the path; in the portal one that was asked for by the account itself.
func (p *pages) ownReplay(r *http.Request, s scope) (replayStatus, error) {
	one, ok := p.replays.get(r.PathValue("name"))
	if !ok || s.Portal && one.Account != s.Account {
		return replayStatus{}, errNoReplay
	}
	return one, nil
}

func (p *pages) stopReplay(r *http.Request, s scope) (view, error) {
	one, err := p.ownReplay(r, s)
	if err != nil {
		return view{}, err
	}
	p.replays.cancel(one.Name)
	return view{}, moved("/replays/" + one.Name)
}
