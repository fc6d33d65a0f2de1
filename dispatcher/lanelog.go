package dispatcher

import (
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// laneLogger writes one line when a lane parks and one when it opens again, a few a second at most: a thousand receivers
// behind one broken network must not drown the log.
type laneLogger struct {
	log     *zap.Logger
	second  atomic.Int64
	lines   atomic.Int64
	dropped atomic.Int64
}

const laneLinesPerSecond = 10

func (p *laneLogger) allowed(now time.Time) bool {
	if second := now.Unix(); p.second.Swap(second) != second {
		p.lines.Store(0)
		if n := p.dropped.Swap(0); n > 0 {
			p.log.Warn("more lanes parked or came back than were logged", zap.Int64("lanes", n))
		}
	}
	if p.lines.Add(1) > laneLinesPerSecond {
		p.dropped.Add(1)
		return false
	}
	return true
}

// parked logs that the lane, which is locked, sends nothing for a while.
func (p *laneLogger) parked(l *lane, now time.Time) {
	if !p.allowed(now) {
		return
	}
	p.log.Warn("lane parked", zap.String("account", l.key.account), zap.String("subscription", l.key.subscription),
		zap.Stringer("cause", l.gate.breaker.cause), zap.Int("status", l.gate.breaker.status), zap.Int("failures", l.gate.breaker.failures),
		zap.Time("failing_since", l.gate.breaker.since), zap.Duration("cooldown", l.gate.breaker.cooldown))
}

// stopped logs that the lane, which is locked, sends nothing more.
func (p *laneLogger) stopped(l *lane, now time.Time) {
	if !p.allowed(now) {
		return
	}
	p.log.Warn("lane stopped: 410 Gone; it sends nothing until the subscription's configuration changes",
		zap.String("account", l.key.account), zap.String("subscription", l.key.subscription))
}

// opened logs that the lane, which is locked, sends again. It had not since parkedAt.
func (p *laneLogger) opened(l *lane, parkedAt, now time.Time, why string) {
	if !p.allowed(now) {
		return
	}
	p.log.Info("lane open again", zap.String("account", l.key.account), zap.String("subscription", l.key.subscription),
		zap.String("why", why), zap.Duration("parked_for", now.Sub(parkedAt).Round(time.Millisecond)))
}
