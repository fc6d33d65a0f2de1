package letters_test

import (
	"context"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"fanout/operate/letters"
	"fanout/topic"
)

// kafkaWorld is a Kafka with a dead-letter topic of two partitions.
type kafkaWorld struct {
	*topic.Cluster

	t    *testing.T
	said *observer.ObservedLogs
	log  *zap.Logger
}

func newKafkaWorld(t *testing.T) *kafkaWorld {
	t.Helper()
	fake, err := kfake.NewCluster(kfake.NumBrokers(1))
	must(t, err)
	t.Cleanup(fake.Close)
	c, err := topic.NewCluster(topic.Config{
		Kafka:  topic.KafkaConfig{Brokers: fake.ListenAddrs(), Group: "fanout", CreateTopics: true, Partitions: 2, RetryPartitions: 1, Replication: 1},
		Prefix: "fanout", Schedule: []time.Duration{5 * time.Second}, ParkMin: 30 * time.Second, ParkMax: time.Hour, MaxAge: time.Hour, MaxEventBytes: 256 << 10,
	})
	must(t, err)
	t.Cleanup(c.Close)
	core, said := observer.New(zapcore.InfoLevel)
	w := &kafkaWorld{Cluster: c, t: t, said: said, log: zap.New(core)}
	w.create()
	return w
}

func (w *kafkaWorld) create() {
	w.t.Helper()
	_, err := w.Create(w.t.Context(), w.Config().Owned())
	must(w.t, err)
}

func (w *kafkaWorld) client() *kafka.Client {
	return &kafka.Client{Addr: kafka.TCP(w.Config().Kafka.Brokers...), Transport: &kafka.Transport{}}
}

// dies appends dead letters of an account.
func (w *kafkaWorld) dies(partition int, account string, n int) {
	w.t.Helper()
	var records []kafka.Record
	for range n {
		records = append(records, kafka.Record{Time: time.Now(), Value: kafka.NewBytes([]byte("{}")), Headers: []kafka.Header{
			{Key: "fanout-account", Value: []byte(account)},
			{Key: "fanout-subscription", Value: []byte("crm")},
			{Key: "fanout-reason", Value: []byte("expired")},
			{Key: "fanout-dead-at", Value: []byte(topic.UnixMilli(time.Now()))},
			{Key: "fanout-detail", Value: []byte(strings.Repeat("d", 200))},
		}})
	}
	_, err := w.Produce(w.t.Context(), topic.Partition{Topic: "fanout.dead-letter", ID: partition}, records)
	must(w.t, err)
}

// builds runs a builder until a condition holds, and then stops it.
func (w *kafkaWorld) builds(cfg letters.Config, until func(*letters.Builder) bool) *letters.Builder {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	cfg.Every = 20 * time.Millisecond
	b := letters.NewBuilder(w.Cluster, cfg, w.log)
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	for deadline := time.Now().Add(20 * time.Second); !until(b); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("not reached: %+v", b.Status())
		}
	}
	cancel()
	must(w.t, <-ended)
	return b
}

// counts says whether an account is known to have so many.
func counts(account string, n int) func(*letters.Builder) bool {
	return func(b *letters.Builder) bool {
		one, ok := b.Index().Look(account, nil)
		s := b.Status()
		return ok && one.Count == n && s.Records >= 0 && s.Unread == 0
	}
}

// An index is built, goes on after a restart where it was, follows what dies, and begins again where the topic is another one.
func TestIndexFollowsTheTopic(t *testing.T) {
	t.Parallel()
	w := newKafkaWorld(t)
	file := filepath.Join(t.TempDir(), "fanout.dead-letters")
	w.dies(0, "acme", 10)
	w.dies(1, "acme", 5)
	w.dies(1, "globex", 3)
	b := w.builds(letters.Config{File: file}, counts("acme", 15))
	if s := b.Status(); s.Records != 18 || s.FileSize == 0 {
		t.Errorf("status %+v", s)
	}

	// What the file says is not read again: it has what the topic no longer tells.
	w.cut(1, 6)
	w.dies(0, "acme", 2)
	b = w.builds(letters.Config{File: file}, counts("globex", 2))
	if !counts("acme", 12)(b) || w.said.FilterMessageSnippet("read from its file").Len() != 1 {
		t.Errorf("after a restart: %+v, %v", b.Status(), w.said.All())
	}

	_, err := w.client().DeleteTopics(t.Context(), &kafka.DeleteTopicsRequest{Topics: []string{"fanout.dead-letter"}})
	must(t, err)
	w.create()
	w.dies(0, "acme", 1)
	w.dies(0, "globex", 30)
	w.builds(letters.Config{File: file}, func(b *letters.Builder) bool { return counts("acme", 1)(b) && counts("globex", 30)(b) })
	if w.said.FilterMessageSnippet("begins again").Len() == 0 {
		t.Errorf("it said %v", w.said.All())
	}
}

// cut deletes what lies before an offset.
func (w *kafkaWorld) cut(partition int, before int64) {
	w.t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(w.Config().Kafka.Brokers...))
	must(w.t, err)
	defer c.Close()
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.TimeoutMillis = 5000
	name, part := kmsg.NewDeleteRecordsRequestTopic(), kmsg.NewDeleteRecordsRequestTopicPartition()
	name.Topic, part.Partition, part.Offset = "fanout.dead-letter", int32(partition), before
	name.Partitions = append(name.Partitions, part)
	req.Topics = append(req.Topics, name)
	res, err := req.RequestWith(w.t.Context(), c)
	must(w.t, err)
	must(w.t, kerr.ErrorForCode(res.Topics[0].Partitions[0].ErrorCode))
}

// A record whose account is longer than any is not kept, and is not a reason to read the topic again and again.
func TestIndexPassesOverForeignNames(t *testing.T) {
	t.Parallel()
	w := newKafkaWorld(t)
	w.dies(0, strings.Repeat("a", 300), 1)
	w.dies(0, "acme", 2)
	w.builds(letters.Config{}, counts("acme", 2))
	w.dies(0, "acme", 1)
	rounds := 0
	b := w.builds(letters.Config{}, func(b *letters.Builder) bool {
		if counts("acme", 3)(b) {
			rounds++
		}
		return rounds > 20
	})
	if n := w.said.FilterMessageSnippet("begins again").Len(); n > 0 || !counts("globex", 0)(b) {
		t.Errorf("it began again %d times: %v", n, w.said.All())
	}
	if _, ok := b.Index().Look(strings.Repeat("a", 300), nil); ok {
		t.Error("it says what it cannot know")
	}
}

// A topic that is made again while it runs is another one, and what somebody doubts is read again.
func TestIndexBeginsAgain(t *testing.T) {
	t.Parallel()
	w := newKafkaWorld(t)
	w.dies(0, "acme", 4)
	step := 0
	w.builds(letters.Config{}, func(b *letters.Builder) bool {
		switch step {
		case 0:
			if counts("acme", 4)(b) {
				b.Suspect()
				step++
			}
		case 1:
			if w.said.FilterField(zap.String("why", "it does not agree with the topic")).Len() == 1 && counts("acme", 4)(b) {
				_, err := w.client().DeleteTopics(t.Context(), &kafka.DeleteTopicsRequest{Topics: []string{"fanout.dead-letter"}})
				must(t, err)
				w.create()
				w.dies(0, "globex", 20) // more than there was, so that its end does not tell
				step++
			}
		default:
			return counts("globex", 20)(b) && counts("acme", 0)(b)
		}
		return false
	})
}

// It reads no faster than it may, and hardly at all while deliveries wait.
func TestIndexGivesWay(t *testing.T) {
	t.Parallel()
	w := newKafkaWorld(t)
	for i := range 20 {
		w.dies(0, "account-"+strconv.Itoa(i), 1000)
	}
	began := time.Now()
	w.builds(letters.Config{Rate: 4 << 20}, counts("account-19", 1000))
	if took := time.Since(began); took < time.Second { // 20 000 records of some 330 bytes
		t.Errorf("it took %s", took)
	}
	var asked atomic.Int64
	b := w.builds(letters.Config{Busy: func() bool { return asked.Add(1) < 3 }}, counts("account-19", 1000))
	if asked.Load() < 3 {
		t.Errorf("asked %d times whether deliveries wait: %+v", asked.Load(), b.Status())
	}
}
