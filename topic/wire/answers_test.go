package wire_test

import (
	"errors"
	"reflect"
	"runtime"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kmsg"

	"fanout/topic/wire"
)

// fetchAnswer is an answer of one partition, as the broker's codec writes it.
func fetchAnswer(version int16, change func(*kmsg.FetchResponse, *kmsg.FetchResponseTopicPartition)) []byte {
	r := kmsg.NewPtrFetchResponse()
	r.SetVersion(version)
	topic := kmsg.NewFetchResponseTopic()
	topic.Topic = "t"
	p := kmsg.NewFetchResponseTopicPartition()
	p.Partition, p.HighWatermark, p.LastStableOffset, p.LogStartOffset, p.PreferredReadReplica = 3, 100, 90, 5, -1
	p.RecordBatches = []byte("records")
	change(r, &p)
	topic.Partitions = append(topic.Partitions, p)
	r.Topics = append(r.Topics, topic)
	return r.AppendTo(nil)
}

func TestFetchAnswers(t *testing.T) {
	for version := int16(4); version <= wire.FetchVersion; version++ {
		b := fetchAnswer(version, func(r *kmsg.FetchResponse, p *kmsg.FetchResponseTopicPartition) {
			r.ThrottleMillis, p.PreferredReadReplica = 1500, 2
			a := kmsg.NewFetchResponseTopicPartitionAbortedTransaction()
			a.ProducerID, a.FirstOffset = 7, 42
			p.AbortedTransactions = append(p.AbortedTransactions, a)
		})
		got, err, said := wire.ParseFetch(b, version)
		want := wire.Fetched{
			Records: []byte("records"), HighWatermark: 100, LastStable: 90, LogStart: 5,
			Aborted: []wire.Aborted{{ProducerID: 7, First: 42}}, Preferred: 2, Throttled: 1500 * time.Millisecond,
		}
		if version < 5 {
			want.LogStart = -1
		}
		if version < 11 {
			want.Preferred = -1
		}
		if err != nil || said != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("version %d: %+v, %v, %v; want %+v", version, got, err, said, want)
		}
	}
}

func TestFetchErrors(t *testing.T) {
	ofPartition := func(_ *kmsg.FetchResponse, p *kmsg.FetchResponseTopicPartition) { p.ErrorCode = 1 }
	if _, err, said := wire.ParseFetch(fetchAnswer(11, ofPartition), 11); err != nil || !errors.Is(said, kafka.OffsetOutOfRange) {
		t.Errorf("a partition's error is %v, %v", err, said)
	}
	ofAll := func(r *kmsg.FetchResponse, p *kmsg.FetchResponseTopicPartition) { r.ErrorCode, p.ErrorCode = 70, 1 }
	if _, err, said := wire.ParseFetch(fetchAnswer(11, ofAll), 11); err != nil || !errors.Is(said, kafka.FetchSessionIDNotFound) {
		t.Errorf("the answer's error is %v, %v", err, said)
	}
	whole := fetchAnswer(11, func(*kmsg.FetchResponse, *kmsg.FetchResponseTopicPartition) {})
	for n := range whole {
		if _, err, _ := wire.ParseFetch(whole[:n], 11); err == nil {
			t.Errorf("%d of %d bytes are taken for an answer", n, len(whole))
		}
	}
	// A quota that holds an answer back says nothing of the partition.
	held := kmsg.NewPtrFetchResponse()
	held.SetVersion(11)
	held.ThrottleMillis = 200
	got, err, said := wire.ParseFetch(held.AppendTo(nil), 11)
	if err != nil || said != nil || got.Throttled != 200*time.Millisecond || got.HighWatermark != -1 || got.LogStart != -1 || got.Records != nil {
		t.Errorf("an empty answer is %+v, %v, %v", got, err, said)
	}
}

// metadataAnswer is what a cluster of two brokers says of a topic that exists and one that does not.
func metadataAnswer(version int16) []byte {
	r := kmsg.NewPtrMetadataResponse()
	r.SetVersion(version)
	for id, rack := range []string{"a", "b"} {
		b := kmsg.NewMetadataResponseBroker()
		b.NodeID, b.Host, b.Port, b.Rack = int32(id), "localhost", int32(9092+id), &rack
		r.Brokers = append(r.Brokers, b)
	}
	r.ControllerID = 1
	known := kmsg.NewMetadataResponseTopic()
	known.Topic, known.TopicID, known.AuthorizedOperations = new("t"), [16]byte{1, 2, 3}, 1<<3|1<<8
	p := kmsg.NewMetadataResponseTopicPartition()
	p.Partition, p.Leader, p.LeaderEpoch, p.Replicas, p.ISR = 0, 1, 4, []int32{0, 1}, []int32{1}
	known.Partitions = append(known.Partitions, p)
	p.Partition, p.Leader, p.ErrorCode, p.OfflineReplicas = 1, -1, 5, []int32{0}
	known.Partitions = append(known.Partitions, p)
	missing := kmsg.NewMetadataResponseTopic()
	missing.Topic, missing.ErrorCode = new("u"), 3
	r.Topics = append(r.Topics, known, missing)
	b := r.AppendTo(nil)
	if r.IsFlexible() {
		b = append([]byte{0}, b...) // the header's tagged fields
	}
	return b
}

func TestMetadataAnswers(t *testing.T) {
	for _, ids := range []bool{false, true} {
		version := int16(8)
		if ids {
			version = 12
		}
		got, err := wire.ParseMetadata(metadataAnswer(version), ids)
		if err != nil {
			t.Fatal(err)
		}
		if want := []wire.Broker{{ID: 0, Host: "localhost", Port: 9092, Rack: "a"}, {ID: 1, Host: "localhost", Port: 9093, Rack: "b"}}; !reflect.DeepEqual(got.Brokers, want) || got.Controller != 1 {
			t.Errorf("version %d: brokers %+v, controller %d", version, got.Brokers, got.Controller)
		}
		topic := got.Topics[0]
		if want := []wire.PartitionInfo{{ID: 0, Leader: 1, Epoch: 4, Replicas: 2, Sync: 1}, {ID: 1, Err: kafka.LeaderNotAvailable, Leader: -1, Epoch: 4, Replicas: 2, Sync: 1}}; topic.Name != "t" || !reflect.DeepEqual(topic.Partitions, want) {
			t.Errorf("version %d: %+v", version, topic)
		}
		if (topic.ID != wire.TopicID{}) != ids || ids && topic.ID.String()[:6] != "010203" {
			t.Errorf("version %d: the topic's id is %q", version, topic.ID)
		}
		if !topic.Allows(wire.Read) || topic.Allows(wire.Write) {
			t.Errorf("version %d: operations are %b", version, topic.Operations)
		}
		if missing := got.Topics[1]; !errors.Is(missing.Err, kafka.UnknownTopicOrPartition) || missing.Name != "u" {
			t.Errorf("version %d: the missing topic is %+v", version, missing)
		}
		whole := metadataAnswer(version)
		for n := range len(whole) - 4 { // the last bytes say nothing that is asked for
			if _, err := wire.ParseMetadata(whole[:n], ids); err == nil {
				t.Errorf("version %d: %d of %d bytes are taken for an answer", version, n, len(whole))
			}
		}
	}
}

// allocated is how many bytes f takes.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Another server's bytes, read as the length of a list, become no memory.
func TestForgedLengths(t *testing.T) {
	forged := make([]byte, 1<<20)
	forged[5], forged[6] = 0x07, 0x80 // half a million elements, and nothing but zeros behind
	if n := allocated(func() {
		if c, err := wire.ParseMetadata(forged, false); err == nil {
			t.Errorf("%d brokers are taken for an answer", len(c.Brokers))
		}
	}); n > 48<<20 {
		t.Errorf("1 MiB of an answer took %d MiB", n>>20)
	}
}

func FuzzFetchAnswer(f *testing.F) {
	f.Add(fetchAnswer(11, func(*kmsg.FetchResponse, *kmsg.FetchResponseTopicPartition) {}), int16(11))
	f.Add(fetchAnswer(4, func(*kmsg.FetchResponse, *kmsg.FetchResponseTopicPartition) {}), int16(4))
	f.Fuzz(func(t *testing.T, b []byte, version int16) {
		if version < 4 || version > wire.FetchVersion {
			return
		}
		got, err, _ := wire.ParseFetch(b, version)
		if err == nil && len(got.Records) > len(b) {
			t.Fatalf("%d bytes of records out of %d", len(got.Records), len(b))
		}
	})
}

func FuzzMetadataAnswer(f *testing.F) {
	f.Add(metadataAnswer(8), false)
	f.Add(metadataAnswer(12), true)
	f.Fuzz(func(t *testing.T, b []byte, ids bool) {
		c, err := wire.ParseMetadata(b, ids)
		if err == nil && len(c.Topics)+len(c.Brokers) > len(b) {
			t.Fatalf("%d topics and %d brokers out of %d bytes", len(c.Topics), len(c.Brokers), len(b))
		}
	})
}
