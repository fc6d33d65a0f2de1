package lab

import (
	"encoding/json"
	"strings"
)

// Config is a configuration of fanout, as nested maps; JSON, in which it is written down, is YAML too.
type Config map[string]any

// NewConfig is a configuration for this lab: its Kafka and Redis, receivers on loopback, the admin listener on
// a port; the defaults for everything else. Sources are read from their first record, however old it is.
func NewConfig(k *Kafka, r *Redis, adminPort int) Config {
	return Config{}.
		Set("kafka.brokers", k.Brokers()).
		Set("kafka.start", "earliest").
		Set("redis.url", r.URL()).
		Set("egress.allow_http", true).
		Set("egress.allow_cidrs", []string{"127.0.0.0/8"}).
		Set("admin.listen", loopback(adminPort))
}

// Set changes the value of a key that is written with dots, and returns the configuration itself.
func (c Config) Set(key string, value any) Config {
	section, rest, nested := strings.Cut(key, ".")
	if !nested {
		c[key] = value
		return c
	}
	inner, ok := c[section].(Config)
	if !ok {
		inner = Config{}
		c[section] = inner
	}
	inner.Set(rest, value)
	return c
}

func (c Config) text() ([]byte, error) { return json.MarshalIndent(c, "", "  ") }
