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
