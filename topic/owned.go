package topic

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/kafka-go/protocol/createtopics"
)

// Retentions of the owned topics (docs/contract.md#owned-topics).
const (
	retryExtra          = 7 * 24 * time.Hour  // beyond max_age
	deadLetterRetention = 30 * 24 * time.Hour // where the configuration does not say
	attemptsRetention   = 10 * 24 * time.Hour // the same
	eventsRetention     = 30 * 24 * time.Hour
)

// Spec is a topic that fanout owns, as it is created.
type Spec struct {
	Name       string
	Partitions int
	Config     map[string]string
	Delay      time.Duration // of a retry tier
	Vital      bool          // a lost record is a lost delivery
}

// creation asks for the topic; replication is -1 where that is left to the brokers.
func (s *Spec) creation(replication int) createtopics.RequestTopic {
	t := createtopics.RequestTopic{Name: s.Name, NumPartitions: int32(s.Partitions), ReplicationFactor: int16(replication)}
	for _, key := range slices.Sorted(maps.Keys(s.Config)) {
		t.Configs = append(t.Configs, createtopics.RequestConfig{Name: key, Value: s.Config[key]})
	}
	return t
}

// Owned lists the topics that fanout owns under this configuration.
func (c *Config) Owned() []Spec {
	retries := c.RetryTopics()
	names := c.Names()
	largest := strconv.Itoa(c.LargestBody() + 256<<10)
	spec := func(name string, partitions int, retention time.Duration) Spec {
		config := map[string]string{
			"cleanup.policy": "delete", "retention.ms": strconv.FormatInt(retention.Milliseconds(), 10), "retention.bytes": "-1",
			"max.message.bytes": largest, "message.timestamp.type": logAppendTime,
		}
		switch n := c.Kafka.Replication; {
		case n >= 3:
			config["min.insync.replicas"] = "2"
		case n == 1: // or brokers before 3.7 whose default is higher take nothing
			config["min.insync.replicas"] = "1"
		}
		return Spec{Name: name, Partitions: partitions, Config: config}
	}
	var specs []Spec
	for _, name := range retries.Names() {
		tier := spec(name, c.Kafka.RetryPartitions, c.MaxAge+retryExtra)
		tier.Delay, _ = retries.Delay(name)
		specs = append(specs, tier)
	}
	dead := cmp.Or(c.DeadLetterRetention, deadLetterRetention)
	specs = append(specs, spec(names.Replay, c.Kafka.Partitions, dead), spec(names.DeadLetter, c.Kafka.Partitions, dead))
	for i := range specs {
		specs[i].Vital = true
	}
	specs = append(specs, spec(names.Events, c.Kafka.Partitions, eventsRetention))
	if c.AttemptsTopic {
		specs = append(specs, spec(names.Attempts, c.Kafka.Partitions, cmp.Or(c.AttemptsRetention, attemptsRetention)))
	}
	return specs
}

// Optional says whether nothing is held up while this topic, one of those that fanout owns, does not exist
// (docs/contract.md#optional-topics).
func (c *Config) Optional(name string) bool {
	return name == c.Names().Events || name == c.Names().Attempts
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
