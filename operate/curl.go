package operate

import (
	"context"
	"time"

	"fanout/dispatcher"
	"fanout/subscriptions"
	"fanout/topic"
)

// LetterCurl is the command that sends a dead letter again, to its subscription as it is now, or else why there is none.
func LetterCurl(ctx context.Context, store *subscriptions.Store, renderer *dispatcher.Renderer, d *topic.DeadLetter) (curl, why string) {
	stored, there, err := store.Get(ctx, d.Account, d.Subscription)
	switch {
	case err != nil:
		return "", "its subscription cannot be read: " + err.Error()
	case !there:
		return "", "its subscription no longer exists: a replay would be discarded"
	}
	sub, bad := store.Reader().Parse(d.Account, d.Subscription, stored)
	if bad != nil {
		return "", "its subscription is invalid: " + bad.Error()
	}
	curl, blocked := renderer.Curl(sub, &dispatcher.Delivery{ID: d.ID, Body: d.Value, TraceParent: d.Trace}, time.Now(), false)
	if blocked != "" {
		return "", "nothing may be sent there: " + blocked
	}
	return curl, ""
}
