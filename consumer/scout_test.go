package consumer_test

import (
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"fanout/dispatcher"
)

// longTier is a tier whose records are not due while a test lasts.
const longTier = "fanout.retry.1h"

func newLongWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, "channel.email")
	w.cfg.Schedule = append(w.cfg.Schedule, time.Hour)
	w.dcfg.Delivery.Schedule = w.cfg.Schedule
	w.cfg.MaxAge, w.dcfg.Delivery.MaxAge = 72*time.Hour, 72*time.Hour
	for _, id := range []string{"a", "b"} {
		w.dir.set(t, "acme", id, `{"url":"`+w.recv.URL+`/`+id+`","events":["*"]}`)
	}
	return w
}

// put lets deliveries of a subscription wait in the long tier. They are numbered from n on.
func (w *world) put(subscription, reason string, n, count int, change ...kafka.Header) {
	w.t.Helper()
	ahead := strconv.FormatInt(time.Now().Add(time.Hour).UnixMilli(), 10)
	change = append([]kafka.Header{{Key: "fanout-reason", Value: []byte(reason)}, {Key: "fanout-not-before", Value: []byte(ahead)}}, change...)
	for partition := range 2 {
		var records []kafka.Record
		for k := n + partition; k < n+count; k += 2 {
			records = append(records, retryRecord(subscription, k, change...))
		}
		if len(records) > 0 {
			w.produce(longTier, partition, records...)
		}
	}
}

// once checks that no request of a path came twice, and says how many came.
func (w *world) once(path string) int {
	w.t.Helper()
	ids := make(map[string]bool)
	for _, r := range w.recv.got(path) {
		if id := r.header.Get("webhook-id"); ids[id] {
			w.t.Errorf("%s: %s came twice", path, id)
		} else {
			ids[id] = true
		}
	}
	return len(ids)
}

// What was deferred for a lane is fetched once it opens, and nothing else: no other lane's, and no delivery's own wait, but for one that a
// 503 asked for, which a release ends. Whoever has the partition next sends none of it again.
func TestWhatWaitsForAnOpenedLaneIsFetched(t *testing.T) {
	w := newLongWorld(t)
	i := w.start()
	n := 0
	for _, reason := range []string{"queue", "parked", "paused", "rate", "retry_after"} {
		w.put("a", reason, n, 12)
		n += 12
	}
	own := []string{"timeout", "status", "shutdown", "network"}
	for _, reason := range own {
		w.put("a", reason, n, 2)
		n += 2
	}
	w.put("a", "status", n, 3, kafka.Header{Key: "fanout-status", Value: []byte("503")})
	n += 3
	w.put("b", "parked", n, 10)
	n += 10
	i.c.FollowLane(dispatcher.LaneEvent{Account: "acme", Subscription: "a", Kind: dispatcher.LaneParked})
	i.c.FollowLane(dispatcher.LaneEvent{Account: "acme", Subscription: "a", Kind: dispatcher.LaneOpened})
	w.until("the deferred ones", func() bool { return w.once("/a") == 60 })
	i.d.Release("acme", "a")
	w.until("those that a 503 asked to wait", func() bool { return w.once("/a") == 63 })
	i.end()
	if got := i.sum("fanout_outcomes_total", "stage", "retry", "outcome", "delivered"); got != 63 {
		t.Errorf("%v delivered, want 63", got)
	}

	i = w.start()
	w.put("a", "parked", n, 2)
	i.d.Release("acme", "a")
	w.until("what was deferred later", func() bool { return w.once("/a") >= 65 })
	i.end()
	if got := len(w.recv.got("/a")); got != 65 {
		t.Errorf("%d requests, want 65", got)
	}
	if got := w.recv.got("/b"); len(got) != 0 {
		t.Errorf("%d requests of a lane that did not open", len(got))
	}
}

// A lane that does not take them leaves them in their tier: they are not written again.
func TestAClosedLaneFetchesNothing(t *testing.T) {
	w := newLongWorld(t)
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"],"paused":true}`)
	i := w.start()
	w.put("a", "paused", 0, 20)
	w.put("b", "parked", 20, 20)
	for _, id := range []string{"a", "b"} {
		i.d.Release("acme", id)
	}
	w.until("the other lane's", func() bool { return w.once("/b") == 20 })
	if got := i.sum("fanout_deliveries_total", "stage", "retry"); got != 20 {
		t.Errorf("%v were taken up, want 20", got)
	}
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	i.c.FollowChange("acme", "a")
	w.until("what the pause held", func() bool { return w.once("/a") == 20 })
	i.end()
}

// A lane that parks finds out by itself when its receiver is back, where nothing is due: its probe is fetched, and then the rest, never more
// at once than the lane allows.
func TestAProbeIsFetched(t *testing.T) {
	w := newLongWorld(t)
	w.cfg.ParkMax, w.dcfg.Lanes.ParkMax = time.Hour, time.Hour
	w.dcfg.Lanes.ParkAfter = 3
	down := make(chan struct{})
	w.recv.on("/a", func(rw http.ResponseWriter, _ *http.Request) {
		select {
		case <-down:
		default:
			rw.WriteHeader(http.StatusBadGateway)
		}
	})
	i := w.start()
	for k := range 40 {
		w.produce("channel.email", k%2, rawEvent("acme", k))
	}
	parked := func() bool {
		l, ok := i.d.Lane("acme", "a")
		return ok && l.State == "parked"
	}
	w.until("it is parked", parked)
	w.put("a", "parked", 100, 100)
	close(down)
	w.until("all have come", func() bool { return w.delivered("/a") >= 140 })
	i.end()
	if dead := w.records("fanout.dead-letter"); len(dead) != 0 {
		t.Errorf("%d dead letters, of %s", len(dead), header(&dead[0], "fanout-reason"))
	}
}

// delivered counts the deliveries of a path that were sent at all.
func (w *world) delivered(path string) int {
	ids := make(map[string]bool)
	for _, r := range w.recv.got(path) {
		ids[r.header.Get("webhook-id")] = true
	}
	return len(ids)
}

// What is fetched and under way when the partition is given up goes the way of everything that is: nothing is lost, and only what was in
// flight may come twice.
//
//nolint:tparallel // its subtests do, in newWorld
func TestFetchedDeliveriesSurviveAHandover(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*instance){
		"stopped": (*instance).end,
		"killed":  (*instance).kill,
	} {
		t.Run(name, func(t *testing.T) {
			w := newLongWorld(t)
			hold := make(chan struct{})
			w.recv.on("/a", func(http.ResponseWriter, *http.Request) { <-hold })
			i := w.start()
			w.put("a", "parked", 0, 100)
			i.d.Release("acme", "a")
			w.until("some are in flight", func() bool {
				i.d.Release("acme", "a") // again: one that comes while the tier is not read yet finds nothing
				return len(w.recv.got("/a")) >= 8
			})
			end(i)
			close(hold)
			i = w.start()
			i.d.Release("acme", "a")
			w.until("all have come", func() bool { return w.delivered("/a") == 100 })
			i.end()
			if got := len(w.recv.got("/a")); got > 100+64 {
				t.Errorf("%d requests for 100 deliveries", got)
			}
		})
	}
}

// Lanes by the thousand are looked for together.
func TestManyLanesAreFetchedTogether(t *testing.T) {
	w := newLongWorld(t)
	i := w.start()
	const lanes = 300
	for n := range lanes {
		id := fmt.Sprintf("s%d", n)
		w.dir.set(t, "acme", id, `{"url":"`+w.recv.URL+`/many","events":["*"]}`)
		w.put(id, "parked", n, 1)
	}
	for n := range lanes {
		i.c.FollowLane(dispatcher.LaneEvent{Account: "acme", Subscription: fmt.Sprintf("s%d", n), Kind: dispatcher.LaneOpened})
	}
	w.until("all have come", func() bool { return w.once("/many") == lanes })
	i.end()
}

// A partition that comes to this instance just after a lane opened is looked through too.
func TestALaneThatOpenedJustBeforeIsFetched(t *testing.T) {
	w := newLongWorld(t)
	w.start().end() // the topics exist
	w.put("a", "parked", 0, 10)
	i := w.startUnready()
	i.c.FollowLane(dispatcher.LaneEvent{Account: "acme", Subscription: "a", Kind: dispatcher.LaneOpened})
	w.until("all have come", func() bool { return w.once("/a") == 10 })
	i.end()
}
