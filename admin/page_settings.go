package admin

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"fanout/dispatcher"
	"fanout/event"
	"fanout/subscriptions"
)

// settingsBody is the product page's own tab (spec/events-webhook.txt): an account, its webhooks, and one of them open.
type settingsBody struct {
	Account    string
	Webhooks   []webhookLink
	Action     string // where the forms go
	Problem    *problem
	Bad        map[string]string // what is wrong, by field
	Said, Undo string
	Secret     string // made just now: this is its only showing
	PublicKey  string
	Link       *portalLink
	CanLink    bool
	Code       []codeSample
	Unreadable string

	New                       bool
	ID, URL, Description      string
	Events                    []eventBox
	Enabled, Paused, More     bool
	MaxInFlight, MaxPerSecond string
	Headers                   string // one a line, masked
	Secrets                   int
	star                      bool // every event is selected, those to come too

	Samples []string
	Sample  string
	Tested  *tested
}

type webhookLink struct {
	ID, Note string
	Current  bool
}

type eventBox struct {
	Name, Description, Sample string
	On                        bool
}

// settings opens an account: the webhook that the query names, else its first, else a new one with nothing ticked.
func (p *pages) settings(r *http.Request, s scope) (view, error) {
	body, err := p.settingsOf(r, s, r.Form.Get("id"), r.Form.Has("new"))
	return view{Title: "Events Webhook", Nav: "settings", Body: body}, err
}

func (p *pages) settingsOf(r *http.Request, s scope, id string, fresh bool) (*settingsBody, error) {
	body := &settingsBody{Account: own(s, r), Bad: map[string]string{}, Code: p.code, Enabled: true, New: true, CanLink: p.portalKey != nil && !s.Portal}
	if body.Account == "" {
		return body, nil
	}
	if bad := subscriptions.CheckIdentity(body.Account, "x"); bad != nil {
		body.Problem, body.Account = asProblem(bad), ""
		return body, nil
	}
	list, err := p.Store.List(r.Context(), body.Account)
	if err != nil {
		return nil, err
	}
	var open *subscriptions.Stored
	for i := range list {
		if list[i].ID == id || id == "" && i == 0 && !fresh {
			open = &list[i]
		}
	}
	for i := range list {
		body.Webhooks = append(body.Webhooks, webhookLink{list[i].ID, note(&list[i]), open == &list[i]})
	}
	if open != nil {
		body.load(open)
	} else {
		body.ID = freeID(list)
		body.box(0)
	}
	body.Action = s.Base + "/settings/events-webhook?" + p.query(s, body)
	return body, nil
}

// query brings a form's answer back to the webhook that it is about.
func (p *pages) query(s scope, body *settingsBody) string {
	q := url.Values{}
	if !s.Portal {
		q.Set("account", body.Account)
	}
	if body.New {
		q.Set("new", "1")
	} else {
		q.Set("id", body.ID)
	}
	return q.Encode()
}

// freeID is a name for a new webhook.
func freeID(list []subscriptions.Stored) string {
	for n := 1; ; n++ {
		id := "webhook-" + strconv.Itoa(n)
		if !slices.ContainsFunc(list, func(s subscriptions.Stored) bool { return s.ID == id }) {
			return id
		}
	}
}

// note is a webhook in a line.
func note(stored *subscriptions.Stored) string {
	sub, bad := subscriptions.Parse(stored.Account, stored.ID, stored.JSON)
	host := ""
	if u, err := url.Parse(sub.URL()); err == nil {
		host = u.Host
	}
	switch {
	case bad != nil:
		return "not valid"
	case !sub.Enabled():
		return host + ", disabled"
	case sub.Paused():
		return host + ", paused"
	}
	return host
}

// storedForm is what the form shows of a stored subscription: masked, and only what has the right shape.
type storedForm struct {
	URL          string            `json:"url"`
	Events       []string          `json:"events"`
	Description  string            `json:"description"`
	Headers      map[string]string `json:"headers"`
	Secrets      []string          `json:"secrets"`
	MaxInFlight  json.Number       `json:"maxInFlight"`
	MaxPerSecond json.Number       `json:"maxPerSecond"`
}

func (b *settingsBody) load(stored *subscriptions.Stored) {
	b.New, b.ID = false, stored.ID
	sub, bad := subscriptions.Parse(stored.Account, stored.ID, stored.JSON)
	if bad != nil {
		b.Unreadable = bad.Error()
	}
	var form storedForm
	if err := json.Unmarshal(subscriptions.Masked(stored.JSON), &form); err != nil && bad == nil {
		b.Unreadable = "its form"
	}
	b.URL, b.Description, b.Secrets, b.star = form.URL, form.Description, len(form.Secrets), slices.Equal(form.Events, []string{"*"})
	b.Enabled, b.Paused = sub.Enabled(), sub.Paused()
	b.MaxInFlight, b.MaxPerSecond = form.MaxInFlight.String(), form.MaxPerSecond.String()
	var lines []string
	for name, value := range form.Headers {
		lines = append(lines, name+": "+value)
	}
	slices.Sort(lines)
	b.Headers = strings.Join(lines, "\n")
	b.More = !b.Enabled || b.Paused || b.Description != "" || b.MaxInFlight != "" || b.MaxPerSecond != "" || b.Headers != ""
	b.box(sub.Events())
	for _, name := range sub.Events().Names() {
		b.Samples = append(b.Samples, name.String())
	}
}

// box makes a checkbox of each event name.
func (b *settingsBody) box(on event.Set) {
	b.Events = nil
	for _, name := range event.Names() {
		sample := event.Event{Name: name, TrackingID: "abc123", NotificationID: "welcome-email", UserID: "user-123"}
		b.Events = append(b.Events, eventBox{name.String(), name.Description(), string(dispatcher.Body(&sample)), on.Has(name)})
	}
}

// changeSettings does what a button asks for, and answers with the tab as it is then: a secret that was made is part of
// that answer and of no other.
func (p *pages) changeSettings(r *http.Request, s scope) (view, error) {
	account, id, action := own(s, r), r.PostForm.Get("id"), r.PostForm.Get("action")
	if bad := subscriptions.CheckIdentity(account, "x"); bad != nil {
		return view{}, bad
	}
	var change func(*settingsBody) error // what the answer shows besides
	var err error
	fresh := false
	switch action {
	case "save":
		return p.save(r, s)
	case "delete":
		var undo string
		if undo, err = p.deleteUndoably(r.Context(), account, id); err == nil {
			deleted := id
			id = ""
			change = func(b *settingsBody) error {
				b.Said, b.Undo = deleted+" is deleted. Nothing is sent to it any more.", undo
				return nil
			}
		}
	case "undo":
		if id, err = p.undo(r.Context(), account, r.PostForm.Get("undo")); err == nil {
			change = func(b *settingsBody) error { b.Said = id + " is back."; return nil }
		}
	case "test":
		var result tested
		if result, err = p.test(r.Context(), account, id, r.PostForm.Get("sample")); err == nil {
			change = func(b *settingsBody) error { b.Tested, b.Sample = &result, result.Event; return nil }
		}
	case "rotate", "retire":
		change, err = p.changeSecrets(r, account, id, action)
	case "link", "revoke":
		if s.Portal {
			return view{}, problemf(http.StatusForbidden, "a portal link makes no portal links")
		}
		change, err = p.changeLinks(r, account, action)
		id, fresh = r.Form.Get("id"), r.Form.Has("new")
	default:
		err = problemf(http.StatusUnprocessableEntity, "action %q is not known", action)
	}
	if err != nil {
		return view{}, err
	}
	body, err := p.settingsOf(r, s, id, fresh)
	if err == nil {
		err = change(body)
	}
	return view{Title: "Events Webhook", Nav: "settings", Body: body}, err
}

func (p *pages) changeSecrets(r *http.Request, account, id, action string) (func(*settingsBody) error, error) {
	if action == "retire" {
		err := p.retire(r.Context(), account, id)
		return func(b *settingsBody) error {
			b.Said = "The rotation has ended: only the newest secret signs."
			return nil
		}, err
	}
	result, err := p.rotate(r.Context(), account, id, 1)
	return func(b *settingsBody) error {
		b.Secret, b.PublicKey = result.Secret, result.PublicKey
		b.Said = "A new secret signs from now on."
		if result.Secrets > 1 {
			b.Said += " The old one does too, until you end the rotation."
		}
		return nil
	}, err
}

func (p *pages) changeLinks(r *http.Request, account, action string) (func(*settingsBody) error, error) {
	if action == "revoke" {
		err := p.Store.RevokePortalLink(r.Context(), account, r.PostForm.Get("link"))
		return func(b *settingsBody) error { b.Said = "The link works no more."; return nil }, err
	}
	link, err := p.newLink(r, account, portalLasts)
	return func(b *settingsBody) error { b.Link = &link; return nil }, err
}

// save stores the form. Where it is not valid, the tab comes back as it was filled in, with what is wrong.
func (p *pages) save(r *http.Request, s scope) (view, error) {
	f, account := r.PostForm, own(s, r)
	id := strings.TrimSpace(f.Get("id"))
	body, err := p.settingsOf(r, s, id, r.Form.Has("new"))
	if err != nil {
		return view{}, err
	}
	v := view{Title: "Events Webhook", Nav: "settings"}
	wasNew := body.New || body.ID != id
	data, bad := formJSON(f, wasNew, body.star)
	var shown []byte
	if identity := subscriptions.CheckIdentity(account, id); identity != nil {
		bad = append(asProblem(identity).Errors, bad...)
	}
	if len(bad) == 0 {
		if shown, _, err = p.put(r.Context(), account, id, data); err != nil {
			if err := asProblem(err); err.Status != http.StatusUnprocessableEntity {
				return view{}, err
			}
			bad = asProblem(err).Errors
		}
	}
	if len(bad) > 0 {
		body.fill(f, bad)
		body.New = wasNew
		v.Body = body
		return v, nil
	}
	if body, err = p.settingsOf(r, s, id, false); err != nil {
		return view{}, err
	}
	body.Said = "Saved. It is in force here now, and everywhere within a second."
	if wasNew {
		var made storedForm
		if json.Unmarshal(shown, &made) == nil && len(made.Secrets) > 0 {
			body.Secret = made.Secrets[0]
		}
	}
	v.Body = body
	return v, nil
}

// formJSON is the form as a subscription (DESIGN.md section 5). A new webhook gets a secret.
func formJSON(f url.Values, isNew, star bool) (data []byte, bad []badField) {
	sub := map[string]any{
		"url": strings.TrimSpace(f.Get("url")), "events": append([]string{}, f["event"]...), "enabled": f.Has("enabled"), "headers": map[string]string{},
	}
	if star && len(f["event"]) == len(event.Names()) {
		sub["events"] = []string{"*"} // as it was: those to come, too
	}
	if f.Has("paused") {
		sub["paused"] = true
	}
	if text := f.Get("description"); text != "" {
		sub["description"] = text
	}
	for _, name := range []string{"maxInFlight", "maxPerSecond"} {
		text := strings.TrimSpace(f.Get(name))
		if text == "" {
			continue
		}
		if _, err := strconv.ParseFloat(text, 64); err != nil || !json.Valid([]byte(text)) {
			bad = append(bad, badField{name, "want a number"})
			continue
		}
		sub[name] = json.RawMessage(text)
	}
	headers := map[string]string{}
	for line := range strings.Lines(f.Get("headers")) {
		line = strings.TrimSpace(line)
		name, value, ok := strings.Cut(line, ":")
		switch name = strings.TrimSpace(name); {
		case line == "":
		case !ok || name == "":
			bad = append(bad, badField{"headers", "want one a line, as name: value"})
		default:
			headers[name] = strings.TrimSpace(value)
		}
	}
	sub["headers"] = headers
	if isNew {
		sub["secrets"] = []string{generate}
	}
	data, err := json.Marshal(sub)
	if err != nil {
		bad = append(bad, badField{"", "cannot be written as JSON"})
	}
	return data, bad
}

// fill shows the form as it was sent, and what is wrong with it.
func (b *settingsBody) fill(f url.Values, bad []badField) {
	for i := range bad {
		if bad[i] == (badField{"events", "is empty"}) {
			bad[i].Detail = "tick at least one"
		}
	}
	b.Problem = invalid(bad...)
	b.Problem.Detail = "It is not saved: mend this first."
	for _, one := range bad {
		field, _, _ := strings.Cut(one.Field, "[")
		field, _, _ = strings.Cut(field, ".")
		if b.Bad[field] != "" {
			b.Bad[field] += "; "
		}
		b.Bad[field] += one.Detail
	}
	b.ID, b.URL, b.Description, b.Headers = f.Get("id"), f.Get("url"), f.Get("description"), f.Get("headers")
	b.MaxInFlight, b.MaxPerSecond = f.Get("maxInFlight"), f.Get("maxPerSecond")
	b.Enabled, b.Paused = f.Has("enabled"), f.Has("paused")
	b.More = !b.Enabled || b.Paused || b.Description != "" || b.MaxInFlight != "" || b.MaxPerSecond != "" || b.Headers != ""
	var on event.Set
	for _, text := range f["event"] {
		if name, ok := event.ParseName(text); ok {
			on = on.With(name)
		}
	}
	b.box(on)
}
