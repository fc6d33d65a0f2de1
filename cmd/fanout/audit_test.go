package main

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"fanout/topic"
)

// lose has the group commit a record of acme's that nobody has read: a loss.
func (w *world) lose(t *testing.T, at time.Time) {
	t.Helper()
	raw := `{"accountId":"acme","channel":"EMAIL","type":"OPEN","trackingId":"t","notificationId":"n","userId":"u"}`
	admin := w.client(t)
	offset, err := admin.Produce(t.Context(), topic.Partition{Topic: "channel.email"}, []kafka.Record{{Time: at, Value: kafka.NewBytes([]byte(raw))}})
	if err != nil {
		t.Fatal(err)
	}
	client := &kafka.Client{Addr: kafka.TCP(w.kafka.ListenAddrs()...), Transport: &kafka.Transport{}}
	if _, err := client.OffsetCommit(t.Context(), &kafka.OffsetCommitRequest{
		GroupID: "fanout", GenerationID: -1, Topics: map[string][]kafka.OffsetCommit{"channel.email": {{Partition: 0, Offset: offset + 1}}},
	}); err != nil {
		t.Fatal(err)
	}
}

// announce says that acme has changed.
func (w *world) announce(t *testing.T) {
	t.Helper()
	if _, err := w.redis.XAdd("fanout:changes", "*", []string{"account", "acme"}); err != nil {
		t.Fatal(err)
	}
}

// A loss is missing though the account was announced again with the same JSON. What is older than what is known of changes cannot be judged: a
// webhook that was made later misses nothing.
func TestAuditKnowsWhatChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "channel.email")
	w.env = append(w.env, "FANOUT_ATTEMPTS_TOPIC=true")
	receiver := newIDs(t)
	w.apply(t, "crm", receiver.url)
	r := w.start(t)
	r.await(t, "/readyz", 200, `"ready":true`)
	w.events(t, "before", 1)
	until(t, func() (bool, string) { n, _ := receiver.got(); return n == 1, strconv.Itoa(n) })
	until(t, func() (bool, string) { // and it is committed
		out := w.ok(t, "", "audit", "channel.email")
		return strings.Contains(out, "1 delivered"), out
	})
	r.stop()
	w.lose(t, time.Now().Add(6*time.Second)) // what was changed up to 5 s before a record counts as changed after it

	r = w.start(t)
	r.await(t, "/readyz", 200, `"ready":true`)
	w.announce(t)
	w.events(t, "after", 1) // behind the announcement
	until(t, func() (bool, string) { n, _ := receiver.got(); return n == 2, strconv.Itoa(n) })
	audit := func(code int, states ...string) {
		t.Helper()
		until(t, func() (bool, string) {
			got, stdout, stderr := w.fanout(t, "", "audit", "channel.email")
			for _, state := range states {
				if !strings.Contains(stdout, state) {
					return false, fmt.Sprintf("exit %d, want %d with %q\n%s%s", got, code, state, stdout, stderr)
				}
			}
			return got == code, fmt.Sprintf("exit %d, want %d\n%s%s", got, code, stdout, stderr)
		})
	}
	audit(1, "2 delivered", "1 missing")

	// A webhook was made, and what told of it was trimmed: nobody knows that it was not there for what is older.
	r.stop()
	w.apply(t, "late", receiver.url)
	w.redis.Del("fanout:changes")
	w.redis.Del("fanout:changed")
	// What is kept since then reaches back to after the record that was lost, and the 5 s.
	if _, err := w.redis.ZAdd("fanout:changed", float64(time.Now().Add(20*time.Second).UnixMilli()), ""); err != nil {
		t.Fatal(err)
	}
	r = w.start(t)
	r.await(t, "/readyz", 200, `"ready":true`)
	audit(3, "2 delivered", "0 missing", "4 cannot be judged")
}
