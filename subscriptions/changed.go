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

// Observe has changed called for each change that this Directory sees, in order for each account. It must not block and must not
// call the Directory. A first load finds no changes, and a change that an instance has made and announced as an actor's is
// told by that instance; that a stored version is not valid, or is again, is always told. It is set before Run.
func (d *Directory) Observe(changed func(Changed)) { d.changed = changed }

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

// invalid are the account's subscriptions whose stored version is not valid. The caller holds d.writing.mu.
func (d *Directory) invalid(account string) map[string]bool {
	if d.changed == nil {
		return nil
	}
	ids := make(map[string]bool)
	for id := range d.problems.of(account) {
		ids[id] = true
	}
	known := d.table.account(account)
	for i := range known {
		if known[i].Invalid() != "" {
			ids[known[i].ID()] = true
		}
	}
	return ids
}

// observe tells what is different in next, which is about to be in force. The caller holds d.writing.mu.
func (d *Directory) observe(s stored, known []Subscription, next []*Subscription, was map[string]bool) {
	if d.changed == nil || !d.fresh.fromRedis() {
		return
	}
	silent := s.told || s.by != "" && !strings.HasPrefix(s.by, actorApply)
	tell := func(id string, kind ChangeKind, detail string) {
		d.changed(Changed{Account: strings.Clone(s.account), ID: strings.Clone(id), Kind: kind, Detail: detail, By: s.by})
	}
	left := make(map[string]bool, len(next))
	for _, sub := range next {
		left[sub.ID()] = true
		if kind, detail, changed := Difference(byID(known, sub.ID()), sub); changed && !silent && sub.Invalid() == "" {
			tell(sub.ID(), kind, detail)
		}
		switch problem := d.problemOf(s.account, sub); {
		case problem != "" && !was[sub.ID()]:
			tell(sub.ID(), ChangeInvalid, problem)
		case problem == "" && was[sub.ID()]:
			tell(sub.ID(), ChangeValid, "")
		}
	}
	for i := range known {
		if id := known[i].ID(); !left[id] && !silent {
			tell(id, ChangeDeleted, "")
		}
	}
}

// problemOf says what is wrong with the stored version of a subscription; empty where nothing is.
func (d *Directory) problemOf(account string, sub *Subscription) string {
	if p := d.problems.at(account, sub.ID()); p != nil {
		return p.err.Error()
	}
	return sub.Invalid()
}
