package operate_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"

	"fanout/operate"
	"fanout/topic"
)

// A search that is ended before it has seen everything says so, and where to go on: nothing is passed over.
func TestFindGoesOnWhereItsPatienceEnded(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "channel.email", "fanout.attempts"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	c, err := topic.NewCluster(topic.Config{
		Kafka: topic.KafkaConfig{Brokers: cluster.ListenAddrs(), Group: "fanout"}, Sources: []topic.SourceConfig{{Topic: "channel.email"}}, Prefix: "fanout", AttemptsTopic: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	const n = 1500
	for i := range n {
		id := fmt.Sprintf("msg_%026d", i)
		value := fmt.Sprintf(`{"time":%d,"id":%q,"account":"acme","subscription":"a","event":"EMAIL_OPEN","trackingId":"t-%d","origin":"channel.email/0/%d","stage":"first","outcome":"delivered","attempt":1}`, time.Now().UnixMilli(), id, i%10, i)
		record := kafka.Record{Key: kafka.NewBytes([]byte("acme")), Value: kafka.NewBytes([]byte(value)), Headers: []kafka.Header{{Key: topic.HeaderWebhookID, Value: []byte(id)}, {Key: topic.HeaderOutcome, Value: []byte("delivered")}}}
		if _, err := c.Produce(t.Context(), topic.Partition{Topic: "fanout.attempts", ID: i % 2}, []kafka.Record{record}); err != nil {
			t.Fatal(err)
		}
	}
	q := operate.FindQuery{Any: "t-3", Patience: time.Nanosecond}
	seen, ended := map[string]bool{}, 0
	for {
		found, err := operate.Find(t.Context(), c, &q, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range found.Deliveries {
			if seen[d.ID] {
				t.Errorf("%s was found twice", d.ID)
			}
			seen[d.ID] = true
		}
		if found.Unfinished {
			ended++
		}
		if q.Cursor = found.Cursor; q.Cursor == "" {
			break
		}
		q.Patience = max(20*time.Millisecond, 2*q.Patience) // until it is enough
	}
	if ended == 0 || len(seen) != n/10 {
		t.Errorf("%d found, want %d; it was ended %d times", len(seen), n/10, ended)
	}
}

// The first page of an account comes at once: its attempts lie in one partition, and the others are not read to their beginnings to see that
// they hold nothing newer. What lies in them is found in its turn all the same.
func TestFindReadsLittleForItsFirstPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	began := time.Now().Add(-time.Hour)
	const n = 20_000
	write := func(partition int, account func(i int) string) {
		for at := 0; at < n; at += 2000 {
			var records []kafka.Record
			for i := at; i < at+2000; i++ {
				made := began.Add(time.Duration(i) * time.Hour / n)
				webhookID := id(n*partition + i)
				value := fmt.Sprintf(`{"time":%d,"id":%q,"account":%q,"subscription":"a","event":"EMAIL_OPEN","origin":"channel.email/0/%d","stage":"first","outcome":"delivered","attempt":1}`, made.UnixMilli(), webhookID, account(i), i)
				records = append(records, kafka.Record{
					Time: made, Key: kafka.NewBytes([]byte(account(i))), Value: kafka.NewBytes([]byte(value)),
					Headers: []kafka.Header{{Key: topic.HeaderWebhookID, Value: []byte(webhookID)}, {Key: topic.HeaderOutcome, Value: []byte("delivered")}},
				})
			}
			_, err := w.Produce(t.Context(), topic.Partition{Topic: "fanout.attempts", ID: partition}, records)
			must(t, err)
		}
	}
	write(0, func(int) string { return "acme" })
	write(1, func(i int) string { // the account's partition could not be written for a moment, long ago
		if i == 100 {
			return "acme"
		}
		return "globex"
	})
	q := operate.FindQuery{Account: "acme", Limit: 20}
	found, err := operate.Find(t.Context(), w.Cluster, &q, nil, nil)
	must(t, err)
	if len(found.Deliveries) != 20 || found.Cursor == "" || found.Read > 3000 {
		t.Errorf("%d deliveries, cursor %q, %d records read; want 20 of few", len(found.Deliveries), found.Cursor, found.Read)
	}
	q = operate.FindQuery{Account: "acme"}
	found, err = operate.Find(t.Context(), w.Cluster, &q, nil, nil)
	must(t, err)
	if len(found.Deliveries) != n+1 {
		t.Errorf("%d deliveries, want %d", len(found.Deliveries), n+1)
	}
	for i, d := range found.Deliveries[1:] {
		if d.Time.After(found.Deliveries[i].Time) {
			t.Fatalf("number %d is newer than the one before", i+1)
		}
	}
}
