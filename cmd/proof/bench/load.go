package main

import (
	"context"
	"encoding/base64"
	"flag"
	"fmt"
	"strconv"
	"strings"
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
	fanOut        int  // subscriptions of an account, all of which want each of its events; 0 is 1
	busy          int  // accounts that have events; 0 is all
	batch         int  // deliveries in one request, as subscriptions ask for; 0: they do not
	spread        bool // each subscription is at a loopback address of its own
	filters       int  // notifications that each subscription names, the events' among them; 0: it takes all
}

// deliveries is what the events come to.
func (ld *load) deliveries() int { return ld.events * max(ld.fanOut, 1) }

// accounts is how many accounts have events.
func (ld *load) accounts() int {
	if ld.busy > 0 {
		return ld.busy
	}
	return max(1, ld.subscriptions/max(ld.fanOut, 1))
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

	attempts bool   // attempts.topic
	profile  string // the file for a CPU profile of the last run
}

// newWorld starts Kafka and Redis and builds fanout, with more arguments for `go build`. The caller closes the lab.
func newWorld(ctx context.Context, l *lab.Lab, build ...string) (*world, error) {
	w := &world{lab: l}
	var err error
	if w.fan, err = l.Build(ctx, build...); err != nil {
		return nil, err
	}
	if w.kafka, err = l.Kafka(ctx, lab.KafkaConfig{}); err != nil {
		return nil, err
	}
	w.redis, err = l.Redis(ctx)
	return w, err
}

// profiled are the arguments that build a fanout which writes profiles.
func profiled() []string { return []string{"-tags", "profile"} }

// begin parses the flags of a part and starts its world. build says with what arguments fanout is built, once the flags are
// known; nil: with none. The caller calls end.
func begin(ctx context.Context, fs *flag.FlagSet, args []string, build func() ([]string, error)) (w *world, end func(), err error) {
	if err := fs.Parse(args); err != nil {
		return nil, nil, err
	}
	var with []string
	if build != nil {
		if with, err = build(); err != nil {
			return nil, nil, err
		}
	}
	l, err := lab.New()
	if err != nil {
		return nil, nil, err
	}
	if w, err = newWorld(ctx, l, with...); err != nil {
		l.Close()
		return nil, nil, err
	}
	return w, l.Close, nil
}

// beginProfiled is begin for a part that has the flag -profile.
func beginProfiled(ctx context.Context, fs *flag.FlagSet, args []string) (w *world, end func(), err error) {
	file := fs.String("profile", "", "write a CPU profile of fanout's last run to this file")
	w, end, err = begin(ctx, fs, args, func() ([]string, error) {
		if *file == "" {
			return nil, nil
		}
		return profiled(), nil
	})
	if err == nil {
		w.profile = *file
	}
	return w, end, err
}

func account(i int) string { return fmt.Sprintf("account-%06d", i) }

// secret is a signing secret of 32 bytes, the same for all: what it costs to sign does not depend on the key.
func secret() string {
	return "whsec_" + base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))
}

// subscribe stores n subscriptions as a config sync job does, one for each account, all at url.
func (w *world) subscribe(ctx context.Context, n int, url string) error {
	return w.store(ctx, load{subscriptions: n}, 0, url)
}

// store fills a database of Redis with the subscriptions of a load.
func (w *world) store(ctx context.Context, ld load, db int, url string) error {
	client := redis.NewClient(&redis.Options{Addr: w.redis.Addr(), DB: db})
	defer client.Close()
	const batch = 1000
	for from := 0; from < ld.subscriptions; from += batch {
		_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i := from; i < min(from+batch, ld.subscriptions); i++ {
				extra := ""
				if ld.batch > 0 {
					extra = fmt.Sprintf(`,"batch":{"max":%d,"wait":"100ms"}`, ld.batch)
				}
				if ld.filters > 0 {
					extra += `,"notificationIds":["welcome-email"` + strings.Repeat(`,"another-notification"`, min(1, ld.filters-1)) + `]`
				}
				url := url
				if ld.spread {
					url = strings.Replace(url, "127.0.0.1", fmt.Sprintf("127.%d.%d.%d", 64+i>>16, i>>8&255, i&255), 1)
				}
				value := fmt.Sprintf(`{"url":"%s/hooks/%d","events":["EMAIL_OPEN"],"secrets":["%s"]%s}`, url, i, secret(), extra)
				p.HSet(ctx, "fanout:account:"+account(i/max(ld.fanOut, 1)), subscription(i%max(ld.fanOut, 1)), value)
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

// subscription is the id of an account's subscription number i.
func subscription(i int) string {
	if i == 0 {
		return "main"
	}
	return "more-" + strconv.Itoa(i)
}

// rawEvent is event number i: it matches the subscriptions of its account.
func rawEvent(i, accounts int, trackingID string) kafka.Message {
	user := fmt.Sprintf("user-%08d", i)
	return kafka.Message{
		Key: []byte(user),
		Value: fmt.Appendf(nil, `{"accountId":"%s","channel":"EMAIL","type":"OPEN","trackingId":"%s","notificationId":"welcome-email","userId":"%s"}`,
			account(i%accounts), trackingID, user),
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
	return w.write(ctx, topic, ld.events, func(i int) kafka.Message {
		return rawEvent(i, ld.accounts(), fmt.Sprintf("tracking-%08d", i))
	})
}

// write fills a topic that exists with n records.
func (w *world) write(ctx context.Context, topic string, n int, record func(i int) kafka.Message) error {
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
	for i := range n {
		messages = append(messages, record(i))
		if len(messages) == batch || i == n-1 {
			if err := writer.WriteMessages(ctx, messages...); err != nil {
				return fmt.Errorf("produce to %s: %w", topic, err)
			}
			messages = messages[:0]
		}
	}
	return nil
}
