package subscriptions

import (
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	guardFrom = 10 // subscriptions known from which half of them missing is suspicious
	maxLost   = 20 // accounts that a refused loss names
)

// Shrink is a full load that was refused because it looks like a loss.
type Shrink struct {
	Known  int       // subscriptions in force
	Found  int       // subscriptions in Redis
	Lost   []string  // accounts that lack something in Redis, by name, at most twenty
	Since  time.Time // of the first refusal
	Policy string    // of what Redis evicts; empty where the loss has another reason
}

// lossGuard remembers what speaks against believing Redis (docs/contract.md#loss-guard).
type lossGuard struct {
	log *zap.Logger

	mu        sync.Mutex
	suspected int              // how often Redis may have lost something
	confirmed int              // of them, those that a full load begun later and ended well has seen
	shrink    *Shrink          // nil unless a full load is refused; what it points to is never written to
	evicted   map[string]int64 // by server, at the last load that agreed with Redis
}

// loss says whether going from known to left subscriptions wants an operator's word.
func loss(known, left int) bool {
	return known > 0 && left == 0 || known >= guardFrom && 2*left < known
}

// suspect notes that Redis may have lost something.
func (g *lossGuard) suspect() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.suspected++
}

// suspicions counts them. A full load may confirm those from before it began: it read some accounts before the
// others came up.
func (g *lossGuard) suspicions() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.suspected
}

// confirm takes suspicions back, at the end of a full load, unless that was refused.
func (g *lossGuard) confirm(suspicions int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shrink == nil {
		g.confirmed = suspicions
	}
}

// suspicious says that Redis may hold less than it should: a load was refused, or the entry that was read last is gone.
func (g *lossGuard) suspicious() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.suspected > g.confirmed
}

// refused returns the load that is refused, or nil.
func (g *lossGuard) refused() *Shrink {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.shrink
}

// evicting is the policy by which Redis has evicted keys since the last load that agreed with it; empty where it has not, or
// that is not known. Once something is kept for that reason it stays so, whatever the policy is changed to: nothing tells
// what was evicted from what was removed.
func (g *lossGuard) evicting(now *Evictions) (policy string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.shrink != nil && g.shrink.Policy != "":
		return g.shrink.Policy
	case now.grown(g.evicted):
		return now.Policy
	}
	return ""
}

// refuse notes that what is known is kept. policy is by which Redis has evicted what is missing; empty where it has not. lost
// are the accounts that lack something.
func (g *lossGuard) refuse(known, found int, policy string, lost []string) {
	slices.Sort(lost)
	next := &Shrink{Known: known, Found: found, Policy: policy, Since: time.Now()}
	next.Lost = append([]string{}, lost[:min(len(lost), maxLost)]...) // not the memory of all of them
	g.mu.Lock()
	was := g.shrink
	again := was != nil && was.Policy == policy
	if again {
		next.Since = was.Since
	}
	g.shrink = next
	g.suspected++
	g.mu.Unlock()
	switch {
	case again:
	case policy != "":
		g.log.Error("redis evicts keys: subscriptions that it lacks stay in force until they are written again, or until that is confirmed (fanout subscriptions accept)",
			zap.String("maxmemory_policy", policy), zap.Int("known", known), zap.Int("found", found))
	default:
		g.log.Error("refused a full load that looks like a loss; going on with what is known until it is confirmed (fanout subscriptions accept)",
			zap.Int("known", known), zap.Int("found", found), zap.Strings("lost", next.Lost))
	}
}

// agree notes that the table agrees with Redis, whose servers had evicted that many keys when the load began: what was evicted
// while it loaded counts for the next one.
func (g *lossGuard) agree(evicted map[string]int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shrink, g.evicted = nil, evicted
}
