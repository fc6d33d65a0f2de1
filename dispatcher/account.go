package dispatcher

import (
	"hash/maphash"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// account is what the lanes of one account share: a part of the permits, and of the room for what waits. It exists while
// it has lanes, and for a minute after, so that what it used lately is not forgotten.
type account struct {
	waiter // among the accounts that wait for a permit

	name    string
	lanes   atomic.Int64
	ended   atomic.Int64 // deliveries whose attempts ended, in parts, that paced does not have yet
	waiters waiters      // its lanes that wait for a permit; guarded by semaphore.mu
	idle    time.Time    // when it was first seen without lanes; guarded by its shard's mu

	mu        sync.Mutex // guards all below; locked after a lane's
	paced     meter      // deliveries whose attempts ended, in parts
	busy      time.Time  // since when something waits, or the last time that nothing did
	waiting   waiting    // in its lanes
	countable waiting    // of them, within the allowances of its lanes
	counted   waiting    // of these, within its own: reading waits for them
}

// pace is how many deliveries a second come to the end of an attempt, lately, in parts. a.mu is locked.
func (a *account) pace(now time.Time) float64 {
	if n := a.ended.Load(); n > 0 {
		a.paced.count(now, int(a.ended.Swap(0)))
	}
	return a.paced.now(now)
}

const (
	accountShards = 64
	// forgetAccount is how long an account without lanes is kept. Where a shard holds more than crowdedAccounts, those that
	// hardly used anything go at once: of a million accounts each may have an event now and then.
	forgetAccount   = time.Minute
	crowdedAccounts = 256
	hardlyUsed      = 1000 // thousandths of a permit
)

// accounts are those that have lanes, or had some lately.
type accounts struct {
	seed   maphash.Seed
	count  atomic.Int64
	shards [accountShards]accountShard
}

type accountShard struct {
	mu   sync.Mutex // guards all below
	all  map[string]*account
	most int // accounts held since the map was made
}

func (as *accounts) init() {
	as.seed = maphash.MakeSeed()
	for i := range as.shards {
		as.shards[i].all = make(map[string]*account)
	}
}

// join is the account of that name, with one lane more.
func (as *accounts) join(name string) *account {
	s := &as.shards[maphash.String(as.seed, name)%accountShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.all[name]
	if a == nil {
		a = &account{name: strings.Clone(name)}
		a.account = a
		s.all[a.name] = a
		s.most = max(s.most, len(s.all))
		as.count.Add(1)
	}
	a.lanes.Add(1)
	a.idle = time.Time{}
	return a
}

// find is the account of that name; nil where there is none.
func (as *accounts) find(name string) *account {
	s := &as.shards[maphash.String(as.seed, name)%accountShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[name]
}

// sweep samples the loads of a shard's accounts and forgets those without lanes. It is called once a second for each
// shard.
func (as *accounts) sweep(shard int, now time.Time) {
	s := &as.shards[shard]
	s.mu.Lock()
	defer s.mu.Unlock()
	crowded := len(s.all) > crowdedAccounts
	for name, a := range s.all {
		a.load.sample()
		a.mu.Lock()
		a.pace(now) // or what ended long ago would be taken for what ends now
		a.mu.Unlock()
		switch {
		case a.lanes.Load() > 0:
			a.idle = time.Time{}
		case a.idle.IsZero() && !crowded:
			a.idle = now
		case crowded && a.load.now() < hardlyUsed || !a.idle.IsZero() && now.Sub(a.idle) >= forgetAccount:
			delete(s.all, name)
			as.count.Add(-1)
		}
	}
	s.all, s.most = shrunk(s.all, s.most)
}

// shrunk is the map, or a smaller copy where it has room for many more entries than it has: a map keeps the memory of
// the most that it ever held.
func shrunk[K comparable, V any](m map[K]V, most int) (map[K]V, int) {
	if most <= 256 || len(m) >= most/4 {
		return m, most
	}
	smaller := make(map[K]V, len(m))
	maps.Copy(smaller, m)
	return smaller, len(smaller)
}
