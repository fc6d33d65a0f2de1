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

	"fanout/dispatcher"
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

// own is the account that a request is about: in the portal the token's, whatever the request says.
func own(s scope, r *http.Request) string {
	if s.Portal {
		return s.Account
	}
	return r.Form.Get("account")
}
