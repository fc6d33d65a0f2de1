//go:build real

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/compress"

	"fanout/cmd/internal/lab"
	"fanout/operate"
	"fanout/topic"
	"fanout/topic/wire"
)

// attemptCount is 100 000, or what FANOUT_TEST_ATTEMPTS says.
func attemptCount() int {
	n, err := strconv.Atoi(os.Getenv("FANOUT_TEST_ATTEMPTS"))
	if err != nil {
		return 100_000
	}
	return n
}

// The accounts of the attempts that are written: every second attempt is of the busy one, twenty in all are of the rare one.
const (
	busyAccount = "account-0"
	rareAccount = "account-999"
)

// madeAttempt makes attempt number i of n within the last hour, one of 1 000 accounts'. One in a hundred died.
func (s *site) madeAttempt(i, n int, end time.Time) topic.Attempt {
	account := fmt.Sprintf("account-%d", i/2%998+1)
	switch {
	case i%(n/20) == n/40:
		account = rareAccount
	case i%2 == 0:
		account = busyAccount
	}
	a := topic.Attempt{
		Time: end.Add(-time.Hour + time.Duration(i)*time.Hour/time.Duration(n)).UnixMilli(), ID: identity(account, "EMAIL_OPEN", strconv.Itoa(i), "hook"),
		Account: account, Subscription: "hook", Event: "EMAIL_OPEN", TrackingID: fmt.Sprintf("t%d", i), NotificationID: "welcome-email", UserID: fmt.Sprintf("user-%d", i%50_000),
		Channel: "EMAIL", Origin: s.email() + "/0/" + strconv.Itoa(i), Stage: "first", Outcome: "delivered", Attempt: 1, Status: 204, TookMillis: 12, Instance: "fanout-0:8080",
	}
	if i/2%100 == 0 {
		a.Outcome, a.Reason, a.Status = "dead", "permanent_status", 400
	}
	return a
}

// attemptLinger is how long fanout waits for more attempts before it writes a batch.
const attemptLinger = 50 * time.Millisecond

// writeAttempts writes n attempts of the last hour, each account's to its own partition, in the batches that one instance would have made of them.
func (s *site) writeAttempts(t *testing.T, n, partitions int) {
	t.Helper()
	c, err := topic.NewCluster(topic.Config{Kafka: topic.KafkaConfig{Brokers: []string{s.kafka.Addr()}, Group: "writes"}, Prefix: s.name})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	end := time.Now()
	var writing sync.WaitGroup
	queues := make([]chan topic.Attempt, partitions)
	for id := range queues {
		queues[id] = make(chan topic.Attempt, 1000)
		writing.Go(func() { writePartition(t, c, topic.Partition{Topic: s.name + ".attempts", ID: id}, queues[id]) })
	}
	for i := range n {
		a := s.madeAttempt(i, n, end)
		queues[topic.AccountPartition(a.Account, partitions)] <- a
	}
	for _, queue := range queues {
		close(queue)
	}
	writing.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

func writePartition(t *testing.T, c *topic.Cluster, p topic.Partition, queue <-chan topic.Attempt) {
	t.Helper()
	var batch wire.Packer
	began := int64(0)
	flush := func() {
		if batch.Bytes() == 0 {
			return
		}
		packed, err := batch.Batch(nil, compress.Snappy.Codec())
		if err == nil {
			_, err = c.ProduceBatch(t.Context(), p, packed)
		}
		for errors.Is(err, kafka.NotLeaderForPartition) || errors.Is(err, kafka.UnknownTopicOrPartition) { // the topic was created a moment ago
			_, err = c.ProduceBatch(t.Context(), p, packed)
		}
		if err != nil {
			t.Errorf("%s: %v", p, err)
		}
		batch = wire.Packer{}
	}
	for a := range queue {
		if t.Failed() {
			continue
		}
		if a.Time-began >= attemptLinger.Milliseconds() {
			flush()
			began = a.Time
		}
		value, err := json.Marshal(&a)
		if err != nil {
			t.Errorf("%v", err)
		}
		batch.Add(a.Time, a.Account, value, [2]string{topic.HeaderWebhookID, a.ID}, [2]string{topic.HeaderOutcome, a.Outcome})
	}
	flush()
}

// Many attempts in an hour, of a busy account, a rare one and 998 others: what is found, how soon, and with how much memory.
func TestRealManyAttempts(t *testing.T) {
	s := newSite(t, "finds", lab.KeepCount)
	n := attemptCount()
	s.topics(t, lab.Topic{Name: s.name + ".attempts", Partitions: 12})
	began := time.Now()
	s.writeAttempts(t, n, 12)
	t.Logf("%d attempts written in %s", n, time.Since(began).Round(time.Millisecond))
	s.start(t) // so that a configuration is there
	end := time.Now()
	busy, rare := s.madeAttempt(n/2&^1, n, end), s.madeAttempt(n/40, n, end) // one of the middle of the hour, one of its beginning
	if busy.Account != busyAccount || rare.Account != rareAccount {
		t.Fatalf("%s, %s", busy.Account, rare.Account)
	}
	for _, test := range []struct {
		args string
		want int // deliveries; 0: any
	}{
		{"--account " + busyAccount, 20},
		{"--account " + busyAccount + " --outcome dead", 20},
		{"--account " + busyAccount + " --tracking-id " + busy.TrackingID, 1},
		{"--account " + rareAccount + " --tracking-id " + rare.TrackingID, 1},
		{"--account " + rareAccount, 20},
		{"--account " + rareAccount + " --outcome dead", 0},
		{"--webhook-id " + busy.ID, 1},
		{"--webhook-id " + rare.ID, 1},
	} {
		r := s.must(t, append([]string{"find", "--since", "2h", "-o", "json"}, strings.Fields(test.args)...)...)
		var found operate.Found
		unmarshal(t, r.stdout, &found)
		t.Logf("fanout find %s: %d deliveries in %s, peak %d MiB; %d records read, %.0f a second",
			test.args, len(found.Deliveries), r.took.Round(time.Millisecond), r.peak>>20, found.Read, float64(found.Read)/r.took.Seconds())
		if test.want > 0 && len(found.Deliveries) != test.want {
			t.Errorf("find %s: %d deliveries, want %d", test.args, len(found.Deliveries), test.want)
		}
		if r.peak > 128<<20 { // docs/contract.md#targets
			t.Errorf("find %s: %d MiB of memory", test.args, r.peak>>20)
		}
	}
	for _, test := range []struct {
		query string
		want  int // rows
	}{
		{"", 50},
		{"account=" + busyAccount, 50},
		{"account=" + busyAccount + "&q=" + busy.TrackingID, 1},
		{"account=" + rareAccount, 20},
		{"account=" + rareAccount + "&q=" + rare.TrackingID, 1},
		{"q=" + rare.ID, 1},
	} {
		page, took := s.page(t, "/deliveries?"+test.query)
		rows := strings.Count(page, `href="/deliveries/show?`)
		m, err := s.fanout.Metrics(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("the dashboard's /deliveries?%s: %d rows in %s; the instance has %.0f MiB", test.query, rows, took.Round(time.Millisecond), m["process_resident_memory_bytes"]/(1<<20))
		if rows != test.want {
			t.Errorf("/deliveries?%s has %d rows, want %d", test.query, rows, test.want)
		}
	}
}

// page is a page of the dashboard, and how long it took.
func (s *site) page(t *testing.T, path string) (body string, took time.Duration) {
	t.Helper()
	began := time.Now()
	r, err := http.NewRequestWithContext(within(t, time.Minute), http.MethodGet, s.fanout.Admin()+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %v %s", path, res.StatusCode, err, text)
	}
	return string(text), time.Since(began)
}

// A backfill of 20 000 for a subscription that was made too late, killed twice: each arrives, with the id that it would have had, and twice
// only what was being written.
func TestRealBackfillKilled(t *testing.T) {
	s := newSite(t, "backfill", lab.KeepIDs)
	s.subscribe(t, "acme", "early", "/early", `"events":["*"]`)
	s.start(t)
	const events, rate = 20_000, 2000
	s.events(t, 0, events)
	await(t, time.Minute, "the live deliveries", func() bool { return len(s.receiver.IDs("/early")) == events })
	s.settled(t, 20*time.Second, s.email())
	s.subscribe(t, "acme", "late", "/in", `"events":["*"]`)
	args := []string{"backfill", s.email(), "--account", "acme", "--subscription", "late", "--since", "1h", "--name", "night", "--rate", strconv.Itoa(rate), "--yes", "--again"}
	replays := s.name + ".replay"
	for _, killAt := range []int64{6000, 12_000} {
		cmd := s.command(t.Context(), args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		await(t, time.Minute, "records of the backfill", func() bool { return s.ended(t, replays) >= killAt })
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		t.Logf("killed with %d on %s", s.ended(t, replays), replays)
	}
	t.Logf("%s", s.must(t, args...))
	s.settled(t, 20*time.Second, replays)
	delivered, twice := 0, 0
	came := s.receiver.IDs("/in")
	for i := range events {
		n := came[identity("acme", "EMAIL_OPEN", fmt.Sprintf("backfill-%d", i), "late")]
		delivered += min(n.Delivered, 1)
		twice += max(0, n.Delivered-1)
	}
	t.Logf("%d of %d delivered under their own ids, %d of them twice; %d records on %s", delivered, events, twice, s.ended(t, replays), replays)
	if delivered != events || len(came) != events || twice > 2*200 {
		t.Errorf("%d delivered of %d that came, %d twice; want %d, and at most two batches of 200 twice", delivered, len(came), twice, events)
	}
}
