package dispatcher

import (
	"time"

	"fanout/dispatcher/egress"
	"fanout/dispatcher/post"
	"fanout/subscriptions"
)

// WithExchange replaces the HTTP client by a receiver in memory.
func WithExchange(do func(t *egress.Target, head, body []byte, deadline time.Time, resp *post.Response) error) Option {
	return func(d *Dispatcher) { d.post = do }
}

// Verdict is the pure decision about what an attempt brought back.
func Verdict(cfg *DeliveryConfig, del *Delivery, err error, resp *post.Response, now time.Time) Outcome {
	d := Dispatcher{cfg: Config{Delivery: *cfg}}
	return d.verdict(del, err, resp, now)
}

// Learned is what the lane's health learns from an outcome.
func (o *Outcome) Learned() (cause Reason, retryAfter time.Duration) { return o.cause, o.retryAfter }

// UsedSlots counts the places taken.
func (d *Dispatcher) UsedSlots() (used, unproven, waiting int64) {
	return d.slots.used.Load(), d.slots.unproven.Load(), d.slots.waiting.Load()
}

// Waiting are the counts of what is queued, in lanes that are not slow and in those that are.
func (d *Dispatcher) Waiting() (waiting, slow int64) { return d.waiting.Load(), d.slowQueued.Load() }

// PlannedWith makes the delivery one that Plan has matched with sub.
func PlannedWith(del *Delivery, sub *subscriptions.Subscription) { del.sub = sub }

// Deepen is what a worker does first where the receiver speaks TLS.
func Deepen() { deepen() }

// LaneCount counts the lanes that stand.
func (d *Dispatcher) LaneCount() (n int) {
	d.eachLane(func(*lane) { n++ })
	return n
}
