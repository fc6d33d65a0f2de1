package admin

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"fanout/dispatcher"
	"fanout/topic"
)

// shownLetters bounds the list on the page.
const shownLetters = 100

type lettersBody struct {
	Form            letterForm
	Events, Reasons []string
	Filtered        bool
	List            letterList
	Newer           bool   // there is a page before this
	Older           string // the address of the page behind this; empty: there is none
	Presets         []preset
	Replays         []replayStatus
	Problem         *problem
}

// Running says whether a replay is under way.
func (b *lettersBody) Running() bool {
	return slices.ContainsFunc(b.Replays, func(one replayStatus) bool { return one.State == replayRunning })
}

// preset is a filter by time, as an address.
type preset struct{ Text, At string }

// letterForm is the filter as it was typed.
type letterForm struct{ Account, Subscription, Event, Reason, Status, Text, From, To string }

func newLetterForm(r *http.Request, s scope) letterForm {
	f := func(name string) string { return strings.TrimSpace(r.Form.Get(name)) }
	form := letterForm{own(s, r), f("subscription"), f("event"), f("reason"), f("status"), f("q"), f("from"), f("to")}
	if last, ok := lasts()[f("last")]; ok && form.From == "" {
		form.From = time.Now().UTC().Add(-last).Format("2006-01-02T15:04:05")
	}
	return form
}

// lasts are the times that an address may name with "last".
func lasts() map[string]time.Duration {
	return map[string]time.Duration{"1h": time.Hour, "24h": 24 * time.Hour, "7d": 7 * 24 * time.Hour}
}

// presets are the addresses of the page with another time.
func presets(r *http.Request, s scope) (list []preset) {
	for _, one := range [][2]string{{"last hour", "1h"}, {"24 hours", "24h"}, {"7 days", "7d"}, {"any time", ""}} {
		q := r.URL.Query()
		for _, name := range []string{"from", "to", "before", "last"} {
			q.Del(name)
		}
		if one[1] != "" {
			q.Set("last", one[1])
		}
		list = append(list, preset{one[0], s.Base + "/dead-letters?" + q.Encode()})
	}
	return list
}

// filtered says whether the form asks for some of the dead letters only; that they are of the portal's account is no
// filter.
func (f letterForm) filtered(s scope) bool {
	if s.Portal {
		f.Account = ""
	}
	return f != letterForm{}
}

// filter is what the form asks for, but for the text; bad names what cannot be read.
func (f letterForm) filter() (filter topic.Filter, bad []badField) {
	filter = topic.Filter{Account: f.Account, Subscription: f.Subscription, Event: f.Event}
	if f.Reason != "" {
		filter.Reasons = []string{f.Reason}
		if !slices.Contains(dispatcher.DeadReasons(), f.Reason) {
			bad = append(bad, badField{"reason", "must be one of " + strings.Join(dispatcher.DeadReasons(), ", ")})
		}
	}
	if f.Status != "" {
		status, err := strconv.Atoi(f.Status)
		if err != nil || status < 100 || status > 999 {
			bad = append(bad, badField{"status", "must be an HTTP status such as 503"})
		}
		filter.Statuses = []int{status}
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
	body := lettersBody{
		Form: form, Filtered: form.filtered(s), Reasons: dispatcher.DeadReasons(), Events: p.catalogue().Texts(),
		Presets: presets(r, s), Newer: r.Form.Get("before") != "",
	}
	body.Replays = p.replays.all(func(one *replayStatus) bool { return !s.Portal || one.Account == s.Account })
	body.Replays = body.Replays[:min(len(body.Replays), shownReplays)]
	v := view{Title: "Dead letters", Nav: "dead-letters", Hub: p.hubOf(form.Account, form.Subscription, "dead-letters")}
	filter, bad := form.filter()
	if len(bad) > 0 {
		body.Problem, v.Status = invalid(bad...), http.StatusUnprocessableEntity
		v.Body = &body
		return v, nil
	}
	var err error
	body.List, err = p.letters(r.Context(), s, &letterQuery{Filter: filter, Limit: shownLetters, Before: r.Form.Get("before"), Text: form.Text, Groups: true})
	if err != nil {
		return view{}, err
	}
	if !body.Filtered && !s.Portal { // the groups of all are counted in the background
		_, groups, _ := p.tally.look(r.Context(), p.panel)
		body.List.Groups, body.List.More = groups.most()
	}
	if body.List.Next != "" {
		body.Older = s.Base + s.within(r, "before", body.List.Next)
	}
	if s.Portal {
		for i := range body.List.DeadLetters {
			body.List.DeadLetters[i].forCustomer()
		}
	}
	v.Body = &body
	return v, nil
}

// shownReplays bounds the history of replays on the page.
const shownReplays = 10

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
