package subscriptions

import (
	"hash/maphash"
	"iter"
	"slices"
	"sort"
	"strings"
	"sync/atomic"

	"fanout/event"
)

// shardCount keeps a shard near 64 subscriptions at a million of them: a change copies one shard.
const shardCount = 1 << 14

// shard is an immutable piece of the table: subscriptions in the order of their account's hash, those of an account together
// and by id, with the hashes beside them. Searching the hashes touches a few cache lines, and no subscription but the one that is found.
//
// The subscriptions lie in one array, and the text of most of them in one string: to the collector that is three
// objects instead of two for each subscription, of which a million cost it half a second a round.
type shard struct {
	hashes []uint32
	subs   []Subscription
	shared int // bytes of text in the one string, counted for each subscription, what nothing refers to any more included
}

// looseOf is what part of a shard's subscriptions may have their text elsewhere, as what has changed has; so much of
// the one string may be garbage, as what was changed or deleted leaves it.
const looseOf = 3

// table maps accounts to subscriptions. Readers take no lock; writers are serialised by whoever owns the table.
type table struct {
	seed    maphash.Seed
	shards  [shardCount]atomic.Pointer[shard]
	version atomic.Uint64 // counts replacements, each once it can be seen
}

func (t *table) at(account string) (*atomic.Pointer[shard], uint32) {
	h := maphash.String(t.seed, account)
	return &t.shards[h%shardCount], uint32(h >> 32)
}

// account returns the account's subscriptions, sorted by id. The slice is the table's: read only.
func (t *table) account(account string) []Subscription {
	at, hash := t.at(account)
	subs, _, _ := at.Load().find(account, hash)
	return subs
}

// find returns the account's subscriptions and where they stand in the shard.
func (s *shard) find(account string, hash uint32) (subs []Subscription, from, to int) {
	if s == nil {
		return nil, 0, 0
	}
	from = s.search(hash)
	for from < len(s.hashes) && s.hashes[from] == hash && s.subs[from].Account() != account {
		from++
	}
	to = from
	for to < len(s.hashes) && s.hashes[to] == hash && s.subs[to].Account() == account {
		to++
	}
	return s.subs[from:to:to], from, to
}

// search returns where the hash stands, or would. Hashes are spread evenly, so it is looked for first where it would be
// if they were spread with a ruler: fewer steps to mispredict and lines to fetch than halving takes.
func (s *shard) search(hash uint32) int {
	const near = 12
	at := int(uint64(hash) * uint64(len(s.hashes)) >> 32)
	for range near {
		switch {
		case at > 0 && s.hashes[at-1] >= hash:
			at--
		case at < len(s.hashes) && s.hashes[at] < hash:
			at++
		default:
			return at
		}
	}
	at, _ = slices.BinarySearch(s.hashes, hash) // an account with many subscriptions
	return at
}

// replace publishes copies of the account's subscriptions, which must be sorted by id.
func (t *table) replace(account string, subs []*Subscription) {
	at, hash := t.at(account)
	defer t.version.Add(1)
	old := at.Load()
	_, from, to := old.find(account, hash)
	if old == nil {
		old = new(shard)
	}
	n := len(old.subs) - (to - from) + len(subs)
	if n == 0 {
		at.Store(nil)
		return
	}
	next := &shard{make([]uint32, 0, n), make([]Subscription, 0, n), old.shared}
	next.subs = append(next.subs, old.subs[:from]...)
	next.hashes = append(next.hashes, old.hashes[:from]...)
	for _, s := range subs {
		next.subs = append(next.subs, *s)
		next.hashes = append(next.hashes, hash)
	}
	next.subs = append(next.subs, old.subs[to:]...)
	next.hashes = append(next.hashes, old.hashes[to:]...)
	next.pack()
	at.Store(next)
}

// pack puts the text of all in one string, where too much of it lies elsewhere or too much of the string is garbage. Each list of
// notifications stands in it once, behind all else.
func (s *shard) pack() {
	size, loose, garbage := 0, 0, s.shared
	for i := range s.subs {
		size += s.subs[i].size()
		if s.subs[i].packed {
			garbage -= s.subs[i].size()
		} else {
			loose++
		}
	}
	if loose <= len(s.subs)/looseOf && garbage <= s.shared/looseOf {
		return
	}
	s.shared = size
	var heads, filters strings.Builder
	ends := make(map[string]int) // where each list of notifications ends in filters
	for i := range s.subs {
		heads.WriteString(s.subs[i].head())
		filter := s.subs[i].piece(pieceFilter)
		if _, known := ends[filter]; filter != "" && !known {
			filters.WriteString(filter)
			ends[filter] = filters.Len()
		}
	}
	all, from := heads.String()+filters.String(), 0
	for i := range s.subs {
		sub := &s.subs[i]
		to := from + len(sub.head())
		end := to
		if filter := sub.piece(pieceFilter); filter != "" {
			end = heads.Len() + ends[filter]
		}
		sub.text, sub.packed = all[from:end], true
		from = to
	}
}

// accounts yields every account once, with its subscriptions, in no order.
func (t *table) accounts() iter.Seq2[string, []Subscription] {
	return func(yield func(string, []Subscription) bool) {
		for i := range t.shards {
			s := t.shards[i].Load()
			if s == nil {
				continue
			}
			for from := 0; from < len(s.subs); {
				account := s.subs[from].Account()
				to := from + 1
				for to < len(s.subs) && s.subs[to].Account() == account {
					to++
				}
				if !yield(account, s.subs[from:to:to]) {
					return
				}
				from = to
			}
		}
	}
}

// all yields every subscription, account by account.
func (t *table) all() iter.Seq[*Subscription] {
	return func(yield func(*Subscription) bool) {
		for _, subs := range t.accounts() {
			for i := range subs {
				if !yield(&subs[i]) {
					return
				}
			}
		}
	}
}

func (t *table) len() (n int) {
	for i := range t.shards {
		if s := t.shards[i].Load(); s != nil {
			n += len(s.subs)
		}
	}
	return n
}

// match appends what wants the event.
func (t *table) match(dst []*Subscription, account string, name event.Name, notificationID string) []*Subscription {
	subs, wanted := t.account(account), event.Set(0).With(name)
	for i := range subs {
		if s := &subs[i]; s.Enabled() && s.events&wanted != 0 && (!s.Filters() || s.WantsNotification(notificationID)) {
			dst = append(dst, s)
		}
	}
	return dst
}

// lookup returns nil where the table has no such subscription.
func (t *table) lookup(account, id string) *Subscription {
	return byID(t.account(account), id)
}

// byID finds a subscription in a list sorted by id, or nil.
func byID(subs []Subscription, id string) *Subscription {
	i, ok := sort.Find(len(subs), func(i int) int { return strings.Compare(id, subs[i].ID()) })
	if !ok {
		return nil
	}
	return &subs[i]
}
