package operate

import (
	"time"

	"fanout/topic"
)

// LatestWaiting is where a trace says that a delivery waits which both records are about, in this order.
func LatestWaiting(first, then *topic.Record, delay time.Duration) *Waiting {
	var tr Trace
	t := &tracer{cfg: TraceConfig{Want: func(string) *Trace { return &tr }}}
	for _, r := range []*topic.Record{first, then} {
		_ = t.waiting(r, delay, nil) // it has no error of its own
	}
	return tr.Waiting
}
