package topic

import (
	"context"
	"fmt"
	"strings"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/describeacls"

	"fanout/topic/wire"
)

// everybody is how Kafka's rules name whoever signs in, and whoever does not.
const everybody = "User:*"

// OpenToAll lists those of the topics that a rule of Kafka's lets everybody write to, as far as it may be asked: an error says
// that this user may not, or that the cluster has no rules.
func (c *Cluster) OpenToAll(ctx context.Context, names []string) ([]string, error) {
	answer, err := c.wire.Ask(ctx, wire.AnyBroker, &describeacls.Request{Filter: describeacls.ACLFilter{
		ResourceTypeFilter: int8(kafka.ResourceTypeTopic), ResourcePatternTypeFilter: int8(kafka.PatternTypeAny), PrincipalFilter: everybody,
		Operation: int8(kafka.ACLOperationTypeAny), PermissionType: int8(kafka.ACLPermissionTypeAny),
	}})
	if err != nil {
		return nil, fmt.Errorf("describe ACLs: %w", err)
	}
	response, ok := answer.(*describeacls.Response)
	if !ok {
		return nil, fmt.Errorf("describe ACLs: the broker answered %T", answer)
	}
	if response.ErrorCode != 0 {
		return nil, fmt.Errorf("describe ACLs: %w", Needs("Describe on the cluster", kafka.Error(response.ErrorCode)))
	}
	var open []string
	for _, name := range names {
		if may, never := writeRules(response.Resources, name); may && !never {
			open = append(open, name)
		}
	}
	return open, nil
}

// writeRules says whether a rule for everybody lets the topic be written to, and whether one forbids it, which wins.
func writeRules(resources []describeacls.Resource, name string) (may, never bool) {
	for _, r := range resources {
		if !covers(&r, name) {
			continue
		}
		for _, rule := range r.ACLs {
			if op := kafka.ACLOperationType(rule.Operation); op != kafka.ACLOperationTypeWrite && op != kafka.ACLOperationTypeAll {
				continue
			}
			switch kafka.ACLPermissionType(rule.PermissionType) { //nolint:exhaustive // a rule is one of the two
			case kafka.ACLPermissionTypeAllow:
				may = true
			case kafka.ACLPermissionTypeDeny:
				never = true
			}
		}
	}
	return may, never
}

func covers(r *describeacls.Resource, name string) bool {
	if kafka.PatternType(r.PatternType) == kafka.PatternTypePrefixed {
		return strings.HasPrefix(name, r.ResourceName)
	}
	return r.ResourceName == "*" || r.ResourceName == name
}
