package dispatcher_test

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"fanout/dispatcher"
	"fanout/event"
)

// A lane is kept for ten seconds, and where there are many for one: each of a million subscriptions may have an event now
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
