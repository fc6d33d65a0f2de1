package letters

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"fanout/topic"
)

// account has the places of an account's newest dead letters, and counts of the others. Of each partition it has the places of all dead letters
// from the first one on that it has, so that a list can go on behind them.
type account struct {
	name   string
	groups []group // what place.group and older.group are indexes of
	places []place // by partition and offset
	older  []older // those that have no place any more, by partition, offset and group
	shift  uint8   // an older counts 2 to the power of it offsets
}

// group is a subscription and a reason.
type group struct{ subscription, reason string }

// place is 16 bytes: there are hundreds for an account.
type place struct {
	at    uint64 // of death, Unix ms, and the partition in the lowest 20 bits
	where uint64 // the offset, and the group in the lowest 8 bits
}

// Bounds of what a place can say.
const (
	partitionBits = 20
	groupBits     = 8
	maxPartition  = 1<<partitionBits - 1
	maxOffset     = 1<<(64-groupBits) - 1
	maxAt         = 1<<(64-partitionBits) - 1
)

func newPlace(partition int, offset int64, at time.Time) place {
	ms := uint64(min(max(at.UnixMilli(), 0), maxAt))
	return place{at: ms<<partitionBits | uint64(partition), where: uint64(offset) << groupBits}
}

func (p place) partition() int { return int(p.at & maxPartition) }
func (p place) offset() int64  { return int64(p.where >> groupBits) }
func (p place) group() int     { return int(p.where & (1<<groupBits - 1)) }
func (p place) ms() int64      { return int64(p.at >> partitionBits) }

func byOffset(a, b place) int {
	return cmp.Or(cmp.Compare(a.partition(), b.partition()), cmp.Compare(a.where, b.where))
}

// older counts dead letters of a group in a piece of a partition.
type older struct {
	piece uint64 // the partition in the highest 20 bits, and which piece of its offsets
	count uint32
	group uint8
}

const pieceBits = 64 - partitionBits

func (o *older) partition() int { return int(o.piece >> pieceBits) }

// end is the offset behind its piece.
func (o *older) end(shift uint8) int64 { return int64(o.piece&(1<<pieceBits-1)+1) << shift }

func compareOlder(a, b older) int {
	return cmp.Or(cmp.Compare(a.piece, b.piece), cmp.Compare(a.group, b.group))
}

// Bounds of an account.
const (
	maxGroups = 32   // the first is of what has none of its own
	maxOlder  = 512  // then pieces become twice as large
	minShift  = 12   // pieces of 4096 offsets
	maxShift  = 40   // whole partitions
	overhead  = 224  // bytes that an account takes besides what it holds: the map's, the allocator's
	maxSubs   = 64   // bytes of a subscription's id
	placeSize = 16   // bytes
	olderSize = 18   // bytes, with what the allocator rounds up
	groupSize = 32   // bytes
	growth    = 1.25 // of the lists of what is older
)

// size is how many bytes it takes.
func (a *account) size() int64 {
	n := overhead + rounded(len(a.name)) + cap(a.places)*placeSize + cap(a.older)*olderSize + cap(a.groups)*groupSize
	for i := range a.groups {
		n += rounded(len(a.groups[i].subscription))
	}
	return int64(n)
}

// rounded is what the allocator takes for so many bytes, at most.
func rounded(n int) int { return (n + 15) &^ 15 }

// add enters a dead letter, and lets go of the place of the oldest where there are too many, or no more than free bytes are left. It is false
// where it does not fit. The reason is kept as it is.
func (a *account) add(p place, subscription, reason string, free int64) bool {
	g, ok := a.groupOf(subscription, reason, free)
	if !ok {
		return false
	}
	p.where |= uint64(g)
	if len(a.places) == cap(a.places) {
		size := min(max(4, 2*cap(a.places)), MaxPlaces)
		switch more := int64(size-cap(a.places)) * placeSize; {
		case len(a.places) < MaxPlaces && more <= free:
			a.places = append(make([]place, 0, size), a.places...)
		case len(a.places) == 0 || !a.age(free):
			return false
		}
	}
	i, _ := slices.BinarySearchFunc(a.places, p, byOffset)
	a.places = slices.Insert(a.places, i, p)
	return true
}

// groupOf is the index of a group; 0 where there are too many of them.
func (a *account) groupOf(subscription, reason string, free int64) (int, bool) {
	if a.groups == nil {
		if free < 2*groupSize {
			return 0, false
		}
		a.groups = make([]group, 1, 2)
	}
	for i := 1; i < len(a.groups); i++ {
		if a.groups[i].subscription == subscription && a.groups[i].reason == reason {
			return i, true
		}
	}
	if len(a.groups) == maxGroups || len(subscription) > maxSubs || reason == "" {
		return 0, true
	}
	if len(a.groups) == cap(a.groups) {
		if int64(cap(a.groups))*groupSize > free {
			return 0, false
		}
		a.groups = append(make([]group, 0, 2*cap(a.groups)), a.groups...)
	}
	a.groups = append(a.groups, group{strings.Clone(subscription), reason})
	return len(a.groups) - 1, true
}

// age lets go of the oldest place, which is then counted only: that of the partition whose first place is the oldest of all first ones. It is false
// where that does not fit.
func (a *account) age(free int64) bool {
	oldest := 0
	for i := 1; i < len(a.places); i++ {
		if a.places[i].partition() != a.places[i-1].partition() && a.places[i].ms() < a.places[oldest].ms() {
			oldest = i
		}
	}
	p := a.places[oldest]
	a.places = slices.Delete(a.places, oldest, oldest+1)
	return a.count(p, free)
}

// count enters among the older ones what has no place any more.
func (a *account) count(p place, free int64) bool {
	a.shift = max(a.shift, minShift)
	o := older{piece: uint64(p.partition())<<pieceBits | uint64(p.offset())>>a.shift, count: 1, group: uint8(p.group())}
	i, found := slices.BinarySearchFunc(a.older, o, compareOlder)
	if found {
		a.older[i].count++
		return true
	}
	if len(a.older) == cap(a.older) {
		size := max(4, int(growth*float64(cap(a.older))))
		if int64(size-cap(a.older))*olderSize > free {
			return false
		}
		a.older = append(make([]older, 0, size), a.older...)
	}
	a.older = slices.Insert(a.older, i, o)
	for len(a.older) > maxOlder && a.shift < maxShift {
		a.coarsen()
	}
	return true
}

// coarsen makes the pieces twice as large.
func (a *account) coarsen() {
	a.shift++
	for i := range a.older {
		o := &a.older[i]
		o.piece = uint64(o.partition())<<pieceBits | (o.piece&(1<<pieceBits-1))>>1
	}
	slices.SortFunc(a.older, compareOlder)
	kept := a.older[:0]
	for _, o := range a.older {
		if n := len(kept); n > 0 && compareOlder(kept[n-1], o) == 0 {
			kept[n-1].count += o.count
			continue
		}
		kept = append(kept, o)
	}
	a.older = kept
}

// forget leaves out what lies before the beginnings of the logs, and gives back the memory for it.
func (a *account) forget(starts map[int]int64) {
	n := len(a.places)
	a.places = slices.DeleteFunc(a.places, func(p place) bool { return p.offset() < starts[p.partition()] })
	if len(a.places) < n {
		a.places = slices.Clip(slices.Clone(a.places))
	}
	n = len(a.older)
	a.older = slices.DeleteFunc(a.older, func(o older) bool { return o.end(a.shift) <= starts[o.partition()] })
	if len(a.older) < n {
		a.older = slices.Clip(slices.Clone(a.older))
	}
}

// look says what is known of it, the newest place first.
func (a *account) look(starts map[int]topic.Range) *Account {
	out := &Account{Whole: true, Exact: true}
	counts := make([]int, max(1, len(a.groups)))
	for _, p := range a.places {
		if p.offset() < starts[p.partition()].From {
			continue
		}
		counts[p.group()]++
		out.Places = append(out.Places, Place{p.partition(), p.offset(), time.UnixMilli(p.ms())})
	}
	for i := range a.older {
		o := &a.older[i]
		from := starts[o.partition()].From
		if o.end(a.shift) <= from {
			continue
		}
		counts[o.group] += int(o.count)
		out.Whole = false
		out.Exact = out.Exact && from <= o.end(a.shift)-1<<a.shift
	}
	for i, n := range counts {
		out.Count += n
		if n > 0 && i > 0 {
			out.Groups = append(out.Groups, Group{a.groups[i].subscription, a.groups[i].reason, n})
		}
	}
	slices.SortFunc(out.Groups, func(a, b Group) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Subscription, b.Subscription), cmp.Compare(a.Reason, b.Reason))
	})
	if counts[0] > 0 {
		out.Groups = append(out.Groups, Group{Count: counts[0]})
	}
	slices.SortFunc(out.Places, func(a, b Place) int {
		return cmp.Or(b.At.Compare(a.At), cmp.Compare(a.Partition, b.Partition), cmp.Compare(b.Offset, a.Offset))
	})
	return out
}
