package subscriptions

import (
	"context"
	"errors"
	"slices"
	"strconv"
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
	keep   time.Duration // how long a change is remembered
	denied bool          // Redis refused it, and that has been said
}

// RecordChanges has the Directory write down when it sees an account really change, for as long as keep says. It is set before
// Run. Only what serves does so: whoever merely looks must not write.
func (d *Directory) RecordChanges(keep time.Duration) { d.record = &recorder{keep: keep} }

// recordChanged writes down which of the accounts that were read differ from what is in force. What nobody has announced counts as
// changed now, by Redis's clock. An error is that of a connection: what Redis refuses is said once, and holds nothing up.
func (d *Directory) recordChanged(ctx context.Context, list []stored, r reading) error {
	knows := d.fresh.filled()
	if d.record == nil || !knows && !r.announced {
		return nil // a first load finds what has been in force
	}
	confirmed := r.announced || len(r.controlAccounts) > 0
	var changed []redis.Z
	unannounced := false
	for _, s := range list {
		if s.broken || knows && !d.differs(s, confirmed) { // while nothing is known, what is announced counts as changed
			continue
		}
		z := redis.Z{Member: s.account}
		if r.at != nil {
			z.Score = float64(r.at(s.account))
		}
		unannounced = unannounced || z.Score == 0
		changed = append(changed, z)
	}
	if len(changed) == 0 {
		return nil
	}
	now := time.Now()
	if unannounced {
		redisTime, err := d.client.Time(ctx).Result()
		switch {
		case err == nil:
			now = redisTime
		case !refusedByRedis(err):
			return err
		}
	}
	for i := range changed {
		if changed[i].Score == 0 {
			changed[i].Score = float64(now.UnixMilli())
		}
	}
	for chunk := range slices.Chunk(changed, batch) {
		if err := d.client.ZAddGT(ctx, changedKey, chunk...).Err(); err != nil {
			return d.recordRefused(err)
		}
	}
	return nil
}

// recordUnseen is for a start that knows nothing of what was in force, so that it cannot see what changed while nobody ran: what
// was announced after the last change that was written down counts as changed.
func (d *Directory) recordUnseen(ctx context.Context) error {
	if d.record == nil || d.fresh.filled() {
		return nil
	}
	last, err := d.client.ZRangeArgsWithScores(ctx, redis.ZRangeArgs{Key: changedKey, Start: 0, Stop: 0, Rev: true}).Result()
	if err != nil || len(last) == 0 {
		return d.recordRefused(err)
	}
	return announced(ctx, d.client, int64(last[0].Score)+1, func(page map[string]time.Time) error {
		members := make([]redis.Z, 0, len(page))
		for account, at := range page {
			members = append(members, redis.Z{Member: account, Score: float64(at.UnixMilli())})
		}
		for chunk := range slices.Chunk(members, batch) {
			if err := d.client.ZAddGT(ctx, changedKey, chunk...).Err(); err != nil {
				return d.recordRefused(err)
			}
		}
		return nil
	})
}

// trimChanged forgets changes that are older than they are kept, and says since when the set is complete. A set that does not
// exist yet begins now.
func (d *Directory) trimChanged(ctx context.Context) error {
	if d.record == nil {
		return nil
	}
	now, err := d.client.Time(ctx).Result()
	if err != nil {
		return d.recordRefused(err)
	}
	from := now.Add(-d.record.keep).UnixMilli()
	pipe := d.client.Pipeline()
	pipe.ZAddNX(ctx, changedKey, redis.Z{Score: float64(now.UnixMilli()), Member: keptSince})
	pipe.ZAddArgs(ctx, changedKey, redis.ZAddArgs{XX: true, GT: true, Members: []redis.Z{{Score: float64(from), Member: keptSince}}})
	pipe.ZRemRangeByScore(ctx, changedKey, "-inf", "("+strconv.FormatInt(from, 10))
	if _, err := pipe.Exec(ctx); err != nil {
		return d.recordRefused(err)
	}
	return nil
}

// recordRefused takes an error of Redis's own answer for done, having said so once, and returns any other.
func (d *Directory) recordRefused(err error) error {
	if err == nil || !refusedByRedis(err) {
		return err
	}
	d.writing.mu.Lock()
	said := d.record.denied
	d.record.denied = true
	d.writing.mu.Unlock()
	if !said {
		d.log.Warn("redis refuses to keep when accounts changed, so audit cannot tell", zap.String("error", describe(about(changedKey, err))))
	}
	return nil
}

func refusedByRedis(err error) bool {
	_, ok := errors.AsType[redis.Error](err)
	return ok
}

// differs reports whether an account is stored otherwise than it was when it was last read. What is missing of it counts
// where that is confirmed.
func (d *Directory) differs(s stored, confirmed bool) bool {
	known := d.table.account(s.account)
	for i := 0; i < len(s.fields); i += 2 {
		hash := hashOf(s.fields[i+1])
		if sub := byID(known, s.fields[i]); sub != nil && sub.hash == hash {
			continue
		}
		if p := d.problems.at(s.account, s.fields[i]); p == nil || p.hash != hash {
			return true
		}
	}
	return confirmed && len(known) > len(s.fields)/2
}
