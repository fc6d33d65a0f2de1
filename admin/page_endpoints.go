package admin

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"fanout/dispatcher"
	"fanout/event"
	"fanout/subscriptions"
)

// maxRows bounds a list of endpoints; a filter finds the others.
const maxRows = 100

type endpointsBody struct {
	Query, State, Shown string
	States              []string
	Rows                []row
}

// row is an endpoint and its health.
type row struct {
	Base             string
	Portal           bool
	Account, ID, URL string
	Key              string // unique on the page, for any account
	Badge            badge
	Why              string
	InFlight, Queued int
	Pace             float64
	rank             int
}

// Healths, the worst first.
const (
	healthInvalid = "invalid"
	healthParked  = "parked"
	healthFailing = "failing"
	healthLimited = "limited"
	healthPaused  = "paused"
	healthOff     = "disabled"
	healthOpen    = "delivering"
	healthIdle    = "idle"
)

func healths() []string {
	return []string{healthInvalid, healthParked, healthFailing, healthLimited, healthPaused, healthOpen, healthOff, healthIdle}
}

func newRow(s scope, sub *subscriptions.Subscription, l *dispatcher.LaneStatus) row {
	r := row{Base: s.Base, Portal: s.Portal, Account: sub.Account(), ID: sub.ID(), URL: sub.URL()}
	health := healthIdle
	if l != nil {
		r.InFlight, r.Queued, r.Pace, r.Why = l.InFlight, l.Queued, l.Pace, l.Why
		switch {
		case l.State == "parked":
			health = healthParked
		case l.Failures > 0:
			health = healthFailing
		case l.State == "limited":
			health = healthLimited
		default:
			health = healthOpen
		}
	}
	switch {
	case sub.Invalid() != "":
		health, r.Why = healthInvalid, sub.Invalid()
	case !sub.Enabled():
		health = healthOff
	case sub.Paused():
		health = healthPaused
	}
	switch health {
	case healthInvalid, healthParked:
		r.Badge = poor(health)
	case healthFailing, healthLimited:
		r.Badge = warn(health)
	case healthOpen:
		r.Badge = good(health)
	default:
		r.Badge = idle(health)
	}
	r.rank = slices.Index(healths(), health)
	return r
}

func key(parts ...string) string {
	h := fnv.New64a()
	for _, part := range parts {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return strconv.FormatUint(h.Sum64(), 16)
}

func (p *pages) endpoints(r *http.Request, s scope) (view, error) {
	body := endpointsBody{Query: r.Form.Get("q"), State: r.Form.Get("state"), States: healths()}
	lanes := map[[2]string]*dispatcher.LaneStatus{}
	for _, l := range p.Dispatcher.Lanes(func(l *dispatcher.LaneStatus) bool { return !s.Portal || l.Account == s.Account }) {
		lanes[[2]string{l.Account, l.Subscription}] = new(l)
	}
	matched, best := 0, 0 // best is the highest rank shown
	add := func(sub *subscriptions.Subscription) {
		one := newRow(s, sub, lanes[[2]string{sub.Account(), sub.ID()}])
		if body.State != "" && one.Badge.Text != body.State {
			return
		}
		if matched++; len(body.Rows) < maxRows {
			body.Rows = append(body.Rows, one)
			best = max(best, one.rank)
			return
		}
		// The worst are shown: one that is better off makes room.
		if one.rank < best {
			i := slices.IndexFunc(body.Rows, func(other row) bool { return other.rank == best })
			body.Rows[i] = one
			best = slices.MaxFunc(body.Rows, func(a, b row) int { return cmp.Compare(a.rank, b.rank) }).rank
		}
	}
	if s.Portal {
		for _, sub := range p.Directory.Account(s.Account) {
			add(sub)
		}
	} else {
		for sub := range p.Directory.All() {
			if body.Query == "" || strings.Contains(sub.Account(), body.Query) || strings.Contains(sub.ID(), body.Query) {
				add(sub)
			}
		}
	}
	slices.SortFunc(body.Rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.Account, b.Account), cmp.Compare(a.ID, b.ID))
	})
	for i := range body.Rows {
		body.Rows[i].Key = key(body.Rows[i].Account, body.Rows[i].ID)
	}
	body.Shown = fmt.Sprintf("%d webhooks", matched)
	if matched > len(body.Rows) {
		body.Shown = fmt.Sprintf("%d of %d webhooks, those in trouble first. Filter to find others.", len(body.Rows), matched)
	}
	return view{Title: "Endpoints", Nav: "endpoints", Body: body}, nil
}

type endpointBody struct {
	Account, ID string
	Row         row
	Events      []event.Name
	Lane        lane
	Attempts    []shownAttempt
}

type shownAttempt struct {
	attempt
	Badge badge
	Key   string
	Sent  string // the request as it was sent, if the configuration has not changed since
}

func (p *pages) endpoint(r *http.Request, s scope) (view, error) {
	account := own(s, r)
	id := r.Form.Get("id")
	sub := p.Directory.Lookup(account, id)
	if sub == nil {
		return view{}, errNoSubscription
	}
	status, ok := p.Dispatcher.Lane(account, id)
	var l *dispatcher.LaneStatus
	if ok {
		l = &status
	}
	body := endpointBody{Account: account, ID: id, Row: newRow(s, sub, l), Events: sub.Events().Names(), Lane: newLane(&status)}
	for _, one := range p.Dispatcher.Recent(account, id) {
		a := shownAttempt{attempt: newAttempt(&one), Key: key(one.ID, one.Time.String())}
		a.Badge, a.Sent = outcomeBadge(a.Outcome), a.Request
		del := dispatcher.Delivery{ID: one.ID, Account: account, Subscription: id, Event: one.Event, Body: one.Body, FirstSeen: one.Time}
		if text, blocked := p.Dispatcher.Request(sub, &del, one.Time.Add(-one.Took)); blocked == "" && a.Attempt > 0 {
			a.Sent = strings.ReplaceAll(text, "\r\n", "\n")
		}
		body.Attempts = append(body.Attempts, a)
	}
	return view{Title: id, Nav: "endpoints", Body: body}, nil
}

// own is the account that a request is about: in the portal the token's, whatever the request says.
func own(s scope, r *http.Request) string {
	if s.Portal {
		return s.Account
	}
	return r.Form.Get("account")
}

// formTime is how a datetime-local field writes a time, in UTC.
const formTime = "2006-01-02T15:04:05"

func parseFormTime(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(formTime, text)
	if err != nil {
		t, err = time.Parse("2006-01-02T15:04", text)
	}
	return t, err
}
