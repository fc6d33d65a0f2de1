package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"fanout/dispatcher"
	"fanout/event"
	"fanout/subscriptions"
	"fanout/topic"
)

// generate in a PUT's secrets asks for a secret of the server's making; the answer shows it, once.
const generate = "generate"

// errNoSubscription is the API's, errNoWebhook the same on a page.
var (
	errNoSubscription = problemf(http.StatusNotFound, "there is no such subscription")
	errNoWebhook      = problemf(http.StatusNotFound, "there is no such webhook")
)

const notInForce = "it is stored, but not in force on this instance yet: %v"

func (a *api) listSubscriptions(w http.ResponseWriter, r *http.Request) error {
	account := r.PathValue("account")
	if bad := subscriptions.CheckIdentity(account, "x"); bad != nil {
		return bad
	}
	q := newQuery(r, "limit", "after")
	limit, after := q.count("limit", 100, 1000), q.text("after")
	if err := q.err(); err != nil {
		return err
	}
	all, err := a.Store.List(r.Context(), account)
	if err != nil {
		return err
	}
	from := 0
	for from < len(all) && all[from].ID <= after && after != "" {
		from++
	}
	page := struct {
		Subscriptions []map[string]any `json:"subscriptions"`
		Next          string           `json:"next,omitempty"`
	}{Subscriptions: []map[string]any{}}
	for _, stored := range all[from:min(from+limit, len(all))] {
		page.Subscriptions = append(page.Subscriptions, a.listed(&stored))
	}
	if from+limit < len(all) {
		page.Next = all[from+limit-1].ID
	}
	writeJSON(w, http.StatusOK, "application/json", page)
	return nil
}

// listed is a subscription's masked JSON, with its id, what is wrong with it where it is not valid, and what is odd.
func (p *panel) listed(stored *subscriptions.Stored) map[string]any {
	item := map[string]any{}
	var members map[string]json.RawMessage
	if json.Unmarshal(subscriptions.Masked(stored.JSON), &members) == nil {
		for key, raw := range members {
			item[key] = raw
		}
	}
	delete(item, "problems")
	delete(item, "warnings")
	item["id"] = stored.ID
	review, warnings := p.review(stored)
	if review.Invalid != nil {
		item["problems"] = asProblem(review.Invalid).Errors
	}
	if len(warnings) > 0 {
		item["warnings"] = warnings
	}
	return item
}

// review says what is odd about a stored subscription. That its URL would be refused if it were written now is so too.
func (p *panel) review(stored *subscriptions.Stored) (subscriptions.Review, []badField) {
	review := p.reader().ReviewStored(stored.Account, stored.ID, stored.JSON, time.Now())
	warnings := badFields(review.Warnings)
	if review.Invalid == nil {
		if err := p.CheckURL(stored.Account, review.Subscription.URL()); err != nil {
			warnings = append(warnings, badField{"url", err.Error()})
		}
	}
	return review, warnings
}

func (a *api) getSubscription(w http.ResponseWriter, r *http.Request) error {
	account, id, err := identity(r)
	if err != nil {
		return err
	}
	data, ok, err := a.Store.Get(r.Context(), account, id)
	if err != nil {
		return err
	}
	if !ok {
		return errNoSubscription
	}
	writeJSON(w, http.StatusOK, "application/json", json.RawMessage(subscriptions.Masked(data)))
	return nil
}

func (a *api) putSubscription(w http.ResponseWriter, r *http.Request) error {
	account, id, err := identity(r)
	if err != nil {
		return err
	}
	sent, err := body(r)
	if err != nil {
		return err
	}
	result, err := a.put(r.Context(), a.callerOf(r, scope{}), account, id, func([]byte) ([]byte, error) { return ownWords(sent, id), nil })
	if err != nil {
		return err
	}
	status := http.StatusOK
	if result.created {
		status = http.StatusCreated
		w.Header().Set("Location", r.URL.EscapedPath())
	}
	shown, err := result.shown()
	if err != nil {
		return err
	}
	writeJSON(w, status, "application/json", shown)
	return nil
}

// ownWords is what was sent without what answers add to a subscription, so that an answer can be sent back: warnings and
// problems, and the id, where it is the one that the path has.
func ownWords(sent []byte, id string) []byte {
	var members map[string]json.RawMessage
	if json.Unmarshal(sent, &members) != nil {
		return sent // Merge says what is wrong with it
	}
	known := len(members)
	delete(members, "warnings")
	delete(members, "problems")
	var same string
	if json.Unmarshal(members["id"], &same) == nil && same == id {
		delete(members, "id")
	}
	if len(members) == known {
		return sent
	}
	out, err := json.Marshal(members)
	if err != nil { // JSON that was decoded can be encoded
		return sent
	}
	return out
}

func (a *api) deleteSubscription(w http.ResponseWriter, r *http.Request) error {
	account, id, err := identity(r)
	if err != nil {
		return err
	}
	if err := a.delete(r.Context(), a.callerOf(r, scope{}), account, id); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *api) releaseSubscription(w http.ResponseWriter, r *http.Request) error {
	account, id, err := identity(r)
	if err != nil {
		return err
	}
	if err := a.release(r.Context(), a.callerOf(r, scope{}), account, id); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// release has every instance open the lane and fetch what waits for it, this one before the answer.
func (p *panel) release(ctx context.Context, by caller, account, id string) error {
	if p.Directory.Lookup(account, id) == nil {
		return errNoSubscription
	}
	if err := p.Store.As(by.actor).Release(ctx, account, id); err != nil {
		return err
	}
	p.Dispatcher.Release(account, id)
	p.record(by, &topic.EndpointEvent{Kind: topic.KindReleased, Account: account, Subscription: id})
	return nil
}

// tested is what a test event led to.
type tested struct {
	Event    string  `json:"event"`
	Sent     bool    `json:"sent"` // a request was made, or tried; else detail says why not
	Outcome  string  `json:"outcome"`
	Reason   string  `json:"reason,omitempty"`
	Status   int     `json:"status,omitempty"`
	TookMs   float64 `json:"tookMs"`
	Detail   string  `json:"detail,omitempty"`
	Request  string  `json:"request,omitempty"`
	Response string  `json:"response,omitempty"` // at most its first KiB
}

func (a *api) testSubscription(w http.ResponseWriter, r *http.Request) error {
	account, id, err := identity(r)
	if err != nil {
		return err
	}
	var ask struct {
		Event string `json:"event"`
	}
	if err := decode(r, &ask); err != nil {
		return err
	}
	result, err := a.test(r.Context(), account, id, ask.Event)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, "application/json", result)
	return nil
}

// test sends one signed sample now; of the first selected event where none is named.
func (p *panel) test(ctx context.Context, account, id, name string) (tested, error) {
	sub := p.Directory.Lookup(account, id)
	if sub == nil {
		return tested{}, errNoSubscription
	}
	names := sub.Events().Names(p.catalogue())
	if name != "" {
		chosen, ok := p.catalogue().Parse(name)
		if !ok {
			return tested{}, invalid(badField{"event", "is not an event name"})
		}
		names = []event.Name{chosen}
	}
	if len(names) == 0 { // as a snapshot file of another version has it, until Redis is read
		return tested{}, problemf(http.StatusConflict, "it selects no event that is known here")
	}
	out, err := p.Dispatcher.Test(ctx, sub, names[0])
	if errors.Is(err, dispatcher.ErrTestLimit) {
		return tested{}, problemf(http.StatusTooManyRequests, "%v", err)
	}
	if err != nil {
		return tested{}, err
	}
	return tested{
		Event: names[0].String(), Sent: out.Sent, Outcome: out.Result.String(), Reason: out.Reason.String(), Status: out.Status,
		TookMs: float64(out.Took.Microseconds()) / 1000, Detail: out.Detail, Request: out.Request, Response: readable(out.Response),
	}, nil
}
