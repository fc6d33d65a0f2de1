package subscriptions

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

const (
	batch     = 256  // accounts that one pipeline asks for at most
	scanCount = 1000 // keys that one SCAN looks at
)

// accountReader reads accounts from Redis and hands them over to be applied, what was read later last.
type accountReader struct {
	client  redis.UniversalClient
	record  *recorder
	applier *applier
	order   readOrder
}

// stored is an account as Redis holds it: id, JSON, id, JSON, and so on.
type stored struct {
	account string
	fields  []string
	broken  bool   // its key holds no hash: nothing is known about it
	stale   bool   // a later reading has been applied already
	by      string // who has announced it; empty: nobody said
	told    bool   // of what is changed, whoever changed it tells
}

// reading says why accounts are read.
type reading struct {
	announced       bool                       // they were said to have changed
	at              func(account string) int64 // when, in Unix ms; nil, or 0: nobody said
	controlAccounts []string                   // accounts that exist: what is missing has been asked for before
}

// refresh reads accounts that are said to have changed, at a time in Unix ms; nil: nobody said when.
func (r *accountReader) refresh(ctx context.Context, accounts []string, at func(account string) int64, apply func(stored)) error {
	err := r.readAll(ctx, accounts, batch, reading{announced: true, at: at}, func(s stored) bool {
		apply(s)
		return true
	})
	if err != nil {
		return fmt.Errorf("refresh subscriptions: %w", err)
	}
	return nil
}

// readAll reads accounts, n at a time.
func (r *accountReader) readAll(ctx context.Context, accounts []string, n int, why reading, take func(stored) (applied bool)) error {
	for chunk := range slices.Chunk(accounts, n) {
		if err := r.read(ctx, chunk, why, take); err != nil {
			return err
		}
	}
	return nil
}

// read reads accounts at once and hands each to take, under the applier's lock; take says whether it applied what it got. A failed
// read hands over nothing. Where control accounts are named and none of them exists any more, Redis has been emptied: errEmptied.
func (r *accountReader) read(ctx context.Context, accounts []string, why reading, take func(stored) (applied bool)) error {
	start := r.order.begin(why.announced)
	defer r.order.end(why.announced)
	list, err := r.fetch(ctx, accounts, why.controlAccounts)
	if err == nil && r.record.keep > 0 {
		err = r.record.changed(ctx, r.applier.changedOf(list, why))
	}
	if err != nil {
		return err
	}
	r.applier.mu.Lock()
	defer r.applier.mu.Unlock()
	for _, s := range list {
		s.stale = r.order.stale(s.account, start)
		if take(s) && !s.stale {
			r.order.note(s.account, start)
		}
	}
	return nil
}

func (r *accountReader) fetch(ctx context.Context, accounts, controlAccounts []string) ([]stored, error) {
	pipe := r.client.Pipeline()
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

// readOrder keeps what was read earlier from being applied over what was read later. Reads of Redis overlap: a full load reads a
// batch while another is applied, and changes are read in between.
//
// Each read notes the clock before it asks. When it has its answer, it leaves out the accounts that a read begun after
// it has applied meanwhile: that one saw all that this one saw, and more. (It may have been answered before this one.
// What was written between the two answers is announced after it, and read again.)
type readOrder struct {
	mu       sync.Mutex
	clock    uint64
	inFlight int
	changes  int               // of them, reads of announced accounts
	applied  map[string]uint64 // account → clock of the read that was applied; kept while a read it may concern is in flight
}

func (o *readOrder) begin(announced bool) (start uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.clock++
	o.inFlight++
	if announced {
		o.changes++
	}
	return o.clock
}

// stale says whether a read begun after start has applied the account already.
func (o *readOrder) stale(account string, start uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.applied[account] > start
}

// note remembers an application. A full load's are of no interest to the rest of the load, which reads other accounts.
func (o *readOrder) note(account string, start uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.changes == 0 || o.inFlight == 1 {
		return
	}
	if o.applied == nil {
		o.applied = make(map[string]uint64)
	}
	o.applied[account] = start
}

func (o *readOrder) end(announced bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.inFlight--
	if announced {
		o.changes--
	}
	if o.inFlight == 0 {
		o.applied = nil
	}
}

// scanAccounts yields the names of the accounts whose name matches the pattern (as Redis does it), in no order. A name may come twice.
func scanAccounts(ctx context.Context, client redis.UniversalClient, pattern string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		nodes, err := masters(ctx, client)
		if err != nil {
			yield("", err)
			return
		}
		for _, node := range nodes {
			for cursor := uint64(0); ; {
				keys, next, err := node.Scan(ctx, cursor, accountPrefix+pattern, scanCount).Result()
				if err != nil {
					yield("", err)
					return
				}
				for _, key := range keys {
					if !yield(strings.TrimPrefix(key, accountPrefix), nil) {
						return
					}
				}
				if cursor = next; cursor == 0 {
					break
				}
			}
		}
	}
}

// masters are the servers that hold accounts: some commands, such as SCAN, are a server's own.
func masters(ctx context.Context, client redis.UniversalClient) (list []redis.Cmdable, err error) {
	cluster, ok := client.(*redis.ClusterClient)
	if !ok {
		return []redis.Cmdable{client}, nil
	}
	var mu sync.Mutex
	err = cluster.ForEachMaster(ctx, func(_ context.Context, node *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		list = append(list, node)
		return nil
	})
	return list, err
}
