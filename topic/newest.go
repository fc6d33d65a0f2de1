package topic

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"
)

// pieceOffsets is how many offsets of a partition are read at once from its end, at first; a piece in which nothing is selected is
// followed by one of twice the size, up to maxPieceOffsets.
const (
	pieceOffsets    = 500
	maxPieceOffsets = 64_000
)

// Newest calls f, from one goroutine, with each dead letter in the ranges that the filter selects, the newest first, and
// without its key, value and headers. It reads every partition from its end, piece by piece: what f does not ask for, by
// returning an error, is hardly read. That error is then returned. Within a partition the order is that of the records,
// but for pieces of 500, which are sorted by the time of death.
func (l *DeadLetters) Newest(ctx context.Context, filter *Filter, ranges map[int]Range, done *atomic.Int64, f func(*DeadLetter) error) error {
	n := newest[*DeadLetter]{newer: newer, within: newer}
	n.read = func(pieces map[int]Range, _ func(int, time.Time), take func(int, *DeadLetter)) error {
		return l.Each(ctx, filter, pieces, done, func(d *DeadLetter) error {
			slim := *d
			slim.Key, slim.Value, slim.Headers = nil, nil, nil
			take(d.Partition, &slim)
			return nil
		})
	}
	return n.each(ranges, f)
}

// Backwards is Newest in the order of the records within each partition, whatever their times of death say, so that it can go on: rest is what has
// not been handed out when it ends, also by an error or with ctx. wants judges each dead letter that the filter selects while it still has its
// value; nil: all are wanted. It is called from one goroutine a partition.
func (l *DeadLetters) Backwards(
	ctx context.Context, filter *Filter, ranges map[int]Range, done *atomic.Int64, wants func(*DeadLetter) bool, f func(*DeadLetter) error,
) (rest map[int]Range, err error) {
	n := newest[*DeadLetter]{
		newer: newer, within: func(a, b *DeadLetter) int { return cmp.Compare(b.Offset, a.Offset) }, at: func(d *DeadLetter) time.Time { return d.DeadAt },
	}
	match := filter.Matcher()
	n.read = func(pieces map[int]Range, seen func(int, time.Time), take func(int, *DeadLetter)) error {
		return l.cluster.Scan(ctx, l.name, pieces, done, func(r *Record) error {
			seen(r.ID, r.Time)
			var d DeadLetter
			if ReadDeadLetter(r, &d); match(&d) && (wants == nil || wants(&d)) {
				d.Key, d.Value, d.Headers = nil, nil, nil
				take(r.ID, &d)
			}
			return nil
		})
	}
	err = n.each(ranges, f)
	return n.rest(func(d *DeadLetter) int64 { return d.Offset }), err
}

// newer orders dead letters, the newest first.
func newer(a, b *DeadLetter) int {
	return cmp.Or(b.DeadAt.Compare(a.DeadAt), cmp.Compare(a.Partition, b.Partition), cmp.Compare(b.Offset, a.Offset))
}

// AttemptAt is an attempt and where its record lies.
type AttemptAt struct {
	Attempt

	Partition int
	Offset    int64
}

// NewestAttempts calls f, from one goroutine, with each attempt in the ranges that wanted selects by its record's key and value, before its JSON
// is parsed, the newest first. It ends where f returns an error, which is returned, or where ctx does. rest is what has not been handed out then:
// where to go on. wanted is called from one goroutine a partition.
func (c *Cluster) NewestAttempts(ctx context.Context, ranges map[int]Range, done *atomic.Int64, wanted func(key, value []byte) bool, f func(*AttemptAt) error) (rest map[int]Range, err error) {
	n := newest[*AttemptAt]{
		newer: func(a, b *AttemptAt) int {
			return cmp.Or(cmp.Compare(b.Time, a.Time), cmp.Compare(a.Partition, b.Partition))
		},
		within: func(a, b *AttemptAt) int { return cmp.Compare(b.Offset, a.Offset) },
		at:     func(a *AttemptAt) time.Time { return time.UnixMilli(a.Time) },
	}
	n.read = func(pieces map[int]Range, seen func(int, time.Time), take func(int, *AttemptAt)) error {
		return c.ScanWanted(ctx, c.cfg.Names().Attempts, pieces, done, wanted, func(r *Record) error {
			seen(r.ID, r.Time)
			if r.Value == nil {
				return nil // not wanted
			}
			if a, ok := ParseAttempt(r.Value); ok {
				take(r.ID, &AttemptAt{a, r.ID, r.Offset})
			}
			return nil
		})
	}
	err = n.each(ranges, f)
	return n.rest(func(a *AttemptAt) int64 { return a.Offset }), err
}

// NewestRecord is the newest record of a topic that keep selects, in memory of its own; nil where there is none. It reads from the end, and
// keep is called from one goroutine a partition.
func (c *Cluster) NewestRecord(ctx context.Context, name string, keep func(*Record) bool) (found *Record, err error) {
	ranges, err := c.Ranges(ctx, name, time.Time{})
	if err != nil {
		return nil, err
	}
	n := newest[*Record]{
		newer:  func(a, b *Record) int { return cmp.Or(b.Time.Compare(a.Time), cmp.Compare(a.ID, b.ID)) },
		within: func(a, b *Record) int { return cmp.Compare(b.Offset, a.Offset) },
		at:     func(r *Record) time.Time { return r.Time },
	}
	n.read = func(pieces map[int]Range, seen func(int, time.Time), take func(int, *Record)) error {
		return c.Scan(ctx, name, pieces, nil, func(r *Record) error {
			seen(r.ID, r.Time)
			if keep(r) {
				take(r.ID, new(r.Clone()))
			}
			return nil
		})
	}
	enough := errors.New("enough")
	err = n.each(ranges, func(r *Record) error {
		found = r
		return enough
	})
	if err != nil && !errors.Is(err, enough) {
		return nil, err
	}
	return found, nil
}

// newest hands out what partitions hold from their ends backwards.
type newest[T any] struct {
	// read takes everything that is selected in pieces of partitions, and says of every record, selected or not, that it was seen. Both are
	// called from one goroutine a partition.
	read   func(pieces map[int]Range, seen func(partition int, at time.Time), take func(partition int, item T)) error
	newer  func(a, b T) int  // which of two partitions' items comes first
	within func(a, b T) int  // likewise of one partition
	at     func(T) time.Time // when an item was; nil: nothing is said of what is seen

	parts []*backward[T]
}

// backward is how far a partition has been read from its end.
type backward[T any] struct {
	partition int
	left      Range     // not read yet
	size      int64     // offsets of the next piece
	items     []T       // read and not handed out, the newest first
	oldest    time.Time // of all that was seen; zero: nothing was
}

func (n *newest[T]) each(ranges map[int]Range, f func(T) error) error {
	for id, r := range ranges {
		n.parts = append(n.parts, &backward[T]{partition: id, left: r, size: pieceOffsets})
	}
	for {
		next := n.first()
		if behind := n.behind(next); len(behind) > 0 {
			if err := n.refill(behind); err != nil {
				return err
			}
			continue
		}
		if next == nil {
			return nil
		}
		if err := f(next.items[0]); err != nil {
			return err
		}
		next.items = next.items[1:]
	}
}

// rest is what has not been handed out, where the items of a partition are in the order of their offsets.
func (n *newest[T]) rest(offset func(T) int64) map[int]Range {
	rest := make(map[int]Range, len(n.parts))
	for _, p := range n.parts {
		rest[p.partition] = p.left
		if len(p.items) > 0 {
			rest[p.partition] = Range{p.left.From, offset(p.items[0]) + 1}
		}
	}
	return rest
}

// first is the partition whose item at hand is the newest; nil: none has one.
func (n *newest[T]) first() (next *backward[T]) {
	for _, b := range n.parts {
		if len(b.items) > 0 && (next == nil || n.newer(b.items[0], next.items[0]) < 0) {
			next = b
		}
	}
	return next
}

// behind are the partitions that may hold something newer than the item that is next. One that has nothing at hand, and was read to before that
// time, does not: so what lies in one partition comes at once, and the others are not read to their beginnings for it.
func (n *newest[T]) behind(next *backward[T]) (behind []*backward[T]) {
	for _, b := range n.parts {
		past := next != nil && n.at != nil && !b.oldest.IsZero() && !b.oldest.After(n.at(next.items[0]))
		if len(b.items) == 0 && b.left.From < b.left.To && !past {
			behind = append(behind, b)
		}
	}
	return behind
}

// refill reads the next piece of each of these partitions, all at once.
func (n *newest[T]) refill(behind []*backward[T]) error {
	pieces, reading := make(map[int]Range), make(map[int]*backward[T])
	for _, b := range behind {
		piece := Range{From: max(b.left.From, b.left.To-b.size), To: b.left.To}
		b.left.To, b.size = piece.From, min(2*b.size, maxPieceOffsets)
		pieces[b.partition], reading[b.partition] = piece, b
	}
	seen := func(partition int, at time.Time) {
		if b := reading[partition]; b.oldest.IsZero() || at.Before(b.oldest) {
			b.oldest = at
		}
	}
	err := n.read(pieces, seen, func(partition int, item T) {
		b := reading[partition]
		b.items = append(b.items, item)
	})
	if err != nil {
		for id, b := range reading { // a partition that was read in part is left for the next search
			b.left.To, b.items = pieces[id].To, nil
		}
		return err
	}
	for _, b := range reading {
		if len(b.items) > 0 {
			b.size = pieceOffsets
		}
		slices.SortFunc(b.items, n.within)
	}
	return nil
}
