package dispatcher

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"fanout/subscriptions"
)

// settlement is the outcome of a delivery that is settled without an attempt of its own. detail is for people.
func settlement(del *Delivery, reason Reason, detail string) Outcome {
	out := Outcome{Result: reason.Of(), Reason: reason, Detail: Detail(detail)}
	if out.Result == Deferred || reason == Expired {
		out.Status = del.Last.Status
	}
	return out
}

// DetailUncertain is the detail of a dead letter that may be of a delivery which has succeeded (docs/contract.md#lost-offsets).
const DetailUncertain = "the tier's offsets were lost, and it may have been delivered"

// unwantedOutcome is the outcome of a delivery that is unwanted for the reason.
func unwantedOutcome(del *Delivery, sub *subscriptions.Subscription, reason Reason, cfg *DeliveryConfig) Outcome {
	detail := ""
	switch reason { //nolint:exhaustive // the others say it all
	case InvalidSubscription:
		detail = sub.Invalid()
	case Expired:
		detail = "older than " + cfg.maxAge(del.Event).String() + " since it was first planned"
		if del.Uncertain {
			detail = DetailUncertain
		}
	}
	return settlement(del, reason, detail)
}

// settle is the outcome of a delivery that the lane has decided to settle for the reason; until is when its cause ends, if
// that is known.
func (l *lane) settle(del *Delivery, reason Reason, until, now time.Time, cfg *LanesConfig) Outcome {
	detail := ""
	switch reason { //nolint:exhaustive // the others say it all
	case BlockedDestination:
		detail = l.req.blocked
	case Gone:
		detail = "the receiver answered 410 Gone before; nothing is sent until its configuration changes"
	case Parked:
		detail = "parked: " + l.gate.breaker.why()
		if !until.After(now) { // a probe is in flight: should it fail, this is when the next one goes
			until = now.Add(max(l.gate.breaker.cooldown, cfg.ParkMin))
		}
	case QueueFull, Rate:
		if until.IsZero() {
			until = l.estimatedDrain(now, false)
		}
	}
	out := settlement(del, reason, detail)
	if reason == Gone {
		out.Status = http.StatusGone
	}
	if out.Result == Deferred {
		out.NotBefore = until
		l.owed.reason, l.owed.opened = reason, ""
	}
	return out
}

// settled is a delivery with its outcome, kept until the lane is unlocked.
type settled struct {
	del *Delivery
	out Outcome
}

// outcomes tells everybody who wants to know what became of a delivery, and then whoever submitted it. It is safe for concurrent
// use; no lane is locked.
type outcomes struct {
	recent   recents
	watchers watchers
	tests    *prometheus.CounterVec // test events, by outcome
	log      *zap.Logger
}

// settle settles a delivery.
func (o *outcomes) settle(del *Delivery, out *Outcome) {
	switch {
	case del.Stage == stageTest: // whoever asked for it is told, and nobody else
		if out.Attempted {
			o.tests.WithLabelValues(out.Result.String()).Inc()
			o.log.Info("test event sent", zap.String("account", del.Account), zap.String("subscription", del.Subscription), zap.Stringer("event", del.Event),
				zap.Stringer("outcome", out.Result), zap.Int("status", out.Status), zap.Duration("took", out.Took))
		}
	case o.watchers.list.Load() != nil:
		seen := *out // only then does it have to be on the heap
		o.watchers.tell(del, &seen)
	}
	del.Settler.Settle(del, *out)
}

// settleWithout settles a delivery without an attempt.
func (o *outcomes) settleWithout(del *Delivery, out Outcome) {
	if out.Result != Discarded && del.Stage != stageTest {
		o.recent.add(del, &out, time.Now())
	}
	o.settle(del, &out)
}

// settleAll settles what was decided without an attempt.
func (o *outcomes) settleAll(over []settled) {
	for i := range over {
		o.settleWithout(over[i].del, over[i].out)
	}
}
