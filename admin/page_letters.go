package admin

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"fanout/dispatcher"
	"fanout/topic"
)

// shownLetters bounds the list on the page.
const shownLetters = 100

type lettersBody struct {
	Form     letterForm
	Reasons  []string
	Filtered bool
	List     letterList
	Replays  []replayStatus
	Problem  *problem
}

// letterForm is the filter as it was typed.
type letterForm struct{ Account, Subscription, Reason, From, To string }

func newLetterForm(r *http.Request, s scope) letterForm {
	return letterForm{own(s, r), r.Form.Get("subscription"), r.Form.Get("reason"), r.Form.Get("from"), r.Form.Get("to")}
}

// filtered says whether the form asks for some of the dead letters only; that they are of the portal's account is no
// filter.
func (f letterForm) filtered(s scope) bool {
	if s.Portal {
		f.Account = ""
	}
	return f != letterForm{}
}

// filter is what the form asks for; bad names what cannot be read.
func (f letterForm) filter() (filter topic.Filter, bad []badField) {
	filter = topic.Filter{Account: f.Account, Subscription: f.Subscription}
	if f.Reason != "" {
		filter.Reasons = []string{f.Reason}
		if !slices.Contains(dispatcher.DeadReasons(), f.Reason) {
			bad = append(bad, badField{"reason", "must be one of " + strings.Join(dispatcher.DeadReasons(), ", ")})
		}
	}
	filter.Since, bad = formTime(bad, "from", f.From)
	filter.Until, bad = formTime(bad, "to", f.To)
	return filter, bad
}

// formTime reads a time as a datetime-local field writes it, in UTC; the empty text is the zero time.
func formTime(bad []badField, name, text string) (time.Time, []badField) {
	if text == "" {
		return time.Time{}, bad
	}
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02T15:04"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, bad
		}
	}
	return time.Time{}, append(bad, badField{name, "must be a time such as 2006-01-02T15:04"})
}

func (p *pages) deadLetters(r *http.Request, s scope) (view, error) {
	form := newLetterForm(r, s)
	body := lettersBody{Form: form, Filtered: form.filtered(s), Reasons: dispatcher.DeadReasons()}
	body.Replays = p.replays.all(func(one *replayStatus) bool {
		return one.State == replayRunning && (!s.Portal || one.Account == s.Account)
	})
	v := view{Title: "Dead letters", Nav: "dead-letters", Hub: p.hubOf(form.Account, form.Subscription, "dead-letters")}
	filter, bad := form.filter()
	if len(bad) > 0 {
		body.Problem, v.Status = invalid(bad...), http.StatusUnprocessableEntity
		v.Body = body
		return v, nil
	}
	var err error
	body.List, err = p.letters(r.Context(), s, &filter, shownLetters)
	if s.Portal {
		for i := range body.List.DeadLetters {
			body.List.DeadLetters[i].forCustomer()
		}
	}
	v.Body = body
	return v, err
}

func (p *pages) deadLetter(r *http.Request, s scope) (view, error) {
	l, err := p.letterAt(r.Context(), r.Form.Get("at"))
	if err == nil && s.Portal && l.Account != s.Account {
		err = errNoLetter // the same as for one that does not exist
	}
	if err != nil {
		return view{}, err
	}
	if s.Portal {
		l.forCustomer()
	}
	return view{Title: "Dead letter " + l.Position, Nav: "dead-letters", Body: l}, nil
}
