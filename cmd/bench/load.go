package main

import (
	"context"
	"encoding/base64"
	"flag"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/segmentio/kafka-go"

	"fanout/cmd/internal/lab"
)

// load is how much is measured, and with what.
type load struct {
	events        int
	subscriptions int
	partitions    int
	connections   int
}

func (ld *load) flags(fs *flag.FlagSet) {
	fs.IntVar(&ld.events, "events", 300_000, "events in a run, and requests in a loop")
	fs.IntVar(&ld.subscriptions, "subscriptions", 1000, "subscriptions, each of an account of its own")
	fs.IntVar(&ld.partitions, "partitions", 6, "partitions of a source topic")
	fs.IntVar(&ld.connections, "connections", 64, "connections of a bare loop")
}

// world is what surrounds fanout in a measurement.
type world struct {
	lab   *lab.Lab
	kafka *lab.Kafka
	redis *lab.Redis
	fan   string // the program

	attempts bool // attempts.topic
}

// newWorld starts Kafka and Redis and builds fanout. The caller closes the lab.
func newWorld(ctx context.Context, l *lab.Lab) (*world, error) {
	w := &world{lab: l}
	var err error
	if w.fan, err = l.Build(ctx); err != nil {
		return nil, err
	}
	if w.kafka, err = l.Kafka(ctx, lab.KafkaConfig{}); err != nil {
		return nil, err
	}
	w.redis, err = l.Redis(ctx)
	return w, err
}

func account(i int) string { return fmt.Sprintf("account-%06d", i) }

// secret is a signing secret of 32 bytes, the same for all: what it costs to sign does not depend on the key.
func secret() string {
	return "whsec_" + base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))
}

// subscribe stores n subscriptions as a config sync job does, one for each account, all at url.
func (w *world) subscribe(ctx context.Context, n int, url string) error {
	client := w.redis.Client()
	defer client.Close()
	const batch = 1000
	for from := 0; from < n; from += batch {
		_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i := from; i < min(from+batch, n); i++ {
				value := fmt.Sprintf(`{"url":"%s/hooks/%d","events":["EMAIL_OPEN"],"secrets":["%s"]}`, url, i, secret())
				p.HSet(ctx, "fanout:account:"+account(i), "main", value)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("store subscriptions: %w", err)
		}
	}
	change := &redis.XAddArgs{Stream: "fanout:changes", Values: []any{"account", account(0)}}
	return client.XAdd(ctx, change).Err()
}

// rawEvent is event number i: it matches exactly one subscription, that of its account.
func rawEvent(i, subscriptions int, trackingID string) kafka.Message {
	user := fmt.Sprintf("user-%08d", i)
	return kafka.Message{
		Key: []byte(user),
		Value: fmt.Appendf(nil, `{"accountId":"%s","channel":"EMAIL","type":"OPEN","trackingId":"%s","notificationId":"welcome-email","userId":"%s"}`,
			account(i%subscriptions), trackingID, user),
	}
}

// produce creates a topic and fills it with events, spread over its partitions.
func (w *world) produce(ctx context.Context, topic string, ld load) error {
	if err := w.kafka.CreateTopics(ctx, lab.Topic{Name: topic, Partitions: ld.partitions}); err != nil {
		return err
	}
	return w.produceTo(ctx, topic, ld)
}

// produceTo fills a topic that exists.
func (w *world) produceTo(ctx context.Context, topic string, ld load) error {
	const batch = 10_000
	// A transport of its own: the shared one would remember for seconds that there was no such topic.
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	writer := &kafka.Writer{
		Addr: kafka.TCP(w.kafka.Brokers()...), Transport: transport, Topic: topic, Balancer: &kafka.Hash{},
		BatchSize: batch, BatchTimeout: 5 * time.Millisecond, RequiredAcks: kafka.RequireOne,
	}
	defer writer.Close()
	messages := make([]kafka.Message, 0, batch)
	for i := range ld.events {
		messages = append(messages, rawEvent(i, ld.subscriptions, fmt.Sprintf("tracking-%08d", i)))
		if len(messages) == batch || i == ld.events-1 {
			if err := writer.WriteMessages(ctx, messages...); err != nil {
				return fmt.Errorf("produce to %s: %w", topic, err)
			}
			messages = messages[:0]
		}
	}
	return nil
}
