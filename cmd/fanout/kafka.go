package main

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"

	"fanout/config"
	"fanout/topic"
)

// withAdmin asks something of Kafka, and gives up after 15 seconds.
func withAdmin(ctx context.Context, cfg *config.Config, ask func(context.Context, *topic.Cluster) error) error {
	admin, err := topic.NewCluster(cfg.Topic())
	if err != nil {
		return err
	}
	defer admin.Close()
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	return kafkaHint(cfg, ask(ctx, admin))
}

// newSources decodes source records as the configuration maps them. The caller closes it.
func newSources(cfg *config.Config) (*topic.Sources, error) {
	c := cfg.Topic()
	return c.NewSources(nil, nil)
}

// kafkaHint adds the next step to an error that Kafka, or the way there, is the cause of. A partition that is not there
// was asked for by a flag.
func kafkaHint(cfg *config.Config, err error) error {
	if errors.Is(err, topic.ErrNoPartition) {
		return misuse(err)
	}
	if errors.Is(err, kafka.UnknownTopicOrPartition) {
		return hint(err, "`fanout topics describe` lists the topics that fanout reads and owns")
	}
	_, answered := errors.AsType[kafka.Error](err)
	answered = answered && !errors.Is(err, kafka.BrokerNotAvailable) // that is what the client says while it knows none
	_, network := errors.AsType[net.Error](err)
	if !answered && !network && !errors.Is(err, kafka.BrokerNotAvailable) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return err
	}
	brokers := strings.Join(cfg.Kafka.Brokers, ",")
	if answered {
		return hint(err, "that is the answer of the brokers at %s; `fanout check` looks at everything", brokers)
	}
	return hint(err, "is Kafka running at %s? kafka.brokers names it; `fanout check` looks at everything", brokers)
}
