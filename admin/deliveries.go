package admin

import (
	"errors"
	"net/http"

	"fanout/dispatcher"
	"fanout/operate"
	"fanout/webhook"
)

// maxDeliveries bounds a page of deliveries. Each has its attempts with it, of a few KiB at most.
const maxDeliveries = 200

var errNoAttemptsTopic = problemf(http.StatusConflict, "there is no attempts topic: set attempts.topic, and deliveries made since can be looked for")

// listDeliveries looks for deliveries by what a customer knows of them, the newest first (docs/contract.md#find).
func (a *api) listDeliveries(w http.ResponseWriter, r *http.Request) error {
	found, err := a.deliveries(r, scope{})
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, "application/json", found)
	return nil
}

// deliveries reads the attempts topic from its end, until the page that the request asks for is full or the client has gone. In a
// portal it finds those of its account alone.
func (p *panel) deliveries(r *http.Request, s scope) (*operate.Found, error) {
	known := []string{"account", "subscription", "event", "outcome", "status", "from", "to", "trackingId", "userId", "notificationId", "webhookId", "cursor", "limit"}
	if s.Portal {
		known = known[1:]
	}
	q := newQuery(r, known...)
	find := operate.FindQuery{
		Account: q.text("account"), Subscription: q.text("subscription"), Event: q.oneOf("event", p.catalogue().Texts()), ID: q.text("webhookId"),
		TrackingID: q.text("trackingId"), NotificationID: q.text("notificationId"), UserID: q.text("userId"),
		Outcome: q.oneOf("outcome", dispatcher.ResultNames()), Status: q.count("status", 0, 999),
		Since: since(q.time("from")), Until: q.time("to"), Limit: q.count("limit", 50, maxDeliveries), Cursor: q.text("cursor"),
	}
	if s.Portal {
		find.Account = s.Account
	}
	if !find.Until.IsZero() && !find.Since.Before(find.Until) {
		q.fail("to", "must be after from")
	}
	if err := q.err(); err != nil {
		return nil, err
	}
	release, err := p.budgets.scan(r.Context(), s)
	if err != nil {
		return nil, err
	}
	defer release()
	found, err := operate.Find(r.Context(), p.Kafka, &find, nil, nil)
	switch {
	case errors.Is(err, operate.ErrNoAttempts):
		return nil, errNoAttemptsTopic
	case errors.Is(err, operate.ErrCursor):
		q.fail("cursor", "is not one that an answer gave")
		return nil, q.err()
	}
	return found, err
}

// portalDeliveries is listDeliveries for one account, through a portal link: its cookie, or its token as a bearer
// (docs/contract.md#portal-api).
func (p *pages) portalDeliveries(w http.ResponseWriter, r *http.Request) {
	g, err := p.portalBearer(r)
	if err != nil {
		asProblem(err).write(w)
		return
	}
	found, err := p.deliveries(r, scope{Portal: true, Account: g.Account, Link: g.ID})
	switch known, ok := errors.AsType[*problem](err); {
	case ok:
		known.write(w)
	case err != nil: // its text is for operators
		problemf(http.StatusServiceUnavailable, "deliveries cannot be looked up at the moment: try again").write(w)
	default:
		forCustomer(found)
		writeJSON(w, http.StatusOK, "application/json", found)
	}
}

// forCustomer leaves out of what was found what is ours.
func forCustomer(found *operate.Found) {
	found.Gaps, found.Read = nil, 0
	for _, d := range found.Deliveries {
		d.Origin = ""
		for i := range d.Attempts {
			a := &d.Attempts[i]
			a.Origin, a.Instance, a.DeadLetter = "", "", ""
			if a.Reason != "" {
				a.Reason, a.Detail = discreet(a.Reason, a.Detail, a.Status)
			}
		}
		d.Reason = d.Attempts[0].Reason
	}
}

// getDelivery says all that is known of one delivery: its attempts, where it waits, and its last dead letter.
func (a *api) getDelivery(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	if !webhook.ValidID(id) {
		return problemf(http.StatusNotFound, "there is no such webhook-id: it is msg_ and 26 characters")
	}
	release, err := a.budgets.scan(r.Context(), scope{})
	if err != nil {
		return err
	}
	defer release()
	q := operate.FindQuery{ID: id}
	found, err := operate.Find(r.Context(), a.Kafka, &q, nil, nil)
	if errors.Is(err, operate.ErrNoAttempts) {
		return errNoAttemptsTopic
	}
	if err != nil {
		return err
	}
	if len(found.Deliveries) == 0 {
		return problemf(http.StatusNotFound, "the attempts topic holds no attempt of this delivery")
	}
	if err := operate.Follow(r.Context(), a.Kafka, &q, found, nil, nil); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, "application/json", found.Deliveries[0])
	return nil
}
