package subscriptions

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
)

// batch bounds how many accounts one pipeline asks for.
const batch = 256

// stored is an account as Redis holds it: id, JSON, id, JSON, and so on.
type stored struct {
	account string
	fields  []string
	broken  bool   // its key holds no hash: nothing is known about it
	stale   bool   // a later reading has been applied already
	by      string // who has announced it; empty: nobody said
	told    bool   // of what is changed, whoever changed it tells
}

// Refresh reads the accounts again, now. When it returns nil, what was in Redis before the call is in force. An observer is not
// told of it: whoever asks for it has changed them.
func (d *Directory) Refresh(ctx context.Context, accounts ...string) error {
	return d.refresh(ctx, accounts, nil, func(s stored) {
		s.told = true
		d.apply(s, func(string) bool { return true })
	})
}

// reading says why accounts are read.
type reading struct {
	announced       bool                       // they were said to have changed
	at              func(account string) int64 // when, in Unix ms; nil, or 0: nobody said
	controlAccounts []string                   // accounts that exist: what is missing has been asked for before
}

func (d *Directory) refresh(ctx context.Context, accounts []string, at func(account string) int64, apply func(stored)) error {
	for chunk := range slices.Chunk(accounts, batch) {
		err := d.readApply(ctx, chunk, reading{announced: true, at: at}, func(s stored) bool {
			apply(s)
			return true
		})
		if err != nil {
			return fmt.Errorf("refresh subscriptions: %w", err)
		}
	}
	return nil
}

// readApply reads accounts and hands each to take, under the lock; take says whether it applied what it got. A failed
// read hands over nothing. Where control accounts are named and none of them exists any more, Redis has been emptied: errEmptied.
func (d *Directory) readApply(ctx context.Context, accounts []string, r reading, take func(stored) (applied bool)) error {
	start := d.writing.begin(r.announced)
	list, err := d.read(ctx, accounts, r.controlAccounts)
	if err == nil && d.record.keep > 0 {
		err = d.record.changed(ctx, d.changedOf(list, r))
	}
	if err != nil {
		list = nil
	}
	d.writing.mu.Lock()
	defer d.writing.mu.Unlock()
	defer d.writing.end(r.announced)
	for _, s := range list {
		s.stale = d.writing.applied[s.account] > start
		if take(s) && !s.stale {
			d.writing.note(s.account, start)
		}
	}
	return err
}

func (w *writing) begin(announced bool) (start uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock++
	w.inFlight++
	if announced {
		w.changes++
	}
	return w.clock
}

// note remembers an application. A full load's are of no interest to the rest of the load, which reads other accounts.
func (w *writing) note(account string, start uint64) {
	if w.changes == 0 || w.inFlight == 1 {
		return
	}
	if w.applied == nil {
		w.applied = make(map[string]uint64)
	}
	w.applied[account] = start
}

// end is called with the lock held.
func (w *writing) end(announced bool) {
	w.inFlight--
	if announced {
		w.changes--
	}
	if w.inFlight == 0 {
		w.applied = nil
	}
}

func (d *Directory) read(ctx context.Context, accounts, controlAccounts []string) ([]stored, error) {
	pipe := d.client.Pipeline()
	read := make([]*redis.StringSliceCmd, len(accounts))
	for i, account := range accounts {
		// Not HGetAll: a map for each account would be most of the work of a full load.
		read[i] = redis.NewStringSliceCmd(ctx, "hgetall", accountPrefix+account)
		_ = pipe.Process(ctx, read[i])
	}
	exist := make([]*redis.IntCmd, len(controlAccounts))
	for i, account := range controlAccounts {
		exist[i] = pipe.Exists(ctx, accountPrefix+account)
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	found := len(controlAccounts) == 0
	for _, cmd := range exist {
		if err := cmd.Err(); err != nil {
			return nil, err
		}
		found = found || cmd.Val() > 0
	}
	if !found {
		return nil, errEmptied
	}
	list := make([]stored, len(read))
	for i, cmd := range read {
		if err := cmd.Err(); err != nil && !wrongType(err) {
			return nil, err
		}
		list[i] = stored{account: accounts[i], fields: cmd.Val(), broken: cmd.Err() != nil}
	}
	return list, nil
}

var errEmptied = errors.New("redis was emptied meanwhile")

func wrongType(err error) bool { return strings.HasPrefix(err.Error(), "WRONGTYPE") }

// same says whether the account is stored as the table has it, last good versions apart.
func (d *Directory) same(s stored) bool {
	known := d.table.account(s.account)
	if s.broken || len(known) != len(s.fields)/2 {
		return false
	}
	for i := 0; i < len(s.fields); i += 2 {
		if sub := byID(known, s.fields[i]); sub == nil || sub.hash != hashOf(s.fields[i+1]) {
			return false
		}
	}
	return true
}

// apply brings the table to what is stored. A subscription that is not stored any more goes where drop says so; the
// others that are missing stay in force and are returned. The caller holds d.writing.mu.
func (d *Directory) apply(s stored, drop func(id string) bool) (missing []string) {
	known := d.table.account(s.account)
	if s.stale {
		return nil
	}
	if s.broken {
		d.report(s.account, "", &problem{err: &ValidationError{[]FieldProblem{{"account", "its key holds no hash"}}}, hash: 1})
		return nil
	}
	if len(d.problems.of(s.account)) == 0 && d.same(s) {
		return nil
	}
	before := d.tally(s.account)
	was := d.invalid(s.account)
	d.problems.forget(s.account, "")
	next := make([]*Subscription, 0, len(s.fields)/2)
	for i := 0; i < len(s.fields); i += 2 {
		next = append(next, d.version(s.account, s.fields[i], s.fields[i+1], byID(known, s.fields[i])))
	}
	slices.SortFunc(next, func(a, b *Subscription) int { return strings.Compare(a.ID(), b.ID()) })
	next = slices.CompactFunc(next, func(a, b *Subscription) bool { return a.ID() == b.ID() }) // bad ids that were cut
	for i := range known {
		old := &known[i]
		at, ok := slices.BinarySearchFunc(next, old.ID(), func(s *Subscription, id string) int { return strings.Compare(s.ID(), id) })
		switch {
		case ok:
		case drop(old.ID()):
			d.problems.forget(s.account, old.ID())
		default:
			missing = append(missing, old.ID())
			next = slices.Insert(next, at, old)
		}
	}
	d.observe(s, known, next, was)
	if !slices.EqualFunc(known, next, func(a Subscription, b *Subscription) bool { return a.Same(b) }) {
		changed := changes(known, next)
		d.table.replace(s.account, next)
		d.file.dirty.ask()
		if d.lanes.Changed != nil {
			for _, id := range changed {
				d.lanes.Changed(s.account, id)
			}
		}
	}
	after := d.tally(s.account)
	for i := range after {
		d.counts[i].Add(after[i] - before[i])
	}
	return missing
}

// fill puts an account of the snapshot file in force.
func (d *Directory) fill(subs []*Subscription) {
	d.writing.mu.Lock()
	defer d.writing.mu.Unlock()
	account := subs[0].Account()
	d.table.replace(account, subs)
	for i, n := range d.tally(account) {
		d.counts[i].Add(n)
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
func (d *Directory) version(account, id, data string, old *Subscription) *Subscription {
	hash := hashOf(data)
	good := old != nil && old.Invalid() == ""
	if good && old.hash == hash {
		d.problems.forget(account, id)
		return old
	}
	if was := d.problems.at(account, id); old != nil && was != nil && was.hash == hash {
		return old
	}
	sub, err := d.cfg.Reader().parse(account, id, data)
	if err == nil {
		if sub.NamesUnknown() {
			d.log.Warn("subscription names unknown events", zap.String("account", account), zap.String("subscription", id))
		}
		d.problems.forget(account, id)
		return sub
	}
	d.report(account, id, &problem{err: err, hash: hash, lastGood: good})
	switch {
	case good:
		return old
	case old != nil && old.hash == hash: // known from the snapshot file
		return old
	}
	return sub
}

// report notes a problem, and logs it once.
func (d *Directory) report(account, id string, p *problem) {
	if known := d.problems.put(account, id, p); !known {
		d.log.Warn("subscription is invalid", zap.String("account", cut(account, maxAccount)), zap.String("subscription", cut(id, maxID)),
			zap.Bool("last_good_in_force", p.lastGood), zap.Error(p.err))
	}
}

// tally counts an account's subscriptions by state.
func (d *Directory) tally(account string) (count [states]int64) {
	byID := d.problems.of(account)
	subs := d.table.account(account)
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
func (d *Directory) changedOf(list []stored, r reading) (changed []redis.Z) {
	filled := d.fresh.filled()
	if !filled && !r.announced {
		return nil // a first load finds what has been in force
	}
	confirmed := r.announced || len(r.controlAccounts) > 0
	for _, s := range list {
		if s.broken || filled && !d.differs(s, confirmed) { // while nothing is known, what is announced counts as changed
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
func (d *Directory) differs(s stored, confirmed bool) bool {
	known := d.table.account(s.account)
	for i := 0; i < len(s.fields); i += 2 {
		hash := hashOf(s.fields[i+1])
		if sub := byID(known, s.fields[i]); sub != nil && sub.hash == hash {
			continue
		}
		if p := d.problems.at(s.account, s.fields[i]); p == nil || p.hash != hash {
			return true
		}
	}
	return confirmed && len(known) > len(s.fields)/2
}
