package admin

import (
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"fanout/dispatcher"
	"fanout/event"
	"fanout/subscriptions"
)

const settingsPath = "/settings/events-webhook"

// settingsBody is the tab Settings → Events Webhook (docs/contract.md#dashboard): an account, its webhooks, and one of them
// open.
type settingsBody struct {
	Account      string
	Webhooks     []webhookLink
	MoreWebhooks int    // that are not in the list
	Action       string // where the forms go
	Problem      *problem
	Bad          map[string]string // what is wrong, by field
	Taken        string            // the webhook that has the name which was typed for a new one
	CanLink      bool
	Links        []listedLink
	Code         []codeSample
	notice       // told once
	Question     *question

	Accounts     []foundAccount // to open, where none is, or where this one has no webhook
	MoreAccounts int
	Typed        bool // the form has what somebody typed and could not save

	Unreadable string
	Warnings   []badField // what is odd about the open webhook, although it is in force

	New                       bool
	ID, URL, Description      string
	Every                     bool // all events are wanted, those to come too
	Channels                  []eventChannel
	Enabled, Paused, More     bool
	MaxInFlight, MaxPerSecond string
	BatchMax, BatchWait       string
	Headers                   string // one a line, masked
	Filter                    string // notifications, one a line
	Signing                   []signingSecret
	Seen                      string // tells whether somebody else has changed the webhook since

	Samples []string
	Sample  string
}

type webhookLink struct {
	ID, Note string
	Current  bool
}

// eventChannel are the events of a channel.
type eventChannel struct {
	Name   string
	Events []eventBox
}

type eventBox struct {
	Name, Description, Sample string
	On                        bool
}

// settings opens an account: the webhook that the query names, else its first, else a new one with nothing ticked. It tells
// what a form has done, once.
func (p *pages) settings(r *http.Request, s scope) (view, error) {
	id := r.Form.Get("id")
	body, err := p.settingsOf(r, s, id, r.Form.Has("new"))
	if err != nil {
		return view{}, err
	}
	v := settingsView(body)
	if body.Account != "" {
		var told *notice
		if told, v.Cookie = p.notices.take(r, noticePlace{scope: s, account: body.Account, id: id}); told != nil {
			body.notice = *told
			if told.Tested != nil {
				body.Sample = told.Tested.Event
			}
		}
	}
	return v, nil
}

func settingsView(body *settingsBody) view {
	title := "Events Webhook"
	if body.Account != "" {
		title += " of " + body.Account
	}
	return view{Title: title, Nav: "settings", Body: body}
}

// settingsOf is the tab with the webhook open that id names; with an empty id the first one, or a fresh one.
func (p *pages) settingsOf(r *http.Request, s scope, id string, fresh bool) (*settingsBody, error) {
	body := &settingsBody{Account: own(s, r), Bad: map[string]string{}, Code: p.code, Enabled: true, New: true, CanLink: p.portalKey != nil && !s.Portal}
	if body.Account == "" {
		body.Accounts, body.MoreAccounts = p.accountsLike(r.Form.Get("find"))
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
		if !fresh && (list[i].ID == id || id == "" && i == 0) {
			open = &list[i]
		}
	}
	for i := range list {
		if len(body.Webhooks) >= maxRows && open != &list[i] {
			body.MoreWebhooks++
			continue
		}
		body.Webhooks = append(body.Webhooks, webhookLink{list[i].ID, note(p.reader(), &list[i]), open == &list[i]})
	}
	if open != nil {
		body.load(p.reader(), open)
		_, body.Warnings = p.review(open)
		body.Seen = p.mark(open.JSON)
	} else {
		body.ID = freeID(list)
		body.box(p.catalogue(), 0)
		if len(list) == 0 && !s.Portal {
			body.Accounts, body.MoreAccounts = p.accountsLike(body.Account)
		}
	}
	body.Action = body.address(s)
	if body.CanLink {
		body.Links, err = p.links(r.Context(), body.Account)
	}
	return body, err
}

// address is where the page's forms go: to the webhook that they are about, or to the new one.
func (b *settingsBody) address(s scope) string {
	if b.New {
		return s.path(settingsPath, "account", b.Account, "new", "1")
	}
	return s.path(settingsPath, "account", b.Account, "id", b.ID)
}

// mark tells versions of a stored webhook apart, without telling anything of it.
func (p *pages) mark(stored []byte) string {
	return hex.EncodeToString(sum(p.markKey, string(stored))[:8])
}

// freeID is a name for a new webhook.
func freeID(list []subscriptions.Stored) string {
	taken := make(map[string]bool, len(list))
	for i := range list {
		taken[list[i].ID] = true
	}
	for n := 1; ; n++ {
		if id := "webhook-" + strconv.Itoa(n); !taken[id] {
			return id
		}
	}
}

// note is a webhook in a line.
func note(reader subscriptions.Reader, stored *subscriptions.Stored) string {
	sub, bad := reader.Parse(stored.Account, stored.ID, stored.JSON)
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
	MaxInFlight  json.Number       `json:"maxInFlight"`
	MaxPerSecond json.Number       `json:"maxPerSecond"`
	Filter       []string          `json:"notificationIds"`
	Batch        struct {
		Max  json.Number `json:"max"`
		Wait string      `json:"wait"`
	} `json:"batch"`
}

// load opens a stored webhook.
func (b *settingsBody) load(reader subscriptions.Reader, stored *subscriptions.Stored) {
	now := time.Now()
	b.New, b.ID = false, stored.ID
	review := reader.ReviewStored(stored.Account, stored.ID, stored.JSON, now)
	sub := review.Subscription
	if review.Invalid != nil {
		b.Unreadable = review.Invalid.Error()
	}
	var form storedForm
	if err := json.Unmarshal(subscriptions.Masked(stored.JSON), &form); err != nil && review.Invalid == nil {
		b.Unreadable = "some of it has a form that this page cannot show"
	}
	b.URL, b.Description = form.URL, form.Description
	b.Enabled, b.Paused = sub.Enabled(), sub.Paused()
	b.MaxInFlight, b.MaxPerSecond = form.MaxInFlight.String(), form.MaxPerSecond.String()
	b.BatchMax, b.BatchWait = form.Batch.Max.String(), form.Batch.Wait
	b.Every = slices.Equal(form.Events, []string{"*"})
	b.Signing = signingSecrets(subscriptions.Signing(stored.JSON, now))
	var lines []string
	for name, value := range form.Headers {
		lines = append(lines, name+": "+value)
	}
	slices.Sort(lines)
	b.Headers, b.Filter = strings.Join(lines, "\n"), strings.Join(form.Filter, "\n")
	b.More = b.hasMore()
	b.box(reader.Catalogue, sub.Events())
	for _, name := range sub.Events().Names(reader.Catalogue) {
		b.Samples = append(b.Samples, name.String())
	}
}

// hasMore says whether anything under "More settings" is not as it is for a new webhook.
func (b *settingsBody) hasMore() bool {
	return !b.Enabled || b.Paused || b.Description != "" || b.MaxInFlight != "" || b.MaxPerSecond != "" || b.BatchMax != "" || b.BatchWait != "" || b.Headers != "" || b.Filter != ""
}

// box makes a checkbox of each event name, channel by channel.
func (b *settingsBody) box(c *event.Catalogue, on event.Set) {
	b.Channels = nil
	for _, name := range c.Names() {
		i := slices.IndexFunc(b.Channels, func(one eventChannel) bool { return one.Name == name.Channel() })
		if i < 0 {
			i = len(b.Channels)
			b.Channels = append(b.Channels, eventChannel{Name: name.Channel()})
		}
		sample := event.Event{Name: name, TrackingID: "abc123", NotificationID: "welcome-email", UserID: "user-123"}
		b.Channels[i].Events = append(b.Channels[i].Events, eventBox{name.String(), name.Description(), string(dispatcher.Body(&sample)), on.Has(name)})
	}
}
