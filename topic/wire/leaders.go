package wire

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
)

// Leaders knows which broker leads each partition. It asks when it does not know, and again when it has been told to forget;
// questions that come up together are one request. It is safe for concurrent use.
type Leaders struct {
	client   *Client
	patience time.Duration // with one request

	mu     sync.Mutex // guards all below
	topics map[string]*leading
	asking *asking
}

// leading is what is known of a topic.
type leading struct {
	id         TopicID
	partitions map[int]PartitionInfo
	at         time.Time
}

// asking is a request that several wait for.
type asking struct {
	topics map[string]bool
	done   chan struct{}
	err    error            // of the request
	errs   map[string]error // of single topics
}

// NewLeaders makes a Leaders that knows nothing yet.
func NewLeaders(client *Client) *Leaders {
	return &Leaders{client: client, patience: askPatience, topics: make(map[string]*leading)}
}

// leadersAge is how long an answer is believed when nothing contradicts it. A leader that has moved refuses what it is asked; that a topic
// was replaced by another of its name may be told by nothing else.
const leadersAge = 10 * time.Second

// Leader is the broker that leads the partition, and its epoch. The error is a kafka.Error where the broker gave one.
func (l *Leaders) Leader(ctx context.Context, p Partition) (broker, epoch int32, err error) {
	found, _, err := l.Look(ctx, p)
	return found.Leader, found.Epoch, err
}

// Look is what is known of the partition, and its topic's id. The error is a kafka.Error where the broker gave one.
func (l *Leaders) Look(ctx context.Context, p Partition) (PartitionInfo, TopicID, error) {
	info, id, ok := l.known(p)
	var err error
	if !ok {
		err = l.ask(ctx, p.Topic)
		info, id, ok = l.known(p)
	}
	switch {
	case ok:
		return info, id, info.Err
	case err == nil:
		err = fmt.Errorf("%s: %w", p, kafka.UnknownTopicOrPartition)
	}
	return PartitionInfo{Leader: AnyBroker, Epoch: NoEpoch}, TopicID{}, err
}

func (l *Leaders) known(p Partition) (PartitionInfo, TopicID, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.topics[p.Topic]
	if t == nil || time.Since(t.at) > leadersAge {
		return PartitionInfo{}, TopicID{}, false
	}
	info, ok := t.partitions[p.ID]
	if ok && info.Leader < 0 && info.Err == nil {
		info.Err = kafka.LeaderNotAvailable
	}
	return info, t.id, ok
}

// Forget says that what is known of the topic is wrong: the next question asks the cluster.
func (l *Leaders) Forget(topic string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.topics, topic)
}

// ask brings the topic's leaders, in one request with what others ask meanwhile.
func (l *Leaders) ask(ctx context.Context, topic string) error {
	l.mu.Lock()
	a := l.asking
	first := a == nil
	if first {
		a = &asking{topics: make(map[string]bool), done: make(chan struct{}), errs: make(map[string]error)}
		l.asking = a
	}
	a.topics[topic] = true
	l.mu.Unlock()
	if first {
		l.answer(ctx, a)
	}
	select {
	case <-a.done:
		return cmp.Or(a.err, a.errs[topic])
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// askPause lets the partitions of a topic whose leader has moved ask together.
const askPause = 10 * time.Millisecond

// askPatience bounds the one request that all wait for: a broker that has frozen keeps its connections open, and answers on none.
const askPatience = 5 * time.Second

func (l *Leaders) answer(ctx context.Context, a *asking) {
	defer close(a.done)
	ctx, cancel := context.WithTimeout(ctx, l.patience)
	defer cancel()
	select {
	case <-time.After(askPause):
	case <-ctx.Done():
	}
	l.mu.Lock()
	l.asking = nil // who comes now asks the next time
	names := make([]string, 0, len(a.topics))
	for topic := range a.topics {
		names = append(names, topic)
	}
	l.mu.Unlock()
	cluster, err := l.client.Metadata(ctx, &MetadataRequest{Topics: names})
	if err != nil {
		a.err = err
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range cluster.Topics {
		if t.Err != nil {
			a.errs[t.Name] = fmt.Errorf("topic %s: %w", t.Name, t.Err)
			continue
		}
		known := &leading{id: t.ID, partitions: make(map[int]PartitionInfo, len(t.Partitions)), at: time.Now()}
		for _, p := range t.Partitions {
			known.partitions[p.ID] = p
		}
		l.topics[t.Name] = known
	}
}

// WrongLeader says whether the error means that another broker leads the partition, or this one does not know yet.
func WrongLeader(err error) bool {
	return errors.Is(err, kafka.NotLeaderForPartition) || errors.Is(err, kafka.LeaderNotAvailable) || errors.Is(err, kafka.BrokerNotAvailable) ||
		errors.Is(err, kafka.FencedLeaderEpoch) || errors.Is(err, kafka.UnknownLeaderEpoch) || errors.Is(err, kafka.ReplicaNotAvailable) ||
		errors.Is(err, kafka.UnknownTopicOrPartition)
}
