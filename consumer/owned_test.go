package consumer_test

import (
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
)

// setTopic changes a setting of a topic.
func (w *world) setTopic(topic, key, value string) {
	w.t.Helper()
	res, err := w.client.IncrementalAlterConfigs(w.t.Context(), &kafka.IncrementalAlterConfigsRequest{
		Resources: []kafka.IncrementalAlterConfigsRequestResource{{
			ResourceType: kafka.ResourceTypeTopic, ResourceName: topic, Configs: []kafka.IncrementalAlterConfigsRequestConfig{{Name: key, Value: value}},
		}},
	})
	if err == nil {
		err = res.Resources[0].Error
	}
	if err != nil {
		w.t.Fatalf("%s of %s: %v", key, topic, err)
	}
}

// Of the deliveries that wait in a compacted tier only the last of each subscription would be left: nothing is written there.
func TestCompactedTierIsNotWrittenTo(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.cfg.LookInterval = 20 * time.Millisecond
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	w.recv.on("/a", status(503))
	w.createTopic("fanout.retry.200ms", 2)
	w.setTopic("fanout.retry.200ms", "cleanup.policy", "compact")
	i := w.startUnready()
	w.until("it says so", func() bool {
		err := i.c.Ready()
		return err != nil && strings.Contains(err.Error(), "topic fanout.retry.200ms: cleanup.policy is compact, want delete")
	})
	if got := i.sum("fanout_topic_flaws", "topic", "fanout.retry.200ms", "severity", "error"); got < 1 {
		t.Errorf("fanout_topic_flaws of severity error is %v", got)
	}
	if w.logs.FilterMessageSnippet("a topic would lose deliveries").Len() == 0 {
		t.Error("no line of the log says so")
	}
	w.produce("channel.email", 0, rawEvent("acme", 1))
	w.until("an attempt", func() bool { return len(w.recv.got("/a")) == 1 })
	w.until("writing is refused", func() bool { return w.logs.FilterMessageSnippet("a record cannot be written").Len() > 0 })
	if n := len(w.records("fanout.retry.200ms")); n != 0 {
		t.Errorf("%d records were written to a compacted topic", n)
	}
	if lag := w.uncommitted("fanout", "channel.email"); lag != 1 {
		t.Errorf("%d offsets are not committed, want 1: its retry record was never written", lag)
	}

	w.setTopic("fanout.retry.200ms", "cleanup.policy", "delete")
	w.recv.on("/a", status(204))
	w.until("ready once it is mended", func() bool { return i.c.Ready() == nil })
	w.until("the delivery came out of the tier", func() bool { return len(w.recv.got("/a")) >= 2 })
	i.end()
}

// A retry tier that keeps its records for less than its delay and an hour loses them before anybody has looked.
func TestTierThatForgetsIsNotWrittenTo(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.createTopic("fanout.retry.300ms", 2)
	w.setTopic("fanout.retry.300ms", "retention.ms", "60000")
	i := w.startUnready()
	w.until("it says so", func() bool {
		err := i.c.Ready()
		return err != nil && strings.Contains(err.Error(), "topic fanout.retry.300ms: retention.ms is 1m, want 169h")
	})
	i.end()
}

// What is not as it should be and loses nothing at once is a detail of a consumer that is ready.
func TestWarningsOfOwnedTopics(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.createTopic("fanout.dead-letter", 2)
	w.setTopic("fanout.dead-letter", "retention.ms", "10000")
	w.setTopic("fanout.dead-letter", "retention.bytes", "1000000")
	i := w.start()
	for _, want := range []string{"retention.ms is 10s, want 720h", "retention.bytes is 1000000, want -1", "message.timestamp.type is CreateTime, want LogAppendTime"} {
		if detail := i.c.Detail(); !strings.Contains(detail, "topic fanout.dead-letter: "+want) {
			t.Errorf("the detail lacks %q: %s", want, detail)
		}
	}
	if got := i.sum("fanout_topic_flaws", "topic", "fanout.dead-letter", "severity", "warning"); got != 4 { // and max.message.bytes
		t.Errorf("%v warnings, want 4", got)
	}
	i.end()
}

// What is created has no flaw.
func TestCreatedTopicsHaveNoFlaw(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.cfg.Kafka.Replication = -1
	i := w.start()
	if detail := i.c.Detail(); detail != "" {
		t.Errorf("topics that fanout has created are said to have flaws: %s", detail)
	}
	if n := w.logs.FilterMessageSnippet("not safe from the loss of a broker").Len(); n != 1 {
		t.Errorf("one replica is warned of %d times", n)
	}
	i.end()
}
