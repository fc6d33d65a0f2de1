package consumer_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"fanout/topic"
)

// retried is a record of a retry tier, appended two hours ago, of a delivery of that age.
func retried(n int, age time.Duration, change ...kafka.Header) kafka.Record {
	seen := kafka.Header{Key: "fanout-first-seen", Value: []byte(strconv.FormatInt(time.Now().Add(-age).UnixMilli(), 10))}
	r := retryRecord("a", n, append([]kafka.Header{ofGroup("fanout"), seen}, change...)...)
	r.Time = time.Now().Add(-2 * time.Hour)
	return r
}

func ofReplay(name string) kafka.Header {
	return kafka.Header{Key: "fanout-replay", Value: []byte(name)}
}

// succeeded is the attempts record of the delivery that a retry record is of.
func succeeded(r *kafka.Record, replay string, at time.Time) kafka.Record {
	id := recordHeader(r, "fanout-webhook-id")
	value := fmt.Sprintf(`{"time":%d,"id":%q,"outcome":"delivered"`, at.UnixMilli(), id)
	if replay != "" {
		value += fmt.Sprintf(`,"replay":%q`, replay)
	}
	return kafka.Record{
		Time: at, Key: kafka.NewBytes([]byte("acme")), Value: kafka.NewBytes([]byte(value + "}")),
		Headers: []topic.Header{{Key: "fanout-webhook-id", Value: []byte(id)}, {Key: "fanout-outcome", Value: []byte("delivered")}},
	}
}

func recordHeader(r *kafka.Record, key string) (value string) {
	for _, h := range r.Headers {
		if h.Key == key {
			value = string(h.Value)
		}
	}
	return value
}

// deadDetails are the details of the dead letters, by webhook-id.
func (w *world) deadDetails() map[string]string {
	w.t.Helper()
	details := make(map[string]string)
	for _, m := range w.records("fanout.dead-letter") {
		details[header(&m, "fanout-webhook-id")] = header(&m, "fanout-reason") + ": " + header(&m, "fanout-detail")
	}
	return details
}

const (
	uncertain = "expired: the tier's offsets were lost, and it may have been delivered"
	tooOld    = "expired: older than 1h0m0s since it was first planned"
)

// Offsets that expired while fanout was off: what is not too old is sent, and of the rest the attempts topic says what was delivered since.
func TestOffsetsOfTiersThatWereLost(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	w.createTopic("fanout.retry.200ms", 2)
	w.createTopic("fanout.retry.300ms", 2)
	w.createTopic("fanout.attempts", 2)
	const old, young = 3 * time.Hour, 10 * time.Minute
	since, before := time.Now().Add(-time.Hour), time.Now().Add(-150*time.Minute)
	records := []kafka.Record{
		retried(1, old), // delivered since
		retried(2, old), // never delivered
		retried(3, young),
		retried(4, old, ofReplay("r1")), // this life of it was delivered
		retried(5, old, ofReplay("r2")), // its first life was
		retried(6, old),                 // a replay of it was
		retried(7, old),                 // it was before, and then again
		retried(8, young),               // delivered, and not too old: sent again
	}
	w.produce("fanout.retry.200ms", 0, records...)
	w.produce("fanout.retry.200ms", 1, retryRecord("a", 9), retried(10, young, ofGroup("")))         // nothing here says that the group has been here
	w.produce("fanout.retry.300ms", 0, retried(11, old, ofGroup("")), retried(12, old, ofGroup(""))) // nor here
	w.produce("fanout.attempts", 0, succeeded(&records[0], "", since), succeeded(&records[3], "r1", since), succeeded(&records[4], "", since))
	w.produce("fanout.attempts", 1, succeeded(&records[5], "r1", since), succeeded(&records[6], "", before), succeeded(&records[7], "", since))

	i := w.start()
	want := map[string]string{}
	for n, detail := range map[int]string{2: uncertain, 5: uncertain, 6: uncertain, 7: uncertain, 11: tooOld, 12: tooOld} {
		r := retryRecord("a", n)
		want[recordHeader(&r, "fanout-webhook-id")] = detail
	}
	w.until("the tiers are read and committed", func() bool {
		return w.uncommitted("fanout.retry", "fanout.retry.200ms")+w.uncommitted("fanout.retry", "fanout.retry.300ms") == 0
	})
	if got := w.deadDetails(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("dead letters\n%v\nwant\n%v", got, want)
	}
	if got := len(w.ids("/a")); got != 4 {
		t.Errorf("%d deliveries were sent, want the four that are not too old", got)
	}
	lines := w.logs.FilterMessageSnippet("offsets of retry topics were lost").All()
	if len(lines) != 1 {
		t.Fatalf("%d lines say that offsets were lost, want one", len(lines))
	}
	fields := lines[0].ContextMap()
	if fmt.Sprint(fields["partitions"], fields["too_old"], fields["deliveries"], fields["delivered_since"]) != "1 6 6 3" {
		t.Errorf("the line says %v", fields)
	}
	i.end()
}

// What was lost is known to be lost until what is too old is settled: a crash in between, or a move, must not make dead letters of it.
func TestCrashWhileLostOffsetsAreRead(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	w.dir.set(t, "acme", "b", `{"url":"`+w.recv.URL+`/b","events":["*"]}`)
	w.createTopic("fanout.retry.200ms", 2)
	w.createTopic("fanout.attempts", 2)
	hangs := make(chan struct{})
	answers := sync.OnceFunc(func() { close(hangs) })
	t.Cleanup(answers)
	w.recv.on("/a", func(http.ResponseWriter, *http.Request) { <-hangs })
	old := []kafka.Record{retried(2, 3*time.Hour), retried(3, 3*time.Hour)}
	w.produce("fanout.retry.200ms", 0, retried(1, time.Minute), old[0], old[1], retried(4, 3*time.Hour))
	w.produce("fanout.retry.200ms", 1, retryRecord("b", 5))
	w.produce("fanout.attempts", 0, succeeded(&old[0], "", time.Now().Add(-time.Hour)), succeeded(&old[1], "", time.Now().Add(-time.Hour)))

	i := w.start()
	w.until("all were taken up", func() bool { return len(w.recv.got("/a")) == 1 && len(w.deadIDs()) > 0 })
	w.until("another partition is committed", func() bool { return w.committed("fanout.retry", "fanout.retry.200ms")[1].CommittedOffset == 1 })
	if at := w.committed("fanout.retry", "fanout.retry.200ms")[0].CommittedOffset; at != -1 {
		t.Errorf("%d is committed before what is too old is settled", at)
	}
	i.kill()
	answers()
	i = w.start()
	w.until("the tier is read and committed", func() bool { return w.uncommitted("fanout.retry", "fanout.retry.200ms") == 0 })
	if got := w.deadDetails(); len(got) != 1 {
		t.Errorf("dead letters: %v; want that of the one which nobody has delivered", strings.Join(mapValues(got), ", "))
	}
	i.end()
}

func mapValues(m map[string]string) (values []string) {
	for key, value := range m {
		values = append(values, key+" "+value)
	}
	return values
}
