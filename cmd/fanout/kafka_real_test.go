//go:build real

package main_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"

	"fanout/cmd/internal/lab"
)

// outside is a real Kafka and Redis, a receiver, and the program that runs between them.
type outside struct {
	t       *testing.T
	ctx     context.Context //nolint:containedctx // the test's own
	lab     *lab.Lab
	kafka   *lab.Kafka
	redis   *lab.Redis
	recv    *lab.Receiver
	program string
	topic   string // the source of this test alone
	sent    atomic.Int64
}

const partitions = 4

// TestOnKafka plays the faults that the embedded broker does not have, each with a topic and groups of its own.
func TestOnKafka(t *testing.T) {
	lab.RequireKafka(t)
	lab.RequireTools(t, "redis-server")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	l := lab.ForTest(t)
	k, err := l.Kafka(ctx, lab.KafkaConfig{})
	check(t, err)
	r, err := l.Redis(ctx)
	check(t, err)
	program, err := l.Build(ctx)
	check(t, err)
	for name, test := range map[string]func(*outside){
		"transactions": transactions, "rolling restart": rollingRestart, "member killed": memberKilled, "member paused": memberPaused,
		"retry topic unwritable": unwritable, "broker killed": brokerKilled,
	} {
		t.Run(name, func(t *testing.T) {
			recv, err := l.Receiver(lab.KeepIDs)
			check(t, err)
			o := &outside{t: t, ctx: ctx, lab: l, kafka: k, redis: r, recv: recv, program: program, topic: strings.ReplaceAll(name, " ", "-")}
			check(t, k.CreateTopics(ctx, lab.Topic{Name: o.topic, Partitions: partitions}))
			check(t, r.PutSubscription(ctx, o.topic, "s", fmt.Sprintf(`{"url":%q,"events":["*"]}`, recv.URL("/s"))))
			test(o)
		})
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// start starts an instance and waits until it is ready.
func (o *outside) start() *lab.Fanout {
	o.t.Helper()
	f, err := o.lab.Fanout(o.program, o.kafka, o.redis, func(c lab.Config) {
		c.Set("sources", []map[string]string{{"topic": o.topic}}).Set("kafka.group", o.topic).Set("topics.prefix", o.topic).
			Set("delivery.schedule", []string{"1s", "2s"}).Set("lanes.park_min", "1s").Set("lanes.park_max", "2s").Set("kafka.partitions", 2).
			Set("kafka.retry_partitions", 1)
	})
	check(o.t, err)
	o.t.Cleanup(func() { _ = f.Kill() })
	check(o.t, f.Ready(o.ctx))
	return f
}

func (o *outside) value() []byte {
	return fmt.Appendf(nil, `{"accountId":%q,"channel":"EMAIL","type":"OPEN","trackingId":"t%d","notificationId":"n","userId":"u"}`, o.topic, o.sent.Add(1))
}

// send produces n events to each partition, however long Kafka takes to accept them.
func (o *outside) send(n int) {
	client := o.kafka.Client()
	defer lab.CloseClient(client)
	for p := range partitions {
		var list [][]byte
		for range n {
			list = append(list, o.value())
		}
		for o.ctx.Err() == nil {
			records := make([]kafka.Record, len(list))
			for i := range list {
				records[i].Value = kafka.NewBytes(list[i])
			}
			res, err := client.Produce(o.ctx, &kafka.ProduceRequest{
				Topic: o.topic, Partition: p, RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(records...),
			})
			if err == nil && res.Error == nil {
				break
			}
			time.Sleep(100 * time.Millisecond) // until it does
		}
	}
}

func (o *outside) await(what string, within time.Duration, ok func() bool) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.ctx, within)
	defer cancel()
	check(o.t, lab.Await(ctx, what, ok))
}

func (o *outside) delivered() int64 {
	var n int64
	for _, c := range o.recv.IDs("/s") {
		if c.Delivered > 0 {
			n++
		}
	}
	return n
}

// settled waits until all that was sent is delivered and committed, and says how many requests were repeats.
func (o *outside) settled(within time.Duration) int64 {
	o.t.Helper()
	o.await("every event to be delivered", within, func() bool { return o.delivered() >= o.sent.Load() })
	o.await("every offset to be committed", within, func() bool {
		ends, err := o.kafka.Ends(o.ctx, o.topic)
		if err != nil {
			return false
		}
		committed, err := o.kafka.Committed(o.ctx, o.topic, o.topic)
		return err == nil && maps.Equal(ends, committed)
	})
	return o.recv.Delivered("/s") - o.sent.Load()
}

func (o *outside) balanced(f *lab.Fanout) {
	o.t.Helper()
	m, err := f.Metrics(o.ctx)
	check(o.t, err)
	if off := m.Unaccounted(); len(off) > 0 {
		o.t.Errorf("loss account: %v", off)
	}
}

func (o *outside) stop(f *lab.Fanout) {
	o.t.Helper()
	check(o.t, f.Stop(o.ctx))
}

func transactions(o *outside) {
	f := o.start()
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	for name, codec := range codecs {
		producer, err := kgo.NewClient(kgo.SeedBrokers(o.kafka.Brokers()...), kgo.TransactionalID(name), kgo.ProducerBatchCompression(codec),
			kgo.DefaultProduceTopic(o.topic), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
		check(o.t, err)
		for _, commit := range []bool{false, true, true, false} {
			check(o.t, producer.BeginTransaction())
			for range 40 {
				value := o.value()
				if !commit {
					o.sent.Add(-1)
					value = []byte(strings.Replace(string(value), `"t`, `"aborted`, 1))
				}
				producer.Produce(o.ctx, kgo.SliceRecord(value), nil)
			}
			check(o.t, producer.Flush(o.ctx))
			check(o.t, producer.EndTransaction(o.ctx, kgo.TransactionEndTry(commit)))
		}
		producer.Close()
	}
	repeats := o.settled(30 * time.Second) // commits reach the end: past every marker
	if repeats != 0 {
		o.t.Errorf("%d requests too many: aborted records were delivered", repeats)
	}
	o.await("no lag", 5*time.Second, func() bool {
		m, err := f.Metrics(o.ctx)
		return err == nil && m.Sum("fanout_lag_records", `topic="`+o.topic+`"`) == 0
	})
	o.balanced(f)
	o.stop(f)
}

// load sends until the returned function is called.
func (o *outside) load() (stop func()) {
	ctx, cancel := context.WithCancel(o.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			o.send(5)
			time.Sleep(20 * time.Millisecond) // a pace
		}
	}()
	return func() { cancel(); <-done }
}

func rollingRestart(o *outside) {
	a := o.start()
	stop := o.load()
	b := o.start()
	o.await("some", 20*time.Second, func() bool { return o.delivered() > 200 })
	o.stop(a)
	c := o.start()
	o.stop(b)
	stop()
	if repeats := o.settled(30 * time.Second); repeats > 20 {
		o.t.Errorf("%d repeats", repeats)
	}
	o.balanced(c)
	o.stop(c)
}

func memberKilled(o *outside) {
	a := o.start()
	b := o.start()
	o.send(10)
	o.settled(20 * time.Second)
	check(o.t, a.Kill())
	killed := time.Now()
	before := o.sent.Load()
	o.send(10)
	o.settled(20 * time.Second)
	if took := time.Since(killed); took > 12*time.Second {
		o.t.Errorf("the other one had all partitions delivered after %v", took)
	} else {
		o.t.Logf("%d events in %v", o.sent.Load()-before, took.Round(time.Millisecond))
	}
	check(o.t, b.Kill())
	killed = time.Now()
	o.send(10)
	c := o.start()
	o.await("a delivery", 20*time.Second, func() bool { return o.delivered() > before+10*partitions })
	took := time.Since(killed)
	if took > 12*time.Second {
		o.t.Errorf("first delivery %v after kill -9 and restart", took)
	}
	o.t.Logf("first delivery %v after kill -9 and restart", took.Round(time.Millisecond))
	o.settled(20 * time.Second)
	o.balanced(c)
	o.stop(c)
}

// memberPaused freezes a member for longer than its session: it must not commit over the one that has its partitions.
func memberPaused(o *outside) {
	a := o.start()
	b := o.start()
	stop := o.load()
	o.await("some", 20*time.Second, func() bool { return o.delivered() > 200 })
	check(o.t, a.Pause())
	time.Sleep(14 * time.Second) // longer than a session of 8 s and the rebalance: a fault has to last
	at, err := o.kafka.Committed(o.ctx, o.topic, o.topic)
	check(o.t, err)
	check(o.t, a.Resume())
	watch := time.Now()
	for time.Since(watch) < 5*time.Second {
		now, err := o.kafka.Committed(o.ctx, o.topic, o.topic)
		check(o.t, err)
		for p, offset := range now {
			if offset < at[p] {
				o.t.Fatalf("partition %d was committed at %d, then at %d", p, at[p], offset)
			}
		}
		at = now
		time.Sleep(50 * time.Millisecond) // a pace
	}
	stop()
	repeats := o.settled(30 * time.Second)
	o.t.Logf("%d events, %d repeats", o.sent.Load(), repeats)
	o.balanced(a)
	o.balanced(b)
	o.stop(a)
	o.stop(b)
}

func unwritable(o *outside) {
	f := o.start()
	down := atomic.Bool{}
	down.Store(true)
	o.recv.On("/s", func(int64, *lab.Request) lab.Answer {
		if down.Load() {
			return lab.Answer{Status: 503}
		}
		return lab.Answer{}
	})
	o.config(o.topic+".retry.1s", "max.message.bytes", "100") // too small for any delivery
	o.config(o.topic+".retry.2s", "max.message.bytes", "100")
	o.send(20)
	o.await("a write to fail", 20*time.Second, func() bool {
		ctx, cancel := context.WithTimeout(o.ctx, time.Second)
		defer cancel()
		return f.Ready(ctx) != nil
	})
	committed, err := o.kafka.Committed(o.ctx, o.topic, o.topic)
	check(o.t, err)
	if slices.Max(slices.Collect(maps.Values(committed))) > 0 {
		o.t.Errorf("committed %v while nothing could be written", committed)
	}
	down.Store(false)
	o.config(o.topic+".retry.1s", "max.message.bytes", "1000000")
	o.config(o.topic+".retry.2s", "max.message.bytes", "1000000")
	o.settled(30 * time.Second)
	check(o.t, f.Ready(o.ctx))
	o.balanced(f)
	o.stop(f)
}

func (o *outside) config(topic, key, value string) {
	o.t.Helper()
	res, err := o.kafka.Client().AlterConfigs(o.ctx, &kafka.AlterConfigsRequest{Resources: []kafka.AlterConfigRequestResource{{
		ResourceType: kafka.ResourceTypeTopic, ResourceName: topic, Configs: []kafka.AlterConfigRequestConfig{{Name: key, Value: value}},
	}}})
	check(o.t, err)
	for _, err := range res.Errors {
		check(o.t, err)
	}
}

func brokerKilled(o *outside) {
	f := o.start()
	stop := o.load()
	o.await("some", 20*time.Second, func() bool { return o.delivered() > 100 })
	check(o.t, o.kafka.Kill())
	time.Sleep(3 * time.Second) // an outage
	restarted := time.Now()
	before := o.delivered()
	check(o.t, o.kafka.Start(o.ctx))
	back := time.Since(restarted)
	o.await("a delivery", 30*time.Second, func() bool { return o.delivered() > before })
	took := time.Since(restarted)
	o.t.Logf("first delivery %v after the broker was started again, which took it %v", took.Round(time.Millisecond), back.Round(time.Millisecond))
	// The target is 15 s from the broker's start, which takes Kafka itself 9 to 13 s after a kill. The group then waits for
	// the session, of 8 s, of the member that could not leave it: what is more than that is ours.
	if took-back > 11*time.Second {
		o.t.Errorf("first delivery %v after the broker was back", took-back)
	}
	stop()
	repeats := o.settled(40 * time.Second)
	o.t.Logf("%d events, %d repeats", o.sent.Load(), repeats)
	o.balanced(f)
	o.stop(f)
}
