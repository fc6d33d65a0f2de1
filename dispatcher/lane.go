package dispatcher

import (
	"math"
	"sync"
	"time"

	"fanout/subscriptions"
)

// maxLaneBytes bounds the bodies that wait in one lane.
const maxLaneBytes = 4 << 20

type laneKey struct{ account, subscription string }

// clone is the key in a string of its own: a delivery's are pieces of something larger.
func (k laneKey) clone() laneKey {
	both := k.account + k.subscription
	return laneKey{both[:len(k.account)], both[len(k.account):]}
}

// lane is everything that one subscription's deliveries share: in-flight limit, queue, health. It exists while there
// is work or something to remember, and is forgotten after.
type lane struct {
	key    laneKey
	inLine place // waits for a place; guarded by slots.mu

	mu         sync.Mutex // guards all below
	sub        *subscriptions.Subscription
	req        *request // built from sub; what a POST looks like
	version    uint64   // of the directory, when sub was last looked up for what waits
	health     health
	head, tail *Delivery // first in, first out
	queued     int
	bytes      int
	inFlight   int
	slow       bool // its queue does not count towards the dispatcher's waiting
	listed     bool // the sweeper knows of its queue
	evicted    bool // the dispatcher has forgotten it: look it up again
	timer      *time.Timer
	wakeAt     time.Time // what the timer is set to; zero: not set

	tokens     float64 // maxPerSecond
	tokensAt   time.Time
	share      float64   // of maxPerSecond, this instance's
	sharedAt   time.Time // when it was asked for
	horizon    time.Time // when the last delivery deferred for lack of room could be served
	pace       meter     // attempts that ended
	arrivals   meter     // deliveries submitted, where there is a maxPerSecond
	latency    float64   // of an attempt, in seconds, smoothed
	sampled    time.Time // when the last success was kept for Recent
	submitted  uint64    // deliveries, and of all lanes when this one's count was last compared
	comparedTo uint64
	used       time.Time
	parkedAt   time.Time
}

func (l *lane) maximum(cfg *LanesConfig) int {
	if l.sub != nil && l.sub.MaxInFlight() > 0 {
		return min(cfg.MaxInFlight, l.sub.MaxInFlight())
	}
	return cfg.MaxInFlight
}

// rateNext is when maxPerSecond allows the next attempt; not after now: at once.
func (l *lane) rateNext(now time.Time) time.Time {
	if l.sub == nil || l.sub.MaxPerSecond() <= 0 {
		return time.Time{}
	}
	rate := l.rate()
	if l.tokensAt.IsZero() {
		l.tokens, l.tokensAt = 1, now
	}
	if now.After(l.tokensAt) {
		// Room for 50 ms of credit keeps the pace through coarse timers without letting a burst through.
		l.tokens = min(l.tokens+rate*now.Sub(l.tokensAt).Seconds(), 1+rate/20)
		l.tokensAt = now
	}
	if l.tokens >= 1 {
		return time.Time{}
	}
	return now.Add(time.Duration((1 - l.tokens) / rate * float64(time.Second)))
}

// rate is this instance's share of maxPerSecond, which is 0.001 at least.
func (l *lane) rate() float64 {
	return max(float64(l.sub.MaxPerSecond())*l.share, 0.0001)
}

// idle is health.idle; and a fresh lane would be allowed an attempt at once, which maxPerSecond may forbid this one.
func (l *lane) idle(now time.Time, unused time.Duration, cfg *LanesConfig) bool {
	return l.health.idle(now, unused, cfg) && l.rateNext(now).IsZero()
}

// admit decides whether the next delivery may be attempted now. See health.admit.
func (l *lane) admit(now time.Time) (verdict, time.Time, Reason) {
	if l.sub != nil && l.sub.Paused() {
		return verdictDefer, time.Time{}, Paused
	}
	v, at, reason := l.health.admit(now, l.inFlight)
	if v != verdictGo {
		return v, at, reason
	}
	if at := l.rateNext(now); at.After(now) {
		return verdictWait, at, Rate
	}
	return verdictGo, time.Time{}, NoReason
}

// begin takes what admit has allowed.
func (l *lane) begin(now time.Time) {
	l.health.begin(now, l.inFlight)
	l.inFlight++
	if l.sub.MaxPerSecond() > 0 {
		l.tokens--
	}
}

func (l *lane) push(d *Delivery, now time.Time) {
	d.queued, d.next = now, nil
	if l.tail == nil {
		l.head = d
	} else {
		l.tail.next = d
	}
	l.tail = d
	l.queued++
	l.bytes += len(d.Body)
}

func (l *lane) pop() *Delivery {
	d := l.head
	l.head = d.next
	if l.head == nil {
		l.tail = nil
	}
	d.next = nil
	l.queued--
	l.bytes -= len(d.Body)
	return d
}

// unproven is health.unproven.
func (l *lane) unproven(now time.Time) bool { return l.health.unproven(now, l.inFlight) }

// meter is a pace, a second, smoothed over two seconds.
type meter struct {
	value float64
	at    time.Time
}

const smoothing = 2.0 // seconds

func (m *meter) now(now time.Time) float64 {
	gap := now.Sub(m.at).Seconds()
	if gap <= 0 {
		return m.value
	}
	return m.value * math.Exp(-gap/smoothing)
}

func (m *meter) count(now time.Time) {
	m.value = m.now(now) + 1/smoothing
	if now.After(m.at) {
		m.at = now
	}
}

// ended notes the end of an attempt, for the estimate of how long what waits will wait.
func (l *lane) ended(now time.Time, took time.Duration) {
	l.pace.count(now)
	const weight = 0.125
	l.latency += weight * (took.Seconds() - l.latency)
}

// sample says whether a success is kept for Recent: not more of one lane than a few a second.
func (l *lane) sample(now time.Time) bool {
	if now.Sub(l.sampled) < 250*time.Millisecond {
		return false
	}
	l.sampled = now
	return true
}

// backlogWait is how long a delivery that finds no room should stay away: what was turned away before it is served
// first, at the lane's pace, so that each makes few rounds through the retry topics. At most 5 minutes: a receiver
// that has become faster need not wait for an old estimate.
func (l *lane) backlogWait(now time.Time) time.Duration {
	// The pace says little of a lane that was idle until now, and what it could do says little of one that fails.
	pace := max(l.pace.now(now), 1)
	if l.latency > 0 && l.health.proven {
		pace = max(pace, l.health.limit/l.latency)
	}
	if l.sub != nil && l.sub.MaxPerSecond() > 0 {
		pace = min(pace, l.rate())
	}
	if l.horizon.Before(now) {
		l.horizon = now.Add(time.Duration(float64(l.queued) / pace * float64(time.Second)))
	}
	l.horizon = l.horizon.Add(time.Duration(float64(time.Second) / pace))
	if limit := now.Add(5 * time.Minute); l.horizon.After(limit) {
		l.horizon = limit
	}
	return l.horizon.Sub(now)
}

// state is what fanout_lanes counts it under.
func (l *lane) state(now time.Time, cfg *LanesConfig) string {
	switch {
	case l.health.state != laneOpen:
		return "parked"
	case l.health.limited(now, l.maximum(cfg)) || l.sub != nil && l.sub.Paused():
		return "limited"
	default:
		return "open"
	}
}
