package subscriptions

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// Bounds of portal links: for how long one is good at most, and how many an account may have that have not expired.
const (
	PortalLinkMax  = 90 * 24 * time.Hour
	MaxPortalLinks = 100
)

// PortalLink is a link that opens the portal of an account. Its token is nowhere in Redis.
type PortalLink struct {
	ID      string    `json:"-"`
	Kind    string    `json:"kind"` // full or read-only
	Expires time.Time `json:"expires"`
}

// portalLinksKey is a hash: link id → JSON. What has expired is removed by the next link that is made.
func portalLinksKey(account string) string { return "fanout:portal:links:" + account }

// AddPortalLink stores a link. Only a link that is stored opens anything. It fails with a *ConflictError where the account has
// too many.
func (s *Store) AddPortalLink(ctx context.Context, account string, link PortalLink) error {
	known, expired, err := s.portalLinks(ctx, account)
	if err != nil {
		return err
	}
	if len(known) >= MaxPortalLinks {
		return &ConflictError{"the account has 100 portal links, which is the limit: revoke some first"}
	}
	data, err := json.Marshal(link)
	if err != nil {
		return err
	}
	pipe := s.client.Pipeline()
	if len(expired) > 0 {
		pipe.HDel(ctx, portalLinksKey(account), expired...)
	}
	pipe.HSet(ctx, portalLinksKey(account), link.ID, data)
	_, err = pipe.Exec(ctx)
	return plain("store portal link", about(portalLinksKey(account), err))
}

// PortalLinks are an account's links that have not expired, the last to expire first.
func (s *Store) PortalLinks(ctx context.Context, account string) ([]PortalLink, error) {
	list, _, err := s.portalLinks(ctx, account)
	return list, err
}

func (s *Store) portalLinks(ctx context.Context, account string) (list []PortalLink, expired []string, err error) {
	stored, err := s.client.HGetAll(ctx, portalLinksKey(account)).Result()
	if err != nil {
		return nil, nil, plain("list portal links", about(portalLinksKey(account), err))
	}
	now := time.Now()
	for id, data := range stored {
		link := PortalLink{ID: id}
		if json.Unmarshal([]byte(data), &link) != nil || !now.Before(link.Expires) {
			expired = append(expired, id)
			continue
		}
		list = append(list, link)
	}
	slices.SortFunc(list, func(a, b PortalLink) int {
		return cmp.Or(b.Expires.Compare(a.Expires), cmp.Compare(a.ID, b.ID))
	})
	return list, expired, nil
}

// HasPortalLink says whether a link is stored: one that is not was revoked. While Redis cannot say, the link must not be
// followed.
func (s *Store) HasPortalLink(ctx context.Context, account, id string) (bool, error) {
	err := s.client.HGet(ctx, portalLinksKey(account), id).Err()
	if errors.Is(err, redis.Nil) {
		return false, nil
	}
	return err == nil, plain("look for portal link", about(portalLinksKey(account), err))
}

// RevokePortalLink makes every instance refuse the account's link from now on. It may be revoked twice, or not exist.
func (s *Store) RevokePortalLink(ctx context.Context, account, id string) error {
	err := s.client.HDel(ctx, portalLinksKey(account), id).Err()
	return plain("revoke portal link", about(portalLinksKey(account), err))
}
