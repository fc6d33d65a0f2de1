package consumer_test

import (
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
)

func ofGroup(name string) kafka.Header { return kafka.Header{Key: "fanout-group", Value: []byte(name)} }

// Two deployments with different groups on the same topics each deliver once: what the other has put off is the other's.
func TestTwoDeploymentsOnTheSameTopics(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	w.recv.on("/a", status(503))
	one := w.start()
	w.cfg.Kafka.Group = "other"
	two := w.start()
	w.produce("channel.email", 0, rawEvent("acme", 1))
	// Each makes three attempts, by a schedule of two waits, and then one dead letter.
	w.until("both have given up", func() bool { return len(w.records("fanout.dead-letter")) >= 2 })
	w.until("each tier is committed by both", func() bool {
		lag := int64(0)
		for _, topic := range []string{"fanout.retry.200ms", "fanout.retry.300ms"} {
			lag += w.uncommitted("fanout.retry", topic) + w.uncommitted("other.retry", topic)
		}
		return lag == 0
	})
	if got := len(w.recv.got("/a")); got != 6 {
		t.Errorf("%d POSTs, want 6: three of each deployment", got)
	}
	groups := make(map[string]int)
	for _, m := range w.records("fanout.dead-letter") {
		groups[header(&m, "fanout-group")]++
	}
	if len(groups) != 2 || groups["fanout"] != 1 || groups["other"] != 1 {
		t.Errorf("dead letters by group: %v", groups)
	}
	if got := one.sum("fanout_foreign_records_total") + two.sum("fanout_foreign_records_total"); got != 4 {
		t.Errorf("%v records are counted as foreign, want 4", got)
	}
	if detail := one.c.Detail(); !strings.Contains(detail, "records of group other are passed over") {
		t.Errorf("the detail does not name the other group: %q", detail)
	}
	one.end()
	two.end()
}

// Whoever changes kafka.group finds what the old group has left: it is not read before somebody says whose it is.
func TestRecordsOfAGroupThatIsGone(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.cfg.LookInterval = 20 * time.Millisecond
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	w.createTopic("fanout.retry.200ms", 2)
	w.produce("fanout.retry.200ms", 0, retryRecord("a", 1, ofGroup("before")), retryRecord("a", 2))
	w.produce("fanout.retry.200ms", 1, retryRecord("a", 3, ofGroup("fanout")), retryRecord("a", 4))
	i := w.start()
	w.until("the partition with records of its own is read", func() bool { return len(w.ids("/a")) == 2 })
	w.until("the other is named", func() bool {
		return strings.Contains(i.c.Detail(), "fanout.retry.200ms/0 not read: records of group before")
	})
	if got := i.sum("fanout_foreign_partitions", "topic", "fanout.retry.200ms"); got != 1 {
		t.Errorf("%v partitions are counted as held, want 1", got)
	}
	if n := w.logs.FilterMessageSnippet("a partition is not read").Len(); n != 1 {
		t.Errorf("the log says it %d times, want once", n)
	}
	i.end()
	if at := w.committed("fanout.retry", "fanout.retry.200ms")[0].CommittedOffset; at >= 0 {
		t.Errorf("the partition that is not read was committed at %d", at)
	}
	w.cfg.Kafka.FormerGroups = []string{"before"}
	j := w.start()
	w.until("all is delivered", func() bool { return len(w.ids("/a")) == 4 })
	if detail := j.c.Detail(); strings.Contains(detail, "not read") {
		t.Errorf("a partition is still said not to be read: %s", detail)
	}
	j.end()
}

// While the other group has members, its records are its own business: the partition is read, and they are passed over.
func TestRecordsOfAGroupThatWorks(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.cfg.LookInterval = 20 * time.Millisecond
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	w.createTopic("fanout.retry.200ms", 2)
	w.produce("fanout.retry.200ms", 0, retryRecord("a", 1, ofGroup("other")), retryRecord("a", 2, ofGroup("fanout")))
	i := w.start()
	w.until("the partition is held", func() bool { return strings.Contains(i.c.Detail(), "group other") })
	w.cfg.Kafka.Group = "other"
	other := w.start()
	w.until("both deliver their own", func() bool { return len(w.ids("/a")) == 2 })
	w.until("the record of the other group is passed over", func() bool { return i.sum("fanout_foreign_records_total") == 1 })
	i.end()
	other.end()
	if n := len(w.recv.got("/a")); n != 2 {
		t.Errorf("%d POSTs, want 2", n)
	}
}
