package dispatcher

// The admitter, the follower and what a gate learns are tested from inside: they send nothing, and nothing of them is exported.

import (
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"fanout/event"
	"fanout/subscriptions"
)

// single is a Directory with one subscription, or none.
type single struct {
	sub     *subscriptions.Subscription
	version uint64
}

func (s *single) Match([]*subscriptions.Subscription, string, event.Name, string) []*subscriptions.Subscription {
	return nil
}
func (s *single) Lookup(string, string) *subscriptions.Subscription { return s.sub }
func (s *single) Version() uint64                                   { return s.version }

func (s *single) set(t *testing.T, value string) {
	t.Helper()
	s.version++
	if s.sub = nil; value == "" {
		return
	}
	sub, err := subscriptions.Parse("a", "s", []byte(value))
	if err != nil {
		t.Fatal(err)
	}
	s.sub = sub
}

const (
	plainSub  = `{"url":"https://x.example.com/","events":["*"]}`
	pausedSub = `{"url":"https://x.example.com/","events":["*"],"paused":true}`
	otherSub  = `{"url":"https://y.example.com/","events":["*"]}`
)

// newAdmitter is an admitter with a lane that follows dir, and what the lane reports.
func newAdmitter(t *testing.T, dir *single) (a *admitter, l *lane, told *[]LaneEvent) {
	t.Helper()
	cfg := &Config{Delivery: DeliveryConfig{MaxAge: 72 * time.Hour, MaxBatchBytes: 1 << 20, MaxInFlight: 1}, Lanes: *lanesConfig()}
	renderer, err := NewRenderer(cfg.Egress, "fanout/test")
	if err != nil {
		t.Fatal(err)
	}
	told = new([]LaneEvent)
	reporter := &laneReporter{log: zap.NewNop(), observers: []func(LaneEvent){func(e LaneEvent) { *told = append(*told, e) }}}
	all, h, count := newLanes(), new(halt), new(atomic.Int64)
	count.Store(1)
	a = &admitter{
		cfg: cfg, halt: h, backlog: newBacklog(&cfg.Lanes, count, h), permits: newSemaphore(cfg.Delivery.MaxInFlight, count),
		follower: &follower{dir: dir, renderer: renderer, cfg: &cfg.Lanes, reporter: reporter},
	}
	l = all.get(laneKey{"a", "s"})
	a.follower.adopt(l, dir.sub, time.Unix(1_800_000_000, 0))
	return a, l, told
}

// scene is a delivery that waits, and what decides about it.
type scene struct {
	t   *testing.T
	dir *single
	a   *admitter
	l   *lane
	del *Delivery
}

func (s *scene) stop()    { s.a.halt.stopping.Store(true) }
func (s *scene) suspend() { s.a.halt.suspend("no name server answers") }
func (s *scene) occupy()  { s.l.inFlight = minLimit }

func TestAdmitter(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for _, tt := range []struct {
		name   string
		waits  time.Duration
		change func(*scene) // meanwhile
		want   admission
	}{
		{"nothing keeps it back", time.Second, func(*scene) {}, admission{kind: admitStart}},
		{"claimed", time.Second, func(s *scene) { s.del.Claim() }, admission{kind: admitDrop}},
		{"the process stops", time.Second, (*scene).stop, admission{kind: admitSettle, reason: Shutdown}},
		{"it stops while suspended", time.Second, func(s *scene) { s.suspend(); s.stop() }, admission{kind: admitSettle, reason: Network}},
		{"suspended", time.Hour, (*scene).suspend, admission{kind: admitWait, reason: Network}},
		{"the subscription is gone", time.Second, func(s *scene) { s.dir.set(s.t, "") }, admission{kind: admitSettle, reason: Deleted}},
		{"paused", time.Second, func(s *scene) { s.dir.set(s.t, pausedSub) }, admission{kind: admitSettle, reason: Paused, until: now.Add(30 * time.Second)}},
		{"too old", 73 * time.Hour, func(*scene) {}, admission{kind: admitSettle, reason: Expired}},
		{"as many in flight as may be", time.Second, (*scene).occupy, admission{kind: admitWait, reason: QueueFull}},
		{"the same for longer than queue_age", 3 * time.Second, (*scene).occupy, admission{kind: admitSettle, reason: QueueFull}},
		{"the same, and suspended in between", 3 * time.Second, func(s *scene) {
			s.occupy()
			s.a.halt.resumed.Store(now.Add(-time.Second).UnixNano())
		}, admission{kind: admitWait, reason: QueueFull}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := new(single)
			dir.set(t, plainSub)
			a, l, _ := newAdmitter(t, dir)
			del := &Delivery{Account: "a", Subscription: "s", Event: event.EmailOpen, FirstSeen: now.Add(-tt.waits)}
			l.queue.push(del, now.Add(-tt.waits))
			tt.change(&scene{t, dir, a, l, del})
			if next, adm, _ := a.next(l, nil, now); next != del || adm != tt.want {
				t.Errorf("%+v, want %+v", adm, tt.want)
			}
		})
	}
}

// A lane that parked follows another configuration: it opens, and says why. The same one again changes nothing.
func TestFollower(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	dir := new(single)
	dir.set(t, plainSub)
	a, l, told := newAdmitter(t, dir)
	failure := Outcome{Result: Retry, Reason: StatusFailed, Status: 503, cause: StatusFailed, Attempted: true}
	for range a.cfg.Lanes.ParkAfter {
		l.learn(&failure, now, now, &a.cfg.Lanes, a.follower.reporter)
	}
	before := l.req
	dir.version++ // something else has changed
	if a.follower.follow(l, now); l.req != before || l.version != dir.version || len(*told) != 1 || (*told)[0].Kind != LaneParked {
		t.Fatalf("unchanged: %+v", *told)
	}
	dir.set(t, otherSub)
	if a.follower.follow(l, now); l.req == before || l.req.target.Host != "y.example.com" || l.gate.breaker.state != breakerOpen {
		t.Errorf("changed: still %+v, %+v", l.req.target, l.gate.breaker)
	}
	if len(*told) != 2 || (*told)[1].Kind != LaneUnparked || (*told)[1].Why != whyChanged {
		t.Errorf("told %+v", *told)
	}
	dir.set(t, "")
	if a.follower.orphaned(l) {
		t.Error("nothing is remembered, and it is orphaned")
	}
	if l.owed.reason = Paused; !a.follower.orphaned(l) {
		t.Error("what it owes is remembered although its subscription is gone")
	}
}

// What an outcome changes for a lane.
func TestGateLearns(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	cfg := lanesConfig()
	cfg.ParkAfter = 1
	failed := Outcome{Result: Retry, Reason: Connect, cause: Connect, Attempted: true}
	lookup := Outcome{Result: Retry, Reason: DNS, cause: DNS, lookup: 7, Attempted: true}
	gone := Outcome{Result: Dead, Reason: Gone, Status: 410, Attempted: true}
	refused := Outcome{Result: Dead, Reason: PermanentStatus, Status: 400, Attempted: true}
	delivered := Outcome{Result: Delivered, Status: 204, Attempted: true}
	type step struct {
		out    Outcome
		change LaneEventKind // where why is not empty
		why    bool
		state  breakerState
	}
	for name, steps := range map[string][]step{
		"parks, and opens by a 2xx":           {{failed, LaneParked, true, breakerParked}, {delivered, LaneUnparked, true, breakerOpen}, {delivered, 0, false, breakerOpen}},
		"stops once":                          {{gone, LaneStopped, true, breakerGone}, {gone, 0, false, breakerGone}, {delivered, 0, false, breakerGone}},
		"a permanent status does not open it": {{failed, LaneParked, true, breakerParked}, {refused, 0, false, breakerParked}},
		"an open lane takes it for an answer": {{refused, 0, false, breakerOpen}},
		"one look-up fails once":              {{lookup, LaneParked, true, breakerParked}, {delivered, LaneUnparked, true, breakerOpen}, {lookup, 0, false, breakerOpen}},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(64, rate{})
			for i, s := range steps {
				change, why := g.learn(&s.out, now, now, 64, cfg)
				if change != s.change || (why != "") != s.why || g.breaker.state != s.state {
					t.Fatalf("step %d: %v %q, state %d", i, change, why, g.breaker.state)
				}
			}
		})
	}
}

// A lane may be asked for its state at the moment at which a suspension ends.
func TestStatusWhileASuspensionEnds(t *testing.T) {
	dir := new(single)
	dir.set(t, plainSub)
	a, l, _ := newAdmitter(t, dir)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 1_000_000 {
			a.halt.suspend("no name server answers")
			a.halt.suspend("")
		}
	}()
	for asked := true; asked; {
		l.status(time.Unix(1_800_000_000, 0), &a.cfg.Lanes, a.halt)
		select {
		case <-done:
			asked = false
		default:
		}
	}
}
