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
func (f *follower) refresh(ctx context.Context, accounts []string, said map[string]announced) error {
	lacking := make(map[string][]string)
	when := func(account string) int64 { return said[account].at }
	err := f.accounts.refresh(ctx, accounts, when, func(s stored) {
		s.by = said[s.account].by
		removed := len(s.fields) == 0 // a job that fills the account announces it after it has written something
		if ids := f.applier.apply(s, func(string) bool { return removed }); len(ids) > 0 {
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
	if err := f.check(ctx); err != nil {
		return err
	}
	due := time.Now()
	if f.guard.suspicious() {
		due = due.Add(f.intervals.ask)
	}
	for account, ids := range lacking {
		f.suspected[account] = suspectedRemoval{ids, due}
	}
	return f.resolve(ctx)
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
	err := f.accounts.refresh(ctx, accounts, nil, func(s stored) {
		f.applier.apply(s, func(id string) bool { return slices.Contains(f.suspected[s.account].ids, id) })
	})
	if err != nil {
		return err
	}
	for _, account := range accounts {
		delete(f.suspected, account)
	}
	return nil
}
