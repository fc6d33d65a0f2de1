package dispatcher

import (
	"time"

	"fanout/dispatcher/post"
	"fanout/dispatcher/resolve"
	"fanout/egress"
	"fanout/event"
)

// DeliveryConfig is the section `delivery` of the configuration.
type DeliveryConfig struct {
	Timeout           time.Duration            `mapstructure:"timeout"`            // bounds a whole exchange; default 10s
	ConnectTimeout    time.Duration            `mapstructure:"connect_timeout"`    // bounds DNS, TCP and TLS; default 3s
	Schedule          []time.Duration          `mapstructure:"schedule"`           // the waits between attempts; default 5s 5m 30m 2h 5h 10h 10h
	MaxAge            time.Duration            `mapstructure:"max_age"`            // since first planned; default 72h
	MaxAges           map[string]time.Duration `mapstructure:"max_ages"`           // by event name, instead of MaxAge
	PermanentStatuses []int                    `mapstructure:"permanent_statuses"` // default 410
	MaxInFlight       int                      `mapstructure:"max_in_flight"`      // attempts at once in this process; default 2048
	ConnectionMaxAge  time.Duration            `mapstructure:"connection_max_age"` // a kept connection is not used for longer; default 5m
	MaxBatchBytes     int                      `mapstructure:"max_batch_bytes"`    // of the body of a batch; default 1 MiB
	UserAgent         string                   `mapstructure:"user_agent"`         // instead of fanout/<version>
}

// LanesConfig is the section `lanes` of the configuration.
type LanesConfig struct {
	MaxInFlight int           `mapstructure:"max_in_flight"` // attempts at once for one subscription; default 64
	Queue       int           `mapstructure:"queue"`         // deliveries waiting in one lane; default 1000
	QueueAge    time.Duration `mapstructure:"queue_age"`     // how long one may wait there; default 2s
	ParkAfter   int           `mapstructure:"park_after"`    // failures in a row; default 10
	ParkMin     time.Duration `mapstructure:"park_min"`      // first cool-down; default 30s
	ParkMax     time.Duration `mapstructure:"park_max"`      // longest cool-down; default 1h
}

// Config is all that the dispatcher is told.
type Config struct {
	Delivery  DeliveryConfig
	Lanes     LanesConfig
	Egress    egress.Config
	UserAgent string         // fanout/<version>
	Network   resolve.Config // how receivers are reached; the zero value is the system's
}

// Client is what the HTTP client is told under the rules of Egress.
func (c *Config) Client(rules *egress.Rules) post.Config {
	return post.Config{
		Egress: rules, Network: c.Network, ConnectTimeout: c.Delivery.ConnectTimeout, MaxAge: c.Delivery.ConnectionMaxAge,
		Files: post.Files{CA: c.Egress.CAFile, Cert: c.Egress.ClientCertFile, Key: c.Egress.ClientKeyFile},
	}
}

// maxAge is how old a delivery of that event may become.
func (c *DeliveryConfig) maxAge(name event.Name) time.Duration {
	if age, ok := c.MaxAges[name.String()]; ok {
		return age
	}
	return c.MaxAge
}
