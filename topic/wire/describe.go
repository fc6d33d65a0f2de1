package wire

import (
	"context"
	"fmt"

	"github.com/segmentio/kafka-go/protocol"
)

// Description is what the coordinator knows of a group.
type Description struct {
	State    string // Stable, PreparingRebalance, CompletingRebalance, Empty or Dead
	Type     string // consumer; another one, or none, is not a group of this kind
	Protocol string // the members' way of sharing partitions
	Members  []DescribedMember
}

// DescribedMember is a member of a group, and what it was given.
type DescribedMember struct {
	ID, InstanceID, ClientID, Host string
	Assignment                     []byte // see ParseAssignment
}

type describeGroupsRequest struct {
	Groups            []string `kafka:"min=v0,max=v4"`
	IncludeOperations bool     `kafka:"min=v3,max=v4"`
}

type describeGroupsResponse struct {
	ThrottleTimeMS int32                 `kafka:"min=v1,max=v4"`
	Groups         []describeGroupResult `kafka:"min=v0,max=v4"`
}

type describeGroupResult struct {
	ErrorCode    int16                 `kafka:"min=v0,max=v4"`
	GroupID      string                `kafka:"min=v0,max=v4"`
	State        string                `kafka:"min=v0,max=v4"`
	ProtocolType string                `kafka:"min=v0,max=v4"`
	ProtocolData string                `kafka:"min=v0,max=v4"`
	Members      []describeGroupMember `kafka:"min=v0,max=v4"`
	Operations   int32                 `kafka:"min=v3,max=v4"`
}

type describeGroupMember struct {
	MemberID        string `kafka:"min=v0,max=v4"`
	GroupInstanceID string `kafka:"min=v4,max=v4,nullable"`
	ClientID        string `kafka:"min=v0,max=v4"`
	ClientHost      string `kafka:"min=v0,max=v4"`
	Metadata        []byte `kafka:"min=v0,max=v4"`
	Assignment      []byte `kafka:"min=v0,max=v4"`
}

// Describe asks what the coordinator knows of the group. A group that does not exist is Dead, or has no members.
func (g *Group) Describe(ctx context.Context) (Description, error) {
	var answer describeGroupsResponse
	_, err := g.call(ctx, protocol.DescribeGroups, 4, describeGroupsRequest{Groups: []string{g.id}}, &answer, func() int16 {
		if len(answer.Groups) == 0 {
			return 0
		}
		return answer.Groups[0].ErrorCode
	})
	if err != nil {
		return Description{}, fmt.Errorf("describe group %s: %w", g.id, err)
	}
	if len(answer.Groups) != 1 {
		return Description{}, fmt.Errorf("describe group %s: the broker answered %d groups", g.id, len(answer.Groups))
	}
	r := &answer.Groups[0]
	d := Description{State: r.State, Type: r.ProtocolType, Protocol: r.ProtocolData}
	for _, m := range r.Members {
		d.Members = append(d.Members, DescribedMember{m.MemberID, m.GroupInstanceID, m.ClientID, m.ClientHost, m.Assignment})
	}
	return d, nil
}
