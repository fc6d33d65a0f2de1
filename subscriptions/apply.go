package subscriptions

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
)

// applier brings the table to what is stored, one account at a time.
type applier struct {
	log      *zap.Logger
	reader   Reader
	table    *table
	problems *problems
	fresh    *freshness
	observer observer
	lanes    LaneObserver
	dirty    signal // asks for the snapshot file to be written

	mu     sync.Mutex           // serialises all that writes to the table and the problems
	counts [states]atomic.Int64 // written under the lock
}

// apply brings the table to what is stored. A subscription that is not stored any more goes where drop says so; the
// others that are missing stay in force and are returned. The caller holds the lock.
func (a *applier) apply(s stored, drop func(id string) bool) (missing []string) {
	known := a.table.account(s.account)
	if s.stale {
		return nil
	}
	if s.broken {
		a.report(s.account, "", &problem{err: &ValidationError{[]FieldProblem{{"account", "its key holds no hash"}}}, hash: 1})
		return nil
	}
	if len(a.problems.of(s.account)) == 0 && !a.differs(s, true) {
		return nil
	}
	before := a.tally(s.account)
	was := a.observer.invalid(s.account, known)
	a.problems.forget(s.account, "")
	next := make([]*Subscription, 0, len(s.fields)/2)
	for i := 0; i < len(s.fields); i += 2 {
		next = append(next, a.version(s.account, s.fields[i], s.fields[i+1], byID(known, s.fields[i])))
	}
	slices.SortFunc(next, func(a, b *Subscription) int { return strings.Compare(a.ID(), b.ID()) })
	next = slices.CompactFunc(next, func(a, b *Subscription) bool { return a.ID() == b.ID() }) // bad ids that were cut
	for i := range known {
		old := &known[i]
		at, ok := slices.BinarySearchFunc(next, old.ID(), func(s *Subscription, id string) int { return strings.Compare(s.ID(), id) })
		switch {
		case ok:
		case drop(old.ID()):
			a.problems.forget(s.account, old.ID())
		default:
			missing = append(missing, old.ID())
			next = slices.Insert(next, at, old)
		}
	}
	a.observer.tell(s, known, next, was)
	if !slices.EqualFunc(known, next, func(a Subscription, b *Subscription) bool { return a.Same(b) }) {
		changed := changes(known, next)
		a.table.replace(s.account, next)
		a.dirty.ask()
		if a.lanes.Changed != nil {
			for _, id := range changed {
				a.lanes.Changed(s.account, id)
			}
		}
	}
	after := a.tally(s.account)
	for i := range after {
		a.counts[i].Add(after[i] - before[i])
	}
	return missing
}

// fill puts an account of the snapshot file in force.
func (a *applier) fill(subs []*Subscription) {
	a.mu.Lock()
	defer a.mu.Unlock()
	account := subs[0].Account()
	a.table.replace(account, subs)
	for i, n := range a.tally(account) {
		a.counts[i].Add(n)
	}
}

// changes are the ids of those that are in both lists, in another version.
func changes(before []Subscription, after []*Subscription) (ids []string) {
	for _, s := range after {
		if old := byID(before, s.ID()); old != nil && !old.Same(s) {
			ids = append(ids, s.ID())
		}
	}
	return ids
}

// version picks what is in force for a stored JSON: the known version where it is the same, else the new one, else the
// last good one.
func (a *applier) version(account, id, data string, old *Subscription) *Subscription {
	hash := hashOf(data)
	good := old != nil && old.Invalid() == ""
	if good && old.hash == hash {
		a.problems.forget(account, id)
		return old
	}
	if was := a.problems.at(account, id); old != nil && was != nil && was.hash == hash {
		return old
	}
	sub, err := a.reader.parse(account, id, data)
	if err == nil {
		if sub.NamesUnknown() {
			a.log.Warn("subscription names unknown events", zap.String("account", account), zap.String("subscription", id))
		}
		a.problems.forget(account, id)
		return sub
	}
	a.report(account, id, &problem{err: err, hash: hash, lastGood: good})
	switch {
	case good:
		return old
	case old != nil && old.hash == hash: // known from the snapshot file
		return old
	}
	return sub
}

// report notes a problem, and logs it once.
func (a *applier) report(account, id string, p *problem) {
	if known := a.problems.put(account, id, p); !known {
		a.log.Warn("subscription is invalid", zap.String("account", cut(account, maxAccount)), zap.String("subscription", cut(id, maxID)),
			zap.Bool("last_good_in_force", p.lastGood), zap.Error(p.err))
	}
}

// tally counts an account's subscriptions by state.
func (a *applier) tally(account string) (count [states]int64) {
	byID := a.problems.of(account)
	subs := a.table.account(account)
	for i := range subs {
		s := &subs[i]
		switch {
		case byID[s.ID()] != nil || s.Invalid() != "":
			count[stateInvalid]++
		case s.Enabled():
			count[stateEnabled]++
		default:
			count[stateDisabled]++
		}
	}
	return count
}

// changedOf are the accounts that were read otherwise than they are in force, with when that was announced, in Unix ms.
func (a *applier) changedOf(list []stored, r reading) (changed []redis.Z) {
	filled := a.fresh.held().source != ""
	if !filled && !r.announced {
		return nil // a first load finds what has been in force
	}
	confirmed := r.announced || len(r.controlAccounts) > 0
	for _, s := range list {
		if s.broken || filled && !a.differs(s, confirmed) { // while nothing is known, what is announced counts as changed
			continue
		}
		z := redis.Z{Member: s.account}
		if r.at != nil {
			z.Score = float64(r.at(s.account))
		}
		changed = append(changed, z)
	}
	return changed
}

// differs reports whether an account is stored otherwise than it was when it was last read. What is missing of it counts
// where that is confirmed.
func (a *applier) differs(s stored, confirmed bool) bool {
	if s.broken {
		return true
	}
	known := a.table.account(s.account)
	for i := 0; i < len(s.fields); i += 2 {
		hash := hashOf(s.fields[i+1])
		if sub := byID(known, s.fields[i]); sub != nil && sub.hash == hash {
			continue
		}
		if p := a.problems.at(s.account, s.fields[i]); p == nil || p.hash != hash {
			return true
		}
	}
	return confirmed && len(known) > len(s.fields)/2
}
