package operate_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"fanout/event"
	"fanout/operate"
	"fanout/topic"
)

// fill appends n records of other deliveries to a topic's partition 0.
func (w *world) fill(name string, n int) {
	w.t.Helper()
	for at := 0; at < n; at += 1000 {
		records := make([]kafka.Record, 0, 1000)
		for i := range 1000 {
			other := id(1_000_000 + at + i)
			value := fmt.Sprintf(`{"time":%s,"id":%q,"account":"acme","stage":"first","outcome":"dead"}`, topic.UnixMilli(time.Now()), other)
			records = append(records, kafka.Record{Time: time.Now(), Value: kafka.NewBytes([]byte(value)), Headers: []kafka.Header{
				{Key: topic.HeaderWebhookID, Value: []byte(other)}, {Key: topic.HeaderOutcome, Value: []byte("dead")}, {Key: topic.HeaderReason, Value: []byte("gone")},
			}})
		}
		_, err := w.Produce(w.t.Context(), topic.Partition{Topic: name}, records)
		must(w.t, err)
	}
}

// died appends all that a delivery leaves that died at its first attempt.
func (w *world) died(webhookID string) {
	w.t.Helper()
	now := time.Now()
	w.write("fanout.attempts", 0, `{"time":`+topic.UnixMilli(now)+`,"id":"`+webhookID+`","account":"acme","subscription":"crm","origin":"channel.email/0/1","stage":"first","outcome":"dead","attempt":1}`,
		topic.HeaderWebhookID, webhookID, topic.HeaderOutcome, "dead")
	w.letter(webhookID, now)
}

// What is sent again is looked for from the ends of the topics: of a delivery of today little is read, however much they hold. One that is
// old, or unknown, is looked for in all.
func TestResendIsFoundFromTheEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.died(id(1))
	w.fill("fanout.attempts", 12_000)
	w.fill("fanout.dead-letter", 12_000)
	w.fill("fanout.retry.5s", 12_000)
	w.settle("fanout.retry.5s")
	w.died(id(2))
	find := func(n int) (*operate.Resend, int64, error) {
		var read atomic.Int64
		r, err := operate.FindResend(t.Context(), w.Cluster, operate.ResendConfig{
			ID: id(n), Name: "again", Done: &read, Wants: func(_, _ string, _ event.Name) string { return "" },
		})
		return r, read.Load(), err
	}
	for n, most := range map[int]int64{1: 24_100, 2: 3_000} {
		r, read, err := find(n)
		if err != nil || r.Was != "dead" || r.Body != "dead letter" || r.ID != id(n) || read > most {
			t.Errorf("%d: %+v, %v; %d offsets were read, want %d at most", n, r, err, read, most)
		}
	}
	if _, read, err := find(3); !errors.Is(err, operate.ErrNoDelivery) || read < 24_000 {
		t.Errorf("unknown: %v; %d offsets were read, want all", err, read)
	}

	w.write("fanout.retry.5s", 0, `{"eventType":"OPEN"}`, topic.HeaderWebhookID, id(2))
	if _, _, err := find(2); err == nil || !errors.As(err, new(*operate.BusyError)) {
		t.Errorf("one that waits: %v", err)
	}
	// Where nothing but a record that it has waited in is left, that is what is sent.
	w.write("fanout.retry.5s", 0, `{"eventType":"OPEN"}`, "fanout-webhook-id", id(4), "fanout-account", "acme", "fanout-subscription", "crm",
		"fanout-event", "EMAIL_OPEN", "fanout-attempts", "1", "fanout-first-seen", topic.UnixMilli(time.Now()), "fanout-origin", "channel.email/0/1")
	w.settle("fanout.retry.5s")
	if r, _, err := find(4); err != nil || r.Body != "fanout.retry.5s" {
		t.Errorf("of a settled retry: %+v, %v", r, err)
	}
}
