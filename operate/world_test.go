package operate_test

import (
	"bytes"
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"

	"fanout/operate"
	"fanout/topic"
)

// world is a Kafka with fanout's topics, which no instance reads: what lies there is what a test wrote.
type world struct {
	*topic.Cluster

	t      *testing.T
	client *kafka.Client
}

func newWorld(t *testing.T) *world {
	t.Helper()
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "channel.email"))
	must(t, err)
	t.Cleanup(fake.Close)
	cfg := topic.Config{
		Kafka:   topic.KafkaConfig{Brokers: fake.ListenAddrs(), Group: "fanout", CreateTopics: true, Partitions: 2, RetryPartitions: 1, Replication: 1},
		Sources: []topic.SourceConfig{{Topic: "channel.email"}}, Prefix: "fanout", AttemptsTopic: true,
		Schedule: []time.Duration{5 * time.Second}, ParkMin: 30 * time.Second, ParkMax: time.Hour, MaxAge: time.Hour, MaxEventBytes: 256 << 10,
	}
	c, err := topic.NewCluster(cfg)
	must(t, err)
	t.Cleanup(c.Close)
	_, err = c.Create(t.Context(), cfg.Owned())
	must(t, err)
	return &world{Cluster: c, t: t, client: &kafka.Client{Addr: kafka.TCP(fake.ListenAddrs()...), Transport: &kafka.Transport{}}}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// id is a webhook-id that differs by n.
func id(n int) string {
	text := bytes.Repeat([]byte{'a'}, 26)
	for i := 0; n > 0; i++ {
		text[i] += byte(n % 26)
		n /= 26
	}
	return "msg_" + string(text)
}

// write appends a record with the headers, given as pairs, and returns its place.
func (w *world) write(name string, partition int, value string, headers ...string) string {
	w.t.Helper()
	record := kafka.Record{Time: time.Now(), Value: kafka.NewBytes([]byte(value))}
	for i := 0; i < len(headers); i += 2 {
		record.Headers = append(record.Headers, kafka.Header{Key: headers[i], Value: []byte(headers[i+1])})
	}
	offset, err := w.Produce(w.t.Context(), topic.Partition{Topic: name, ID: partition}, []kafka.Record{record})
	must(w.t, err)
	return strconv.Itoa(partition) + "/" + strconv.FormatInt(offset, 10)
}

// letter appends a dead letter of acme's; more headers replace the usual ones.
func (w *world) letter(webhookID string, died time.Time, more ...string) string {
	w.t.Helper()
	headers := append([]string{
		"fanout-webhook-id", webhookID, "fanout-account", "acme", "fanout-subscription", "crm", "fanout-event", "EMAIL_OPEN", "fanout-attempts", "8",
		"fanout-origin", "channel.email/0/1", "fanout-reason", "attempts_exhausted", "fanout-detail", "", "fanout-dead-at", topic.UnixMilli(died),
		"fanout-replays", "0",
	}, more...)
	return w.write("fanout.dead-letter", 0, `{"eventType":"OPEN"}`, headers...)
}

// delivered appends an attempt that succeeded then.
func (w *world) delivered(webhookID string, at time.Time) {
	w.t.Helper()
	w.write("fanout.attempts", 0, `{"time":`+topic.UnixMilli(at)+`,"id":"`+webhookID+`","account":"acme","outcome":"delivered"}`,
		"fanout-webhook-id", webhookID, "fanout-outcome", "delivered")
}

// settle commits, for the group that reads it, all that a topic holds.
func (w *world) settle(name string) {
	w.t.Helper()
	ranges, err := w.Ranges(w.t.Context(), name, time.Time{})
	must(w.t, err)
	var offsets []kafka.OffsetCommit
	for id, r := range ranges {
		offsets = append(offsets, kafka.OffsetCommit{Partition: id, Offset: r.To})
	}
	_, err = w.client.OffsetCommit(w.t.Context(), &kafka.OffsetCommitRequest{
		GroupID: w.Config().RetryGroup(), GenerationID: -1, Topics: map[string][]kafka.OffsetCommit{name: offsets},
	})
	must(w.t, err)
}

// plan plans a replay, and returns it too.
func (w *world) plan(cfg operate.ReplayConfig) (*operate.Replay, *operate.ReplayPlan) {
	w.t.Helper()
	r := operate.NewReplay(w.Cluster, cfg)
	p, err := r.Plan(w.t.Context(), nil, nil)
	must(w.t, err)
	return r, p
}

// replay plans and runs a replay, and returns the plan and the dead letters that it sent.
func (w *world) replay(cfg operate.ReplayConfig) (p *operate.ReplayPlan, sent []string) {
	w.t.Helper()
	r, p := w.plan(cfg)
	must(w.t, r.Run(w.t.Context(), p))
	for _, m := range w.records("fanout.replay") {
		if m.Header("fanout-replay") == cfg.Name {
			sent = append(sent, m.Header("fanout-dead-letter"))
		}
	}
	return p, sent
}

// records are all that a topic holds.
func (w *world) records(name string) (all []topic.Record) {
	w.t.Helper()
	ranges, err := w.Ranges(w.t.Context(), name, time.Time{})
	must(w.t, err)
	var mu sync.Mutex // guards all
	must(w.t, w.Scan(context.WithoutCancel(w.t.Context()), name, ranges, nil, func(r *topic.Record) error {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, r.Clone())
		return nil
	}))
	return all
}
