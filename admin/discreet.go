package admin

import (
	"strconv"

	"fanout/dispatcher"
)

// What a customer is told of a request that had no answer: which of our addresses can be reached, and how, is nobody's
// business. The webhook-id is what operators find the rest by.
const (
	notReached = "cannot be reached"
	notAllowed = "not allowed"
)

// discreet is a reason and its detail as a customer may read them.
func discreet(reason, detail string, status int) (shownReason, shownDetail string) {
	kind, _ := dispatcher.ParseReason(reason)
	switch kind.String() {
	case "dns", "connect", "tls", "connection", "timeout":
		return notReached, ""
	case "blocked_destination":
		return notAllowed, ""
	case "status", "permanent_status", "gone", "invalid_subscription", "retry_after":
		return reason, detail
	}
	if status != 0 {
		return reason, "last answer: HTTP " + strconv.Itoa(status)
	}
	return reason, ""
}

// forCustomer leaves out of a test event's result what is ours.
func (t *tested) forCustomer() {
	if t.Reason != "" {
		t.Reason, t.Detail = discreet(t.Reason, t.Detail, t.Status)
	}
}

// forCustomer leaves out of an attempt what is ours.
func (a *attempt) forCustomer() {
	if a.Reason != "" {
		a.Reason, a.Detail = discreet(a.Reason, a.Detail, a.Status)
	}
}

// forCustomer leaves out of a dead letter what is ours: its reason is of a closed list that tells no address.
func (l *letter) forCustomer() {
	if l.Reason == "blocked_destination" {
		l.Detail = notAllowed
		return
	}
	_, l.Detail = discreet(l.Reason, l.Detail, l.Status)
}

// forCustomer leaves out why a webhook is not well, unless its own answer or configuration says it.
func (r *row) forCustomer() {
	if r.Badge.Text != healthInvalid && (r.Why == "" || r.Why[0] < '1' || r.Why[0] > '9') {
		r.Why = ""
	}
}
