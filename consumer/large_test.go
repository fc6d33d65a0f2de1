package consumer_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
)

// committedAt is the group's offset of a partition; -1 where there is none.
func (w *world) committedAt(topic string, partition int) int64 {
	w.t.Helper()
	res, err := w.client.OffsetFetch(w.t.Context(), &kafka.OffsetFetchRequest{GroupID: "fanout", Topics: map[string][]int{topic: {partition}}})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range res.Topics[topic] {
		return p.CommittedOffset
	}
	return -1
}

// many gives an account so many subscriptions, all at one path.
func (w *world) many(account string, n int, path string) {
	w.t.Helper()
	for i := range n {
		w.dir.set(w.t, account, fmt.Sprintf("s%d", i), fmt.Sprintf(`{"url":"%s%s","events":["*"]}`, w.recv.URL, path))
	}
}

// An event for very many subscriptions holds nobody up who comes after it in its partition, its offset is committed once all of
// its deliveries are settled, and each is delivered once.
func TestLargeEventLetsOthersThrough(t *testing.T) {
	w := newWorld(t, "channel.email")
	const many, others = 3000, 200
	var held atomic.Bool
	held.Store(true)
	w.recv.on("/many", func(rw http.ResponseWriter, r *http.Request) {
		for held.Load() && r.Context().Err() == nil {
			time.Sleep(5 * time.Millisecond)
		}
		rw.WriteHeader(http.StatusNoContent)
	})
	w.dcfg.Delivery.Timeout = 20 * time.Second
	w.many("crowd", many, "/many")
	w.dir.set(t, "acme", "main", fmt.Sprintf(`{"url":"%s/acme","events":["*"]}`, w.recv.URL))
	i := w.start()
	w.produce("channel.email", 0, rawEvent("acme", 0)) // the crowd is not alone: it may not have all permits
	w.until("the first delivery", func() bool { return len(w.recv.got("/acme")) == 1 })
	w.produce("channel.email", 0, rawEvent("crowd", 0), rawEvent("crowd", 1))
	for n := range others - 1 {
		w.produce("channel.email", 0, rawEvent("acme", n+1))
	}
	w.until("the others' deliveries", func() bool { return len(w.recv.got("/acme")) == others })
	if n := len(w.recv.got("/many")); n == 0 || n > 256 {
		t.Errorf("%d requests of the crowd at once, want some, and no more than may be in flight", n)
	}
	time.Sleep(1200 * time.Millisecond) // two commits
	if at := w.committedAt("channel.email", 0); at > 1 {
		t.Errorf("committed up to %d, past an event whose deliveries are not settled", at)
	}
	if n := i.sum("fanout_outcomes_total", "outcome", "deferred"); n > 512 {
		t.Errorf("%.0f deliveries were deferred, want those of a portion or two at most", n)
	}
	held.Store(false)
	w.until("all deliveries", func() bool { return i.sum("fanout_outcomes_total", "outcome", "delivered") == 2*many+others })
	w.until("the commit", func() bool { return w.committedAt("channel.email", 0) == others+2 })
	seen := make(map[string]int)
	for _, q := range w.recv.got("/many") {
		seen[q.header.Get("webhook-id")]++
	}
	if len(seen) != 2*many {
		t.Errorf("%d different deliveries, want %d", len(seen), 2*many)
	}
	i.end()
}

// At a stop, events that were not begun are left to the next instance, and none of their deliveries is lost or repeated; what
// was begun is brought to its end.
func TestLargeEventsAtAStop(t *testing.T) {
	w := newWorld(t, "channel.email")
	const many, events = 1000, 5
	var held atomic.Bool
	held.Store(true)
	w.recv.on("/many", func(rw http.ResponseWriter, r *http.Request) {
		for held.Load() && r.Context().Err() == nil {
			time.Sleep(5 * time.Millisecond)
		}
		rw.WriteHeader(http.StatusNoContent)
	})
	w.dcfg.Delivery.Timeout = 20 * time.Second
	w.many("crowd", many, "/many")
	w.dir.set(t, "acme", "main", fmt.Sprintf(`{"url":"%s/acme","events":["*"]}`, w.recv.URL))
	i := w.start()
	w.produce("channel.email", 0, rawEvent("acme", 0)) // the crowd is not alone: it may not have all permits
	w.until("the first delivery", func() bool { return len(w.recv.got("/acme")) == 1 })
	for n := range events {
		w.produce("channel.email", 0, rawEvent("crowd", n))
	}
	w.produce("channel.email", 0, rawEvent("acme", 1))
	w.until("the other's delivery", func() bool { return len(w.recv.got("/acme")) == 2 })
	held.Store(false)
	i.end()
	settled := len(w.recv.got("/many"))
	i = w.start()
	w.until("all deliveries", func() bool {
		return len(w.recv.got("/many")) >= events*many && w.delivered("/many") == events*many
	})
	w.until("the commit", func() bool { return w.committedAt("channel.email", 0) == events+2 })
	if n := len(w.recv.got("/many")); n > events*many+many {
		t.Errorf("%d requests for %d deliveries (%d before the stop)", n, events*many, settled)
	}
	i.end()
}
