package consumer

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"sync/atomic"
)

// ledger keeps, for one partition, which of the records that were read are settled, and so what may be committed. It
// does no I/O and knows no clock. It is not safe for concurrent use, but an entry may be settled from any goroutine.
//
// It counts the offsets that were received: gaps are normal, left by compaction and transaction markers (FACTS.md 8).
type ledger struct {
	entries []*entry // in the order of their offsets; entries[head:] are kept
	head    int
	next    int64 // one past the last offset that was received or passed over
}

// entry is one record that was read: its offset, and the record for as long as it is not settled. What is settled may
// wait long behind what is not, and then costs these few bytes only.
type entry struct {
	offset int64
	record atomic.Pointer[record]
}

func (e *entry) settled() bool { return e.record.Load() == nil }

// newLedger begins at the offset that was committed.
func newLedger(committed int64) *ledger {
	return &ledger{next: committed}
}

// track adds a record that was read; offsets must rise.
func (l *ledger) track(e *entry) {
	l.entries = append(l.entries, e)
	l.next = e.offset + 1
}

// pass notes that everything before the offset has been read, although no record may have been.
func (l *ledger) pass(next int64) {
	l.next = max(l.next, next)
}

// committable is the offset up to which everything is settled. It forgets what lies before it.
func (l *ledger) committable() int64 {
	for l.head < len(l.entries) && l.entries[l.head].settled() {
		l.entries[l.head] = nil
		l.head++
	}
	if l.head == len(l.entries) {
		l.entries, l.head = l.entries[:0], 0
		return l.next
	}
	if l.head > 1024 && l.head > len(l.entries)/2 { // in place, so that the memory follows what is open
		n := copy(l.entries, l.entries[l.head:])
		clear(l.entries[n:])
		l.entries, l.head = l.entries[:n], 0
	}
	return l.entries[l.head].offset
}

// open is how many records have been read and not forgotten.
func (l *ledger) open() int { return len(l.entries) - l.head }

// first is the first record that is not settled; nil where there is none, or it was settled since committable.
func (l *ledger) first() *record {
	if l.open() == 0 {
		return nil
	}
	return l.entries[l.head].record.Load()
}

// unsettled is the records that are not settled, in order.
func (l *ledger) unsettled() (open []*record) {
	for _, e := range l.entries[l.head:] {
		if r := e.record.Load(); r != nil {
			open = append(open, r)
		}
	}
	return open
}

// The commit's metadata says which offsets above the committed one are settled, so that one delivery that hangs does not make a
// crash repeat all that came after it. Brokers take 4096 bytes (FACTS.md 12). The form is `1:` and, in base64, a run of
// uvarints: the committed offset, then how many offsets are open, how many are settled, how many are open, … from it on.
// What does not fit counts as open. The offset is in it since a tool that moves offsets may keep the metadata, which
// would then claim records that nobody has seen.
const (
	metadataPrefix = "1:"
	metadataBytes  = 4096
)

// metadata describes what is settled above committable, which must have been called just before. ahead is what was
// settled before this ledger began and has not been read by it: who crashes before that is to repeat no more of it.
func (l *ledger) metadata(ahead []span) string {
	for len(ahead) > 0 && ahead[0].to <= l.next {
		ahead = ahead[1:]
	}
	if l.open() == 0 && len(ahead) == 0 {
		return ""
	}
	r := runs{b: make([]byte, 0, 256), at: l.next}
	if l.open() > 0 {
		r.at = l.entries[l.head].offset
	}
	r.b = binary.AppendUvarint(r.b, uint64(r.at))
	first := len(r.b)
	for i := l.head; i < len(l.entries) && !r.full; i++ {
		r.add(l.entries[i].offset, l.entries[i].settled())
	}
	end := l.next
	for _, s := range ahead {
		if s.from > end {
			r.add(end, false)
		}
		r.add(max(s.from, end), true)
		end = s.to
	}
	r.add(end, false) // an open tail need not be said
	if len(r.b) == first {
		return ""
	}
	return metadataPrefix + base64.StdEncoding.EncodeToString(r.b)
}

// runs writes a commit's metadata. A run ends where an offset of the other kind is added; offsets without a record belong
// to the run before them.
type runs struct {
	b       []byte
	at      int64 // where the run being measured begins
	settled bool
	full    bool
}

// add begins a run of that kind at the offset, unless that is the kind already.
func (r *runs) add(offset int64, settled bool) {
	const room = (metadataBytes - len(metadataPrefix)) / 4 * 3
	if r.settled == settled || r.full {
		return
	}
	if r.full = settled && len(r.b)+binary.MaxVarintLen64*2 > room; r.full { // an open run comes with the settled one behind it
		return
	}
	r.b = binary.AppendUvarint(r.b, uint64(offset-r.at))
	r.at, r.settled = offset, settled
}

// span is a run of offsets, from inclusive to exclusive.
type span struct{ from, to int64 }

// settledAbove reads a commit's metadata: the runs of offsets above the committed one that are settled, in order. Text
// that is not ours, or belongs to another offset, says nothing: that costs repeats rather than losses.
func settledAbove(committed int64, metadata string) []span {
	if len(metadata) <= len(metadataPrefix) || len(metadata) > metadataBytes || metadata[:len(metadataPrefix)] != metadataPrefix {
		return nil
	}
	b, err := base64.StdEncoding.DecodeString(metadata[len(metadataPrefix):])
	if err != nil {
		return nil
	}
	base, size := binary.Uvarint(b)
	if size <= 0 || committed < 0 || base != uint64(committed) {
		return nil
	}
	b = b[size:]
	var spans []span
	at, settled := committed, false
	for len(b) > 0 {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > 1<<40 || at > math.MaxInt64-int64(n) {
			return nil
		}
		b = b[size:]
		end := at + int64(n)
		if settled && end > at {
			spans = append(spans, span{at, end})
		}
		at, settled = end, !settled
	}
	return spans
}
