package dispatcher

import (
	"time"

	"fanout/dispatcher/post"
	"fanout/egress"
	"fanout/subscriptions"
)

// ExchangeFunc is an Exchange that has nothing to close.
type ExchangeFunc func(t *egress.Target, head, body []byte, deadline time.Time, resp *post.Response) error

// Do implements Exchange.
func (f ExchangeFunc) Do(t *egress.Target, head, body []byte, deadline time.Time, resp *post.Response) error {
	return f(t, head, body, deadline, resp)
}

// Close implements Exchange.
func (ExchangeFunc) Close() {}

// Verdict is the pure decision about what an attempt brought back.
func Verdict(cfg *DeliveryConfig, del *Delivery, err error, resp *post.Response, now time.Time) Outcome {
	return verdict(cfg, del, err, resp, now)
}

// Learned is what the lane's gate learns from an outcome.
func (o *Outcome) Learned() (cause Reason, hold time.Duration) { return o.cause, o.hold }

// UsedPermits counts the permits in use, and the lanes that wait for one.
func (d *Dispatcher) UsedPermits() (used, waiting int64) {
	return d.workers.permits.used.Load(), d.workers.permits.waiting.Load()
}

// Waiting counts what is queued, in requests, within the allowances and beyond.
func (d *Dispatcher) Waiting() (counted, beyond int64) {
	return d.backlog.counted.load().n / wholeRequest, d.backlog.beyond.load().n / wholeRequest
}

// PlannedWith makes the delivery one that Plan has matched with sub.
func PlannedWith(del *Delivery, sub *subscriptions.Subscription) { del.sub = sub }

// GrowStack is what a worker does first where the receiver speaks TLS.
func GrowStack() { growStack() }

// LaneCount counts the lanes that exist.
func (d *Dispatcher) LaneCount() int { return len(d.lanes.list()) }

// AccountCount counts the accounts that exist.
func (d *Dispatcher) AccountCount() int { return int(d.lanes.accounts.count.Load()) }

// Reasons is one past the last reason.
const Reasons = reasons

// VerdictInBatch is Verdict for a delivery that went out in a batch of n.
func VerdictInBatch(cfg *DeliveryConfig, del *Delivery, n int, err error, resp *post.Response, now time.Time) Outcome {
	return verdictInBatch(cfg, del, n, err, resp, now)
}
