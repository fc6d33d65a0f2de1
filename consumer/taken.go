package consumer

import (
	"cmp"
	"slices"

	"fanout/topic"
)

// A tracker also keeps what was taken ahead: records that were handed on before the reader has come to them. The commit's metadata marks
// those that are settled, so no more are taken than it can mark.

// take adds a record that is handed on before it is received. It is false where it has been received, taken or settled.
func (t *tracker) take(e *entry) bool {
	at, found := t.findTaken(e.offset)
	if found || e.offset < t.next || t.isAhead(e.offset) {
		return false
	}
	t.taken = slices.Insert(t.taken, at, e)
	return true
}

func (t *tracker) findTaken(offset int64) (at int, found bool) {
	return slices.BinarySearchFunc(t.taken, offset, func(e *entry, offset int64) int { return cmp.Compare(e.offset, offset) })
}

// isAhead says whether the record at the offset is settled, or taken, although it has not been received.
func (t *tracker) isAhead(offset int64) bool {
	if _, taken := t.findTaken(offset); taken {
		return true
	}
	at, _ := slices.BinarySearchFunc(t.ahead, offset, func(r topic.Range, offset int64) int { return cmp.Compare(r.To, offset+1) })
	return at < len(t.ahead) && t.ahead[at].From <= offset
}

// receive is the entry of the record at the offset, which is received now, where it was taken ahead and is not known to be settled; else nil.
func (t *tracker) receive(offset int64) *entry {
	at, found := t.findTaken(offset)
	if !found {
		return nil
	}
	e := t.taken[at]
	t.taken = slices.Delete(t.taken, at, at+1)
	return e
}

// foldTaken notes which of the records that were taken ahead are settled.
func (t *tracker) foldTaken() {
	t.taken = slices.DeleteFunc(t.taken, func(e *entry) bool {
		if !e.settled() {
			return false
		}
		if e.offset >= t.next {
			t.markAhead(e.offset)
		}
		return true
	})
}

// markAhead adds an offset to those that are settled ahead.
func (t *tracker) markAhead(offset int64) {
	at, _ := slices.BinarySearchFunc(t.ahead, offset, func(r topic.Range, offset int64) int { return cmp.Compare(r.From, offset) })
	left := at > 0 && t.ahead[at-1].To >= offset
	right := at < len(t.ahead) && t.ahead[at].From <= offset+1
	switch {
	case left && right:
		t.ahead[at-1].To = max(t.ahead[at-1].To, t.ahead[at].To)
		t.ahead = slices.Delete(t.ahead, at, at+1)
	case left:
		t.ahead[at-1].To = max(t.ahead[at-1].To, offset+1)
	case right:
		t.ahead[at].From = min(t.ahead[at].From, offset)
	default:
		t.ahead = slices.Insert(t.ahead, at, topic.Range{From: offset, To: offset + 1})
	}
}

// markBytes is the most that one more settled offset can cost in a commit's metadata: two numbers, and a range that it splits.
const markBytes = 8

// marks is how many more records may be taken ahead so that the commit's metadata, whose text now has size bytes, can mark them all.
func (t *tracker) marks(size int) int {
	return max(0, (topic.RoomForMarks(size)-markBytes*len(t.taken))/markBytes)
}
