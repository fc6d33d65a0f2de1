package consumer_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Records of aborted transactions are not events, markers are not records, and the lag goes to 0 past them.
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

// A topic that was deleted and created again ends before the committed offset: it is read from its start.
// A topic that was created again while nobody read it is told by its id, although the group's offset outlived it: it is read from its start.
func TestRecreatedTopicIsReadFromItsStart(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	for k := range 20 {
		w.produce("channel.email", 0, rawEvent("acme", k))
	}
	i := w.start()
	w.until("all", func() bool { return len(w.recv.got("/a")) == 20 })
	i.end()
	committed := w.committed("fanout", "channel.email")[0]
	w.deleteTopic("channel.email")
	w.createTopic("channel.email", 2)
	for k := range 30 { // more than were read of the old one
		w.produce("channel.email", 0, rawEvent("acme", 1000+k))
	}
	w.commitAs("fanout", "channel.email", kafka.OffsetCommit{Partition: 0, Offset: committed.CommittedOffset, Metadata: committed.Metadata})
	j := w.start()
	w.until("the new ones", func() bool { return len(w.recv.got("/a")) == 50 })
	w.until("no lag", func() bool { return j.sum("fanout_lag_records", "topic", "channel.email") == 0 })
	if got := j.sum("fanout_gap_offsets_total"); got == 0 {
		t.Error("no gap was counted")
	}
	j.end()
	if lag := w.uncommitted("fanout", "channel.email"); lag != 0 {
		t.Errorf("%d offsets are not committed", lag)
	}
}

// A log whose end was lost while nobody read it: the records that are still there are not sent again, and those that come are read.
func TestLogThatLostItsEnd(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	for k := range 3 {
		w.produce("channel.email", 0, rawEvent("acme", k))
	}
	w.commitAs("fanout", "channel.email", kafka.OffsetCommit{Partition: 0, Offset: 20})
	i := w.start()
	w.until("no lag", func() bool {
		return i.sum("fanout_lag_records", "topic", "channel.email") == 0 && i.sum("fanout_gap_offsets_total") > 0
	})
	w.produce("channel.email", 0, rawEvent("acme", 3), rawEvent("acme", 4))
	w.until("the new ones", func() bool { return w.uncommitted("fanout", "channel.email") == 0 })
	if got := i.sum("fanout_gap_offsets_total"); got != 17 || len(w.recv.got("/a")) != 2 {
		t.Errorf("a gap of %v was counted and %d were delivered, want 17 and 2", got, len(w.recv.got("/a")))
	}
	i.end()
}

// A log that was cut and written again, as a leader that was elected without the last records does it: reading goes on where the two part, be it
// that it happened while nobody read, or under a reader's feet. What was settled above is not passed over.
func TestLogThatWasCutAndWrittenAgain(t *testing.T) {
	t.Parallel()
	for _, running := range []bool{false, true} {
		t.Run(fmt.Sprintf("running=%t", running), func(t *testing.T) {
			w := newWorld(t, "channel.email")
			w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
			var cut atomic.Bool
			w.cluster.ControlKey(int16(kmsg.OffsetForLeaderEpoch), func(r kmsg.Request) (kmsg.Response, error, bool) {
				w.cluster.KeepControl()
				req, _ := r.(*kmsg.OffsetForLeaderEpochRequest)
				if !cut.Load() || req.Topics[0].Topic != "channel.email" || req.Topics[0].Partitions[0].Partition != 0 || req.Topics[0].Partitions[0].LeaderEpoch > 0 {
					return nil, nil, false
				}
				res, _ := req.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
				topic := kmsg.NewOffsetForLeaderEpochResponseTopic()
				topic.Topic = "channel.email"
				p := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
				p.LeaderEpoch, p.EndOffset = 0, 12
				topic.Partitions = append(topic.Partitions, p)
				res.Topics = append(res.Topics, topic)
				return res, nil, true
			})
			for k := range 20 {
				w.produce("channel.email", 0, rawEvent("acme", k))
			}
			i := w.start()
			w.until("all", func() bool { return len(w.recv.got("/a")) == 20 && w.uncommitted("fanout", "channel.email") == 0 })
			if !running {
				i.end()
			}
			cut.Store(true)
			if err := w.cluster.MoveTopicPartition("channel.email", 0, 0); err != nil { // another epoch
				t.Fatal(err)
			}
			if !running {
				i = w.start()
			}
			w.until("what was written since", func() bool { return len(w.recv.got("/a")) == 28 })
			if got := i.sum("fanout_gap_offsets_total", "source", "channel.email"); got != 8 {
				t.Errorf("a gap of %v was counted, want 8", got)
			}
			w.produce("channel.email", 0, rawEvent("acme", 99))
			w.until("the next one", func() bool { return len(w.recv.got("/a")) == 29 && w.uncommitted("fanout", "channel.email") == 0 })
			i.end()
		})
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

// Until something was settled only the first commit exists: after a crash `latest` must not mean a later offset.
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
	deleted := w.asked(kmsg.DeleteTopics, func(kmsg.Request) bool { return true })
	fetched := w.asked(kmsg.Fetch, func(r kmsg.Request) bool {
		req, _ := r.(*kmsg.FetchRequest)
		return deleted.Load() > 0 && len(req.Topics) == 1 && req.Topics[0].Topic == "channel.email" && req.Topics[0].Partitions[0].Partition == 0
	})
	w.deleteTopic("channel.email")
	w.until("it is fetched: that the broker does not know the topic is what tells", func() bool { return fetched.Load() > 0 })
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
