package consumer

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"fanout/topic"
)

// This model puts real members and the real assignment in front of a model of a group's coordinator, and goes through all that can happen
// between them, in every order: starts, stops, stops in a hurry, crashes, answers that are lost, sessions that time out.
//
// In every state: no two members that the group counts on have the same partition, and who has left has nothing. And from every state, when
// nothing more goes wrong, the group comes to rest: whoever stays has its share, and whoever stopped has left, without a session timing out.

// parts is a set of the model's partitions.
type parts uint8

func (p parts) list() (list []topic.Partition) {
	for id := range 8 {
		if p&(1<<id) != 0 {
			list = append(list, topic.Partition{Topic: "t", ID: id})
		}
	}
	return list
}

func partsOf(list []topic.Partition) (p parts) {
	for _, q := range list {
		p |= 1 << q.ID
	}
	return p
}

// question is what a process has asked of the coordinator and has no answer to.
type question uint8

const (
	askedNothing question = iota
	askedJoin
	askedSync
	askedBeat
)

// modelProcess is a process with its member: what membership is to a member.
type modelProcess struct {
	member                                                 member
	held                                                   parts
	giving                                                 parts // to be given up
	freeing, freed, started, told, hurried, crashed, ended bool

	asked    question
	answered bool // the answer is on its way
	reply    reply
	id       string
	at       int32 // generation
	assigned parts
}

// modelMember is what the coordinator knows of a member.
type modelMember struct {
	id       string
	claim    modelClaim
	waiting  bool // for the answer to its join
	syncing  bool // for its assignment
	assigned parts
}

type modelClaim struct {
	owned   parts
	given   int32
	leaving bool
}

type coordinatorState uint8

const (
	groupEmpty coordinatorState = iota
	groupPreparing
	groupCompleting
	groupStable
)

// modelGroup is the whole: a coordinator and its processes.
type modelGroup struct {
	size       int // of the topic
	state      coordinatorState
	generation int32
	ids        int      // that were given out
	dead       [10]bool // those of members that are no more
	leader     string
	members    []modelMember
	processes  []modelProcess
	faults     int // that may still happen
}

func (g *modelGroup) clone() *modelGroup {
	c := *g
	c.members, c.processes = slices.Clone(g.members), slices.Clone(g.processes)
	return &c
}

// key is the state as bytes, to tell it from others.
func (g *modelGroup) key() string {
	b := make([]byte, 0, 128)
	b = append(b, byte(g.state), byte(g.generation), byte(g.ids), byte(g.faults))
	b = append(append(b, bits(g.dead[:8]...), '|'), g.leader...)
	for i := range g.members {
		m := &g.members[i]
		b = append(append(b, m.id...), byte(m.claim.owned), byte(m.claim.given), bits(m.claim.leaving, m.waiting, m.syncing), byte(m.assigned))
	}
	for i := range g.processes {
		p := &g.processes[i]
		b = append(b, '|', byte(p.member.phase), byte(p.member.generation), byte(p.member.given), bits(p.member.leaving, p.member.givingUp), byte(p.held), byte(p.giving))
		b = append(b, bits(p.freeing, p.freed, p.started, p.told, p.hurried, p.crashed, p.ended, p.answered), byte(p.asked), byte(p.reply), byte(p.at), byte(p.assigned))
		b = append(append(append(b, p.member.id...), '|'), p.id...)
	}
	return string(b)
}

func bits(flags ...bool) (b byte) {
	for i, set := range flags {
		if set {
			b |= 1 << i
		}
	}
	return b
}

func (g *modelGroup) find(id string) *modelMember {
	for i := range g.members {
		if g.members[i].id == id {
			return &g.members[i]
		}
	}
	return nil
}

// answer lets the process that asked in the name of the id have an answer; nobody, where it asks no more.
func (g *modelGroup) answer(id string, q question, r reply) *modelProcess {
	for i := range g.processes {
		if p := &g.processes[i]; p.member.id == id && p.asked == q && !p.answered && !p.crashed {
			p.answered, p.reply, p.id, p.at = true, r, id, g.generation
			return p
		}
	}
	return nil
}

func (g *modelGroup) prepare() {
	g.state = groupPreparing
	for i := range g.members {
		m := &g.members[i]
		if m.syncing {
			m.syncing = false
			g.answer(m.id, askedSync, replyRebalance)
		}
	}
}

// completeJoin begins the next generation once everybody has come.
func (g *modelGroup) completeJoin() {
	if g.state != groupPreparing || slices.ContainsFunc(g.members, func(m modelMember) bool { return !m.waiting }) {
		return
	}
	if len(g.members) == 0 {
		g.state, g.leader = groupEmpty, ""
		return
	}
	g.generation++
	g.state = groupCompleting
	if g.find(g.leader) == nil {
		g.leader = g.members[0].id
	}
	for i := range g.members {
		m := &g.members[i]
		m.waiting, m.assigned = false, 0
		g.answer(m.id, askedJoin, replyDone)
	}
}

func (g *modelGroup) join(p *modelProcess) {
	claim := modelClaim{p.held, p.member.given, p.member.leaving}
	if p.member.id == "" { // it is given one at once, and comes again with that
		g.ids++
		p.do(p.member.joined(replyNeedsID, strconv.Itoa(g.ids), 0))
	}
	m := g.find(p.member.id)
	switch {
	case m == nil && g.dead[p.member.id[0]-'0']:
		p.answered, p.reply = true, replyExpelled
		return
	case m == nil:
		g.members = append(g.members, modelMember{id: p.member.id, claim: claim, waiting: true})
		if g.state != groupPreparing {
			g.prepare()
		}
	case g.state == groupStable && m.claim == claim && g.leader != m.id, g.state == groupCompleting && m.claim == claim:
		g.answer(m.id, askedJoin, replyDone)
		return
	default:
		m.claim, m.waiting = claim, true
		if g.state != groupPreparing {
			g.prepare()
		}
	}
	g.completeJoin()
}

// sync takes the assignments of all from the leader.
func (g *modelGroup) sync(p *modelProcess) {
	m := g.find(p.member.id)
	switch {
	case m == nil || p.member.generation != g.generation:
		p.answered, p.reply = true, replyExpelled
	case g.state == groupPreparing:
		p.answered, p.reply = true, replyRebalance
	case g.state == groupStable:
		g.answer(m.id, askedSync, replyDone).assigned = m.assigned
	case g.leader != m.id:
		m.syncing = true
	default:
		g.share()
	}
}

// share is the leader's part, and what the coordinator does then.
func (g *modelGroup) share() {
	claims := make([]claim, 0, len(g.members))
	for _, m := range g.members {
		claims = append(claims, claim{member: m.id, topics: []string{"t"}, owned: m.claim.owned.list(), generation: m.claim.given, leaving: m.claim.leaving})
	}
	shared := assign(claims, map[string]int{"t": g.size})
	g.state = groupStable
	for i := range g.members {
		m := &g.members[i]
		m.assigned = partsOf(shared.given[m.id])
		if m.syncing || m.id == g.leader {
			m.syncing = false
			if p := g.answer(m.id, askedSync, replyDone); p != nil {
				p.assigned = m.assigned
			}
		}
	}
}

func (g *modelGroup) heartbeat(p *modelProcess) {
	p.answered, p.reply = true, replyDone
	switch m := g.find(p.member.id); {
	case m == nil || p.member.generation != g.generation:
		p.reply = replyExpelled
	case g.state != groupStable:
		p.reply = replyRebalance
	}
}

// remove takes a member out: it has left, or its session has timed out.
func (g *modelGroup) remove(id string) {
	n := len(g.members)
	g.members = slices.DeleteFunc(g.members, func(m modelMember) bool { return m.id == id })
	if id != "" {
		g.dead[id[0]-'0'] = true
	}
	if len(g.members) == n {
		return
	}
	g.answer(id, askedJoin, replyExpelled)
	g.answer(id, askedSync, replyExpelled)
	if g.state != groupPreparing {
		g.prepare()
	}
	g.completeJoin()
}

func (p *modelProcess) do(e effect) {
	if e.lose {
		p.held, p.giving, p.freeing, p.freed = 0, 0, false, false
	}
	p.held |= partsOf(e.add)
	if e.release {
		p.giving, p.freeing, p.freed = partsOf(e.giveUp), true, false
	}
}

// ask sends what is to be sent in the member's phase.
func (g *modelGroup) ask(p *modelProcess) {
	switch p.member.phase {
	case phaseOutside, phaseJoining:
		p.asked = askedJoin
		g.join(p)
	case phaseSyncing:
		p.asked = askedSync
		g.sync(p)
	case phaseStable:
		p.asked = askedBeat
		g.heartbeat(p)
		g.hear(p)
	case phaseLeft, phases:
	}
}

// hear takes the answer that is there.
func (g *modelGroup) hear(p *modelProcess) {
	q := p.asked
	p.asked, p.answered = askedNothing, false
	switch q {
	case askedJoin:
		p.do(p.member.joined(p.reply, p.id, p.at))
		if p.reply == replyDone {
			defer g.ask(p) // as membership.join does
		}
	case askedSync:
		p.do(p.member.synced(p.reply, p.assigned.list(), p.held.list()))
	case askedBeat:
		p.do(p.member.heartbeat(p.reply))
	case askedNothing:
	}
	p.reply, p.id, p.at, p.assigned = 0, "", 0, 0
}

// lostAnswer is an answer, or a request, that does not arrive.
func (g *modelGroup) lostAnswer(p *modelProcess) {
	p.answered, p.reply, p.id, p.at, p.assigned = true, replyLater, "", 0, 0
	g.hear(p)
}

// leave is the end of membership.run.
func (g *modelGroup) leave(p *modelProcess) {
	p.ended = true
	if p.member.id != "" {
		g.remove(p.member.id)
	}
}

// step is something that may happen.
type step struct {
	name string
	do   func(*modelGroup, *modelProcess)
}

// steps are those that happen by themselves, sooner or later; the first that may is the first that does, where things go well.
func (g *modelGroup) steps(p *modelProcess) (all []step) {
	if !p.started || p.crashed || p.ended {
		return nil
	}
	may := func(ok bool, name string, do func(*modelGroup, *modelProcess)) {
		if ok {
			all = append(all, step{name, do})
		}
	}
	may(p.answered, "hears", (*modelGroup).hear)
	may(p.freeing, "lets go", func(_ *modelGroup, p *modelProcess) {
		p.held &^= p.giving
		p.giving, p.freeing, p.freed = 0, false, true
	})
	idle := p.asked == askedNothing
	may(idle && p.freed, "has let go", func(_ *modelGroup, p *modelProcess) {
		p.freed = false
		p.member.gaveUp()
	})
	may(idle && p.member.phase == phaseLeft, "ends", (*modelGroup).leave)
	may(p.hurried && p.member.leaving && p.member.phase != phaseLeft && (p.member.phase != phaseStable || !p.member.givingUp), "hurries", func(g *modelGroup, p *modelProcess) {
		if p.asked != askedNothing {
			g.lostAnswer(p)
		}
		p.do(p.member.hurry(p.held.list()))
	})
	may(idle && p.member.phase != phaseLeft, "asks", (*modelGroup).ask)
	return all
}

// surprises are the steps that need not happen.
func (g *modelGroup) surprises(p *modelProcess) (all []step) {
	if p.crashed || p.ended {
		return nil
	}
	if !p.started {
		return []step{{"starts", func(_ *modelGroup, p *modelProcess) { p.started = true }}}
	}
	if idle := p.asked == askedNothing; !p.told && idle { // it looks when it has an answer
		all = append(all, step{"stops", func(_ *modelGroup, p *modelProcess) {
			p.told = true
			p.do(p.member.stop(p.held.list()))
		}})
	} else if p.told && !p.hurried {
		all = append(all, step{"is told to hurry", func(_ *modelGroup, p *modelProcess) { p.hurried = true }})
	}
	if g.faults == 0 {
		return all
	}
	fault := func(name string, do func(*modelGroup, *modelProcess)) {
		all = append(all, step{name, func(g *modelGroup, p *modelProcess) { g.faults--; do(g, p) }})
	}
	fault("crashes", func(_ *modelGroup, p *modelProcess) { p.crashed, p.asked, p.answered = true, askedNothing, false })
	if p.asked != askedNothing {
		fault("gets no answer", (*modelGroup).lostAnswer)
	}
	if g.find(p.member.id) != nil {
		fault("times out", func(g *modelGroup, p *modelProcess) { g.remove(p.member.id) })
	}
	return all
}

// wrong says what must not be.
func (g *modelGroup) wrong() string {
	var held parts
	for i := range g.processes {
		p := &g.processes[i]
		if p.ended && p.held != 0 {
			return fmt.Sprintf("process %d has ended and has %v", i, p.held.list())
		}
		if p.crashed || g.find(p.member.id) == nil {
			continue
		}
		if both := held & p.held; both != 0 {
			return fmt.Sprintf("process %d has %v, which another one has", i, both.list())
		}
		held |= p.held
	}
	return ""
}

// atRest says what is missing when nothing happens any more.
func (g *modelGroup) atRest() string {
	var held parts
	staying, least, most := 0, 8, 0
	for i := range g.processes {
		p := &g.processes[i]
		switch {
		case !p.started || p.crashed || p.ended:
			continue
		case p.told:
			return fmt.Sprintf("process %d was told to stop, and goes on", i)
		case p.member.phase != phaseStable || g.find(p.member.id) == nil:
			return fmt.Sprintf("process %d is %v", i, p.member.phase)
		}
		staying++
		n := len(p.held.list())
		least, most = min(least, n), max(most, n)
		held |= p.held
	}
	switch {
	case len(g.members) != staying:
		return fmt.Sprintf("the group counts %d members, and %d are there", len(g.members), staying)
	case staying > 0 && held != 1<<g.size-1:
		return fmt.Sprintf("nobody has %v", (1<<g.size - 1&^held).list())
	case staying > 0 && most-least > 1:
		return fmt.Sprintf("one has %d and another %d", most, least)
	}
	return ""
}

// next is what happens when all goes well; nil at rest.
func (g *modelGroup) next() (*modelGroup, string) {
	before := g.key()
	for i := range g.processes {
		for k := range g.steps(&g.processes[i]) {
			c := g.clone()
			s := c.steps(&c.processes[i])[k]
			s.do(c, &c.processes[i])
			if c.key() == before {
				continue
			}
			return c, fmt.Sprintf("%d %s", i, s.name)
		}
	}
	for i := range g.processes {
		if p := &g.processes[i]; p.crashed && g.find(p.member.id) != nil {
			c := g.clone()
			c.remove(p.member.id)
			return c, fmt.Sprintf("%d, crashed, times out", i)
		}
	}
	return nil, ""
}

// explored is all that was seen of a model, and how each state was come to.
type explored struct {
	from map[string]string // the state before, and what happened then
	good map[string]bool   // it comes to rest
}

func (x *explored) path(key string) string {
	var steps []string
	for {
		before, ok := x.from[key]
		if !ok || before == "" {
			break
		}
		name, previous, _ := strings.Cut(before, "\n")
		steps = append(steps, name)
		key = previous
	}
	slices.Reverse(steps)
	return strings.Join(steps, ", ")
}

// rests goes on from the state as long as something happens, and says what is wrong where that ends, or does not.
func (x *explored) rests(g *modelGroup) string {
	var chain []string
	var names []string
	for n := 0; ; n++ {
		key := g.key()
		if x.good[key] {
			break
		}
		if n > 500 {
			return "it does not come to rest: … " + strings.Join(names[len(names)-30:], ", ")
		}
		chain = append(chain, key)
		next, name := g.next()
		if next == nil {
			if wrong := g.atRest(); wrong != "" {
				return wrong + ", after " + strings.Join(names, ", ")
			}
			break
		}
		names = append(names, name)
		if wrong := next.wrong(); wrong != "" {
			return wrong + ", after " + strings.Join(names, ", ")
		}
		g = next
	}
	for _, key := range chain {
		x.good[key] = true
	}
	return ""
}

func explore(t *testing.T, start *modelGroup) {
	t.Helper()
	x := explored{from: map[string]string{start.key(): ""}, good: make(map[string]bool)}
	todo := []*modelGroup{start}
	for len(todo) > 0 {
		g := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		key := g.key()
		if wrong := x.rests(g); wrong != "" {
			t.Fatalf("%s\n\nfirst: %s", wrong, x.path(key))
		}
		for i := range g.processes {
			all := func(g *modelGroup) []step { return append(g.steps(&g.processes[i]), g.surprises(&g.processes[i])...) }
			for k := range all(g) {
				c := g.clone()
				s := all(c)[k]
				s.do(c, &c.processes[i])
				after := c.key()
				if _, seen := x.from[after]; seen {
					continue
				}
				x.from[after] = fmt.Sprintf("%d %s\n%s", i, s.name, key)
				if wrong := c.wrong(); wrong != "" {
					t.Fatalf("%s\n\nfirst: %s", wrong, x.path(after))
				}
				todo = append(todo, c)
			}
		}
	}
	t.Logf("%d states", len(x.from))
}

func newModelGroup(size, processes, faults int) *modelGroup {
	g := &modelGroup{size: size, faults: faults}
	for range processes {
		g.processes = append(g.processes, modelProcess{member: member{generation: -1, given: -1}})
	}
	g.processes[0].started = true
	return g
}

func TestMembershipModel(t *testing.T) {
	for _, c := range []struct{ size, processes, faults int }{{2, 2, 0}, {1, 2, 1}} {
		if RaceDetector && c.faults > 0 {
			continue // it is one goroutine
		}
		t.Run(fmt.Sprintf("%d partitions, %d processes, %d faults", c.size, c.processes, c.faults), func(t *testing.T) {
			explore(t, newModelGroup(c.size, c.processes, c.faults))
		})
	}
}
