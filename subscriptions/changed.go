package subscriptions

import (
	"slices"
	"strings"
)

// Changed tells of a subscription that another version of the configuration is in force of, or whose stored version is not valid
// any more, or valid again.
type Changed struct {
	Account, ID string
	Kind        ChangeKind
	Detail      string // in words: which keys, or what is wrong; never a value that may be secret
	By          string // the actor that announced it; empty: not said, so a client of Redis
}

// ChangeKind says what happened to a subscription.
type ChangeKind string

// The kinds of changes, in the words of endpoint events.
const (
	ChangeCreated ChangeKind = "created"
	ChangeUpdated ChangeKind = "updated"
	ChangeDeleted ChangeKind = "deleted"
	ChangeRotated ChangeKind = "rotated" // its secrets, and nothing else
	ChangePaused  ChangeKind = "paused"
	ChangeResumed ChangeKind = "resumed"
	ChangeInvalid ChangeKind = "invalid"
	ChangeValid   ChangeKind = "valid"
)

// actorApply begins the name of an actor whose changes are told by whoever observes them: `subscriptions apply` has no instance
// that could (docs/contract.md#admin-changes).
const actorApply = "apply"

// Difference says what became of a subscription; false where nothing did. Either may be nil.
func Difference(old, next *Subscription) (kind ChangeKind, detail string, changed bool) {
	switch {
	case old == nil && next == nil:
		return "", "", false
	case old == nil:
		return ChangeCreated, "", true
	case next == nil:
		return ChangeDeleted, "", true
	case old.hash == next.hash:
		return "", "", false
	}
	keys := differing(old, next)
	kind = ChangeUpdated
	switch {
	case next.Paused() && !old.Paused():
		kind = ChangePaused
	case old.Paused() && !next.Paused():
		kind = ChangeResumed
	case slices.Equal(keys, []string{"secrets"}):
		kind = ChangeRotated
	}
	return kind, strings.Join(keys, ", "), true
}

// differing are the keys whose meaning differs. Keys that fanout does not know are not among them.
func differing(old, next *Subscription) (keys []string) {
	for _, key := range []struct {
		name string
		same bool
	}{
		{"url", old.URL() == next.URL()},
		{"notificationIds", old.piece(pieceFilter) == next.piece(pieceFilter)},
		{"events", old.events == next.events && old.SelectsEvery() == next.SelectsEvery()},
		{"enabled", old.Enabled() == next.Enabled()},
		{"paused", old.Paused() == next.Paused()},
		{"secrets", old.piece(pieceSecrets) == next.piece(pieceSecrets)},
		{"headers", old.piece(pieceHeaders) == next.piece(pieceHeaders)},
		{"description", old.piece(pieceNote) == next.piece(pieceNote)},
		{"notificationIds", slices.Equal(old.NotificationIDs(), next.NotificationIDs())},
		{"maxInFlight", old.flight == next.flight},
		{"maxPerSecond", old.perSec == next.perSec},
	} {
		if !key.same {
			keys = append(keys, key.name)
		}
	}
	return keys
}

// observer is told what becomes of subscriptions.
type observer struct {
	notify   func(Changed) // nil: nobody observes
	problems *problems
	fresh    *freshness
}

// invalid are the account's subscriptions whose stored version is not valid.
func (o *observer) invalid(account string, known []Subscription) map[string]bool {
	if o.notify == nil {
		return nil
	}
	ids := make(map[string]bool)
	for i := range known {
		if o.problemOf(account, &known[i]) != "" {
			ids[known[i].ID()] = true
		}
	}
	return ids
}

// tell tells what is different in next, which is about to be in force. was are those that were invalid before.
func (o *observer) tell(s stored, known []Subscription, next []*Subscription, was map[string]bool) {
	if o.notify == nil || o.fresh.held().source != "redis" {
		return
	}
	silent := s.told || s.by != "" && !strings.HasPrefix(s.by, actorApply)
	say := func(id string, kind ChangeKind, detail string) {
		o.notify(Changed{Account: strings.Clone(s.account), ID: strings.Clone(id), Kind: kind, Detail: detail, By: s.by})
	}
	left := make(map[string]bool, len(next))
	for _, sub := range next {
		left[sub.ID()] = true
		if kind, detail, changed := Difference(byID(known, sub.ID()), sub); changed && !silent && sub.Invalid() == "" {
			say(sub.ID(), kind, detail)
		}
		switch problem := o.problemOf(s.account, sub); {
		case problem != "" && !was[sub.ID()]:
			say(sub.ID(), ChangeInvalid, problem)
		case problem == "" && was[sub.ID()]:
			say(sub.ID(), ChangeValid, "")
		}
	}
	for i := range known {
		if id := known[i].ID(); !left[id] && !silent {
			say(id, ChangeDeleted, "")
		}
	}
}

// problemOf says what is wrong with the stored version of a subscription; empty where nothing is.
func (o *observer) problemOf(account string, sub *Subscription) string {
	if p := o.problems.at(account, sub.ID()); p != nil {
		return p.err.Error()
	}
	return sub.Invalid()
}
