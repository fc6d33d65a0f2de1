package dispatcher

import (
	"cmp"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// laneReporter tells observers what happens to lanes, and logs when one parks, stops or opens again: a few lines a second at
// most, since a thousand receivers behind one broken network must not drown the log.
type laneReporter struct {
	observers []func(LaneEvent)
	log       *zap.Logger
	second    atomic.Int64
	lines     atomic.Int64
	dropped   atomic.Int64
}

const laneLinesPerSecond = 10

// report tells what happens to the lane, which is locked; why is in words.
func (r *laneReporter) report(l *lane, kind LaneEventKind, why string, now time.Time) {
	b := &l.gate.breaker
	switch kind { //nolint:exhaustive // the others are no news for people
	case LaneParked:
		r.write(zap.WarnLevel, "lane parked", l, now, zap.Stringer("cause", b.cause), zap.Int("status", b.status), zap.Int("failures", b.failures),
			zap.Time("failing_since", b.since), zap.Duration("cooldown", b.cooldown))
	case LaneStopped:
		r.write(zap.WarnLevel, "lane stopped: 410 Gone; it sends nothing until the subscription's configuration changes", l, now)
	case LaneUnparked:
		r.write(zap.InfoLevel, "lane open again", l, now, zap.String("why", why), zap.Duration("parked_for", now.Sub(b.parkedAt).Round(time.Millisecond)))
	}
	r.tell(LaneEvent{Account: l.key.account, Subscription: l.key.subscription, Kind: kind, Why: why, OwnWaits: kind == LaneOpened && why == whyChanged})
}

// tellOpened tells that what the lane, which is locked, has deferred is welcome again, once that is so.
func (r *laneReporter) tellOpened(l *lane, now time.Time, cfg *LanesConfig) {
	if l.queue.length > 0 || l.sub.Paused() || l.req.blocked != "" || l.gate.admit(now, l.inFlight, cfg).kind != admitStart {
		return
	}
	if b := &l.gate.breaker; b.state != breakerOpen {
		if !l.owed.probeDue.Equal(b.until) {
			l.owed.probeDue = b.until
			r.report(l, LaneProbeDue, "the cool-down is over", now)
		}
		return
	}
	r.report(l, LaneOpened, cmp.Or(l.owed.opened, "it has room again"), now)
	l.owed.reason, l.owed.opened = NoReason, ""
}

func (r *laneReporter) tell(e LaneEvent) {
	for _, observe := range r.observers {
		observe(e)
	}
}

// write logs a line about the lane, unless there have been enough in this second.
func (r *laneReporter) write(level zapcore.Level, text string, l *lane, now time.Time, fields ...zap.Field) {
	if second := now.Unix(); r.second.Swap(second) != second {
		r.lines.Store(0)
		if n := r.dropped.Swap(0); n > 0 {
			r.log.Warn("more lanes parked or came back than were logged", zap.Int64("lanes", n))
		}
	}
	if r.lines.Add(1) > laneLinesPerSecond {
		r.dropped.Add(1)
		return
	}
	r.log.Log(level, text, append([]zap.Field{zap.String("account", l.key.account), zap.String("subscription", l.key.subscription)}, fields...)...)
}
