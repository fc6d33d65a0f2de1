package letters

import (
	"maps"
	"strings"
	"sync"
	"time"

	"fanout/topic"
)

// MaxPlaces is how many dead letters of an account the index knows the places of: the newest.
const MaxPlaces = 200

// MaxMemory is what the index may take, in bytes, unless told otherwise.
const MaxMemory = 64 << 20

// Index knows where the dead letters of each account lie. It is safe for concurrent use.
type Index struct {
	memory int64

	mu       sync.RWMutex // guards all below
	accounts map[string]*account
	reasons  map[string]string // one copy of each
	used     int64             // bytes that the accounts take
	left     bool              // some accounts did not fit: who is not known may have dead letters
	reached  map[int]int64     // by partition, the offset up to which it was read
	starts   map[int]int64     // by partition, where its log began when that was looked at last
}

// NewIndex knows nothing yet, and takes no more than so many bytes; 0: MaxMemory.
func NewIndex(memory int64) *Index {
	if memory <= 0 {
		memory = MaxMemory
	}
	x := &Index{memory: memory}
	x.clear()
	return x
}

// clear forgets everything. The caller holds mu, or is alone.
func (x *Index) clear() {
	x.accounts, x.reasons, x.used, x.left = make(map[string]*account), make(map[string]string), 0, false
	x.reached, x.starts = make(map[int]int64), make(map[int]int64)
}

// take enters dead letters of one partition, in the order of their offsets, and that it was read up to next.
func (x *Index) take(partition int, all []entry, next int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := range all {
		if e := &all[i]; e.offset >= x.reached[partition] {
			x.add(partition, e)
		}
	}
	x.reached[partition] = max(x.reached[partition], next)
}

// entry is what the index is told of a dead letter.
type entry struct {
	offset                        int64
	at                            time.Time // of death
	account, subscription, reason string
}

// maxName bounds the names that are kept, in bytes: longer ones belong to no account, and are not reasons of ours.
const maxName = 256

// add enters one. The caller holds mu.
//
// Once an account did not fit, none is made any more: what it had before would be missing, and nobody could tell.
func (x *Index) add(partition int, e *entry) {
	if e.account == "" || len(e.account) > maxName {
		return // Look does not answer for such
	}
	if uint(partition) > maxPartition || uint64(e.offset) > maxOffset {
		x.left = true
		return
	}
	a := x.accounts[e.account]
	if a == nil {
		name := strings.Clone(e.account)
		made := &account{name: name}
		if x.left || x.used+made.size() > x.memory {
			x.left = true
			return
		}
		a = made
		x.accounts[name] = a
		x.used += a.size()
	}
	was := a.size()
	fits := a.add(newPlace(partition, e.offset, e.at), e.subscription, x.reason(e.reason), x.memory-x.used)
	x.used += a.size() - was
	if !fits || x.used > x.memory {
		x.drop(a)
	}
}

// maxReasons is how many reasons are kept: ours, and some that others wrote.
const maxReasons = 32

// reason is the copy of a reason that is kept; empty where there are too many. The caller holds mu.
func (x *Index) reason(text string) string {
	kept, ok := x.reasons[text]
	if !ok && len(x.reasons) < maxReasons && len(text) <= maxSubs {
		kept = strings.Clone(text)
		x.reasons[kept] = kept
	}
	return kept
}

// drop takes an account out that does not fit. The caller holds mu.
func (x *Index) drop(a *account) {
	delete(x.accounts, a.name)
	x.used -= a.size()
	x.left = true
}

// begins notes where the logs of the partitions begin, and forgets what lay before.
func (x *Index) begins(starts map[int]int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if maps.Equal(starts, x.starts) {
		return
	}
	x.starts = maps.Clone(starts)
	for name, a := range x.accounts {
		was := a.size()
		a.forget(starts)
		x.used += a.size() - was
		if len(a.places) == 0 && len(a.older) == 0 {
			delete(x.accounts, name)
			x.used -= a.size()
		}
	}
}

// Reached is, by partition, the offset up to which the dead letters are known.
func (x *Index) Reached() map[int]int64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return maps.Clone(x.reached)
}

// Size is how many accounts are known, and how many bytes they take. full: there are others that did not fit.
func (x *Index) Size() (accounts int, bytes int64, full bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.accounts), x.used, x.left
}

// unread is how many offsets of these ranges were not read yet.
func (x *Index) unread(ranges map[int]topic.Range) (n int64) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for id, r := range ranges {
		n += max(0, r.To-max(r.From, x.reached[id]))
	}
	return n
}

// Place is where a dead letter lies.
type Place struct {
	Partition int
	Offset    int64
	At        time.Time // of death
}

// Group is how many dead letters of a subscription died of a reason.
type Group struct {
	Subscription, Reason string
	Count                int
}

// Account is what is known of an account's dead letters, up to the offsets that Reached says.
type Account struct {
	Places []Place // of the newest; of each partition all from the first of them on
	Groups []Group // of all of them; one without names has what did not fit, and is the last then
	Count  int     // of all of them
	Whole  bool    // Places has them all
	Exact  bool    // the counts are: nothing of what is counted may lie before the beginning of its log

	Reached map[int]int64 // by partition, the offset up to which that is known
}

// Look says what is known of an account where the partitions' logs begin at these offsets. It is false where only the topic can tell.
func (x *Index) Look(name string, starts map[int]topic.Range) (*Account, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	a := x.accounts[name]
	if a == nil {
		return &Account{Whole: true, Exact: true, Reached: maps.Clone(x.reached)}, !x.left && name != "" && len(name) <= maxName
	}
	out := a.look(starts)
	out.Reached = maps.Clone(x.reached)
	return out, true
}
