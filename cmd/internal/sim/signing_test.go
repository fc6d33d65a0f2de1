package sim

import (
	"fmt"
	"net/http"
	"time"

	"fanout/subscriptions"
	"fanout/webhook"
)

// keys are the secrets that a receiver knows: the present one, and the one that it has replaced.
type keys struct {
	now    webhook.Secret
	before webhook.Secret
	signs  bool      // the subscription has a secret
	since  time.Time // the rotation; zero: there was none
	until  time.Time // the one before signs so long
}

// sign gives the receiver its first secret, and its subscription the key for it.
func (r *receiver) sign() string {
	text := webhook.GenerateSecret()
	secret, err := webhook.ParseSecret(text)
	if err != nil {
		panic(err) // it was made a line before
	}
	r.keys = keys{now: secret, signs: true}
	return fmt.Sprintf(`,"secrets":[%q]`, text)
}

// hears is within which a new secret is in force everywhere: at once, or when Redis can be read again.
func (k *keys) hears(troubled bool) time.Duration {
	if troubled {
		return k.until.Sub(k.since) + 10*time.Minute
	}
	return pausedFor
}

// check verifies a request as a receiver would that moves from one secret to the next whenever it likes.
func (k *keys) check(h http.Header, body []byte, now time.Time, troubled bool) error {
	if !k.signs {
		return nil
	}
	if k.since.IsZero() || now.After(k.since.Add(k.hears(troubled))) {
		if err := verify(k.now, h, body, now); err != nil {
			return fmt.Errorf("its secret of %v: %w", k.since, err)
		}
	}
	if now.Before(k.until) {
		if err := verify(k.before, h, body, now); err != nil {
			return fmt.Errorf("the secret that is to sign until %v: %w", k.until, err)
		}
	}
	return nil
}

func verify(secret webhook.Secret, h http.Header, body []byte, now time.Time) error {
	_, err := webhook.Verify([]webhook.Secret{secret}, h.Get("Webhook-Id"), h.Get("Webhook-Timestamp"), h.Get("Webhook-Signature"), body, now, 5*time.Minute)
	return err
}

// rotated gives the receiver its next secret.
func (r *receiver) rotated(to subscriptions.Rotation, lasts time.Duration) error {
	next, err := webhook.ParseSecret(to.Secret)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.json = string(to.JSON)
	k, now := &r.keys, time.Now()
	if !k.signs { // nothing signs before it
		*k = keys{now: next, signs: true, since: now, until: now}
		return nil
	}
	*k = keys{now: next, before: k.now, signs: true, since: now, until: now.Add(lasts)}
	return nil
}
