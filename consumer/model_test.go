package consumer // from the inside: it drives the real ledger, metadata, records, settling and claiming

import (
	"fmt"
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
	modelRecords = 3
	modelMembers = 2
)

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
	records [modelRecords]*record
	drained bool
}

type modelCommit struct {
	gen      int
	offset   int64
	metadata string
}

// model is the whole world: the broker, the members, and what really became of the records.
type model struct {
	t         *testing.T
	gen       int // of the group; the member that joined last has it
	owner     int // -1: nobody
	offset    int64
	metadata  string
	durable   [modelRecords]bool // delivered, or its retry record acknowledged, by anybody
	late      []modelCommit      // commits on the wire of members that have given up waiting
	members   [modelMembers]*modelMember
	crashes   int
	rebalance int
}

func newModel(t *testing.T) *model {
	t.Helper()
	w := &model{t: t, owner: -1}
	for i := range w.members {
		w.members[i] = w.process()
	}
	return w
}

// process is a fresh instance, whose writer is worked by hand.
func (w *model) process() *modelMember {
	c := &Consumer{log: zap.NewNop(), window: newWindow(100, 1<<20), replays: newWindow(100, 1<<20), names: newNames("fanout"), background: w.t.Context()}
	c.ladder = newLadder("fanout", []time.Duration{time.Second}, time.Second, time.Second)
	c.metrics = newMetrics(nil, c)
	c.writer = newWriter(c.background, nil, c.log, nil)
	c.writer.topics[c.ladder.topic(time.Second)] = &topicWriter{w: c.writer, wake: make(chan struct{}, 1)}
	return &modelMember{c: c}
}

func (m *modelMember) queue() *topicWriter { return m.c.writer.topics[m.c.ladder.topic(time.Second)] }

// moves lists what may happen now.
func (w *model) moves() (all []step) {
	for i, m := range w.members {
		if m.p == nil {
			if w.owner != i && w.rebalance < 2 {
				all = append(all, step{verb: "join", m: i})
			}
			continue
		}
		if !m.drained {
			if m.p.ledger.next < modelRecords {
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
			all = append(all, step{verb: "arrive", m: i}, step{verb: "time out", m: i})
		}
		if !m.drained && m.sent == nil {
			all = append(all, step{verb: "defer", m: i})
		}
		if m.sent == nil {
			all = append(all, step{verb: "abandon", m: i})
		}
		if w.crashes < 1 {
			all = append(all, step{verb: "crash", m: i})
		}
	}
	if len(w.late) > 0 {
		all = append(all, step{verb: "late commit"})
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
		m.records = [modelRecords]*record{}
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
	case "late commit":
		w.take(w.late[0])
		w.late = w.late[1:]
	case "defer": // the end of a drain
		m.drained = true
		(&session{c: m.c, partitions: []*partition{m.p}}).deferAll()
	case "abandon":
		w.abandon(m)
	case "crash":
		w.crashes++
		if m.sent != nil {
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
	for n := range modelRecords {
		if int64(n) < w.offset && !w.durable[n] {
			return fmt.Sprintf("committed up to %d, but record %d is not settled", w.offset, n)
		}
	}
	for _, s := range settledAbove(w.offset, w.metadata) {
		for n := s.from; n < min(s.to, modelRecords); n++ {
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
func (w *model) key() string {
	var b strings.Builder
	fmt.Fprint(&b, w.gen, w.owner, w.offset, w.metadata, w.durable, w.late, w.crashes, w.rebalance)
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
	return b.String()
}

func TestCommitProtocolExhaustively(t *testing.T) {
	const depth = 10
	type node struct{ path []step }
	seen := map[string]bool{newModel(t).key(): true}
	frontier := []node{{}}
	states, finished := 1, 0
	for range depth {
		var next []node
		for _, at := range frontier {
			w := newModel(t)
			for _, s := range at.path {
				w.do(s)
			}
			moves := w.moves()
			for i, s := range moves {
				if i > 0 { // the world cannot be copied, so it is lived again
					w = newModel(t)
					for _, before := range at.path {
						w.do(before)
					}
				}
				w.do(s)
				path := append(slices.Clip(slices.Clone(at.path)), s)
				if wrong := w.wrong(); wrong != "" {
					t.Fatalf("%s\nafter %v", wrong, path)
				}
				if key := w.key(); !seen[key] {
					seen[key] = true
					states++
					next = append(next, node{path})
					if w.offset == modelRecords {
						finished++
					}
				}
			}
		}
		frontier = next
	}
	if finished == 0 {
		t.Error("no way leads to everything being committed: the model is too narrow")
	}
	t.Logf("%d states, in %d of them all is committed", states, finished)
}
