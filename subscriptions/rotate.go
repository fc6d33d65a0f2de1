package subscriptions

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"fanout/webhook"
)

// How long the secret that a rotation replaces goes on signing.
const (
	RotationLasts    = 24 * time.Hour // where nothing else is asked for
	RotationLastsMax = 30 * 24 * time.Hour
)

// ConflictError is a change that does not fit what is stored. Its text is for whoever asked for the change.
type ConflictError struct{ Text string }

// Error implements error.
func (e *ConflictError) Error() string { return e.Text }

// Rotation is a new secret in front of those that a subscription has.
type Rotation struct {
	JSON      []byte          // the subscription to be stored
	Secret    string          // the new one: show it once
	PublicKey string          // what receivers verify with, where the secret is an Ed25519 key
	Signing   []SigningSecret // from now on, the new one first
}

// Rotate makes a new secret, of the kind of the first one, for the subscription as it is stored. The first one signs on for
// as long as lasts says, 0 removes it at once; the others stay until their own expiry, or until somebody removes them. No
// secret that still signs makes way for the new one: where it finds no room, the error is a [*ConflictError].
func Rotate(stored []byte, lasts time.Duration, now time.Time) (Rotation, error) {
	sub, texts, err := readSecrets(stored, now)
	if err != nil {
		return Rotation{}, err
	}
	r := Rotation{Secret: webhook.GenerateSecret()}
	if len(texts) > 0 {
		if strings.HasPrefix(texts[0], "whsk_") {
			r.Secret, r.PublicKey = webhook.GenerateKeyPair()
		}
		if lasts <= 0 {
			sub, texts = sub.forgetting(texts[0]), texts[1:]
		} else {
			sub = sub.expiring(texts[0], now.Add(lasts))
		}
	}
	if len(texts) >= maxSecrets {
		return Rotation{}, &ConflictError{fmt.Sprintf("%d secrets sign already, the most that there can be, and a new one must not make one of them cease to sign: %s",
			len(texts), sub.firstToGo(texts))}
	}
	r.JSON = writeObject(sub.with("secrets", rawStrings(append([]string{r.Secret}, texts...))))
	r.Signing = Signing(r.JSON, now)
	return r, nil
}

// Retire removes the secret with the fingerprint at once, unless it is the newest one, and says so where it is. One that is
// not there any more is removed already.
func Retire(stored []byte, fingerprint string, now time.Time) ([]byte, error) {
	sub, texts, err := readSecrets(stored, now)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(texts, func(text string) bool { return webhook.Fingerprint(text) == fingerprint })
	switch at {
	case -1:
		return writeObject(sub), nil
	case 0:
		return nil, &ConflictError{"the newest secret stays: rotate it first"}
	}
	sub = sub.forgetting(texts[at])
	return writeObject(sub.with("secrets", rawStrings(slices.Delete(texts, at, at+1)))), nil
}

// readSecrets is a stored subscription without what has expired, and its secrets.
func readSecrets(stored []byte, now time.Time) (object, []string, error) {
	sub, err := readObject(stored)
	if err != nil {
		return nil, nil, &ConflictError{"the stored subscription cannot be read (" + err.Error() + "): write it again"}
	}
	sub = sub.pruned(now)
	texts, ok := secretsIn(sub.get("secrets"))
	if !ok {
		return nil, nil, &ConflictError{"the stored secrets cannot be read: write the subscription with new ones"}
	}
	return sub, texts, nil
}

// expiring is the subscription with an expiry of the secret, unless it has one.
func (o object) expiring(secret string, until time.Time) object {
	times := object{}
	if kindOf(o.get("secretExpiry")) == '{' {
		times, _ = readObject([]byte(o.get("secretExpiry"))) // it is part of valid JSON
	}
	if _, expires := expiryIn(o.get("secretExpiry")).of(secret); expires {
		return o
	}
	times = times.with(webhook.Fingerprint(secret), quote(until.Add(time.Second-1).Truncate(time.Second).UTC().Format(time.RFC3339)))
	return o.with("secretExpiry", string(writeObject(times)))
}

// forgetting is the subscription without an expiry of the secret.
func (o object) forgetting(secret string) object {
	fp := webhook.Fingerprint(secret)
	return o.withoutMembers("secretExpiry", func(name, _ string) bool { return strings.ToLower(name) == fp })
}

// firstToGo says what makes room for another secret.
func (o object) firstToGo(texts []string) string {
	var soonest time.Time
	for _, text := range texts {
		if until, expires := expiryIn(o.get("secretExpiry")).of(text); expires && (soonest.IsZero() || until.Before(soonest)) {
			soonest = until
		}
	}
	if soonest.IsZero() {
		return "remove one that no receiver verifies with"
	}
	return "the first of them expires at " + soonest.Format(time.RFC3339) + "; or remove one that no receiver verifies with"
}
