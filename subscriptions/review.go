package subscriptions

import (
	"maps"
	"slices"
	"time"

	"fanout/spelling"
	"fanout/webhook"
)

// Review is a subscription as it is understood, and all that a person should know of it.
type Review struct {
	Subscription *Subscription    // never nil
	Invalid      *ValidationError // nil where it is valid
	Unsigned     bool             // no secret signs its deliveries now; among the warnings too
	Warnings     []FieldProblem   // what is odd, and in force all the same
}

// ReviewSent judges what somebody is about to store: it is held to the rules of every edition of the contract.
func ReviewSent(account, id string, data []byte, now time.Time) Review {
	return Reader{}.ReviewSent(account, id, data, now)
}

// ReviewSent does what the function of that name does.
func (r Reader) ReviewSent(account, id string, data []byte, now time.Time) Review {
	return review(&parser{catalogue: r.Catalogue, strict: true, reviews: true, now: now}, account, id, data)
}

// ReviewStored judges what Redis holds. What breaks a rule that a later edition has added is in force as before, and is
// among the warnings.
func ReviewStored(account, id string, data []byte, now time.Time) Review {
	return Reader{}.ReviewStored(account, id, data, now)
}

// ReviewStored does what the function of that name does.
func (r Reader) ReviewStored(account, id string, data []byte, now time.Time) Review {
	return review(&parser{catalogue: r.Catalogue, reviews: true, now: now}, account, id, data)
}

func review(p *parser, account, id string, data []byte) Review {
	sub, bad := p.parse(account, id, string(data))
	return Review{sub, bad, p.unsigned, p.warnings}
}

// unknown warns of a key that is not known.
func (p *parser) unknown(name string) {
	if !p.reviews {
		return
	}
	text := "unknown key: it is kept, and has no effect"
	if nearest := spelling.Nearest(cut(name, maxID), Keys()); nearest != "" {
		text += "; did you mean " + nearest + "?"
	}
	p.warn(shown(name, 64), "%s", text)
}

// signing warns of what is not signed, or will not be. It is asked once everything is read.
func (p *parser) signing() {
	if !p.reviews {
		return
	}
	var last time.Time // when the last of those that sign now ceases to
	signs, forever := 0, false
	used := map[string]bool{}
	for _, secret := range p.secrets {
		fp := webhook.Fingerprint(secret)
		used[fp] = true
		until, expires := p.expiry[fp]
		switch {
		case !expires:
			signs, forever = signs+1, true
		case p.now.Before(until):
			signs++
			if until.After(last) {
				last = until
			}
		default:
			p.warn("secretExpiry."+fp, "this secret expired at %s and no longer signs; the next write removes it", until.Format(time.RFC3339))
		}
	}
	for _, fp := range slices.Sorted(maps.Keys(p.expiry)) {
		if !used[fp] {
			p.warn("secretExpiry."+fp, "none of the secrets has this fingerprint")
		}
	}
	switch {
	case signs == 0:
		p.unsigned = true
		p.warn("secrets", "unsigned: no secret signs its deliveries, and the receiver cannot tell who sent them")
	case !forever:
		p.warn("secretExpiry", "every secret expires: from %s on deliveries are not signed", last.Format(time.RFC3339))
	}
}

// RemovedSecrets warns of each secret that signs now, as it is stored, and that the next version does not have: receivers
// that verify with it refuse what comes then.
func RemovedSecrets(stored, next []byte, now time.Time) []FieldProblem {
	stays := map[string]bool{}
	for _, secret := range Signing(next, now) {
		stays[secret.Fingerprint] = true
	}
	var warnings []FieldProblem
	for _, secret := range Signing(stored, now) {
		if !stays[secret.Fingerprint] {
			warnings = append(warnings, FieldProblem{"secrets", "the secret with fingerprint " + secret.Fingerprint +
				" signs now and is removed: receivers that verify with it refuse what comes from then on"})
		}
	}
	return warnings
}
