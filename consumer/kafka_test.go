package consumer_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"fanout/consumer"
)

// What tests ask of the embedded Kafka besides reading and writing.

func contains(s, part string) bool { return strings.Contains(s, part) }

// kadm is a client for requests that kafka-go does not make.
func (w *world) kadm() *kgo.Client {
	w.t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(w.cluster.ListenAddrs()...))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.Close)
	return c
}

func deleteRecords(ctx context.Context, c *kgo.Client, topic string, partition int32, before int64) error {
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.TimeoutMillis = 5000
	t := kmsg.NewDeleteRecordsRequestTopic()
	t.Topic = topic
	p := kmsg.NewDeleteRecordsRequestTopicPartition()
	p.Partition, p.Offset = partition, before
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	res, err := req.RequestWith(ctx, c)
	if err != nil {
		return err
	}
	return kerr.ErrorForCode(res.Topics[0].Partitions[0].ErrorCode)
}

func (w *world) deleteTopic(topic string) {
	w.t.Helper()
	res, err := w.client.DeleteTopics(w.t.Context(), &kafka.DeleteTopicsRequest{Topics: []string{topic}})
	if err == nil {
		err = res.Errors[topic]
	}
	if err != nil {
		w.t.Fatalf("delete %s: %v", topic, err)
	}
}

func (w *world) createTopic(topic string, partitions int) {
	w.t.Helper()
	res, err := w.client.CreateTopics(w.t.Context(), &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{Topic: topic, NumPartitions: partitions, ReplicationFactor: 1}}})
	if err == nil {
		err = res.Errors[topic]
	}
	if err != nil {
		w.t.Fatalf("create %s: %v", topic, err)
	}
}

// commitAs commits for a group that has no member.
func (w *world) commitAs(group, topic string, commit kafka.OffsetCommit) {
	w.t.Helper()
	res, err := w.client.OffsetCommit(w.t.Context(), &kafka.OffsetCommitRequest{
		GroupID: group, GenerationID: -1, Topics: map[string][]kafka.OffsetCommit{topic: {commit}},
	})
	if err == nil {
		err = res.Topics[topic][0].Error
	}
	if err != nil {
		w.t.Fatalf("commit: %v", err)
	}
}

// committed is what a group has committed, by partition.
func (w *world) committed(group, topic string) map[int]kafka.OffsetFetchPartition {
	w.t.Helper()
	res, err := w.client.OffsetFetch(w.t.Context(), &kafka.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{topic: {0, 1}}})
	if err != nil {
		w.t.Fatal(err)
	}
	out := make(map[int]kafka.OffsetFetchPartition)
	for _, p := range res.Topics[topic] {
		out[p.Partition] = p
	}
	return out
}

// uncommitted is how many offsets of a topic lie beyond the group's commits.
func (w *world) uncommitted(group, topic string) (lag int64) {
	w.t.Helper()
	for partition, p := range w.committed(group, topic) {
		res, err := w.client.ListOffsets(w.t.Context(), &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: {kafka.LastOffsetOf(partition)}}})
		if err != nil {
			w.t.Fatal(err)
		}
		lag += res.Topics[topic][0].LastOffset - p.CommittedOffset
	}
	return lag
}

// kill ends the instance as kill -9 would.
func (i *instance) kill() {
	i.w.t.Helper()
	i.c.Kill()
	i.stop()
	select {
	case <-i.done:
		i.done <- nil
	case <-time.After(20 * time.Second):
		i.w.t.Fatal("the instance did not end")
	}
}

func (w *world) exists(topic string) bool {
	res, err := w.client.Metadata(w.t.Context(), &kafka.MetadataRequest{})
	if err != nil {
		return false
	}
	for _, t := range res.Topics {
		if t.Name == topic && t.Error == nil {
			return true
		}
	}
	return false
}

// ids is the set of webhook-ids that came to a path.
func (w *world) ids(path string) map[string]bool {
	ids := make(map[string]bool)
	for _, r := range w.recv.got(path) {
		ids[r.header.Get("Webhook-Id")] = true
	}
	return ids
}

func (w *world) deadIDs() map[string]bool {
	ids := make(map[string]bool)
	for _, m := range w.records("fanout.dead-letter") {
		ids[header(&m, "fanout-webhook-id")] = true
	}
	return ids
}

// settled says whether the commit claims the offset.
func settled(p kafka.OffsetFetchPartition, offset int64) bool {
	return consumer.Skipped(p.CommittedOffset, p.Metadata, offset)[0]
}

// retryRecord is a record as a retry topic holds it, due at once.
func retryRecord(subscription string, n int, change ...kafka.Header) kafka.Record {
	id := fmt.Sprintf("msg_%026d", n)
	id = strings.NewReplacer("0", "a", "1", "b", "8", "c", "9", "d").Replace(id)
	now := strconv.FormatInt(time.Now().UnixMilli(), 10)
	headers := []kafka.Header{
		{Key: "fanout-webhook-id", Value: []byte(id)},
		{Key: "fanout-account", Value: []byte("acme")},
		{Key: "fanout-subscription", Value: []byte(subscription)},
		{Key: "fanout-event", Value: []byte("EMAIL_OPEN")},
		{Key: "fanout-attempts", Value: []byte("1")},
		{Key: "fanout-not-before", Value: []byte(now)},
		{Key: "fanout-first-seen", Value: []byte(now)},
		{Key: "fanout-origin", Value: []byte("channel.email/0/7")},
		{Key: "fanout-reason", Value: []byte("timeout")},
		{Key: "fanout-detail", Value: nil},
	}
	return kafka.Record{
		Key: kafka.NewBytes([]byte("acme/" + subscription)), Value: kafka.NewBytes([]byte(`{"eventType":"OPEN"}`)), Headers: append(headers, change...),
	}
}
