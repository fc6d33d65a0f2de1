package subscriptions

import (
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	"fanout/webhook"
)

// secretTimes says until when secrets sign, by the secret's fingerprint in lower case. A secret that is not in it does not
// expire.
type secretTimes map[string]time.Time

// of is when the secret ceases to sign; false where it does not.
func (s secretTimes) of(secret string) (time.Time, bool) {
	if len(s) == 0 {
		return time.Time{}, false // what a fingerprint costs is for the few that rotate
	}
	until, ok := s[webhook.Fingerprint(secret)]
	return until, ok
}

// readExpiry takes {"<fingerprint>": "<RFC 3339>"}.
func (p *parser) readExpiry(raw string) {
	if kindOf(raw) != '{' {
		p.bad("secretExpiry", `want an object: {"<first 16 hex digits of the secret's SHA-256>": "<RFC 3339 time>"}`)
		return
	}
	p.expiry = secretTimes{}
	for name, value := range members(raw) {
		until, problem := expiryOf(name, value)
		if problem != "" {
			p.bad("secretExpiry."+shown(name, 64), "%s", problem)
			continue
		}
		p.expiry[strings.ToLower(name)] = until
	}
}

// expiryOf reads one member of secretExpiry, or says what is wrong with it. A part of a second is rounded up.
func expiryOf(name, raw string) (until time.Time, problem string) {
	if !isFingerprint(name) {
		return time.Time{}, "want the first 16 hex digits of a secret's SHA-256"
	}
	text, _ := unquote(raw)
	until, err := time.Parse(time.RFC3339, text)
	if err != nil || until.IsZero() { // Go writes a time that was never set so: nobody means the year 1
		return time.Time{}, "want a time as RFC 3339 writes it, such as 2026-01-31T08:00:00Z"
	}
	return until.Add(time.Second - 1).Truncate(time.Second).UTC(), ""
}

func isFingerprint(text string) bool {
	const size = 8
	_, err := hex.DecodeString(text)
	return err == nil && len(text) == hex.EncodedLen(size)
}

// expiryIn reads the secretExpiry of a stored subscription, as far as it can be read.
func expiryIn(raw string) secretTimes {
	times := secretTimes{}
	if kindOf(raw) != '{' {
		return times
	}
	for name, value := range members(raw) {
		if until, problem := expiryOf(name, value); problem == "" {
			times[strings.ToLower(name)] = until
		}
	}
	return times
}

// secretsIn are the texts of a stored subscription's secrets; false where they cannot be read.
func secretsIn(raw string) (list []string, ok bool) {
	switch kindOf(raw) {
	case 0, 'n':
		return nil, true
	case '[':
	default:
		return nil, false
	}
	for element := range elements(raw) {
		text, ok := unquote(element)
		if !ok {
			return nil, false
		}
		list = append(list, text)
	}
	return list, true
}

// SigningSecret is one of the secrets that a subscription's deliveries are signed with, without telling it.
type SigningSecret struct {
	Fingerprint string    // the first 16 hex digits of its SHA-256
	Asymmetric  bool      // an Ed25519 key, not an HMAC secret
	Until       time.Time // when it ceases to sign; zero: when it is removed
}

// Signing are the secrets that sign at the time now, the newest one first, as a stored subscription has them. Of what
// cannot be read there are none.
func Signing(data []byte, now time.Time) []SigningSecret {
	stored, err := readObject(data)
	if err != nil {
		return nil
	}
	texts, _ := secretsIn(stored.get("secrets"))
	times := expiryIn(stored.get("secretExpiry"))
	var list []SigningSecret
	for _, text := range texts {
		until, expires := times.of(text)
		if !expires || now.Before(until) {
			list = append(list, SigningSecret{webhook.Fingerprint(text), strings.HasPrefix(text, "whsk_"), until})
		}
	}
	return list
}

// pruned is the object without the secrets that have expired and the expiries that have passed.
func (o object) pruned(now time.Time) object {
	texts, ok := secretsIn(o.get("secrets"))
	times := expiryIn(o.get("secretExpiry"))
	if !ok || len(times) == 0 {
		return o
	}
	kept := texts[:0]
	for _, text := range texts {
		if until, expires := times.of(text); !expires || now.Before(until) {
			kept = append(kept, text)
		}
	}
	if len(kept) < len(texts) {
		o = o.with("secrets", rawStrings(kept))
	}
	return o.withoutMembers("secretExpiry", func(name, raw string) bool {
		until, problem := expiryOf(name, raw)
		return problem == "" && !now.Before(until)
	})
}

// withoutMembers is the object without some members of the object that a key holds, and without the key where nothing of
// it is left.
func (o object) withoutMembers(key string, drop func(name, raw string) bool) object {
	if kindOf(o.get(key)) != '{' {
		return o
	}
	kept, dropped := object{}, false
	for name, raw := range members(o.get(key)) {
		if drop(name, raw) {
			dropped = true
		} else {
			kept = append(kept, member{name, raw})
		}
	}
	switch {
	case !dropped:
		return o
	case len(kept) == 0:
		return o.without(key)
	}
	return o.with(key, string(writeObject(kept)))
}

func rawStrings(texts []string) string {
	raw, err := json.Marshal(texts)
	if err != nil || texts == nil { // texts always encode
		return "[]"
	}
	return string(raw)
}
