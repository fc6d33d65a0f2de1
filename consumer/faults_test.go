package consumer_test

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"fanout/topic"
)

// refuse lets the embedded Kafka refuse produce requests, by topic, partition and size; nil lets them pass.
func (w *world) refuse(why func(topic string, partition int32, size int) *kerr.Error) {
	w.cluster.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		req, _ := r.(*kmsg.ProduceRequest)
		res, _ := req.ResponseKind().(*kmsg.ProduceResponse)
		refused := false
		for _, t := range req.Topics {
			rt := kmsg.NewProduceResponseTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewProduceResponseTopicPartition()
				rp.Partition = p.Partition
				if e := why(t.Topic, p.Partition, len(p.Records)); e != nil {
					rp.ErrorCode, refused = e.Code, true
				}
				rt.Partitions = append(rt.Partitions, rp)
			}
			res.Topics = append(res.Topics, rt)
		}
		return res, nil, refused
	})
}

// One topic whose offsets may not be read, its right being gone, holds up no commit of the others.
func TestCommitsBesideADeniedTopic(t *testing.T) {
	w := newWorld(t, "channel.email", "channel.sms")
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	var deny atomic.Bool
	w.cluster.ControlKey(int16(kmsg.OffsetFetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		req, _ := r.(*kmsg.OffsetFetchRequest)
		if sms := func(t kmsg.OffsetFetchRequestTopic) bool { return t.Topic == "channel.sms" }; !deny.Load() || !slices.ContainsFunc(req.Topics, sms) {
			return nil, nil, false
		}
		res, _ := req.ResponseKind().(*kmsg.OffsetFetchResponse)
		for _, topic := range req.Topics {
			rt := kmsg.NewOffsetFetchResponseTopic()
			rt.Topic = topic.Topic
			for _, p := range topic.Partitions {
				rp := kmsg.NewOffsetFetchResponseTopicPartition()
				rp.Partition = p
				if topic.Topic == "channel.sms" {
					rp.Offset, rp.ErrorCode = -1, kerr.TopicAuthorizationFailed.Code
				}
				rt.Partitions = append(rt.Partitions, rp)
			}
			res.Topics = append(res.Topics, rt)
		}
		return res, nil, true
	})
	i := w.start()
	deny.Store(true)
	for k := range 10 {
		w.produce("channel.sms", 0, rawEvent("acme", k))
		w.produce("channel.email", 0, rawEvent("acme", 100+k))
	}
	w.until("all", func() bool { return len(w.recv.got("/a")) == 20 })
	w.until("the commit of the topic that nothing is wrong with", func() bool { return w.committed("fanout", "channel.email")[0].CommittedOffset == 10 })
	deny.Store(false)
	w.until("the other's", func() bool { return w.uncommitted("fanout", "channel.sms") == 0 })
	i.end()
}

// A topic that appears just after the start does not count as missing: the client's picture of the cluster may be a second old.
func TestSourceThatAppearsAtTheStart(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.cfg.Sources = append(w.cfg.Sources, topic.SourceConfig{Topic: "channel.late"})
	i := w.startUnready()
	time.Sleep(500 * time.Millisecond)
	w.createTopic("channel.late", 1)
	w.until("ready", func() bool { return i.ended() || i.c.Ready() == nil })
	if i.ended() {
		t.Fatal("run ended, the topic being missing")
	}
	i.end()
}

// blockFetches lets nothing be read of a topic while it is set.
func (w *world) blockFetches(topic string) *atomic.Bool {
	var blocked atomic.Bool
	w.cluster.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		req, _ := r.(*kmsg.FetchRequest)
		if !blocked.Load() || len(req.Topics) != 1 || req.Topics[0].Topic != topic {
			return nil, nil, false
		}
		res, _ := req.ResponseKind().(*kmsg.FetchResponse)
		rt := kmsg.NewFetchResponseTopic()
		rt.Topic = topic
		for _, p := range req.Topics[0].Partitions {
			rp := kmsg.NewFetchResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, kerr.KafkaStorageError.Code
			rt.Partitions = append(rt.Partitions, rp)
		}
		res.Topics = append(res.Topics, rt)
		return res, nil, true
	})
	return &blocked
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// A retry record that cannot be written stops reading; nothing is passed over, and all goes on when it can be.
func TestUnwritableRetryTopicStopsReading(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dir.set(t, "acme", "down", `{"url":"`+w.recv.URL+`/down","events":["*"]}`)
	w.dir.set(t, "other", "well", `{"url":"`+w.recv.URL+`/well","events":["*"]}`)
	w.recv.on("/down", status(503))
	w.dcfg.Lanes.ParkAfter = 1 << 30
	var broken atomic.Bool
	broken.Store(true)
	w.refuse(func(topic string, _ int32, _ int) *kerr.Error {
		if broken.Load() && strings.HasPrefix(topic, "fanout.retry.") {
			return kerr.NotEnoughReplicas
		}
		return nil
	})
	i := w.start()
	for k := range 20 {
		w.produce("channel.email", k%2, rawEvent("acme", k))
	}
	w.until("not ready", func() bool { return i.c.Ready() != nil })
	if err := i.c.Healthy(); err != nil {
		t.Errorf("waiting for a write is healthy, yet: %v", err)
	}
	w.produce("channel.email", 0, rawEvent("other", 1))
	w.produce("channel.email", 1, rawEvent("other", 2))
	time.Sleep(1500 * time.Millisecond) // a negative: there is nothing to wait for
	if got := w.recv.got("/well"); len(got) != 0 {
		t.Errorf("%d records were read while one could not be written", len(got))
	}
	for partition, p := range w.committed("fanout", "channel.email") {
		if p.CommittedOffset > 0 {
			t.Errorf("partition %d is committed up to %d, past what could not be written", partition, p.CommittedOffset)
		}
	}
	broken.Store(false)
	w.until("the others", func() bool { return len(w.recv.got("/well")) == 2 })
	w.until("20 dead letters", func() bool { return len(w.records("fanout.dead-letter")) >= 20 })
	w.until("ready", func() bool { return i.c.Ready() == nil })
	i.end()
	if got := len(w.records("fanout.dead-letter")); got != 20 {
		t.Errorf("%d dead letters, want 20", got)
	}
	if lag := w.uncommitted("fanout", "channel.email"); lag != 0 {
		t.Errorf("%d offsets are not committed", lag)
	}
}

// While a record cannot be written nothing is read, and the lag still shows what producers add.
func TestLagGrowsWhileReadingWaits(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dir.set(t, "acme", "down", `{"url":"`+w.recv.URL+`/down","events":["*"]}`)
	w.recv.on("/down", status(503))
	var broken atomic.Bool
	broken.Store(true)
	w.refuse(func(topic string, _ int32, _ int) *kerr.Error {
		if broken.Load() && strings.HasPrefix(topic, "fanout.retry.") {
			return kerr.NotEnoughReplicas
		}
		return nil
	})
	i := w.start()
	w.produce("channel.email", 0, rawEvent("acme", 1))
	w.until("not ready", func() bool { return i.c.Ready() != nil })
	for k := range 60 {
		w.produce("channel.email", k%2, rawEvent("nobody", k))
	}
	w.until("the lag", func() bool { return i.sum("fanout_lag_records", "topic", "channel.email") == 61 })
	broken.Store(false)
	w.until("no lag", func() bool { return i.sum("fanout_lag_records", "topic", "channel.email") == 0 })
	i.end()
}

// One partition without a leader must not stop records that another one of the topic would take.
func TestWriterGoesRoundALeaderlessPartition(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.refuse(func(topic string, partition int32, _ int) *kerr.Error {
		if topic == "fanout.dead-letter" && partition == 0 {
			return kerr.NotLeaderForPartition
		}
		return nil
	})
	i := w.start()
	for range 5 {
		w.produce("channel.email", 0, kafka.Record{Value: kafka.NewBytes([]byte("{"))})
	}
	w.until("dead letters", func() bool { return len(w.records("fanout.dead-letter")) == 5 })
	w.until("ready", func() bool { return i.c.Ready() == nil })
	i.end()
}

// What the broker refuses as too large is cut, its headers too; it must not stop reading for ever.
func TestTooLargeIsCut(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.refuse(func(topic string, _ int32, size int) *kerr.Error {
		if topic == "fanout.dead-letter" && size > 220<<10 {
			return kerr.MessageTooLarge
		}
		return nil
	})
	i := w.start()
	large := []byte(strings.Repeat("x", 300_000))
	w.produce("channel.email", 0, kafka.Record{Value: kafka.NewBytes(large), Headers: []kafka.Header{{Key: "mine", Value: []byte("kept")}}})
	bomb := make([]kafka.Header, 300)
	for k := range bomb {
		bomb[k] = kafka.Header{Key: "bomb", Value: large[:1000]}
	}
	w.produce("channel.email", 1, kafka.Record{Value: kafka.NewBytes([]byte("{")), Headers: bomb})
	for range 3 { // small ones, which may share a batch with them
		w.produce("channel.email", 0, kafka.Record{Value: kafka.NewBytes([]byte("{"))})
	}
	w.until("dead letters", func() bool { return len(w.records("fanout.dead-letter")) == 5 })
	i.end()
	seen := 0
	for _, m := range w.records("fanout.dead-letter") {
		if header(&m, "fanout-reason") != "malformed_event" || header(&m, "fanout-origin") == "" {
			t.Errorf("dead letter without its headers: %v", m.Headers)
		}
		switch {
		case header(&m, "mine") != "":
			seen++
			if len(m.Value) != 64<<10 || header(&m, "fanout-truncated") != "300000" {
				t.Errorf("%d bytes were kept, fanout-truncated is %q", len(m.Value), header(&m, "fanout-truncated"))
			}
		case header(&m, "bomb") != "":
			seen++
			if string(m.Value) != "{" || header(&m, "fanout-truncated") != "1" || len(m.Headers) > 80 {
				t.Errorf("%q with %d headers, fanout-truncated is %q", m.Value, len(m.Headers), header(&m, "fanout-truncated"))
			}
		case header(&m, "fanout-truncated") != "":
			t.Errorf("a small one was cut: %v", m.Headers)
		}
	}
	if seen != 2 {
		t.Errorf("%d of the 2 large records were found", seen)
	}
}

// A topic of ours that is deleted is created again, and what waited for it is written.
func TestDeletedDeadLetterTopicIsMended(t *testing.T) {
	w := newWorld(t, "channel.email")
	i := w.start()
	w.deleteTopic("fanout.dead-letter")
	w.produce("channel.email", 0, kafka.Record{Value: kafka.NewBytes([]byte("{"))})
	w.until("ready again", func() bool { return w.exists("fanout.dead-letter") && i.c.Ready() == nil })
	w.until("the dead letter", func() bool { return len(w.records("fanout.dead-letter")) == 1 })
	i.end()
}

// A retry topic that is deleted while nothing is written to it is created again too: else its group never joins again.
func TestDeletedRetryTopicIsMended(t *testing.T) {
	w := newWorld(t, "channel.email")
	i := w.start()
	w.deleteTopic("fanout.retry.300ms")
	w.until("it is back", func() bool { return w.exists("fanout.retry.300ms") && i.c.Ready() == nil })
	i.end()
}

// A source topic that is deleted must not keep the others from being read, and is read again when it is back.
func TestDeletedSourceTopic(t *testing.T) {
	w := newWorld(t, "channel.email", "channel.sms")
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	i := w.start()
	w.produce("channel.sms", 0, rawEvent("acme", 1))
	w.until("one", func() bool { return len(w.recv.got("/a")) == 1 })
	w.deleteTopic("channel.sms")
	j := w.startUnready() // a rebalance, in which nobody would get any partition
	w.until("both have joined", func() bool { return i.c.Ready() == nil && (j.c.Ready() == nil || j.ended()) })
	w.produce("channel.email", 0, rawEvent("acme", 2))
	w.produce("channel.email", 1, rawEvent("acme", 3))
	w.until("the others", func() bool { return len(w.recv.got("/a")) == 3 })
	w.createTopic("channel.sms", 2)
	w.produce("channel.sms", 1, rawEvent("acme", 4))
	w.until("the one that is back", func() bool { return len(w.recv.got("/a")) == 4 })
	i.end()
}

// controlCommits lets the embedded Kafka refuse commits.
func (w *world) controlCommits(why func(*kmsg.OffsetCommitRequest) *kerr.Error) {
	w.cluster.ControlKey(int16(kmsg.OffsetCommit), func(r kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		req, _ := r.(*kmsg.OffsetCommitRequest)
		e := why(req)
		if e == nil {
			return nil, nil, false
		}
		res, _ := req.ResponseKind().(*kmsg.OffsetCommitResponse)
		for _, t := range req.Topics {
			rt := kmsg.NewOffsetCommitResponseTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewOffsetCommitResponseTopicPartition()
				rp.Partition, rp.ErrorCode = p.Partition, e.Code
				rt.Partitions = append(rt.Partitions, rp)
			}
			res.Topics = append(res.Topics, rt)
		}
		return res, nil, true
	})
}

// The last commit of a session is tried again: where the group's coordinator has just moved, it is refused at first.
func TestLastCommitIsTriedAgain(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	var refuse atomic.Int64
	w.controlCommits(func(r *kmsg.OffsetCommitRequest) *kerr.Error {
		if r.Group == "fanout" && refuse.Add(-1) >= 0 {
			return kerr.NotCoordinator
		}
		return nil
	})
	i := w.start()
	refuse.Store(1 << 30)
	for k := range 20 {
		w.produce("channel.email", 0, rawEvent("acme", k))
	}
	w.until("all", func() bool { return len(w.recv.got("/a")) == 20 })
	refuse.Store(3) // of which the session's own round of commits takes one at most
	i.end()
	if got := w.committed("fanout", "channel.email")[0].CommittedOffset; got != 20 {
		t.Errorf("%d is committed after the stop, want 20", got)
	}
}

// A member whose commits are refused has lost its partitions: it gives up on what is open, joins again, and reads again
// what was not committed, with the same webhook-ids.
func TestFencedMemberJoinsAnew(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	var fence atomic.Bool
	var refused atomic.Int64
	w.controlCommits(func(r *kmsg.OffsetCommitRequest) *kerr.Error {
		if fence.Load() && r.Group == "fanout" {
			refused.Add(1)
			return kerr.IllegalGeneration
		}
		return nil
	})
	i := w.start()
	fence.Store(true)
	for k := range 50 {
		w.produce("channel.email", k%2, rawEvent("acme", k))
	}
	w.until("a refusal", func() bool { return refused.Load() > 0 })
	fence.Store(false)
	w.until("all committed", func() bool { return w.uncommitted("fanout", "channel.email") == 0 })
	i.end()
	if ids := w.ids("/a"); len(ids) != 50 {
		t.Errorf("%d webhook-ids, want 50", len(ids))
	}
	if got := len(w.recv.got("/a")); got > 100 {
		t.Errorf("%d requests for 50 events", got)
	}
}

// A broker with a smaller limit for metadata takes the offsets without it.
func TestMetadataThatIsTooLargeIsLeftOut(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dcfg.Delivery.Timeout = 20 * time.Second
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	release := w.hang("/a", "t5")
	w.controlCommits(func(r *kmsg.OffsetCommitRequest) *kerr.Error {
		for _, t := range r.Topics {
			for _, p := range t.Partitions {
				if p.Metadata != nil && *p.Metadata != "" {
					return kerr.OffsetMetadataTooLarge
				}
			}
		}
		return nil
	})
	i := w.start()
	for k := range 10 {
		w.produce("channel.email", 0, rawEvent("acme", k))
	}
	w.until("offset 5 is committed", func() bool { return w.committed("fanout", "channel.email")[0].CommittedOffset == 5 })
	release()
	w.until("all committed", func() bool { return w.uncommitted("fanout", "channel.email") == 0 })
	i.end()
}

// hang lets requests to the path whose body names the tracking id wait until it is released.
func (w *world) hang(path, trackingID string) (release func()) {
	free := make(chan struct{})
	release = sync.OnceFunc(func() { close(free) })
	w.t.Cleanup(release)
	w.recv.onBody(path, func(rw http.ResponseWriter, r *http.Request, body string) {
		if contains(body, `"`+trackingID+`"`) {
			select {
			case <-free:
			case <-r.Context().Done():
			}
		}
		rw.WriteHeader(http.StatusNoContent)
	})
	return release
}

// One delivery that hangs must not make a crash repeat all that came after it.
func TestCrashRepeatsWhatHungOnly(t *testing.T) {
	t.Parallel()
	for name, again := range map[string]bool{"one": false, "another, before all was read again": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "channel.email")
			w.dcfg.Delivery.Timeout = 20 * time.Second
			w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
			release := w.hang("/a", "t3")
			unreadable := w.blockFetches("channel.email")
			i := w.start()
			const n = 300
			for k := range n {
				w.produce("channel.email", 0, rawEvent("acme", k))
			}
			said := func() bool {
				p := w.committed("fanout", "channel.email")[0]
				return p.CommittedOffset == 3 && settled(p, n-1)
			}
			w.until("all but one", func() bool { return i.sum("fanout_outcomes_total", "outcome", "delivered") == n-1 })
			w.until("they are said to be settled", said)
			i.kill()
			if again {
				unreadable.Store(true)
				i = w.start()
				time.Sleep(1500 * time.Millisecond) // several commits
				if !said() {
					t.Error("the commit says no more what is settled")
				}
				i.kill()
				unreadable.Store(false)
			}
			release()
			i = w.start()
			w.until("the one that hung", func() bool { return w.uncommitted("fanout", "channel.email") == 0 })
			i.end()
			if ids := w.ids("/a"); len(ids) != n {
				t.Errorf("%d webhook-ids, want %d", len(ids), n)
			}
			if got := len(w.recv.got("/a")); got != n+1 {
				t.Errorf("%d requests for %d events: only the one that hung is to be repeated", got, n)
			}
		})
	}
}

// A crash without a drain loses nothing.
func TestCrashUnderLoadLosesNothing(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	w.dir.set(t, "acme", "down", `{"url":"`+w.recv.URL+`/down","events":["*"]}`)
	w.recv.on("/down", status(500))
	w.dcfg.Lanes.ParkAfter = 1 << 30
	const n = 1500
	producing := make(chan struct{})
	go func() {
		defer close(producing)
		for k := range n / 10 {
			list := make([]kafka.Record, 10)
			for j := range list {
				list[j] = rawEvent("acme", 10*k+j)
			}
			w.produce("channel.email", k%2, list...)
		}
	}()
	for k := range 3 {
		i := w.start()
		want := min(n-100, (k+1)*200)
		w.until("some", func() bool { return len(w.ids("/a")) >= want })
		i.kill()
	}
	<-producing
	i := w.start()
	w.until("all", func() bool { return len(w.ids("/a")) == n })
	w.until("all is settled", func() bool { return w.uncommitted("fanout", "channel.email") == 0 })
	w.until("all are dead", func() bool { return len(w.deadIDs()) == n })
	i.end()
	t.Logf("%d requests for %d events over 3 crashes", len(w.recv.got("/a")), n)
}

// Two instances share the work; one that comes and one that goes cost nothing, and next to no repeats.
func TestRebalanceUnderLoad(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	const n = 4000
	i := w.start()
	producing := make(chan struct{})
	go func() {
		defer close(producing)
		for k := range n / 10 {
			list := make([]kafka.Record, 10)
			for j := range list {
				list[j] = rawEvent("acme", 10*k+j)
			}
			w.produce("channel.email", k%2, list...)
			time.Sleep(5 * time.Millisecond) // a pace
		}
	}()
	w.until("some", func() bool { return len(w.ids("/a")) > 100 })
	j := w.start()
	w.until("the second one delivers", func() bool { return j.sum("fanout_outcomes_total", "outcome", "delivered") > 20 })
	i.end()
	<-producing
	w.until("all", func() bool { return len(w.ids("/a")) == n })
	w.until("all is settled", func() bool { return w.uncommitted("fanout", "channel.email") == 0 })
	j.end()
	if repeats := len(w.recv.got("/a")) - n; repeats > 20 {
		t.Errorf("%d repeats", repeats)
	}
}

// Partitions that are added are found, and read from their first record whatever kafka.start says.
func TestAddedPartitions(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.cfg.Kafka.Start = "latest"
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	i := w.start()
	res, err := w.client.CreatePartitions(t.Context(), &kafka.CreatePartitionsRequest{Topics: []kafka.TopicPartitionsConfig{{Name: "channel.email", Count: 3}}})
	if err != nil || res.Errors["channel.email"] != nil {
		t.Fatal(err, res)
	}
	other := &kafka.Client{Addr: w.client.Addr, Transport: &kafka.Transport{}}
	w.until("the partition takes a record", func() bool {
		res, err := other.Produce(t.Context(), &kafka.ProduceRequest{Topic: "channel.email", Partition: 2, RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(rawEvent("acme", 1))})
		return err == nil && res.Error == nil
	})
	w.until("it is delivered", func() bool { return len(w.recv.got("/a")) == 1 })
	i.end()
}

// A default source topic that is created while running is read, from its first record whatever kafka.start says: a channel
// that starts later needs no restart.
func TestDefaultTopicThatComesLater(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.cfg.Sources = nil
	w.cfg.Kafka.Start = "latest"
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	i := w.start()
	w.createTopic("channel.sms", 2)
	w.produce("channel.sms", 1, rawEvent("acme", 1))
	w.until("what came before it was found is delivered", func() bool { return len(w.ids("/a")) == 1 })
	w.produce("channel.email", 0, rawEvent("acme", 2))
	w.produce("channel.sms", 0, rawEvent("acme", 3))
	w.until("both are read", func() bool { return len(w.ids("/a")) == 3 })
	if n := i.sum("fanout_records_total", "source", "channel.sms"); n != 2 {
		t.Errorf("%v records of the new topic are counted, want 2", n)
	}
	i.end()
}

// A retry topic that appears while running, of another instance's schedule, is read; one that is deleted is forgotten.
func TestTiersOfOtherSchedules(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.cfg.LookInterval = 200 * time.Millisecond
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	w.createTopic("fanout.retry.100ms", 1)
	w.produce("fanout.retry.100ms", 0, retryRecord("a", 1))
	i := w.start()
	w.until("the one that was there", func() bool { return len(w.recv.got("/a")) == 1 })
	w.createTopic("fanout.retry.150ms", 1)
	w.produce("fanout.retry.150ms", 0, retryRecord("a", 2))
	w.until("the one that came", func() bool { return len(w.recv.got("/a")) == 2 })
	w.deleteTopic("fanout.retry.100ms")
	w.deleteTopic("fanout.retry.150ms")
	w.until("they are forgotten", func() bool {
		return i.sum("fanout_partitions", "topic", "fanout.retry.100ms")+i.sum("fanout_partitions", "topic", "fanout.retry.150ms") == 0
	})
	if got := i.sum("fanout_partitions", "topic", "fanout.retry.200ms"); i.c.Ready() != nil || got != 2 {
		t.Errorf("%v partitions of another tier are read, %v", got, i.c.Ready())
	}
	i.end()
}

// A stop ends in time although a receiver hangs, and what was in flight is deferred and committed.
func TestStopWithAHangingReceiver(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dcfg.Delivery.Timeout = time.Minute
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	w.hang("/a", "t0")
	i := w.start()
	for k := range 20 {
		w.produce("channel.email", 0, rawEvent("acme", k))
	}
	w.until("all but one", func() bool { return i.sum("fanout_outcomes_total", "outcome", "delivered") == 19 })
	begun := time.Now()
	i.end()
	const busy = 5 * time.Second // for a machine that has other things to do: without a bound the stop waits for Kafka
	if took := time.Since(begun); took > w.cfg.ShutdownTimeout+busy {
		t.Errorf("the stop took %v, shutdown_timeout is %v", took, w.cfg.ShutdownTimeout)
	}
	if lag := w.uncommitted("fanout", "channel.email"); lag != 0 {
		t.Errorf("%d offsets are not committed", lag)
	}
	records := w.records("fanout.retry.200ms")
	if len(records) != 1 || header(&records[0], "fanout-reason") != "shutdown" || header(&records[0], "fanout-attempts") != "0" {
		t.Errorf("the first tier holds %v", records)
	}
}

// At a stop, what waits is deferred at once; what is in flight has its time.
func TestStopDefersWhatWaitsAtOnce(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dcfg.Delivery.Timeout = time.Minute
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"],"maxInFlight":1}`)
	release := w.hang("/a", "t0")
	i := w.start()
	for k := range 20 {
		w.produce("channel.email", 0, rawEvent("acme", k))
	}
	w.until("one is in flight, the others wait", func() bool {
		return len(w.recv.got("/a")) == 1 && i.sum("fanout_outcomes_total")+i.sum("fanout_lag_records") == 20
	})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		i.end()
	}()
	w.until("what waits is deferred", func() bool { return len(w.records("fanout.retry.200ms")) == 19 })
	release()
	<-ended
	if got := i.sum("fanout_outcomes_total", "outcome", "delivered"); got != 1 {
		t.Errorf("%v delivered, want the one that was in flight", got)
	}
	if lag := w.uncommitted("fanout", "channel.email"); lag != 0 {
		t.Errorf("%d offsets are not committed", lag)
	}
}

// A partition is given up well before the broker loses patience, although a receiver hangs, and nothing is lost.
func TestRevokeWithAHangingReceiver(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dcfg.Delivery.Timeout = time.Minute
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	release := w.hang("/a", "t0")
	i := w.start()
	for k := range 20 {
		w.produce("channel.email", 0, rawEvent("acme", k))
	}
	w.until("all but one", func() bool { return i.sum("fanout_outcomes_total", "outcome", "delivered") == 19 })
	begun := time.Now()
	j := w.start()
	w.until("the partition has moved", func() bool { return j.sum("fanout_partitions", "topic", "channel.email") == 1 })
	if took := time.Since(begun); took > 4*time.Second {
		t.Errorf("the second member waited %v", took)
	}
	release()
	w.until("all", func() bool { return len(w.ids("/a")) == 20 && w.uncommitted("fanout", "channel.email") == 0 })
	j.end()
	i.end()
	if records := w.records("fanout.retry.200ms"); len(records) != 1 || header(&records[0], "fanout-reason") != "shutdown" {
		t.Errorf("the first tier holds %v", records)
	}
	if got := i.sum("fanout_outcomes_total", "outcome", "abandoned"); got != 0 {
		t.Errorf("%v abandoned", got)
	}
}

// A member that the group has gone on without defers nothing: its records are another's, who delivers them.
func TestFencedMemberDefersNothing(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dcfg.Delivery.Timeout = time.Minute
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	w.hang("/a", "t0")
	var fence atomic.Bool
	w.controlCommits(func(*kmsg.OffsetCommitRequest) *kerr.Error {
		if fence.Load() {
			return kerr.UnknownMemberID
		}
		return nil
	})
	i := w.start()
	w.produce("channel.email", 0, rawEvent("acme", 0))
	w.until("it hangs", func() bool { return len(w.recv.got("/a")) == 1 })
	fence.Store(true)
	i.end()
	if got := i.sum("fanout_outcomes_total", "outcome", "abandoned"); got != 1 {
		t.Errorf("%v abandoned, want 1", got)
	}
	if records := w.records("fanout.retry.200ms"); len(records) != 0 {
		t.Errorf("%d records were deferred", len(records))
	}
}

// A stop ends in time although Kafka is gone.
func TestStopWithoutKafka(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	w.recv.on("/a", status(500))
	i := w.start()
	w.produce("channel.email", 0, rawEvent("acme", 1))
	w.until("an attempt", func() bool { return len(w.recv.got("/a")) == 1 })
	w.cluster.Close()
	begun := time.Now()
	i.end()
	if took := time.Since(begun); took > w.cfg.ShutdownTimeout {
		t.Errorf("the stop took %v, shutdown_timeout is %v", took, w.cfg.ShutdownTimeout)
	}
}

// A stop ends in time although Kafka takes connections and answers nothing.
func TestStopWithAHangingKafka(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	i := w.start()
	free := make(chan struct{})
	defer close(free)
	w.cluster.Control(func(kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		w.cluster.SleepControl(func() { <-free })
		return nil, nil, false
	})
	begun := time.Now()
	i.end()
	if took := time.Since(begun); took > w.cfg.ShutdownTimeout {
		t.Errorf("the stop took %v, shutdown_timeout is %v", took, w.cfg.ShutdownTimeout)
	}
}

// A delivery that is never settled, by whatever fault of ours, is noticed: its group joins again, and says so meanwhile.
func TestWedgedGroupJoinsAnew(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.cfg.StalledAfter = 1200 * time.Millisecond
	w.dcfg.Delivery.Timeout = time.Hour
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	release := w.hang("/a", "t0")
	i := w.start()
	w.produce("channel.email", 0, rawEvent("acme", 0))
	w.until("it is noticed", func() bool { return i.c.Healthy() != nil })
	release()
	w.until("it makes progress", func() bool { return w.uncommitted("fanout", "channel.email") == 0 })
	w.until("it is healthy again", func() bool { return i.c.Healthy() == nil && i.c.Ready() == nil })
	i.end()
}

// What waits for its due time, or has nothing to do, is healthy.
func TestWaitingIsHealthy(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.cfg.StalledAfter = time.Second
	w.cfg.Schedule = []time.Duration{200 * time.Millisecond, 4 * time.Second}
	w.dcfg.Delivery.Schedule = w.cfg.Schedule
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	w.recv.on("/a", status(500))
	i := w.start()
	w.produce("channel.email", 0, rawEvent("acme", 1))
	w.until("it is dead", func() bool {
		if err := i.c.Healthy(); err != nil {
			t.Fatalf("unhealthy while waiting: %v", err)
		}
		return len(w.records("fanout.dead-letter")) == 1
	})
	i.end()
}

// Waiting for the network between us and all receivers is healthy: it would be the same in another instance.
func TestSuspendedIsHealthy(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.cfg.StalledAfter = time.Second
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"],"maxInFlight":1}`)
	release := w.hang("/a", "t0")
	i := w.start()
	for n := range 3 { // the first is in flight, the others wait
		w.produce("channel.email", 0, rawEvent("acme", n))
	}
	w.until("they are read", func() bool { l, _ := i.d.Lane("acme", "a"); return l.Queued == 2 })
	i.d.Suspend("no name server answers")
	release()
	for range 40 {
		if err := i.c.Healthy(); err != nil {
			t.Fatalf("unhealthy while nothing can be sent: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	i.d.Suspend("")
	w.until("it goes on", func() bool { return w.uncommitted("fanout", "channel.email") == 0 })
	i.end()
}
