package admin

import (
	"context"
	"errors"
	"net/http"
	"time"

	"fanout/dispatcher"
	"fanout/operate"
	"fanout/subscriptions"
	"fanout/topic"
	"fanout/webhook"
)

const (
	explainPatience = time.Minute
	explainSince    = 24 * time.Hour // how far back events are looked for, unless asked otherwise
)

// explainAsk says what is to be explained: a record, or those that a query leads to.
type explainAsk struct {
	at    *dispatcher.Origin
	query operate.FindQuery
}

// explainedRecords are records and who gets them.
type explainedRecords struct {
	Records []*operate.Explained `json:"records"`
	More    int                  `json:"more"` // that the query leads to as well
}

// explainRecords says who gets a record, who does not and why (docs/contract.md#commands).
func (a *api) explainRecords(w http.ResponseWriter, r *http.Request) error {
	q := newQuery(r, "record", "account", "subscription", "trackingId", "userId", "notificationId", "webhookId", "from", "to")
	ask := explainAsk{query: operate.FindQuery{
		Account: q.text("account"), Subscription: q.text("subscription"), ID: q.text("webhookId"), TrackingID: q.text("trackingId"),
		NotificationID: q.text("notificationId"), UserID: q.text("userId"), Since: q.time("from"), Until: q.time("to"),
	}}
	if place := q.text("record"); place != "" {
		at, err := topic.ParseOrigin(place)
		if err != nil {
			q.fail("record", "must be TOPIC/PARTITION/OFFSET, such as channel.email/3/1287")
		}
		ask.at = &at
	} else if ask.query.Account == "" && ask.query.ID == "" {
		q.fail("record", "is required, or else account or webhookId")
	}
	if ask.query.Since.IsZero() {
		ask.query.Since = time.Now().Add(-explainSince)
	}
	if err := q.err(); err != nil {
		return err
	}
	out, err := a.explained(r.Context(), &ask)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, "application/json", out)
	return nil
}

// explained explains what is asked for. Nothing that is found is an error.
func (p *panel) explained(ctx context.Context, ask *explainAsk) (*explainedRecords, error) {
	release, err := p.budgets.scan(ctx, scope{})
	if err != nil {
		return nil, err
	}
	defer release()
	bounded, cancel := context.WithTimeout(ctx, explainPatience)
	defer cancel()
	e, err := operate.NewExplainer(p.Kafka, operate.ExplainConfig{Directory: p.Directory, Renderer: p.Dispatcher.Renderer(), Lane: p.laneWords})
	if err != nil {
		return nil, err
	}
	defer e.Close()
	out := &explainedRecords{}
	if ask.at != nil {
		out.Records, err = p.explainedAt(bounded, e, *ask.at)
	} else {
		out.Records, out.More, err = e.Find(bounded, &ask.query)
	}
	switch {
	case bounded.Err() != nil && ctx.Err() == nil:
		return nil, errSlow
	case errors.Is(err, operate.ErrNoAttempts):
		return nil, errNoAttemptsTopic
	case err != nil:
		return nil, asNoRecord(err)
	case len(out.Records) == 0:
		return nil, problemf(http.StatusNotFound, "neither an attempt nor a record of a source was found since %s: the event was never produced, or before that", ask.query.Since.UTC().Format(time.RFC3339))
	}
	return out, nil
}

// explainedAt explains the record at that place, if there is one.
func (p *panel) explainedAt(ctx context.Context, e *operate.Explainer, at dispatcher.Origin) ([]*operate.Explained, error) {
	held, err := p.Kafka.Ranges(ctx, at.Topic, time.Time{})
	switch r, ok := held[at.Partition]; {
	case topic.NoTopic(err):
		return nil, problemf(http.StatusNotFound, "there is no topic %s", at.Topic)
	case err != nil:
		return nil, err
	case !ok || at.Offset < r.From || at.Offset >= r.To:
		return nil, problemf(http.StatusNotFound, "%s is not there: it has been deleted, or was never written", at)
	}
	one, err := e.Record(ctx, at)
	if err != nil {
		return nil, err
	}
	return []*operate.Explained{one}, nil
}

// asNoRecord is the problem of a place that holds nothing to explain.
func asNoRecord(err error) error {
	if _, other := errors.AsType[*operate.NotASourceError](err); other || errors.Is(err, operate.ErrNoRecord) {
		return problemf(http.StatusNotFound, "%v", err)
	}
	return err
}

// laneWords says how a subscription's lane is on this instance.
func (p *panel) laneWords(_ context.Context, sub *subscriptions.Subscription) string {
	l, ok := p.Dispatcher.Lane(sub.Account(), sub.ID())
	switch {
	case sub.Paused():
		return "paused"
	case !ok:
		return "idle"
	case l.Why != "":
		return l.State + ": " + l.Why
	}
	return l.State
}

// explainBody is what became of what somebody typed.
type explainBody struct {
	At, Query, Account, From string
	*explainedRecords

	Audited map[string]auditedDelivery // by webhook-id
	Missing int                        // of those: there is no trace of them

	NotAudited string // why an audit was not possible

	Problem *problem
	Since   time.Time
}

// explain answers "what became of it?" from the sources, where there was perhaps no attempt at all.
func (p *pages) explain(r *http.Request, _ scope) (view, error) {
	body := explainBody{At: r.Form.Get("at"), Query: r.Form.Get("q"), Account: r.Form.Get("account"), From: r.Form.Get("from"), explainedRecords: &explainedRecords{}}
	v := view{Title: "What became of it?", Nav: "deliveries"}
	ask, bad := body.ask()
	var err error
	switch {
	case len(bad) > 0:
		err = invalid(bad...)
	case body.At != "" || body.Query != "":
		var out *explainedRecords
		if out, err = p.explained(r.Context(), &ask); err == nil {
			body.explainedRecords = out
			body.auditRecords(r.Context(), p.panel)
		}
	}
	if err != nil {
		known := asProblem(err)
		if known.Status == http.StatusServiceUnavailable {
			return view{}, err
		}
		body.Problem, v.Status = known, known.Status
	}
	body.Since = ask.query.Since
	v.Body = &body
	return v, nil
}

func (b *explainBody) ask() (ask explainAsk, bad []badField) {
	ask.query = operate.FindQuery{Account: b.Account, Any: b.Query}
	if webhook.ValidID(b.Query) {
		ask.query.ID, ask.query.Any = b.Query, ""
	}
	if b.At != "" {
		at, err := topic.ParseOrigin(b.At)
		if err != nil {
			bad = append(bad, badField{"at", "must be TOPIC/PARTITION/OFFSET, such as channel.email/3/1287"})
		}
		ask.at = &at
	}
	if ask.query.Since, bad = formTime(bad, "from", b.From); ask.query.Since.IsZero() {
		ask.query.Since = time.Now().Add(-explainSince)
	}
	return ask, bad
}

// Explain is the address of what became of a record.
func (s scope) Explain(record string) string { return s.path(explainPath, "at", record) }

// ExplainEvents is the address of what became of the events with an id.
func (s scope) ExplainEvents(f deliveryForm) string {
	return s.path(explainPath, "q", f.Query, "account", f.Account, "from", f.From)
}

const explainPath = "/explain"
