package subscriptions

import (
	"cmp"
	"context"
	"hash/maphash"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
)

const (
	perRead            = 4096 // subscriptions that one pipeline should not exceed by much
	maxControlAccounts = 8
)

// readers bounds the batches that a full load has in hand: Redis answers one while another is applied.
const readers = 3

// load is one full load: it takes accounts from Redis one batch at a time, changes what has changed, and drops nothing
// before it has seen everything. So the old and the new snapshot never both stand whole in memory.
type load struct {
	client   redis.UniversalClient
	log      *zap.Logger
	accounts *accountReader
	applier  *applier
	table    *table
	guarded  bool
	known    int // subscriptions in force when it began

	mu              sync.Mutex // guards what follows while it scans
	found           int        // subscriptions seen in Redis
	seen            []uint64   // hashes of the accounts seen
	held            []string   // changed accounts, not taken before the guard can no longer refuse
	incomplete      []string   // accounts of which something in force is missing, or may be
	unsure          bool       // what is missing of some account is not known: it changed each time it was asked for
	controlAccounts []string   // accounts that exist
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
				if err := l.accounts.read(ctx, accounts, reading{}, l.one); err != nil {
					cancel(err)
				}
			}
		})
	}
	err := l.scanInto(ctx, work)
	close(work)
	group.Wait()
	return cmp.Or(context.Cause(ctx), err)
}

// scanInto hands on the names of all accounts, as many at a time as should be read at once.
func (l *load) scanInto(ctx context.Context, work chan<- []string) error {
	var names []string
	n := l.batch()
	send := func() error {
		select {
		case work <- names:
			names, n = nil, l.batch()
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for account, err := range scanAccounts(ctx, l.client, "*") {
		if err != nil {
			return err
		}
		if len(account) > maxIdentity { // no event can name it
			l.log.Warn("account is too long, ignored", zap.String("account", cut(account, maxAccount)))
			continue
		}
		if names = append(names, account); len(names) >= n {
			if err := send(); err != nil {
				return err
			}
		}
	}
	return send()
}

// batch is how many accounts to ask for at once: they may hold one subscription or thousands, and answers should be of
// a bounded size.
func (l *load) batch() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.found == 0 {
		return 64
	}
	return max(1, min(batch, perRead*len(l.seen)/l.found))
}

// one notes an account of the scan, and puts it in force once the guard can no longer refuse.
func (l *load) one(s stored) (applied bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.found += len(s.fields) / 2
	l.seen = append(l.seen, maphash.String(l.table.seed, s.account))
	if len(s.fields) > 0 && len(l.controlAccounts) < maxControlAccounts {
		l.controlAccounts = append(l.controlAccounts, s.account)
	}
	if !l.looksLikeLoss() {
		return l.take(s)
	}
	if l.applier.differs(s, true) {
		l.held = append(l.held, s.account)
	}
	return false
}

// take puts an account in force, but for what is missing of it.
func (l *load) take(s stored) (applied bool) {
	if missing := l.applier.apply(s, keep); len(missing) > 0 || s.stale {
		l.incomplete = append(l.incomplete, s.account)
	}
	return true
}

func keep(string) bool { return false }

// missing names the accounts of which something is in force and was not seen.
func (l *load) missing() []string {
	slices.Sort(l.seen)
	list := l.incomplete
	for account := range l.table.accounts() {
		if _, ok := slices.BinarySearch(l.seen, maphash.String(l.table.seed, account)); !ok {
			list = append(list, account)
		}
	}
	return list
}
