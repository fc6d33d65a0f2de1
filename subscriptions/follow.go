package subscriptions

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
)

// streamStart is before every entry of a stream.
const streamStart = "0-0"

// readCount bounds how many changes are read at once.
const readCount = 1000

// follower reads the change stream. Its position is always an entry that existed when it was read, or streamStart: so
// one question, whether that entry is still there, tells a trimmed gap, an emptied Redis and one restored from an
// older backup from a stream that simply had no change.
type follower struct {
	client    redis.UniversalClient
	log       *zap.Logger
	intervals *intervals
	accounts  *accountReader
	applier   *applier
	guard     *lossGuard
	fresh     *freshness
	loads     *reconciler
	released  func(account, id, by string) // nil: nobody is told

	position     string // what came up to here has been applied; empty before the first contact
	youngestRead int64  // Unix ms of the youngest entry ever read: a confirmation from before it is history
	verify       bool   // the connection failed: ask whether the position is still there
	idle         bool   // everything was read: the next read may wait
	gap          bool   // changes may have been missed since the snapshot file: only a full load tells what is in force
	suspected    suspectedRemovals
}

// run follows until ctx is done.
func (f *follower) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := f.step(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			f.fresh.followed(f.position, f.guard.refused() == nil)
			continue
		}
		f.fresh.followFailed(err)
		f.verify, f.idle = true, false
		sleep(ctx, f.intervals.retry)
	}
}

func (f *follower) step(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, blockTimeout+grace+readTimeout)
	defer cancel()
	if f.position == "" {
		return f.anchor(ctx)
	}
	if f.verify {
		if err := f.check(ctx); err != nil {
			return err
		}
		f.verify = false
	}
	if err := f.resolve(ctx); err != nil {
		return err
	}
	entries, err := f.read(ctx)
	switch {
	case err != nil:
		return err
	case len(entries) == 0 && !f.idle:
		f.idle = true
		if !f.gap {
			f.fresh.markReady() // the file and every change since
		}
		return nil
	case len(entries) == 0:
		return f.check(ctx)
	case len(entries) == readCount:
		// A burst this long may be trimmed before it is read. Asked after the read: an entry that is still there
		// now was there then, and so was everything after it.
		if err := f.check(ctx); err != nil {
			return err
		}
	}
	was := f.position
	if err := f.take(ctx, entries); err != nil {
		return err
	}
	if f.position == was { // else it was found to be gone, and all is read again
		f.position = entries[len(entries)-1].ID
	}
	return nil
}

// anchor begins where the stream ends, and has everything before it loaded.
func (f *follower) anchor(ctx context.Context) error {
	last, err := f.client.XRevRangeN(ctx, changesKey, "+", "-", 1).Result()
	if err != nil {
		return about(changesKey, err)
	}
	f.position, f.gap = streamStart, true
	if len(last) > 0 {
		f.position = last[0].ID
		f.youngestRead = millis(last[0].ID)
	}
	f.loads.full.ask()
	return nil
}

// check starts again where the position is gone: every change still in the stream is announced again, and a full load
// heals what is not.
func (f *follower) check(ctx context.Context) error {
	if f.position == streamStart {
		return nil
	}
	at, err := f.client.XRange(ctx, changesKey, f.position, f.position).Result()
	if err != nil || len(at) > 0 {
		return about(changesKey, err)
	}
	f.log.Warn("change stream was trimmed, emptied or restored; loading all subscriptions again", zap.String("position", f.position))
	f.position, f.gap = streamStart, true
	f.guard.suspect()
	f.loads.full.ask()
	return nil
}

func (f *follower) read(ctx context.Context) ([]redis.XMessage, error) {
	// The client would wait ten seconds past the block.
	ctx, cancel := context.WithTimeout(ctx, blockTimeout+grace)
	defer cancel()
	block := blockTimeout
	if !f.idle {
		block = -1 // do not wait
	}
	streams, err := f.client.XRead(ctx, &redis.XReadArgs{
		Streams: []string{changesKey, f.position}, Count: readCount, Block: block,
	}).Result()
	if errors.Is(err, redis.Nil) || err == nil && len(streams) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, about(changesKey, err)
	}
	return streams[0].Messages, nil
}

// announced is what the stream says of an account.
type announced struct {
	by string // who has changed it; empty: nobody said, or several
	at int64  // when that was said last, in Unix ms
}

// take puts the announced changes in force.
func (f *follower) take(ctx context.Context, entries []redis.XMessage) error {
	var accounts []string
	said := make(map[string]announced)
	accept := false
	for _, entry := range entries {
		if account, ok := entry.Values["account"].(string); ok && len(account) <= maxIdentity { // a full load says which are too long
			by, _ := entry.Values["by"].(string)
			was, again := said[account]
			if !again {
				accounts = append(accounts, account)
			} else if was.by != by {
				by = "" // several have changed it: which of them changed what cannot be told
			}
			said[account] = announced{by, millis(entry.ID)}
		}
		if _, ok := entry.Values["accept"]; ok && millis(entry.ID) >= f.youngestRead {
			accept = true
		}
	}
	if err := f.refresh(ctx, accounts, said); err != nil {
		return err
	}
	f.release(entries)
	f.youngestRead = max(f.youngestRead, millis(entries[len(entries)-1].ID))
	if accept {
		f.log.Info("operator confirmed what redis holds")
		f.loads.accept()
	}
	return nil
}

// release tells which subscriptions were released since the youngest entry that was read before: where the stream is read again, what lies in
// it is history.
func (f *follower) release(entries []redis.XMessage) {
	if f.released == nil {
		return
	}
	for _, entry := range entries {
		account, _ := entry.Values["account"].(string)
		if id, ok := entry.Values["release"].(string); ok && account != "" && millis(entry.ID) >= f.youngestRead {
			by, _ := entry.Values["by"].(string)
			f.released(account, id, by)
		}
	}
}

// millis is the time in a stream entry's id.
func millis(id string) int64 {
	ms, _, _ := strings.Cut(id, "-")
	n, _ := strconv.ParseInt(ms, 10, 64) // Redis made it; 0 is the safe answer
	return n
}

// sleep waits, or until ctx is done.
func sleep(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
