package operate

import (
	"cmp"
	"slices"
	"time"

	"fanout/subscriptions"
)

// Receiver is a receiver that does not get at once what is sent to it (docs/contract.md#replay-dry-run).
type Receiver struct {
	Account      string     `json:"account"`
	Subscription string     `json:"subscription"`
	Send         int        `json:"send"`            // how many are sent to it
	State        string     `json:"state"`           // gone or off: they are discarded; paused, parked or held: they wait
	Why          string     `json:"why,omitempty"`   // it is parked or held
	Until        *time.Time `json:"until,omitempty"` // likewise
}

// The states of a Receiver.
const (
	ReceiverGone   = "gone"   // there is no such subscription
	ReceiverOff    = "off"    // it is disabled
	ReceiverPaused = "paused" // by its configuration
	ReceiverParked = "parked" // after failures
	ReceiverHeld   = "held"   // it asked for a pause
)

// Waits says whether what is sent waits, and is not discarded.
func (r *Receiver) Waits() bool { return r.State != ReceiverGone && r.State != ReceiverOff }

// Configured is the state that a subscription, nil where there is none, has by its configuration; empty: it gets what is sent.
func Configured(sub *subscriptions.Subscription) string {
	switch {
	case sub == nil:
		return ReceiverGone
	case !sub.Enabled():
		return ReceiverOff
	case sub.Paused():
		return ReceiverPaused
	}
	return ""
}

// NewReceiver says what keeps a receiver from getting at once what is sent to it: its configuration, or one of the lanes that all instances
// have. nil: nothing that is known.
func NewReceiver(account, subscription string, send int, configured string, lanes []Lane, now time.Time) *Receiver {
	r := &Receiver{Account: account, Subscription: subscription, Send: send, State: configured}
	if r.State != "" {
		return r
	}
	for i := range lanes {
		l := &lanes[i]
		if l.Account != account || l.Subscription != subscription {
			continue
		}
		switch l.Condition(now) {
		case ReceiverParked:
			r.State, r.Why, r.Until = ReceiverParked, l.Reason(now), l.Until
		case ReceiverHeld:
			if r.State == "" { // an instance where it is parked says more
				r.State, r.Why, r.Until = ReceiverHeld, l.Reason(now), l.Until
			}
		}
	}
	if r.State == "" {
		return nil
	}
	return r
}

// Look notes which of the plan's receivers do not get at once what is sent to them, most of it first. configured is a subscription's state by
// its configuration; silent are the instances that did not tell their lanes.
func (p *ReplayPlan) Look(configured func(account, subscription string) string, lanes []Lane, silent []string, now time.Time) {
	type key struct{ account, subscription string }
	send := make(map[key]int)
	for i := range p.Groups {
		send[key{p.Groups[i].Account, p.Groups[i].Subscription}] += p.Groups[i].Count
	}
	of := make(map[key][]Lane)
	for i := range lanes {
		if k := (key{lanes[i].Account, lanes[i].Subscription}); send[k] > 0 {
			of[k] = append(of[k], lanes[i])
		}
	}
	p.Receivers, p.Silent = nil, silent
	for k, n := range send {
		if r := NewReceiver(k.account, k.subscription, n, configured(k.account, k.subscription), of[k], now); r != nil {
			p.Receivers = append(p.Receivers, *r)
		}
	}
	slices.SortFunc(p.Receivers, func(a, b Receiver) int {
		return cmp.Or(cmp.Compare(b.Send, a.Send), cmp.Compare(a.Account, b.Account), cmp.Compare(a.Subscription, b.Subscription))
	})
}
