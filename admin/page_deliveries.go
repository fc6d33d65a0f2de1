package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"fanout/dispatcher"
	"fanout/operate"
	"fanout/topic"
	"fanout/webhook"
)

// Bounds of one look at the log of deliveries.
const (
	pageDeliveries   = 50
	pagePatience     = 5 * time.Second // then the page shows what was found, and goes on from there when asked
	deliveryPatience = 30 * time.Second
)

// deliveriesBody is the log of deliveries: those of all instances, from the attempts topic (docs/contract.md#attempts-shown).
type deliveriesBody struct {
	Form             deliveryForm
	Events, Outcomes []string
	Filtered         bool
	Problem          *problem
	Off              bool // there is no attempts topic
	Rows             []deliveryRow
	Gaps             int       // ranges of which attempts were not recorded
	Asked            time.Time // when
	Older            string    // the next page; empty: there is none
	Unfinished       bool      // the search was ended before it had seen all
}

// deliveryForm is the filter as it was typed.
type deliveryForm struct{ Query, Account, Subscription, Event, Outcome, Status, From, To string }

func newDeliveryForm(r *http.Request, s scope) deliveryForm {
	f := func(name string) string { return strings.TrimSpace(r.Form.Get(name)) }
	return deliveryForm{f("q"), own(s, r), f("subscription"), f("event"), f("outcome"), f("status"), f("from"), f("to")}
}

func (f deliveryForm) filtered(s scope) bool {
	if s.Portal {
		f.Account = ""
	}
	return f != deliveryForm{}
}

// query is what the form asks for; bad names what cannot be read.
func (f deliveryForm) query(events []string) (q operate.FindQuery, bad []badField) {
	q = operate.FindQuery{Any: f.Query, Account: f.Account, Subscription: f.Subscription, Event: f.Event, Outcome: f.Outcome}
	if webhook.ValidID(f.Query) { // its header says so, and no value has to be looked into
		q.ID, q.Any = f.Query, ""
	}
	if f.Event != "" && !slices.Contains(events, f.Event) {
		bad = append(bad, badField{"event", "must be one of " + strings.Join(events, ", ")})
	}
	if f.Outcome != "" && !slices.Contains(shownOutcomes(), f.Outcome) {
		bad = append(bad, badField{"outcome", "must be one of " + strings.Join(shownOutcomes(), ", ")})
	}
	if f.Status != "" {
		n, err := strconv.Atoi(f.Status)
		if err != nil || n < 100 || n > 999 {
			bad = append(bad, badField{"status", "must be an HTTP status such as 503"})
		}
		q.Status = n
	}
	q.Since, bad = formTime(bad, "from", f.From)
	q.Until, bad = formTime(bad, "to", f.To)
	if len(bad) == 0 && !q.Until.IsZero() && !q.Since.Before(q.Until) {
		bad = append(bad, badField{"to", "must be after from"})
	}
	return q, bad
}

// shownOutcomes are those that an attempts record may have.
func shownOutcomes() []string {
	return slices.DeleteFunc(dispatcher.ResultNames(), func(name string) bool { return name == "abandoned" })
}

// deliveryRow is a delivery in the list, as its newest attempt that was found has it.
type deliveryRow struct {
	*operate.FoundDelivery

	Badge  badge
	Answer string
	TookMs float64 // of the last request; 0: none was made
	Posts  int     // that were found
	At     string  // the address of its page
}

func newDeliveryRow(s scope, d *operate.FoundDelivery) deliveryRow {
	last := deliveryAttempt(&d.Attempts[0])
	row := deliveryRow{FoundDelivery: d, Badge: outcomeBadge(&last), Answer: answer(&last), At: s.Delivery(d)}
	for i := range d.Attempts {
		if d.Attempts[i].Attempt == 0 {
			continue
		}
		if row.Posts == 0 {
			row.TookMs = float64(d.Attempts[i].TookMillis)
		}
		row.Posts++
	}
	return row
}

// Delivery is the address of a delivery's page. It says since when there is something to read, where that is known.
func (s scope) Delivery(d *operate.FoundDelivery) string {
	from := ""
	if oldest := &d.Attempts[len(d.Attempts)-1]; oldest.Stage == dispatcher.StageFirst.String() {
		from = time.UnixMilli(oldest.Time).UTC().Format(time.RFC3339)
	}
	return s.path(deliveryPath, "id", d.ID, "from", from)
}

// DeliveryOf is the address of the page of the delivery with that webhook-id.
func (s scope) DeliveryOf(id string) string { return s.path(deliveryPath, "id", id) }

// Deliveries is the address of a webhook's deliveries.
func (s scope) Deliveries(account, id string) string {
	return s.path(deliveriesPath, "account", account, "subscription", id)
}

const (
	deliveriesPath = "/deliveries"
	deliveryPath   = "/deliveries/show"
	resendPath     = "/deliveries/resend"
)

// deliveriesPage finds deliveries by what the form says, a page at a time, the newest first.
func (p *pages) deliveriesPage(r *http.Request, s scope) (view, error) {
	form := newDeliveryForm(r, s)
	body := deliveriesBody{Form: form, Events: p.catalogue().Texts(), Outcomes: shownOutcomes(), Filtered: form.filtered(s), Asked: time.Now()}
	v := view{Title: "Deliveries", Nav: "deliveries", Hub: p.hubOf(form.Account, form.Subscription, "deliveries")}
	q, bad := form.query(body.Events)
	if len(bad) > 0 {
		body.Problem, v.Status = invalid(bad...), http.StatusUnprocessableEntity
		v.Body = body
		return v, nil
	}
	q.Limit, q.Cursor, q.Patience = pageDeliveries, r.Form.Get("cursor"), pagePatience
	found, err := p.look(r.Context(), s, &q)
	switch {
	case errors.Is(err, operate.ErrNoAttempts):
		body.Off, v.Body = true, body
		return v, nil
	case errors.Is(err, operate.ErrCursor):
		return view{}, moved(s.within(r, "cursor", ""))
	case err != nil:
		return view{}, err
	}
	if body.Gaps = len(found.Gaps); s.Portal {
		forCustomer(found)
	}
	for _, d := range found.Deliveries {
		body.Rows = append(body.Rows, newDeliveryRow(s, d))
	}
	if body.Unfinished = found.Unfinished; found.Cursor != "" {
		body.Older = s.Base + s.within(r, "cursor", found.Cursor)
	}
	v.Body = body
	return v, nil
}

// within is the address of the page that is asked for, without the scope's base, with one value changed.
func (s scope) within(r *http.Request, name, value string) string {
	q := r.URL.Query()
	q.Set(name, value)
	if value == "" {
		q.Del(name)
	}
	return strings.TrimPrefix(r.URL.Path, s.Base) + "?" + q.Encode()
}

// look reads the attempts topic for somebody, within what they may cost.
func (p *panel) look(ctx context.Context, s scope, q *operate.FindQuery) (*operate.Found, error) {
	release, err := p.budgets.scan(ctx, s)
	if err != nil {
		return nil, err
	}
	defer release()
	return operate.Find(ctx, p.Kafka, q, nil, nil)
}

// deliveryAttempt is an attempts record as the pages show attempts.
func deliveryAttempt(a *topic.Attempt) attempt {
	return attempt{
		Time: time.UnixMilli(a.Time).UTC(), ID: a.ID, Account: a.Account, Subscription: a.Subscription, Event: a.Event, Stage: a.Stage, Attempt: a.Attempt,
		Outcome: a.Outcome, Reason: a.Reason, Status: a.Status, TookMs: float64(a.TookMillis), Batch: a.Batch, BatchSize: a.BatchSize, Detail: a.Detail, Response: a.Response,
	}
}
