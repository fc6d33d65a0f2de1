package consumer

import (
	"time"

	"fanout/topic"
)

// Config is all that the consumer is told.
type Config struct {
	topic.Config

	Instance        string        // how attempts records name this process
	ShutdownTimeout time.Duration // default 25s
	StalledAfter    time.Duration // records wait and none is settled for so long: the group is joined again; default 1m, longer than any attempt
	HeldAfter       time.Duration // an open transaction is named that holds records back for so long; default 1m
	LookInterval    time.Duration // how often topics are looked at: sizes, and retry topics of other schedules; default 5s
}

func (c *Config) stalledAfter() time.Duration {
	if c.StalledAfter > 0 {
		return c.StalledAfter
	}
	return time.Minute
}

func (c *Config) heldAfter() time.Duration {
	if c.HeldAfter > 0 {
		return c.HeldAfter
	}
	return time.Minute
}

func (c *Config) lookInterval() time.Duration {
	if c.LookInterval > 0 {
		return c.LookInterval
	}
	return 5 * time.Second
}

// stopMargin is the part of the shutdown time-out that is left for leaving the groups, and for all that ends after the consumer.
func (c *Config) stopMargin() time.Duration { return min(2*time.Second, c.ShutdownTimeout/4) }

// sessionTimeout is how long the coordinator waits for a member's heartbeat before it gives its partitions to others.
func (c *Config) sessionTimeout() time.Duration {
	if c.Kafka.SessionTimeout > 0 {
		return c.Kafka.SessionTimeout
	}
	return 8 * time.Second
}
