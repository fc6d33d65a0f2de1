package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"fanout/dispatcher"
	"fanout/event"
	"fanout/operate"
	"fanout/topic"
)

// admin is one operator's connection, with all of fanout's topics there.
func (w *world) admin() *topic.Cluster {
	w.t.Helper()
	a, err := topic.NewCluster(w.cfg.Config)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(a.Close)
	if _, err := a.Create(w.t.Context(), w.cfg.Owned()); err != nil {
		w.t.Fatal(err)
	}
	return a
}

// forged is a delivery, by number.
func forged(n int, body string) *dispatcher.Delivery {
	ev := event.Event{Account: "acme", Name: event.EmailOpen, ID: strconv.Itoa(n)}
	origin := dispatcher.Origin{Topic: "email", Partition: 0, Offset: int64(n)}
	return &dispatcher.Delivery{
		ID: dispatcher.WebhookID(&ev, origin, "crm"), Account: "acme", Subscription: "crm", Event: ev.Name, Body: []byte(body), Origin: origin, FirstSeen: time.Now(),
	}
}

// forge is the record of a dead or a retried delivery.
func forge(d *dispatcher.Delivery, at time.Time, reason dispatcher.Reason) kafka.Record {
	headers := topic.DeliveryHeaders("fanout", d, &dispatcher.Outcome{Reason: reason}, at)
	headers = append(headers, kafka.Header{Key: "fanout-dead-at", Value: []byte(strconv.FormatInt(at.UnixMilli(), 10))})
	return kafka.Record{Time: at, Key: kafka.NewBytes([]byte("acme/crm")), Value: kafka.NewBytes(d.Body), Headers: headers}
}

// deadLetter writes dead letters, by number.
func (w *world) deadLetter(from, to int, body string) {
	w.t.Helper()
	for n := from; n < to; n++ {
		w.produce("fanout.dead-letter", n%2, forge(forged(n, body), time.Now(), dispatcher.Expired))
	}
}

// replayed counts the records of the replay topic by the dead letter that they were made of.
func (w *world) replayed() map[string]int {
	w.t.Helper()
	sent := make(map[string]int)
	for _, m := range w.records("fanout.replay") {
		sent[header(&m, "fanout-dead-letter")]++
	}
	return sent
}

func (w *world) plan(r *operate.Replay) *operate.ReplayPlan {
	w.t.Helper()
	p, err := r.Plan(w.t.Context(), nil, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// A batch has to fit into the topic as a whole, not only each of its records.
func TestReplayOfLargeDeadLetters(t *testing.T) {
	w := newWorld(t, "email")
	a := w.admin()
	w.deadLetter(0, 100, `{"`+strings.Repeat("x", 40<<10)+`":1}`)
	r := operate.NewReplay(a, operate.ReplayConfig{Name: "large"})
	if err := r.Run(t.Context(), w.plan(r)); err != nil || r.Sent() != 100 || len(w.replayed()) != 100 {
		t.Errorf("sent %d, %d on the topic, want 100: %v", r.Sent(), len(w.replayed()), err)
	}
}

// Between a plan and its going ahead somebody may have sent the same: nothing is sent twice for it.
func TestReplayAfterAnother(t *testing.T) {
	w := newWorld(t, "email")
	a := w.admin()
	w.deadLetter(0, 50, "{}")
	first, second := operate.NewReplay(a, operate.ReplayConfig{Name: "first"}), operate.NewReplay(a, operate.ReplayConfig{Name: "second"})
	late, early := w.plan(first), w.plan(second)
	if err := second.Run(t.Context(), early); err != nil || second.Sent() != 50 {
		t.Fatalf("sent %d: %v", second.Sent(), err)
	}
	if err := first.Run(t.Context(), late); err != nil || first.Sent() != 0 || first.Taken() != 50 {
		t.Errorf("sent %d, %d taken by another, want 0 and 50: %v", first.Sent(), first.Taken(), err)
	}
	again := operate.NewReplay(a, operate.ReplayConfig{Name: "third", Again: true})
	if p := w.plan(again); p.Send != 0 || p.Waiting != 50 {
		t.Errorf("--again would send %d, and says that %d wait; want 0 and 50: nobody has read the replay topic", p.Send, p.Waiting)
	}
}

// A replay that was believed dead goes on beside the one that resumes it: both see it, and end.
func TestReplayTwiceAtOnce(t *testing.T) {
	w := newWorld(t, "email")
	a := w.admin()
	w.deadLetter(0, 400, "{}")
	results := make(chan error, 2)
	for range 2 {
		r := operate.NewReplay(a, operate.ReplayConfig{Name: "same", Rate: 100})
		p := w.plan(r)
		go func() { results <- r.Run(t.Context(), p) }()
		w.until("it has sent some", func() bool { return r.Sent() > 10 })
	}
	if one, other := <-results, <-results; !errors.Is(one, operate.ErrRunning) && !errors.Is(other, operate.ErrRunning) {
		t.Errorf("neither says that the other is there: %v, %v", one, other)
	}
	last := operate.NewReplay(a, operate.ReplayConfig{Name: "same"})
	if err := last.Run(t.Context(), w.plan(last)); err != nil {
		t.Fatal(err)
	}
	twice := 0
	sent := w.replayed()
	for _, n := range sent {
		if n > 1 {
			twice++
		}
	}
	if len(sent) != 400 || twice > 250 { // a second or two, at 100 a second
		t.Errorf("%d of 400 are sent, %d of them twice", len(sent), twice)
	}
}

// A dead-letter topic that was made again counts its offsets from 0 again: what lies there has not been sent.
func TestReplayOfATopicMadeAnew(t *testing.T) {
	w := newWorld(t, "email")
	a := w.admin()
	w.deadLetter(0, 10, "{}")
	r := operate.NewReplay(a, operate.ReplayConfig{Name: "before"})
	if err := r.Run(t.Context(), w.plan(r)); err != nil {
		t.Fatal(err)
	}
	w.deleteTopic("fanout.dead-letter")
	w.createTopic("fanout.dead-letter", 2)
	w.deadLetter(10, 20, "{}")
	if p := w.plan(operate.NewReplay(a, operate.ReplayConfig{Name: "after"})); p.Send != 10 || p.Replayed != 0 {
		t.Errorf("would send %d, %d said to be sent before; want 10 and 0", p.Send, p.Replayed)
	}
}

// attempted writes a record of the attempts topic.
func (w *world) attempted(d *dispatcher.Delivery, outcome string, at time.Time) {
	w.t.Helper()
	value := fmt.Sprintf(`{"time":%d,"id":%q,"outcome":%q}`, at.UnixMilli(), d.ID, outcome)
	w.produce("fanout.attempts", 0, kafka.Record{
		Time: at, Key: kafka.NewBytes([]byte(d.Account)), Value: kafka.NewBytes([]byte(value)),
		Headers: []topic.Header{{Key: "fanout-webhook-id", Value: []byte(d.ID)}, {Key: "fanout-outcome", Value: []byte(outcome)}},
	})
}

// audit accounts for the range; each record asks for the delivery with the number that its trackingId ends with.
func (w *world) audit(a *topic.Cluster, ranges map[int]topic.Range) *operate.Audit {
	w.t.Helper()
	out, err := operate.NewAudit(w.t.Context(), a, operate.AuditConfig{
		Topic: "email", Ranges: ranges,
		Plan: func(dst []dispatcher.Delivery, ev *event.Event, rec *dispatcher.RecordMetadata, _ time.Time) []dispatcher.Delivery {
			n, _ := strconv.Atoi(ev.TrackingID[1:])
			d := forged(n, "{}")
			d.Origin = rec.Origin
			return append(dst, *d)
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// A delivery that moves from its tier to the dead letters while the audit looks is not missing.
func TestAuditOfWhatMoves(t *testing.T) {
	w := newWorld(t, "email")
	w.cfg.AttemptsTopic = true
	a := w.admin()
	moving := -1
	w.cluster.ControlKey(int16(kmsg.OffsetFetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		req, _ := r.(*kmsg.OffsetFetchRequest)
		if n := moving; req.Group == "fanout.retry" && req.Topics[0].Topic == "fanout.retry.200ms" && n >= 0 {
			moving = -1
			w.cluster.SleepControl(func() {
				w.produce("fanout.dead-letter", 0, forge(forged(n, "{}"), time.Now(), dispatcher.Expired))
				w.commitAs("fanout.retry", "fanout.retry.200ms", kafka.OffsetCommit{Partition: 0, Offset: int64(n + 1)})
			})
		}
		return nil, nil, false
	})
	for n := range 12 { // topics are looked at in any order
		w.produce("email", 0, rawEvent("acme", n))
		w.commitAs("fanout", "email", kafka.OffsetCommit{Partition: 0, Offset: int64(n + 1)})
		w.produce("fanout.retry.200ms", 0, forge(forged(n, "{}"), time.Now(), dispatcher.Timeout))
		w.attempted(forged(n, "{}"), "retry", time.Now())
		moving = n
		out := w.audit(a, map[int]topic.Range{0: {From: int64(n), To: int64(n + 1)}})
		if out.States[operate.AuditMissing] != 0 || out.States[operate.AuditDead]+out.States[operate.AuditWaiting] != 1 {
			t.Fatalf("%d: %v", n, out.States)
		}
	}
}

// What an audit calls missing for want of knowledge, it says so.
func TestAuditSaysWhyMissing(t *testing.T) {
	w := newWorld(t, "email")
	w.cfg.AttemptsTopic = true
	a := w.admin()
	now := time.Now()
	for n, at := range []time.Time{now.Add(-48 * time.Hour), now.Add(-time.Hour), now.Add(time.Hour)} {
		r := rawEvent("acme", n)
		r.Time = at
		w.produce("email", 0, r)
	}
	w.commitAs("fanout", "email", kafka.OffsetCommit{Partition: 0, Offset: 3})
	w.attempted(forged(99, "{}"), "delivered", now.Add(-24*time.Hour))
	w.attempted(forged(2, "{}"), "delivered", now.Add(-5*time.Minute))
	for offset, want := range map[int64]string{0: "its record is older than all that the attempts topic holds", 1: "", 2: "is older than its record"} {
		d := w.audit(a, map[int]topic.Range{0: {From: offset, To: offset + 1}}).Deliveries[0]
		state := operate.AuditMissing
		if offset == 0 {
			state = operate.AuditUnknown
		}
		if d.State != state || !strings.Contains(d.Why, want) || (want == "") != (d.Why == "") {
			t.Errorf("%d: %s, %q, want %s, %q", offset, d.State, d.Why, state, want)
		}
	}
}

// Of records whose attempts could not be recorded, as a mark says, an audit cannot say that deliveries are missing; nor of those that are older
// than what is known of changes.
func TestAuditOfWhatWasNotRecorded(t *testing.T) {
	w := newWorld(t, "email")
	w.cfg.AttemptsTopic = true
	a := w.admin()
	for n := range 4 {
		w.produce("email", 0, rawEvent("acme", n))
	}
	w.commitAs("fanout", "email", kafka.OffsetCommit{Partition: 0, Offset: 4})
	w.attempted(forged(0, "{}"), "delivered", time.Now())
	w.produce("fanout.attempts", 0,
		kafka.Record{Time: time.Now(), Value: kafka.NewBytes([]byte(`{"kind":"gap","source":"email/0","from":0,"to":1,"time":1}`))},
		kafka.Record{Time: time.Now(), Value: kafka.NewBytes([]byte(`{"kind":"gap","source":"email/1","from":0,"to":9,"time":1}`))})
	out := w.audit(a, map[int]topic.Range{0: {From: 0, To: 4}})
	want := []operate.AuditState{operate.AuditDelivered, operate.AuditUnknown, operate.AuditMissing, operate.AuditMissing}
	for i, d := range out.Deliveries {
		if d.State != want[i] {
			t.Errorf("%d: %s (%s), want %s", i, d.State, d.Why, want[i])
		}
	}
}

// An event that came twice is pending only as long as neither of its records is settled.
func TestAuditOfRepeatedIDs(t *testing.T) {
	w := newWorld(t, "email")
	w.cfg.AttemptsTopic = true
	a := w.admin()
	for n := range 20 {
		w.produce("email", 0, rawEvent("acme", n))
		w.produce("email", 1, rawEvent("acme", n))
	}
	whole := map[int]topic.Range{0: {From: 0, To: 20}, 1: {From: 0, To: 20}}
	if out := w.audit(a, whole); !out.NoCommit || out.States[operate.AuditPending] != 20 {
		t.Errorf("before any commit: %v, %v", out.NoCommit, out.States)
	}
	w.commitAs("fanout", "email", kafka.OffsetCommit{Partition: 1, Offset: 20})
	for range 10 { // partitions are read at once
		if out := w.audit(a, whole); out.NoCommit || out.States[operate.AuditMissing] != 20 {
			t.Fatalf("%v, %v, want 20 missing", out.NoCommit, out.States)
		}
	}
}

// A transaction that is never ended does not hold up a command for ever.
func TestScanEndsAtAnOpenTransaction(t *testing.T) {
	w := newWorld(t, "email")
	a := w.admin()
	w.produce("email", 0, rawEvent("acme", 0))
	producer, err := kgo.NewClient(kgo.SeedBrokers(w.cluster.ListenAddrs()...), kgo.TransactionalID("never-ends"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(producer.Close)
	if err := producer.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := producer.ProduceSync(t.Context(), &kgo.Record{Topic: "email", Partition: 0, Value: []byte("{}")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	ranges, err := a.Ranges(t.Context(), "email", time.Time{})
	if err != nil || ranges[0].To != 2 {
		t.Fatalf("%v, %v", ranges, err)
	}
	seen := 0
	ended := make(chan error, 1)
	go func() {
		ended <- a.Scan(t.Context(), "email", map[int]topic.Range{0: ranges[0]}, nil, func(*topic.Record) error { seen++; return nil })
	}()
	select {
	case err := <-ended:
		if err != nil || seen != 1 {
			t.Errorf("%d records seen, want 1: %v", seen, err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it waits for the transaction")
	}
}

// A replay, a resend or a backfill that Kafka refuses says so, and counts nothing as sent.
func TestRefusedReplayIsAnError(t *testing.T) {
	w := newWorld(t, "email")
	a := w.admin()
	w.deadLetter(0, 5, "{}")
	w.refuse(func(topic string, _ int32, _ int) *kerr.Error {
		if topic == "fanout.replay" {
			return kerr.PolicyViolation
		}
		return nil
	})
	r := operate.NewReplay(a, operate.ReplayConfig{Name: "refused"})
	if err := r.Run(t.Context(), w.plan(r)); err == nil || r.Sent() != 0 {
		t.Errorf("the replay says that it has sent %d: %v", r.Sent(), err)
	}
	if err := (&operate.Resend{ID: "msg_a"}).Send(t.Context(), a); err == nil {
		t.Error("the resend says that it has sent its delivery")
	}
}

// A backfill plans when the group has committed what it is to judge, and not before: nobody can know yet what is delivered anyway.
func TestBackfillAwaitsTheGroup(t *testing.T) {
	w := newWorld(t, "email")
	w.dir.set(t, "acme", "crm", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	a := w.admin()
	w.produce("email", 0, rawEvent("acme", 0))
	b := w.backfill(a, "email")
	ctx, cancel := context.WithTimeout(t.Context(), 600*time.Millisecond)
	defer cancel()
	if p, err := b.Plan(ctx); err == nil {
		t.Fatalf("it plans before the group has committed: %+v", p)
	}
	w.commitAs("fanout", "email", kafka.OffsetCommit{Partition: 0, Offset: 1})
	if p, err := b.Plan(t.Context()); err != nil || p.Matched != 1 {
		t.Errorf("%+v, %v", p, err)
	}
}

func (w *world) backfill(a *topic.Cluster, source string) *operate.Backfill {
	planner := dispatcher.NewPlanner(w.dir)
	return operate.NewBackfill(a, operate.BackfillConfig{Name: "b", Topic: source, Account: "acme", Subscription: "crm", Plan: planner.Plan})
}

// What cannot be decoded while the schema registry is away may be the account's: a backfill does not go on without it.
func TestBackfillWaitsForTheRegistry(t *testing.T) {
	w := newSchemaWorld(t)
	a := w.admin()
	w.produce("avro", 0, kafka.Record{Value: kafka.NewBytes(schemaEncoded(11, nil, w.avro("t")))})
	w.commitAs("fanout", "avro", kafka.OffsetCommit{Partition: 0, Offset: 1})
	w.away.Store(true)
	if p, err := w.backfill(a, "avro").Plan(t.Context()); !errors.Is(err, topic.ErrRegistryUnavailable) {
		t.Errorf("%+v, %v", p, err)
	}
}
