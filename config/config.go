// Package config reads fanout's configuration: flags over environment over one YAML file (DESIGN.md section 6).
//
// It promises that all that is wrong is reported together, each problem with its key, value, place and remedy, and that
// no secret is part of a problem, a warning or a dump. The sections are the packages' own Config types; what they mean is
// documented there. Only cmd imports this package.
package config

import (
	"strings"
	"time"

	"fanout/admin"
	"fanout/consumer"
	"fanout/consumer/registry"
	"fanout/dispatcher"
	"fanout/dispatcher/egress"
	"fanout/subscriptions"
)

// Config is the whole configuration. The keys are those of DESIGN.md section 6.
type Config struct {
	Kafka           consumer.KafkaConfig      `mapstructure:"kafka"`
	Sources         []consumer.SourceConfig   `mapstructure:"sources"` // empty: the six default topics, of which those that exist count
	SchemaRegistry  registry.Config           `mapstructure:"schema_registry"`
	Redis           subscriptions.Config      `mapstructure:"redis"`
	Delivery        dispatcher.DeliveryConfig `mapstructure:"delivery"`
	Lanes           dispatcher.LanesConfig    `mapstructure:"lanes"`
	Egress          egress.Config             `mapstructure:"egress"`
	Attempts        Attempts                  `mapstructure:"attempts"`
	Admin           admin.Config              `mapstructure:"admin"`
	Topics          Topics                    `mapstructure:"topics"`
	Log             Log                       `mapstructure:"log"`
	Tracing         Tracing                   `mapstructure:"tracing"`
	MaxEventBytes   int                       `mapstructure:"max_event_bytes"`  // of a raw event; default 262144
	ShutdownTimeout time.Duration             `mapstructure:"shutdown_timeout"` // bounds a stop; default 25s
}

// Attempts is the section `attempts`.
type Attempts struct {
	Topic bool `mapstructure:"topic"` // write one record an attempt or decision; default false
}

// Topics is the section `topics`.
type Topics struct {
	Prefix string `mapstructure:"prefix"` // of the topics that fanout owns; default fanout
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
		Kafka: consumer.KafkaConfig{
			Brokers: []string{"127.0.0.1:9092"}, Group: "fanout", CreateTopics: true,
			Partitions: 12, RetryPartitions: 3, Replication: 1, Start: "earliest",
		},
		SchemaRegistry: registry.Config{Timeout: 5 * time.Second},
		Redis:          subscriptions.Config{URL: "redis://127.0.0.1:6379/0", Group: "fanout"},
		Delivery: dispatcher.DeliveryConfig{
			Timeout: 10 * time.Second, ConnectTimeout: 3 * time.Second,
			Schedule: []time.Duration{
				5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 10 * time.Hour,
			},
			MaxAge: 72 * time.Hour, PermanentStatuses: []int{410}, MaxInFlight: 2048,
		},
		Lanes: dispatcher.LanesConfig{
			MaxInFlight: 64, Queue: 1000, QueueAge: 2 * time.Second,
			ParkAfter: 10, ParkMin: 30 * time.Second, ParkMax: time.Hour,
		},
		Admin:           admin.Config{Listen: "127.0.0.1:8080"},
		Topics:          Topics{Prefix: "fanout"},
		Log:             Log{Level: "info", Format: "json"},
		Tracing:         Tracing{SampleRatio: 1},
		MaxEventBytes:   256 << 10,
		ShutdownTimeout: 25 * time.Second,
	}
}

// Consumer is the part that package consumer is told.
func (c *Config) Consumer() consumer.Config {
	return consumer.Config{
		Kafka: c.Kafka, Sources: c.Sources, SchemaRegistry: c.SchemaRegistry, TopicPrefix: c.Topics.Prefix, AttemptsTopic: c.Attempts.Topic,
		Schedule: c.Delivery.Schedule, ParkMin: c.Lanes.ParkMin, ParkMax: c.Lanes.ParkMax, MaxAge: c.Delivery.MaxAge, MaxAges: c.Delivery.MaxAges,
		MaxEventBytes: c.MaxEventBytes, ShutdownTimeout: c.ShutdownTimeout,
		WedgedAfter: max(time.Minute, 2*c.Delivery.Timeout), // one attempt must not look like a standstill
	}
}

// Dispatcher is the part that package dispatcher is told.
func (c *Config) Dispatcher(userAgent string) dispatcher.Config {
	return dispatcher.Config{Delivery: c.Delivery, Lanes: c.Lanes, Egress: c.Egress, UserAgent: userAgent}
}
