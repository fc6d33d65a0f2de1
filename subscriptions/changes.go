package subscriptions

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// changesPage is how many announcements, or changes, are read at once.
const changesPage = 10_000

// Changes is when accounts changed, by Redis's clock.
type Changes struct {
	Last  map[string]time.Time // of each account that has changed, the last time
	Since time.Time            // what was before cannot be known
}

// ChangedSince is when each account last changed. Where instances have written that down it is what they saw; of the time before
// it is what was announced, as far back as the stream of changes goes: its older entries are trimmed.
func (s *Store) ChangedSince(ctx context.Context, since time.Time) (Changes, error) {
	c := Changes{Last: make(map[string]time.Time)}
	recorded, err := s.recorded(ctx, c.Last)
	if err != nil {
		return c, err
	}
	if c.Since = recorded; !recorded.IsZero() && !recorded.After(since) {
		return c, nil
	}
	first, err := s.client.XRangeN(ctx, changesKey, "-", "+", 1).Result()
	if err != nil {
		return c, plain("read "+changesKey, about(changesKey, err))
	}
	if len(first) > 0 {
		if from := time.UnixMilli(millis(first[0].ID)); c.Since.IsZero() || from.Before(c.Since) {
			c.Since = from
		}
	}
	err = announcements(ctx, s.client, since.UnixMilli(), func(page map[string]time.Time) error {
		for account, at := range page {
			if (recorded.IsZero() || at.Before(recorded)) && at.After(c.Last[account]) {
				c.Last[account] = at
			}
		}
		return nil
	})
	if err != nil {
		return c, plain("read "+changesKey, about(changesKey, err))
	}
	return c, nil
}

// recorded adds what instances have written down, and returns since when that is complete; zero: they have not.
func (s *Store) recorded(ctx context.Context, last map[string]time.Time) (since time.Time, err error) {
	for from := int64(0); ; from += changesPage {
		members, err := s.client.ZRangeWithScores(ctx, changedKey, from, from+changesPage-1).Result()
		if err != nil {
			if refusedByRedis(err) {
				return time.Time{}, nil // an ACL from before there was such a key
			}
			return time.Time{}, plain("read "+changedKey, err)
		}
		for _, m := range members {
			account, _ := m.Member.(string)
			at := time.UnixMilli(int64(m.Score))
			if account == keptSince {
				since = at
				continue
			}
			last[account] = at
		}
		if len(members) < changesPage {
			return since, nil
		}
	}
}

// announcements hands over when accounts were announced, page by page, from a time in Unix ms on.
func announcements(ctx context.Context, client redis.Cmdable, since int64, page func(map[string]time.Time) error) error {
	for from := strconv.FormatInt(since, 10); ; {
		entries, err := client.XRangeN(ctx, changesKey, from, "+", changesPage).Result()
		if err != nil {
			return err
		}
		at := make(map[string]time.Time)
		for _, e := range entries {
			if account, _ := e.Values["account"].(string); account != "" {
				at[account] = time.UnixMilli(millis(e.ID))
			}
		}
		if err := page(at); err != nil {
			return err
		}
		if len(entries) < changesPage {
			return nil
		}
		from = "(" + entries[len(entries)-1].ID
	}
}
