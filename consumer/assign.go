package consumer

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"fanout/topic/wire"
)

// claim is a member's side of an assignment: its topics, and the partitions that it has.
type claim struct {
	member     string
	topics     []string         // it would read
	owned      []wire.Partition // it has, and reads on meanwhile
	generation int32            // in which it got them: of two claims the younger one holds (KIP-792)
	leaving    bool             // it gives up what it has, and gets nothing more
}

// assignment is the result that the leader gives out.
type assignment struct {
	target map[string][]wire.Partition // who is to have what in the end, by member
	given  map[string][]wire.Partition // of that, what may be given now: nobody else has it
}

// complete says whether everybody has what it is to have. Otherwise those who have lost a partition give it up and join
// again, and the next assignment gives it to its new owner (KIP-429).
func (a *assignment) complete() bool {
	for member, target := range a.target {
		if len(a.given[member]) < len(target) {
			return false
		}
	}
	return true
}

// assign shares the partitions of the topics, whose sizes are given, among those who would read them. A partition stays
// with its owner unless another member has two less; so the loads of members that read the same topics differ by one at
// most, and no more partitions move than that takes. It is a pure function of its arguments: any member may lead.
func assign(claims []claim, sizes map[string]int) assignment {
	s := newSharing(claims, sizes)
	s.keep()
	s.place()
	s.level()
	return s.result()
}

// sharing is an assignment in the making.
type sharing struct {
	members    []*sharer // by id
	partitions []wire.Partition
	claimants  map[wire.Partition][]*sharer // the youngest claim first
	owner      map[wire.Partition]*sharer   // so far
}

// sharer is a member, with what it gets.
type sharer struct {
	*claim

	reads   map[string]bool
	load    int
	byTopic map[string]int
}

func newSharing(claims []claim, sizes map[string]int) *sharing {
	s := &sharing{claimants: make(map[wire.Partition][]*sharer), owner: make(map[wire.Partition]*sharer)}
	for i := range claims {
		m := &sharer{claim: &claims[i], reads: make(map[string]bool), byTopic: make(map[string]int)}
		for _, topic := range m.topics {
			m.reads[topic] = true
		}
		s.members = append(s.members, m)
	}
	slices.SortFunc(s.members, func(a, b *sharer) int { return strings.Compare(a.member, b.member) })
	for _, topic := range slices.Sorted(maps.Keys(sizes)) {
		for id := range sizes[topic] {
			s.partitions = append(s.partitions, wire.Partition{Topic: topic, ID: id})
		}
	}
	for _, m := range s.members {
		for _, p := range m.owned {
			s.claimants[p] = append(s.claimants[p], m)
		}
	}
	for _, list := range s.claimants {
		slices.SortStableFunc(list, func(a, b *sharer) int { return cmp.Compare(b.generation, a.generation) })
	}
	return s
}

func (m *sharer) mayRead(p wire.Partition) bool { return m.reads[p.Topic] && !m.leaving }

func (s *sharing) give(p wire.Partition, to *sharer) {
	if from := s.owner[p]; from != nil {
		from.load--
		from.byTopic[p.Topic]--
	}
	s.owner[p] = to
	to.load++
	to.byTopic[p.Topic]++
}

// keep leaves with each member what it has and may go on reading.
func (s *sharing) keep() {
	for _, p := range s.partitions {
		if list := s.claimants[p]; len(list) > 0 && list[0].mayRead(p) {
			s.give(p, list[0])
		}
	}
}

// place gives what nobody has to whoever has least; where that is equal, least of the topic, so that a busy topic is spread.
func (s *sharing) place() {
	for _, p := range s.partitions {
		if s.owner[p] != nil {
			continue
		}
		var best *sharer
		for _, m := range s.members {
			if m.mayRead(p) && (best == nil || cmp.Or(cmp.Compare(m.load, best.load), cmp.Compare(m.byTopic[p.Topic], best.byTopic[p.Topic])) < 0) {
				best = m
			}
		}
		if best != nil {
			s.give(p, best)
		}
	}
}

// level moves partitions, one at a time, from a member to one that has two less, until no such pair is left. Each move makes
// the sum of the squares of the loads smaller, so it ends.
func (s *sharing) level() {
	for {
		p, to := s.nextMove()
		if to == nil {
			return
		}
		s.give(p, to)
	}
}

// nextMove finds the fullest member that can give a partition to the emptiest that may read it.
func (s *sharing) nextMove() (partition wire.Partition, to *sharer) {
	byLoad := slices.Clone(s.members)
	slices.SortStableFunc(byLoad, func(a, b *sharer) int { return cmp.Compare(b.load, a.load) })
	for _, from := range byLoad {
		for _, to := range slices.Backward(byLoad) {
			if from.load-to.load < 2 {
				break
			}
			if p, ok := s.bestOf(from, to); ok {
				return p, to
			}
		}
	}
	return wire.Partition{}, nil
}

// bestOf picks what to move: a partition that nobody reads yet, else one of the topic of which the giver has most beyond the
// taker.
func (s *sharing) bestOf(from, to *sharer) (best wire.Partition, found bool) {
	mostGap := 0
	for _, p := range s.partitions {
		if s.owner[p] != from || !to.mayRead(p) {
			continue
		}
		if len(s.claimants[p]) == 0 {
			return p, true
		}
		if gap := from.byTopic[p.Topic] - to.byTopic[p.Topic]; !found || gap > mostGap {
			best, mostGap, found = p, gap, true
		}
	}
	return best, found
}

func (s *sharing) result() assignment {
	a := assignment{target: make(map[string][]wire.Partition), given: make(map[string][]wire.Partition)}
	for _, m := range s.members {
		a.target[m.member], a.given[m.member] = nil, nil // everybody is told, if only that it has nothing
	}
	for _, p := range s.partitions {
		to := s.owner[p]
		if to == nil {
			continue // nobody reads it
		}
		a.target[to.member] = append(a.target[to.member], p)
		if !s.heldByAnother(p, to) {
			a.given[to.member] = append(a.given[to.member], p)
		}
	}
	return a
}

// heldByAnother says whether a member other than to reads the partition. Older claims of the same partition do not count where
// to has the youngest: whoever made them finds that they are no more.
func (s *sharing) heldByAnother(p wire.Partition, to *sharer) bool {
	list := s.claimants[p]
	return len(list) > 0 && list[0] != to
}
