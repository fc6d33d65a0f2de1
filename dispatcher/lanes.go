package dispatcher

import (
	"hash/maphash"
	"sync"
	"time"
)

const (
	laneShards = 64
	// idleAfter is how long a lane without work, and with nothing to remember, is kept; crowdedAfter the same where a shard
	// holds more than crowded of them. Making it again costs a few microseconds, keeping it more than a KiB: where each of a
	// million subscriptions has an event now and then, those of ten seconds were most of the memory.
	idleAfter    = 10 * time.Second
	crowdedAfter = 500 * time.Millisecond
	crowded      = 512
)

// lanes are those that have work or something to remember.
type lanes struct {
	seed     maphash.Seed
	accounts accounts
	shards   [laneShards]laneShard
}

type laneShard struct {
	mu   sync.Mutex // guards all below; locked before a lane's
	all  map[laneKey]*lane
	most int // lanes held since the map was made
	_    [32]byte
}

func newLanes() *lanes {
	ls := &lanes{seed: maphash.MakeSeed()}
	ls.accounts.init()
	for i := range ls.shards {
		ls.shards[i].all = make(map[laneKey]*lane)
	}
	return ls
}

func (ls *lanes) shard(key laneKey) *laneShard {
	h := maphash.String(ls.seed, key.account)*31 + maphash.String(ls.seed, key.subscription)
	return &ls.shards[h%laneShards]
}

// get is the key's lane, locked. It is made where there is none.
func (ls *lanes) get(key laneKey) *lane {
	s := ls.shard(key)
	for {
		s.mu.Lock()
		l := s.all[key]
		if l == nil {
			key = key.clone()
			l = &lane{key: key, account: ls.accounts.join(key.account)}
			l.lane = l
			l.gate.rate.share = 1
			s.all[key] = l
			s.most = max(s.most, len(s.all))
		}
		s.mu.Unlock()
		l.mu.Lock()
		if !l.evicted {
			return l
		}
		l.mu.Unlock()
	}
}

// find is the key's lane, not locked; nil where there is none.
func (ls *lanes) find(key laneKey) *lane {
	s := ls.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[key]
}

// list is the lanes of all shards, not locked.
func (ls *lanes) list() (all []*lane) {
	for i := range ls.shards {
		s := &ls.shards[i]
		s.mu.Lock()
		for _, l := range s.all {
			all = append(all, l)
		}
		s.mu.Unlock()
	}
	return all
}

// each calls f with each lane, locked.
func (ls *lanes) each(f func(*lane)) {
	for _, l := range ls.list() {
		l.mu.Lock()
		f(l)
		l.mu.Unlock()
	}
}

// visit calls f with each lane of a shard, locked, and forgets those without work for which f returns true. f is told for
// how long the lane has been without work; a lane for which that is too short to be forgotten is not asked about.
func (ls *lanes) visit(shard int, now time.Time, look func(*lane), forget func(l *lane, unused time.Duration) bool) {
	s := &ls.shards[shard]
	s.mu.Lock()
	defer s.mu.Unlock()
	keep := idleAfter
	if len(s.all) > crowded {
		keep = crowdedAfter
	}
	for key, l := range s.all {
		l.mu.Lock()
		look(l)
		if unused := now.Sub(l.used); l.inFlight == 0 && l.queue.length == 0 && !l.listed && unused > keep && forget(l, unused) {
			l.evicted = true
			if l.alarm.timer != nil {
				l.alarm.timer.Stop()
			}
			delete(s.all, key)
			l.account.lanes.Add(-1)
		}
		l.mu.Unlock()
	}
	s.all, s.most = shrunk(s.all, s.most)
}
