package consumer_test

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"fanout/topic"
)

// history writes n records to partition 0 of a topic, the first of them as old as said, each a second younger.
func (w *world) history(topic, account string, n int, age time.Duration) {
	w.t.Helper()
	for k := range n {
		r := rawEvent(account, k)
		r.Time = time.Now().Add(-age + time.Duration(k)*time.Second)
		w.produce(topic, 0, r)
	}
}

// undecided runs an instance that has to end by itself because of old records.
func (w *world) undecided() *topic.UndecidedError {
	w.t.Helper()
	i := w.startUnready()
	var err error
	select {
	case err = <-i.done:
		i.done <- nil
	case <-time.After(20 * time.Second):
		w.t.Fatal("it goes on")
	}
	undecided, ok := errors.AsType[*topic.UndecidedError](err)
	if !ok {
		w.t.Fatalf("run: %v, want an UndecidedError", err)
	}
	return undecided
}

// A first run does not send a history that nobody has decided about. It says how much there is, from when, and what to set.
func TestFirstRunWithHistory(t *testing.T) {
	w := newWorld(t, "channel.email", "channel.sms")
	w.cfg.Kafka.Start = ""
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	w.history("channel.email", "acme", 5, 48*time.Hour)
	w.history("channel.sms", "acme", 1, time.Minute)
	err := w.undecided()
	if len(err.Sources) != 1 || err.Sources[0].Topic != "channel.email" || err.Sources[0].Records != 5 {
		t.Errorf("undecided: %+v", err.Sources)
	}
	oldest := time.Now().Add(-48 * time.Hour).UTC().Format("2006-01-02T15:")
	for _, part := range []string{"about 5 records", "the oldest from " + oldest, "group fanout", "kafka.start", "sources:", "earliest", "latest"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not say %q:\n%v", part, err)
		}
	}
	if n := len(w.recv.got("/a")); n != 0 {
		t.Errorf("%d deliveries were sent", n)
	}
	if at, ok := w.committed("fanout", "channel.email")[0]; ok && at.CommittedOffset >= 0 {
		t.Errorf("offset %d was committed", at.CommittedOffset)
	}
}

// The default sources are under the same guard.
func TestFirstRunWithHistoryOfDefaultSources(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.cfg.Kafka.Start, w.cfg.Sources = "", nil
	w.history("channel.email", "acme", 2, 2*time.Hour)
	if err := w.undecided(); len(err.Sources) != 1 || err.Sources[0].Records != 2 {
		t.Errorf("undecided: %+v", err.Sources)
	}
}

// Offsets that have expired count as none: after a long pause nobody gets a month of events at once.
func TestExpiredOffsetsCountAsNone(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	w.history("channel.email", "acme", 3, 2*time.Hour)
	i := w.start()
	w.until("all is settled", func() bool { return len(w.recv.got("/a")) == 3 && w.uncommitted("fanout", "channel.email") == 0 })
	i.end()
	w.cfg.Kafka.Start = ""
	w.start().end() // with its offsets it goes on
	if _, err := w.client.DeleteGroups(t.Context(), &kafka.DeleteGroupsRequest{GroupIDs: []string{"fanout"}}); err != nil {
		t.Fatal(err)
	}
	_ = w.undecided()
}

// What a source begins with where the group has no offset, by what is set and what it holds.
func TestFirstRunBegins(t *testing.T) {
	t.Parallel()
	old, young := 48*time.Hour, time.Minute
	since := time.Now().Add(-24 * time.Hour).UTC().Format(time.RFC3339)
	for name, c := range map[string]struct {
		start, own string
		age        time.Duration
		want       int
	}{
		"no history":              {"", "", young, 3},
		"history, earliest":       {"earliest", "", old, 3},
		"history, latest":         {"latest", "", old, 0},
		"own start before all's":  {"earliest", "latest", old, 0},
		"own start alone":         {"", "earliest", old, 3},
		"own latest alone":        {"", "latest", old, 0},
		"a time after all of it":  {since, "", old, 0},
		"a time before all of it": {"", since, young, 3},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "channel.email")
			w.cfg.Kafka.Start, w.cfg.Sources[0].Start = c.start, c.own
			w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
			w.history("channel.email", "acme", 3, c.age)
			i := w.start()
			w.produce("channel.email", 1, rawEvent("acme", 100))
			w.until("all is settled", func() bool {
				return len(w.recv.got("/a")) == c.want+1 && w.uncommitted("fanout", "channel.email") == 0
			})
			if detail := i.c.Detail(); detail != "" {
				t.Errorf("detail: %s", detail)
			}
			i.end()
		})
	}
}

// A source that is added to a running group and holds history stays unread, and that is said; the others are read. Once
// another instance, with a start for it, has begun it, the first one takes part.
func TestAddedSourceWithHistory(t *testing.T) {
	w := newWorld(t, "channel.email", "channel.sms")
	w.cfg.Kafka.Start, w.cfg.LookInterval = "", 200*time.Millisecond
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	both := w.cfg.Sources
	w.cfg.Sources = both[:1]
	w.produce("channel.email", 0, rawEvent("acme", 1))
	i := w.start()
	w.until("the first source is read", func() bool { return len(w.recv.got("/a")) == 1 && w.uncommitted("fanout", "channel.email") == 0 })
	i.end()

	w.history("channel.sms", "acme", 4, 3*time.Hour)
	w.cfg.Sources = slices.Clone(both)
	i = w.start()
	detail := i.c.Detail()
	for _, part := range []string{"channel.sms", "about 4 records", "the oldest from ", "kafka.start"} {
		if !strings.Contains(detail, part) {
			t.Errorf("the detail does not say %q: %s", part, detail)
		}
	}
	if n := w.logs.FilterMessageSnippet("stays unread").Len(); n != 1 {
		t.Errorf("%d lines of log say it", n)
	}
	if got := i.sum("fanout_source_unread", "source", "channel.sms"); got != 1 {
		t.Errorf("fanout_source_unread is %v", got)
	}
	w.produce("channel.email", 0, rawEvent("acme", 2))
	w.until("the other is read", func() bool { return len(w.recv.got("/a")) == 2 && w.uncommitted("fanout", "channel.email") == 0 })
	if got := i.sum("fanout_records_total", "source", "channel.sms"); got != 0 {
		t.Errorf("%v of its records were read", got)
	}

	w.cfg.Sources = []topic.SourceConfig{both[0], {Topic: "channel.sms", Start: "earliest"}}
	j := w.start()
	w.until("its history is delivered", func() bool { return len(w.recv.got("/a")) == 6 })
	w.until("the first instance says so no more", func() bool {
		return i.c.Detail() == "" && i.sum("fanout_source_unread", "source", "channel.sms") == 0
	})
	j.end()
	w.produce("channel.sms", 1, rawEvent("acme", 100))
	w.until("the first instance reads it", func() bool {
		return len(w.recv.got("/a")) == 7 && i.sum("fanout_records_total", "source", "channel.sms") >= 1
	})
	i.end()
}

// A source that stays unread is read once it holds no history any more, as when it was created again.
func TestUnreadSourceWithoutHistory(t *testing.T) {
	w := newWorld(t, "channel.email", "channel.sms")
	w.cfg.Kafka.Start, w.cfg.LookInterval = "", 20*time.Millisecond
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	w.history("channel.sms", "acme", 4, 3*time.Hour)
	w.commitAs("fanout", "channel.email", kafka.OffsetCommit{Partition: 0, Offset: 0})
	i := w.start()
	if i.c.Detail() == "" {
		t.Fatal("it is read")
	}
	w.deleteTopic("channel.sms")
	looked := w.asked(kmsg.Metadata, func(kmsg.Request) bool { return true })
	w.until("it is looked at: a topic that is missing is not a topic without history", func() bool { return looked.Load() >= 10 })
	if i.c.Detail() == "" {
		t.Error("a topic that is missing counts as decided")
	}
	w.createTopic("channel.sms", 2)
	w.produce("channel.sms", 1, rawEvent("acme", 10))
	w.until("it is read", func() bool { return len(w.recv.got("/a")) == 1 && i.c.Detail() == "" })
	i.end()
}

// The partitions of a source are begun all at once: a partition without an offset beside others that have one was added
// while nothing ran, and is read from its first record, whatever the start.
func TestPartitionAddedWhileNothingRan(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.cfg.Kafka.Start = "latest"
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	w.history("channel.email", "acme", 2, 2*time.Hour)
	w.start().end()
	res, err := w.client.CreatePartitions(t.Context(), &kafka.CreatePartitionsRequest{Topics: []kafka.TopicPartitionsConfig{{Name: "channel.email", Count: 3}}})
	if err != nil || res.Errors["channel.email"] != nil {
		t.Fatal(err, res)
	}
	other := &kafka.Client{Addr: w.client.Addr, Transport: &kafka.Transport{}}
	w.until("the partition takes a record", func() bool {
		res, err := other.Produce(t.Context(), &kafka.ProduceRequest{Topic: "channel.email", Partition: 2, RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(rawEvent("acme", 10))})
		return err == nil && res.Error == nil
	})
	i := w.start()
	w.until("it is delivered", func() bool { return len(w.recv.got("/a")) == 1 })
	i.end()
}

// Several instances that begin a source together leave no partition for a guess: the member that has partition 0 commits
// for all, and nobody reads before.
func TestInstancesBeginTogether(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.cfg.Kafka.Start = "latest"
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	for partition := range 2 {
		w.produce("channel.email", partition, rawEvent("acme", partition))
	}
	var open atomic.Bool
	var first atomic.Int32 // how many partitions the first commit that is taken has
	w.controlCommits(func(r *kmsg.OffsetCommitRequest) *kerr.Error {
		switch {
		case r.Group != "fanout":
			return nil
		case !open.Load():
			return kerr.CoordinatorLoadInProgress
		}
		first.CompareAndSwap(0, int32(len(r.Topics[0].Partitions)))
		return nil
	})
	all := []*instance{w.startUnready(), w.startUnready(), w.startUnready()}
	w.until("all have joined", func() bool { return w.members("fanout") == len(all) })
	open.Store(true)
	for _, i := range all {
		w.until("ready", func() bool { return i.c.Ready() == nil })
	}
	for partition := range 2 {
		w.produce("channel.email", partition, rawEvent("acme", 10+partition))
	}
	w.until("all is settled", func() bool { return len(w.ids("/a")) == 2 && w.uncommitted("fanout", "channel.email") == 0 })
	for _, i := range all {
		i.end()
	}
	if got := first.Load(); got != 2 {
		t.Errorf("the first commit has %d of 2 partitions", got)
	}
}

// members is how many members a group has that is stable.
func (w *world) members(group string) int {
	res, err := w.client.DescribeGroups(w.t.Context(), &kafka.DescribeGroupsRequest{GroupIDs: []string{group}})
	if err != nil || len(res.Groups) != 1 || res.Groups[0].GroupState != "Stable" {
		return 0
	}
	return len(res.Groups[0].Members)
}
