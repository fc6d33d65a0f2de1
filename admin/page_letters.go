package admin

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"fanout/dispatcher"
	"fanout/operate"
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
	Index           string // how far the index is, in words, where it is not used; empty: there is nothing to say
	Presets         []presets
	Replays         []replayStatus
	Problem         *problem
}

// Running says whether a replay is under way.
func (b *lettersBody) Running() bool {
	return slices.ContainsFunc(b.Replays, func(one replayStatus) bool { return one.State == runRunning })
}

// Numbered says that the list knows how many match in all.
func (b *lettersBody) Numbered() bool { return b.List.Counted }

// ByFilter says whether a replay can take the filter, in place of dead letters that are ticked.
func (b *lettersBody) ByFilter() bool {
	return b.Form.Text == "" && b.Form.State != string(operate.LetterSettled)
}

// Progress says whether the reader should know how far the topic was looked at.
func (b *lettersBody) Progress() bool {
	return b.List.Unfinished || b.Index != "" && !b.List.Counted
}

// presets are values of one part of the filter, as addresses of the page.
type presets struct {
	Name string
	List []preset
}

// preset is one of them.
type preset struct {
	Text, At string
	Current  bool
}

// letterForm is the filter as it was typed.
type letterForm struct{ Account, Subscription, Event, Reason, Status, State, Text, From, To string }

func newLetterForm(r *http.Request, s scope) letterForm {
	f := func(name string) string { return strings.TrimSpace(r.Form.Get(name)) }
	form := letterForm{own(s, r), f("subscription"), f("event"), f("reason"), f("status"), f("state"), f("q"), f("from"), f("to")}
	if last, ok := lasts()[f("last")]; ok && form.From == "" {
		form.From = time.Now().UTC().Add(-last).Format("2006-01-02T15:04:05")
	}
	return form
}

// lasts are the times that an address may name with "last".
func lasts() map[string]time.Duration {
	return map[string]time.Duration{"1h": time.Hour, "24h": 24 * time.Hour, "7d": 7 * 24 * time.Hour}
}

// newPresets are the addresses of the page with another time, event, last answer or state.
func newPresets(r *http.Request, s scope, events []string) []presets {
	with := func(name, value string, without ...string) preset {
		q := r.URL.Query()
		one := preset{Current: q.Get(name) == value}
		for _, other := range append(without, name, "before") {
			one.Current = one.Current && (other == name || other == "before" || q.Get(other) == "")
			q.Del(other)
		}
		if value != "" {
			q.Set(name, value)
		}
		one.At = s.Base + "/dead-letters?" + q.Encode()
		return one
	}
	var all []presets
	add := func(title, name string, without []string, values ...[2]string) {
		one := presets{Name: title}
		for _, v := range values {
			p := with(name, v[1], without...)
			p.Text = v[0]
			one.List = append(one.List, p)
		}
		all = append(all, one)
	}
	times := [][2]string{{"last hour", "1h"}, {"24 hours", "24h"}, {"7 days", "7d"}, {"any time", ""}}
	add("Died within", "last", []string{"from", "to"}, times...)
	add("Last answer", "status", nil, [2]string{"404", "404"}, [2]string{"410", "410"}, [2]string{"429", "429"}, [2]string{"500", "500"}, [2]string{"503", "503"}, [2]string{"any", ""})
	var names [][2]string
	for _, name := range events {
		names = append(names, [2]string{name, name})
	}
	if len(names) <= maxEventPresets { // a catalogue of many is chosen from the form
		add("Event", "event", nil, append(names, [2]string{"any", ""})...)
	}
	add("State", "state", nil, [2]string{"open", "open"}, [2]string{"settled", "settled"}, [2]string{"any", ""})
	return all
}

// maxEventPresets is how many event names are shown as links.
const maxEventPresets = 12

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
	if f.State != "" && !slices.Contains(letterStates(), f.State) {
		bad = append(bad, badField{"state", "must be one of " + strings.Join(letterStates(), ", ")})
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
		Presets: newPresets(r, s, p.catalogue().Texts()), Newer: r.Form.Get("before") != "",
	}
	body.Replays = p.replays.all(func(one replayStatus) bool { return !s.Portal || one.Account == s.Account })
	body.Replays = body.Replays[:min(len(body.Replays), shownReplays)]
	v := view{Title: "Dead letters", Nav: "dead-letters", Hub: p.hubOf(form.Account, form.Subscription, "dead-letters")}
	filter, bad := form.filter()
	if len(bad) > 0 {
		body.Problem, v.Status = invalid(bad...), http.StatusUnprocessableEntity
		v.Body = &body
		return v, nil
	}
	var err error
	body.List, err = p.letters(r.Context(), s, &letterQuery{Filter: filter, Limit: shownLetters, Before: r.Form.Get("before"), Text: form.Text, State: form.State, Patience: p.searching})
	if err != nil {
		return view{}, err
	}
	if !body.Filtered && !s.Portal { // the groups of all are counted in the background
		_, groups, _ := p.tally.look(r.Context(), p.panel)
		body.List.Groups, body.List.More = groups.most()
	}
	if body.List.Cursor != "" {
		body.Older = s.Base + s.within(r, "before", body.List.Cursor)
	}
	if !body.List.Indexed && form.Account != "" {
		body.Index = p.indexProgress(s)
	}
	if s.Portal {
		for i := range body.List.DeadLetters {
			body.List.DeadLetters[i].forCustomer()
		}
	}
	v.Body = &body
	return v, nil
}

// indexProgress says in words how far the index is; empty where there is nothing to wait for.
func (p *pages) indexProgress(s scope) string {
	if p.LetterIndex == nil {
		return ""
	}
	at := p.LetterIndex.Status()
	switch {
	case at.Records > 0 && at.Unread > 0:
		return fmt.Sprintf("An index is being built, and has read %d %% of the topic. Once it has read all, the list comes at once.", 100*(at.Records-at.Unread)/at.Records)
	case at.Records >= 0 && !s.Portal:
		return "The index has no room for this account, so the topic is read."
	}
	return ""
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
