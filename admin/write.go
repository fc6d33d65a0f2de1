package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"fanout/subscriptions"
	"fanout/topic"
	"fanout/webhook"
)

// written is what a write has stored.
type written struct {
	stored   []byte
	made     []string // secrets that were generated for it
	created  bool
	warnings []badField
}

// put stores what compose makes of what is stored, nil where there is nothing, merged with that, and brings it into force
// here. Compose may be called again where somebody else writes at the same time; its error ends the write.
func (p *panel) put(ctx context.Context, by caller, account, id string, compose func(stored []byte) ([]byte, error)) (written, error) {
	var w written
	var was []byte
	if err := p.room(ctx, account, id); err != nil {
		return w, err
	}
	created, err := p.Store.As(by.actor).Update(ctx, account, id, func(stored json.RawMessage) (json.RawMessage, error) {
		was = stored
		now := time.Now()
		sent, err := compose(stored)
		if err != nil {
			return nil, err
		}
		if sent, w.made, err = withGenerated(sent); err != nil {
			return nil, err
		}
		if w.stored, err = subscriptions.Merge(stored, sent, now); err != nil {
			return nil, err
		}
		w.warnings, err = p.judge(account, id, stored, w.stored, now)
		return w.stored, err
	})
	w.created = created
	if err != nil {
		return w, err
	}
	p.changed(by, account, id, was, w.stored)
	return w, p.enforce(ctx, account)
}

// room refuses a webhook more than an account may have. One that has more may change and delete what it has.
func (p *panel) room(ctx context.Context, account, id string) error {
	if p.Webhooks == 0 {
		return nil
	}
	n, err := p.Store.Count(ctx, account)
	if err != nil || n < p.Webhooks {
		return err
	}
	if _, known, err := p.Store.Get(ctx, account, id); err != nil || known {
		return err
	}
	return problemf(http.StatusConflict, "the account has %s, which is the limit: delete one first", plural(n, "webhook"))
}

// judge holds what is about to be stored to every rule, the egress rules too, and says what is odd about it.
func (p *panel) judge(account, id string, stored, next []byte, now time.Time) (warnings []badField, err error) {
	review := p.reader().ReviewSent(account, id, next, now)
	var problems []badField
	if review.Invalid != nil {
		problems = asProblem(review.Invalid).Errors
	}
	// The URL of a subscription that is wrong elsewhere can be wrong too: all is reported together.
	if url := urlOf(next); url != "" && !slices.ContainsFunc(problems, func(f badField) bool { return f.Field == "url" }) {
		if err := p.CheckURL(account, url); err != nil {
			problems = append(problems, badField{"url", err.Error()})
		}
	}
	if len(problems) > 0 {
		return nil, invalid(problems...)
	}
	return badFields(append(review.Warnings, subscriptions.RemovedSecrets(stored, next, now)...)), nil
}

// enforce brings what is stored of an account into force on this instance, before the answer.
func (p *panel) enforce(ctx context.Context, account string) error {
	if err := p.Directory.Refresh(ctx, account); err != nil {
		return problemf(http.StatusServiceUnavailable, notInForce, err)
	}
	return nil
}

// urlOf is the URL of a subscription that may be invalid; empty where it is not text.
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
		return sent, nil, nil //nolint:nilerr // Merge says what is wrong with it
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

// shown is the answer: the subscription, masked but for secrets that were made just now, with its warnings.
func (w *written) shown() (map[string]json.RawMessage, error) {
	var shown map[string]json.RawMessage
	if err := json.Unmarshal(subscriptions.Masked(w.stored), &shown); err != nil {
		return nil, err
	}
	delete(shown, "warnings") // a stored key of that name is in GET's answer
	var err error
	if len(w.made) > 0 {
		if shown["secrets"], err = w.secrets(); err != nil {
			return nil, err
		}
	}
	if len(w.warnings) > 0 {
		if shown["warnings"], err = json.Marshal(w.warnings); err != nil {
			return nil, err
		}
	}
	return shown, nil
}

// secrets are the stored secrets, masked but for those that were made just now.
func (w *written) secrets() (json.RawMessage, error) {
	var hidden, open struct {
		Secrets []string `json:"secrets"`
	}
	if err := errors.Join(json.Unmarshal(subscriptions.Masked(w.stored), &hidden), json.Unmarshal(w.stored, &open)); err != nil {
		return nil, err
	}
	for i, secret := range open.Secrets {
		if slices.Contains(w.made, secret) {
			hidden.Secrets[i] = secret
		}
	}
	return json.Marshal(hidden.Secrets)
}

// delete removes a subscription, if it is there: doing it twice is doing it once.
func (p *panel) delete(ctx context.Context, by caller, account, id string) error {
	removed, err := p.Store.As(by.actor).Delete(ctx, account, id)
	if err != nil {
		return err
	}
	if removed {
		p.record(by, &topic.EndpointEvent{Kind: topic.KindDeleted, Account: account, Subscription: id})
	}
	return p.enforce(ctx, account)
}
