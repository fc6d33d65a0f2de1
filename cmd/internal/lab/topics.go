package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"
)

// Topic is a topic to create.
type Topic struct {
	Name       string
	Partitions int               // default 1
	Copies     int               // the replication factor; default 1
	Config     map[string]string // such as min.insync.replicas
}

// CreateTopics creates topics and waits until each partition has a leader that runs.
func (k *Kafka) CreateTopics(ctx context.Context, topics ...Topic) error {
	configs := make([]kafka.TopicConfig, len(topics))
	for i, t := range topics {
		configs[i] = kafka.TopicConfig{Topic: t.Name, NumPartitions: max(t.Partitions, 1), ReplicationFactor: max(t.Copies, 1)}
		for name, value := range t.Config {
			configs[i].ConfigEntries = append(configs[i].ConfigEntries, kafka.ConfigEntry{ConfigName: name, ConfigValue: value})
		}
	}
	node := slices.IndexFunc(k.Nodes, func(n *KafkaNode) bool { return n.Running() })
	if node < 0 {
		return fmt.Errorf("create topics: %w", errNotRunning)
	}
	// Any broker passes it on to the controller.
	err := k.Nodes[node].talk(ctx, func(c *kafka.Conn) error { return c.CreateTopics(configs...) })
	if err != nil {
		return fmt.Errorf("create topics: %w", err)
	}
	for _, t := range topics {
		if err := Await(ctx, "topic "+t.Name, func() bool { return k.Nodes[node].leads(ctx, t.Name, max(t.Partitions, 1)) }); err != nil {
			return err
		}
	}
	return k.WaitReady(ctx)
}

// WaitReady waits until each node that runs now knows the others, and a running leader for every partition. It is an
// error, at once, if one of them ends meanwhile.
func (k *Kafka) WaitReady(ctx context.Context) error {
	var running []*KafkaNode
	for _, n := range k.Nodes {
		if n.Running() {
			running = append(running, n)
		}
	}
	var ended *KafkaNode
	err := Await(ctx, "kafka", func() bool {
		for _, n := range running {
			if !n.Running() {
				ended = n
				return true
			}
			if !n.knows(ctx, running) {
				return false
			}
		}
		return true
	})
	if ended != nil {
		return fmt.Errorf("kafka node %d ended: see %s", ended.ID, ended.Log())
	}
	return err
}

// knows asks the node itself, over a connection of its own: a kafka.Transport would answer from its cache.
func (n *KafkaNode) knows(ctx context.Context, running []*KafkaNode) bool {
	err := n.talk(ctx, func(c *kafka.Conn) error {
		brokers, err := c.Brokers()
		if err != nil {
			return err
		}
		alive := func(port int) bool {
			return slices.ContainsFunc(running, func(r *KafkaNode) bool { return r.port == port })
		}
		for _, r := range running {
			if !slices.ContainsFunc(brokers, func(b kafka.Broker) bool { return b.Port == r.port }) {
				return errors.New("a node is not known yet")
			}
		}
		partitions, err := c.ReadPartitions()
		if err != nil {
			return err
		}
		for _, p := range partitions {
			if !alive(p.Leader.Port) {
				return errors.New("a partition has no leader")
			}
		}
		return nil
	})
	return err == nil
}

func (n *KafkaNode) leads(ctx context.Context, topic string, partitions int) bool {
	err := n.talk(ctx, func(c *kafka.Conn) error {
		found, err := c.ReadPartitions(topic)
		if err == nil && len(found) != partitions {
			return errors.New("not all partitions are known yet")
		}
		return err
	})
	return err == nil
}

func (n *KafkaNode) talk(ctx context.Context, say func(*kafka.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", n.Addr())
	if err != nil {
		return err
	}
	c := kafka.NewConn(conn, "", 0)
	defer c.Close()
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return err
	}
	return say(c)
}

// Client is a new client of the cluster; it notices a change of leaders within half a second. CloseClient ends it.
func (k *Kafka) Client() *kafka.Client {
	return &kafka.Client{
		Addr:      kafka.TCP(k.Brokers()...),
		Transport: &kafka.Transport{MetadataTTL: 500 * time.Millisecond},
	}
}

// CloseClient ends what a client's transport does by itself: it asks for metadata twice a second, for ever.
func CloseClient(c *kafka.Client) {
	if t, ok := c.Transport.(*kafka.Transport); ok {
		t.CloseIdleConnections()
	}
}

// Ends returns, for each partition of a topic, the offset that the next record will have.
func (k *Kafka) Ends(ctx context.Context, topic string) (map[int]int64, error) {
	var partitions []kafka.OffsetRequest
	err := k.Nodes[0].talk(ctx, func(c *kafka.Conn) error {
		found, err := c.ReadPartitions(topic)
		for _, p := range found {
			partitions = append(partitions, kafka.LastOffsetOf(p.ID))
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("partitions of %s: %w", topic, err)
	}
	client := k.Client()
	defer CloseClient(client)
	answer, err := client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: partitions}})
	if err != nil {
		return nil, fmt.Errorf("ends of %s: %w", topic, err)
	}
	ends := make(map[int]int64)
	for _, p := range answer.Topics[topic] {
		if p.Error != nil {
			return nil, fmt.Errorf("end of %s/%s: %w", topic, strconv.Itoa(p.Partition), p.Error)
		}
		ends[p.Partition] = p.LastOffset
	}
	return ends, nil
}

// Committed returns the offset that a group has committed for each partition of a topic, -1 where it has none.
func (k *Kafka) Committed(ctx context.Context, group, topic string) (map[int]int64, error) {
	ends, err := k.Ends(ctx, topic)
	if err != nil {
		return nil, err
	}
	request := &kafka.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{topic: nil}}
	for p := range ends {
		request.Topics[topic] = append(request.Topics[topic], p)
	}
	client := k.Client()
	defer CloseClient(client)
	answer, err := client.OffsetFetch(ctx, request)
	if err == nil {
		err = answer.Error
	}
	if err != nil {
		return nil, fmt.Errorf("commits of %s: %w", group, err)
	}
	committed := make(map[int]int64)
	for _, p := range answer.Topics[topic] {
		committed[p.Partition] = p.CommittedOffset
	}
	return committed, nil
}
