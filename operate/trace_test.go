package operate_test

import (
	"testing"
	"time"

	"fanout/operate"
	"fanout/topic"
)

// The record that a retry was read from may not be committed yet: what came of it says where the delivery waits, in
// whatever order the topics are read.
func TestTraceTakesTheLatestRecord(t *testing.T) {
	now := time.Now()
	before := &topic.Record{Partition: topic.Partition{Topic: "fanout.retry.5s"}, Time: now.Add(-6 * time.Second)}
	after := &topic.Record{Partition: topic.Partition{Topic: "fanout.retry.1h"}, Time: now}
	for _, order := range [][2]*topic.Record{{before, after}, {after, before}} {
		if w := operate.LatestWaiting(order[0], order[1], time.Hour); w.Topic != after.Topic {
			t.Errorf("read in the order %s, %s it waits in %s", order[0].Topic, order[1].Topic, w.Topic)
		}
	}
}

// Where a delivery is: what it was retried from is not where it is, only because that has not been committed yet.
func TestWhereabouts(t *testing.T) {
	clock := func(t time.Time) string { return t.Format(time.DateTime) }
	at := func(second int, topic string) *operate.Waiting {
		return &operate.Waiting{Topic: topic, Due: time.Date(2026, 1, 2, 3, 4, second, 0, time.UTC), Reason: "status", Detail: "HTTP 503", Attempts: "3", Partition: 1, Offset: 2}
	}
	for name, c := range map[string]struct {
		trace operate.Trace
		want  string
	}{
		"waits":                    {operate.Trace{Waiting: at(5, "fanout.retry.5s")}, "waiting in fanout.retry.5s, due 2026-01-02 03:04:05, after 3 attempts: status HTTP 503"},
		"died after it had waited": {operate.Trace{Waiting: at(5, "fanout.retry.5s"), Dead: at(6, "")}, "dead since 2026-01-02 03:04:06: status (HTTP 503), dead letter 1/2"},
		"waits after a replay":     {operate.Trace{Waiting: at(9, "fanout.replay"), Dead: at(6, "")}, "waiting in fanout.replay, due 2026-01-02 03:04:09, after 3 attempts: status HTTP 503"},
		"delivered":                {operate.Trace{Delivered: true, Waiting: at(9, "fanout.replay"), Dead: at(6, "")}, "delivered"},
	} {
		if got := c.trace.Where(true, true, clock); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
