package operate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"fanout/egress"
	"fanout/subscriptions"
)

// ManifestPlan is what must change for a manifest to be true.
type ManifestPlan struct {
	Changes []ManifestChange
	Known   int // subscriptions that the manifest's accounts have
}

// ManifestAction is what is done with a subscription.
type ManifestAction string

// The actions.
const (
	ManifestCreate    ManifestAction = "create"
	ManifestUpdate    ManifestAction = "update"
	ManifestUnchanged ManifestAction = "unchanged"
	ManifestDelete    ManifestAction = "delete"
)

// ManifestChange is one step of an apply.
type ManifestChange struct {
	Action   ManifestAction
	Account  string
	ID       string
	Warnings []subscriptions.FieldProblem
	was      []byte // as it is stored; nil: not at all
	json     []byte // as it is to be stored
}

// Plan validates the manifest, and compares it with what Redis holds. With prune it deletes the other subscriptions of its accounts. What is
// invalid is among the manifest's problems.
func (m *Manifest) Plan(ctx context.Context, store *subscriptions.Store, rules *egress.Rules, prune bool) (*ManifestPlan, error) {
	p := new(ManifestPlan)
	for _, account := range slices.Sorted(maps.Keys(m.accounts)) {
		stored, err := store.List(ctx, account)
		if err != nil {
			return nil, err
		}
		p.Known += len(stored)
		now := map[string][]byte{}
		for _, s := range stored {
			now[s.ID] = s.JSON
			if _, wanted := m.accounts[account][s.ID]; !wanted && prune {
				p.Changes = append(p.Changes, ManifestChange{Action: ManifestDelete, Account: account, ID: s.ID})
			}
		}
		for _, id := range slices.Sorted(maps.Keys(m.accounts[account])) {
			old, found := now[id]
			c := ManifestChange{Action: ManifestUpdate, Account: account, ID: id, was: old}
			c.json, c.Warnings = m.complete(store.Reader(), account, id, old, rules)
			switch {
			case !found:
				c.Action = ManifestCreate
			case sameJSON(old, c.json):
				c.Action = ManifestUnchanged
			}
			p.Changes = append(p.Changes, c)
		}
	}
	return p, nil
}

func sameJSON(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// Count is how many subscriptions that is done with.
func (p *ManifestPlan) Count(action ManifestAction) (n int) {
	for _, c := range p.Changes {
		if c.Action == action {
			n++
		}
	}
	return n
}

// guardFrom is from how many deletions on the mass-delete guard looks.
const guardFrom = 10

// DeletesMost says that the plan deletes more than half of what there is, which somebody must confirm.
func (p *ManifestPlan) DeletesMost() bool {
	deletions := p.Count(ManifestDelete)
	return deletions >= guardFrom && deletions*2 > p.Known
}

// Apply writes first and deletes last, so that a subscription that moves to another id misses nothing.
func (p *ManifestPlan) Apply(ctx context.Context, store *subscriptions.Store) error {
	for _, deleting := range []bool{false, true} {
		for _, c := range p.Changes {
			var err error
			switch {
			case c.Action == ManifestDelete && deleting:
				_, err = store.Delete(ctx, c.Account, c.ID)
			case (c.Action == ManifestCreate || c.Action == ManifestUpdate) && !deleting:
				_, err = store.Update(ctx, c.Account, c.ID, c.make)
			}
			if err != nil {
				return fmt.Errorf("%s %s/%s: %w", c.Action, c.Account, c.ID, err)
			}
		}
	}
	return nil
}

// make is the change to what is stored, which must be what was compared with the files: a secret that somebody has rotated
// meanwhile is not undone.
func (c *ManifestChange) make(stored json.RawMessage) (json.RawMessage, error) {
	if !bytes.Equal(stored, c.was) {
		return nil, errors.New("it was changed by somebody else meanwhile")
	}
	return c.json, nil
}
