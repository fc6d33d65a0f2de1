package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"

	"fanout/dispatcher"
	"fanout/event"
)

// names are the topics that fanout owns, besides the retry tiers.
type names struct {
	replay, deadLetter, attempts string
}

func newNames(prefix string) names {
	return names{replay: prefix + ".replay", deadLetter: prefix + ".dead-letter", attempts: prefix + ".attempts"}
}

// DefaultSources are the topics that are read where the configuration names none (DESIGN.md section 4).
func DefaultSources() []SourceConfig {
	topics := []string{"channel.email", "channel.sms", "channel.call", "channel.push", "channel.web_push", "channel.inapp_web"}
	sources := make([]SourceConfig, len(topics))
	for i, t := range topics {
		sources[i].Topic = t
	}
	return sources
}

// Retentions of DESIGN.md section 4.
const (
	retryExtra          = 7 * 24 * time.Hour // beyond max_age
	deadLetterRetention = 30 * 24 * time.Hour
)

// TopicSpec is a topic that fanout owns, as it is created.
type TopicSpec struct {
	Name       string
	Partitions int
	Config     map[string]string
}

// Owned lists the topics that fanout owns under this configuration.
func (c *Config) Owned() []TopicSpec {
	ladder := newLadder(c.TopicPrefix, c.Schedule, c.ParkMin, c.ParkMax)
	names := newNames(c.TopicPrefix)
	room := strconv.Itoa(c.largestBody() + 256<<10)
	spec := func(name string, partitions int, retention time.Duration) TopicSpec {
		return TopicSpec{Name: name, Partitions: partitions, Config: map[string]string{
			"cleanup.policy": "delete", "retention.ms": strconv.FormatInt(retention.Milliseconds(), 10), "retention.bytes": "-1",
			"max.message.bytes": room,
		}}
	}
	var specs []TopicSpec
	for _, topic := range ladder.topics() {
		specs = append(specs, spec(topic, c.Kafka.RetryPartitions, c.MaxAge+retryExtra))
	}
	specs = append(specs, spec(names.replay, c.Kafka.Partitions, deadLetterRetention), spec(names.deadLetter, c.Kafka.Partitions, deadLetterRetention))
	if c.AttemptsTopic {
		specs = append(specs, spec(names.attempts, c.Kafka.Partitions, c.MaxAge+retryExtra))
	}
	return specs
}

// MissingTopicsError says that source topics which the configuration names do not exist. fanout does not create
// them: their producers own them.
type MissingTopicsError struct {
	Topics  []string
	Brokers []string
	None    bool // no source was configured, and none of the default topics exists
}

// Error names the topics, and how to create them.
func (e *MissingTopicsError) Error() string {
	var b strings.Builder
	if e.None {
		b.WriteString("none of the default source topics exists; name yours under sources:, or create at least one of them:")
	} else {
		fmt.Fprintf(&b, "source topic %s does not exist; create it:", strings.Join(e.Topics, ", "))
	}
	for _, t := range e.Topics {
		fmt.Fprintf(&b, "\n    kafka-topics.sh --bootstrap-server %s --create --topic %s --partitions 12", e.Brokers[0], t)
	}
	return b.String()
}

// Admin asks and changes what Kafka holds for fanout. It reads no records.
type Admin struct {
	cfg    Config
	client *kafka.Client
}

// NewAdmin makes an Admin; it connects when it is first asked something. Close it.
func NewAdmin(cfg Config) (*Admin, error) {
	transport, err := newTransport(&cfg, nil)
	if err != nil {
		return nil, err
	}
	return &Admin{cfg: cfg, client: &kafka.Client{Addr: kafka.TCP(cfg.Kafka.Brokers...), Transport: transport}}, nil
}

// Close lets go of the connections.
func (a *Admin) Close() {
	if t, ok := a.client.Transport.(*kafka.Transport); ok {
		t.CloseIdleConnections()
	}
}

// Partitions counts the partitions of every topic of the cluster that the Kafka user may describe. It is an error where
// that hides a source: an authorizer makes a topic look as if it did not exist.
func (a *Admin) Partitions(ctx context.Context) (map[string]int, error) {
	res, err := a.client.Metadata(ctx, &kafka.MetadataRequest{Addr: a.client.Addr})
	if err != nil {
		return nil, a.cfg.Kafka.SASL.explain(err)
	}
	counts := make(map[string]int, len(res.Topics))
	for _, t := range res.Topics {
		if t.Error == nil {
			counts[t.Name] = len(t.Partitions)
		}
	}
	for _, s := range a.cfg.Sources {
		if counts[s.Topic] == 0 {
			if err := a.hidden(ctx, s.Topic); err != nil {
				return nil, err
			}
		}
	}
	return counts, nil
}

// hidden says whether an authorizer hides the topic. kafka-go answers questions for metadata from what it knows; a
// group's coordinator says it.
func (a *Admin) hidden(ctx context.Context, topic string) error {
	res, err := a.client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: a.cfg.Kafka.Group, Topics: map[string][]int{topic: {0}}})
	if err != nil {
		return nil //nolint:nilerr // another question
	}
	for _, p := range res.Topics[topic] {
		if errors.Is(p.Error, kafka.TopicAuthorizationFailed) {
			return fmt.Errorf("topic %s: %w", topic, needs("Read and Describe", p.Error))
		}
	}
	return nil
}

// Sources are the configured source topics; or, where none is configured, those of the default ones that exist. The
// error is a *MissingTopicsError where a topic that must exist does not.
func (a *Admin) Sources(existing map[string]int) ([]SourceConfig, error) {
	configured := a.cfg.Sources
	byDefault := len(configured) == 0
	if byDefault {
		configured = DefaultSources()
	}
	var sources []SourceConfig
	var absent []string
	for _, s := range configured {
		if existing[s.Topic] > 0 {
			sources = append(sources, s)
		} else {
			absent = append(absent, s.Topic)
		}
	}
	if len(absent) > 0 && (!byDefault || len(sources) == 0) {
		return nil, &MissingTopicsError{Topics: absent, Brokers: a.cfg.Kafka.Brokers, None: byDefault}
	}
	return sources, nil
}

// Create creates those of the topics that do not exist, and says which it has created. A topic is taken as created by
// somebody else meanwhile, too.
func (a *Admin) Create(ctx context.Context, specs []TopicSpec) ([]string, error) {
	req := &kafka.CreateTopicsRequest{Addr: a.client.Addr}
	for _, s := range specs {
		t := kafka.TopicConfig{Topic: s.Name, NumPartitions: s.Partitions, ReplicationFactor: a.cfg.Kafka.Replication}
		for _, key := range slices.Sorted(mapKeys(s.Config)) {
			t.ConfigEntries = append(t.ConfigEntries, kafka.ConfigEntry{ConfigName: key, ConfigValue: s.Config[key]})
		}
		req.Topics = append(req.Topics, t)
	}
	if len(req.Topics) == 0 {
		return nil, nil
	}
	res, err := a.client.CreateTopics(ctx, req)
	if err != nil {
		return nil, err
	}
	var created []string
	var failed []error
	for name, err := range res.Errors {
		switch {
		case err == nil:
			created = append(created, name)
		case !errors.Is(err, kafka.TopicAlreadyExists):
			failed = append(failed, fmt.Errorf("create topic %s: %w", name, needs("Create", err)))
		}
	}
	sort.Strings(created)
	return created, errors.Join(failed...)
}

func mapKeys(m map[string]string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// Describe reads the configuration of topics that exist: retention.ms, min.insync.replicas and the like.
func (a *Admin) Describe(ctx context.Context, topics []string) (map[string]map[string]string, error) {
	req := &kafka.DescribeConfigsRequest{Addr: a.client.Addr}
	for _, t := range topics {
		req.Resources = append(req.Resources, kafka.DescribeConfigRequestResource{ResourceType: kafka.ResourceTypeTopic, ResourceName: t})
	}
	res, err := a.client.DescribeConfigs(ctx, req)
	if err != nil {
		return nil, err
	}
	out := make(map[string]map[string]string)
	for _, r := range res.Resources {
		if r.Error != nil {
			return nil, fmt.Errorf("configuration of topic %s: %w", r.ResourceName, needs("DescribeConfigs", r.Error))
		}
		entries := make(map[string]string, len(r.ConfigEntries))
		for _, e := range r.ConfigEntries {
			entries[e.ConfigName] = e.ConfigValue
		}
		out[r.ResourceName] = entries
	}
	return out, nil
}

// Replicas says, for each topic, the smallest number of replicas and of in-sync replicas of its partitions.
func (a *Admin) Replicas(ctx context.Context, topics []string) (map[string][2]int, error) {
	res, err := a.client.Metadata(ctx, &kafka.MetadataRequest{Addr: a.client.Addr, Topics: topics})
	if err != nil {
		return nil, err
	}
	out := make(map[string][2]int)
	for _, t := range res.Topics {
		for i, p := range t.Partitions {
			now := [2]int{len(p.Replicas), len(p.Isr)}
			if before, ok := out[t.Name]; ok && i > 0 {
				now = [2]int{min(before[0], now[0]), min(before[1], now[1])}
			}
			out[t.Name] = now
		}
	}
	return out, nil
}

// Send writes one record and waits for all in-sync replicas. A nil value is null.
func (a *Admin) Send(ctx context.Context, topic string, key, value []byte, headers []kafka.Header) (dispatcher.Origin, error) {
	n, err := partitionCount(ctx, a.client, topic)
	if err != nil {
		return dispatcher.Origin{}, fmt.Errorf("send to %s: %w", topic, err)
	}
	if n == 0 {
		return dispatcher.Origin{}, fmt.Errorf("send to %s: %w", topic, kafka.UnknownTopicOrPartition)
	}
	partition := 0
	if key != nil {
		partition = kafka.Murmur2Balancer{}.Balance(kafka.Message{Key: key}, partitionIDs(n)...)
	}
	res, err := a.client.Produce(ctx, &kafka.ProduceRequest{
		Topic: topic, Partition: partition, RequiredAcks: kafka.RequireAll,
		Records: kafka.NewRecordReader(kafka.Record{Time: time.Now(), Key: bytesOrNull(key), Value: bytesOrNull(value), Headers: headers}),
	})
	if err == nil {
		err = res.Error
	}
	if err != nil {
		return dispatcher.Origin{}, fmt.Errorf("send to %s: %w", topic, needs("Write", err))
	}
	return dispatcher.Origin{Topic: topic, Partition: partition, Offset: res.BaseOffset}, nil
}

func partitionIDs(n int) []int {
	ids := make([]int, n)
	for i := range ids {
		ids[i] = i
	}
	return ids
}

// newTransport makes the one transport of a process. Its metadata is that of the topics given, of all where none is.
func newTransport(cfg *Config, topics []string) (*kafka.Transport, error) {
	dial, mechanism, err := security(&cfg.Kafka)
	if err != nil {
		return nil, err
	}
	return &kafka.Transport{
		Dial:           dial,
		DialTimeout:    5 * time.Second,
		IdleTimeout:    30 * time.Second,
		MetadataTTL:    time.Second, // a moved leader is found that soon (FACTS.md 10)
		MetadataTopics: topics,
		ClientID:       "fanout",
		SASL:           mechanism,
	}, nil
}

func newDialer(cfg *Config) (*kafka.Dialer, error) {
	dial, mechanism, err := security(&cfg.Kafka)
	if err != nil {
		return nil, err
	}
	return &kafka.Dialer{ClientID: "fanout", Timeout: 5 * time.Second, DialFunc: dial, SASLMechanism: mechanism}, nil
}

// decoders compiles the mapping of each source.
func decoders(sources []SourceConfig) (map[string]*event.Decoder, error) {
	out := make(map[string]*event.Decoder, len(sources))
	for i := range sources {
		d, err := sources[i].Compile()
		if err != nil {
			return nil, fmt.Errorf("source %s: %w", sources[i].Topic, err)
		}
		out[sources[i].Topic] = d
	}
	return out, nil
}
