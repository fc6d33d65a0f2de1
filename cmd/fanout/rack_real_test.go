//go:build real

package main_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"

	"fanout/cmd/internal/lab"
)

// line is the way to one broker: it counts what the broker says, and can be cut or hang.
type line struct {
	listen, target string
	said           atomic.Int64 // bytes, of the broker
	hangs          atomic.Bool  // nothing gets through, and nobody is told

	mu       sync.Mutex // guards all below
	listener net.Listener
	conns    []net.Conn
}

// open lets connections through.
func (l *line) open(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", l.listen)
	check(t, err)
	l.mu.Lock()
	l.listener = listener
	l.mu.Unlock()
	go func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", l.target)
			if err != nil {
				_ = in.Close()
				continue
			}
			l.mu.Lock()
			l.conns = append(l.conns, in, out)
			l.mu.Unlock()
			go l.pass(out, in, nil)
			go l.pass(in, out, &l.said)
		}
	}()
}

func (l *line) pass(to, from net.Conn, count *atomic.Int64) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		for l.hangs.Load() {
			time.Sleep(10 * time.Millisecond)
		}
		if count != nil {
			count.Add(int64(n))
		}
		if _, wrote := to.Write(buffer[:n]); err != nil || wrote != nil {
			return
		}
	}
}

// cut ends every connection, and lets none through.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.listener.Close()
	for _, c := range l.conns {
		_ = c.Close()
	}
	l.conns = nil
}

// TestRackReal reads from the replica in its own rack (docs/contract.md#rack), and from the leader while that replica cannot be reached,
// does not answer, or is dead.
func TestRackReal(t *testing.T) {
	lab.RequireKafka(t)
	lab.RequireTools(t, "redis-server")
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	l := lab.ForTest(t)
	k, err := l.Kafka(ctx, lab.KafkaConfig{Nodes: 3, Proxied: true, Racks: true, Properties: map[string]string{"offsets.topic.num.partitions": "1", "default.replication.factor": "3"}})
	check(t, err)
	redis, err := l.Redis(ctx)
	check(t, err)
	program, err := l.Build(ctx)
	check(t, err)
	recv, err := l.Receiver(lab.KeepIDs)
	check(t, err)
	const name = "racks"
	check(t, k.CreateTopics(ctx, lab.Topic{Name: name, Copies: 3}))
	check(t, redis.PutSubscription(ctx, name, "s", fmt.Sprintf(`{"url":%q,"events":["*"]}`, recv.URL("/s"))))
	lines := make(map[int]*line)
	var brokers []string
	for _, n := range k.Nodes {
		listen, target := n.Proxy()
		lines[n.ID] = &line{listen: listen, target: target}
		lines[n.ID].open(t)
		t.Cleanup(lines[n.ID].cut)
		brokers = append(brokers, listen)
	}
	leader, near := rackOf(ctx, t, k, name)
	t.Logf("node %d leads the source, fanout is in the rack of node %d", leader, near.ID)

	o := &outside{t: t, ctx: ctx, lab: l, kafka: k, redis: redis, recv: recv, program: program, topic: name}
	f, err := l.Fanout(program, k, redis, func(c lab.Config) {
		c.Set("kafka.brokers", brokers).Set("kafka.rack", near.Rack()).Set("sources", []map[string]string{{"topic": name}}).
			Set("kafka.group", name).Set("topics.prefix", name).Set("delivery.schedule", []string{"1s"}).Set("attempts.topic", false)
	})
	check(t, err)
	defer func() { _ = f.Kill() }()
	check(t, f.Ready(ctx))

	// step sends records, and says how long it took until all were delivered, and which of the two brokers they were read from.
	producer, err := kgo.NewClient(kgo.SeedBrokers(k.Brokers()...), kgo.DefaultProduceTopic(name), kgo.ProducerBatchCompression(kgo.NoCompression()))
	check(t, err)
	defer producer.Close()
	step := func(what string, n int) (took time.Duration, fromNear, fromLeader float64) {
		t.Helper()
		nearBefore, leaderBefore := lines[near.ID].said.Load(), lines[leader].said.Load()
		records := make([]*kgo.Record, n)
		size := 0
		for i := range records {
			value := strings.Replace(string(o.value()), "{", `{"padding":"`+strings.Repeat("x", 2000)+`",`, 1)
			size += len(value)
			records[i] = kgo.StringRecord(value)
		}
		check(t, producer.ProduceSync(o.ctx, records...).FirstErr())
		began := time.Now() // only now is it on all replicas that are in sync, and may be read
		o.await("every event to be delivered: "+what, time.Minute, func() bool { return o.delivered() >= o.sent.Load() })
		share := func(l *line, before int64) float64 { return float64(l.said.Load()-before) / float64(size) }
		took, fromNear, fromLeader = time.Since(began), share(lines[near.ID], nearBefore), share(lines[leader], leaderBefore)
		t.Logf("%s: %d events in %v, %.2f of their bytes from the replica, %.2f from the leader", what, n, took.Round(time.Millisecond), fromNear, fromLeader)
		return took, fromNear, fromLeader
	}
	follows := func(what string) {
		t.Helper()
		o.await("the replica to be followed: "+what, 90*time.Second, func() bool {
			time.Sleep(time.Second) // a pace
			_, fromNear, fromLeader := step(what, 20)
			return fromNear > 0.9 && fromLeader < 0.5
		})
	}
	givenUp := func(what string, within time.Duration) {
		t.Helper()
		if took, _, fromLeader := step(what, 300); took > within || fromLeader < 0.9 {
			t.Errorf("%s: all was delivered after %v, want %v; %.2f of it read from the leader", what, took, within, fromLeader)
		}
	}

	follows("at first")
	if _, fromNear, fromLeader := step("followed", 300); fromNear < 0.9 || fromLeader > 0.1 {
		t.Errorf("%.2f read from the replica in its rack, %.2f from the leader", fromNear, fromLeader)
	}
	lines[near.ID].cut()
	givenUp("it cannot be reached", 5*time.Second)
	lines[near.ID].open(t)
	follows("it can be reached again")
	lines[near.ID].hangs.Store(true)
	givenUp("it does not answer", 10*time.Second)
	lines[near.ID].hangs.Store(false)
	follows("it answers again")
	check(t, near.Kill())
	lines[near.ID].cut()
	givenUp("it is dead", 5*time.Second)
	o.balanced(f)
	if repeats := recv.Delivered("/s") - o.sent.Load(); repeats > 0 {
		t.Errorf("%d requests too many", repeats)
	}
}

// rackOf is the source's leader, and another node, in whose rack fanout shall be, which coordinates no group.
func rackOf(ctx context.Context, t *testing.T, k *lab.Kafka, source string) (leader int, near *lab.KafkaNode) {
	t.Helper()
	client := k.Client()
	defer lab.CloseClient(client)
	coordinator := 0
	check(t, lab.Await(ctx, "a coordinator", func() bool {
		found, err := client.FindCoordinator(ctx, &kafka.FindCoordinatorRequest{Addr: kafka.TCP(k.Addr()), Key: source, KeyType: kafka.CoordinatorKeyTypeConsumer})
		if err != nil || found.Error != nil {
			return false
		}
		coordinator = found.Coordinator.NodeID
		return true
	}))
	meta, err := client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{source}})
	check(t, err)
	leader = meta.Topics[0].Partitions[0].Leader.ID
	for _, n := range k.Nodes {
		if n.ID != leader && n.ID != coordinator {
			near = n
		}
	}
	return leader, near
}
