package consumer_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"fanout/consumer"
	"fanout/topic"
)

// Whatever is taken ahead, received and settled in whatever order, and whenever another member takes the partition over: nothing is handed
// on twice by one member, nothing that is not settled is committed or claimed, and everything that is settled is said to be, since no more
// is taken than the commit's metadata can mark.
func TestWhatIsTakenAheadIsMarked(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &takenModel{begin: rapid.Int64Range(0, 1<<40).Draw(t, "begin"), handed: make(map[int64]bool), settled: make(map[int64]bool)}
		m.next, m.l = m.begin, consumer.NewTracker(m.begin, "")
		t.Repeat(map[string]func(*rapid.T){
			"receive": func(t *rapid.T) {
				for range rapid.IntRange(1, 20).Draw(t, "n") {
					m.l.Track(m.next)
					m.handed[m.next] = true
					m.next++
				}
			},
			"take": func(t *rapid.T) {
				for range rapid.IntRange(1, 200).Draw(t, "n") {
					m.take(t, m.next+rapid.Int64Range(-3, 3000).Draw(t, "ahead"))
				}
			},
			"settle": func(t *rapid.T) {
				for _, o := range slices.Sorted(maps.Keys(m.handed)) {
					if !m.settled[o] && rapid.IntRange(0, 2).Draw(t, "settled") > 0 {
						m.l.Settle(o)
						m.settled[o] = true
					}
				}
			},
			"hand over": func(*rapid.T) {
				committed, metadata := m.l.Commitment()
				m.l, m.next = consumer.NewTracker(committed, metadata), committed
				maps.DeleteFunc(m.handed, func(o int64, _ bool) bool { return !m.settled[o] })
			},
			"": m.check,
		})
	})
}

type takenModel struct {
	l           *consumer.Tracker
	begin, next int64
	handed      map[int64]bool // by this member, or settled before it
	settled     map[int64]bool
}

func (m *takenModel) take(t *rapid.T, offset int64) {
	if m.l.Marks() == 0 {
		return
	}
	if want := offset >= m.next && !m.handed[offset]; m.l.Take(offset) != want {
		t.Fatalf("taking %d: %v, want %v (received up to %d)", offset, !want, want, m.next)
	}
	if offset >= m.next {
		m.handed[offset] = true
	}
}

func (m *takenModel) check(t *rapid.T) {
	committed, metadata := m.l.Commitment()
	if len(metadata) > topic.MaxMetadata {
		t.Fatalf("metadata of %d bytes", len(metadata))
	}
	open := 0
	handed := slices.Sorted(maps.Keys(m.handed))
	for i, skipped := range consumer.Skipped(committed, metadata, handed...) {
		o := handed[i]
		said := o < committed || skipped
		if said && !m.settled[o] {
			t.Fatalf("commit %d claims offset %d, which is open", committed, o)
		}
		if o >= m.next && m.settled[o] && !said {
			t.Fatalf("commit %d does not say that %d, which was taken ahead, is settled", committed, o)
		}
		if !m.settled[o] {
			open++
		}
	}
	if n := m.l.Unsettled(); n != open {
		t.Fatalf("%d records are unsettled, want %d", n, open)
	}
}

// As many as the metadata can mark are taken, and more once the reader has passed some: every other record is the worst case, and a run of
// them costs no more than one.
func TestMarksAreBounded(t *testing.T) {
	for _, step := range []int64{1, 2, 300, 1 << 30} {
		l := consumer.NewTracker(1<<40, "")
		taken, offset := 0, int64(1<<40)
		for taken < 5000 && l.Marks() > 0 {
			offset += step
			if !l.Take(offset) {
				t.Fatalf("offset %d is refused", offset)
			}
			if taken++; taken%100 == 0 {
				for o := int64(1<<40) + step; o <= offset; o += step {
					l.Settle(o)
				}
			}
		}
		committed, metadata := l.Commitment()
		if step == 1 && taken < 5000 {
			t.Errorf("a run of records: %d were taken", taken)
		}
		if taken < 200 || len(metadata) > topic.MaxMetadata {
			t.Errorf("%d apart: %d were taken, metadata of %d bytes", step, taken, len(metadata))
		}
		for o := int64(1<<40) + step; o <= offset-100*step; o += step {
			if !consumer.Skipped(committed, metadata, o)[0] {
				t.Fatalf("%d apart, %d taken: %d is not marked", step, taken, o-1<<40)
			}
		}
	}
	l := consumer.NewTracker(0, "")
	for o := int64(1); l.Marks() > 0; o += 2 {
		l.Take(o)
		l.Settle(o)
	}
	for o := range int64(100) {
		l.Track(o)
		if o%2 == 0 {
			l.Settle(o)
		}
	}
	if n := l.Marks(); n < 5 {
		t.Errorf("the reader has passed 50 of them, and only %d more may be taken", n)
	}
	committed, _ := l.Commitment()
	if got := fmt.Sprint(committed, l.Open()); got != "100 0" {
		t.Errorf("committable and open: %s, want 100 0", got)
	}
}
