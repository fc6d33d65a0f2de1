package admin

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"fanout/dispatcher"
	"fanout/event"
	"fanout/operate"
	"fanout/subscriptions"
)

// maxRows bounds the list of webhooks; a filter finds the others.
const maxRows = 100

type endpointsBody struct {
	Query, State, Shown string
	Filtered            bool
	Silent              []otherInstance // did not answer: what their lanes do is in no figure
	States              []string
	Rows                []row
}

// row is a webhook and its health.
type row struct {
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
	healthUnknown = "unknown" // here is no lane, and not every instance has answered
)

func healths() []string {
	return []string{healthInvalid, healthParked, healthFailing, healthLimited, healthPaused, healthOpen, healthUnknown, healthOff, healthIdle}
}

// newRow is a webhook with its lane, nil where it has none on the instances that have answered.
func newRow(sub *subscriptions.Subscription, l *dispatcher.LaneStatus, allAnswered bool) row {
	r := row{Account: sub.Account(), ID: sub.ID(), URL: sub.URL()}
	health := healthIdle
	if !allAnswered {
		health = healthUnknown
	}
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

// key is an id for HTML, whatever characters the parts have.
func key(parts ...string) string {
	h := fnv.New64a()
	for _, part := range parts {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return strconv.FormatUint(h.Sum64(), 16)
}

// worstRows keeps the maxRows webhooks that are worst off.
type worstRows struct {
	list    []row
	matched int // how many were offered
	best    int // the highest rank in the list
}

func (w *worstRows) add(one row) {
	if w.matched++; len(w.list) < maxRows {
		w.list = append(w.list, one)
		w.best = max(w.best, one.rank)
		return
	}
	if one.rank >= w.best {
		return
	}
	i := slices.IndexFunc(w.list, func(other row) bool { return other.rank == w.best })
	w.list[i] = one
	w.best = slices.MaxFunc(w.list, func(a, b row) int { return cmp.Compare(a.rank, b.rank) }).rank
}

// sorted is the list, the worst first.
func (w *worstRows) sorted() []row {
	slices.SortFunc(w.list, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.Account, b.Account), cmp.Compare(a.ID, b.ID))
	})
	return w.list
}

// shown says how much of what was found is in the list.
func (w *worstRows) shown() string {
	if w.matched > len(w.list) {
		return fmt.Sprintf("%d of %s, those in trouble first. Filter to find others.", len(w.list), plural(w.matched, "webhook"))
	}
	return plural(w.matched, "webhook")
}

func (p *pages) endpoints(r *http.Request, s scope) (view, error) {
	body := endpointsBody{Query: strings.TrimSpace(r.Form.Get("q")), State: r.Form.Get("state"), States: healths()}
	body.Filtered = body.Query != "" || body.State != ""
	lanes, silent := p.allLanes(r.Context(), func(l *dispatcher.LaneStatus) bool { return !s.Portal || l.Account == s.Account })
	if !s.Portal {
		body.Silent = silent
	}
	var rows worstRows
	for sub := range p.seen(s) {
		if !contains(sub.ID(), body.Query) && (s.Portal || !contains(sub.Account(), body.Query)) {
			continue
		}
		one := newRow(sub, lanes[[2]string{sub.Account(), sub.ID()}], len(silent) == 0)
		if s.Portal {
			one.forCustomer()
		}
		if body.State == "" || one.Badge.Text == body.State {
			rows.add(one)
		}
	}
	body.Rows, body.Shown = rows.sorted(), rows.shown()
	for i := range body.Rows {
		body.Rows[i].Key = key(body.Rows[i].Account, body.Rows[i].ID)
	}
	return view{Title: "Endpoints", Nav: "endpoints", Body: body}, nil
}

// seen are the subscriptions that somebody may see: all, or those of the portal's account.
func (p *pages) seen(s scope) iter.Seq[*subscriptions.Subscription] {
	if s.Portal {
		return slices.Values(p.Directory.Account(s.Account))
	}
	return p.Directory.All()
}

// contains says whether text has part in it, whatever their case. The empty part is in every text.
func contains(text, part string) bool {
	return strings.Contains(strings.ToLower(text), strings.ToLower(part))
}

type endpointBody struct {
	Silent      []otherInstance
	Account, ID string
	Row         row
	Events      []event.Name
	Lane        operate.Lane
	Attempts    []shownAttempt
	Read        time.Time // when the attempts topic was, for them; zero: they are this instance's own
}

// shownAttempt is an outcome for people.
type shownAttempt struct {
	attempt
	Badge  badge
	Answer string // what came back, in a few words
	Key    string
	Sent   string // the request as it was sent, if the configuration has not changed since

	Recorded             bool // it is of the attempts topic, and any instance's
	TrackingID, Instance string
}

func (p *pages) newShownAttempt(s scope, sub *subscriptions.Subscription, one *dispatcher.Attempt) shownAttempt {
	a := shownAttempt{attempt: newAttempt(one), Key: key(one.ID, one.Time.String())}
	if s.Portal {
		a.forCustomer()
	}
	a.Badge, a.Answer, a.Sent = outcomeBadge(&a.attempt), answer(&a.attempt), a.Request
	if a.Attempt == 0 {
		return a
	}
	if a.BatchSize > 1 { // of the request, this one's part is kept
		return a
	}
	del := dispatcher.Delivery{ID: one.ID, Account: one.Account, Subscription: one.Subscription, Event: one.Event, Body: one.Body, FirstSeen: one.Time}
	if text, blocked := p.Dispatcher.Renderer().Request(sub, &del, one.Time.Add(-one.Took)); blocked == "" {
		a.Sent = strings.ReplaceAll(text, "\r\n", "\n")
	}
	return a
}

// answer is what an attempt brought. Where none was made, the status is that of an earlier attempt.
func answer(a *attempt) string {
	switch {
	case a.Attempt == 0 && a.Status != 0:
		return "last answer: " + strconv.Itoa(a.Status)
	case a.Attempt == 0:
		return "no request was made"
	case a.Status != 0:
		return "HTTP " + strconv.Itoa(a.Status)
	}
	return a.Reason
}

func (p *pages) endpoint(r *http.Request, s scope) (view, error) {
	account, id := own(s, r), r.Form.Get("id")
	sub := p.Directory.Lookup(account, id)
	if sub == nil {
		return view{}, errNoWebhook
	}
	lanes, silent := p.allLanes(r.Context(), func(l *dispatcher.LaneStatus) bool { return l.Account == account && l.Subscription == id })
	l := lanes[[2]string{account, id}]
	body := endpointBody{Account: account, ID: id, Row: newRow(sub, l, len(silent) == 0), Events: sub.Events().Names(p.catalogue()), Lane: newLane(cmp.Or(l, new(dispatcher.LaneStatus)))}
	if !s.Portal {
		body.Silent = silent
	}
	if s.Portal {
		body.Row.forCustomer()
	}
	recorded, read, ok := p.recents.look(r.Context(), p.panel, s, account, id)
	if ok {
		body.Read = read
		for i := range recorded {
			body.Attempts = append(body.Attempts, fromTopic(s, &recorded[i]))
		}
		return view{Title: id, Nav: "endpoints", Body: body}, nil
	}
	for _, one := range p.Dispatcher.Recent(account, id) {
		body.Attempts = append(body.Attempts, p.newShownAttempt(s, sub, &one))
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
