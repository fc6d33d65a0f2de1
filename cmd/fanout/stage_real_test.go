//go:build real

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"fanout/cmd/internal/lab"
)

// stage is what all tests here share: Apache Kafka and the built program.
type stage struct {
	lab     *lab.Lab
	kafka   *lab.Kafka
	program string
}

var theStage = sync.OnceValues(func() (*stage, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	l, err := lab.New()
	if err != nil {
		return nil, err
	}
	atEnd = append(atEnd, l.Close)
	s := &stage{lab: l}
	if s.program, err = l.Build(ctx); err != nil {
		return nil, err
	}
	s.kafka, err = l.Kafka(ctx, lab.KafkaConfig{})
	return s, err
})

// site is one test's part of the stage: its topics and groups bear its name, and it has a Redis, so that no test sees
// another's.
type site struct {
	*stage

	name     string
	redis    *lab.Redis
	receiver *lab.Receiver
	config   lab.Config // changed before start
	fanout   *lab.Fanout
}

// newSite makes the source topics name.email (3 partitions) and name.sms, and a receiver.
func newSite(t *testing.T, name string, keep lab.Keep) *site {
	t.Helper()
	lab.RequireKafka(t)
	lab.RequireTools(t, "kcat", "redis-server", "redis-cli")
	shared, err := theStage()
	if err != nil {
		t.Fatal(err)
	}
	s := &site{stage: shared, name: name}
	if s.receiver, err = s.lab.Receiver(keep); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.receiver.Stop)
	if s.redis, err = s.lab.Redis(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.redis.Kill() })
	s.topics(t, lab.Topic{Name: s.email(), Partitions: 3}, lab.Topic{Name: name + ".sms"})
	s.config = lab.Config{}.
		Set("topics.prefix", name).Set("kafka.group", name).Set("kafka.partitions", 3).Set("kafka.retry_partitions", 1).
		Set("sources", []lab.Config{{"topic": s.email()}, {"topic": name + ".sms"}}).
		Set("delivery.schedule", []string{"1s", "2s", "2s"}).Set("lanes.park_min", "1s").Set("lanes.park_max", "2s")
	return s
}

func (s *site) email() string      { return s.name + ".email" }
func (s *site) deadLetter() string { return s.name + ".dead-letter" }

func (s *site) topics(t *testing.T, topics ...lab.Topic) {
	t.Helper()
	if err := s.kafka.CreateTopics(within(t, 30*time.Second), topics...); err != nil {
		t.Fatal(err)
	}
}

// within is the test's context with a bound.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// adjust makes the lab's configuration this site's.
func (s *site) adjust(c lab.Config) {
	for section, keys := range s.config {
		inner, nested := keys.(lab.Config)
		if !nested {
			c.Set(section, keys)
		}
		for key, value := range inner {
			c.Set(section+"."+key, value)
		}
	}
}

// start starts `fanout run` and waits until it is ready.
func (s *site) start(t *testing.T) {
	t.Helper()
	f, err := s.lab.Fanout(s.program, s.kafka, s.redis, s.adjust)
	if err != nil {
		t.Fatal(err)
	}
	s.fanout = f
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := os.ReadFile(f.Log())
			t.Logf("fanout's log ends with\n%s", text[max(0, len(text)-4000):])
			m, err := f.Metrics(context.WithoutCancel(t.Context()))
			maps.DeleteFunc(m, func(series string, value float64) bool {
				return value == 0 || !strings.HasPrefix(series, "fanout_") || strings.Contains(series, "_bucket{")
			})
			t.Logf("its metrics: %v %v", m, err)
		}
		_ = f.Kill()
	})
	if err := f.Ready(within(t, 30*time.Second)); err != nil {
		t.Fatal(err)
	}
}

// again starts the fanout that has ended, and waits until it is ready.
func (s *site) again(t *testing.T) {
	t.Helper()
	if err := errors.Join(s.fanout.Start(), s.fanout.Ready(within(t, 30*time.Second))); err != nil {
		t.Fatal(err)
	}
}

func (s *site) subscribe(t *testing.T, account, id, path, rest string) {
	t.Helper()
	if err := s.redis.PutSubscription(t.Context(), account, id, `{"url":"`+s.receiver.URL(path)+`",`+rest+`}`); err != nil {
		t.Fatal(err)
	}
}

// ran is what a command did.
type ran struct {
	code           int
	stdout, stderr string
	took           time.Duration
	peak           int64 // bytes of memory
}

func (r ran) String() string {
	return fmt.Sprintf("exit %d in %s, peak %d MiB\n%s%s", r.code, r.took.Round(time.Millisecond), r.peak>>20, r.stdout, r.stderr)
}

// command is a command of the program with this site's configuration; an instance must have been started.
func (s *site) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s.program, append(args, "--config", filepath.Join(filepath.Dir(s.fanout.Log()), "fanout.yaml"))...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// run runs a command to its end.
func (s *site) run(t *testing.T, args ...string) ran {
	t.Helper()
	return finish(t, s.command(within(t, 2*time.Minute), args...))
}

func finish(t *testing.T, cmd *exec.Cmd) ran {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // how it ended is in cmd.ProcessState
	}()
	r := ran{peak: peak(cmd.Process.Pid, ended)}
	r.code, r.stdout, r.stderr, r.took = cmd.ProcessState.ExitCode(), stdout.String(), stderr.String(), time.Since(began)
	return r
}

// peak watches a process until it has ended. What wait4 says of its memory would be ours: the child begins as our copy.
func peak(pid int, ended <-chan struct{}) (most int64) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return most
		case <-tick.C:
			text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			_, rest, _ := strings.Cut(string(text), "VmHWM:")
			var kib int64
			if n, _ := fmt.Sscan(rest, &kib); n == 1 {
				most = kib << 10
			}
		}
	}
}

// must runs a command that has to succeed.
func (s *site) must(t *testing.T, args ...string) ran {
	t.Helper()
	r := s.run(t, args...)
	if r.code != 0 {
		t.Fatalf("fanout %s: %s", strings.Join(args, " "), r)
	}
	return r
}

// tool runs a program of somebody else's.
func tool(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(within(t, 20*time.Second), args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v %s", strings.Join(args, " "), err, &stderr)
	}
	return string(out)
}

// await waits until the condition holds.
func await(t *testing.T, bound time.Duration, what string, ok func() bool) {
	t.Helper()
	if err := lab.Await(within(t, bound), what, ok); err != nil {
		t.Fatal(err)
	}
}

// produce writes records to one partition. A broker may not yet know that it leads a partition just made.
func (s *site) produce(t *testing.T, topic string, partition int, records ...kafka.Record) {
	t.Helper()
	// A record's bytes are read by the first attempt: each gets its own.
	type pair struct{ key, value []byte }
	kept := make([]pair, len(records))
	for i := range records {
		var errKey, errValue error
		kept[i].key, errKey = kafka.ReadAll(records[i].Key)
		kept[i].value, errValue = kafka.ReadAll(records[i].Value)
		if err := errors.Join(errKey, errValue); err != nil {
			t.Fatal(err)
		}
	}
	client := s.kafka.Client()
	defer lab.CloseClient(client)
	var err error
	done := lab.Await(within(t, time.Minute), "the write to "+topic, func() bool {
		for i := range records {
			records[i].Key, records[i].Value = kafka.NewBytes(kept[i].key), kafka.NewBytes(kept[i].value)
		}
		var res *kafka.ProduceResponse
		res, err = client.Produce(t.Context(), &kafka.ProduceRequest{
			Topic: topic, Partition: partition, RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(records...),
		})
		if err == nil {
			err = res.Error
		}
		return !errors.Is(err, kafka.NotLeaderForPartition) && !errors.Is(err, kafka.UnknownTopicOrPartition)
	})
	if transport, ok := client.Transport.(*kafka.Transport); ok {
		transport.CloseIdleConnections()
	}
	if err := errors.Join(done, err); err != nil {
		t.Fatal(err)
	}
}

// raw is a raw event of an account, with an id of its own.
func (s *site) raw(account string, n int) kafka.Record {
	value := fmt.Sprintf(`{"accountId":%q,"channel":"EMAIL","type":"OPEN","trackingId":"t%d","notificationId":"n","userId":"u","id":"%s-%d"}`, account, n, s.name, n)
	return kafka.Record{Key: kafka.NewBytes([]byte(account)), Value: kafka.NewBytes([]byte(value))}
}

// events writes n raw events of acme, from the number `from` on, over the partitions of the email topic.
func (s *site) events(t *testing.T, from, n int) {
	t.Helper()
	for at := 0; at < n; {
		var batch []kafka.Record
		for ; at < n && len(batch) < 5000; at++ {
			batch = append(batch, s.raw("acme", from+at))
		}
		s.produce(t, s.email(), at/5000%3, batch...)
	}
}

// all reads a whole topic, partition by partition; one that does not exist holds nothing.
func (s *site) all(t *testing.T, topic string) []kafka.Message {
	t.Helper()
	ends, err := s.kafka.Ends(t.Context(), topic)
	if errors.Is(err, kafka.UnknownTopicOrPartition) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var messages []kafka.Message
	for id, end := range ends {
		reader := kafka.NewReader(kafka.ReaderConfig{Brokers: s.kafka.Brokers(), Topic: topic, Partition: id, MaxWait: 100 * time.Millisecond})
		for at := int64(0); at < end; {
			m, err := reader.ReadMessage(within(t, 20*time.Second))
			if err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			messages = append(messages, m)
			at = m.Offset + 1
		}
		_ = reader.Close()
	}
	return messages
}

// ended is how many records a topic has had.
func (s *site) ended(t *testing.T, topic string) (n int64) {
	t.Helper()
	ends, err := s.kafka.Ends(t.Context(), topic)
	if err != nil && !errors.Is(err, kafka.UnknownTopicOrPartition) {
		t.Fatal(err)
	}
	for _, end := range ends {
		n += end
	}
	return n
}

func headers(m *kafka.Message) map[string]string {
	out := make(map[string]string)
	for _, h := range m.Headers {
		out[h.Key] = string(h.Value)
	}
	return out
}

// settled waits until the groups have committed all of the topics and the loss account balances.
func (s *site) settled(t *testing.T, bound time.Duration, topics ...string) {
	t.Helper()
	for _, topic := range topics {
		group := s.name
		if strings.HasPrefix(topic, s.name+".retry.") || topic == s.name+".replay" {
			group += ".retry"
		}
		await(t, bound, "commits of "+topic, func() bool {
			ends, err1 := s.kafka.Ends(t.Context(), topic)
			committed, err2 := s.kafka.Committed(t.Context(), group, topic)
			if err1 != nil || err2 != nil {
				return false
			}
			for id, end := range ends {
				if end > 0 && committed[id] != end {
					return false
				}
			}
			return true
		})
	}
	var off map[string]float64
	err := lab.Await(within(t, 10*time.Second), "the loss account", func() bool {
		m, err := s.fanout.Metrics(t.Context())
		if err == nil {
			off = m.Unaccounted()
		}
		return err == nil && len(off) == 0
	})
	if err != nil {
		t.Fatalf("the loss account is off by %v: %v", off, err)
	}
}
