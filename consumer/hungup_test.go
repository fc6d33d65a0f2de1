package consumer_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// kinds are those of the requests that go on all the time.
var kinds = []kmsg.Key{kmsg.Fetch, kmsg.Produce, kmsg.Heartbeat, kmsg.OffsetCommit}

// hangUp closes the connection of a kind of request as often as it is told to.
type hangUp struct {
	mu   sync.Mutex
	left map[int16]int
}

func (h *hangUp) times(n int, of ...kmsg.Key) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, kind := range of {
		h.left[kind.Int16()] = n
	}
}

func (h *hangUp) met(kind kmsg.Key) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.left[kind.Int16()] == 0
}

func (h *hangUp) over(cluster *kfake.Cluster) {
	for kind := range h.left {
		cluster.ControlKey(kind, func(kmsg.Request) (kmsg.Response, error, bool) {
			cluster.KeepControl()
			h.mu.Lock()
			defer h.mu.Unlock()
			if h.left[kind] == 0 {
				return nil, nil, false
			}
			h.left[kind]--
			return nil, errors.New("closed"), true
		})
	}
}

// A broker that hangs up once, as when a client must sign in again, is not at fault: nothing is said, and everything is delivered. One that
// goes on doing so is.
func TestOneHangUpIsNoFault(t *testing.T) {
	w := newWorld(t, "channel.email")
	for _, kind := range kinds {
		w.dir.set(t, kind.Name(), "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	}
	w.recv.on("/a", status(503))
	h := &hangUp{left: make(map[int16]int)}
	h.times(0, kinds...)
	h.over(w.cluster)
	i := w.start()
	for n, kind := range kinds { // one after the other: a connection has requests of several kinds, which all end with it
		w.produce("channel.email", 0, rawEvent(kind.Name(), n))
		h.times(1, kind)
		w.until(kind.Name()+" was met", func() bool { return h.met(kind) })
		time.Sleep(200 * time.Millisecond)
	}
	w.until("they are retried", func() bool { return len(w.recv.got("/a")) >= 4 })
	for _, entry := range w.logs.All() {
		t.Errorf("%s: %v", entry.Message, entry.ContextMap())
	}
	h.times(1000, kmsg.Fetch) // there are many partitions, and each is forgiven the first
	w.until("it is said", func() bool { return w.logs.FilterMessageSnippet("reading fails").Len() > 0 })
	h.times(0, kinds...)
	i.stop()
}
