package subscriptions

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Store reads and writes subscriptions in Redis, for the commands and the admin API. Its methods may be called from any
// goroutine and take as long as ctx and the socket's time-outs let them.
type Store struct {
	client redis.UniversalClient
	reader Reader

	by string // who writes; empty: not said

	// writing is held from reading a subscription to writing it, so that the writers of this process do not undo each
	// other's changes where Redis may not be asked for a transaction.
	writing *sync.Mutex
}

// As is the same Store, whose changes are announced as the actor's (docs/contract.md#admin-changes). Only the Store that it
// was made of is closed.
func (s *Store) As(actor string) *Store {
	own := *s
	own.by = actor
	return &own
}

// Stored is a subscription as Redis holds it, valid or not. Its JSON holds secrets: show [Masked] of it.
type Stored struct {
	Account, ID string
	JSON        json.RawMessage
}

// NewStore makes a Store. It does not need a Redis. Close it.
func NewStore(cfg Config, opts ...Option) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	client, err := newClient(&cfg, 1, opts...)
	if err != nil {
		return nil, err
	}
	return &Store{client: client, reader: cfg.Reader(), writing: new(sync.Mutex)}, nil
}

// Reader reads subscriptions as the Store's configuration has it.
func (s *Store) Reader() Reader { return s.reader }

// Close closes the connections.
func (s *Store) Close() error { return s.client.Close() }

// Ping says whether Redis answers. The error names no address.
func (s *Store) Ping(ctx context.Context) error { return plain("ping", s.client.Ping(ctx).Err()) }

// Clock is the time on Redis's machine. The error names no address.
func (s *Store) Clock(ctx context.Context) (time.Time, error) {
	now, err := s.client.Time(ctx).Result()
	return now, plain("time", err)
}

// WrongKeys looks at the keys that all accounts share, and says which hold another type of value than they must. What the
// Redis user may not read is left out.
func (s *Store) WrongKeys(ctx context.Context) (wrong []*StoreError, err error) {
	for key, read := range map[string]func() error{
		changesKey:   func() error { return s.client.XRevRangeN(ctx, changesKey, "+", "-", 1).Err() },
		changedKey:   func() error { return s.client.ZRange(ctx, changedKey, 0, 0).Err() },
		instancesKey: func() error { return s.client.HLen(ctx, instancesKey).Err() },
	} {
		switch err := read(); {
		case err == nil:
		case wrongType(err):
			t := explain(about(key, err))
			wrong = append(wrong, &StoreError{t.found, t.remedy})
		case !refusedByRedis(err):
			return nil, plain("read "+key, err)
		}
	}
	slices.SortFunc(wrong, func(a, b *StoreError) int { return strings.Compare(a.Found, b.Found) })
	return wrong, nil
}

// StoreError says what went wrong with Redis. It names no address and no credential.
type StoreError struct {
	Found  string
	Remedy string // empty where the error does not say what to do
}

// Error implements error.
func (e *StoreError) Error() string { return trouble{e.Found, e.Remedy}.String() }

// plain makes a *StoreError.
func plain(operation string, err error) error {
	if err == nil {
		return nil
	}
	t := explain(err)
	return &StoreError{operation + ": " + t.found, t.remedy}
}

// WrongTypeError says that an account's key holds something else than subscriptions.
type WrongTypeError struct {
	Account string
	trouble trouble
}

// Error implements error. It names the key.
func (e *WrongTypeError) Error() string { return e.trouble.String() }

// Unwrap is the same as a *StoreError.
func (e *WrongTypeError) Unwrap() error { return &StoreError{e.trouble.found, e.trouble.remedy} }

// Get returns a subscription's JSON, byte for byte; false where there is none.
func (s *Store) Get(ctx context.Context, account, id string) (json.RawMessage, bool, error) {
	data, err := s.client.HGet(ctx, accountPrefix+account, id).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, false, nil
	}
	return data, err == nil, plain("get subscription", about(accountPrefix+account, err))
}

// List returns the account's subscriptions, sorted by id. Where its key holds something else, the error is a
// [*WrongTypeError].
func (s *Store) List(ctx context.Context, account string) ([]Stored, error) {
	all, err := s.client.HGetAll(ctx, accountPrefix+account).Result()
	if err != nil && wrongType(err) {
		return nil, &WrongTypeError{account, explain(about(accountPrefix+account, err))}
	}
	if err != nil {
		return nil, plain("list subscriptions", about(accountPrefix+account, err))
	}
	list := make([]Stored, 0, len(all))
	for id, data := range all {
		list = append(list, Stored{account, id, json.RawMessage(data)})
	}
	slices.SortFunc(list, func(a, b Stored) int { return strings.Compare(a.ID, b.ID) })
	return list, nil
}

// Count is how many subscriptions an account has.
func (s *Store) Count(ctx context.Context, account string) (int, error) {
	n, err := s.client.HLen(ctx, accountPrefix+account).Result()
	if err != nil { // an older line of the user's rights does not have the command
		all, listErr := s.client.HGetAll(ctx, accountPrefix+account).Result()
		n, err = int64(len(all)), listErr
	}
	return int(n), plain("count subscriptions", about(accountPrefix+account, err))
}

// ListAll yields every subscription, account by account, in no order of accounts. An account whose key holds something
// else is a [*WrongTypeError], and the others follow; any other error ends it. What is written meanwhile may be seen or
// not; an account may come twice while Redis resizes its table.
func (s *Store) ListAll(ctx context.Context) iter.Seq2[Stored, error] {
	return func(yield func(Stored, error) bool) {
		for account, err := range scanAccounts(ctx, s.client, "*") {
			var list []Stored
			if err = plain("scan subscriptions", err); err == nil {
				list, err = s.List(ctx, account)
			}
			if wrong, ok := errors.AsType[*WrongTypeError](err); ok {
				if !yield(Stored{}, wrong) {
					return
				}
				continue
			}
			if err != nil {
				yield(Stored{}, err)
				return
			}
			for _, stored := range list {
				if !yield(stored, nil) {
					return
				}
			}
		}
	}
}

// Put stores a subscription and announces it. What breaks a rule of any edition is refused with a [*ValidationError] and
// changes nothing. created says whether it is new. What is stored is replaced: see [Store.Update] for what depends on it.
func (s *Store) Put(ctx context.Context, account, id string, data []byte) (created bool, err error) {
	if bad := ReviewSent(account, id, data, time.Now()).Invalid; bad != nil {
		return false, bad
	}
	added, err := s.client.HSet(ctx, accountPrefix+account, id, data).Result()
	if err != nil {
		return false, plain("put subscription", about(accountPrefix+account, err))
	}
	return added > 0, s.Changed(ctx, account)
}

// Delete removes a subscription and announces it; false where there was none.
func (s *Store) Delete(ctx context.Context, account, id string) (bool, error) {
	removed, err := s.client.HDel(ctx, accountPrefix+account, id).Result()
	if err != nil {
		return false, plain("delete subscription", about(accountPrefix+account, err))
	}
	return removed > 0, s.Changed(ctx, account)
}

// Changed announces that the accounts were written.
func (s *Store) Changed(ctx context.Context, accounts ...string) error {
	for chunk := range slices.Chunk(accounts, scanCount) {
		pipe := s.client.Pipeline()
		for _, account := range chunk {
			s.announce(ctx, pipe, "account", account)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return plain("announce change", about(changesKey, err))
		}
	}
	return nil
}

// AcceptShrink makes every instance take what Redis holds, however little it is: it adds `accept <Unix ms>` to the
// stream of changes. An instance that is down takes note when it is back, as long as the stream remembers.
func (s *Store) AcceptShrink(ctx context.Context) error {
	_, err := s.announce(ctx, s.client, "accept", strconv.FormatInt(time.Now().UnixMilli(), 10)).Result()
	return plain("accept subscriptions", about(changesKey, err))
}

// Release has every instance open the subscription's lane and fetch what waits for it (docs/contract.md#release-entry).
func (s *Store) Release(ctx context.Context, account, id string) error {
	_, err := s.announce(ctx, s.client, "account", account, "release", id).Result()
	return plain("release subscription", about(changesKey, err))
}

func (s *Store) announce(ctx context.Context, to redis.Cmdable, values ...string) *redis.StringCmd {
	if s.by != "" {
		values = append(values, "by", s.by)
	}
	return to.XAdd(ctx, &redis.XAddArgs{Stream: changesKey, MaxLen: changesLength, Approx: true, Values: values})
}
