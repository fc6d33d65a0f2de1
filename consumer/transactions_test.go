package consumer_test

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
)

// An open transaction, as of a producer that died: what lies behind it counts as lag, and after a while it is named in log, detail and metric.
// That is not standing still. When it ends, everything goes on.
func TestOpenTransactionIsNamed(t *testing.T) {
	w := newWorld(t, "channel.email")
	w.cfg.HeldAfter, w.cfg.LookInterval, w.cfg.StalledAfter = 500*time.Millisecond, 100*time.Millisecond, time.Second
	w.dir.set(t, "acme", "a", `{"url":"`+w.recv.URL+`/a","events":["*"]}`)
	i := w.start()
	w.produce("channel.email", 0, rawEvent("acme", 1))
	w.until("the first", func() bool { return len(w.recv.got("/a")) == 1 })
	producer, err := kgo.NewClient(kgo.SeedBrokers(w.cluster.ListenAddrs()...), kgo.TransactionalID("dies"), kgo.DefaultProduceTopic("channel.email"),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	if err := producer.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		producer.Produce(t.Context(), &kgo.Record{Value: []byte("{}"), Timestamp: time.Now().Add(-time.Minute)}, nil)
	}
	if err := producer.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.produce("channel.email", 0, rawEvent("acme", 2), rawEvent("acme", 3))

	w.until("the lag", func() bool { return i.sum("fanout_lag_records", "topic", "channel.email") == 5 })
	w.until("the name", func() bool {
		return strings.Contains(i.c.Detail(), "channel.email/0: an open transaction holds records back from offset 1 on, of producer id ")
	})
	if age := i.sum("fanout_lag_seconds", "topic", "channel.email"); age < 60 || age > 90 {
		t.Errorf("the lag is %v seconds old, want that of the first record which is held back", age)
	}
	time.Sleep(2 * w.cfg.StalledAfter)
	if held := i.sum("fanout_open_transaction_seconds", "topic", "channel.email"); held < 2 || held > 30 {
		t.Errorf("it has held records back for %v seconds", held)
	}
	if err := i.c.Ready(); err != nil || len(w.recv.got("/a")) != 1 {
		t.Errorf("%d were delivered, ready: %v", len(w.recv.got("/a")), err)
	}
	if n := w.logs.FilterMessageSnippet("an open transaction holds records back").FilterField(zap.Int64("offset", 1)).Len(); n != 1 {
		t.Errorf("it was named %d times in the log", n)
	}
	for _, line := range w.logs.All() {
		if !strings.Contains(line.Message, "transaction") && line.Message != "" && line.ContextMap()["group"] == "fanout" {
			t.Errorf("the log says: %s %v", line.Message, line.ContextMap())
		}
	}

	if err := producer.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	w.until("the others", func() bool { return len(w.recv.got("/a")) == 3 })
	w.until("no lag", func() bool { return i.sum("fanout_lag_records", "topic", "channel.email") == 0 })
	w.until("nothing to name", func() bool {
		return i.c.Detail() == "" && i.sum("fanout_open_transaction_seconds", "topic", "channel.email") == 0
	})
	i.end()
}
