package consumer_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"fanout/consumer"
	"fanout/topic"
)

// Whatever is read and settled in whatever order, nothing that is not settled is ever committed or claimed.
func TestTrackerNeverCommitsPastAnUnsettledRecord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		begin := rapid.Int64Range(0, 1<<40).Draw(t, "begin")
		l := consumer.NewTracker(begin, "")
		next := begin
		settled := make(map[int64]bool) // by offset that was received
		var received []int64
		t.Repeat(map[string]func(*rapid.T){
			"read": func(t *rapid.T) {
				next += rapid.SampledFrom([]int64{0, 0, 0, 1, 7, 1000}).Draw(t, "gap")
				l.Track(next)
				received, settled[next] = append(received, next), false
				next++
			},
			"settle": func(t *rapid.T) {
				open := slices.DeleteFunc(slices.Clone(received), func(o int64) bool { return settled[o] })
				if len(open) == 0 {
					t.Skip()
				}
				o := rapid.SampledFrom(open).Draw(t, "offset")
				l.Settle(o)
				settled[o] = true
			},
			"pass": func(t *rapid.T) {
				next += rapid.Int64Range(0, 3).Draw(t, "markers")
				l.Pass(next)
			},
			"": func(t *rapid.T) { checkCommitment(t, l, received, settled, next) },
		})
	})
}

func checkCommitment(t *rapid.T, l *consumer.Tracker, received []int64, settled map[int64]bool, next int64) {
	committed, metadata := l.Commitment()
	if len(metadata) > 4096 {
		t.Fatalf("metadata of %d bytes", len(metadata))
	}
	first := next
	for _, o := range received {
		if !settled[o] {
			first = o
			break
		}
	}
	if committed != first {
		t.Fatalf("committable %d, but the first open offset is %d", committed, first)
	}
	skipped := consumer.Skipped(committed, metadata, received...)
	for i, o := range received {
		if skipped[i] && !settled[o] {
			t.Fatalf("commit %d with %q claims offset %d, which is open", committed, metadata, o)
		}
		// These fit into the metadata, so what is settled is said to be.
		if o > committed && len(received) < 100 && settled[o] && !skipped[i] {
			t.Fatalf("commit %d with %q does not say that %d is settled", committed, metadata, o)
		}
	}
	for _, s := range topic.ReadMetadata(committed, metadata).Above {
		if s.To > next {
			t.Fatalf("commit claims up to %d; only %d has been read", s.To, next)
		}
	}
}

// Every other record open is the worst case: what does not fit must count as open.
func TestTrackerMetadataIsBounded(t *testing.T) {
	for _, n := range []int64{10, 1000, 3000, 10_000} {
		for _, gap := range []int64{1, 200, 1 << 20} {
			l := consumer.NewTracker(1<<40, "")
			for i := range n {
				l.Track(1<<40 + i*gap)
			}
			for i := int64(1); i < n; i += 2 {
				l.Settle(1<<40 + i*gap)
			}
			committed, metadata := l.Commitment()
			if committed != 1<<40 || len(metadata) > 4096 {
				t.Fatalf("%d records %d apart: commit %d with %d bytes", n, gap, committed, len(metadata))
			}
			spans := topic.ReadMetadata(committed, metadata).Above
			if want := min(int(n/2), 500); len(spans) < want {
				t.Errorf("%d records %d apart: %d spans, want at least %d", n, gap, len(spans), want)
			}
			for _, o := range []int64{0, 2, n - 2} {
				if consumer.Skipped(committed, metadata, 1<<40+o*gap)[0] {
					t.Errorf("%d records %d apart: record %d counts as settled", n, gap, o)
				}
			}
		}
	}
}

// A member that takes a partition over says what was settled above its offset until it has read that itself: another
// crash before that repeats no more than the first.
func TestTrackerKeepsWhatIsAhead(t *testing.T) {
	l := consumer.NewTracker(10, "")
	for o := int64(10); o < 60; o++ {
		l.Track(o)
		if o != 10 && o != 30 && o != 31 && o < 50 {
			l.Settle(o)
		}
	}
	committed, metadata := l.Commitment()
	ahead := fmt.Sprint(topic.ReadMetadata(committed, metadata).Above)
	if committed != 10 || ahead != "[{11 30} {32 50}]" {
		t.Fatalf("settled above %d: %s", committed, ahead)
	}
	l = consumer.NewTracker(committed, metadata)
	if at, again := l.Commitment(); at != committed || again != metadata {
		t.Errorf("before anything is read: commit %d %v, want that of before", at, topic.ReadMetadata(at, again).Above)
	}
	for o, want := range map[int64]string{
		10: "[{11 30} {32 50}]", // the first is read, and hangs
		20: "[{11 30} {32 50}]", // in the middle of a run
		30: "[{11 30} {32 50}]",
		50: "[{11 30} {32 50}]",
		55: "[{11 30} {32 50}]",
	} {
		l := consumer.NewTracker(committed, metadata)
		for at := int64(10); at <= o; at++ {
			l.Track(at)
			if consumer.Skipped(committed, metadata, at)[0] {
				l.Settle(at)
			}
		}
		at, said := l.Commitment()
		if got := fmt.Sprint(topic.ReadMetadata(at, said).Above); at != committed || got != want {
			t.Errorf("read up to %d: commit %d %s, want %s", o, at, got, want)
		}
		if o < 20 {
			continue
		}
		l.Settle(10)
		at, said = l.Commitment()
		want := map[int64]int64{20: 21, 30: 30, 50: 30, 55: 30}[o]
		if at != want {
			t.Errorf("read up to %d, the first settled: commit %d, want %d", o, at, want)
		}
		for _, settled := range []int64{21, 29, 32, 49} {
			if settled > at && !consumer.Skipped(at, said, settled)[0] {
				t.Errorf("read up to %d, the first settled: commit %d %v does not say that %d is settled", o, at, topic.ReadMetadata(at, said).Above, settled)
			}
		}
		for _, open := range []int64{30, 31, 50, 59} {
			if consumer.Skipped(at, said, open)[0] {
				t.Errorf("read up to %d, the first settled: commit %d %v claims %d", o, at, topic.ReadMetadata(at, said).Above, open)
			}
		}
	}
}

func TestTrackerForgetsWhatIsSettled(t *testing.T) {
	l := consumer.NewTracker(0, "")
	for i := range int64(10_000) {
		l.Track(i)
		if i >= 10 {
			l.Settle(i - 10)
		}
		l.Commitment()
		if l.Open() > 10 {
			t.Fatalf("%d entries are kept", l.Open())
		}
	}
}

// A tool that moves a group's offsets may keep their metadata, which says nothing about the new offsets then.
func TestMetadataOfAnotherOffsetSaysNothing(t *testing.T) {
	l := consumer.NewTracker(100, "")
	for o := int64(100); o < 110; o++ {
		l.Track(o)
	}
	for o := int64(102); o < 108; o++ {
		l.Settle(o)
	}
	committed, metadata := l.Commitment()
	if got := fmt.Sprint(topic.ReadMetadata(committed, metadata).Above); got != "[{102 108}]" {
		t.Fatalf("settled above %d: %s", committed, got)
	}
	for _, moved := range []int64{0, 50, 99, 101, -1} {
		if got := topic.ReadMetadata(moved, metadata).Above; got != nil {
			t.Errorf("offset %d with the metadata of %d skips %v", moved, committed, got)
		}
	}
}

func FuzzReadMetadata(f *testing.F) {
	l := consumer.NewTracker(7, "")
	for o := range int64(20) {
		l.Track(7 + o)
		if o%3 > 0 {
			l.Settle(7 + o)
		}
	}
	_, good := l.Commitment()
	for _, s := range []string{good, "", "1:", "1:AA==", "1:Bw==", "1:////////////", "2:Bw==", strings.Repeat("1", 5000)} {
		f.Add(int64(7), s)
	}
	f.Fuzz(func(t *testing.T, committed int64, metadata string) {
		at := committed
		for _, s := range topic.ReadMetadata(committed, metadata).Above {
			if s.From < at || s.To <= s.From {
				t.Fatalf("span %v after %d", s, at)
			}
			at = s.To
		}
	})
}
