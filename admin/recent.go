package admin

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"fanout/operate"
	"fanout/topic"
)

// Bounds of the attempts that a webhook's page shows. The topic is read for them while somebody looks.
const (
	recentShown    = 25
	recentEvery    = 2 * time.Second
	recentPatience = 2 * time.Second // of one reading
	recentKept     = 64              // webhooks that somebody looks at
	recentOverlap  = 5 * time.Second // read again each time: instances write at their own pace
)

// recents are the last attempts of the webhooks that somebody looks at: those of all instances, from the attempts topic
// (docs/contract.md#attempts-shown).
type recents struct {
	mu sync.Mutex // guards all below, and what by points to
	by map[[2]string]*recent
}

type recent struct {
	list    []topic.Attempt // the newest first; never changed, only replaced
	read    time.Time       // when; zero: not yet
	off     bool            // there is no attempts topic
	reading bool
}

// look returns a webhook's last attempts, and when they were read. The first who looks waits for them. ok is false where the topic cannot say.
func (r *recents) look(ctx context.Context, p *panel, s scope, account, id string) (list []topic.Attempt, read time.Time, ok bool) {
	key := [2]string{account, id}
	r.mu.Lock()
	one := r.of(key)
	first := one.read.IsZero()
	if !one.reading && time.Since(one.read) > recentEvery {
		one.reading = true
		since := one.since()
		r.mu.Unlock()
		if first {
			r.ask(ctx, p, s, key, since)
		} else {
			p.behind(ctx, 2*recentPatience, func(ctx context.Context) { r.ask(ctx, p, s, key, since) })
		}
		r.mu.Lock()
	}
	defer r.mu.Unlock()
	return one.list, one.read, !one.off && !one.read.IsZero()
}

// of is what is known of a webhook. The caller holds mu.
func (r *recents) of(key [2]string) *recent {
	if one := r.by[key]; one != nil {
		return one
	}
	if r.by == nil {
		r.by = make(map[[2]string]*recent)
	}
	for other, one := range r.by {
		if len(r.by) >= recentKept && !one.reading {
			delete(r.by, other)
		}
	}
	r.by[key] = &recent{}
	return r.by[key]
}

// since is from when on attempts may be new.
func (r *recent) since() time.Time {
	if len(r.list) == 0 {
		return time.Time{}
	}
	return time.UnixMilli(r.list[0].Time).Add(-recentOverlap)
}

func (r *recents) ask(ctx context.Context, p *panel, s scope, key [2]string, since time.Time) {
	began := time.Now()
	found, err := p.look(ctx, s, &operate.FindQuery{Account: key[0], Subscription: key[1], Since: since, Limit: recentShown, Patience: recentPatience})
	r.mu.Lock()
	defer r.mu.Unlock()
	one := r.of(key)
	one.reading = false
	if one.off = errors.Is(err, operate.ErrNoAttempts); err != nil {
		return
	}
	var fresh []topic.Attempt
	for _, d := range found.Deliveries {
		fresh = append(fresh, d.Attempts...)
	}
	one.list, one.read = newestAttempts(fresh, one.list), began
}

// newestAttempts are the newest of both, each once.
func newestAttempts(fresh, known []topic.Attempt) []topic.Attempt {
	all := slices.Concat(fresh, known)
	slices.SortStableFunc(all, func(a, b topic.Attempt) int { return cmp.Or(cmp.Compare(b.Time, a.Time), cmp.Compare(a.ID, b.ID)) })
	all = slices.CompactFunc(all, func(a, b topic.Attempt) bool { return a == b })
	return slices.Clip(all[:min(len(all), recentShown)])
}

// fromTopic is an attempt of the topic as a webhook's page shows it. Its request is on the delivery's page.
func fromTopic(s scope, a *topic.Attempt) shownAttempt {
	one := shownAttempt{attempt: deliveryAttempt(a), TrackingID: a.TrackingID, Instance: a.Instance, Recorded: true}
	one.Key = key(a.ID, one.Time.String(), a.Outcome)
	if s.Portal {
		one.forCustomer()
		one.Instance = ""
	}
	one.Badge, one.Answer = outcomeBadge(&one.attempt), answer(&one.attempt)
	return one
}
