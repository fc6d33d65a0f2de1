package main

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// allow makes one of Kafka's rules for topics.
func (w *world) allow(t *testing.T, principal, name string, pattern kmsg.ACLResourcePatternType, operation kmsg.ACLOperation, permission kmsg.ACLPermissionType) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(w.kafka.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	rule := kmsg.NewCreateACLsRequestCreation()
	rule.ResourceType, rule.ResourceName, rule.ResourcePatternType = kmsg.ACLResourceTypeTopic, name, pattern
	rule.Principal, rule.Host, rule.Operation, rule.PermissionType = principal, "*", operation, permission
	request := kmsg.NewPtrCreateACLsRequest()
	request.Creations = append(request.Creations, rule)
	answer, err := request.RequestWith(t.Context(), client)
	if err != nil || len(answer.Results) != 1 || answer.Results[0].ErrorCode != 0 {
		t.Fatalf("%+v, %v", answer, err)
	}
}

// check warns where everybody may write to what fanout sends, and says nothing where it cannot know.
func TestCheckSeesTopicsOpenToAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "channel.email")
	w.ok(t, "", "topics", "create")
	const warning = "everybody (User:*) may write to"
	look := func(want string) {
		t.Helper()
		_, stdout, stderr := w.fanout(t, "", "check", "-o", "json")
		if (want == "") == strings.Contains(stdout, warning) || !strings.Contains(stdout, want) {
			t.Errorf("want %q:\n%s%s", want, stdout, stderr)
		}
	}
	const allowed, denied = kmsg.ACLPermissionTypeAllow, kmsg.ACLPermissionTypeDeny
	w.allow(t, "User:fanout", "fanout.", kmsg.ACLResourcePatternTypePrefixed, kmsg.ACLOperationWrite, allowed)
	w.allow(t, "User:*", "fanout.", kmsg.ACLResourcePatternTypePrefixed, kmsg.ACLOperationRead, allowed)
	w.allow(t, "User:*", "channel.", kmsg.ACLResourcePatternTypePrefixed, kmsg.ACLOperationAll, allowed)
	look("")
	w.allow(t, "User:*", "fanout.replay", kmsg.ACLResourcePatternTypeLiteral, kmsg.ACLOperationWrite, allowed)
	look(warning + " 1 topic of fanout's own, fanout.replay among them")
	w.allow(t, "User:*", "*", kmsg.ACLResourcePatternTypeLiteral, kmsg.ACLOperationAll, allowed)
	look("among them")
	w.allow(t, "User:*", "fanout.", kmsg.ACLResourcePatternTypePrefixed, kmsg.ACLOperationWrite, denied)
	look("")
	w.allow(t, "User:*", "*", kmsg.ACLResourcePatternTypeLiteral, kmsg.ACLOperationWrite, allowed)
	w.kafka.ControlKey(int16(kmsg.DescribeACLs), func(r kmsg.Request) (kmsg.Response, error, bool) {
		w.kafka.KeepControl()
		answer, _ := r.ResponseKind().(*kmsg.DescribeACLsResponse)
		answer.ErrorCode = 31 // CLUSTER_AUTHORIZATION_FAILED
		return answer, nil, true
	})
	look("")
}
