package topic

import (
	"time"

	"fanout/event"
	"fanout/topic/registry"
)

// KafkaConfig is the section `kafka` of the configuration.
type KafkaConfig struct {
	Brokers         []string      `mapstructure:"brokers"`          // default 127.0.0.1:9092
	Group           string        `mapstructure:"group"`            // default fanout
	FormerGroups    []string      `mapstructure:"former_groups"`    // groups that this deployment has had before: their records are its own; default none
	CreateTopics    bool          `mapstructure:"create_topics"`    // create the topics that fanout owns; default true
	Partitions      int           `mapstructure:"partitions"`       // of fanout.replay, fanout.dead-letter and fanout.attempts; default 12
	RetryPartitions int           `mapstructure:"retry_partitions"` // of each retry topic; default 3
	Replication     int           `mapstructure:"replication"`      // default -1: the brokers' own, of Kafka 2.4 or later
	Start           string        `mapstructure:"start"`            // where sources without a committed offset begin: earliest, latest or RFC 3339; empty: earliest, unless they hold history
	InstanceID      string        `mapstructure:"instance_id"`      // makes the membership static: a restart within the session time-out moves no partition; default none
	SessionTimeout  time.Duration `mapstructure:"session_timeout"`  // after which a silent member's partitions are given to others; default 8s, raised to the broker's minimum
	Rack            string        `mapstructure:"rack"`             // fetch from replicas there, where the brokers select replicas by rack; default none
	TLS             TLSConfig     `mapstructure:"tls"`
	SASL            SASLConfig    `mapstructure:"sasl"`
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
	Start         string `mapstructure:"start"`  // instead of kafka.start, for this source
	event.Mapping `mapstructure:",squash"`
}

// The formats of a source's values.
const (
	FormatJSON      = "json"
	FormatConfluent = "confluent"
)

// Config is what must be known of the configuration to find, read and write fanout's topics.
type Config struct {
	Kafka               KafkaConfig
	Sources             []SourceConfig // empty means the default topics of the catalogue's channels, of which those that exist count
	Catalogue           *event.Catalogue
	Payload             []string // its further keys
	SchemaRegistry      registry.Config
	Prefix              string        // of the owned topics' names; default fanout
	DeadLetterRetention time.Duration // section topics: dead_letter_retention; default 720h
	AttemptsTopic       bool          // section attempts: topic; default true
	AttemptsResponse    bool          // section attempts: response; default true
	AttemptsRetention   time.Duration // section attempts: retention; default 240h
	Schedule            []time.Duration
	ParkMin             time.Duration
	ParkMax             time.Duration
	MaxAge              time.Duration
	MaxAges             map[string]time.Duration // by event name, instead of MaxAge
	MaxEventBytes       int                      // default 262144
}

// MaxAgeOf is how old a delivery of that event may become.
func (c *Config) MaxAgeOf(name event.Name) time.Duration {
	if age, ok := c.MaxAges[name.String()]; ok {
		return age
	}
	return c.MaxAge
}

// AllSources are the configured sources, or the default ones where none is configured.
func (c *Config) AllSources() []SourceConfig {
	if len(c.Sources) == 0 {
		return DefaultSources(c.Catalogue)
	}
	return c.Sources
}

// StartOf says where a source begins without a committed offset: its own start, else kafka.start; empty where neither is set.
func (c *Config) StartOf(name string) string {
	for i := range c.Sources {
		if c.Sources[i].Topic == name && c.Sources[i].Start != "" {
			return c.Sources[i].Start
		}
	}
	return c.Kafka.Start
}

// payloadBytes is more than a payload has around the record's own text.
const payloadBytes = 256

// longestEscape is how many bytes JSON may take for one.
const longestEscape = len(`\u0000`)

// LargestBody bounds, in bytes, the body of a delivery in the topics that fanout owns. Deliveries that were written before
// max_event_bytes was lowered keep their room, up to 1 MiB: a body that no retry topic takes could not be put off.
func (c *Config) LargestBody() int { return max(1<<20, c.maxBodyBytes()) }

// maxBodyBytes is the longest body that an event may lead to. It may be longer than its event: a mapping may read several of the
// three fields at one path, and have shorter keys than the payload.
func (c *Config) maxBodyBytes() int {
	times := 1
	for i := range c.Sources {
		if len(c.Sources[i].Fields) > 0 {
			times = 3
		}
	}
	further := 0
	for _, key := range c.Payload {
		further += len(`,"":""`) + len(key) + longestEscape*event.MaxPayloadValue
	}
	return times*c.MaxEventBytes + payloadBytes + further
}
