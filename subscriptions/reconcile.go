package subscriptions

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
)

// reconciler loads everything from Redis now and then, and drops what that no longer holds (docs/contract.md#when-redis-is-away-or-emptied).
type reconciler struct {
	client    redis.UniversalClient
	log       *zap.Logger
	intervals *intervals
	accounts  *accountReader
	applier   *applier
	table     *table
	record    *recorder
	guard     *lossGuard
	fresh     *freshness

	full     signal      // asks for a full load
	accepted atomic.Bool // the next one is taken whatever it holds
}

// accept has the next full load, which is now, taken whatever it holds.
func (r *reconciler) accept() {
	r.accepted.Store(true)
	r.full.ask()
}

// run loads when it is asked to, and every intervals.reconcile, until ctx is done.
func (r *reconciler) run(ctx context.Context) {
	// The first load waits for the follower's anchor: what changes during the load is then announced after it.
	var next time.Duration
	for {
		select {
		case <-r.full:
		case <-after(next):
		case <-ctx.Done():
			return
		}
		accepted := r.accepted.Swap(false)
		err := r.reconcile(ctx, !accepted)
		if ctx.Err() != nil {
			return
		}
		next = r.next(err)
		if err == nil {
			continue
		}
		if accepted {
			r.accepted.Store(true)
		}
		r.fresh.loadFailed(err)
		sleep(ctx, r.intervals.retry)
	}
}

// next is when to load again; jittered, so that instances do not load together.
func (r *reconciler) next(err error) time.Duration {
	wait := r.intervals.reconcile
	switch {
	case err != nil:
		return r.intervals.retry
	case r.guard.refused() != nil:
		wait = min(wait, r.intervals.refused)
	}
	return wait - time.Duration(rand.Int64N(int64(wait/10)+1))
}

// after is a channel that fires once; never for zero.
func after(wait time.Duration) <-chan time.Time {
	if wait == 0 {
		return nil
	}
	return time.NewTimer(wait).C // collected when nobody waits for it, since Go 1.23
}

// reconcile loads everything. An error leaves what was taken until then in force.
func (r *reconciler) reconcile(ctx context.Context, guarded bool) error {
	l := &load{client: r.client, log: r.log, accounts: r.accounts, applier: r.applier, table: r.table, guarded: guarded, known: r.table.len()}
	suspicions := r.guard.suspicions()
	evictions, err := r.load(ctx, l)
	if err != nil {
		return fmt.Errorf("load subscriptions: %w", err)
	}
	if l.looksLikeLoss() {
		r.guard.refuse(l.known, l.found, "", l.missing())
		r.fresh.loadRefused()
		return nil
	}
	if r.fresh.loaded(l.found) {
		r.applier.dirty.ask()
	}
	refused, err := r.drop(ctx, l)
	if err != nil {
		return fmt.Errorf("drop subscriptions: %w", err)
	}
	if !refused {
		r.guard.agree(evictions.evicted)
		r.fresh.agreed()
	}
	if !l.unsure {
		r.guard.confirm(suspicions)
	}
	return r.record.trim(ctx)
}

// load puts in force what Redis holds, unless that looks like a loss, and says what was evicted before it began.
func (r *reconciler) load(ctx context.Context, l *load) (evictions Evictions, err error) {
	if r.record.keep > 0 && r.fresh.held().source == "" {
		if err := r.record.catchUp(ctx); err != nil {
			return evictions, err
		}
	}
	if evictions, err = askEvictions(ctx, r.client); err != nil {
		return evictions, err
	}
	if err := l.scan(ctx); err != nil || l.looksLikeLoss() {
		return evictions, err
	}
	// What was held back is read again: it may have changed, and been announced, since.
	return evictions, r.accounts.readAll(ctx, l.held, l.batch(), reading{}, l.take)
}

// drop asks for each account that lacks something by name, twice, and drops what is missing both times; unless that looks like a loss.
func (r *reconciler) drop(ctx context.Context, l *load) (refused bool, err error) {
	accounts, missing, count := l.missing(), make(map[string][]string), 0
	err = r.accounts.readAll(ctx, accounts, l.batch(), reading{}, func(s stored) bool {
		if ids := r.applier.apply(s, keep); len(ids) > 0 {
			missing[s.account] = ids
			count += len(ids)
		}
		l.unsure = l.unsure || s.stale
		return true
	})
	if err != nil || count == 0 {
		return false, err
	}
	if l.guarded {
		if refused, err := r.refuseDrop(ctx, l.known, r.table.len()-count, missing); err != nil || refused {
			return refused, err
		}
	}
	sleep(ctx, r.intervals.ask)
	gone := 0
	err = r.accounts.readAll(ctx, accounts, l.batch(), reading{controlAccounts: l.controlAccounts}, func(s stored) bool {
		r.applier.apply(s, func(id string) bool {
			if !slices.Contains(missing[s.account], id) {
				return false
			}
			gone++
			return true
		})
		return true
	})
	if gone > 0 && err == nil {
		r.log.Info("dropped subscriptions that redis no longer holds", zap.Int("count", gone))
	}
	return false, err
}

// refuseDrop says whether what is missing is not to be dropped without an operator's word, and refuses it then: Redis, or a
// master of it, was emptied while it was scanned, or it evicts keys.
func (r *reconciler) refuseDrop(ctx context.Context, known, left int, missing map[string][]string) (bool, error) {
	emptied, err := r.emptied(ctx, missing)
	if err != nil {
		return false, err
	}
	evictions, err := askEvictions(ctx, r.client)
	if err != nil {
		return false, err
	}
	policy := r.guard.evicting(&evictions)
	if emptied || policy != "" || loss(known, left) {
		r.guard.refuse(known, left, policy, slices.Collect(maps.Keys(missing)))
		return true, nil
	}
	return false, nil
}

// emptied says whether a master of a Cluster lacks more than half of what it held: one of three that came back empty is
// no loss of half of all.
func (r *reconciler) emptied(ctx context.Context, missing map[string][]string) (bool, error) {
	cluster, ok := r.client.(*redis.ClusterClient)
	if !ok {
		return false, nil
	}
	known, left := make(map[string]int), make(map[string]int)
	for account, subs := range r.table.accounts() {
		master, err := cluster.MasterForKey(ctx, accountPrefix+account)
		if err != nil {
			return false, err
		}
		addr := master.Options().Addr
		known[addr] += len(subs)
		left[addr] += len(subs) - len(missing[account])
	}
	for addr, n := range known {
		if n >= guardFrom && 2*left[addr] < n {
			return true, nil
		}
	}
	return false, nil
}
