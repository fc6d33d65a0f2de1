package subscriptions

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
)

// changedKey is the sorted set of when each account last really changed (docs/contract.md#changed-accounts): the members are
// accounts, the scores Unix ms.
const changedKey = "fanout:changed"

// keptSince is the member whose score says since when the set is complete: no account has an empty name.
const keptSince = ""

// recorder writes down in Redis which accounts have changed, before what has changed is in force.
type recorder struct {
	client redis.UniversalClient
	log    *zap.Logger
	keep   time.Duration // how long a change is remembered; 0: none is written down
	denied atomic.Bool   // Redis refused it, and that has been said
}

// changed writes down when accounts have changed, in Unix ms. A score of 0 is now, by Redis's clock: nobody has announced it. An
// error is that of a connection: what Redis refuses is said once, and holds nothing up.
func (r *recorder) changed(ctx context.Context, accounts []redis.Z) error {
	unannounced := func(z redis.Z) bool { return z.Score == 0 }
	if slices.ContainsFunc(accounts, unannounced) {
		now, err := r.client.Time(ctx).Result()
		switch {
		case err == nil:
		case refusedByRedis(err):
			now = time.Now()
		default:
			return err
		}
		for i := range accounts {
			if unannounced(accounts[i]) {
				accounts[i].Score = float64(now.UnixMilli())
			}
		}
	}
	for chunk := range slices.Chunk(accounts, batch) {
		if err := r.client.ZAddGT(ctx, changedKey, chunk...).Err(); err != nil {
			return r.refused(err)
		}
	}
	return nil
}

// catchUp is for a start that knows nothing of what was in force, so that it cannot see what changed while nobody ran: what
// was announced after the last change that was written down counts as changed.
func (r *recorder) catchUp(ctx context.Context) error {
	last, err := r.client.ZRangeArgsWithScores(ctx, redis.ZRangeArgs{Key: changedKey, Start: 0, Stop: 0, Rev: true}).Result()
	if err != nil || len(last) == 0 {
		return r.refused(err)
	}
	return announcements(ctx, r.client, int64(last[0].Score)+1, func(page map[string]time.Time) error {
		accounts := make([]redis.Z, 0, len(page))
		for account, at := range page {
			accounts = append(accounts, redis.Z{Member: account, Score: float64(at.UnixMilli())})
		}
		return r.changed(ctx, accounts)
	})
}

// trim forgets changes that are older than they are kept, and says since when the set is complete. A set that does not
// exist yet begins now.
func (r *recorder) trim(ctx context.Context) error {
	if r.keep == 0 {
		return nil
	}
	now, err := r.client.Time(ctx).Result()
	if err != nil {
		return r.refused(err)
	}
	from := now.Add(-r.keep).UnixMilli()
	pipe := r.client.Pipeline()
	pipe.ZAddNX(ctx, changedKey, redis.Z{Score: float64(now.UnixMilli()), Member: keptSince})
	pipe.ZAddArgs(ctx, changedKey, redis.ZAddArgs{XX: true, GT: true, Members: []redis.Z{{Score: float64(from), Member: keptSince}}})
	pipe.ZRemRangeByScore(ctx, changedKey, "-inf", "("+strconv.FormatInt(from, 10))
	if _, err := pipe.Exec(ctx); err != nil {
		return r.refused(err)
	}
	return nil
}

// refused takes an error of Redis's own answer for done, having said so once, and returns any other.
func (r *recorder) refused(err error) error {
	if err == nil || !refusedByRedis(err) {
		return err
	}
	if !r.denied.Swap(true) {
		r.log.Warn("redis refuses to keep when accounts changed, so audit cannot tell", zap.String("error", describe(about(changedKey, err))))
	}
	return nil
}

func refusedByRedis(err error) bool {
	_, ok := errors.AsType[redis.Error](err)
	return ok
}
