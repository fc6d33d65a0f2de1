package dispatcher

import (
	"sync/atomic"
	"time"
)

// halt says whether attempts may begin: none does while a fault of our own suspends them, nor once the process stops. It is
// safe for concurrent use.
type halt struct {
	why      atomic.Pointer[string] // of the suspension, for people; nil: there is none
	resumed  atomic.Int64           // when the last one ended, in Unix nanoseconds
	stopping atomic.Bool
}

func (h *halt) suspended() bool { return h.why.Load() != nil }

// suspend begins a suspension, or ends it where why is empty.
func (h *halt) suspend(why string) {
	if why != "" {
		h.why.Store(&why)
		return
	}
	h.resumed.Store(time.Now().UnixNano()) // before a sweep may look at what waited
	h.why.Store(nil)
}

// waited is for how long something has waited since then, the time not counted for which everything was suspended.
func (h *halt) waited(since, now time.Time) time.Duration {
	return min(now.Sub(since), now.Sub(time.Unix(0, h.resumed.Load())))
}

// stopReason is why what waits is deferred when the process stops.
func (h *halt) stopReason() Reason {
	if h.suspended() {
		return Network
	}
	return Shutdown
}
