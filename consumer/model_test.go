package consumer

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
	"go.uber.org/zap"

	"fanout/dispatcher"
	"fanout/topic"
	"fanout/topic/wire"
)

// This model goes through all that can become of one partition when it moves from a member to another: in good order, after a stop that takes
// too long, a crash, an expulsion that the member has not heard of, and one of its own. Partition, tracker and committer are the real ones, and
// any step may fall into the middle of a commit.
//
// No commit that is taken passes a record that is not settled. What was settled when a handover in good order ended is not delivered again, and
// nothing more than once more. In the end everything is settled and committed.

const modelRecords = 2

// modelCommits is the coordinator and both members, along one path.
type modelCommits struct {
	t         *testing.T
	choose    func(n int) int
	settler   *settler
	steps     int // that are left
	committed wire.Offset
	owner     int // in the coordinator's eyes
	members   [2]*modelOwner
	settled   [modelRecords]bool
	times     [modelRecords]int // it was delivered
	final     []bool            // what was settled when the handover ended, if in good order
	trace     []string
	wrong     string
}

// modelOwner is a member, from when it has the partition.
type modelOwner struct {
	m         *modelCommits
	number    int
	p         *partition
	committer *committer
	entries   [modelRecords]entry
	records   [modelRecords]*unsettledRecord // in flight
	busy      bool                           // a commit of its own is under way
	stopped   bool                           // it reads no more
	letGo     bool
	crashed   bool
}

// deleted implements deletions: no topic is.
func (o *modelOwner) deleted(_ context.Context, partitions []*partition) (map[*partition]bool, error) {
	answers := make(map[*partition]bool)
	for _, p := range partitions {
		answers[p] = false
	}
	return answers, nil
}

func (m *modelCommits) begin(number int) {
	o := &modelOwner{m: m, number: number}
	o.p = newPartition(topic.Partition{Topic: "t"}, dispatcher.StageFirst, 0, m.committed, 0, time.Time{})
	o.committer = &committer{
		group: o, identity: o, log: zap.NewNop(), turn: make(chan struct{}, 1),
		who: func() memberID { return memberID{generation: int32(number)} }, refused: func(memberID) {},
	}
	m.members[number] = o
}

// Commit implements commits. Before it arrives, other things may happen.
func (o *modelOwner) Commit(_ context.Context, r *wire.CommitRequest) (map[topic.Partition]error, error) {
	m := o.m
	o.busy = true
	for m.steps > 0 && m.step(true) {
	}
	o.busy = false
	if o.number != m.owner {
		m.note(o, "is refused")
		return map[topic.Partition]error{{Topic: "t"}: kafka.IllegalGeneration}, nil
	}
	m.committed = r.Offsets[topic.Partition{Topic: "t"}]
	m.note(o, fmt.Sprintf("commits %d", m.committed.At))
	above := topic.ReadMetadata(m.committed.At, m.committed.Metadata).Above
	for offset := range int64(modelRecords) {
		said := offset < m.committed.At || slices.ContainsFunc(above, func(r topic.Range) bool { return r.From <= offset && offset < r.To })
		if said && !m.settled[offset] {
			m.wrong = fmt.Sprintf("the commit of %d, with %v above, passes %d", m.committed.At, above, offset)
		}
	}
	return nil, nil
}

func (m *modelCommits) note(o *modelOwner, what string) {
	m.trace = append(m.trace, fmt.Sprintf("%c %s", 'A'+o.number, what))
}

// modelStep is something that may happen next.
type modelStep struct {
	name string
	do   func()
}

// step lets one thing happen, or nothing: then it is false.
func (m *modelCommits) step(during bool) bool {
	var can []modelStep
	for _, o := range m.members {
		if o != nil && !o.crashed {
			can = append(can, o.can(during)...)
		}
	}
	k := m.choose(len(can) + 1)
	if k == 0 {
		return false
	}
	m.steps--
	m.trace = append(m.trace, can[k-1].name)
	can[k-1].do()
	return true
}

func (o *modelOwner) can(during bool) (all []modelStep) {
	may := func(ok bool, name string, do func()) {
		if ok {
			all = append(all, modelStep{fmt.Sprintf("%c %s", 'A'+o.number, name), do})
		}
	}
	next, _, _ := o.p.position(time.Time{})
	may(!o.stopped && next < modelRecords, "reads", func() { o.read(next) })
	for offset, r := range o.records {
		may(r != nil, fmt.Sprintf("delivers %d", offset), func() { o.deliver(offset) })
	}
	may(!o.busy && !during, "commits", o.commit) // also of what it had when it last looked
	if o.number > 0 {
		return all // one move is enough
	}
	may(!o.stopped, "stops reading", func() { o.stopped = true })
	may(o.stopped && !o.letGo && !o.busy && !during, "gives up", o.giveUp)
	may(!o.letGo, "gives up on its own", func() { o.stopped, o.letGo = true, true; abandon([]*partition{o.p}) })
	may(o.m.owner == 0, "is expelled", o.m.move)
	may(!o.busy, "crashes", func() { o.crashed = true })
	return all
}

func (o *modelOwner) read(offset int64) {
	r := o.p.track(&topic.Record{Offset: offset}, &o.entries[offset], &flow{settler: o.m.settler})
	if r == nil {
		if !o.m.settled[offset] {
			o.m.wrong = fmt.Sprintf("%d is left out, and is not settled", offset)
		}
		return
	}
	r.deliveries = make([]dispatcher.Delivery, 1)
	o.records[offset] = r
}

func (o *modelOwner) deliver(offset int) {
	r := o.records[offset]
	o.records[offset] = nil
	o.m.settled[offset] = true
	o.m.times[offset]++
	if final := o.m.final; o.number == 1 && final != nil && final[offset] {
		o.m.wrong = fmt.Sprintf("%d was settled and committed, and is delivered again", offset)
	}
	r.Settle(&r.deliveries[0], dispatcher.Outcome{Result: dispatcher.Delivered})
}

func (o *modelOwner) commit() {
	_ = o.committer.commit(o.m.t.Context(), []*partition{o.p})
}

// giveUp is the second step of a revocation: the last commit, and the end.
func (o *modelOwner) giveUp() {
	err := o.committer.last(o.m.t.Context(), []*partition{o.p}, time.Now().Add(time.Hour))
	if err == nil && o.m.owner == 0 {
		o.m.final = slices.Clone(o.m.settled[:])
		for offset, r := range o.records {
			o.m.final[offset] = o.m.final[offset] && r == nil && o.m.committed.At > int64(offset)
		}
	}
	abandon([]*partition{o.p})
	o.letGo = true
}

// move gives the partition to the other member.
func (m *modelCommits) move() {
	m.owner = 1
	m.begin(1)
}

// finish lets everything come to its end, without any more surprise.
func (m *modelCommits) finish() {
	m.steps = 0
	if m.owner == 0 {
		m.move()
	}
	b := m.members[1]
	for {
		next, _, _ := b.p.position(time.Time{})
		if next >= modelRecords {
			break
		}
		b.read(next)
	}
	for offset, r := range b.records {
		if r != nil {
			b.deliver(offset)
		}
	}
	b.commit()
	for offset, ok := range m.settled {
		if !ok {
			m.wrong = fmt.Sprintf("%d was never settled", offset)
		}
		if m.times[offset] > 2 {
			m.wrong = fmt.Sprintf("%d was delivered %d times", offset, m.times[offset])
		}
	}
	if m.committed.At != modelRecords {
		m.wrong = fmt.Sprintf("%d is committed in the end", m.committed.At)
	}
}

func TestCommitModel(t *testing.T) {
	t.Parallel()
	steps := 6
	if RaceDetector {
		steps = 4 // it is one goroutine
	}
	settler := &settler{metrics: newMetrics(prometheus.NewRegistry(), new(Consumer))}
	paths := 0
	for choices := []int{}; choices != nil; paths++ {
		at := 0
		var options []int
		m := &modelCommits{t: t, settler: settler, steps: steps, committed: wire.Offset{Epoch: wire.NoEpoch}}
		m.choose = func(n int) int {
			if at == len(choices) {
				choices = append(choices, 0)
			}
			options = append(options, n)
			at++
			return choices[at-1]
		}
		m.begin(0)
		for m.steps > 0 && m.wrong == "" && m.step(false) {
		}
		if m.wrong == "" {
			m.finish()
		}
		if m.wrong != "" {
			t.Fatalf("%s, after %s", m.wrong, strings.Join(m.trace, ", "))
		}
		choices = following(choices[:at], options)
	}
	t.Logf("%d paths", paths)
}

// following is the next list of choices; nil after the last.
func following(choices, options []int) []int {
	for i := len(choices) - 1; i >= 0; i-- {
		if choices[i]+1 < options[i] {
			next := slices.Clone(choices[:i+1])
			next[i]++
			return next
		}
	}
	return nil
}

// heldUp takes commits as slowly as a test lets it.
type heldUp struct {
	modelOwner

	goOn  chan struct{}
	taken []int64
}

// Commit implements commits.
func (h *heldUp) Commit(_ context.Context, r *wire.CommitRequest) (map[topic.Partition]error, error) {
	<-h.goOn
	h.taken = append(h.taken, r.Offsets[topic.Partition{Topic: "t"}].At)
	return nil, nil
}

// A commit waits behind one that hangs, as when a broker does; meanwhile the partition is given up, unsettled. The group still knows the member,
// so it takes the commit.
func TestCommitAfterGivingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &heldUp{goOn: make(chan struct{})}
		p := newPartition(topic.Partition{Topic: "t"}, dispatcher.StageFirst, 0, wire.Offset{At: 0, Epoch: wire.NoEpoch}, 0, time.Now())
		c := &committer{group: h, identity: h, log: zap.NewNop(), turn: make(chan struct{}, 1), who: func() memberID { return memberID{} }, refused: func(memberID) {}}
		r := p.track(&topic.Record{}, new(entry), &flow{settler: &settler{metrics: newMetrics(prometheus.NewRegistry(), new(Consumer))}})
		r.deliveries = make([]dispatcher.Delivery, 1)
		done := make(chan error, 2)
		go func() { done <- c.confirm(t.Context(), []*partition{p}) }()
		synctest.Wait()
		go func() { done <- c.commit(t.Context(), []*partition{p}) }()
		synctest.Wait()
		abandon([]*partition{p})
		close(h.goOn)
		if err := <-done; err != nil {
			t.Error(err)
		}
		<-done
		if slices.Max(h.taken) > 0 {
			t.Errorf("committed %v, and nothing is settled", h.taken)
		}
	})
}
