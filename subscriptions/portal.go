package subscriptions

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// PortalLinkMax is the longest time that a portal link is good (DESIGN.md section 7): so long its revocation is kept.
const PortalLinkMax = 90 * 24 * time.Hour

// portalRevokedKey is a sorted set of `<account>/<link id>`, by the Unix seconds at which the link has expired at the
// latest and need not be remembered.
const portalRevokedKey = "fanout:portal:revoked"

// RevokePortalLink makes every instance refuse the account's link from now on. It may be revoked twice, or not exist.
func (s *Store) RevokePortalLink(ctx context.Context, account, id string) error {
	now := time.Now()
	pipe := s.client.Pipeline()
	pipe.ZAdd(ctx, portalRevokedKey, redis.Z{Score: float64(now.Add(PortalLinkMax).Unix()), Member: account + "/" + id})
	pipe.ZRemRangeByScore(ctx, portalRevokedKey, "-inf", strconv.FormatInt(now.Unix(), 10))
	_, err := pipe.Exec(ctx)
	return plain("revoke portal link", err)
}

// PortalLinkRevoked says whether the account's link was revoked. While Redis cannot say, the link must not be followed.
func (s *Store) PortalLinkRevoked(ctx context.Context, account, id string) (bool, error) {
	err := s.client.ZScore(ctx, portalRevokedKey, account+"/"+id).Err()
	if errors.Is(err, redis.Nil) {
		return false, nil
	}
	return err == nil, plain("look for revoked portal link", err)
}
