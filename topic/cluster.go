package topic

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/describeconfigs"
	"github.com/segmentio/kafka-go/protocol/incrementalalterconfigs"
	"go.uber.org/zap"

	"fanout/dispatcher"
	"fanout/topic/wire"
)

// Cluster is the Kafka cluster of a configuration. It is safe for concurrent use, and holds the connections of its process.
type Cluster struct {
	cfg       Config
	transport *kafka.Transport
	wire      *wire.Client
	leaders   *wire.Leaders
	buffers   sync.Pool // of *[]byte: memory for answers to fetches
	turns     *turns    // for unpacking them
	failing   failingReplicas
}

// Option changes how a Cluster is made.
type Option func(*options)

type options struct {
	dial DialFunc
	log  *zap.Logger
}

// WithDial sets what opens connections to brokers; TLS and signing in are done on top of it. The default is the operating
// system's.
func WithDial(dial DialFunc) Option { return func(o *options) { o.dial = dial } }

// WithLog sets where it is said that a replica cannot be read, and that it can again. The default is nowhere.
func WithLog(log *zap.Logger) Option { return func(o *options) { o.log = log } }

// clientName is what brokers know this client by, in their logs and quotas.
const clientName = "fanout"

// NewCluster makes a Cluster. Its error says what is wrong with the files that the configuration names; nothing is connected
// before something is asked. Close it.
func NewCluster(cfg Config, opts ...Option) (*Cluster, error) {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	dial, mechanism, err := security(&cfg.Kafka, o.dial)
	if err != nil {
		return nil, err
	}
	transport := &kafka.Transport{
		Dial:           dial,
		DialTimeout:    5 * time.Second,
		IdleTimeout:    30 * time.Second,
		MetadataTTL:    2 * time.Second, // of the brokers' addresses
		MetadataTopics: []string{},      // leaders are looked up in package wire
		ClientID:       clientName,
		SASL:           mechanism,
	}
	client := wire.NewClient(transport, kafka.TCP(cfg.Kafka.Brokers...), clientName)
	return &Cluster{
		cfg: cfg, transport: transport, wire: client, leaders: wire.NewLeaders(client), turns: newTurns(unpackedAtOnce), failing: failingReplicas{log: o.log},
	}, nil
}

// ReplicasGivenUp is how many brokers are not read as replicas at the moment, since they failed (docs/contract.md#rack).
func (c *Cluster) ReplicasGivenUp() int { return c.failing.left(time.Now()) }

// Config is what the Cluster was made for.
func (c *Cluster) Config() *Config { return &c.cfg }

// Close lets go of the connections.
func (c *Cluster) Close() { c.transport.CloseIdleConnections() }

// Group speaks for a consumer group.
func (c *Cluster) Group(id string) *wire.Group { return c.wire.Group(id) }

// Explain says of an error that comes from signing in which key to look at; others it leaves alone.
func (c *Cluster) Explain(err error) error { return c.cfg.Kafka.SASL.explain(err) }

// Sizes counts the partitions of every topic of the cluster that the Kafka user may describe. It is an error where that hides a
// source: an authorizer makes a topic look as if it did not exist.
func (c *Cluster) Sizes(ctx context.Context) (map[string]int, error) {
	all, err := c.wire.Metadata(ctx, &wire.MetadataRequest{})
	if err != nil {
		return nil, c.Explain(err)
	}
	sizes := make(map[string]int, len(all.Topics))
	for i := range all.Topics {
		if t := &all.Topics[i]; t.Err == nil {
			sizes[t.Name] = len(t.Partitions)
		}
	}
	for i := range c.cfg.Sources {
		if name := c.cfg.Sources[i].Topic; sizes[name] == 0 {
			if err := c.hidden(ctx, name); err != nil {
				return nil, err
			}
		}
	}
	return sizes, nil
}

// hidden says whether an authorizer hides the topic. A question for all topics leaves out what may not be described; one that names it
// is answered.
func (c *Cluster) hidden(ctx context.Context, name string) error {
	_, err := c.size(ctx, name)
	if errors.Is(err, kafka.TopicAuthorizationFailed) {
		return fmt.Errorf("topic %s: %w", name, Needs("Read and Describe", err))
	}
	return nil // another question
}

// SizesOf counts the partitions of those of the topics that exist. Topics that may not be described are an error, unless lenient.
func (c *Cluster) SizesOf(ctx context.Context, names []string, lenient bool) (map[string]int, error) {
	sizes := make(map[string]int, len(names))
	if len(names) == 0 {
		return sizes, nil
	}
	found, err := c.wire.Metadata(ctx, &wire.MetadataRequest{Topics: names})
	if err != nil {
		return nil, c.Explain(err)
	}
	for i := range found.Topics {
		switch t := &found.Topics[i]; {
		case t.Err == nil:
			sizes[t.Name] = len(t.Partitions)
		case NoTopic(t.Err), lenient && errors.Is(t.Err, kafka.TopicAuthorizationFailed):
		default:
			return nil, fmt.Errorf("topic %s: %w", t.Name, Needs("Describe on topic "+t.Name, t.Err))
		}
	}
	return sizes, nil
}

// size counts the partitions of one topic. A topic that does not exist is kafka.UnknownTopicOrPartition.
func (c *Cluster) size(ctx context.Context, name string) (int, error) {
	sizes, err := c.SizesOf(ctx, []string{name}, false)
	if err == nil && sizes[name] == 0 {
		err = fmt.Errorf("topic %s: %w", name, kafka.UnknownTopicOrPartition)
	}
	return sizes[name], err
}

// Existing picks the configured source topics; or, where none is configured, those of the default ones that are among sizes. The
// error is a *MissingTopicsError where a topic that must exist does not.
func (c *Config) Existing(sizes map[string]int) ([]SourceConfig, error) {
	byDefault := len(c.Sources) == 0
	var sources []SourceConfig
	var absent []string
	for _, s := range c.AllSources() {
		if sizes[s.Topic] > 0 {
			sources = append(sources, s)
		} else {
			absent = append(absent, s.Topic)
		}
	}
	if len(absent) > 0 && (!byDefault || len(sources) == 0) {
		return nil, &MissingTopicsError{Topics: absent, Brokers: c.Kafka.Brokers, None: byDefault}
	}
	return sources, nil
}

// createTimeout is how long the controller may take, in milliseconds, before it says that it goes on by itself.
const createTimeout = 10_000

// Create creates those of the topics that do not exist, and says which it has created. A topic that somebody else has created
// meanwhile is fine too.
func (c *Cluster) Create(ctx context.Context, specs []Spec) ([]string, error) {
	if len(specs) == 0 {
		return nil, nil
	}
	response, err := c.create(ctx, c.creation(specs))
	if err != nil {
		return nil, err
	}
	var created []string
	var failed []error
	for _, t := range response.Topics {
		switch err := kafka.Error(t.ErrorCode); {
		case t.ErrorCode == 0:
			created = append(created, t.Name)
			c.leaders.Forget(t.Name)
		case err != kafka.TopicAlreadyExists:
			failed = append(failed, fmt.Errorf("create topic %s: %w%s", t.Name, Needs("Create", err), because(t.ErrorMessage)))
		}
	}
	slices.Sort(created)
	return created, errors.Join(failed...)
}

// because adds what a broker says about an error.
func because(text string) string {
	if text == "" {
		return ""
	}
	return ": " + text
}

// Describe reads the configuration of topics that exist: retention.ms, min.insync.replicas and the like.
func (c *Cluster) Describe(ctx context.Context, names []string) (map[string]map[string]string, error) {
	request := new(describeconfigs.Request)
	for _, name := range names {
		request.Resources = append(request.Resources, describeconfigs.RequestResource{ResourceType: int8(kafka.ResourceTypeTopic), ResourceName: name})
	}
	answer, err := c.wire.Ask(ctx, wire.AnyBroker, request)
	if err != nil {
		return nil, fmt.Errorf("describe topics: %w", err)
	}
	response, ok := answer.(*describeconfigs.Response)
	if !ok {
		return nil, fmt.Errorf("describe topics: the broker answered %T", answer)
	}
	out := make(map[string]map[string]string)
	for _, r := range response.Resources {
		if r.ErrorCode != 0 {
			return nil, fmt.Errorf("configuration of topic %s: %w%s", r.ResourceName, Needs("DescribeConfigs", kafka.Error(r.ErrorCode)), because(r.ErrorMessage))
		}
		entries := make(map[string]string, len(r.ConfigEntries))
		for _, e := range r.ConfigEntries {
			entries[e.ConfigName] = e.ConfigValue
		}
		out[r.ResourceName] = entries
	}
	return out, nil
}

// Alter changes settings of topics, by topic and key; other settings stay as they are.
func (c *Cluster) Alter(ctx context.Context, settings map[string]map[string]string) error {
	request := new(incrementalalterconfigs.Request)
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		resource := incrementalalterconfigs.RequestResource{ResourceType: int8(kafka.ResourceTypeTopic), ResourceName: name}
		for _, key := range slices.Sorted(maps.Keys(settings[name])) {
			resource.Configs = append(resource.Configs, incrementalalterconfigs.RequestConfig{Name: key, Value: settings[name][key]})
		}
		request.Resources = append(request.Resources, resource)
	}
	answer, err := c.wire.Ask(ctx, wire.Controller, request)
	if err != nil {
		return fmt.Errorf("change topics: %w", err)
	}
	response, ok := answer.(*incrementalalterconfigs.Response)
	if !ok {
		return fmt.Errorf("change topics: the broker answered %T", answer)
	}
	var failed []error
	for _, r := range response.Responses {
		if r.ErrorCode != 0 {
			failed = append(failed, fmt.Errorf("change topic %s: %w%s", r.ResourceName, Needs("AlterConfigs", kafka.Error(r.ErrorCode)), because(r.ErrorMessage)))
		}
	}
	return errors.Join(failed...)
}

// Replicas is how many replicas the partition of a topic has that has fewest, and of in-sync replicas likewise.
type Replicas struct{ All, InSync int }

// Replicas counts the replicas of each topic that exists.
func (c *Cluster) Replicas(ctx context.Context, names []string) (map[string]Replicas, error) {
	found, err := c.wire.Metadata(ctx, &wire.MetadataRequest{Topics: names})
	if err != nil {
		return nil, err
	}
	out := make(map[string]Replicas)
	for i := range found.Topics {
		t := &found.Topics[i]
		for i, p := range t.Partitions {
			now := Replicas{p.Replicas, p.Sync}
			if i > 0 {
				before := out[t.Name]
				now = Replicas{min(before.All, now.All), min(before.InSync, now.InSync)}
			}
			out[t.Name] = now
		}
	}
	return out, nil
}

// Produce writes records to a partition, as one batch, and returns the offset of the first when all in-sync replicas have them.
func (c *Cluster) Produce(ctx context.Context, p Partition, records []kafka.Record) (int64, error) {
	at, err := c.leaders.Produce(ctx, &wire.ProduceRequest{Partition: p, Records: records})
	if err != nil {
		return 0, Needs("Write", err)
	}
	return at, nil
}

// ProduceBatch writes a batch that was packed already. See Produce.
func (c *Cluster) ProduceBatch(ctx context.Context, p Partition, batch []byte) (int64, error) {
	at, err := c.leaders.ProduceBatch(ctx, p, batch)
	if err != nil {
		return 0, Needs("Write", err)
	}
	return at, nil
}

// PartitionCount asks how many partitions the topic has. A topic that does not exist is kafka.UnknownTopicOrPartition.
func (c *Cluster) PartitionCount(ctx context.Context, name string) (int, error) {
	return c.size(ctx, name)
}

// Send writes one record, to the partition that Java's clients choose for its key, and waits for all in-sync replicas. A nil
// key or value is null.
func (c *Cluster) Send(ctx context.Context, name string, key, value []byte, headers []Header) (dispatcher.Origin, error) {
	n, err := c.size(ctx, name)
	if err != nil {
		return dispatcher.Origin{}, fmt.Errorf("send to %s: %w", name, err)
	}
	p := Partition{Topic: name}
	if key != nil {
		p.ID = kafka.Murmur2Balancer{}.Balance(kafka.Message{Key: key}, partitionIDs(n)...)
	}
	at, err := c.Produce(ctx, p, []kafka.Record{{Time: time.Now(), Key: kafka.NewBytes(key), Value: kafka.NewBytes(value), Headers: headers}})
	if err != nil {
		return dispatcher.Origin{}, fmt.Errorf("send to %s: %w", name, err)
	}
	return dispatcher.Origin{Topic: name, Partition: p.ID, Offset: at}, nil
}

func partitionIDs(n int) []int {
	ids := make([]int, n)
	for i := range ids {
		ids[i] = i
	}
	return ids
}

// Partitions are the partitions of a topic of that size.
func Partitions(name string, size int) []Partition {
	all := make([]Partition, size)
	for i := range all {
		all[i] = Partition{Topic: name, ID: i}
	}
	return all
}

// Offsets asks the partitions' leaders for offsets. See wire.Leaders.Offsets.
func (c *Cluster) Offsets(ctx context.Context, r *wire.OffsetRequest) (map[Partition]int64, error) {
	found, err := c.leaders.Offsets(ctx, r)
	return found, Needs("Describe", err)
}

// OffsetsAt asks for one offset of each partition: wire.Earliest, wire.Latest, or that of the first record that is not older than a time
// in Unix ms; -1 where there is none. It is an error where one is not answered.
func (c *Cluster) OffsetsAt(ctx context.Context, partitions []Partition, at int64) (map[Partition]int64, error) {
	req := wire.OffsetRequest{At: make(map[Partition]int64, len(partitions))}
	for _, p := range partitions {
		req.At[p] = at
	}
	found, err := c.Offsets(ctx, &req)
	if err != nil {
		return nil, err
	}
	for _, p := range partitions {
		if _, ok := found[p]; !ok {
			return nil, fmt.Errorf("offsets of %s: no answer", p)
		}
	}
	return found, nil
}

// Look is what is known of the partition's leader, and its topic's id: not older than a few minutes, nor than the last refusal.
func (c *Cluster) Look(ctx context.Context, p Partition) (wire.PartitionInfo, wire.TopicID, error) {
	return c.leaders.Look(ctx, p)
}

// TopicID tells the topic from another that had its name before, or in another cluster, as of now; empty where brokers do not tell (before 2.8).
func (c *Cluster) TopicID(ctx context.Context, name string) (string, error) {
	_, id, err := c.LookAgain(ctx, Partition{Topic: name})
	return id.String(), err
}

// LookAgain is Look with an answer that is fresh.
func (c *Cluster) LookAgain(ctx context.Context, p Partition) (wire.PartitionInfo, wire.TopicID, error) {
	c.leaders.Forget(p.Topic)
	return c.leaders.Look(ctx, p)
}

// EndOfEpoch asks where the log of the partition's leader ends for an epoch (KIP-320).
func (c *Cluster) EndOfEpoch(ctx context.Context, p Partition, epoch int32) (wire.EpochEnd, error) {
	return c.leaders.EndOfEpoch(ctx, p, epoch)
}

// LogRange is a partition's first offset and the one after its last committed record.
func (c *Cluster) LogRange(ctx context.Context, p Partition) (Range, error) {
	from, err := c.leaders.Offsets(ctx, &wire.OffsetRequest{At: map[Partition]int64{p: wire.Earliest}})
	if err != nil {
		return Range{}, Needs("Describe", err)
	}
	to, err := c.leaders.Offsets(ctx, &wire.OffsetRequest{At: map[Partition]int64{p: wire.Latest}})
	if err != nil {
		return Range{}, Needs("Describe", err)
	}
	return Range{from[p], to[p]}, nil
}
