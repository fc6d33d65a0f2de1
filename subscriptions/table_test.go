package subscriptions

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"fanout/event"
)

func newTable() *table {
	t := new(table)
	t.seed = maphash.MakeSeed()
	return t
}

func made(t testing.TB, account, id string, version int) *Subscription {
	t.Helper()
	filter := ""
	if version%3 == 0 { // some of them have the same
		filter = fmt.Sprintf(`,"notificationIds":["promo-%d","welcome-*"]`, version%5)
	}
	s, err := Parse(account, id, fmt.Appendf(nil, `{"url":"https://example.com/%s/%s/%d","events":["*"],"description":"%d"%s}`, account, id, version, version, filter))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Whatever is changed and removed in whatever order, the table holds what a map would hold, each piece of it whole.
func TestTableAgainstAMap(t *testing.T) {
	table, want := newTable(), make(map[string][]*Subscription)
	random := rand.New(rand.NewPCG(3, 4))
	check := func(account string, list []*Subscription) {
		t.Helper()
		got := table.account(account)
		if !slices.EqualFunc(got, list, func(a Subscription, b *Subscription) bool {
			return a.Same(b) && a.whole() == b.whole() && a.length == b.length && a.Account() == account && a.Description() == b.Description() &&
				slices.Equal(a.NotificationIDs(), b.NotificationIDs())
		}) {
			t.Fatalf("%s: %d subscriptions, want %v", account, len(got), list)
		}
	}
	for step := range 20_000 {
		account := fmt.Sprintf("account-%d", random.IntN(300))
		var list []*Subscription
		for i, known := 0, table.account(account); i < len(known); i++ {
			list = append(list, &known[i]) // as apply does, it goes on with what the table has
		}
		at := random.IntN(8)
		id := fmt.Sprintf("hook-%d", at)
		i, ok := slices.BinarySearchFunc(list, id, func(s *Subscription, id string) int { return strings.Compare(s.ID(), id) })
		switch {
		case ok && random.IntN(3) == 0:
			list = slices.Delete(list, i, i+1)
		case ok:
			list[i] = made(t, account, id, step)
		default:
			list = slices.Insert(list, i, made(t, account, id, step))
		}
		table.replace(account, list)
		want[account] = list
		check(account, list)
	}
	found := 0
	for account, list := range table.accounts() {
		check(account, want[account])
		found += len(list)
	}
	for account, list := range want {
		check(account, list)
		found -= len(list)
	}
	if found != 0 {
		t.Errorf("%+d in the table", found)
	}
}

// The search finds what halving finds, however the hashes lie.
func TestSearch(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for range 2000 {
		s := &shard{hashes: make([]uint32, random.IntN(200))}
		spread := random.Uint32N(32)
		for i := range s.hashes {
			s.hashes[i] = random.Uint32() >> spread
		}
		slices.Sort(s.hashes)
		for range 20 {
			hash := random.Uint32() >> spread
			if len(s.hashes) > 0 && random.IntN(2) == 0 {
				hash = s.hashes[random.IntN(len(s.hashes))]
			}
			if want, _ := slices.BinarySearch(s.hashes, hash); s.search(hash) != want {
				t.Fatalf("%d stands at %d in %v, want %d", hash, s.search(hash), s.hashes, want)
			}
		}
	}
}

// Accounts of one hash are told apart.
func TestEqualHashes(t *testing.T) {
	s := &shard{hashes: []uint32{1, 7, 7, 7, 9}}
	for _, account := range []string{"a", "c", "c", "b", "d"} {
		s.subs = append(s.subs, *made(t, account, "hook", 1))
	}
	for account, want := range map[string][2]int{"c": {1, 3}, "b": {3, 4}, "x": {4, 4}} {
		if _, from, to := s.find(account, 7); from != want[0] || to != want[1] {
			t.Errorf("%s stands at %d to %d, want %v", account, from, to, want)
		}
	}
}

// A clone is the Same, and keeps none of its shard's text.
func TestClone(t *testing.T) {
	s := &shard{}
	for i := range 60 {
		s.subs = append(s.subs, *made(t, fmt.Sprintf("account-%d", i), "hook", i))
		s.hashes = append(s.hashes, uint32(i))
	}
	s.pack()
	from, to := unsafe.StringData(s.subs[0].text), unsafe.StringData(s.subs[59].text)
	for i := range s.subs {
		sub, own := &s.subs[i], s.subs[i].Clone()
		at := uintptr(unsafe.Pointer(unsafe.StringData(own.text)))
		if !own.Same(sub) || own.text != sub.whole() || own.packed || at >= uintptr(unsafe.Pointer(from)) && at <= uintptr(unsafe.Pointer(to)) {
			t.Errorf("%s: the clone of %s", own, sub)
		}
	}
}

// What is deleted and stored again is another one, though its JSON is the same.
func TestSame(t *testing.T) {
	a, b := made(t, "acme", "a", 1), made(t, "acme", "a", 1)
	moved := *a
	moved.packed = true
	for _, c := range []struct {
		a, b *Subscription
		want bool
	}{{a, a, true}, {a, &moved, true}, {a, b, false}, {nil, nil, true}, {a, nil, false}, {nil, a, false}} {
		if c.a.Same(c.b) != c.want {
			t.Errorf("%v and %v: want %v", c.a, c.b, c.want)
		}
	}
}

// A million subscriptions are few objects to the garbage collector, and cost little more memory than their text.
func TestTableIsPacked(t *testing.T) {
	const n, perAccount = 200_000, 2
	var before, after runtime.MemStats
	table := newTable()
	runtime.GC()
	runtime.ReadMemStats(&before)
	text := 0
	for i := range n / perAccount {
		account := fmt.Sprintf("account-%06d", i)
		list := []*Subscription{made(t, account, "a", i), made(t, account, "b", i)}
		text += list[0].size() + list[1].size()
		table.replace(account, list)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	objects := float64(after.HeapObjects-before.HeapObjects) / n
	bytes := (float64(after.HeapAlloc-before.HeapAlloc) - float64(text)) / n
	t.Logf("%.2f objects and %.0f bytes beside the text for each of %d subscriptions", objects, bytes, n)
	if objects > 0.8 { // a third may have its text by itself
		t.Errorf("%.2f objects each", objects)
	}
	if bytes > 100 {
		t.Errorf("%.0f bytes each beside the text", bytes)
	}
	runtime.KeepAlive(table)
}

// Notifications that many subscriptions name are kept once in each shard; those that nobody else names cost their text.
func TestTableKeepsFiltersOnce(t *testing.T) {
	const n = 200_000
	measure := func(filter func(i int) string) float64 {
		var before, after runtime.MemStats
		table := newTable()
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range n {
			account := fmt.Sprintf("account-%06d", i)
			s, err := Parse(account, "a", fmt.Appendf(nil, `{"url":"https://example.com/hooks/%d","events":["*"]%s}`, i, filter(i)))
			if err != nil {
				t.Fatal(err)
			}
			table.replace(account, []*Subscription{s})
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		defer runtime.KeepAlive(table)
		return float64(after.HeapAlloc-before.HeapAlloc) / n
	}
	without := measure(func(int) string { return "" })
	shared := measure(func(int) string { return `,"notificationIds":["welcome-email","another-notification"]` }) - without
	own := measure(func(i int) string {
		return fmt.Sprintf(`,"notificationIds":["welcome-%06d","another-notification-%04d"]`, i, i%10_000)
	}) - without
	t.Logf("%.0f bytes each without, %.0f more with what all name, %.0f more with what one names", without, shared, own)
	if shared > 20 { // of 35 bytes of text; a third may have its own
		t.Errorf("%.0f bytes more each, want next to nothing", shared)
	}
	if own > 60 {
		t.Errorf("%.0f bytes more each, want the text's 41", own)
	}
}

// What was deleted is given back, though nothing else changes.
func TestTableShrinks(t *testing.T) {
	const n = 100_000
	var before, full, after runtime.MemStats
	table := newTable()
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range n {
		account := fmt.Sprintf("account-%06d", i)
		table.replace(account, []*Subscription{made(t, account, "a", i)})
	}
	runtime.GC()
	runtime.ReadMemStats(&full)
	for i := range n * 9 / 10 {
		table.replace(fmt.Sprintf("account-%06d", i), nil)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	left := float64(after.HeapAlloc-before.HeapAlloc) / float64(full.HeapAlloc-before.HeapAlloc)
	t.Logf("%.2f of the memory is left with a tenth of the subscriptions", left)
	if left > 0.2 { // a third of each string may be garbage, and each shard costs a little
		t.Error("too much is held")
	}
	runtime.KeepAlive(table)
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{1000, 1_000_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			table := newTable()
			for i := range n {
				account := fmt.Sprintf("account-%06d", i)
				table.replace(account, []*Subscription{made(b, account, "a", i)})
			}
			accounts := make([]string, 1000)
			for i := range accounts {
				accounts[i] = fmt.Sprintf("account-%06d", i)
			}
			dst := make([]*Subscription, 0, 8)
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				dst = table.match(dst[:0], accounts[i%1000], event.EmailOpen, "")
			}
			runtime.KeepAlive(table)
		})
	}
}

// BenchmarkCollection is a round of the garbage collector with a million subscriptions.
func BenchmarkCollection(b *testing.B) {
	table := newTable()
	for i := range 1_000_000 {
		account := fmt.Sprintf("account-%06d", i)
		table.replace(account, []*Subscription{made(b, account, "a", i)})
	}
	runtime.GC()
	for b.Loop() {
		runtime.GC()
	}
	runtime.KeepAlive(table)
}

// BenchmarkMatchFilter is the cost of a match where a thousand busy ones of a million subscriptions name two notifications, and without.
func BenchmarkMatchFilter(b *testing.B) {
	for name, filter := range map[string]string{"without": "", "with": `,"notificationIds":["welcome-email","another-notification"]`} {
		b.Run(name, func(b *testing.B) {
			table := newTable()
			accounts := make([]string, 1_000_000)
			for i := range accounts {
				accounts[i] = fmt.Sprintf("account-%06d", i)
				s, _ := Parse(accounts[i], "a", fmt.Appendf(nil, `{"url":"https://example.com/hooks/%d","events":["*"]%s}`, i, filter))
				table.replace(accounts[i], []*Subscription{s})
			}
			accounts = accounts[:1000]
			dst := make([]*Subscription, 0, 8)
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				dst = table.match(dst[:0], accounts[i%1000], event.EmailOpen, "welcome-email")
			}
			runtime.KeepAlive(table)
		})
	}
}
