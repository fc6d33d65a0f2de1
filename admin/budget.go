package admin

import (
	"context"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Bounds of what one account's portal may cost on an instance (docs/contract.md#portal-budgets). Operators have budgets of
// their own.
const (
	portalTests      = 10 // a minute
	portalSaves      = 30 // a minute: whatever is stored, rotations and deletions too
	portalResends    = 10 // a minute
	portalReplayRate = 50 // dead letters, or events of a backfill, a second
	maxScans         = 2  // of topics at a time: in all portals together, and as many for operators
	maxScansWaiting  = 2  // of one account, those at work included
	scanWait         = 10 * time.Second
	maxBudgets       = 4096
)

// budgets are those of all accounts that have used their portal lately. They are safe for concurrent use.
type budgets struct {
	portalScans, operatorScans chan struct{}

	mu       sync.Mutex // guards all below
	accounts map[string]*budget
	sending  int // replays and backfills of all portals together
}

type budget struct {
	tests, saves, resends *rate.Limiter
	scans                 int
	streaming, sending    bool
	used                  time.Time
}

func newBudgets() *budgets {
	return &budgets{portalScans: make(chan struct{}, maxScans), operatorScans: make(chan struct{}, maxScans), accounts: map[string]*budget{}}
}

func perMinute(n int) *rate.Limiter {
	return rate.NewLimiter(rate.Every(time.Minute/time.Duration(n)), n)
}

// of is an account's budget. The caller holds mu.
func (b *budgets) of(account string) *budget {
	now := time.Now()
	one := b.accounts[account]
	if one == nil {
		if len(b.accounts) >= maxBudgets {
			for name, other := range b.accounts {
				if other.scans == 0 && !other.streaming && !other.sending && now.Sub(other.used) > time.Minute { // its budgets are full again
					delete(b.accounts, name)
				}
			}
		}
		one = &budget{tests: perMinute(portalTests), saves: perMinute(portalSaves), resends: perMinute(portalResends)}
		b.accounts[account] = one
	}
	one.used = now
	return one
}

// spend takes one of an account's budget, which operators need not.
func (b *budgets) spend(s scope, what func(*budget) *rate.Limiter, text string, each int) error {
	if !s.Portal {
		return nil
	}
	b.mu.Lock()
	limiter := what(b.of(s.Account))
	b.mu.Unlock()
	if !limiter.Allow() {
		return problemf(http.StatusTooManyRequests, "%s: at most %d a minute. Try again in a moment.", text, each)
	}
	return nil
}

func (b *budgets) test(s scope) error {
	return b.spend(s, func(one *budget) *rate.Limiter { return one.tests }, "too many test events", portalTests)
}

func (b *budgets) save(s scope) error {
	return b.spend(s, func(one *budget) *rate.Limiter { return one.saves }, "too many changes", portalSaves)
}

func (b *budgets) resend(s scope) error {
	return b.spend(s, func(one *budget) *rate.Limiter { return one.resends }, "too many deliveries sent again", portalResends)
}

var errScans = problemf(http.StatusTooManyRequests, "too many searches at once: try again in a moment")

// scan waits for leave to read a topic from end to end. It ends with ctx, and so must the reading.
func (b *budgets) scan(ctx context.Context, s scope) (release func(), err error) {
	slots, leave := b.operatorScans, func() {}
	if s.Portal {
		if leave, err = b.enter(s.Account); err != nil {
			return nil, err
		}
		slots = b.portalScans
	}
	ctx, cancel := context.WithTimeout(ctx, scanWait)
	defer cancel()
	select {
	case slots <- struct{}{}:
		return func() { <-slots; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, errScans
	}
}

// enter counts one more scan of an account.
func (b *budgets) enter(account string) (leave func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	one := b.of(account)
	if one.scans >= maxScansWaiting {
		return nil, errScans
	}
	one.scans++
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		one.scans--
	}, nil
}

// stream notes that the account has a live stream, of which it may have one on an instance.
func (b *budgets) stream(account string) (leave func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	one := b.of(account)
	if one.streaming {
		return nil, problemf(http.StatusTooManyRequests, "there is a stream open already, and one at a time is the limit: end it first")
	}
	one.streaming = true
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		one.streaming = false
	}, nil
}

// send notes that the account has a replay or a backfill under way, of which it may have one on an instance.
func (b *budgets) send(s scope) (leave func(), err error) {
	if !s.Portal {
		return func() {}, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	one := b.of(s.Account)
	if one.sending || b.sending >= maxPortals {
		return nil, problemf(http.StatusConflict, "another replay or backfill is running: wait until it ends, or cancel it")
	}
	one.sending = true
	b.sending++
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		one.sending = false
		b.sending--
	}, nil
}
