package consumer_test

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"fanout/dispatcher"
	"fanout/topic"
)

// Dead letters come newest first over all partitions, whatever the pieces they are read in, and without their values.
func TestNewestDeadLetters(t *testing.T) {
	w := newWorld(t, "email")
	a := w.admin()
	begun := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	records := map[int][]kafka.Record{}
	const count = 3000
	for n := range count { // partition 1 has every tenth
		partition := 0
		if n%10 == 0 {
			partition = 1
		}
		reason := dispatcher.Expired
		if n < 5 {
			reason = dispatcher.Gone
		}
		records[partition] = append(records[partition], forge(forged(n, "{}"), begun.Add(time.Duration(n)*time.Second), reason))
	}
	for partition, all := range records {
		for piece := range slices.Chunk(all, 500) {
			w.produce("fanout.dead-letter", partition, piece...)
		}
	}
	letters := a.DeadLetters()
	newest := func(filter *topic.Filter, limit int) (times []time.Time, read int64) {
		t.Helper()
		ranges, err := letters.Ranges(t.Context(), filter)
		if err != nil {
			t.Fatal(err)
		}
		var done atomic.Int64
		enough := errors.New("enough")
		err = letters.Newest(t.Context(), filter, ranges, &done, func(d *topic.DeadLetter) error {
			if d.Key != nil || d.Value != nil || d.Origin == "" || d.ID == "" {
				t.Fatalf("not what is wanted of a dead letter: %+v", d)
			}
			times = append(times, d.DeadAt)
			if len(times) == limit {
				return enough
			}
			return nil
		})
		if err != nil && !errors.Is(err, enough) {
			t.Fatal(err)
		}
		return times, done.Load()
	}
	all, _ := newest(&topic.Filter{}, 0)
	if len(all) != count || !slices.IsSortedFunc(all, func(a, b time.Time) int { return b.Compare(a) }) {
		t.Errorf("%d dead letters, want %d, the newest first: %v", len(all), count, all[:min(20, len(all))])
	}
	first, read := newest(&topic.Filter{}, 10)
	if want := begun.Add((count - 1) * time.Second); len(first) != 10 || !first[0].Equal(want) || read > 1500 {
		t.Errorf("the first 10 of %d begin with %v, want %v; %d records were read for them", len(first), first, want, read)
	}
	rare, _ := newest(&topic.Filter{Reasons: []string{"gone"}}, 0)
	if len(rare) != 5 {
		t.Errorf("%d are gone, want 5", len(rare))
	}
}
