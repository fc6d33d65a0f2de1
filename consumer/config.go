package consumer

import (
	"time"

	"fanout/consumer/registry"
	"fanout/event"
)

// KafkaConfig is the section `kafka` of the configuration.
type KafkaConfig struct {
	Brokers         []string   `mapstructure:"brokers"`          // default 127.0.0.1:9092
	Group           string     `mapstructure:"group"`            // default fanout
	CreateTopics    bool       `mapstructure:"create_topics"`    // create the topics that fanout owns; default true
	Partitions      int        `mapstructure:"partitions"`       // of fanout.replay, fanout.dead-letter and fanout.attempts; default 12
	RetryPartitions int        `mapstructure:"retry_partitions"` // of each retry topic; default 3
	Replication     int        `mapstructure:"replication"`      // default 1
	Start           string     `mapstructure:"start"`            // earliest, latest or RFC 3339; default earliest
	TLS             TLSConfig  `mapstructure:"tls"`
	SASL            SASLConfig `mapstructure:"sasl"`
}

// TLSConfig says how the brokers are spoken to over TLS. The files are read again when they change.
type TLSConfig struct {
	Enabled            bool   `mapstructure:"enabled"`
	CAFile             string `mapstructure:"ca_file"`     // PEM; empty means the system's roots
	CertFile           string `mapstructure:"cert_file"`   // PEM, for mutual TLS
	KeyFile            string `mapstructure:"key_file"`    // PEM, for mutual TLS
	ServerName         string `mapstructure:"server_name"` // instead of the broker's host name
	InsecureSkipVerify bool   `mapstructure:"insecure_skip_verify"`
}

// SASLConfig says how fanout signs in to the brokers.
type SASLConfig struct {
	Mechanism    string `mapstructure:"mechanism"` // PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER; empty means none
	Username     string `mapstructure:"username"`
	Password     string `mapstructure:"password"`
	PasswordFile string `mapstructure:"password_file"` // instead of password: a mounted secret, read at each sign-in
	TokenFile    string `mapstructure:"token_file"`    // of OAUTHBEARER: a mounted token, read at each sign-in
}

// SourceConfig is one entry of the section `sources`.
type SourceConfig struct {
	Topic         string `mapstructure:"topic"`
	Format        string `mapstructure:"format"` // of the values: json, or confluent for those with a schema's id; empty means json
	event.Mapping `mapstructure:",squash"`
}

// The formats of a source's values.
const (
	FormatJSON      = "json"
	FormatConfluent = "confluent"
)

// Config is all that the consumer is told.
type Config struct {
	Kafka           KafkaConfig
	Sources         []SourceConfig // empty means the six default topics, of which those that exist count
	SchemaRegistry  registry.Config
	TopicPrefix     string // section topics: prefix; default fanout
	AttemptsTopic   bool   // section attempts: topic; default false
	Schedule        []time.Duration
	ParkMin         time.Duration
	ParkMax         time.Duration
	MaxAge          time.Duration
	MaxAges         map[string]time.Duration // by event name, instead of MaxAge
	MaxEventBytes   int                      // default 262144
	ShutdownTimeout time.Duration            // default 25s
	WedgedAfter     time.Duration            // records wait and none is settled: the group is joined anew; default 1m, longer than any attempt
	TierInterval    time.Duration            // how often it is looked for retry topics of other schedules; default 30s
}

func (c *Config) tierInterval() time.Duration {
	if c.TierInterval > 0 {
		return c.TierInterval
	}
	return 30 * time.Second
}

// maxAge is how old a delivery of that event may become.
func (c *Config) maxAge(name event.Name) time.Duration {
	if age, ok := c.MaxAges[name.String()]; ok {
		return age
	}
	return c.MaxAge
}

// payloadBytes is more than a payload has around the record's own text.
const payloadBytes = 256

// largestBody is what the topics that fanout owns take for the body of a delivery, whatever max_event_bytes has been
// lowered to since it was written: a larger one could go to no retry topic.
func (c *Config) largestBody() int { return max(1<<20, c.maxBodyBytes()) }

// maxBodyBytes bounds what is taken for the body of a delivery. It may be longer than its event: a mapping may read
// several of the three fields at one path, and have shorter keys than the payload.
func (c *Config) maxBodyBytes() int {
	times := 1
	for i := range c.Sources {
		if len(c.Sources[i].Fields) > 0 {
			times = 3
		}
	}
	return times*c.MaxEventBytes + payloadBytes
}
