package subscriptions

import (
	"context"
	"slices"
	"time"
)

// suspectedRemovals are subscriptions that an announced account lacks while Redis may be being filled again, by account: a job that
// has written the first of two did not remove the other. As a full load does, the follower asks for them a second time.
type suspectedRemovals map[string]suspectedRemoval

type suspectedRemoval struct {
	ids []string
	due time.Time // when to ask again
}

// refresh puts announced accounts in force. What one of them lacks goes at once, unless Redis was emptied, nothing has
// confirmed since what it holds, and it holds something of the account: then what is still missing goes after intervals.ask.
func (f *follower) refresh(ctx context.Context, accounts []string, by map[string]string, at map[string]int64) error {
	lacking := make(map[string][]string)
	when := func(account string) int64 { return at[account] }
	err := f.d.refresh(ctx, accounts, when, func(s stored) {
		s.by = by[s.account]
		removed := len(s.fields) == 0 // a job that fills the account announces it after it has written something
		if ids := f.d.apply(s, func(string) bool { return removed }); len(ids) > 0 {
			lacking[s.account] = ids
		}
	})
	if err != nil {
		return err
	}
	for _, account := range accounts {
		delete(f.suspected, account) // what was suspected is there again, or suspected again
	}
	if len(lacking) == 0 {
		return nil
	}
	suspected, err := f.lossSuspected(ctx)
	if err != nil {
		return err
	}
	due := time.Now()
	if suspected {
		due = due.Add(f.d.intervals.ask)
	}
	for account, ids := range lacking {
		f.suspected[account] = suspectedRemoval{ids, due}
	}
	return f.resolve(ctx)
}

// lossSuspected says that Redis may hold less than it should: a load was refused, or the entry that was read last is gone.
func (f *follower) lossSuspected(ctx context.Context) (bool, error) {
	err := f.check(ctx)
	f.d.state.mu.Lock()
	defer f.d.state.mu.Unlock()
	return f.d.state.suspectedLosses > f.d.state.confirmed, err
}

// resolve asks again for what is due, and drops what is still missing.
func (f *follower) resolve(ctx context.Context) error {
	var accounts []string
	now := time.Now()
	for account, removal := range f.suspected {
		if !removal.due.After(now) {
			accounts = append(accounts, account)
		}
	}
	err := f.d.refresh(ctx, accounts, nil, func(s stored) {
		f.d.apply(s, func(id string) bool { return slices.Contains(f.suspected[s.account].ids, id) })
	})
	if err != nil {
		return err
	}
	for _, account := range accounts {
		delete(f.suspected, account)
	}
	return nil
}

// suspectLoss notes that Redis may have lost something.
func (d *Directory) suspectLoss() {
	d.state.mu.Lock()
	d.state.suspectedLosses++
	d.state.mu.Unlock()
}

// suspectedLosses counts them. A full load may confirm those from before it began: it read some accounts before the
// others came up.
func (d *Directory) suspectedLosses() int {
	d.state.mu.Lock()
	defer d.state.mu.Unlock()
	return d.state.suspectedLosses
}

// confirm takes suspected losses back, at the end of a full load, unless that was refused.
func (d *Directory) confirm(losses int) {
	d.state.mu.Lock()
	defer d.state.mu.Unlock()
	if d.state.shrink == nil {
		d.state.confirmed = losses
	}
}
