package dispatcher

import (
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// parkLogger writes one line when a lane parks and one when it is back, a few a second at most: a thousand receivers
// behind one broken network would else bury the log.
type parkLogger struct {
	log     *zap.Logger
	second  atomic.Int64
	lines   atomic.Int64
	dropped atomic.Int64
}

const parkLinesPerSecond = 10

func (p *parkLogger) allowed(now time.Time) bool {
	if second := now.Unix(); p.second.Swap(second) != second {
		p.lines.Store(0)
		if n := p.dropped.Swap(0); n > 0 {
			p.log.Warn("more lanes parked or came back than were logged", zap.Int64("lanes", n))
		}
	}
	if p.lines.Add(1) > parkLinesPerSecond {
		p.dropped.Add(1)
		return false
	}
	return true
}

// parked logs that the lane, which is locked, sends nothing for a while.
func (p *parkLogger) parked(l *lane, now time.Time) {
	if !p.allowed(now) {
		return
	}
	p.log.Warn("lane parked", zap.String("account", l.key.account), zap.String("subscription", l.key.subscription),
		zap.Stringer("cause", l.health.cause), zap.Int("status", l.health.status), zap.Int("failures", l.health.failures),
		zap.Time("failing_since", l.health.since), zap.Duration("cooldown", l.health.cooldown))
}

// gone logs that the lane, which is locked, sends nothing more.
func (p *parkLogger) gone(l *lane, now time.Time) {
	if !p.allowed(now) {
		return
	}
	p.log.Warn("lane stopped: 410 Gone; it sends nothing until the subscription's configuration changes",
		zap.String("account", l.key.account), zap.String("subscription", l.key.subscription))
}

// unparked logs that the lane, which is locked, sends again.
func (p *parkLogger) unparked(l *lane, now time.Time, why string) {
	if !p.allowed(now) {
		return
	}
	p.log.Info("lane open again", zap.String("account", l.key.account), zap.String("subscription", l.key.subscription),
		zap.String("why", why), zap.Duration("parked_for", now.Sub(l.parkedAt).Round(time.Millisecond)))
}
