package topic

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/createtopics"
	"github.com/segmentio/kafka-go/protocol/describeconfigs"

	"fanout/topic/wire"
)

// Unreached is a broker that does not answer at the address that it gives itself.
type Unreached struct {
	Broker  int32
	Address string
	Err     error
}

// brokerTimeout bounds the attempt to reach one broker.
const brokerTimeout = 5 * time.Second

// Reach opens a connection to every broker at the address that it advertises, and says which of them cannot be reached, and how many
// there are.
func (c *Cluster) Reach(ctx context.Context) (unreached []Unreached, brokers int, err error) {
	found, err := c.wire.Metadata(ctx, &wire.MetadataRequest{Topics: []string{}})
	if err != nil {
		return nil, 0, c.Explain(err)
	}
	ctx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	var group sync.WaitGroup
	var mu sync.Mutex // guards unreached
	for _, b := range found.Brokers {
		group.Go(func() {
			address := net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
			conn, err := c.transport.Dial(ctx, "tcp", address)
			if err == nil {
				_ = conn.Close()
				return
			}
			mu.Lock()
			defer mu.Unlock()
			unreached = append(unreached, Unreached{b.ID, address, err})
		})
	}
	group.Wait()
	slices.SortFunc(unreached, func(a, b Unreached) int { return int(a.Broker) - int(b.Broker) })
	return unreached, len(found.Brokers), nil
}

// Uncreatable has the brokers judge the creation of topics without creating one, and says why they would refuse it.
func (c *Cluster) Uncreatable(ctx context.Context, specs []Spec) (map[string]error, error) {
	if len(specs) == 0 {
		return nil, nil
	}
	request := c.creation(specs)
	request.ValidateOnly = true
	response, err := c.create(ctx, request)
	if err != nil {
		return nil, err
	}
	refused := make(map[string]error)
	for _, t := range response.Topics {
		if err := kafka.Error(t.ErrorCode); t.ErrorCode != 0 && !errors.Is(err, kafka.TopicAlreadyExists) {
			refused[t.Name] = fmt.Errorf("%w%s", err, because(t.ErrorMessage))
		}
	}
	return refused, nil
}

// Forbidden says which topics the Kafka user may not do an operation on, as the brokers tell. Those that do not exist, or whose
// brokers do not tell, are left out.
func (c *Cluster) Forbidden(ctx context.Context, names []string, o wire.Operation) ([]string, error) {
	if len(names) == 0 {
		return nil, nil
	}
	found, err := c.wire.Metadata(ctx, &wire.MetadataRequest{Topics: names, Operations: true})
	if err != nil {
		return nil, c.Explain(err)
	}
	var forbidden []string
	for i := range found.Topics {
		t := &found.Topics[i]
		if t.Err == nil && !t.Allows(o) || errors.Is(t.Err, kafka.TopicAuthorizationFailed) {
			forbidden = append(forbidden, t.Name)
		}
	}
	slices.Sort(forbidden)
	return forbidden, nil
}

// MayJoin tries whether the Kafka user may be a member of a group (Read), without joining it: a heartbeat of nobody is refused with
// another error where that is allowed.
func (c *Cluster) MayJoin(ctx context.Context, group string) error {
	err := c.Group(group).Heartbeat(ctx, "", "", -1)
	if errors.Is(err, kafka.GroupAuthorizationFailed) {
		return err
	}
	return nil // other questions find out what else is wrong with the group
}

// BrokerConfig reads settings of a broker: nothing where the Kafka user may not (DescribeConfigs on the cluster).
func (c *Cluster) BrokerConfig(ctx context.Context) (map[string]string, error) {
	found, err := c.wire.Metadata(ctx, &wire.MetadataRequest{Topics: []string{}})
	if err != nil || len(found.Brokers) == 0 {
		return nil, c.Explain(err)
	}
	id := found.Brokers[0].ID
	answer, err := c.wire.Ask(ctx, id, &describeconfigs.Request{Resources: []describeconfigs.RequestResource{
		{ResourceType: int8(kafka.ResourceTypeBroker), ResourceName: strconv.Itoa(int(id))},
	}})
	if err != nil {
		return nil, fmt.Errorf("describe broker %d: %w", id, err)
	}
	response, ok := answer.(*describeconfigs.Response)
	if !ok {
		return nil, fmt.Errorf("describe broker %d: the broker answered %T", id, answer)
	}
	config := make(map[string]string)
	for _, r := range response.Resources {
		for _, e := range r.ConfigEntries { // none where it is refused
			config[e.ConfigName] = e.ConfigValue
		}
	}
	return config, nil
}

// creation asks for topics as they are specified.
func (c *Cluster) creation(specs []Spec) *createtopics.Request {
	request := &createtopics.Request{TimeoutMs: createTimeout}
	for _, s := range specs {
		request.Topics = append(request.Topics, s.creation(c.cfg.Kafka.Replication))
	}
	return request
}

func (c *Cluster) create(ctx context.Context, request *createtopics.Request) (*createtopics.Response, error) {
	answer, err := c.wire.Ask(ctx, wire.Controller, request)
	if err != nil {
		return nil, fmt.Errorf("create topics: %w", err)
	}
	response, ok := answer.(*createtopics.Response)
	if !ok {
		return nil, fmt.Errorf("create topics: the broker answered %T", answer)
	}
	return response, nil
}
