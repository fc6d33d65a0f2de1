package consumer // from the inside: it drives the real ledger, metadata, records, settling and claiming

import (
	"crypto/sha256"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"fanout/dispatcher"
)

// The commit protocol, explored exhaustively: one partition, two members of a group, a few records, each either delivered
// or sent to a retry topic. Every interleaving of reading, outcomes, acknowledgements, commits (taken, refused, or
// answered too late), revocations with and without a drain, crashes and late completions is gone through, and after every
// step the broker's commit must not be past, nor claim, a record that is not settled durably.
const (
	modelMost    = 4 // records
	modelMembers = 2
)

// modelBounds make the world finite.
type modelBounds struct {
	records int
	joins   int // of members, the first one included
	crashes int
	late    int // commits that are on the wire while nobody waits for them
	depth   int // steps; 0: until there is nothing new
}

// step is one move of the world: a verb, and the member or record that it concerns.
type step struct {
	verb string
	n    int
	m    int
}

// member is a consumer instance: a session on the partition, or none.
type modelMember struct {
	c       *Consumer
	p       *partition
	gen     int
	sent    *modelCommit // a commit that the broker has not seen
	records [modelMost]*record
	drained bool
}

type modelCommit struct {
	gen      int
	offset   int64
	metadata string
}

// model is the whole world: the broker, the members, and what really became of the records.
type model struct {
	bounds    modelBounds
	t         *testing.T
	metrics   *metrics // shared by all worlds: nothing depends on them, and they are large
	gen       int      // of the group; the member that joined last has it
	owner     int      // -1: nobody
	offset    int64
	metadata  string
	durable   [modelMost]bool // delivered, or its retry record acknowledged, by anybody
	late      []modelCommit   // commits on the wire of members that have given up waiting
	members   [modelMembers]*modelMember
	crashed   int
	rebalance int
}

func newModel(t *testing.T, bounds modelBounds, metrics *metrics) *model {
	t.Helper()
	w := &model{bounds: bounds, t: t, metrics: metrics, owner: -1}
	for i := range w.members {
		w.members[i] = w.process()
	}
	return w
}

// process is a fresh instance, whose writer is worked by hand.
func (w *model) process() *modelMember {
	c := &Consumer{log: zap.NewNop(), window: newWindow(100, 1<<20), replays: newWindow(100, 1<<20), names: newNames("fanout"), background: w.t.Context()}
	c.ladder = newLadder("fanout", []time.Duration{time.Second}, time.Second, time.Second)
	c.metrics = w.metrics
	c.writer = newWriter(c.background, nil, c.log, nil)
	c.writer.topics[c.ladder.topic(time.Second)] = &topicWriter{w: c.writer, wake: make(chan struct{}, 1)}
	return &modelMember{c: c}
}

func (m *modelMember) queue() *topicWriter { return m.c.writer.topics[m.c.ladder.topic(time.Second)] }

// moves lists what may happen now.
func (w *model) moves() (all []step) {
	for i, m := range w.members {
		if m.p == nil {
			if w.owner != i && w.rebalance < w.bounds.joins {
				all = append(all, step{verb: "join", m: i})
			}
			continue
		}
		if !m.drained {
			if m.p.ledger.next < int64(w.bounds.records) {
				all = append(all, step{verb: "read", m: i})
			}
		}
		for n, r := range m.records {
			if r != nil && len(r.deliveries) > 0 && !r.deliveries[0].Claimed() {
				all = append(all, step{"deliver", n, i}, step{"retry", n, i})
			}
		}
		if len(m.queue().queue) > 0 {
			all = append(all, step{verb: "ack", m: i})
		}
		if m.sent == nil {
			if _, due := m.p.commitment(false); due {
				all = append(all, step{verb: "send", m: i})
			}
		} else {
			all = append(all, step{verb: "arrive", m: i})
			if len(w.late) < w.bounds.late {
				all = append(all, step{verb: "time out", m: i})
			} else {
				all = append(all, step{verb: "lose", m: i})
			}
		}
		if !m.drained && m.sent == nil {
			all = append(all, step{verb: "defer", m: i})
		}
		if m.sent == nil {
			all = append(all, step{verb: "abandon", m: i})
		}
		if w.crashed < w.bounds.crashes {
			all = append(all, step{verb: "crash", m: i})
		}
	}
	for i := range w.late { // in any order
		all = append(all, step{verb: "late commit", n: i})
	}
	return all
}

func (w *model) do(s step) {
	m := w.members[s.m]
	switch s.verb {
	case "join": // the group goes on: whoever had the partition may not know it yet
		w.gen++
		w.rebalance++
		w.owner, m.gen, m.drained = s.m, w.gen, false
		m.p = &partition{
			c: m.c, topic: "t", stage: dispatcher.StageFirst, ledger: newLedger(w.offset), committed: w.offset, metadata: w.metadata,
			skip: settledAbove(w.offset, w.metadata),
		}
		m.records = [modelMost]*record{}
	case "read":
		n := m.p.ledger.next
		e := &entry{offset: n}
		if m.p.skipped(n) {
			m.p.ledger.track(e)
			break
		}
		r := &record{entry: e, p: m.p, size: 1}
		r.pending.Store(1)
		e.record.Store(r)
		m.p.ledger.track(e)
		r.take()
		r.deliveries = append(r.one[:0], dispatcher.Delivery{Account: "a", Subscription: "s", Settler: r, Origin: dispatcher.Origin{Topic: "t", Offset: n}})
		r.pending.Add(1)
		r.done()
		m.records[n] = r
	case "deliver":
		r := m.records[s.n]
		w.durable[s.n] = true // the receiver has it, whatever we think of it
		r.Settle(&r.deliveries[0], dispatcher.Outcome{Result: dispatcher.Delivered})
	case "retry":
		r := m.records[s.n]
		r.Settle(&r.deliveries[0], dispatcher.Outcome{Result: dispatcher.Retry, Reason: dispatcher.Timeout, NotBefore: time.Now()})
	case "ack":
		batch := m.queue().take()
		for i := range batch {
			w.durable[modelOffset(batch[i])] = true
			batch[i].acked()
		}
	case "send":
		c, _ := m.p.commitment(false)
		m.sent = &modelCommit{m.gen, c.Offset, c.Metadata}
	case "arrive":
		if c := *m.sent; w.take(c) {
			sent, _ := m.p.commitment(true)
			sent.Offset, sent.Metadata = c.offset, c.metadata
			m.p.commitTaken(sent)
		} else { // fenced
			w.abandon(m)
		}
		m.sent = nil
	case "time out": // it may arrive yet
		w.late = append(w.late, *m.sent)
		m.sent = nil
	case "lose": // it never will
		m.sent = nil
	case "late commit":
		w.take(w.late[s.n])
		w.late = slices.Delete(w.late, s.n, s.n+1)
	case "defer": // the end of a drain
		m.drained = true
		(&session{c: m.c, partitions: []*partition{m.p}}).deferAll()
	case "abandon":
		w.abandon(m)
	case "crash":
		w.crashed++
		if m.sent != nil && len(w.late) < w.bounds.late {
			w.late = append(w.late, *m.sent)
		}
		if w.owner == s.m {
			w.owner = -1
		}
		w.members[s.m] = w.process()
	default:
		w.t.Fatalf("no step %q", s.verb)
	}
}

// take is the coordinator: it refuses the commits of old generations.
func (w *model) take(c modelCommit) bool {
	if c.gen != w.gen {
		return false
	}
	w.offset, w.metadata = c.offset, c.metadata
	return true
}

func (w *model) abandon(m *modelMember) {
	(&session{c: m.c, partitions: []*partition{m.p}}).abandon()
	if w.owner >= 0 && w.members[w.owner] == m {
		w.owner = -1
	}
	m.p = nil
	// What its attempts led to comes late, and must make no difference.
	for _, r := range m.records {
		if r != nil {
			r.Settle(&r.deliveries[0], dispatcher.Outcome{Result: dispatcher.Retry, Reason: dispatcher.Timeout, NotBefore: time.Now()})
		}
	}
}

func modelOffset(o outgoing) int64 {
	m := message{headers: o.headers}
	origin, _ := ParseOrigin(m.header(headerOrigin))
	return origin.Offset
}

// wrong says what of the promise is broken; empty if nothing is.
func (w *model) wrong() string {
	for n := range w.bounds.records {
		if int64(n) < w.offset && !w.durable[n] {
			return fmt.Sprintf("committed up to %d, but record %d is not settled", w.offset, n)
		}
	}
	for _, s := range settledAbove(w.offset, w.metadata) {
		for n := s.from; n < min(s.to, int64(w.bounds.records)); n++ {
			if !w.durable[n] {
				return fmt.Sprintf("the commit %d %q claims record %d, which is not settled", w.offset, w.metadata, n)
			}
		}
	}
	for i, m := range w.members {
		if records := m.c.window.records.Load(); m.p == nil && records != int64(len(m.queue().queue)) {
			return fmt.Sprintf("member %d has given up, and %d records hold room in its window for %d writes", i, records, len(m.queue().queue))
		}
	}
	return ""
}

// key tells states apart.
func (w *model) key() [16]byte {
	var b strings.Builder
	fmt.Fprint(&b, w.gen, w.owner, w.offset, w.metadata, w.durable, w.late, w.crashed, w.rebalance)
	for _, m := range w.members {
		if m.p == nil {
			fmt.Fprint(&b, "|-", len(m.queue().queue))
			continue
		}
		fmt.Fprint(&b, "|", m.gen, m.drained, m.p.ledger.next, m.p.committed, m.p.metadata, m.p.skip)
		if m.sent != nil {
			fmt.Fprint(&b, *m.sent)
		}
		for n, r := range m.records {
			if r != nil {
				fmt.Fprint(&b, n, r.deliveries[0].Claimed(), r.entry.settled())
			}
		}
		for _, o := range m.queue().queue {
			fmt.Fprint(&b, "q", modelOffset(o))
		}
	}
	sum := sha256.Sum256([]byte(b.String()))
	return [16]byte(sum[:16])
}

// explore goes through every world within the bounds, breadth first, so that what is found has the shortest way there.
func explore(t *testing.T, bounds modelBounds) (states, finished, deepest int) {
	t.Helper()
	metrics := newMetrics(nil, nil)
	relive := func(path []step) *model { // a world cannot be copied
		w := newModel(t, bounds, metrics)
		for _, s := range path {
			w.do(s)
		}
		return w
	}
	seen := map[[16]byte]bool{relive(nil).key(): true}
	frontier := [][]step{nil}
	for states = 1; len(frontier) > 0 && (bounds.depth == 0 || deepest < bounds.depth); deepest++ {
		var next [][]step
		for _, path := range frontier {
			w := relive(path)
			for i, s := range w.moves() {
				if i > 0 {
					w = relive(path)
				}
				w.do(s)
				if wrong := w.wrong(); wrong != "" {
					t.Fatalf("%s\nafter %v", wrong, append(slices.Clone(path), s))
				}
				if key := w.key(); !seen[key] {
					seen[key] = true
					states++
					next = append(next, append(slices.Clone(path), s))
					if w.offset == int64(w.bounds.records) {
						finished++
					}
				}
			}
		}
		frontier = next
	}
	return states, finished, deepest
}

// raceDetected says whether the test was built with the race detector.
func raceDetected() bool {
	build, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(build.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

func TestCommitProtocolExhaustively(t *testing.T) {
	t.Parallel()
	for name, bounds := range map[string]modelBounds{
		"2 records, a join, a rebalance, a crash, a late commit": {records: 2, joins: 2, crashes: 1, late: 1},
		"3 records, a join, a rebalance":                         {records: 3, joins: 2},
		"4 records, a join, a crash, a late commit":              {records: 4, joins: 1, crashes: 1, late: 1},
		"4 records, all of it, to a depth":                       {records: 4, joins: 2, crashes: 1, late: 1, depth: 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if raceDetected() {
				bounds.depth = 9 // it costs ten times as much, and there is one goroutine
			}
			states, finished, deepest := explore(t, bounds)
			if finished == 0 && bounds.depth == 0 {
				t.Error("no way leads to everything being committed: the model is too narrow")
			}
			t.Logf("%d states, %d steps deep; in %d of them all is committed", states, deepest, finished)
		})
	}
}
