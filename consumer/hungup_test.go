package consumer_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// hangUp closes the connection of each kind of request once, and again when it is told to.
type hangUp struct {
	mu   sync.Mutex
	left map[int16]int
	hung int
}

func (h *hangUp) times(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, kind := range []kmsg.Key{kmsg.Fetch, kmsg.Produce, kmsg.Heartbeat, kmsg.OffsetCommit} {
		h.left[kind.Int16()] = n
	}
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
			h.hung++
			return nil, errors.New("closed"), true
		})
	}
}

// A broker that hangs up once, as when a client must sign in again, is no fault: nothing is said, and everything is delivered. One that
// goes on doing so is.
func TestOneHangUpIsNoFault(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	w.recv.on("/a", status(503))
	h := &hangUp{left: make(map[int16]int)}
	h.times(0)
	h.over(w.cluster)
	i := w.start()
	w.produce("channel.email", 0, rawEvent("acme", 1), rawEvent("acme", 2))
	h.times(1)
	w.until("they are retried", func() bool { return len(w.recv.got("/a")) >= 4 })
	w.until("each kind was met", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.hung == len(h.left)
	})
	time.Sleep(200 * time.Millisecond)
	for _, entry := range w.logs.All() {
		t.Errorf("%s: %v", entry.Message, entry.ContextMap())
	}
	h.times(5)
	w.until("it is said", func() bool { return w.logs.FilterMessageSnippet("reading fails").Len() > 0 })
	h.times(0)
	i.stop()
}
