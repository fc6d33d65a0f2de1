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
