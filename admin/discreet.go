package admin

import (
	"strconv"

	"fanout/dispatcher"
)

// The words a customer is told about a request that had no answer: which of our addresses can be reached, and how, is nobody's
// business. The webhook-id is what operators find the rest by.
const (
	notReached = "cannot be reached"
	notAllowed = "not allowed"
)

// disclosure is what a customer may read of a reason.
type disclosure uint8

const (
	showsStatus   disclosure = iota // the reason, and the status of the receiver's last answer
	showsAll                        // the detail too: it is the receiver's own answer, or the customer's own configuration
	hidesWay                        // that it cannot be reached, and not how
	hidesDecision                   // that it is not allowed, and not by which rule
)

// disclosureOf says what a customer may read of a reason. known says that somebody has decided so; of another reason only its name is shown.
func disclosureOf(r dispatcher.Reason) (d disclosure, known bool) {
	switch r {
	case dispatcher.DNS, dispatcher.Connect, dispatcher.TLS, dispatcher.Connection, dispatcher.Timeout:
		return hidesWay, true
	case dispatcher.BlockedDestination:
		return hidesDecision, true
	case dispatcher.StatusFailed, dispatcher.PermanentStatus, dispatcher.Gone, dispatcher.InvalidSubscription, dispatcher.RetryAfter:
		return showsAll, true
	case dispatcher.MalformedEvent, dispatcher.AttemptsExhausted, dispatcher.Expired, dispatcher.QueueFull, dispatcher.Parked, dispatcher.Paused,
		dispatcher.Rate, dispatcher.Network, dispatcher.UnknownEvent, dispatcher.Shutdown, dispatcher.Deleted, dispatcher.Disabled,
		dispatcher.Deselected, dispatcher.NoReason:
		return showsStatus, true
	default: // TestDisclosure names it
		return showsStatus, false
	}
}

// discreet is a reason and its detail as a customer may read them.
func discreet(reason, detail string, status int) (shownReason, shownDetail string) {
	kind, _ := dispatcher.ParseReason(reason)
	switch shows, _ := disclosureOf(kind); shows {
	case hidesWay:
		return notReached, ""
	case hidesDecision:
		return notAllowed, ""
	case showsAll:
		return reason, detail
	case showsStatus:
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
