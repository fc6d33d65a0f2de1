package operate

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"fanout/subscriptions"
)

// TopRow is one subscription's load, over all instances that answered. What is unknown is nil.
type TopRow struct {
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
func (r *TopRow) load() int { return known(r.InFlight) + known(r.Queued) + known(r.Waiting) }

// known is a number, 0 where it is unknown.
func known[N int | float64](n *N) N {
	if n == nil {
		return 0
	}
	return *n
}

// plus adds to a number that may have been unknown until now.
func plus[N int | float64](sum *N, n N) *N { return new(known(sum) + n) }

// Top is one look at which subscriptions the load belongs to.
type Top struct {
	Time          time.Time         `json:"time"`
	Answered      []string          `json:"answered"`
	Silent        map[string]string `json:"silent,omitempty"` // instances that did not answer, with the reason
	Notes         map[string]string `json:"notes,omitempty"`  // what instances say in /readyz that is amiss
	InFlight      *int              `json:"inFlight"`
	Queued        *int              `json:"queued"`
	Waiting       *int              `json:"waiting"`                 // in the retry topics and the replay topic
	TiersRead     *time.Time        `json:"tiersRead,omitempty"`     // when
	TiersProblem  string            `json:"tiersProblem,omitempty"`  // why that is not known, or not as of now
	StatesProblem string            `json:"statesProblem,omitempty"` // why Redis could not be asked
	Rows          []TopRow          `json:"subscriptions"`

	Tiers bool `json:"-"` // the retry topics are asked for

	silent error
}

// NewTop brings together what was answered. Rows that no instance has a lane for have no state yet.
func NewTop(now time.Time, answers []InstanceLanes, waiting BacklogState, tiers bool) Top {
	view := Top{Time: now, Answered: []string{}, Rows: []TopRow{}, Silent: map[string]string{}, Notes: map[string]string{}, Tiers: tiers}
	rows := map[[2]string]*TopRow{}
	row := func(account, subscription string) *TopRow {
		key := [2]string{account, subscription}
		if rows[key] == nil {
			rows[key] = &TopRow{Account: account, Subscription: subscription}
		}
		return rows[key]
	}
	for _, one := range answers {
		if one.Err != nil {
			view.Silent[one.Instance] = one.Err.Error()
			view.silent = cmp.Or(view.silent, one.Err)
			continue
		}
		view.Answered = append(view.Answered, one.Instance)
		if one.Notes != "" {
			view.Notes[one.Instance] = one.Notes
		}
		for i := range one.Lanes {
			l := &one.Lanes[i]
			row(l.Account, l.Subscription).add(l, now)
		}
	}
	view.takeBacklog(waiting, row)
	view.addUp(rows)
	return view
}

// takeBacklog takes what waits in the retry topics.
func (v *Top) takeBacklog(waiting BacklogState, row func(account, subscription string) *TopRow) {
	if waiting.Problem != nil {
		v.TiersProblem = waiting.Problem.Error()
	}
	if waiting.Read.IsZero() {
		return
	}
	v.TiersRead, v.Waiting = &waiting.Read, new(0)
	for _, b := range waiting.Backlogs {
		r := row(b.Account, b.Subscription)
		r.Tiers = b.Waiting
		for _, n := range b.Waiting {
			r.Waiting = plus(r.Waiting, n)
		}
		r.Oldest = oldestOf(r.Oldest, &b.Oldest)
	}
}

// addUp sums the rows, and says what share of the whole each is. It says nothing of what is not known.
func (v *Top) addUp(rows map[[2]string]*TopRow) {
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
	all := len(v.Silent) == 0 && (v.Waiting != nil || !v.Tiers)
	for _, r := range rows {
		if all {
			r.Share = new(float64(r.load()) / float64(max(1, total)))
		}
		v.Rows = append(v.Rows, *r)
	}
}

// Err is an error where nothing at all could be asked.
func (v *Top) Err() error {
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
func (r *TopRow) add(l *Lane, now time.Time) {
	if condition := l.Condition(now); r.State == "" || severity(condition) > severity(r.State) {
		r.State, r.Why, r.Until = condition, l.Reason(now), nil
		if l.Until != nil && l.Until.After(now) {
			r.Until = l.Until
		}
	}
	r.InFlight = plus(r.InFlight, l.InFlight)
	r.Queued = plus(r.Queued, l.Queued)
	r.Pace = plus(r.Pace, l.Pace)
	r.Oldest = oldestOf(r.Oldest, l.OldestQueued)
	if l.Failures > 0 || l.State == "parked" {
		r.FailingSince = oldestOf(r.FailingSince, l.Since)
	}
}

func oldestOf(a, b *time.Time) *time.Time {
	if a == nil || b != nil && b.Before(*a) {
		return b
	}
	return a
}

// topOrder is one order of the rows.
type topOrder struct {
	name string
	less func(x, y *TopRow) int
}

// topOrders are the orders; the first is that where none is asked for.
func topOrders() []topOrder {
	return []topOrder{
		{"load", func(x, y *TopRow) int { return cmp.Compare(y.load(), x.load()) }},
		{"in-flight", func(x, y *TopRow) int { return cmp.Compare(known(y.InFlight), known(x.InFlight)) }},
		{"waiting", func(x, y *TopRow) int {
			return cmp.Compare(known(y.Waiting)+known(y.Queued), known(x.Waiting)+known(x.Queued))
		}},
		{"pace", func(x, y *TopRow) int { return cmp.Compare(known(y.Pace), known(x.Pace)) }},
		{"oldest", func(x, y *TopRow) int { return earlierFirst(x.Oldest, y.Oldest) }},
		{"failing", func(x, y *TopRow) int { return earlierFirst(x.FailingSince, y.FailingSince) }},
		{"name", func(*TopRow, *TopRow) int { return 0 }},
	}
}

// TopOrders are the names of the orders that Sort takes.
func TopOrders() (names []string) {
	for _, order := range topOrders() {
		names = append(names, order.name)
	}
	return names
}

// earlierFirst orders times; one that is not known is the last.
func earlierFirst(x, y *time.Time) int {
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

// Sort orders the rows; those that are equal by load, then by name.
func (v *Top) Sort(name string) {
	orders := topOrders()
	chosen := orders[0]
	for _, order := range orders {
		if order.name == name {
			chosen = order
		}
	}
	byName := func(x, y *TopRow) int {
		return cmp.Or(cmp.Compare(x.Account, y.Account), cmp.Compare(x.Subscription, y.Subscription))
	}
	slices.SortFunc(v.Rows, func(x, y TopRow) int {
		if chosen.name == "name" {
			return byName(&x, &y)
		}
		return cmp.Or(chosen.less(&x, &y), orders[0].less(&x, &y), cmp.Compare(known(y.Pace), known(x.Pace)), byName(&x, &y))
	})
}

// mostStates and statesPatience bound how many subscriptions are asked for, and how long.
const (
	mostStates     = 1000
	statesPatience = 2 * time.Second
)

// AskStates asks how the subscriptions are configured that no instance has a lane for. get is one of them as Redis has it; nil: there is none.
func (v *Top) AskStates(ctx context.Context, get func(ctx context.Context, account, id string) (*subscriptions.Subscription, error)) {
	ctx, cancel := context.WithTimeout(ctx, statesPatience)
	defer cancel()
	asked := 0
	for i := range v.Rows {
		r := &v.Rows[i]
		if r.State != "" {
			continue
		}
		r.State = "unknown"
		if asked++; asked > mostStates || v.StatesProblem != "" {
			continue
		}
		sub, err := get(ctx, r.Account, r.Subscription)
		if err != nil {
			v.StatesProblem = err.Error()
			continue
		}
		r.State = v.withoutLane(sub)
	}
}

// withoutLane is the state of a subscription that has no lane on the instances that answered.
func (v *Top) withoutLane(sub *subscriptions.Subscription) string {
	switch {
	case sub == nil:
		return "deleted"
	case !sub.Enabled():
		return "disabled"
	case sub.Paused():
		return "paused"
	case len(v.Silent) == 0:
		return "idle"
	}
	return "unknown"
}
