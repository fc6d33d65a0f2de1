package consumer

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"fanout/topic/wire"
)

// group of members that hold what the last assignments gave them.
type assignedGroup struct {
	sizes      map[string]int
	generation int32
	claims     map[string]*claim
	moved      int // partitions that changed owner
}

func newAssignedGroup(sizes map[string]int) *assignedGroup {
	return &assignedGroup{sizes: sizes, claims: make(map[string]*claim)}
}

func (g *assignedGroup) join(member string, topics ...string) {
	g.claims[member] = &claim{member: member, topics: topics}
}

func (g *assignedGroup) list() (all []claim) {
	for _, name := range slices.Sorted(maps.Keys(g.claims)) {
		all = append(all, *g.claims[name])
	}
	return all
}

// settle goes through generations until everybody has what it is to have, as members do.
func (g *assignedGroup) settle(t assertT) {
	t.Helper()
	for round := 1; ; round++ {
		if round > 3 {
			t.Fatalf("the group does not settle: %v", g.list())
		}
		g.generation++
		a := assign(g.list(), g.sizes)
		taken := make(map[wire.Partition]string)
		for member, given := range a.given {
			c := g.claims[member]
			for _, p := range given {
				if other, twice := taken[p]; twice {
					t.Fatalf("%v is given to %s and to %s", p, other, member)
				}
				taken[p] = member
				if !slices.Contains(c.owned, p) {
					g.moved++
				}
			}
			for name, other := range g.claims {
				for _, p := range given {
					if name != member && slices.Contains(other.owned, p) {
						t.Fatalf("%v is given to %s while %s has it", p, member, name)
					}
				}
			}
		}
		for member, given := range a.given {
			c := g.claims[member]
			c.owned, c.generation = given, g.generation
		}
		if a.complete() {
			return
		}
	}
}

func (g *assignedGroup) leave(t assertT, member string) {
	t.Helper()
	g.claims[member].leaving = true
	a := assign(g.list(), g.sizes)
	if len(a.given[member]) > 0 {
		t.Fatalf("a member that leaves is given %v", a.given[member])
	}
	delete(g.claims, member)
	g.settle(t)
}

type assertT interface {
	Helper()
	Fatalf(format string, args ...any)
}

// balanced says what is wrong: a partition that nobody reads although somebody would, or a pair of members of which one
// could give a partition to the other and has two more.
func (g *assignedGroup) wrong() string {
	owner := make(map[wire.Partition]string)
	for name, c := range g.claims {
		for _, p := range c.owned {
			if !slices.Contains(c.topics, p.Topic) {
				return fmt.Sprintf("%s has %v, which it does not read", name, p)
			}
			owner[p] = name
		}
	}
	for topic, n := range g.sizes {
		for id := range n {
			p := wire.Partition{Topic: topic, ID: id}
			for name, c := range g.claims {
				if !slices.Contains(c.topics, topic) {
					continue
				}
				has, ok := owner[p]
				if !ok {
					return fmt.Sprintf("nobody has %v, which %s would read", p, name)
				}
				if more := len(g.claims[has].owned) - len(c.owned); more > 1 {
					return fmt.Sprintf("%s has %d more than %s, which could take %v", has, more, name, p)
				}
			}
		}
	}
	return ""
}

// Whatever joins, leaves, crashes and grows: within three generations everything that somebody would read is read by one
// member, loads are level, and nothing is given to one while another has it.
func TestAssignment(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		topics := []string{"a", "b", "c"}
		g := newAssignedGroup(map[string]int{"a": rapid.IntRange(0, 12).Draw(t, "a"), "b": rapid.IntRange(0, 5).Draw(t, "b")})
		for i := range rapid.IntRange(1, 40).Draw(t, "steps") {
			name := fmt.Sprintf("m%d", rapid.IntRange(0, 6).Draw(t, "member"))
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0, 1:
				if g.claims[name] == nil {
					g.join(name, topics[:rapid.IntRange(1, 3).Draw(t, "topics")]...)
				}
			case 2:
				if g.claims[name] != nil {
					g.leave(t, name)
				}
			case 3: // a crash: what it had is nobody's
				delete(g.claims, name)
			case 4:
				topic := topics[i%3]
				g.sizes[topic] += rapid.IntRange(0, 3).Draw(t, "more")
			}
			g.settle(t)
			if wrong := g.wrong(); wrong != "" {
				t.Fatalf("%s\n%v", wrong, g.list())
			}
		}
	})
}

// A member more takes its part and no more, a member less is replaced partition by partition, and nothing else moves.
func TestAssignmentMovesTheLeast(t *testing.T) {
	g := newAssignedGroup(map[string]int{"t": 200})
	for i := range 50 {
		g.join(fmt.Sprintf("m%02d", i), "t")
	}
	g.settle(t)
	g.moved = 0
	for i := range 50 { // a rolling restart: each leaves, and comes back under another name
		g.leave(t, fmt.Sprintf("m%02d", i))
		g.join(fmt.Sprintf("n%02d", i), "t")
		g.settle(t)
	}
	if least := 50 * 8; g.moved != least {
		t.Errorf("%d partitions moved, want %d: each member's 4 to others, and 4 back", g.moved, least)
	}
	if wrong := g.wrong(); wrong != "" {
		t.Error(wrong)
	}
}

// Of two claims to one partition the younger holds: the older is of a member that was away when it was given on.
func TestAssignmentBelievesTheYoungerClaim(t *testing.T) {
	p := wire.Partition{Topic: "t", ID: 0}
	a := assign([]claim{
		{member: "a", topics: []string{"t"}, owned: []wire.Partition{p}, generation: 3},
		{member: "b", topics: []string{"t"}, owned: []wire.Partition{p}, generation: 5},
	}, map[string]int{"t": 1})
	if !slices.Equal(a.given["b"], []wire.Partition{p}) || len(a.given["a"]) != 0 {
		t.Errorf("given %v", a.given)
	}
}

// Each member reads the topics that it names, and no member holds up another whose topics do not exist.
func TestAssignmentByOwnTopics(t *testing.T) {
	g := newAssignedGroup(map[string]int{"email": 4, "sms": 4})
	g.join("a", "email", "sms")
	g.join("b", "email", "missing")
	g.settle(t)
	if wrong := g.wrong(); wrong != "" {
		t.Error(wrong)
	}
	if n := len(g.claims["b"].owned); n != 4 {
		t.Errorf("b, which reads half of the topics, has %d of 8 partitions: %v", n, g.claims["b"].owned)
	}
}

// A busy topic is spread over the members, not only the number of partitions.
func TestAssignmentSpreadsEachTopic(t *testing.T) {
	g := newAssignedGroup(map[string]int{"busy": 6, "idle": 6})
	for _, name := range []string{"a", "b", "c"} {
		g.join(name, "busy", "idle")
	}
	g.settle(t)
	for name, c := range g.claims {
		busy := 0
		for _, p := range c.owned {
			if p.Topic == "busy" {
				busy++
			}
		}
		if busy != 2 {
			t.Errorf("%s has %d of the busy topic's 6 partitions", name, busy)
		}
	}
}
