// Package config reads fanout's configuration: flags over environment over one YAML file
// (docs/contract.md#configuration).
//
// It promises that all that is wrong is reported together, each problem with its key, value, place and remedy, and that
// no secret is part of a problem, a warning or a dump. The sections are the packages' own Config types; what they mean is
// documented there. Only cmd imports this package.
package config

import (
	"cmp"
	"net"
	"os"
	"strings"
	"time"

	"fanout/admin"
	"fanout/consumer"
	"fanout/dispatcher"
	"fanout/egress"
	"fanout/event"
	"fanout/subscriptions"
	"fanout/topic"
	"fanout/topic/registry"
)

// Config is the whole configuration. Those of its keys that are promised are in docs/contract.md#configuration-keys.
type Config struct {
	Kafka           topic.KafkaConfig         `mapstructure:"kafka"`
	Sources         []topic.SourceConfig      `mapstructure:"sources"` // empty: the default topics, of which those that exist count
	SchemaRegistry  registry.Config           `mapstructure:"schema_registry"`
	Redis           subscriptions.Config      `mapstructure:"redis"`
	Delivery        dispatcher.DeliveryConfig `mapstructure:"delivery"`
	Lanes           dispatcher.LanesConfig    `mapstructure:"lanes"`
	Egress          egress.Config             `mapstructure:"egress"`
	Attempts        Attempts                  `mapstructure:"attempts"`
	Admin           admin.Config              `mapstructure:"admin"`
	Topics          Topics                    `mapstructure:"topics"`
	Events          []event.Row               `mapstructure:"events"`  // further rows of the catalogue; default none
	Payload         []string                  `mapstructure:"payload"` // further keys of the payload; default none
	Limits          Limits                    `mapstructure:"limits"`
	Log             Log                       `mapstructure:"log"`
	Tracing         Tracing                   `mapstructure:"tracing"`
	MaxEventBytes   int                       `mapstructure:"max_event_bytes"`  // of a raw event; default 262144
	ShutdownTimeout time.Duration             `mapstructure:"shutdown_timeout"` // bounds a stop; default 25s
}

// Attempts is the section `attempts`.
type Attempts struct {
	Topic     bool          `mapstructure:"topic"`     // write one record an attempt or decision; default true
	Retention time.Duration `mapstructure:"retention"` // how long they are kept, where the topic is created; default 240h
	Response  bool          `mapstructure:"response"`  // keep the first KiB of answers that are not a success; default true
}

// Topics is the section `topics`.
type Topics struct {
	Prefix              string        `mapstructure:"prefix"`                // of the topics that fanout owns; default fanout
	DeadLetterRetention time.Duration `mapstructure:"dead_letter_retention"` // of dead letters and replays, where the topics are created; default 720h
}

// Limits is the section `limits`.
type Limits struct {
	WebhooksPerAccount int `mapstructure:"webhooks_per_account"` // new ones through API and portal; default 100
}

// Log is the section `log`.
type Log struct {
	Level  string `mapstructure:"level"`  // debug, info, warn or error; default info
	Format string `mapstructure:"format"` // json or console; default json
}

// Tracing is the section `tracing`.
type Tracing struct {
	Endpoint    string  `mapstructure:"endpoint"`     // base URL of an OTLP/HTTP receiver, as in http://127.0.0.1:4318; empty: no traces
	SampleRatio float64 `mapstructure:"sample_ratio"` // of the records without a traceparent, 0 to 1; default 1
}

// URL is where spans are sent to: the endpoint with the path of the OTLP specification, /v1/traces, unless it has that
// already. The endpoint has been validated.
func (t *Tracing) URL() string {
	base := strings.TrimRight(t.Endpoint, "/")
	return strings.TrimSuffix(base, tracesPath) + tracesPath
}

const tracesPath = "/v1/traces"

// Default is the configuration where nothing is set.
func Default() Config {
	return Config{
		Kafka: topic.KafkaConfig{
			Brokers: []string{"127.0.0.1:9092"}, Group: "fanout", CreateTopics: true,
			Partitions: 12, RetryPartitions: 3, Replication: -1, SessionTimeout: 8 * time.Second,
		},
		SchemaRegistry: registry.Config{Timeout: 5 * time.Second},
		Redis:          subscriptions.Config{URL: "redis://127.0.0.1:6379/0", Group: "fanout"},
		Delivery: dispatcher.DeliveryConfig{
			Timeout: 10 * time.Second, ConnectTimeout: 3 * time.Second,
			Schedule: []time.Duration{
				5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 10 * time.Hour,
			},
			MaxAge: 72 * time.Hour, PermanentStatuses: []int{410}, MaxInFlight: 2048, ConnectionMaxAge: 5 * time.Minute,
			MaxBatchBytes: 1 << 20,
		},
		Lanes: dispatcher.LanesConfig{
			MaxInFlight: 64, Queue: 1000, QueueAge: 2 * time.Second,
			ParkAfter: 10, ParkMin: 30 * time.Second, ParkMax: time.Hour,
		},
		Attempts:        Attempts{Topic: true, Retention: 240 * time.Hour, Response: true},
		Admin:           admin.Config{Listen: "127.0.0.1:8080"},
		Topics:          Topics{Prefix: "fanout", DeadLetterRetention: 720 * time.Hour},
		Limits:          Limits{WebhooksPerAccount: 100},
		Log:             Log{Level: "info", Format: "json"},
		Tracing:         Tracing{SampleRatio: 1},
		MaxEventBytes:   256 << 10,
		ShutdownTimeout: 25 * time.Second,
	}
}

// Consumer is the part that package consumer is told.
func (c *Config) Consumer() consumer.Config {
	return consumer.Config{
		Config: c.Topic(), Instance: c.Instance(), ShutdownTimeout: c.ShutdownTimeout,
		StalledAfter: max(time.Minute, 2*c.Delivery.Timeout), // one attempt must not look like a standstill
	}
}

// Instance is how this process is named where several write to one place: kafka.instance_id, else the host's name (a pod's) with the
// port of admin.listen, which tells the processes of one host apart.
func (c *Config) Instance() string {
	if c.Kafka.InstanceID != "" {
		return c.Kafka.InstanceID
	}
	host, err := os.Hostname()
	if err != nil {
		return c.Admin.Listen
	}
	if _, port, err := net.SplitHostPort(c.Admin.Listen); err == nil {
		return net.JoinHostPort(host, port)
	}
	return host
}

// Topic is the part that package topic is told.
func (c *Config) Topic() topic.Config {
	return topic.Config{
		Kafka: c.Kafka, Sources: c.Sources, SchemaRegistry: c.SchemaRegistry, Catalogue: c.Catalogue(), Payload: c.Payload, Prefix: c.Topics.Prefix, DeadLetterRetention: c.Topics.DeadLetterRetention,
		AttemptsTopic: c.Attempts.Topic, AttemptsRetention: c.Attempts.Retention, AttemptsResponse: c.Attempts.Response,
		Schedule: c.Delivery.Schedule, ParkMin: c.Lanes.ParkMin, ParkMax: c.Lanes.ParkMax, MaxAge: c.Delivery.MaxAge, MaxAges: c.Delivery.MaxAges,
		MaxEventBytes: c.MaxEventBytes,
	}
}

// Catalogue holds the event names of this configuration: the built-in ones, and those that events adds.
func (c *Config) Catalogue() *event.Catalogue {
	if len(c.Events) == 0 {
		return event.BuiltIn()
	}
	catalogue, _ := event.NewCatalogue(c.Events) // Load has told what is wrong
	return catalogue
}

// Dispatcher is the part that package dispatcher is told. userAgent is the User-Agent where none is configured.
func (c *Config) Dispatcher(userAgent string) dispatcher.Config {
	return dispatcher.Config{Delivery: c.Delivery, Lanes: c.Lanes, Egress: c.Egress, UserAgent: cmp.Or(c.Delivery.UserAgent, userAgent)}
}
