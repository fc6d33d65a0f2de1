package consumer_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/twmb/franz-go/pkg/kgo"

	"fanout/consumer"
)

const transactional = protocol.Transactional

func batch(producer int64, attributes protocol.Attributes, offsets ...int64) *protocol.RecordBatch {
	b := &protocol.RecordBatch{Attributes: attributes, ProducerID: producer, BaseOffset: offsets[0]}
	b.Records = protocol.NewRecordReader(records(offsets...)...)
	return b
}

func records(offsets ...int64) (list []protocol.Record) {
	for _, o := range offsets {
		list = append(list, protocol.Record{Offset: o, Value: protocol.NewBytes([]byte("x"))})
	}
	return list
}

func marker(producer, offset int64) *protocol.ControlBatch {
	return &protocol.ControlBatch{
		Attributes: transactional | protocol.Control, ProducerID: producer, BaseOffset: offset,
		Records: protocol.NewRecordReader(protocol.Record{Offset: offset}),
	}
}

func TestReadBatches(t *testing.T) {
	for name, c := range map[string]struct {
		from    int64
		aborted map[int64][]int64
		batches []protocol.RecordReader
		want    []int64
		next    int64
	}{
		"a committed transaction": {
			from: 5, batches: []protocol.RecordReader{batch(1, transactional, 5, 6), marker(1, 7)}, want: []int64{5, 6}, next: 8,
		},
		"an aborted one": {
			from: 5, aborted: map[int64][]int64{1: {5}}, batches: []protocol.RecordReader{batch(1, transactional, 5, 6), marker(1, 7)}, next: 8,
		},
		"one aborted, one committed, of two producers at the same time": {
			from: 0, aborted: map[int64][]int64{1: {0}},
			batches: []protocol.RecordReader{batch(1, transactional, 0), batch(2, transactional, 1), batch(1, transactional, 2), marker(2, 3), marker(1, 4)},
			want:    []int64{1}, next: 5,
		},
		// The last record of the aborted transaction was read before; the broker lists it since its marker was not.
		"a marker first, then a committed transaction of its producer": {
			from: 7, aborted: map[int64][]int64{1: {5}},
			batches: []protocol.RecordReader{marker(1, 7), batch(1, transactional, 8, 9), marker(1, 10)}, want: []int64{8, 9}, next: 11,
		},
		"aborted, committed, aborted": {
			from: 0, aborted: map[int64][]int64{1: {0, 4}},
			batches: []protocol.RecordReader{batch(1, transactional, 0), marker(1, 1), batch(1, transactional, 2), marker(1, 3), batch(1, transactional, 4), marker(1, 5)},
			want:    []int64{2}, next: 6,
		},
		"records that are no part of a transaction, of a producer with an aborted one": {
			from: 0, aborted: map[int64][]int64{1: {0}}, batches: []protocol.RecordReader{batch(1, 0, 0), marker(1, 1)}, want: []int64{0}, next: 2,
		},
		"a batch that begins before the offset": {
			from: 6, batches: []protocol.RecordReader{batch(-1, 0, 4, 5, 6, 7)}, want: []int64{6, 7}, next: 8,
		},
		"gaps that compaction has left": {
			from: 0, batches: []protocol.RecordReader{batch(-1, 0, 3, 9), batch(-1, 0, 40)}, want: []int64{3, 9, 40}, next: 41,
		},
		"a batch that has lost its last records to compaction": {
			from: 7, batches: []protocol.RecordReader{batch(-1, 0, 4, 5, 6)}, next: 8,
		},
		"a batch that has lost all": {
			from: 7, batches: []protocol.RecordReader{&protocol.RecordBatch{BaseOffset: 4, Records: protocol.NewRecordReader()}}, next: 8,
		},
		"nothing": {from: 7, next: 7},
	} {
		got, next, err := consumer.ReadBatches(c.from, c.aborted, c.batches...)
		if err != nil || !slices.Equal(got, c.want) || next != c.next {
			t.Errorf("%s: %v, next %d, %v; want %v, next %d", name, got, next, err, c.want, c.next)
		}
	}
}

// Records of aborted transactions are no events, markers are no records, and the lag goes to 0 past them.
func TestTransactionsWithEveryCompression(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	i := w.start()
	n := 0
	for name, codec := range codecs {
		producer, err := kgo.NewClient(kgo.SeedBrokers(w.cluster.ListenAddrs()...), kgo.TransactionalID(name), kgo.ProducerBatchCompression(codec),
			kgo.DefaultProduceTopic("channel.email"), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
		if err != nil {
			t.Fatal(err)
		}
		for _, commit := range []bool{false, true, false, true, true, false} {
			if err := producer.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			for k := range 20 {
				r := kgo.SliceRecord([]byte(fmt.Sprintf(`{"accountId":"acme","channel":"EMAIL","type":"OPEN","trackingId":"%s-%d-%v","notificationId":"n","userId":"u"}`, name, k, commit)))
				producer.Produce(t.Context(), r, nil)
			}
			if err := producer.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := producer.EndTransaction(t.Context(), kgo.TransactionEndTry(commit)); err != nil {
				t.Fatal(err)
			}
			if commit {
				n += 20
			}
		}
		producer.Close()
	}
	w.until("the committed ones", func() bool { return len(w.recv.got("/a")) >= n })
	// The last transaction was aborted: its records and marker are read, and committed, after the last delivery.
	w.until("all committed", func() bool { return w.uncommitted("fanout", "channel.email") == 0 })
	w.until("no lag", func() bool { return i.sum("fanout_lag_records", "topic", "channel.email") == 0 })
	i.end()
	for _, r := range w.recv.got("/a") {
		if want := "-true\""; !contains(r.body, want) {
			t.Errorf("an aborted record was delivered: %s", r.body)
		}
	}
	if got := len(w.recv.got("/a")); got != n {
		t.Errorf("%d deliveries, want %d", got, n)
	}
	if lag := w.uncommitted("fanout", "channel.email"); lag != 0 {
		t.Errorf("%d offsets are not committed", lag)
	}
}

// A log start that overtook the offset is a gap: counted, and read on behind it.
func TestGapIsCounted(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	i := w.start()
	w.produce("channel.email", 0, rawEvent("acme", 1))
	w.until("the first", func() bool { return len(w.recv.got("/a")) == 1 })
	i.end()
	for k := range 10 {
		w.produce("channel.email", 0, rawEvent("acme", 10+k))
	}
	w.deleteRecords("channel.email", 0, 6)
	j := w.start()
	w.until("those that are left", func() bool { return len(w.recv.got("/a")) == 1+5 })
	w.until("no lag", func() bool { return j.sum("fanout_lag_records") == 0 })
	if got := j.sum("fanout_gap_offsets_total", "source", "channel.email"); got != 5 {
		t.Errorf("a gap of %v was counted, want 5", got)
	}
	j.end()
}

// A topic that was deleted and created anew ends before the committed offset: it is read from its start.
func TestRecreatedTopicIsReadFromItsStart(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	for k := range 20 {
		w.produce("channel.email", 0, rawEvent("acme", k))
	}
	i := w.start()
	w.until("all", func() bool { return len(w.recv.got("/a")) == 20 })
	i.end()
	w.truncate("channel.email", 0, 3)
	j := w.start()
	w.until("the new ones", func() bool { return len(w.recv.got("/a")) == 23 })
	w.until("no lag", func() bool { return j.sum("fanout_lag_records", "topic", "channel.email") == 0 })
	if got := j.sum("fanout_gap_offsets_total"); got == 0 {
		t.Error("no gap was counted")
	}
	j.end()
	if lag := w.uncommitted("fanout", "channel.email"); lag != 0 {
		t.Errorf("%d offsets are not committed", lag)
	}
}

func TestStartOffsets(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	old := time.Now().Add(-time.Hour)
	for k := range 5 {
		r := rawEvent("acme", k)
		r.Time = old.Add(time.Duration(k) * time.Minute)
		w.produce("channel.email", 0, r)
	}
	for start, want := range map[string]int{
		"latest": 0, "earliest": 5, old.Add(150 * time.Second).UTC().Format(time.RFC3339): 2, time.Now().Add(time.Hour).UTC().Format(time.RFC3339): 0,
	} {
		w.cfg.Kafka.Start, w.cfg.Kafka.Group = start, "g-"+start
		before := len(w.recv.got("/a"))
		i := w.start()
		w.until("it is read", func() bool {
			return len(w.recv.got("/a")) == before+want && i.sum("fanout_lag_records", "topic", "channel.email") == 0
		})
		i.end()
		if lag := w.uncommitted(w.cfg.Kafka.Group, "channel.email"); lag != 0 {
			t.Errorf("start %s: %d offsets are not committed", start, lag)
		}
	}
}

// Until something was settled there is no commit but the first one: after a crash `latest` must not mean a later offset.
func TestLatestIsRememberedFromTheStart(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	w.produce("channel.email", 0, rawEvent("acme", 1))
	w.cfg.Kafka.Start = "latest"
	i := w.start()
	i.kill()
	w.produce("channel.email", 0, rawEvent("acme", 2))
	j := w.start()
	w.until("what came while it was dead", func() bool { return len(w.recv.got("/a")) == 1 })
	j.end()
}

// DeleteRecords and the like as tests need them.
// A topic that is replaced while it is read may have more records at once than were read of the old one: its offsets
// alone do not tell that it is another.
func TestReplacedTopicIsReadFromItsStart(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	i := w.start()
	for k := range 3 {
		w.produce("channel.email", 0, rawEvent("acme", k))
	}
	w.until("the old ones", func() bool { return len(w.recv.got("/a")) == 3 && w.uncommitted("fanout", "channel.email") == 0 })
	w.deleteTopic("channel.email")
	time.Sleep(2 * time.Second) // for longer than a fetch: that the broker does not know the topic is what tells
	w.createTopic("channel.email", 2)
	for k := range 5 {
		w.produce("channel.email", 0, rawEvent("acme", 1000+k))
	}
	w.until("all of the new ones", func() bool { return len(w.recv.got("/a")) == 3+5 })
	w.until("their commit", func() bool { return w.committed("fanout", "channel.email")[0].CommittedOffset == 5 })
	if got := i.sum("fanout_gap_offsets_total"); got == 0 {
		t.Error("no gap was counted")
	}
	i.end()
}

func (w *world) deleteRecords(topic string, partition int32, before int64) {
	w.t.Helper()
	admin := w.kadm()
	if err := deleteRecords(w.t.Context(), admin, topic, partition, before); err != nil {
		w.t.Fatal(err)
	}
}

// truncate deletes the topic, creates it anew and puts n events into it.
func (w *world) truncate(topic string, partition, n int) {
	w.t.Helper()
	w.deleteTopic(topic)
	w.createTopic(topic, 2)
	for k := range n {
		w.produce(topic, partition, rawEvent("acme", 1000+k))
	}
	// A broker forgets the offsets of a topic that is deleted; here they were kept.
	w.commitAs("fanout", topic, kafka.OffsetCommit{Partition: partition, Offset: 20})
}
