package subscriptions

import (
	"context"
	"strconv"
	"strings"
	"time"
)

// changesPage is how many announcements are read at once.
const changesPage = 10_000

// ChangedSince is the last announced change of each account, as far back as the stream of changes goes: its older
// entries are trimmed. The times are those of Redis's clock.
func (s *Store) ChangedSince(ctx context.Context, since time.Time) (map[string]time.Time, error) {
	changed := make(map[string]time.Time)
	for from := strconv.FormatInt(since.UnixMilli(), 10); ; {
		entries, err := s.client.XRangeN(ctx, changesKey, from, "+", changesPage).Result()
		if err != nil {
			return nil, plain("read "+changesKey, err)
		}
		for _, e := range entries {
			account, _ := e.Values["account"].(string)
			ms, _, _ := strings.Cut(e.ID, "-")
			if n, err := strconv.ParseInt(ms, 10, 64); err == nil && account != "" {
				changed[account] = time.UnixMilli(n)
			}
		}
		if len(entries) < changesPage {
			return changed, nil
		}
		from = "(" + entries[len(entries)-1].ID
	}
}
