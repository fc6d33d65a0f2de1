package subscriptions

import (
	"cmp"
	"context"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
)

const (
	scanCount          = 1000
	perRead            = 4096 // subscriptions that one pipeline should not exceed by much
	maxControlAccounts = 8
)

// readers bounds the batches that a full load has in hand: Redis answers one while another is applied.
const readers = 3

// load is one full load: it takes accounts from Redis one batch at a time, changes what has changed, and drops nothing
// before it has seen everything. So the old and the new snapshot never both stand whole in memory.
type load struct {
	d               *Directory
	guarded         bool
	known           int      // subscriptions in force when it began
	found           int      // subscriptions seen in Redis; this and what follows is guarded by d.writing.mu while it scans
	seen            []uint64 // hashes of the accounts seen
	held            []string // changed accounts, not taken before the guard can no longer refuse
	incomplete      []string // accounts of which something in force is missing, or may be
	unsure          bool     // what is missing of some account is not known: it changed each time it was asked for
	controlAccounts []string // accounts that exist
}

// reconcile loads everything. An error leaves what was taken until then in force.
func (d *Directory) reconcile(ctx context.Context, guarded bool) error {
	l := &load{d: d, guarded: guarded, known: d.Len()}
	suspicions := d.guard.suspicions()
	if d.record.keep > 0 && !d.fresh.filled() {
		if err := d.record.catchUp(ctx); err != nil {
			return fmt.Errorf("load subscriptions: %w", err)
		}
	}
	evictions, err := askEvictions(ctx, d.client)
	if err != nil {
		return fmt.Errorf("load subscriptions: %w", err)
	}
	if err := l.scan(ctx); err != nil {
		return fmt.Errorf("load subscriptions: %w", err)
	}
	if l.looksLikeLoss() {
		d.guard.refuse(l.known, l.found, "", l.missing())
		d.fresh.loadRefused()
		return nil
	}
	if err := l.release(ctx); err != nil {
		return fmt.Errorf("load subscriptions: %w", err)
	}
	if d.fresh.loaded(l.found) {
		d.file.dirty.ask()
	}
	refused, err := l.drop(ctx, l.missing())
	if err != nil {
		return fmt.Errorf("drop subscriptions: %w", err)
	}
	if !refused {
		d.guard.agree(evictions.evicted)
		d.fresh.agreed()
	}
	if !l.unsure {
		d.guard.confirm(suspicions)
	}
	return d.record.trim(ctx)
}

// looksLikeLoss is the loss guard (docs/contract.md#loss-guard): a full load that is empty, or below half of what is known,
// is refused until an operator confirms it.
func (l *load) looksLikeLoss() bool { return l.guarded && loss(l.known, l.found) }

// scan asks for everything, and puts it in force or holds it back while the guard may still refuse.
func (l *load) scan(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan []string)
	var group sync.WaitGroup
	for range readers {
		group.Go(func() {
			for accounts := range work {
				if err := l.d.readApply(ctx, accounts, reading{}, l.one); err != nil {
					cancel(err)
				}
			}
		})
	}
	err := l.scanNodes(ctx, work)
	close(work)
	group.Wait()
	return cmp.Or(context.Cause(ctx), err)
}

func (l *load) scanNodes(ctx context.Context, work chan<- []string) error {
	if cluster, ok := l.d.client.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
			return l.scanNode(ctx, node, work)
		})
	}
	return l.scanNode(ctx, l.d.client, work)
}

func (l *load) scanNode(ctx context.Context, node redis.Cmdable, work chan<- []string) error {
	for cursor := uint64(0); ; {
		keys, next, err := node.Scan(ctx, cursor, accountPrefix+"*", scanCount).Result()
		if err != nil {
			return err
		}
		for len(keys) > 0 {
			n := min(l.batch(), len(keys))
			select {
			case work <- l.names(keys[:n]):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			keys = keys[n:]
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// names are the accounts of keys; one that no event can name is left out.
func (l *load) names(keys []string) []string {
	accounts := make([]string, 0, len(keys))
	for _, key := range keys {
		account := strings.TrimPrefix(key, accountPrefix)
		if len(account) > maxIdentity {
			l.d.log.Warn("account is too long, ignored", zap.String("account", cut(account, maxAccount)))
			continue
		}
		accounts = append(accounts, account)
	}
	return accounts
}

// batch is how many accounts to ask for at once: they may hold one subscription or thousands, and answers should be of
// a bounded size.
func (l *load) batch() int {
	l.d.writing.mu.Lock()
	defer l.d.writing.mu.Unlock()
	if l.found == 0 {
		return 64
	}
	return max(1, min(batch, perRead*len(l.seen)/l.found))
}

func (l *load) mayRefuse() bool { return l.guarded && loss(l.known, l.found) }

func (l *load) one(s stored) (applied bool) {
	l.found += len(s.fields) / 2
	l.seen = append(l.seen, maphash.String(l.d.table.seed, s.account))
	if len(s.fields) > 0 && len(l.controlAccounts) < maxControlAccounts {
		l.controlAccounts = append(l.controlAccounts, s.account)
	}
	if !l.mayRefuse() {
		return l.take(s)
	}
	if !l.d.same(s) {
		l.held = append(l.held, s.account)
	}
	return false
}

// take puts an account in force, but for what is missing of it.
func (l *load) take(s stored) (applied bool) {
	if missing := l.d.apply(s, keep); len(missing) > 0 || s.stale {
		l.incomplete = append(l.incomplete, s.account)
	}
	return true
}

func keep(string) bool { return false }

// release reads again what was held back: it may have changed, and been announced, since.
func (l *load) release(ctx context.Context) error {
	for accounts := range slices.Chunk(l.held, l.batch()) {
		if err := l.d.readApply(ctx, accounts, reading{}, l.take); err != nil {
			return err
		}
	}
	return nil
}

// missing names the accounts of which something is in force and was not seen.
func (l *load) missing() []string {
	slices.Sort(l.seen)
	list := l.incomplete
	for account := range l.d.table.accounts() {
		if _, ok := slices.BinarySearch(l.seen, maphash.String(l.d.table.seed, account)); !ok {
			list = append(list, account)
		}
	}
	return list
}

// drop asks for each account by name, twice, and drops what is missing both times; unless that looks like a loss.
func (l *load) drop(ctx context.Context, accounts []string) (refused bool, err error) {
	missing := make(map[string][]string)
	count := 0
	for chunk := range slices.Chunk(accounts, l.batch()) {
		err := l.d.readApply(ctx, chunk, reading{}, func(s stored) bool {
			if ids := l.d.apply(s, keep); len(ids) > 0 {
				missing[s.account] = ids
				count += len(ids)
			}
			l.unsure = l.unsure || s.stale
			return true
		})
		if err != nil {
			return false, err
		}
	}
	if count == 0 {
		return false, nil
	}
	if l.guarded {
		if refused, err := l.refuseDrop(ctx, missing, l.d.Len()-count); err != nil || refused {
			return refused, err
		}
	}
	sleep(ctx, l.d.intervals.ask)
	gone := 0
	for chunk := range slices.Chunk(accounts, l.batch()) {
		err := l.d.readApply(ctx, chunk, reading{controlAccounts: l.controlAccounts}, func(s stored) bool {
			l.d.apply(s, func(id string) bool {
				if !slices.Contains(missing[s.account], id) {
					return false
				}
				gone++
				return true
			})
			return true
		})
		if err != nil {
			return false, err
		}
	}
	if gone > 0 {
		l.d.log.Info("dropped subscriptions that redis no longer holds", zap.Int("count", gone))
	}
	return false, nil
}

// refuseDrop says whether what is missing is not to be dropped without an operator's word, and refuses it then: Redis, or a
// master of it, was emptied while it was scanned, or it evicts keys.
func (l *load) refuseDrop(ctx context.Context, missing map[string][]string, left int) (bool, error) {
	emptied, err := l.emptied(ctx, missing)
	if err != nil {
		return false, err
	}
	evictions, err := askEvictions(ctx, l.d.client)
	if err != nil {
		return false, err
	}
	policy := l.d.guard.evicting(&evictions)
	if emptied || policy != "" || loss(l.known, left) {
		l.d.guard.refuse(l.known, left, policy, slices.Collect(maps.Keys(missing)))
		return true, nil
	}
	return false, nil
}

// emptied says whether a master of a Cluster lacks more than half of what it held: one of three that came back empty is
// no loss of half of all.
func (l *load) emptied(ctx context.Context, missing map[string][]string) (bool, error) {
	cluster, ok := l.d.client.(*redis.ClusterClient)
	if !ok {
		return false, nil
	}
	known, left := make(map[string]int), make(map[string]int)
	for account, subs := range l.d.table.accounts() {
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
