package consumer

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"
	"go.uber.org/zap"

	"fanout/dispatcher"
	"fanout/event"
	"fanout/topic"
	"fanout/topic/wire"
)

// These tests look at each place where a delivery could be settled, or an offset committed, too early. The mutations of testdata/mutations are
// such mistakes: make mutate shows that each is seen.

// lossLog is a cluster that answers each request as a test says, and keeps what it took.
type lossLog struct {
	answer func(ctx context.Context, records int) error

	mu    sync.Mutex // guards taken
	taken []string   // values
}

func (l *lossLog) PartitionCount(context.Context, string) (int, error) { return 2, nil }

func (l *lossLog) Produce(ctx context.Context, _ topic.Partition, records []kafka.Record) (int64, error) {
	if err := l.answer(ctx, len(records)); err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range records {
		value, err := kafka.ReadAll(r.Value)
		if err != nil {
			return 0, err
		}
		l.taken = append(l.taken, string(value))
	}
	return 0, nil
}

func (l *lossLog) ProduceBatch(ctx context.Context, _ topic.Partition, batch []byte) (int64, error) {
	read, _, _, err := wire.NextBatch(batch)
	if err != nil {
		return 0, err
	}
	return 0, errors.Join(l.answer(ctx, 1), read.Each(func(*wire.Record) bool { return true }))
}

func (l *lossLog) has(value string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.taken, value)
}

// Nothing but the acknowledgement of a write is one: not a time-out, nor any refusal.
func TestWriterIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		tries := 0
		refusals := []error{kafka.MessageSizeTooLarge, kafka.NotEnoughReplicas, kafka.UnknownTopicOrPartition, kafka.TopicAuthorizationFailed, errors.New("cut off")}
		log := &lossLog{answer: func(ctx context.Context, _ int) error {
			if tries++; tries == 1 {
				<-ctx.Done() // it may have been written, or not
				return ctx.Err()
			}
			if tries-2 < len(refusals) {
				return refusals[tries-2]
			}
			return nil
		}}
		repaired := 0
		w := newWriter(ctx, log, zap.NewNop(), func(context.Context, string) { repaired++ })
		acked := 0
		w.send(outgoingRecord{topic: "t", value: []byte("v"), acked: func() {
			if acked++; !log.has("v") {
				t.Errorf("it counts as written after %d tries, and nothing was taken", tries)
			}
		}})
		time.Sleep(time.Minute)
		synctest.Wait()
		if acked != 1 || tries != len(refusals)+2 || repaired == 0 || w.failing() {
			t.Errorf("acknowledged %d times after %d tries, %d repairs; failing: %t", acked, tries, repaired, w.failing())
		}
		cancel()
		w.wait()
	})
}

// A batch that is too large is written in parts, each record of it once, and what comes up meanwhile is written after it.
func TestWriterSplits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		log := &lossLog{answer: func(_ context.Context, records int) error {
			time.Sleep(10 * time.Millisecond)
			if records > 2 {
				return kafka.RecordListTooLarge
			}
			return nil
		}}
		w := newWriter(ctx, log, zap.NewNop(), func(context.Context, string) {})
		values := []string{"a", "b", "c", "d", "e", "f", "g"}
		var mu sync.Mutex // guards acked
		acked := make(map[string]int)
		send := func(value string) {
			w.send(outgoingRecord{topic: "t", value: []byte(value), acked: func() {
				mu.Lock()
				defer mu.Unlock()
				if acked[value]++; !log.has(value) {
					t.Errorf("%s counts as written, and was not", value)
				}
			}})
		}
		for _, value := range values[:5] {
			send(value)
		}
		time.Sleep(time.Millisecond)
		for _, value := range values[5:] {
			send(value)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		for _, value := range values {
			if acked[value] != 1 {
				t.Errorf("%s was acknowledged %d times", value, acked[value])
			}
		}
		cancel()
		w.wait()
	})
}

// lossOutbox keeps what it is sent.
type lossOutbox struct{ sent []outgoingRecord }

func (o *lossOutbox) send(r outgoingRecord) { o.sent = append(o.sent, r) }

// lossSettler is a settler whose records a test acknowledges.
func lossSettler() (*settler, *lossOutbox) {
	cfg := Config{Config: topic.Config{
		Kafka: topic.KafkaConfig{Group: "fanout"}, Prefix: "fanout", Schedule: []time.Duration{5 * time.Second}, ParkMin: 30 * time.Second, ParkMax: time.Hour,
	}}
	out := &lossOutbox{}
	return &settler{
		out: out, retries: cfg.RetryTopics(), names: cfg.Names(), group: "fanout",
		maxAge: func(event.Name) time.Duration { return time.Hour }, metrics: newMetrics(prometheus.NewRegistry(), new(Consumer)),
	}, out
}

// lossPartition is one that has read a record with one delivery, at offset 0.
func lossPartition(s *settler) (*partition, *unsettledRecord) {
	p := newPartition(topic.Partition{Topic: "email"}, dispatcher.StageFirst, 0, wire.Offset{At: 0, Epoch: wire.NoEpoch}, 0, time.Now())
	r := p.track(&topic.Record{Partition: p.Partition, Value: []byte("{")}, new(entry), &flow{settler: s})
	r.deliveries = make([]dispatcher.Delivery, 1)
	return p, r
}

func committedAt(p *partition) int64 {
	offset, _ := p.commitment(time.Now(), true, true)
	return offset.At
}

// Whatever becomes of a record, its offset is committed when all that has to be written about it was acknowledged, and not before
// (docs/contract.md#settled).
func TestNothingIsSettledBeforeItIsWritten(t *testing.T) {
	outcomes := map[string]dispatcher.Outcome{
		"retry":    {Result: dispatcher.Retry, Reason: dispatcher.StatusFailed},
		"deferred": {Result: dispatcher.Deferred, Reason: dispatcher.Parked},
		"shutdown": deferredByShutdown(time.Now()),
		"dead":     {Result: dispatcher.Dead, Reason: dispatcher.Expired},
	}
	for name, outcome := range outcomes {
		t.Run(name, func(t *testing.T) {
			s, out := lossSettler()
			p, r := lossPartition(s)
			r.hold()
			r.Settle(&r.deliveries[0], outcome)
			r.done()
			waits(t, p, out)
		})
	}
	t.Run("malformed", func(t *testing.T) {
		s, out := lossSettler()
		p, r := lossPartition(s)
		s.deadLetter(r, &topic.Record{Partition: p.Partition, Value: []byte("{")}, "no JSON")
		r.done()
		waits(t, p, out)
	})
	t.Run("attempts record", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			goOn := make(chan struct{})
			s, _ := lossSettler()
			log := &lossLog{answer: func(context.Context, int) error { <-goOn; return nil }}
			s.attempts = newAttemptsLog(log, "attempts", topic.AttemptWriter{}, zap.NewNop(), prometheus.NewCounter(prometheus.CounterOpts{}), nil)
			s.attempts.resize(1)
			var running sync.WaitGroup
			running.Go(func() { s.attempts.run(ctx) })
			p, r := lossPartition(s)
			r.hold()
			r.Settle(&r.deliveries[0], dispatcher.Outcome{Result: dispatcher.Delivered})
			r.done()
			time.Sleep(time.Second)
			if at := committedAt(p); at != 0 {
				t.Errorf("%d would be committed before the attempt is on record", at)
			}
			close(goOn)
			time.Sleep(time.Second)
			if at := committedAt(p); at != 1 {
				t.Errorf("%d would be committed, and all is written", at)
			}
			cancel()
			running.Wait()
		})
	})
}

// waits checks that the record at offset 0 is held back by the one record that was sent.
func waits(t *testing.T, p *partition, out *lossOutbox) {
	t.Helper()
	if len(out.sent) != 1 {
		t.Fatalf("%d records were sent", len(out.sent))
	}
	if at := committedAt(p); at != 0 {
		t.Errorf("%d would be committed before the record is acknowledged", at)
	}
	out.sent[0].acked()
	if at := committedAt(p); at != 1 {
		t.Errorf("%d would be committed, and all is written", at)
	}
}

// What the commit said to be settled above it holds for the log that it was said of. Where the log ends before that, or is another one,
// other records come to lie there.
func TestSkipListEndsWithTheLog(t *testing.T) {
	said := topic.NewMetadata(10, &topic.Metadata{Epoch: wire.NoEpoch})
	said.Add(12, true)
	said.Add(20, false)
	for name, jump := range map[string]func(*partition){
		"cut":      func(p *partition) { p.restart(5, wire.NoEpoch) },
		"replaced": func(p *partition) { p.replace(wire.TopicID{1}, 5, time.Now()) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPartition(topic.Partition{Topic: "email"}, dispatcher.StageFirst, 0, wire.Offset{At: 10, Epoch: wire.NoEpoch, Metadata: said.String()}, 0, time.Now())
			if len(p.tracker.ahead) != 1 {
				t.Fatalf("the metadata says %v", p.tracker.ahead)
			}
			jump(p)
			for offset := int64(5); offset < 25; offset++ {
				if p.track(&topic.Record{Offset: offset}, new(entry), &flow{}) == nil {
					t.Errorf("the record at %d is left out", offset)
				}
			}
		})
	}
}

// lossGroup takes commits, and knows of some partitions whether they were deleted.
type lossGroup struct {
	gone   map[string]bool // by topic
	commit wire.CommitRequest
}

func (g *lossGroup) Commit(_ context.Context, r *wire.CommitRequest) (map[topic.Partition]error, error) {
	g.commit = *r
	return nil, nil
}

func (g *lossGroup) deleted(_ context.Context, partitions []*partition) (map[*partition]bool, error) {
	answers := make(map[*partition]bool)
	for _, p := range partitions {
		if gone, known := g.gone[p.Topic]; known {
			answers[p] = gone
		}
	}
	return answers, errors.New("not all could be asked about")
}

// No offset is committed of a topic that was deleted, of which nobody knows whether it was, or whose records may be another group's.
func TestOnlyWhatIsThereIsCommitted(t *testing.T) {
	g := &lossGroup{gone: map[string]bool{"there": false, "deleted": true, "held": false}}
	c := &committer{group: g, identity: g, log: zap.NewNop(), turn: make(chan struct{}, 1), who: func() memberID { return memberID{} }, refused: func(memberID) {}}
	var all []*partition
	for _, name := range []string{"there", "deleted", "unknown", "held"} {
		p := newPartition(topic.Partition{Topic: name}, dispatcher.StageFirst, 0, wire.Offset{At: 3, Epoch: wire.NoEpoch}, 0, time.Now())
		p.pass(7)
		if name == "held" {
			p.hold()
		}
		all = append(all, p)
	}
	_ = c.commit(t.Context(), all)
	if at := g.commit.Offsets[topic.Partition{Topic: "there"}].At; len(g.commit.Offsets) != 1 || at != 7 {
		t.Errorf("committed %v, want 7 of the topic that is there and nothing else", g.commit.Offsets)
	}
}

// An event of very many deliveries is settled when all of its portions are. One that a stop found waiting is not settled at all: whoever reads
// the partition next plans it.
func TestLargeEventThatIsLeftIsNotSettled(t *testing.T) {
	s, _ := lossSettler()
	var submitted []*unsettledRecord
	l := &largeEvents{
		waiting: make(map[string][]*largeEvent), submit: func(r *unsettledRecord) {
			r.pending.Add(int32(len(r.deliveries)))
			submitted = append(submitted, r)
		},
		portions: func(*event.Event, *dispatcher.RecordMetadata) iter.Seq[[]dispatcher.Delivery] {
			return slices.Values([][]dispatcher.Delivery{make([]dispatcher.Delivery, 2), make([]dispatcher.Delivery, 2)})
		},
		capacity: func(context.Context) error { return nil }, accountsTurn: func(context.Context, string) error { return nil },
	}
	reading, stop := context.WithCancel(t.Context())
	p, r := lossPartition(s)
	l.add(reading, p, r, &event.Event{Account: "acme"}, &dispatcher.RecordMetadata{})
	l.wait()
	r.done()
	for _, portion := range submitted {
		for i := range portion.deliveries {
			if at := committedAt(p); at != 0 {
				t.Errorf("%d would be committed with deliveries under way", at)
			}
			portion.Settle(&portion.deliveries[i], dispatcher.Outcome{Result: dispatcher.Delivered})
		}
	}
	if at := committedAt(p); len(submitted) != 2 || at != 1 {
		t.Errorf("%d portions were submitted, and %d would be committed after they were settled", len(submitted), at)
	}
	stop()
	p, r = lossPartition(s)
	l.add(reading, p, r, &event.Event{Account: "acme"}, &dispatcher.RecordMetadata{})
	l.wait()
	r.done()
	if at := committedAt(p); len(submitted) != 2 || at != 0 {
		t.Errorf("%d portions were submitted, and %d would be committed although the event was left", len(submitted), at)
	}
}
