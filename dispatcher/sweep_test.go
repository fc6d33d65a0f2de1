package dispatcher_test

import (
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fanout/dispatcher"
	"fanout/event"
	"fanout/subscriptions"
)

// A lane is kept for ten seconds, and where there are many for half a one: each of a million subscriptions may have an event now
// and then.
func TestIdleLanesAreForgotten(t *testing.T) {
	for _, test := range []struct{ lanes, kept int }{{1000, 1000}, {60_000, 0}} {
		synctest.Test(t, func(t *testing.T) {
			d, dir := plain(t, config())
			var settled counter
			for i := range test.lanes {
				sub := parse(t, strconv.Itoa(i))
				dir.mu.Lock()
				dir.subs[[2]string{"a", sub.ID()}] = sub
				dir.mu.Unlock()
				del := &dispatcher.Delivery{
					ID: "msg_a", Account: "a", Subscription: sub.ID(), Event: event.EmailOpen, FirstSeen: time.Now(), Settler: &settled,
				}
				d.Submit(del)
				if i%100 == 99 {
					synctest.Wait()
				}
			}
			if n := d.LaneCount(); n != test.lanes || settled.n.Load() != int64(n) {
				t.Fatalf("%d lanes, %d settled, want %d", n, settled.n.Load(), test.lanes)
			}
			time.Sleep(5 * time.Second)
			if n := d.LaneCount(); n != test.kept {
				t.Errorf("%d lanes 5 s after the last of %d, want %d", n, test.lanes, test.kept)
			}
			time.Sleep(7 * time.Second)
			if n := d.LaneCount(); n != 0 {
				t.Errorf("%d lanes 12 s after the last delivery", n)
			}
		})
	}
}

// What a lane and the last attempts keep of a delivery is not a piece of something larger, a fetch for instance.
func TestKeepsNothingLarge(t *testing.T) {
	const lanes, size = 60, 1 << 20
	d, dir := plain(t, config())
	var settled counter
	before := heap()
	for i := range lanes {
		large := strings.Repeat("x", size) + "account-" + strconv.Itoa(i) + "s"
		account, id := large[size:len(large)-1], large[len(large)-1:]
		sub, err := subscriptions.Parse(strings.Clone(account), "s", []byte(`{"url":"https://x.example.com/","events":["*"]}`))
		if err != nil {
			t.Fatal(err)
		}
		dir.mu.Lock()
		dir.subs[[2]string{sub.Account(), "s"}] = sub
		dir.mu.Unlock()
		d.Submit(&dispatcher.Delivery{ID: "msg_a", Account: account, Subscription: id, Event: event.EmailOpen, FirstSeen: time.Now(), Settler: &settled})
	}
	for settled.n.Load() < lanes {
		runtime.Gosched()
	}
	if n := d.LaneCount(); n != lanes || len(d.Recent("account-7", "s")) != 1 {
		t.Fatalf("%d lanes", n)
	}
	if grown := heap() - before; grown > lanes*size/4 {
		t.Errorf("%d bytes are kept of %d lanes", grown, lanes)
	}
	runtime.KeepAlive(d)
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
