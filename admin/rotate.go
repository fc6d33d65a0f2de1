package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"fanout/subscriptions"
)

// rotated is the only answer that shows the new secret.
type rotated struct {
	Secret    string          `json:"secret"`
	PublicKey string          `json:"publicKey,omitempty"` // for the receiver, where the secret is an Ed25519 key
	Secrets   int             `json:"secrets"`             // how many sign now
	Signing   []signingSecret `json:"signing"`             // which ones, the new one first
}

// signingSecret is a secret that signs, without telling it.
type signingSecret struct {
	Fingerprint string     `json:"fingerprint"`     // as in secretExpiry
	Kind        string     `json:"kind"`            // whsec or whsk
	Until       *time.Time `json:"until,omitempty"` // when it ceases to sign; absent: when it is removed
}

func signingSecrets(list []subscriptions.SigningSecret) []signingSecret {
	shown := []signingSecret{}
	for _, secret := range list {
		one := signingSecret{Fingerprint: secret.Fingerprint, Kind: "whsec"}
		if secret.Asymmetric {
			one.Kind = "whsk"
		}
		if !secret.Until.IsZero() {
			one.Until = &secret.Until
		}
		shown = append(shown, one)
	}
	return shown
}

func (a *api) rotateSecret(w http.ResponseWriter, r *http.Request) error {
	account, id, err := identity(r)
	if err != nil {
		return err
	}
	var ask struct {
		ExpiresIn *whole `json:"expiresInSeconds"`
	}
	if err := decode(r, &ask); err != nil {
		return err
	}
	lasts := subscriptions.RotationLasts
	if ask.ExpiresIn != nil {
		if *ask.ExpiresIn < 0 || *ask.ExpiresIn > whole(subscriptions.RotationLastsMax/time.Second) {
			return invalid(badField{"expiresInSeconds", "want 0 to 2592000 (30 days)"})
		}
		lasts = time.Duration(*ask.ExpiresIn) * time.Second
	}
	result, err := a.rotate(r.Context(), a.callerOf(r, scope{}), account, id, lasts)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, "application/json", result)
	return nil
}

// rotate puts a new secret first. The former one signs on for as long as lasts says, so that receivers find the signature
// of the one they know until they have the new one too.
func (p *panel) rotate(ctx context.Context, by caller, account, id string, lasts time.Duration) (rotated, error) {
	var result rotated
	err := p.rewrite(ctx, by, account, id, func(stored []byte, now time.Time) ([]byte, error) {
		r, err := subscriptions.Rotate(stored, lasts, now)
		result = rotated{r.Secret, r.PublicKey, len(r.Signing), signingSecrets(r.Signing)}
		return r.JSON, err
	})
	return result, err
}

// retire has one of the former secrets cease to sign now.
func (p *panel) retire(ctx context.Context, by caller, account, id, fingerprint string) error {
	return p.rewrite(ctx, by, account, id, func(stored []byte, now time.Time) ([]byte, error) {
		return subscriptions.Retire(stored, fingerprint, now)
	})
}

// rewrite changes a subscription that must be there, and brings it into force here. It is not held to rules that are newer
// than what is stored: a secret that has leaked can be replaced all the same.
func (p *panel) rewrite(ctx context.Context, by caller, account, id string, change func(stored []byte, now time.Time) ([]byte, error)) error {
	var was, next []byte
	_, err := p.Store.As(by.actor).Update(ctx, account, id, func(stored json.RawMessage) (made json.RawMessage, err error) {
		if stored == nil {
			return nil, errNoSubscription
		}
		was = stored
		next, err = change(stored, time.Now())
		return next, err
	})
	if err != nil {
		return err
	}
	p.changed(by, account, id, was, next)
	return p.enforce(ctx, account)
}
