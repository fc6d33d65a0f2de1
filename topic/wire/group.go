package wire

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

// ProtocolType is what a consumer group's members call what they speak (KIP-62).
const ProtocolType = "consumer"

// JoinRequest asks to be a member of the group's next generation.
type JoinRequest struct {
	MemberID         string // empty: the coordinator gives one, with MemberIDRequired (KIP-394)
	InstanceID       string // of a static member (KIP-345); empty: dynamic
	Protocol         string // all members must know one by the same name
	Metadata         []byte // see Subscription.Append
	SessionTimeout   time.Duration
	RebalanceTimeout time.Duration // how long the coordinator waits for the others; the answer takes as long at most
}

// Joined is the answer to a JoinRequest. With an error of MemberIDRequired, MemberID is the one to join with.
type Joined struct {
	MemberID   string
	Generation int32
	Leader     bool // this member assigns
	Members    []Member
}

// Member is what a member sent with its JoinRequest, as the leader is told.
type Member struct {
	ID, InstanceID string
	Metadata       []byte
}

type joinGroupRequest struct {
	GroupID            string              `kafka:"min=v2,max=v5"`
	SessionTimeoutMS   int32               `kafka:"min=v2,max=v5"`
	RebalanceTimeoutMS int32               `kafka:"min=v2,max=v5"`
	MemberID           string              `kafka:"min=v2,max=v5"`
	GroupInstanceID    string              `kafka:"min=v5,max=v5,nullable"`
	ProtocolType       string              `kafka:"min=v2,max=v5"`
	Protocols          []joinGroupProtocol `kafka:"min=v2,max=v5"`
}

type joinGroupProtocol struct {
	Name     string `kafka:"min=v2,max=v5"`
	Metadata []byte `kafka:"min=v2,max=v5"`
}

type joinGroupResponse struct {
	ThrottleTimeMS int32             `kafka:"min=v2,max=v5"`
	ErrorCode      int16             `kafka:"min=v2,max=v5"`
	GenerationID   int32             `kafka:"min=v2,max=v5"`
	ProtocolName   string            `kafka:"min=v2,max=v5"`
	LeaderID       string            `kafka:"min=v2,max=v5"`
	MemberID       string            `kafka:"min=v2,max=v5"`
	Members        []joinGroupMember `kafka:"min=v2,max=v5"`
}

type joinGroupMember struct {
	MemberID        string `kafka:"min=v2,max=v5"`
	GroupInstanceID string `kafka:"min=v5,max=v5,nullable"`
	Metadata        []byte `kafka:"min=v2,max=v5"`
}

// Join joins the group. It blocks for as long as the coordinator waits for the other members.
//
// A static member that restarts is answered its former id as the leader and no members (KIP-345 up to KIP-814): it does
// not lead then.
func (g *Group) Join(ctx context.Context, r *JoinRequest) (Joined, error) {
	var answer joinGroupResponse
	_, err := g.call(ctx, protocol.JoinGroup, 5, joinGroupRequest{
		GroupID: g.id, SessionTimeoutMS: int32(r.SessionTimeout.Milliseconds()), RebalanceTimeoutMS: int32(r.RebalanceTimeout.Milliseconds()),
		MemberID: r.MemberID, GroupInstanceID: r.InstanceID, ProtocolType: ProtocolType,
		Protocols: []joinGroupProtocol{{Name: r.Protocol, Metadata: r.Metadata}},
	}, &answer, func() int16 { return answer.ErrorCode })
	if errors.Is(err, kafka.MemberIDRequired) { // an answer, so it may be looked at
		return Joined{MemberID: answer.MemberID}, fmt.Errorf("join group %s: %w", g.id, err)
	}
	if err != nil {
		return Joined{}, fmt.Errorf("join group %s: %w", g.id, err)
	}
	joined := Joined{MemberID: answer.MemberID, Generation: answer.GenerationID, Leader: answer.LeaderID == answer.MemberID && len(answer.Members) > 0}
	for _, m := range answer.Members {
		joined.Members = append(joined.Members, Member{m.MemberID, m.GroupInstanceID, m.Metadata})
	}
	return joined, nil
}

// SyncRequest asks for this member's assignment. The leader brings those of all.
type SyncRequest struct {
	MemberID, InstanceID string
	Generation           int32
	Assignments          map[string][]byte // by member id; of the leader only
}

type syncGroupRequest struct {
	GroupID         string                `kafka:"min=v0,max=v3"`
	GenerationID    int32                 `kafka:"min=v0,max=v3"`
	MemberID        string                `kafka:"min=v0,max=v3"`
	GroupInstanceID string                `kafka:"min=v3,max=v3,nullable"`
	Assignments     []syncGroupAssignment `kafka:"min=v0,max=v3"`
}

type syncGroupAssignment struct {
	MemberID   string `kafka:"min=v0,max=v3"`
	Assignment []byte `kafka:"min=v0,max=v3"`
}

type syncGroupResponse struct {
	ThrottleTimeMS int32  `kafka:"min=v1,max=v3"`
	ErrorCode      int16  `kafka:"min=v0,max=v3"`
	Assignment     []byte `kafka:"min=v0,max=v3"`
}

// Sync returns the assignment, as the leader wrote it. It blocks until the leader has.
func (g *Group) Sync(ctx context.Context, r *SyncRequest) ([]byte, error) {
	request := syncGroupRequest{GroupID: g.id, GenerationID: r.Generation, MemberID: r.MemberID, GroupInstanceID: r.InstanceID}
	for id, assignment := range r.Assignments {
		request.Assignments = append(request.Assignments, syncGroupAssignment{id, assignment})
	}
	var answer syncGroupResponse
	if _, err := g.call(ctx, protocol.SyncGroup, 3, request, &answer, func() int16 { return answer.ErrorCode }); err != nil {
		return nil, fmt.Errorf("sync group %s: %w", g.id, err)
	}
	return answer.Assignment, nil
}

type heartbeatRequest struct {
	GroupID         string `kafka:"min=v0,max=v3"`
	GenerationID    int32  `kafka:"min=v0,max=v3"`
	MemberID        string `kafka:"min=v0,max=v3"`
	GroupInstanceID string `kafka:"min=v3,max=v3,nullable"`
}

type heartbeatResponse struct {
	ThrottleTimeMS int32 `kafka:"min=v1,max=v3"`
	ErrorCode      int16 `kafka:"min=v0,max=v3"`
}

// Heartbeat says that the member is there. The error is RebalanceInProgress where it has to join again, and keeps what it
// has meanwhile.
func (g *Group) Heartbeat(ctx context.Context, member, instance string, generation int32) error {
	var answer heartbeatResponse
	_, err := g.call(ctx, protocol.Heartbeat, 3, heartbeatRequest{g.id, generation, member, instance}, &answer, func() int16 { return answer.ErrorCode })
	if err != nil {
		return fmt.Errorf("heartbeat of group %s: %w", g.id, err)
	}
	return nil
}

type leaveGroupRequest struct {
	GroupID  string             `kafka:"min=v0,max=v3"`
	MemberID string             `kafka:"min=v0,max=v2"`
	Members  []leaveGroupMember `kafka:"min=v3,max=v3"`
}

type leaveGroupMember struct {
	MemberID        string `kafka:"min=v3,max=v3"`
	GroupInstanceID string `kafka:"min=v3,max=v3,nullable"`
}

type leaveGroupResponse struct {
	ThrottleTimeMS int32              `kafka:"min=v1,max=v3"`
	ErrorCode      int16              `kafka:"min=v0,max=v3"`
	Members        []leaveGroupResult `kafka:"min=v3,max=v3"`
}

type leaveGroupResult struct {
	MemberID        string `kafka:"min=v3,max=v3"`
	GroupInstanceID string `kafka:"min=v3,max=v3,nullable"`
	ErrorCode       int16  `kafka:"min=v3,max=v3"`
}

// Leave ends a membership: the coordinator gives the member's partitions to the others at once. A static member that only
// restarts does not leave. A static member may be named by its instance id alone, by anybody; the broker must know
// KIP-345 (2.4) then.
func (g *Group) Leave(ctx context.Context, member, instance string) error {
	var answer leaveGroupResponse
	_, err := g.call(ctx, protocol.LeaveGroup, 3, leaveGroupRequest{
		GroupID: g.id, MemberID: member, Members: []leaveGroupMember{{member, instance}},
	}, &answer, func() int16 { return answer.ErrorCode })
	if err != nil {
		return fmt.Errorf("leave group %s: %w", g.id, err)
	}
	for _, m := range answer.Members {
		if err := failure(m.ErrorCode); err != nil {
			return fmt.Errorf("leave group %s: member %s%s: %w", g.id, m.MemberID, m.GroupInstanceID, err)
		}
	}
	return nil
}

// Fenced says whether the error of a commit or heartbeat means that the member, as it was then, does not belong to the group
// any more. IllegalGeneration may also be a commit that crossed the answer to a join: compare what was sent with what is held.
func Fenced(err error) bool {
	return errors.Is(err, kafka.IllegalGeneration) || errors.Is(err, kafka.UnknownMemberId) || errors.Is(err, kafka.FencedInstanceID)
}
