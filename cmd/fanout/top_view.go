package main

import (
	"cmp"
	"errors"
	"slices"
	"time"
)

// topRow is one subscription's load, over all instances that answered. What is unknown is nil.
type topRow struct {
	Account      string         `json:"account"`
	Subscription string         `json:"subscription"`
	State        string         `json:"state"` // open, limited, held, parked, paused, disabled, deleted, idle, unknown
	Why          string         `json:"why,omitempty"`
	Until        *time.Time     `json:"until,omitempty"` // until when it is held or parked
	InFlight     *int           `json:"inFlight"`
	Queued       *int           `json:"queued"`
	Pace         *float64       `json:"pace"`            // attempts a second
	Waiting      *int           `json:"waiting"`         // in the retry topics and the replay topic
	Tiers        map[string]int `json:"tiers,omitempty"` // the same, by topic
	Oldest       *time.Time     `json:"oldest,omitempty"`
	FailingSince *time.Time     `json:"failingSince,omitempty"`
	Share        *float64       `json:"share"` // of all that is under way or waits
}

// load is all that is known to be under way or to wait.
func (r *topRow) load() int { return known(r.InFlight) + known(r.Queued) + known(r.Waiting) }

// known is a number, 0 where it is unknown.
func known[N int | float64](n *N) N {
	if n == nil {
		return 0
	}
	return *n
}

// plus adds to a number that may have been unknown until now.
func plus[N int | float64](sum *N, n N) *N { return new(known(sum) + n) }

// topView is one look.
type topView struct {
	Time          time.Time         `json:"time"`
	Answered      []string          `json:"answered"`
	Silent        map[string]string `json:"silent,omitempty"` // instances that did not answer, with the reason
	InFlight      *int              `json:"inFlight"`
	Queued        *int              `json:"queued"`
	Waiting       *int              `json:"waiting"`                 // in the retry topics and the replay topic
	TiersRead     *time.Time        `json:"tiersRead,omitempty"`     // when
	TiersProblem  string            `json:"tiersProblem,omitempty"`  // why that is not known, or not as of now
	StatesProblem string            `json:"statesProblem,omitempty"` // why Redis could not be asked
	Rows          []topRow          `json:"subscriptions"`

	tiers  bool // the retry topics are asked for
	silent error
}

// newTopView brings together what was answered. Rows that no instance has a lane for have no state yet.
func newTopView(now time.Time, answers []instanceLanes, waiting backlogState, tiers bool) topView {
	view := topView{Time: now, Answered: []string{}, Rows: []topRow{}, Silent: map[string]string{}, tiers: tiers}
	rows := map[[2]string]*topRow{}
	row := func(account, subscription string) *topRow {
		key := [2]string{account, subscription}
		if rows[key] == nil {
			rows[key] = &topRow{Account: account, Subscription: subscription}
		}
		return rows[key]
	}
	for _, one := range answers {
		if one.err != nil {
			view.Silent[one.base] = one.err.Error()
			view.silent = cmp.Or(view.silent, one.err)
			continue
		}
		view.Answered = append(view.Answered, one.base)
		for i := range one.lanes {
			l := &one.lanes[i]
			row(l.Account, l.Subscription).add(l, now)
		}
	}
	view.takeBacklog(waiting, row)
	view.addUp(rows)
	return view
}

// takeBacklog takes what waits in the retry topics.
func (v *topView) takeBacklog(waiting backlogState, row func(account, subscription string) *topRow) {
	if waiting.problem != nil {
		v.TiersProblem = waiting.problem.Error()
	}
	if waiting.read.IsZero() {
		return
	}
	v.TiersRead, v.Waiting = &waiting.read, new(0)
	for _, b := range waiting.backlogs {
		r := row(b.Account, b.Subscription)
		r.Tiers = b.Waiting
		for _, n := range b.Waiting {
			r.Waiting = plus(r.Waiting, n)
		}
		r.Oldest = oldest(r.Oldest, &b.Oldest)
	}
}

// addUp sums the rows, and says what share of the whole each is. It says nothing of what is not known.
func (v *topView) addUp(rows map[[2]string]*topRow) {
	if len(v.Answered) > 0 {
		v.InFlight, v.Queued = new(0), new(0)
	}
	total := 0
	for _, r := range rows {
		if len(v.Answered) > 0 {
			r.InFlight, r.Queued, r.Pace = plus(r.InFlight, 0), plus(r.Queued, 0), plus(r.Pace, 0)
			v.InFlight, v.Queued = plus(v.InFlight, *r.InFlight), plus(v.Queued, *r.Queued)
		}
		if v.Waiting != nil {
			r.Waiting = plus(r.Waiting, 0)
			v.Waiting = plus(v.Waiting, *r.Waiting)
		}
		total += r.load()
	}
	all := len(v.Silent) == 0 && (v.Waiting != nil || !v.tiers)
	for _, r := range rows {
		if all {
			r.Share = new(float64(r.load()) / float64(max(1, total)))
		}
		v.Rows = append(v.Rows, *r)
	}
}

// nobody is an error where nothing at all could be asked.
func (v *topView) nobody() error {
	switch {
	case len(v.Answered) > 0 || v.TiersRead != nil:
		return nil
	case v.silent != nil && v.TiersProblem != "":
		return errors.Join(v.silent, errors.New("the retry topics: "+v.TiersProblem))
	}
	return v.silent
}

// severity orders the conditions of a lane, from well to ill. Of several instances the worst is shown.
func severity(condition string) int {
	return slices.Index([]string{"open", "limited", "held", "parked", "paused"}, condition)
}

// add counts one instance's lane in.
func (r *topRow) add(l *laneLine, now time.Time) {
	if condition := l.condition(now); r.State == "" || severity(condition) > severity(r.State) {
		r.State, r.Why, r.Until = condition, l.reason(now), nil
		if l.Until != nil && l.Until.After(now) {
			r.Until = l.Until
		}
	}
	r.InFlight = plus(r.InFlight, l.InFlight)
	r.Queued = plus(r.Queued, l.Queued)
	r.Pace = plus(r.Pace, l.Pace)
	r.Oldest = oldest(r.Oldest, l.OldestQueued)
	if l.Failures > 0 || l.State == "parked" {
		r.FailingSince = oldest(r.FailingSince, l.Since)
	}
}

func oldest(a, b *time.Time) *time.Time {
	if a == nil || b != nil && b.Before(*a) {
		return b
	}
	return a
}

// topOrder is one order of the rows.
type topOrder struct {
	name string
	key  byte // that chooses it on a terminal
	less func(x, y *topRow) int
}

// topOrders are the orders, as the last line of the screen shows them.
func topOrders() []topOrder {
	return []topOrder{
		{"load", 'l', func(x, y *topRow) int { return cmp.Compare(y.load(), x.load()) }},
		{"in-flight", 'i', func(x, y *topRow) int { return cmp.Compare(known(y.InFlight), known(x.InFlight)) }},
		{"waiting", 'w', func(x, y *topRow) int {
			return cmp.Compare(known(y.Waiting)+known(y.Queued), known(x.Waiting)+known(x.Queued))
		}},
		{"pace", 'p', func(x, y *topRow) int { return cmp.Compare(known(y.Pace), known(x.Pace)) }},
		{"oldest", 'o', func(x, y *topRow) int { return earlier(x.Oldest, y.Oldest) }},
		{"failing", 'f', func(x, y *topRow) int { return earlier(x.FailingSince, y.FailingSince) }},
		{"name", 'n', func(*topRow, *topRow) int { return 0 }},
	}
}

func topOrderNames() (names []string) {
	for _, order := range topOrders() {
		names = append(names, order.name)
	}
	return names
}

// earlier orders times; one that is not known is the last.
func earlier(x, y *time.Time) int {
	switch {
	case x == nil && y == nil:
		return 0
	case x == nil:
		return 1
	case y == nil:
		return -1
	}
	return x.Compare(*y)
}

// sort orders the rows; those that are equal by load, then by name.
func (v *topView) sort(name string) {
	orders := topOrders()
	chosen := orders[0]
	for _, order := range orders {
		if order.name == name {
			chosen = order
		}
	}
	byName := func(x, y *topRow) int {
		return cmp.Or(cmp.Compare(x.Account, y.Account), cmp.Compare(x.Subscription, y.Subscription))
	}
	slices.SortFunc(v.Rows, func(x, y topRow) int {
		if chosen.name == "name" {
			return byName(&x, &y)
		}
		return cmp.Or(chosen.less(&x, &y), orders[0].less(&x, &y), cmp.Compare(known(y.Pace), known(x.Pace)), byName(&x, &y))
	})
}
