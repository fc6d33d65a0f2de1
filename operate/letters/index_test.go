package letters_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"fanout/operate/letters"
	"fanout/topic"
)

// letter is what a model of the index keeps of each dead letter.
type letter struct {
	letters.Place

	account, subscription, reason string
}

// rangesFrom are logs that begin at these offsets.
func rangesFrom(starts map[int]int64) map[int]topic.Range {
	ranges := make(map[int]topic.Range)
	for id, from := range starts {
		ranges[id] = topic.Range{From: from, To: 1 << 40}
	}
	return ranges
}

// The index knows of each account how many dead letters it has, by subscription and reason, and where the newest lie, also once
// Kafka has deleted some, and once it was written and read.
func TestIndexAgreesWithTheTopic(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		x := letters.NewIndex(0)
		var all []letter
		next, starts := map[int]int64{}, map[int]int64{}
		accounts := []string{"acme", "globex", strings.Repeat("x", 256)}
		at := time.UnixMilli(1_700_000_000_000)
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0:
				for id := range next {
					starts[id] = rapid.Int64Range(starts[id], next[id]).Draw(t, "start")
				}
				x.Begins(starts)
			case 1:
				path := filepath.Join(dir, "index")
				if _, err := x.Save(path, "one"); err != nil {
					t.Fatal(err)
				}
				x = letters.NewIndex(0)
				if err := x.Load(path, "one"); err != nil {
					t.Fatal(err)
				}
			default:
				account := rapid.SampledFrom(accounts).Draw(t, "account")
				partition := rapid.IntRange(0, 2).Draw(t, "partition")
				groups, stride := rapid.IntRange(1, 40).Draw(t, "groups"), rapid.Int64Range(1, 5000).Draw(t, "stride")
				for i := range rapid.IntRange(1, 300).Draw(t, "count") {
					at = at.Add(time.Duration(rapid.IntRange(-3, 30).Draw(t, "ms")) * time.Millisecond)
					one := letter{letters.Place{Partition: partition, Offset: next[partition], At: at}, account, fmt.Sprint("hook-", i%groups), "gone"}
					next[partition] += stride
					all = append(all, one)
					x.Add(one.Partition, one.Offset, one.At, one.account, one.subscription, one.reason)
				}
			}
		}
		for _, account := range accounts {
			agrees(t, x, account, all, starts)
		}
	})
}

// agrees compares what is known of an account with all dead letters that there were.
func agrees(t *rapid.T, x *letters.Index, account string, all []letter, starts map[int]int64) {
	got, known := x.Look(account, rangesFrom(starts))
	if !known {
		t.Fatalf("%.9s is not known", account)
	}
	has := make(map[letters.Place]bool)
	first := make(map[int]int64) // of each partition's places
	for _, p := range got.Places {
		has[p] = true
		if from, ok := first[p.Partition]; !ok || p.Offset < from {
			first[p.Partition] = p.Offset
		}
	}
	if !slices.IsSortedFunc(got.Places, func(a, b letters.Place) int { return b.At.Compare(a.At) }) || len(got.Places) > letters.MaxPlaces {
		t.Fatalf("%d places, or not the newest first", len(got.Places))
	}
	count, groups := 0, make(map[string]int)
	for _, one := range all {
		if one.account != account || one.Offset < starts[one.Partition] {
			continue
		}
		count++
		groups[one.subscription]++
		from, ok := first[one.Partition]
		if ok && one.Offset >= from && !has[one.Place] {
			t.Fatalf("%v is left out among the places", one)
		}
		if !has[one.Place] && got.Whole {
			t.Fatalf("%v has no place, and all are said to have one", one)
		}
	}
	if count < len(got.Places) || got.Whole != (count == len(got.Places)) && got.Exact {
		t.Fatalf("%d dead letters, %d places, whole %t", count, len(got.Places), got.Whole)
	}
	if got.Exact && got.Count != count || got.Count < count {
		t.Fatalf("counted %d, there are %d (exact %t)", got.Count, count, got.Exact)
	}
	sum := 0
	for _, g := range got.Groups {
		sum += g.Count
		if got.Exact && g.Subscription != "" && g.Count > groups[g.Subscription] {
			t.Fatalf("group %v, there are %d", g, groups[g.Subscription])
		}
	}
	if sum != got.Count {
		t.Fatalf("groups of %d, in all %d", sum, got.Count)
	}
}

// The index takes no more memory than it is given. Who does not fit is not known, and never taken for somebody without dead letters.
func TestIndexKeepsToItsMemory(t *testing.T) {
	const bound = 2 << 20
	for name, each := range map[string]int{"many small accounts": 3, "fewer large ones": 700} {
		heap := func() int64 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return int64(m.HeapAlloc)
		}
		const all = 250_000
		counts := make(map[string]int)
		for i := range all {
			counts[fmt.Sprintf("account-%06d", i/each)] = 0
		}
		before := heap()
		x := letters.NewIndex(bound)
		at := time.UnixMilli(1_700_000_000_000)
		for i := range all {
			account := fmt.Sprintf("account-%06d", i/each)
			if each > 100 { // they grow side by side
				account = fmt.Sprintf("account-%06d", i%len(counts))
			}
			counts[account]++
			x.Add(i%12, int64(i/12), at.Add(time.Duration(i)*time.Millisecond), account, fmt.Sprintf("hook-%d", i%5), "expired")
			if _, used, _ := x.Size(); used > bound {
				t.Fatalf("%s: %d bytes", name, used)
			}
		}
		taken := heap() - before
		accounts, used, full := x.Size()
		t.Logf("%s: %d of %d accounts, %d bytes said, %d taken", name, accounts, len(counts), used, taken)
		if taken > bound*102/100 { // a little lies in the runtime's own lists
			t.Errorf("%s: %d bytes taken", name, taken)
		}
		known, sum := 0, 0
		for account, n := range counts {
			one, ok := x.Look(account, nil)
			if !ok {
				continue
			}
			known++
			sum += one.Count
			if one.Count != n {
				t.Errorf("%s has %d dead letters, %d are known", account, n, one.Count)
			}
		}
		if _, ok := x.Look("nobody", nil); ok == full || known != accounts || full != (known < len(counts)) || sum == 0 {
			t.Errorf("%s: %d known, full %t, a stranger known %t", name, known, full, ok)
		}
	}
}

// A file that is damaged, cut, about another topic or none of ours is not believed, and leaves nothing behind.
func TestIndexFileIsWholeOrNothing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "folder", "index")
	x := letters.NewIndex(0)
	for i := range int64(500) {
		x.Add(int(i%3), i/3, time.UnixMilli(1_700_000_000_000+i), []string{"acme", "globex"}[i%2], "crm", "expired")
	}
	size, err := x.Save(path, "one")
	must(t, err)
	whole, err := os.ReadFile(path)
	must(t, err)
	if int64(len(whole)) != size {
		t.Errorf("%d bytes, %d said", len(whole), size)
	}
	if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := x.Load(path, "two"); err == nil || len(x.Reached()) > 0 {
		t.Error("a file about another topic is believed")
	}
	must(t, x.Load(path, "one"))
	if one, ok := x.Look("acme", nil); !ok || one.Count != 250 || one.Whole || !maps.Equal(x.Reached(), map[int]int64{0: 167, 1: 167, 2: 166}) {
		t.Errorf("read back: %+v, %v", one, x.Reached())
	}
	for i := 0; i < len(whole); i += 1 + i/16 {
		bad := slices.Clone(whole)
		bad[i] ^= 0x10
		for what, content := range map[string][]byte{"a bit": bad, "its end": whole[:i], "more": append(slices.Clone(whole), 0)} {
			must(t, os.WriteFile(path, content, 0o600))
			if err := x.Load(path, "one"); err == nil || len(x.Reached()) > 0 {
				t.Fatalf("believed after a change of %s at %d", what, i)
			}
		}
	}
	if _, ok := x.Look("acme", nil); !ok { // it begins again, empty
		t.Error("it is full after a bad file")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The places are those of the newest, in whichever partitions and however those are read.
func TestIndexKeepsTheNewest(t *testing.T) {
	t.Parallel()
	died := func(i int) time.Time { return time.UnixMilli(1_700_000_000_000 + int64(i)) }
	for _, order := range [][]int{{0, 1}, {1, 0}} {
		x := letters.NewIndex(0)
		for _, partition := range order {
			for i := range 300 { // those of partition 1 are younger by 150
				x.Add(partition, int64(i), died(i+150*partition), "acme", "crm", "expired")
			}
		}
		one, _ := x.Look("acme", nil)
		if one.Count != 600 || len(one.Places) != letters.MaxPlaces {
			t.Fatalf("%d counted, %d places", one.Count, len(one.Places))
		}
		if first := one.Places[0]; first.Partition != 1 || first.Offset != 299 {
			t.Errorf("the newest is %v", first)
		}
		for _, p := range one.Places {
			if p.At.Before(died(449 - 175)) { // 150 of partition 1 alone, and 25 of each before
				t.Errorf("read in the order %v: it has %v", order, p)
			}
		}
	}
}
