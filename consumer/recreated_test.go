package consumer_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// blockWrites lets no retry record be written while it is set: reading stops everywhere.
func (w *world) blockWrites() *atomic.Bool {
	var blocked atomic.Bool
	w.refuse(func(topic string, _ int32, _ int) *kerr.Error {
		if blocked.Load() && strings.HasPrefix(topic, "fanout.retry.") {
			return kerr.NotEnoughReplicas
		}
		return nil
	})
	return &blocked
}

// distinct counts the events that were received: those of a topic that was created again have the webhook-ids of the old
// one's, which are made of the offset.
func (w *world) distinct(path string) int {
	bodies := make(map[string]bool)
	for _, q := range w.recv.got(path) {
		bodies[q.body] = true
	}
	return len(bodies)
}

// A source topic that is deleted and created again while nothing is read of it is read from its start, however far the old
// one had been read, and whether or not something of that was settled meanwhile.
func TestReplacedWhileReadingWaits(t *testing.T) {
	t.Parallel()
	for name, settled := range map[string]bool{"with nothing to commit": true, "with something to commit": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "channel.email", "channel.sms")
			w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
			w.dir.set(t, "down", "d", `{"url":"`+w.recv.URL+`/down","events":["*"]}`)
			w.recv.on("/down", status(503))
			blocked := w.blockWrites()
			i := w.start()
			for k := range 3 {
				w.produce("channel.sms", 0, rawEvent("acme", k))
			}
			w.until("the old ones", func() bool {
				return len(w.recv.got("/a")) == 3 && w.uncommitted("fanout", "channel.sms") == 0
			})
			blocked.Store(true)
			if settled {
				w.produce("channel.email", 0, rawEvent("down", 4))
			} else {
				w.produce("channel.sms", 0, rawEvent("down", 4))
			}
			w.until("reading has stopped", func() bool { return i.c.Ready() != nil })
			time.Sleep(time.Second) // a fetch that was under way
			w.deleteTopic("channel.sms")
			w.createTopic("channel.sms", 2)
			for k := range 20 {
				w.produce("channel.sms", 0, rawEvent("acme", 100+k))
			}
			blocked.Store(false)
			w.until("all of the new ones", func() bool { return w.distinct("/a") == 23 })
			w.until("all committed", func() bool { return w.uncommitted("fanout", "channel.sms") == 0 })
			i.end()
			if got := len(w.recv.got("/a")); settled && got != 23 {
				t.Errorf("%d requests for 23 events: what is another topic is asked before it is read", got)
			}
			if gap := i.sum("fanout_gap_offsets_total"); gap == 0 {
				t.Error("that the topic was replaced is not counted")
			}
		})
	}
}

// While a reader waits for a due time, what it has read before is settled and committed: not to the topic that has been
// created again meanwhile.
func TestNothingIsCommittedToTheReplacement(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.cfg.Schedule = []time.Duration{3 * time.Second, time.Hour}
	w.dcfg.Delivery.Schedule = w.cfg.Schedule
	w.dcfg.Delivery.Timeout = 20 * time.Second
	w.cfg.Kafka.RetryPartitions = 1
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	var down atomic.Bool
	down.Store(true)
	hanging, release := make(chan struct{}), make(chan struct{})
	var attempts atomic.Int64
	w.recv.onBody("/a", func(rw http.ResponseWriter, _ *http.Request, body string) {
		if strings.Contains(body, `"t1"`) && attempts.Add(1) == 2 {
			close(hanging)
			<-release
			return
		}
		if down.Load() {
			rw.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	const tier = "fanout.retry.3s"
	i := w.start()
	w.produce("channel.email", 0, rawEvent("acme", 1))
	w.until("the first in its tier", func() bool { return len(w.records(tier)) == 1 })
	time.Sleep(2 * time.Second)
	w.produce("channel.email", 0, rawEvent("acme", 2))
	w.until("the second", func() bool { return len(w.records(tier)) == 2 })
	<-hanging
	time.Sleep(300 * time.Millisecond) // the second has been fetched, and waits
	w.deleteTopic(tier)
	w.createTopic(tier, 1)
	close(release)
	time.Sleep(700 * time.Millisecond) // it is committed, before the second is due
	for k := range 5 {
		w.produce("channel.email", 0, rawEvent("acme", 10+k))
	}
	w.until("they are in the new tier", func() bool { return len(w.records(tier)) == 5 })
	down.Store(false)
	w.until("all are delivered", func() bool { return i.sum("fanout_outcomes_total", "outcome", "delivered") >= 6 })
	i.end()
	if n := w.distinct("/a"); n != 7 { // the second was tried once, and was lost with the topic that it waited in
		t.Errorf("%d events were received, want 7", n)
	}
}

// With kafka.start latest a topic that is replaced is read from its start: all that it holds is newer than this process.
func TestLatestAfterRecreation(t *testing.T) {
	w := newWorld(t, "channel.email", "channel.sms")
	w.cfg.Kafka.Start = "latest"
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	var fence atomic.Bool
	w.controlCommits(func(r *kmsg.OffsetCommitRequest) *kerr.Error {
		if fence.Load() && r.Group == "fanout" {
			return kerr.IllegalGeneration
		}
		return nil
	})
	unreadable := w.blockFetches("channel.sms")
	w.produce("channel.sms", 0, rawEvent("acme", 0))
	i := w.start()
	w.produce("channel.sms", 0, rawEvent("acme", 1))
	w.until("one", func() bool { return len(w.recv.got("/a")) == 1 })
	w.until("its commit", func() bool { return w.uncommitted("fanout", "channel.sms") == 0 })
	unreadable.Store(true) // the reader does not find it out
	fence.Store(true)      // and the group has to begin again
	w.deleteTopic("channel.sms")
	w.createTopic("channel.sms", 2)
	for k := range 5 {
		w.produce("channel.sms", 0, rawEvent("acme", 10+k))
	}
	w.produce("channel.email", 0, rawEvent("acme", 20))
	w.until("a session has ended", func() bool { return i.c.Ready() != nil })
	fence.Store(false)
	w.until("the next has begun", func() bool { return i.c.Ready() == nil })
	unreadable.Store(false)
	w.until("all of the new ones", func() bool { return w.distinct("/a") == 7 })
	i.end()
}
