package subscriptions

import (
	"context"
	"slices"
	"strings"
)

// AccountNames returns accounts whose name begins with the prefix, sorted, and limit of them at most. Redis looks at every
// key for that: where ctx ends before, what has been found is returned with the error.
func (s *Store) AccountNames(ctx context.Context, prefix string, limit int) (names []string, err error) {
	literally := strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)
	for account, failed := range scanAccounts(ctx, s.client, literally.Replace(prefix)+"*") {
		if err = plain("scan subscriptions", failed); err != nil || len(names) == limit {
			break
		}
		names = append(names, account)
	}
	slices.Sort(names)
	return slices.Compact(names), err // a key may come twice
}
