package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/findcoordinator"
)

// Group sends one consumer group's messages to the broker that coordinates it, which it remembers until that broker says
// otherwise or cannot be reached. It is safe for concurrent use.
type Group struct {
	client *Client
	id     string

	mu          sync.Mutex // guards coordinator
	coordinator int32      // AnyBroker: not known
}

// Group makes a Group.
func (c *Client) Group(id string) *Group {
	return &Group{client: c, id: id, coordinator: AnyBroker}
}

// call sends a message to the coordinator. Its code is taken out of the response once that has come: a coordinator that has
// moved is looked for again by the next call.
func (g *Group) call(ctx context.Context, key protocol.ApiKey, newest int16, request, response any, code func() int16) (version int16, err error) {
	id, err := g.find(ctx)
	if err != nil {
		return 0, err
	}
	version, err = g.client.call(ctx, message{key, newest, toBroker(id)}, request, response)
	if err == nil {
		err = failure(code())
	}
	if Moved(err) || err != nil && !isCode(err) {
		g.forget(id)
	}
	return version, err
}

// find is the coordinator's id. Just after a cluster's first start there is none yet (KIP-98: error 15).
func (g *Group) find(ctx context.Context) (int32, error) {
	g.mu.Lock()
	id := g.coordinator
	g.mu.Unlock()
	if id != AnyBroker {
		return id, nil
	}
	answer, err := g.client.roundTrip(ctx, &findcoordinator.Request{Key: g.id})
	if err != nil {
		return AnyBroker, fmt.Errorf("find coordinator of group %s: %w", g.id, err)
	}
	found, ok := answer.(*findcoordinator.Response)
	if !ok {
		return AnyBroker, fmt.Errorf("find coordinator of group %s: the broker answered %T", g.id, answer)
	}
	if found.ErrorCode != 0 || found.NodeID < 0 {
		return AnyBroker, fmt.Errorf("find coordinator of group %s: %w", g.id, failure(max(found.ErrorCode, int16(kafka.GroupCoordinatorNotAvailable))))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.coordinator = found.NodeID
	return found.NodeID, nil
}

func (g *Group) forget(id int32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.coordinator == id {
		g.coordinator = AnyBroker
	}
}

// Moved says whether the error means that another broker, or none for now, coordinates the group. Asking again helps.
func Moved(err error) bool {
	return errors.Is(err, kafka.GroupLoadInProgress) || errors.Is(err, kafka.GroupCoordinatorNotAvailable) || errors.Is(err, kafka.NotCoordinatorForGroup)
}

// isCode says whether a broker answered at all.
func isCode(err error) bool {
	_, ok := errors.AsType[kafka.Error](err)
	return ok
}

// Unreachable says whether the error means that no answer came: a connection that fails, or time that ran out.
func Unreachable(err error) bool {
	if err == nil || isCode(err) {
		return errors.Is(err, kafka.BrokerNotAvailable) || errors.Is(err, kafka.RequestTimedOut)
	}
	_, network := errors.AsType[net.Error](err)
	return network || !errors.Is(err, context.Canceled)
}
