package consumer

import (
	"slices"
	"sync/atomic"

	"fanout/topic"
	"fanout/topic/wire"
)

// tracker keeps, for one partition, which of the records that were read are settled, and so what may be committed. It does no I/O
// and knows no clock. It is not safe for concurrent use, but an entry may be settled from any goroutine.
//
// It counts the offsets that were received: gaps are normal, left by compaction and transaction markers.
type tracker struct {
	entries []*entry // in the order of their offsets; entries[head:] are kept
	head    int
	next    int64         // one past the last offset that was received or passed over
	ahead   []topic.Range // settled, and not yet received: before this tracker began, or since, having been taken ahead; in order
	taken   []*entry      // taken ahead: handed on before they are received, and not known to be settled; in order
	epochs  []epochRun    // of leaders, in the order of their records; none where the epoch is not known
}

// epochRun is a run of records that one leader wrote, up to the next run.
type epochRun struct {
	from  int64 // the first offset that was seen of it
	epoch int32
}

// entry is one record that was read: its offset, and the record for as long as it is not settled. What is settled may wait long
// behind what is not, and then costs these few bytes only.
type entry struct {
	offset int64
	record atomic.Pointer[unsettledRecord]
}

func (e *entry) settled() bool { return e.record.Load() == nil }

// newTracker begins at the offset that was committed, with what its metadata says.
func newTracker(committed int64, m *topic.Metadata) tracker {
	t := tracker{next: committed, ahead: m.Above}
	if m.Epoch != wire.NoEpoch {
		t.epochs = []epochRun{{committed - 1, m.Epoch}}
	}
	return t
}

// track adds a record that was read; offsets must rise. epoch is of the leader that wrote it.
func (t *tracker) track(e *entry, epoch int32) {
	t.entries = append(t.entries, e)
	t.next = e.offset + 1
	if n := len(t.epochs); epoch >= 0 && (n == 0 || t.epochs[n-1].epoch != epoch) {
		t.epochs = append(t.epochs, epochRun{e.offset, epoch})
	}
}

// epochBefore is the epoch of the last record before the offset; wire.NoEpoch where it is not known.
func (t *tracker) epochBefore(offset int64) int32 {
	for _, run := range slices.Backward(t.epochs) {
		if run.from < offset {
			return run.epoch
		}
	}
	return wire.NoEpoch
}

// settledBefore says whether the record at the offset, which is received now, has been settled: before this tracker began, or since it was
// taken ahead.
func (t *tracker) settledBefore(offset int64) bool {
	for len(t.ahead) > 0 && t.ahead[0].To <= offset {
		t.ahead = t.ahead[1:]
	}
	return len(t.ahead) > 0 && offset >= t.ahead[0].From
}

// pass notes that everything before the offset has been read, although no record may have been.
func (t *tracker) pass(next int64) {
	t.next = max(t.next, next)
}

// committable is the offset up to which everything is settled. It forgets what lies before it.
func (t *tracker) committable() int64 {
	t.foldTaken()
	at := t.settledUpTo()
	for len(t.epochs) > 1 && t.epochs[1].from < at {
		t.epochs = t.epochs[1:]
	}
	return at
}

func (t *tracker) settledUpTo() int64 {
	for t.head < len(t.entries) && t.entries[t.head].settled() {
		t.entries[t.head] = nil
		t.head++
	}
	if t.head == len(t.entries) {
		t.entries, t.head = t.entries[:0], 0
		return t.next
	}
	if t.head > 1024 && t.head > len(t.entries)/2 { // in place, so that the memory follows what is open
		n := copy(t.entries, t.entries[t.head:])
		clear(t.entries[n:])
		t.entries, t.head = t.entries[:n], 0
	}
	return t.entries[t.head].offset
}

// open is how many records have been read and not forgotten.
func (t *tracker) open() int { return len(t.entries) - t.head }

// first is the first record that is not settled; nil where there is none, or it was settled since committable.
func (t *tracker) first() *unsettledRecord {
	if t.open() == 0 {
		return nil
	}
	return t.entries[t.head].record.Load()
}

// unsettled is the records that are not settled, in order.
func (t *tracker) unsettled() (open []*unsettledRecord) {
	for _, entries := range [][]*entry{t.entries[t.head:], t.taken} {
		for _, e := range entries {
			if r := e.record.Load(); r != nil {
				open = append(open, r)
			}
		}
	}
	return open
}

// metadata describes what is settled above committable, which must have been called just before, after what about says of the commit. What
// is settled and has not been received stays in: whoever crashes before that is to repeat no more of it.
func (t *tracker) metadata(about *topic.Metadata) string {
	ahead := t.ahead
	for len(ahead) > 0 && ahead[0].To <= t.next {
		ahead = ahead[1:]
	}
	at := t.next
	if t.open() > 0 {
		at = t.entries[t.head].offset
	}
	w := topic.NewMetadata(at, about)
	for i := t.head; i < len(t.entries) && !w.Full(); i++ {
		w.Add(t.entries[i].offset, t.entries[i].settled())
	}
	end := t.next
	for _, r := range ahead {
		if r.From > end {
			w.Add(end, false)
		}
		w.Add(max(r.From, end), true)
		end = r.To
	}
	w.Add(end, false) // an unsettled tail need not be said
	return w.String()
}
