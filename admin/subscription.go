package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"fanout/dispatcher/webhook"
	"fanout/event"
	"fanout/subscriptions"
)

// generate in a PUT's secrets asks for a secret of the server's making; the answer shows it, once.
const generate = "generate"

var errNoSubscription = problemf(http.StatusNotFound, "there is no such subscription")

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
		page.Subscriptions = append(page.Subscriptions, listed(&stored))
	}
	if from+limit < len(all) {
		page.Next = all[from+limit-1].ID
	}
	writeJSON(w, http.StatusOK, "application/json", page)
	return nil
}

// listed is a subscription's masked JSON, with its id and, where it is not valid, what is wrong with it.
func listed(stored *subscriptions.Stored) map[string]any {
	item := map[string]any{}
	var members map[string]json.RawMessage
	if json.Unmarshal(subscriptions.Masked(stored.JSON), &members) == nil {
		for key, raw := range members {
			item[key] = raw
		}
	}
	delete(item, "problems")
	item["id"] = stored.ID
	if _, bad := subscriptions.Parse(stored.Account, stored.ID, stored.JSON); bad != nil {
		item["problems"] = asProblem(bad).Errors
	}
	return item
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
	shown, created, err := a.put(r.Context(), account, id, sent)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
		w.Header().Set("Location", r.URL.EscapedPath())
	}
	writeJSON(w, status, "application/json", json.RawMessage(shown))
	return nil
}

// put stores what was sent, merged with what is stored, and brings it into force here. It returns the subscription for
// showing: masked, but for secrets that were made just now.
func (p *panel) put(ctx context.Context, account, id string, sent []byte) (shown []byte, created bool, err error) {
	// Two writers through this instance do not lose each other's secrets; across instances the last one wins.
	p.writing.Lock()
	defer p.writing.Unlock()
	sent, made, err := withGenerated(sent)
	if err != nil {
		return nil, false, err
	}
	stored, _, err := p.Store.Get(ctx, account, id)
	if err != nil {
		return nil, false, err
	}
	merged, err := subscriptions.Merge(stored, sent)
	if err != nil {
		return nil, false, err
	}
	_, bad := subscriptions.Parse(account, id, merged)
	var problems []badField
	if bad != nil {
		problems = asProblem(bad).Errors
	}
	// The URL of a subscription that is wrong elsewhere can be wrong too: all is reported together.
	if url := urlOf(merged); url != "" && !slices.ContainsFunc(problems, func(f badField) bool { return f.Field == "url" }) {
		if err := p.CheckURL(url); err != nil {
			problems = append(problems, badField{"url", err.Error()})
		}
	}
	if len(problems) > 0 {
		return nil, false, invalid(problems...)
	}
	if created, err = p.Store.Put(ctx, account, id, merged); err != nil {
		return nil, false, err
	}
	if err := p.Directory.Refresh(ctx, account); err != nil {
		return nil, created, problemf(http.StatusServiceUnavailable, notInForce, err)
	}
	return unmasked(subscriptions.Masked(merged), merged, made), created, nil
}

// urlOf is the URL of what may be no valid subscription; empty where it is no text.
func urlOf(data []byte) string {
	var sub struct {
		URL any `json:"url"`
	}
	if json.Unmarshal(data, &sub) != nil {
		return ""
	}
	url, _ := sub.URL.(string)
	return url
}

// withGenerated puts a new secret in place of each that the sender wants generated.
func withGenerated(sent []byte) (out []byte, made []string, err error) {
	var members map[string]json.RawMessage
	var secrets []json.RawMessage
	if json.Unmarshal(sent, &members) != nil || json.Unmarshal(members["secrets"], &secrets) != nil {
		return sent, nil, nil //nolint:nilerr // Parse says what is wrong with it
	}
	for i, raw := range secrets {
		if string(raw) == `"`+generate+`"` {
			secret := webhook.GenerateSecret()
			made = append(made, secret)
			secrets[i] = json.RawMessage(`"` + secret + `"`)
		}
	}
	if made == nil {
		return sent, nil, nil
	}
	if members["secrets"], err = json.Marshal(secrets); err != nil {
		return nil, nil, err
	}
	out, err = json.Marshal(members)
	return out, made, err
}

// unmasked shows the secrets that were made just now in a masked subscription.
func unmasked(masked, stored []byte, made []string) []byte {
	if len(made) == 0 {
		return masked
	}
	var shown, whole map[string]json.RawMessage
	var hidden, open []string
	if json.Unmarshal(masked, &shown) != nil || json.Unmarshal(stored, &whole) != nil ||
		json.Unmarshal(shown["secrets"], &hidden) != nil || json.Unmarshal(whole["secrets"], &open) != nil {
		return masked
	}
	for i, secret := range open {
		if slices.Contains(made, secret) {
			hidden[i] = secret
		}
	}
	secrets, err := json.Marshal(hidden)
	if err != nil {
		return masked
	}
	shown["secrets"] = secrets
	out, err := json.Marshal(shown)
	if err != nil {
		return masked
	}
	return out
}

func (a *api) deleteSubscription(w http.ResponseWriter, r *http.Request) error {
	account, id, err := identity(r)
	if err != nil {
		return err
	}
	if err := a.delete(r.Context(), account, id); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// delete removes a subscription, if it is there: doing it twice is doing it once.
func (p *panel) delete(ctx context.Context, account, id string) error {
	p.writing.Lock()
	defer p.writing.Unlock()
	if _, err := p.Store.Delete(ctx, account, id); err != nil {
		return err
	}
	if err := p.Directory.Refresh(ctx, account); err != nil {
		return problemf(http.StatusServiceUnavailable, notInForce, err)
	}
	return nil
}

// rotated is the only answer that shows the new secret.
type rotated struct {
	Secret    string `json:"secret"`
	PublicKey string `json:"publicKey,omitempty"` // for the receiver, where the secret is an Ed25519 key
	Secrets   int    `json:"secrets"`             // how many sign from now on
}

func (a *api) rotateSecret(w http.ResponseWriter, r *http.Request) error {
	account, id, err := identity(r)
	if err != nil {
		return err
	}
	var ask struct {
		Keep *whole `json:"keep"`
	}
	if err := decode(r, &ask); err != nil {
		return err
	}
	keep := whole(1)
	if ask.Keep != nil {
		keep = *ask.Keep
	}
	if keep < 0 || keep > 4 {
		return invalid(badField{"keep", "want a whole number from 0 to 4"})
	}
	result, err := a.rotate(r.Context(), account, id, int(keep))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, "application/json", result)
	return nil
}

// rotate puts a new secret first and keeps so many of the old ones, so that receivers find the signature of the one
// they know until they have the new one too.
func (p *panel) rotate(ctx context.Context, account, id string, keep int) (rotated, error) {
	result := rotated{Secret: webhook.GenerateSecret()}
	err := p.rewriteSecrets(ctx, account, id, func(old []string) []string {
		if len(old) > 0 && strings.HasPrefix(old[0], "whsk_") {
			result.Secret, result.PublicKey = webhook.GenerateKeyPair()
		}
		secrets := append([]string{result.Secret}, old[:min(keep, len(old))]...)
		result.Secrets = len(secrets)
		return secrets
	})
	return result, err
}

// retire ends a rotation: the first secret alone goes on signing.
func (p *panel) retire(ctx context.Context, account, id string) error {
	return p.rewriteSecrets(ctx, account, id, func(old []string) []string { return old[:min(1, len(old))] })
}

// rewriteSecrets changes the secrets and nothing else.
func (p *panel) rewriteSecrets(ctx context.Context, account, id string, change func(old []string) []string) error {
	p.writing.Lock()
	defer p.writing.Unlock()
	stored, ok, err := p.Store.Get(ctx, account, id)
	if err != nil {
		return err
	}
	var members map[string]json.RawMessage
	if !ok || json.Unmarshal(stored, &members) != nil {
		return errNoSubscription
	}
	var old []string
	if raw := members["secrets"]; raw != nil && json.Unmarshal(raw, &old) != nil {
		return problemf(http.StatusConflict, "its secrets cannot be read: send a PUT with new ones")
	}
	if members["secrets"], err = json.Marshal(change(old)); err != nil {
		return err
	}
	data, err := json.Marshal(members)
	if err != nil {
		return err
	}
	if _, err := p.Store.Put(ctx, account, id, data); err != nil {
		return err
	}
	if err := p.Directory.Refresh(ctx, account); err != nil {
		return problemf(http.StatusServiceUnavailable, notInForce, err)
	}
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
	names := sub.Events().Names()
	if name != "" {
		chosen, ok := event.ParseName(name)
		if !ok {
			return tested{}, invalid(badField{"event", "is no event name"})
		}
		names = []event.Name{chosen}
	}
	out, err := p.Dispatcher.Test(ctx, sub, names[0])
	if err != nil {
		return tested{}, err
	}
	return tested{
		Event: names[0].String(), Sent: out.Sent, Outcome: out.Result.String(), Reason: out.Reason.String(), Status: out.Status,
		TookMs: float64(out.Took.Microseconds()) / 1000, Detail: out.Detail, Request: out.Request, Response: readable(out.Response),
	}, nil
}
