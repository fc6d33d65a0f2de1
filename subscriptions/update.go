package subscriptions

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/redis/go-redis/v9"
)

// updateTries bounds how often an update begins again because others write to the same account meanwhile.
const updateTries = 10

// Change makes a subscription's next JSON of what is stored, which is nil where there is none; nil removes it. It may be
// called again with what somebody else has stored meanwhile, and its error ends the update.
type Change func(stored json.RawMessage) (next json.RawMessage, err error)

// Update changes a subscription. Nothing that somebody else stores meanwhile is overwritten unseen, on this instance or
// another. What is not valid as a stored subscription is refused with a [*ValidationError] and changes nothing; whether it
// keeps to the rules of later editions is for change to say. created says whether it is new. The account is announced even
// where nothing changes: whoever stored that may have forgotten to.
//
// Where the Redis user may not use transactions, only the writers of this process are kept apart, and of two others the
// last one wins.
func (s *Store) Update(ctx context.Context, account, id string, change Change) (created bool, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	u := update{store: s, key: accountPrefix + account, account: account, id: id, change: change}
	for range updateTries {
		err = s.client.Watch(ctx, func(tx *redis.Tx) error { return u.attempt(ctx, tx) }, u.key)
		if !errors.Is(err, redis.TxFailedErr) {
			break
		}
	}
	if errors.Is(err, redis.TxFailedErr) {
		return false, &ConflictError{"others keep changing this account's subscriptions: try again"}
	}
	if err != nil && withoutTransactions(err) {
		err = u.plain(ctx)
	}
	switch {
	case u.refused != nil:
		return false, u.refused
	case err != nil:
		return false, plain("update subscription", about(u.key, err))
	}
	return u.created, s.Changed(ctx, account)
}

// update is one call of Update.
type update struct {
	store   *Store
	key     string
	account string
	id      string
	change  Change

	next    json.RawMessage
	made    bool  // change made next
	created bool  // nothing was stored
	same    bool  // nothing is to be written
	refused error // of change, or what is wrong with what it made
}

// attempt reads, changes and writes, unless the account was written meanwhile.
func (u *update) attempt(ctx context.Context, tx *redis.Tx) error {
	if err := u.make(ctx, tx); err != nil || u.refused != nil || u.same {
		return err
	}
	return u.commit(ctx, tx)
}

// commit writes in a transaction. MULTI goes alone: where it is refused, what go-redis's TxPipelined sends behind it is carried out all the
// same, and answers that nobody reads stay in the connection.
func (u *update) commit(ctx context.Context, tx *redis.Tx) error {
	if err := tx.Process(ctx, redis.NewStatusCmd(ctx, "multi")); err != nil {
		return err
	}
	pipe := tx.Pipeline()
	queued, done := pipe.Do(ctx, u.command()...), pipe.Do(ctx, "exec")
	_, err := pipe.Exec(ctx)
	if queued.Err() != nil {
		return queued.Err() // that of EXEC says only that it was given up
	}
	if errors.Is(done.Err(), redis.Nil) {
		return redis.TxFailedErr
	}
	if results, _ := done.Slice(); len(results) == 1 {
		if failed, ok := results[0].(error); ok {
			return failed
		}
	}
	return err
}

// make has the change made of what is stored.
func (u *update) make(ctx context.Context, from redis.Cmdable) error {
	stored, err := u.read(ctx, from)
	if err != nil {
		return err
	}
	if u.next, u.refused = u.change(stored); u.refused != nil {
		return nil //nolint:nilerr // kept in the update: nothing is written, and nothing went wrong
	}
	u.made, u.created, u.same = true, stored == nil && u.next != nil, bytes.Equal(stored, u.next)
	if u.next == nil {
		return nil
	}
	if _, bad := u.store.reader.Parse(u.account, u.id, u.next); bad != nil {
		u.refused = bad
	}
	return nil
}

// read is the stored JSON; nil where nothing is stored.
func (u *update) read(ctx context.Context, from redis.Cmdable) (json.RawMessage, error) {
	data, err := from.HGet(ctx, u.key, u.id).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	return data, err
}

// command writes what the change has made.
func (u *update) command() []any {
	if u.next == nil {
		return []any{"hdel", u.key, u.id}
	}
	return []any{"hset", u.key, u.id, []byte(u.next)}
}

// plain does without a transaction. Where one broke off, the change has been made, and perhaps written: it is not made a
// second time.
func (u *update) plain(ctx context.Context) error {
	if !u.made {
		if err := u.make(ctx, u.store.client); err != nil || u.refused != nil || u.same {
			return err
		}
	}
	return u.store.client.Do(ctx, u.command()...).Err()
}

// withoutTransactions says whether Redis, or what stands in front of it, has no transactions for this user.
func withoutTransactions(err error) bool {
	text := err.Error()
	return strings.HasPrefix(text, "NOPERM") || strings.HasPrefix(text, "ERR unknown command")
}
