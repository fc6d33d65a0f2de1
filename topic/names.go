package topic

import (
	"strings"

	"fanout/event"
)

// Names are the topics that fanout owns, besides the retry topics.
type Names struct {
	Replay, DeadLetter, Attempts, Events string
}

// Names are those of this configuration.
func (c *Config) Names() Names {
	return Names{Replay: c.Prefix + ".replay", DeadLetter: c.Prefix + ".dead-letter", Attempts: c.Prefix + ".attempts", Events: c.Prefix + ".events"}
}

// DefaultSources are the topics that are read where the configuration names none: one for each channel of the catalogue
// (docs/contract.md#default-sources).
func DefaultSources(c *event.Catalogue) []SourceConfig {
	channels := c.Channels()
	sources := make([]SourceConfig, len(channels))
	for i, channel := range channels {
		sources[i].Topic = DefaultTopic(channel)
	}
	return sources
}

// DefaultTopic is the topic that a channel's events are on by default.
func DefaultTopic(channel string) string { return "channel." + strings.ToLower(channel) }

// RetryGroup is the consumer group that reads the retry topics and the replay topic. The sources' group is Kafka.Group itself.
func (c *Config) RetryGroup() string { return retryGroup(c.Kafka.Group) }

func retryGroup(group string) string { return group + ".retry" }
