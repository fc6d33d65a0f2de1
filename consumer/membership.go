package consumer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"go.uber.org/zap"

	"fanout/topic"
	"fanout/topic/wire"
)

// groupProtocol is the name that members know their way of sharing by. It is fanout's own, so that no foreign member takes part: the
// assignment relies on what fanout's members say of themselves.
const groupProtocol = "fanout-cooperative"

// sessionTimeouts are asked for in turn where a broker's group.min.session.timeout.ms is larger than what is configured.
var sessionTimeouts = []time.Duration{10 * time.Second, 30 * time.Second, time.Minute} //nolint:gochecknoglobals // a constant table

// Times of a membership. A rebalance is noticed within a heartbeat interval; a killed member's partitions are free after the session
// time-out (kafka.session_timeout).
const (
	heartbeatInterval = 400 * time.Millisecond
	heartbeatTimeout  = 5 * time.Second
	joinPause         = 100 * time.Millisecond // between tries, growing to joinPauseMax
	joinPauseMax      = time.Second
	replacedPause     = time.Minute // until a member whose instance id another process has joins again
	leaveTimeout      = 2 * time.Second
)

// holdings takes a member's partitions. Each method is called from one goroutine, apart from giveUp.
type holdings interface {
	// held lists the partitions that were added and have not been given up, or lost, since.
	held() []topic.Partition
	// add begins to read the partitions. It does not block.
	add(partitions []topic.Partition)
	// giveUp stops reading the partitions, commits what is settled, and lets go of them: they are no longer held when it returns. last says
	// that nobody stays who could take them. It is called from a goroutine of its own, while heartbeats go on.
	giveUp(partitions []topic.Partition, last bool)
	// lose lets go of everything at once. Nothing is committed.
	lose()
}

// coordinator is the group's coordinator: a *wire.Group.
type coordinator interface {
	Join(ctx context.Context, r *wire.JoinRequest) (wire.Joined, error)
	Sync(ctx context.Context, r *wire.SyncRequest) ([]byte, error)
	Heartbeat(ctx context.Context, member, instance string, generation int32) error
	Leave(ctx context.Context, member, instance string) error
}

// memberID is the member in whose name a commit is made.
type memberID struct {
	id, instance string
	generation   int32
}

// membershipConfig configures a membership.
type membershipConfig struct {
	group     coordinator
	holdings  holdings
	topics    func() map[string]int                                             // the topics that the member would read, with their partitions; empty until one exists
	sizes     func(ctx context.Context, names []string) (map[string]int, error) // of topics that exist
	instance  string                                                            // kafka.instance_id; empty: dynamic
	session   time.Duration                                                     // the time-out that is asked for first
	heartbeat time.Duration
	log       *zap.Logger
	explain   func(error) error
	observe   *groupMetrics
}

// membership keeps this process a member of a group, from joining to leaving. It does what member decides.
type membership struct {
	membershipConfig

	stopping  chan struct{} // closed to stop
	hurrying  chan struct{} // closed when a stop can wait for the others no longer
	changed   chan struct{} // of the topics, one slot
	expulsion chan memberID // a commit of that identity was refused
	ended     chan struct{} // closed when run returns

	// Of run's goroutine.
	member   member
	releases sync.WaitGroup    // of partitions, that are under way
	gaveUp   <-chan struct{}   // closed when what is to be given up is let go of; nil: nothing is
	shared   map[string][]byte // everybody's assignment, of the leader, until the coordinator has it
	outside  time.Time         // until then it does not join: another process has its instance id
	failures failures
	staying  int // members that do not leave, says the leader

	mu      sync.Mutex // guards all below
	timeout time.Duration
	now     memberID
	alive   time.Time // the coordinator is known to count on this member until a session after that
	joined  bool
	problem string // why it is not joined
}

func newMembership(cfg membershipConfig) *membership {
	return &membership{
		membershipConfig: cfg, timeout: cfg.session, member: member{generation: -1, given: -1, instance: cfg.instance}, now: memberID{instance: cfg.instance, generation: -1},
		stopping: make(chan struct{}), hurrying: make(chan struct{}), ended: make(chan struct{}),
		changed: make(chan struct{}, 1), expulsion: make(chan memberID, 1),
	}
}

// stop begins to leave; run returns when it has left. Others that stop after it in the group take over meanwhile.
func (m *membership) stop() { close(m.stopping) }

// hurry ends a stop's waiting for the others.
func (m *membership) hurry() { close(m.hurrying) }

// topicsChanged makes the group share again.
func (m *membership) topicsChanged() { signal(m.changed) }

// refused tells that a commit was refused in the name of the identity.
func (m *membership) refused(i memberID) {
	select {
	case m.expulsion <- i:
	default:
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// who is the identity to commit with.
func (m *membership) who() memberID {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// suspended says that the coordinator has not been heard of for a session: it may have given the partitions to others, so nothing
// more is begun until it has said otherwise.
func (m *membership) suspended() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.joined && time.Since(m.alive) > m.timeout
}

// isGone says whether run has returned.
func (m *membership) isGone() bool {
	select {
	case <-m.ended:
		return true
	default:
		return false
	}
}

// ready says why the member has no part in the group; nil once it has.
func (m *membership) ready() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.joined:
		return nil
	case m.problem != "":
		return errors.New("is not joined (" + m.problem + ")")
	}
	return errors.New("is not joined")
}

// run joins, and stays a member until stop. When it returns nothing is held.
func (m *membership) run(ctx context.Context) {
	defer close(m.ended)
	defer m.releases.Wait()
	for m.member.phase != phaseLeft && ctx.Err() == nil {
		switch m.member.phase {
		case phaseOutside, phaseJoining:
			m.join(ctx)
		case phaseSyncing:
			m.sync(ctx)
		case phaseStable:
			m.stay(ctx)
		case phaseLeft, phases:
		}
		m.publish()
	}
	if ctx.Err() != nil {
		m.holdings.lose()
		return
	}
	if m.member.id != "" && m.instance == "" {
		ctx, cancel := context.WithTimeout(ctx, leaveTimeout)
		defer cancel()
		if err := m.group.Leave(ctx, m.member.id, ""); err != nil && !wire.Fenced(err) { // fenced: it has left already
			m.log.Warn("leaving the group fails; its partitions are free when the session times out", zap.Error(err))
		}
	}
}

// publish lets others see what has become of the member.
func (m *membership) publish() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = memberID{m.member.id, m.instance, m.member.generation}
	switch m.member.phase {
	case phaseStable:
		m.joined, m.problem = true, ""
	case phaseOutside, phaseLeft:
		m.joined = false
	case phaseJoining, phaseSyncing, phases:
	}
}

// heard notes that the coordinator counts on this member since then.
func (m *membership) heard(at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.alive = at
}

// do carries out an effect.
func (m *membership) do(e effect) {
	if e.lose {
		m.log.Warn("the group has gone on without this member; it lets go of its partitions and joins again",
			zap.Strings("partitions", names(m.holdings.held())))
		m.holdings.lose()
		m.gaveUp = nil // the partitions that were being given up are lost with the rest
	}
	if len(e.add) > 0 {
		m.holdings.add(e.add)
	}
	if e.release {
		last := m.member.leaving && m.staying == 0
		done := make(chan struct{})
		m.gaveUp = done
		m.releases.Go(func() {
			defer close(done)
			m.holdings.giveUp(e.giveUp, last)
		})
	}
}

// join asks to be part of the next generation, and what the member's part in it is.
func (m *membership) join(ctx context.Context) {
	wanted := m.topics()
	if len(wanted) == 0 && m.member.phase == phaseOutside {
		m.failed(ctx, kafka.UnknownTopicOrPartition, "the group's topics cannot be found; it is tried again")
		return
	}
	if time.Now().Before(m.outside) {
		m.failed(ctx, explainJoin(kafka.FencedInstanceID), "another process has this instance's place in the group; it joins again a minute later")
		return
	}
	asking, cancel := m.patient(ctx)
	defer cancel()
	joined, err := m.group.Join(asking, &wire.JoinRequest{
		MemberID: m.member.id, InstanceID: m.instance, Protocol: groupProtocol, Metadata: m.subscription(wanted),
		SessionTimeout: m.sessionTimeout(), RebalanceTimeout: m.rebalanceTimeout(),
	})
	r := m.sort(err)
	m.do(m.member.joined(r, joined.MemberID, joined.Generation))
	switch r {
	case replyDone:
		m.failures.over()
		m.heard(time.Now())
		m.publish()
		m.shared = nil
		if joined.Leader {
			if m.shared, err = m.lead(asking, joined.Members); err != nil {
				m.failed(ctx, err, "the group's topics cannot be looked up; it joins again")
				m.do(m.member.synced(replyRebalance, nil, nil))
				return
			}
		}
		m.sync(ctx)
	case replyNeedsID:
	case replyTooShort:
		m.failed(ctx, err, "the broker wants a longer session time-out; it is asked for the next longer one")
		m.lengthenSession()
	case replyRebalance, replyLater, replyExpelled, replyReplaced, replyRefused, replies:
		m.failed(ctx, explainJoin(err), "joining the group fails; it is tried again")
	}
}

// explainJoin says what to do about errors that come from who else is in the group.
func explainJoin(err error) error {
	switch {
	case errors.Is(err, kafka.InconsistentGroupProtocol) || errors.Is(err, kafka.Unknown):
		return fmt.Errorf("%w: another application, or an older fanout, has members in this group: stop them, or choose another kafka.group", err)
	case errors.Is(err, kafka.FencedInstanceID):
		return fmt.Errorf("%w: another process runs with the same kafka.instance_id", err)
	}
	return err
}

// patient is a context for a request that the coordinator answers when all members have come; a stop in a hurry ends it.
func (m *membership) patient(ctx context.Context) (context.Context, context.CancelFunc) {
	return untilEither(ctx, m.rebalanceTimeout()+heartbeatTimeout, m.hurrying)
}

// brief is a context for a heartbeat. A stop does not wait for one that hangs.
func (m *membership) brief(ctx context.Context) (context.Context, context.CancelFunc) {
	stop := m.leavingNow()
	if m.member.givingUp {
		stop = nil // it is under way; the session has to last until that is over
	}
	return untilEither(ctx, heartbeatTimeout, stop)
}

// untilEither is a context that ends after the time, or when the channel is closed.
func untilEither(ctx context.Context, timeout time.Duration, stop <-chan struct{}) (context.Context, context.CancelFunc) {
	asking, cancel := context.WithTimeout(ctx, timeout)
	done := make(chan struct{})
	go func() {
		select {
		case <-stop:
			cancel()
		case <-done:
		}
	}()
	return asking, func() {
		close(done)
		cancel()
	}
}

// sync asks for the assignment. The leader brings that of all, each time: without it nobody would be given anything.
func (m *membership) sync(ctx context.Context) {
	asking, cancel := m.patient(ctx)
	defer cancel()
	sent := time.Now()
	b, err := m.group.Sync(asking, &wire.SyncRequest{MemberID: m.member.id, InstanceID: m.instance, Generation: m.member.generation, Assignments: m.shared})
	r := m.sort(err)
	var assigned wire.Assignment
	if r == replyDone {
		if assigned, err = wire.ParseAssignment(b); err != nil {
			m.log.Error("the group's leader gave what cannot be read", zap.Error(err))
			r = replyRebalance
		}
	}
	held := m.holdings.held()
	e := m.member.synced(r, assigned.Partitions, held)
	if r != replyDone {
		m.do(e)
		m.failed(ctx, err, "no assignment; it is asked for again")
		return
	}
	m.failures, m.staying = failures{}, stayingOf(assigned.UserData)
	m.heard(sent)
	m.publish()
	m.tell(e, held)
	m.do(e)
}

// tell logs what has changed, once a generation that changes something.
func (m *membership) tell(e effect, held []topic.Partition) {
	m.observe.rebalanced(m.member.generation)
	if len(e.add) == 0 && len(e.giveUp) == 0 && len(held) > 0 {
		return
	}
	m.log.Info("partitions shared again", zap.Int32("generation", m.member.generation), zap.Strings("added", names(e.add)),
		zap.Strings("given_up", names(e.giveUp)), zap.Int("kept", len(held)-len(e.giveUp)))
}

func names(partitions []topic.Partition) []string {
	sorted := slices.Clone(partitions)
	slices.SortFunc(sorted, topic.Partition.Compare)
	list := make([]string, len(sorted))
	for i, p := range sorted {
		list[i] = p.String()
	}
	return list
}

// stay is a member for one heartbeat interval, or until something happens.
func (m *membership) stay(ctx context.Context) {
	next := time.NewTimer(m.heartbeat)
	defer next.Stop()
	stopping, hurrying := m.stopping, m.hurrying
	if m.member.leaving {
		stopping = nil
	}
	if m.member.givingUp {
		hurrying = nil
	}
	select {
	case <-next.C:
		m.sendHeartbeat(ctx)
	case <-m.gaveUp:
		m.gaveUp = nil
		m.member.gaveUp()
	case <-m.changed:
		m.member.changed()
	case i := <-m.expulsion:
		if i == m.who() {
			m.expelled(ctx)
		}
	case <-stopping:
		m.do(m.member.stop(m.holdings.held()))
	case <-hurrying:
		m.do(m.member.hurry(m.holdings.held()))
	case <-ctx.Done():
	}
}

// sort is replyOf, and notes that another process has this one's instance id. To join at once would take it back, and so on: each process would
// read again what the other has in flight.
func (m *membership) sort(err error) reply {
	r := replyOf(err)
	if r == replyReplaced {
		m.outside = time.Now().Add(replacedPause)
	}
	return r
}

// expelled begins again after a commit was refused. That of a static member does not say whether another process has taken its place; a heartbeat does.
func (m *membership) expelled(ctx context.Context) {
	if m.instance != "" {
		asking, cancel := m.brief(ctx)
		defer cancel()
		m.sort(m.group.Heartbeat(asking, m.member.id, m.instance, m.member.generation))
	}
	m.do(m.member.heartbeat(replyExpelled))
}

func (m *membership) sendHeartbeat(ctx context.Context) {
	asking, cancel := m.brief(ctx)
	defer cancel()
	sent := time.Now()
	err := m.group.Heartbeat(asking, m.member.id, m.instance, m.member.generation)
	r := m.sort(err)
	if r == replyDone || r == replyRebalance {
		m.heard(sent)
		m.failures.over()
	}
	if r == replyRefused || r == replyLater {
		if m.failures.add(err, 60) {
			m.log.Warn("the group's coordinator does not answer; reading stops if it does not within the session time-out", zap.Error(err))
		}
	}
	m.do(m.member.heartbeat(r))
}

// failed logs why joining does not go on, now and then, and waits before it is tried again; a stop ends that.
func (m *membership) failed(ctx context.Context, err error, text string) {
	err = m.explain(err)
	if m.failures.add(err, 60) {
		m.log.Warn(text, zap.Error(err), zap.Int("failures", m.failures.count))
	}
	m.mu.Lock()
	if err != nil {
		m.problem = err.Error()
	}
	m.mu.Unlock()
	pause := min(joinPause<<min(m.failures.count-1, 10), joinPauseMax)
	pause += rand.N(pause / 2) // members that were turned away together do not come back together
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case <-m.leavingNow():
	}
	if m.isStopping() {
		m.do(m.member.stop(m.holdings.held()))
	}
	select {
	case <-m.hurrying:
		m.do(m.member.hurry(m.holdings.held()))
	default:
	}
}

// leavingNow is closed once waiting is useless.
func (m *membership) leavingNow() <-chan struct{} {
	if m.member.leaving {
		return m.hurrying
	}
	return m.stopping
}

func (m *membership) isStopping() bool {
	select {
	case <-m.stopping:
		return true
	default:
		return false
	}
}

func (m *membership) sessionTimeout() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.timeout
}

// rebalanceTimeout is how long the coordinator waits for members to join again. It is shorter than a session, so that a member
// whose join is under way has not been given up on.
func (m *membership) rebalanceTimeout() time.Duration { return m.sessionTimeout() * 3 / 4 }

func (m *membership) lengthenSession() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, longer := range sessionTimeouts {
		if longer > m.timeout {
			m.timeout = longer
			return
		}
	}
}
