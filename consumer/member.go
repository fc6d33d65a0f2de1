package consumer

import (
	"encoding/json"
	"errors"

	"github.com/segmentio/kafka-go"

	"fanout/topic"
	"fanout/topic/wire"
)

// phase is where this process stands in a consumer group. What it has been given is read on through all of them but outside and left:
// a rebalance stops only the partitions that move (KIP-429).
type phase uint8

const (
	phaseOutside phase = iota // not a member: it has nothing, and is to join
	phaseJoining              // a JoinGroup is to be made, or under way
	phaseSyncing              // it has joined a generation, and waits for its assignment
	phaseStable               // it has its assignment, and says regularly that it is there
	phaseLeft                 // it has left for good
	phases
)

// String is the phase's name, for logs.
func (p phase) String() string {
	return [phases]string{"outside", "joining", "syncing", "stable", "left"}[p]
}

// reply is the meaning of the coordinator's answer, or of its absence, to a member.
type reply uint8

const (
	replyDone      reply = iota // it did what was asked
	replyNeedsID                // join again with the member id that came with it (KIP-394)
	replyRebalance              // the group is rebalancing: join again, and keep what you have
	replyLater                  // the coordinator is away, has moved, or is loading: ask again
	replyExpelled               // the member, as it was, does not belong to the group any more: others may have its partitions
	replyReplaced               // another process has this instance id (KIP-345)
	replyTooShort               // the broker wants a longer session time-out
	replyRefused                // the group's settings, or the user's rights, do not allow it
	replies
)

// String is the reply's name, for tests.
func (r reply) String() string {
	return [replies]string{"done", "needs an id", "rebalance", "later", "expelled", "replaced", "session too short", "refused"}[r]
}

// replyOf sorts the errors that a coordinator answers with, and those of the way there.
func replyOf(err error) reply {
	switch {
	case err == nil:
		return replyDone
	case errors.Is(err, kafka.MemberIDRequired):
		return replyNeedsID
	case errors.Is(err, kafka.RebalanceInProgress):
		return replyRebalance
	case errors.Is(err, kafka.FencedInstanceID):
		return replyReplaced
	case wire.Fenced(err):
		return replyExpelled
	case errors.Is(err, kafka.InvalidSessionTimeout):
		return replyTooShort
	case wire.Moved(err) || wire.Unreachable(err):
		return replyLater
	}
	return replyRefused
}

// member is this process's part in a group, as a machine: it does no I/O and knows no clock. Each message to it is one of its methods;
// its answer is an effect, to be carried out. One goroutine may use it.
type member struct {
	phase      phase
	id         string // empty until the coordinator has given one
	generation int32  // that it joined last
	given      int32  // the generation in which it got what it has
	instance   string // of a static member
	leaving    bool   // it is to leave as soon as it has nothing
	givingUp   bool   // partitions are being given up: it joins again, or leaves, after that
}

// effect lists the actions that follow from a message to the member.
type effect struct {
	add     []topic.Partition // begin to read these
	giveUp  []topic.Partition // stop reading these, commit, and let go
	release bool              // carry out giveUp, which may be of nothing, and tell the member with gaveUp
	lose    bool              // let go of everything at once, without a commit: it is somebody else's
}

// memberData describes the member to the others when it joins.
type memberData struct {
	Generation int32  `json:"generation"`        // in which it got what it has (KIP-792)
	Leaving    bool   `json:"leaving,omitempty"` // it gives up what it has, and wants nothing
	Layout     string `json:"layout,omitempty"`  // changes with the partitions of its topics, so that the group shares them again
}

func (d *memberData) encode() []byte {
	b, err := json.Marshal(d)
	if err != nil {
		return nil // numbers and strings always marshal
	}
	return b
}

// joined takes the answer to a JoinGroup. id is the member's id that came with it.
func (m *member) joined(r reply, id string, generation int32) effect {
	switch r {
	case replyDone:
		m.phase, m.id, m.generation = phaseSyncing, id, generation
		return effect{}
	case replyNeedsID:
		m.id = id
		return effect{}
	case replyExpelled, replyReplaced:
		return m.expelled()
	case replyRebalance, replyLater, replyTooShort, replyRefused, replies:
	}
	return effect{} // the same again, after a pause
}

// synced takes the answer to a SyncGroup: the partitions that it is assigned. held are those that it has.
func (m *member) synced(r reply, assigned, held []topic.Partition) effect {
	switch r {
	case replyDone:
	case replyExpelled, replyReplaced:
		return m.expelled()
	case replyLater: // the answer is the same when it is asked for again
		return effect{}
	case replyNeedsID, replyRebalance, replyTooShort, replyRefused, replies:
		m.phase = phaseJoining
		return effect{}
	}
	m.phase, m.given = phaseStable, m.generation
	e := effect{add: without(assigned, held), giveUp: without(held, assigned)}
	if m.leaving {
		e = effect{giveUp: held}
	}
	m.givingUp = len(e.giveUp) > 0 || m.leaving
	e.release = m.givingUp
	return e
}

// heartbeat takes the answer to a heartbeat.
func (m *member) heartbeat(r reply) effect {
	switch r {
	case replyExpelled, replyReplaced:
		return m.expelled()
	case replyRebalance:
		if !m.givingUp { // else it joins when that is over
			m.phase = phaseJoining
		}
	case replyDone, replyLater, replyNeedsID, replyTooShort, replyRefused, replies:
	}
	return effect{}
}

// gaveUp is told that what was to be given up is let go of.
func (m *member) gaveUp() {
	if !m.givingUp {
		return // it was expelled meanwhile
	}
	m.givingUp = false
	switch {
	case m.leaving:
		m.phase = phaseLeft
	case m.phase == phaseStable:
		m.phase = phaseJoining // so that others get it
	}
}

// changed is told that its topics have become other ones, or more partitions.
func (m *member) changed() {
	if m.phase == phaseStable && !m.givingUp {
		m.phase = phaseJoining
	}
}

// stop is told that the process stops. A dynamic member says so first: the others are then ready to take its partitions when it has let
// go of them. A static one keeps its place: its partitions wait for its restart.
func (m *member) stop(held []topic.Partition) effect {
	if m.leaving {
		return effect{}
	}
	m.leaving = true
	switch {
	case m.phase == phaseOutside:
		m.phase = phaseLeft
	case m.instance != "" || m.givingUp:
		return m.letGo(held)
	case m.phase == phaseStable:
		m.phase = phaseJoining
	}
	return effect{}
}

// hurry is told that a stop waits for the others no longer.
func (m *member) hurry(held []topic.Partition) effect {
	if !m.leaving || m.phase == phaseLeft || m.phase == phaseStable && m.givingUp {
		return effect{}
	}
	return m.letGo(held)
}

func (m *member) letGo(held []topic.Partition) effect {
	m.phase, m.givingUp = phaseStable, true
	return effect{giveUp: held, release: true}
}

// expelled begins again, with another id. Where the process stops it keeps the one that it has, to leave by: the group may count on that still,
// if only its generation has passed.
func (m *member) expelled() effect {
	m.phase, m.generation, m.given, m.givingUp = phaseLeft, -1, -1, false
	if !m.leaving {
		m.phase, m.id = phaseOutside, ""
	}
	return effect{lose: true}
}

// without is a less what b has.
func without(a, b []topic.Partition) []topic.Partition {
	has := make(map[topic.Partition]bool, len(b))
	for _, p := range b {
		has[p] = true
	}
	var rest []topic.Partition
	for _, p := range a {
		if !has[p] {
			rest = append(rest, p)
		}
	}
	return rest
}
