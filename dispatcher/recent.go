package dispatcher

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"fanout/event"
)

// Attempt is an attempt, or a decision not to make one, as operators and customers see it. It is a copy: the reader's.
type Attempt struct {
	Time         time.Time // when it was decided
	ID           string    // webhook-id
	Account      string
	Subscription string
	Event        event.Name
	Stage        Stage
	Attempt      int // which POST of the delivery this was, from 1; 0: none was made
	Result       Result
	Reason       Reason
	Status       int
	Took         time.Duration
	Batch        string // the webhook-id of the request, where the delivery went out in a batch
	BatchSize    int    // how many deliveries that had
	Detail       string
	NotBefore    time.Time // of Retry and Deferred
	Body         []byte    // the request's, at most its first KiB
	Response     []byte    // at most its first KiB; of failures only
}

// Bounds of what Recent remembers: 2 048 subscriptions with a failure, and as many without, each with 20 attempts of a few KiB
// at most.
const (
	recentShards    = 16
	recentPerShard  = 128
	recentFailures  = 10
	recentSuccesses = 6
	recentDecisions = 4
	recentBody      = 1 << 10
)

// decisionEvery spaces what is kept of the decisions of one subscription: while it is parked there may be thousands a
// second that say the same.
const decisionEvery = time.Second

// replaceEvery spaces, in each shard, the successes for which another subscription is forgotten: where each of a million
// has one now and then, every delivery would else pay for a history that nobody will have looked at before it goes.
const replaceEvery = 50 * time.Millisecond

// recents remembers the last attempts of the subscriptions that were last busy. Those that failed make way only for others
// that fail: whoever looks for what is wrong with an endpoint finds it, however much goes well elsewhere.
type recents struct {
	shards [recentShards]recentShard
}

type recentShard struct {
	mu       sync.Mutex           // guards all below, and what histories hold
	failed   map[laneKey]*history // with a failure
	well     map[laneKey]*history // without
	replaced time.Time            // when a history last had to go for a success
}

// history has a ring for each kind, so that successes do not push out failures.
type history struct {
	key                            laneKey
	used                           time.Time // when it was last busy; of one with a failure, when it last failed
	failures, successes, decisions ring
}

type ring struct {
	list []Attempt
	next int
}

// slot is the attempt to overwrite: the oldest of size.
func (r *ring) slot(size int) *Attempt {
	if len(r.list) < size {
		r.list = append(r.list, Attempt{})
		return &r.list[len(r.list)-1]
	}
	a := &r.list[r.next]
	r.next = (r.next + 1) % size
	return a
}

// last is when the newest was added.
func (r *ring) last() (at time.Time) {
	for i := range r.list {
		if r.list[i].Time.After(at) {
			at = r.list[i].Time
		}
	}
	return at
}

func (r *recents) init() {
	for i := range r.shards {
		r.shards[i].failed, r.shards[i].well = make(map[laneKey]*history), make(map[laneKey]*history)
	}
}

// add remembers an outcome. Bodies are copied: they may be a piece of a large fetch.
func (r *recents) add(del *Delivery, out *Outcome, now time.Time) {
	s := &r.shards[shardOf(del.Account, del.Subscription)]
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.history(laneKey{del.Account, del.Subscription}, out, now)
	if h == nil {
		return
	}
	var a *Attempt
	switch {
	case out.Result == Delivered:
		a = h.successes.slot(recentSuccesses)
	case out.Attempted:
		a = h.failures.slot(recentFailures)
	case now.Sub(h.decisions.last()) < decisionEvery:
		return
	default:
		a = h.decisions.slot(recentDecisions)
	}
	body := a.Body[:0]
	*a = newAttempt(del, out, now)
	a.Account, a.Subscription = h.key.account, h.key.subscription // the delivery's are pieces of something larger
	a.Body = append(body, a.Body...)
}

// history is where the outcome is kept; nil: it is not. The shard is locked.
func (s *recentShard) history(key laneKey, out *Outcome, now time.Time) *history {
	failed := out.Attempted && out.Result != Delivered
	h := s.failed[key]
	switch {
	case h != nil && failed:
		h.used = now
		return h
	case h != nil:
		return h
	}
	if h = s.well[key]; h == nil {
		if !failed && len(s.well) >= recentPerShard && out.Result == Delivered {
			if now.Sub(s.replaced) < replaceEvery {
				return nil
			}
			s.replaced = now
		}
		h = &history{key: key.clone()}
	}
	in := s.well
	if failed {
		delete(s.well, key)
		in = s.failed
	}
	if in[h.key] == nil {
		if len(in) >= recentPerShard {
			forgetOldest(in)
		}
		in[h.key] = h
	}
	h.used = now
	return h
}

// newAttempt describes an outcome; the body is still the delivery's.
func newAttempt(del *Delivery, out *Outcome, now time.Time) Attempt {
	a := Attempt{
		Time: now, ID: del.ID, Account: del.Account, Subscription: del.Subscription, Event: del.Event, Stage: del.Stage,
		Result: out.Result, Reason: out.Reason, Status: out.Status, Took: out.Took, Detail: out.Detail,
		Batch: out.Batch, BatchSize: out.BatchSize,
		NotBefore: out.NotBefore, Body: del.Body[:min(len(del.Body), recentBody)], Response: out.Response,
	}
	if out.Attempted {
		a.Attempt = del.Attempts + 1
	}
	return a
}

// forgetOldest makes room for another subscription. Of eight that a map happens to yield first, the one that was busy
// longest ago goes: nearly the oldest, without a list to keep in order at every attempt.
func forgetOldest(histories map[laneKey]*history) {
	var oldest laneKey
	var used time.Time
	looked := 0
	for key, h := range histories {
		if looked == 0 || h.used.Before(used) {
			oldest, used = key, h.used
		}
		if looked++; looked == 8 {
			break
		}
	}
	delete(histories, oldest)
}

// of is what is remembered of a subscription, the newest first.
func (r *recents) of(account, subscription string) []Attempt {
	s := &r.shards[shardOf(account, subscription)]
	s.mu.Lock()
	defer s.mu.Unlock()
	key := laneKey{account, subscription}
	h := cmp.Or(s.failed[key], s.well[key])
	if h == nil {
		return nil
	}
	all := slices.Concat(h.failures.list, h.successes.list, h.decisions.list)
	for i := range all {
		all[i].Body = slices.Clone(all[i].Body)
	}
	slices.SortStableFunc(all, func(a, b Attempt) int { return b.Time.Compare(a.Time) })
	return all
}

// shardOf spreads subscriptions over the shards; their ids come from outside, but a lopsided spread only forgets earlier.
func shardOf(account, subscription string) int {
	h := uint32(2166136261) // FNV-1a
	for _, s := range [...]string{account, subscription} {
		for i := range len(s) {
			h = (h ^ uint32(s[i])) * 16777619
		}
	}
	return int(h % recentShards)
}
