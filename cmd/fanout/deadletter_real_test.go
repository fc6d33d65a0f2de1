//go:build real

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"fanout/cmd/internal/lab"
)

var deadReasons = []string{"attempts_exhausted", "expired", "gone", "permanent_status", "blocked_destination"}

// deadLetterCount is 100 000, or what FANOUT_TEST_DEAD_LETTERS says.
func deadLetterCount(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv("FANOUT_TEST_DEAD_LETTERS"))
	if err != nil {
		return 100_000
	}
	return n
}

// forge makes dead letter number i: of 5 reasons, and of 1 000 subscriptions, 10 an account.
func (s *site) forge(i int, at time.Time) kafka.Record {
	subscription := i / len(deadReasons) % 1000
	account, id := fmt.Sprintf("account-%d", subscription/10), fmt.Sprintf("hook-%d", subscription%10)
	ms := strconv.FormatInt(at.UnixMilli(), 10)
	record := kafka.Record{
		Key:   kafka.NewBytes([]byte(account + "/" + id)),
		Value: kafka.NewBytes(fmt.Appendf(nil, `{"eventType":"OPEN","trackingId":"t%d","notificationId":"welcome-email","channel":"EMAIL","userId":"user-123"}`, i)),
	}
	for _, h := range [][2]string{
		{"fanout-webhook-id", identity(account, "EMAIL_OPEN", strconv.Itoa(i), id)},
		{"fanout-account", account},
		{"fanout-subscription", id},
		{"fanout-event", "EMAIL_OPEN"},
		{"fanout-attempts", "8"},
		{"fanout-not-before", ms},
		{"fanout-first-seen", ms},
		{"fanout-origin", s.email() + "/0/" + strconv.Itoa(i)},
		{"fanout-reason", deadReasons[i%len(deadReasons)]},
		{"fanout-detail", "HTTP 503 Service Unavailable"},
		{"fanout-status", "503"},
		{"fanout-dead-at", ms},
		{"fanout-replays", "0"},
	} {
		record.Headers = append(record.Headers, kafka.Header{Key: h[0], Value: []byte(h[1])})
	}
	return record
}

// Many dead letters: what the commands answer, how long they take and how much memory.
func TestRealManyDeadLetters(t *testing.T) {
	s := newSite(t, "many", lab.KeepCount)
	n := deadLetterCount(t)
	s.topics(t, lab.Topic{Name: s.deadLetter(), Partitions: 12})
	began := time.Now()
	for at := 0; at < n; {
		var batch []kafka.Record
		for ; at < n && len(batch) < 2000; at++ {
			batch = append(batch, s.forge(at, began))
		}
		s.produce(t, s.deadLetter(), (at-1)/2000%12, batch...)
	}
	client := s.redis.Client()
	defer client.Close()
	pipe := client.Pipeline()
	for i := range 1000 {
		pipe.HSet(t.Context(), fmt.Sprintf("fanout:account:account-%d", i/10), fmt.Sprintf("hook-%d", i%10), `{"url":"`+s.receiver.URL("/in")+`","events":["*"]}`)
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d dead letters written in %s", n, time.Since(began).Round(time.Millisecond))
	s.start(t) // so that a configuration is there

	timed := func(args ...string) ran {
		t.Helper()
		r := s.must(t, args...)
		t.Logf("fanout %s: %s, peak %d MiB, %.0f records a second", strings.Join(args, " "), r.took.Round(time.Millisecond), r.peak>>20, float64(n)/r.took.Seconds())
		return r
	}
	var stats struct {
		Total, Read int
		Groups      []struct{ Count int }
	}
	unmarshal(t, timed("deadletter", "stats", "-o", "json").stdout, &stats)
	if stats.Total != n || len(stats.Groups) != 5000 {
		t.Errorf("stats: %d in %d groups, want %d in 5000", stats.Total, len(stats.Groups), n)
	}
	for _, g := range stats.Groups {
		if g.Count != n/5000 {
			t.Errorf("stats: a group of %d, want %d", g.Count, n/5000)
		}
	}
	text := timed("deadletter", "stats", "--by", "reason").stdout
	t.Logf("\n%s", text)
	list := timed("deadletter", "list", "--account", "account-7", "--subscription", "hook-3", "-o", "ndjson").stdout
	if lines := strings.Count(list, "\n"); lines != n/1000 || strings.Count(list, `"subscription":"hook-3"`) != lines {
		t.Errorf("list: %d lines, want %d", lines, n/1000)
	}
	var plan struct {
		Send, Sent, Replayed, Own, Later, Delivered, Malformed, Unusable int

		Groups []struct{ Count int }
	}
	unmarshal(t, timed("deadletter", "replay", "--dry-run", "--reason", "expired,gone", "-o", "json").stdout, &plan)
	if plan.Send != n*2/5 || len(plan.Groups) != 2000 {
		t.Errorf("replay --dry-run: %d in %d groups, want %d in 2000", plan.Send, len(plan.Groups), n*2/5)
	}
	unmarshal(t, timed("deadletter", "replay", "--dry-run", "-o", "json").stdout, &plan)
	if plan.Send != n || len(plan.Groups) != 5000 {
		plan.Groups = nil
		t.Errorf("replay --dry-run: %+v, want %d in 5000 groups", plan, n)
	}
	file := filepath.Join(t.TempDir(), "export.ndjson")
	timed("deadletter", "export", "--reason", "gone", "--file", file)
	unmarshal(t, timed("deadletter", "replay", "--dry-run", "--from-file", file, "-o", "json").stdout, &plan)
	if plan.Send != n/5 || len(plan.Groups) != 1000 {
		t.Errorf("replay --from-file --dry-run: %d in %d groups, want %d in 1000", plan.Send, len(plan.Groups), n/5)
	}
	if got := s.ended(t, s.name+".replay"); got != 0 || s.receiver.Seen() != 0 {
		t.Errorf("looking has sent %d records and %d requests", got, s.receiver.Seen())
	}
}

func unmarshal(t *testing.T, text string, to any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), to); err != nil {
		t.Fatalf("%v in %.500s", err, text)
	}
}

// killEvents lets n events die, with the status 400, and waits for their dead letters.
func (s *site) killEvents(t *testing.T, n int) {
	t.Helper()
	s.receiver.On("/in", lab.Always(lab.Answer{Status: 400}))
	s.events(t, 0, n)
	await(t, time.Minute, "the dead letters", func() bool { return s.ended(t, s.deadLetter()) >= int64(n) })
	s.settled(t, 10*time.Second, s.email())
}

// A replay that is killed twice and run again delivers each, and sends twice only what was in flight.
func TestRealReplayKilled(t *testing.T) {
	s := newSite(t, "replay", lab.KeepIDs)
	s.config.Set("delivery.permanent_statuses", []int{400, 410})
	s.subscribe(t, "acme", "crm", "/in", `"events":["*"]`)
	s.start(t)
	const letters, rate = 20_000, 2000
	s.killEvents(t, letters)
	s.receiver.On("/in", lab.Always(lab.Answer{}))
	args := []string{"deadletter", "replay", "--account", "acme", "--reason", "permanent_status", "--name", "night", "--rate", strconv.Itoa(rate), "--yes"}
	topic := s.name + ".replay"
	for _, killAt := range []int64{6000, 12_000} {
		cmd := s.command(t.Context(), args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		await(t, 30*time.Second, "records of the replay", func() bool { return s.ended(t, topic) >= killAt })
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		t.Logf("killed with %d on %s", s.ended(t, topic), topic)
	}
	r := s.must(t, args...)
	t.Logf("fanout %s:\n%s", strings.Join(args, " "), r)
	found := regexp.MustCompile(`\((\d+) a second\)`).FindStringSubmatch(r.stdout)
	if found == nil {
		t.Fatal("no pace is said")
	}
	if pace, _ := strconv.Atoi(found[1]); pace < rate*90/100 || pace > rate*105/100 {
		t.Errorf("%d a second, want %d", pace, rate)
	}
	s.settled(t, 20*time.Second, topic)
	delivered, twice := 0, 0
	for _, n := range s.receiver.IDs("/in") {
		delivered += min(n.Delivered, 1)
		twice += max(0, n.Delivered-1)
	}
	t.Logf("%d of %d delivered, %d of them twice; %d records on %s", delivered, letters, twice, s.ended(t, topic), topic)
	if delivered != letters || twice > 2*200 {
		t.Errorf("%d delivered, %d twice; want %d, and at most two batches of 200 twice", delivered, twice, letters)
	}
	again := s.must(t, args...)
	if !strings.Contains(again.stdout, "replay night sends 0 dead letters") {
		t.Errorf("the same replay again: %s", again)
	}
	for _, m := range s.all(t, topic)[:3] {
		h := headers(&m)
		if h["fanout-replay"] != "night" || h["fanout-replays"] != "1" || h["fanout-attempts"] != "0" || !strings.HasPrefix(h["fanout-origin"], s.email()) {
			t.Errorf("a replay record has %v", h)
		}
	}
	other := s.must(t, "deadletter", "replay", "--name", "other", "--dry-run", "-o", "json")
	var plan struct{ Send, Replayed int }
	unmarshal(t, other.stdout, &plan)
	if plan.Send != 0 || plan.Replayed != letters {
		t.Errorf("another replay would send %d and skip %d, want 0 and %d", plan.Send, plan.Replayed, letters)
	}
}

// A replay to an endpoint that still fails ends by itself, and what it made die again is not picked up by it.
func TestRealReplayStopsItself(t *testing.T) {
	t.Parallel()
	for _, status := range []int{400, 503} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, fmt.Sprintf("stops%d", status), lab.KeepIDs)
			s.config.Set("delivery.permanent_statuses", []int{400, 410})
			s.subscribe(t, "acme", "crm", "/in", `"events":["*"]`)
			s.start(t)
			const letters = 3000
			s.killEvents(t, letters)
			s.receiver.On("/in", lab.Always(lab.Answer{Status: status}))
			args := []string{"deadletter", "replay", "--account", "acme", "--name", "hopeless", "--rate", "500", "--max-failures", "50", "--yes"}
			r := s.run(t, args...)
			t.Logf("fanout %s: %s", strings.Join(args, " "), r)
			sent := s.ended(t, s.name+".replay")
			if r.code != 1 || !strings.Contains(r.stderr, "fail again") || sent >= letters || sent == 0 {
				t.Errorf("exit %d after %d of %d, want 1 before the end", r.code, sent, letters)
			}
			own := 0 // what a lane that is parked holds back dies long after this test
			if status == 400 {
				own = int(sent)
				await(t, time.Minute, "the new dead letters", func() bool { return s.ended(t, s.deadLetter()) >= letters+sent })
			}
			var plan struct{ Send, Sent, Own, Later int }
			unmarshal(t, s.must(t, append(args, "--dry-run", "-o", "json")...).stdout, &plan)
			t.Logf("the same replay would go on with %d; %d were sent by it, %d of its own died again", plan.Send, plan.Sent, plan.Own)
			if plan.Send != letters-int(sent) || plan.Sent != int(sent) || plan.Own < own {
				t.Errorf("%+v, want to send %d, sent %d and own %d", plan, letters-sent, sent, own)
			}
		})
	}
}

// A broker that goes away in the middle is said, and leaves no half of an export.
func TestRealBrokerGoesAway(t *testing.T) {
	shared := newSite(t, "away", lab.KeepCount)
	own, err := shared.lab.Kafka(within(t, time.Minute), lab.KafkaConfig{})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{stage: &stage{lab: shared.lab, kafka: own, program: shared.program}, name: "away", redis: shared.redis, receiver: shared.receiver, config: shared.config}
	s.topics(t, lab.Topic{Name: s.email()}, lab.Topic{Name: s.name + ".sms"}, lab.Topic{Name: s.deadLetter()})
	for at := 0; at < 100_000; {
		var batch []kafka.Record
		for ; len(batch) < 2000; at++ {
			batch = append(batch, s.forge(at, time.Now()))
		}
		s.produce(t, s.deadLetter(), 0, batch...)
	}
	s.start(t)
	file := filepath.Join(t.TempDir(), "export")
	export := s.command(within(t, time.Minute), "deadletter", "export", "--file", file)
	list := s.command(within(t, time.Minute), "deadletter", "list", "-o", "ndjson")
	out, err := list.StdoutPipe() // which nobody reads: the list is held in the middle
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	list.Stderr = &said
	if err := list.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReaderSize(out, 16).ReadSlice('{')
	if err != nil {
		t.Fatalf("%q %v", line, err)
	}
	if err := own.Kill(); err != nil {
		t.Fatal(err)
	}
	exported := finish(t, export)
	go func() { _, _ = bufio.NewReader(out).WriteTo(&strings.Builder{}) }()
	_ = list.Wait()
	t.Logf("export: %s\nlist: exit %d\n%s", exported, list.ProcessState.ExitCode(), &said)
	if _, err := os.Stat(file); err == nil {
		t.Error("half of an export is left")
	}
	for _, code := range []int{exported.code, list.ProcessState.ExitCode()} {
		if code != 1 {
			t.Errorf("exit %d, want 1", code)
		}
	}
	if slices.ContainsFunc([]string{exported.stderr, said.String()}, func(text string) bool {
		return !strings.Contains(text, own.Addr()) || strings.Contains(text, "goroutine")
	}) {
		t.Error("it is not said which broker went away")
	}
}
