package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"fanout/cmd/internal/terminal"
	"fanout/config"
	"fanout/operate"
	"fanout/topic"
)

// buried is a world whose only receiver has refused three events of acme, with one malformed record and one delivered.
type buried struct {
	*world
	*running

	status *atomic.Int64 // what the receiver answers
	seen   *atomic.Int64
}

func newBuried(t *testing.T) *buried {
	t.Helper()
	b := &buried{world: newWorld(t, "channel.email"), status: new(atomic.Int64), seen: new(atomic.Int64)}
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		b.seen.Add(1)
		w.WriteHeader(int(b.status.Load()))
	}))
	t.Cleanup(receiver.Close)
	b.env = append(b.env, "FANOUT_ATTEMPTS_TOPIC=true", "FANOUT_DELIVERY_PERMANENT_STATUSES=400,410", "FANOUT_KAFKA_PARTITIONS=2")
	b.ok(t, `{account: acme, id: crm, url: "`+receiver.URL+`", events: ["*"]}`, "subscriptions", "apply", "-f", "-")
	b.running = b.start(t)
	b.await(t, "/readyz", 200, `"ready":true`)
	b.status.Store(204)
	b.ok(t, "", "send", "--account", "acme", "--event", "EMAIL_CLICK", "--id", "ok")
	b.await(t, "/metrics", 200, `fanout_outcomes_total{outcome="delivered",reason="",stage="first"} 1`)
	b.status.Store(400)
	for i := range 3 {
		b.ok(t, "", "send", "--account", "acme", "--event", "EMAIL_OPEN", "--id", fmt.Sprintf("e%d", i))
	}
	b.ok(t, `{"accountId":"acme"`, "send", "--topic", "channel.email", "-")
	b.await(t, "/metrics", 200, `fanout_outcomes_total{outcome="dead",reason="permanent_status",stage="first"} 3`)
	until(t, func() (bool, string) {
		_, stdout, stderr := b.fanout(t, "", "deadletter", "stats")
		return strings.Contains(stdout, "4 dead letters"), stdout + stderr
	})
	return b
}

// ok runs a command that has to succeed, and returns its output.
func (w *world) ok(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	code, stdout, stderr := w.fanout(t, stdin, args...)
	if code != 0 {
		t.Fatalf("fanout %s: exit %d\n%s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	return stdout
}

// What operators type wrong is said, with the exit status that the help promises.
func TestOperatorsBadInput(t *testing.T) {
	t.Parallel()
	b := newBuried(t)
	for _, test := range []struct {
		args string
		code int
		want string // in what is said
	}{
		{"deadletter stats --reason nonsense", 2, "--reason nonsense: unknown reason of a dead letter; choose from malformed_event, attempts_exhausted, expired, gone, permanent_status, blocked_destination, invalid_subscription"},
		{"deadletter list --reason timeout", 2, "--reason timeout: unknown reason of a dead letter"},
		{"deadletter stats --event EMAIL_OPENED --offsets 9-3 --since yesterday", 2, "--event EMAIL_OPENED: unknown event name; did you mean EMAIL_OPEN? Choose from EMAIL_OPEN,"},
		{"deadletter stats --event EMAIL_OPENED --offsets 9-3 --since yesterday", 2, "--offsets 9-3: want one offset, or FROM-TO"},
		{"deadletter stats --event EMAIL_OPENED --offsets 9-3 --since yesterday", 2, "--since yesterday: want a time like"},
		{"deadletter list --since 1h --until 2h", 2, "--until 2h: is not after --since 1h"},
		{"deadletter list --partition -1", 2, "partitions count from 0"},
		{"deadletter list --partition 7", 2, "the dead-letter topic has no such partition: 7 (it has 0 to 1)"},
		{"deadletter list --account nobody", 0, "no dead letters that the flags select (4 records read)"},
		{"deadletter list --account nobody -o json", 0, "[]"},
		{"deadletter stats --until 1d", 0, "no dead letters that the flags select"},
		{"deadletter stats --by colour", 2, "--by colour: unknown key; choose from subscription, event, reason"},
		{"deadletter list -o xml", 2, "-o xml: unknown format; choose from table, json, ndjson"},
		{"deadletter stats -o ndjson", 2, "-o ndjson: unknown format; did you mean json? Choose from table, json"},
		{"deadletter show 0/999", 1, "there is no dead letter 0/999"},
		{"deadletter show 9/0", 2, "no such partition: 9"},
		{"deadletter show msg_nothing", 1, "there is no dead letter msg_nothing"},
		{"deadletter show x/y", 2, "x/y is not a PARTITION/OFFSET"},
		{"deadletter show", 2, "accepts 1 arg"},
		{"deadletter replay --account nobody --yes", 0, "sends 0 dead letters"},
		{"deadletter replay --account acme", 2, "there is no terminal to ask for confirmation"},
		{"deadletter replay --rate -1 --yes", 2, "must not be negative"},
		{"deadletter replay --name a\tb --yes", 2, "at most 200 bytes, without spaces"},
		{"deadletter replay --from-file nowhere.ndjson --yes", 1, "nowhere.ndjson: no such file"},
		{"deadletter replay --from-file - --id 0/1", 2, "--id and --from-file both name dead letters"},
		{"deadletter list --limit -1", 2, "--limit is not negative"},
		{"deadletter list --since 2999-01-01T00:00:00Z", 2, "lies in the future"},
		{"deadletter list --since 999999d", 2, "want a time like"},
		{"deadletter list --since 1960-01-01T00:00:00Z --reason malformed_event", 0, "malformed_event"},
		{"deadletter list --offsets 0-9223372036854775807", 2, "want one offset, or FROM-TO"},
		{"deadletter replay --rate NaN --yes", 2, "must not be negative"},
		{"deadletter replay --edit --reason expired", 2, "--edit is for malformed records"},
		{"deadletter replay --edit --account acme", 2, "--edit is for malformed records"},
		{"deadletter replay --edit -o json", 2, "it cannot be used with -o json"},
		{"deadletter replay --dry-run --id msg_nothing,0/99", 0, "2 named by --id or the file, and not found"},
		{"explain channel.email/0/0 --topic channel.email", 2, "--topic goes with --event"},
		{"tail --event EMAIL_OPENED", 2, "unknown event name; did you mean EMAIL_OPEN?"},
		{"tail --reason timeuot", 2, "unknown reason; did you mean timeout?"},
		{"tail --outcome deliverd", 2, "--outcome deliverd: unknown outcome; did you mean delivered? Choose from delivered, retry, deferred, dead, discarded"},
		{"tail --limit -1", 2, "--limit is not negative"},
		{"top --interval 0s", 2, "--interval must be at least 100ms"},
		{"top --sort lod", 2, "--sort lod: unknown order; did you mean load?"},
		{"top --rows 0", 2, "--rows at least 1"},
		{"send --account acme --event EMAIL_OPEN --count 0", 2, "--count is at least 1"},
		{"send --account acme --event EMAIL_OPEN --channel SMS", 2, "give either --event, or --channel and --type"},
		{"send --lines --account acme --event EMAIL_OPEN", 2, "--lines needs a FILE"},
		{"send --topic channel.email --account acme -", 2, "--account describes an event that is made of flags"},
		{"send", 2, "give --account and --event, or a file"},
		{"subscriptions test acme crm --event NOTHING", 2, "unknown event name"},
		{"explain channel.email/0/99", 1, "has no offset 99"},
		{"explain channel.email/9/0", 1, "has no partition 9; it has 0 to 1"},
		{"explain channel.fax/0/0", 1, "topic channel.fax"},
		{"explain channel.email", 2, "is not a TOPIC/PARTITION/OFFSET"},
		{"explain", 2, "give one of TOPIC/PARTITION/OFFSET, --event FILE"},
		{"audit channel.email/0/7-3", 2, "7-3: want one offset, or FROM-TO"},
		{"audit channel.email/0/0-99999", 2, "holds the offsets 0 to"},
		{"audit channel.email/9", 2, "has no partition 9; it has 0 to 1"},
		{"audit fanout.replay", 2, "is not a source of the configuration"},
		{"audit channel.emial", 2, "topic channel.emial is not a source of the configuration; did you mean channel.email?"},
		{"plan --events-per-second 0 --subscriptions 1", 2, "--events-per-second: want more than 0"},
		{"verify", 2, "add --secret-file FILE, or --secret"},
		{"audit channel.email --subscription crm", 2, "--subscription needs --account"},
		{"diff channel.email", 2, "new-config"},
	} {
		t.Run(test.args, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := b.fanout(t, "", strings.Split(test.args, " ")...)
			if code != test.code || !strings.Contains(stdout+stderr, test.want) {
				t.Errorf("exit %d, want %d with %q\n%s%s", code, test.code, test.want, stdout, stderr)
			}
			if test.code != 0 && (stderr == "" || strings.Contains(stderr, "goroutine")) {
				t.Errorf("what is wrong is not said on standard error: %q", stderr)
			}
		})
	}
}

// Look, export, replay from the file, look again: what an operator does at three in the morning.
func TestOperatorsReplay(t *testing.T) {
	t.Parallel()
	b := newBuried(t)
	stats := b.ok(t, "", "deadletter", "stats", "--by", "reason,event")
	for _, want := range []string{`3 +EMAIL_OPEN +permanent_status`, `1 +- +malformed_event`} {
		if !regexp.MustCompile(want).MatchString(stats) {
			t.Errorf("stats: want %s\n%s", want, stats)
		}
	}
	file := filepath.Join(t.TempDir(), "acme.ndjson")
	b.ok(t, "", "deadletter", "export", "--account", "acme", "--file", file)
	if code, _, stderr := b.fanout(t, "", "deadletter", "export", "--file", file); code != 1 || !strings.Contains(stderr, "does not write over a file") {
		t.Errorf("export over a file: exit %d, %s", code, stderr)
	}
	exported, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(strings.TrimSpace(string(exported)), "\n")
	if len(lines) != 3 {
		t.Fatalf("%d lines are exported, want 3\n%s", len(lines), exported)
	}
	before := b.seen.Load()
	dry := b.ok(t, "", "deadletter", "replay", "--dry-run", "--name", "first")
	if !strings.Contains(dry, "replay first would send 3 dead letters") || !strings.Contains(dry, "1 not sent: malformed records (--edit repairs them)") || b.seen.Load() != before {
		t.Errorf("dry run:\n%s", dry)
	}
	b.status.Store(204)
	two := strings.Join(lines[:2], "")
	if out := b.ok(t, two, "deadletter", "replay", "--from-file", "-", "--name", "first", "--yes"); !strings.Contains(out, "sent 2 of 2") {
		t.Errorf("replay of two lines:\n%s", out)
	}
	b.await(t, "/metrics", 200, `fanout_outcomes_total{outcome="delivered",reason="",stage="replay"} 2`)
	for args, want := range map[string]string{
		"stats":                          `COUNT .* OPEN +SETTLED +FIRST(.*\n)+.*3 +acme +crm +permanent_status +1 +2 `,
		"stats --reason malformed_event": `1 dead letter in 1 group: 1 open, 0 settled \(0 replayed, 0 delivered since\)`,
		"stats --open --account acme":    `1 dead letter in 1 group: 1 open`,
		"stats --account acme -o json":   `"states": \{\s+"delivered": 0,\s+"not known": 0,\s+"open": 1,\s+"replayed": 2`,
		"list --open --account acme":     `^POSITION .*\n\d/\d+ .* open +acme .*\n$`,
		"list --account acme -o ndjson":  `"state":"replayed"`,
		"list --open --until 1d":         `no open dead letters that the flags select`,
	} {
		if out := b.ok(t, "", strings.Fields("deadletter "+args)...); !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("deadletter %s: want %s\n%s", args, want, out)
		}
	}
	rest := b.ok(t, "", "deadletter", "replay", "--account", "acme", "--name", "second", "--yes")
	if !strings.Contains(rest, "sent 1 of 1") || !strings.Contains(rest, "2 not sent: an earlier replay sent them (--again sends them)") {
		t.Errorf("replay of the rest:\n%s", rest)
	}
	b.await(t, "/metrics", 200, `fanout_outcomes_total{outcome="delivered",reason="",stage="replay"} 3`)
	if out := b.ok(t, "", "audit", "channel.email"); !regexp.MustCompile(`4 delivered\n +0 missing\n +4 deliveries`).MatchString(out) {
		t.Errorf("audit:\n%s", out)
	}
	b.ok(t, "", "subscriptions", "delete", "acme", "crm")
	if out := b.ok(t, "", "deadletter", "replay", "--account", "acme", "--again", "--dry-run"); !strings.Contains(out, "3 of these go to a subscription that no longer exists") {
		t.Errorf("replay for a subscription that is gone:\n%s", out)
	}
}

// A file names dead letters, not places: what else lies there, or no dead letter at all, is not replayed.
func TestOperatorsReplayFromFile(t *testing.T) {
	t.Parallel()
	b := newBuried(t)
	list := b.ok(t, "", "deadletter", "list", "--account", "acme", "-o", "ndjson")
	if out := b.ok(t, list, "deadletter", "replay", "--dry-run", "--from-file", "-"); !strings.Contains(out, " would send 3 dead letters") {
		t.Errorf("what list names:\n%s", out)
	}
	elsewhere := regexp.MustCompile(`"deadAt":"20`).ReplaceAllString(list, `"deadAt":"19`)
	out := b.ok(t, elsewhere, "deadletter", "replay", "--dry-run", "--from-file", "-")
	if !strings.Contains(out, " would send 0 dead letters") || !strings.Contains(out, "3 named by --id or the file") {
		t.Errorf("dead letters of elsewhere, at the same places:\n%s", out)
	}
	for _, none := range []string{`{}`, `{"partition":0,"offset":0}`, `{"total":4}`, `[]`} {
		if code, stdout, stderr := b.fanout(t, none, "deadletter", "replay", "--dry-run", "--from-file", "-"); code != 1 || !strings.Contains(stderr, "-: object 1: ") {
			t.Errorf("%s: exit %d\n%s%s", none, code, stdout, stderr)
		}
	}
}

// hostile is what a terminal must not be sent.
const hostile = "\x1b]0;owned\a\x1b[2J\u009b31m\u202e\r"

// clean says whether a terminal may be sent the text.
func clean(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && !strconv.IsPrint(r) })
}

// What anybody may have written to a topic moves no terminal's cursor, and leads explain round no circle.
func TestOperatorsHostileRecords(t *testing.T) {
	t.Parallel()
	b := newBuried(t)
	admin := b.client(t)
	write := func(topic, key, value string, headers ...string) string {
		t.Helper()
		var list []kafka.Header
		for i := 0; i < len(headers); i += 2 {
			list = append(list, kafka.Header{Key: headers[i], Value: []byte(headers[i+1])})
		}
		at, err := admin.Send(t.Context(), topic, []byte(key), []byte(value), list)
		if err != nil {
			t.Fatal(err)
		}
		return at.String()
	}
	if _, err := admin.Create(t.Context(), []topic.Spec{{Name: "fanout.replay.self", Partitions: 1}}); err != nil {
		t.Fatal(err)
	}
	letters := b.ok(t, "", "deadletter", "list", "--account", "acme", "-o", "ndjson")
	id := regexp.MustCompile(`msg_[a-z2-7]{26}`).FindString(letters)
	origin := regexp.MustCompile(`"origin":"([^"]+)"`).FindStringSubmatch(letters)[1]
	bad := strings.ReplaceAll(hostile, "\r", "")
	attempt, err := json.Marshal(map[string]any{
		"time": time.Now().UnixMilli(), "id": id, "outcome": "retry" + bad, "reason": bad, "stage": bad, "detail": bad, "response": bad, "attempt": 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	write("fanout.attempts", "acme", string(attempt), "fanout-webhook-id", id, "fanout-outcome", "retry"+bad)
	place := write("fanout.dead-letter", hostile, hostile, "fanout-reason", hostile, "fanout-detail", hostile, "fanout-account", hostile,
		"fanout-subscription", hostile, "fanout-event", hostile, "fanout-webhook-id", hostile, "fanout-origin", hostile+"/0/0", "fanout-replay", hostile)
	which := strings.TrimPrefix(place, "fanout.dead-letter/")
	// Where a record will lie is known of an owned topic that nobody else writes to: it comes from itself.
	self := write("fanout.replay.self", "self", "", "fanout-origin", "fanout.replay.self/0/0")
	for _, args := range []string{
		"deadletter list", "deadletter stats", "deadletter stats --by event,reason", "deadletter show " + which, "deadletter show " + id, "explain " + origin,
		"explain " + place, "explain " + self, "deadletter replay --dry-run", "audit channel.email",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		var stdout, stderr writer
		code := run(ctx, strings.Split(args, " "), b.env, strings.NewReader(""), &stdout, &stderr)
		late := ctx.Err()
		cancel()
		if late != nil || !clean(stdout.String()) || !clean(stderr.String()) {
			t.Errorf("fanout %s: exit %d, %v\n%q\n%q", args, code, late, stdout.String(), stderr.String())
		}
	}
}

// client is a connection to the world's Kafka.
func (w *world) client(t *testing.T) *topic.Cluster {
	t.Helper()
	cfg, _, err := config.Load("", false, w.env, nil)
	if err != nil {
		t.Fatal(err)
	}
	admin, err := topic.NewCluster(cfg.Topic())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(admin.Close)
	return admin
}

// What programs read is JSON in every state, with its keys there.
func TestOperatorsJSON(t *testing.T) {
	t.Parallel()
	b := newBuried(t)
	instance := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"lanes":[]}`) }))
	t.Cleanup(instance.Close)
	b.ok(t, `{"accountId":"acme","channel":"EMAIL","type":"DELIVERED","trackingId":"t","notificationId":"n","userId":"u"}`, "send", "--topic", "channel.email", "--key", "k", "-")
	ignored := strings.Fields(b.ok(t, `{"accountId":"nobody","channel":"EMAIL","type":"OPEN","trackingId":"t","notificationId":"n","userId":"u"}`, "send", "--topic", "channel.email", "-"))[0]
	for args, want := range map[string]string{
		"deadletter replay --account nobody --dry-run -o json":               `"groups": []`,
		"deadletter replay --account nobody --yes -o json":                   `"taken": 0`,
		"deadletter stats --account nobody -o json":                          `"groups": []`,
		"top -o json --tiers=false --admin " + instance.URL:                  `"subscriptions": []`,
		"explain -o json " + ignored:                                         `"subscriptions": []`,
		"audit channel.email -o json":                                        `"missing": 0`,
		"subscriptions accept -o json":                                       `"accepted": 1`,
		"topics create -o json":                                              `"created": []`,
		"deadletter list --account nobody -o json --partition 0 --offsets 0": `[]`,
	} {
		out := b.ok(t, "", strings.Split(args, " ")...)
		if !json.Valid([]byte(out)) || !strings.Contains(out, want) {
			t.Errorf("fanout %s: want %s\n%s", args, want, out)
		}
	}
	// Half of an answer is well-formed, and no success.
	b.kafka.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		b.kafka.KeepControl()
		req, _ := r.(*kmsg.FetchRequest)
		if len(req.Topics) == 0 || req.Topics[0].Topic != "fanout.dead-letter" || req.Topics[0].Partitions[0].Partition != 1 || req.Topics[0].Partitions[0].FetchOffset > 600 {
			return nil, nil, false // the newest of each partition have been read and shown
		}
		res, _ := req.ResponseKind().(*kmsg.FetchResponse)
		part := kmsg.NewFetchResponseTopicPartition()
		part.Partition, part.ErrorCode = 1, kerr.OffsetOutOfRange.Code
		topic := kmsg.NewFetchResponseTopic()
		topic.Topic, topic.Partitions = "fanout.dead-letter", []kmsg.FetchResponseTopicPartition{part}
		res.Topics = []kmsg.FetchResponseTopic{topic}
		return res, nil, true
	})
	client := &kafka.Client{Addr: kafka.TCP(b.kafka.ListenAddrs()...), Transport: &kafka.Transport{}}
	for partition := range 2 { // more than is read at once
		records := make([]kafka.Record, 1200)
		for i := range records {
			records[i] = kafka.Record{Time: time.Now(), Value: kafka.NewBytes([]byte("{}"))}
		}
		if res, err := client.Produce(t.Context(), &kafka.ProduceRequest{
			Topic: "fanout.dead-letter", Partition: partition, RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(records...),
		}); err != nil || res.Error != nil {
			t.Fatal(err, res)
		}
	}
	code, stdout, stderr := b.fanout(t, "", "deadletter", "list", "-o", "json")
	if code != 1 || !json.Valid([]byte(stdout)) || !strings.Contains(stdout, `"deadAt"`) || !strings.Contains(stderr, "deleted meanwhile") {
		t.Errorf("exit %d\n%s\n%s", code, stdout, stderr)
	}
}

// Whatever answers where an instance should, a command ends, says so, and sends nothing of it to the terminal.
func TestOperatorsWrongInstance(t *testing.T) {
	t.Parallel()
	b := newBuried(t)
	b.ok(t, `{account: acme, subscriptions: {b: {url: "http://127.0.0.1:9999", events: ["*"]}, c: {url: "http://127.0.0.1:9999", events: ["*"]}}}`, "subscriptions", "apply", "-f", "-")
	var asked atomic.Int64
	instance := func(h http.HandlerFunc) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked.Add(1); h(w, r) }))
		t.Cleanup(s.Close)
		t.Cleanup(s.CloseClientConnections)
		return s.URL
	}
	line := func(text string) string {
		data, _ := json.Marshal(map[string]any{"outcome": text, "reason": text, "stage": text, "event": text, "subscription": text, "id": text})
		return string(data) + "\n"
	}
	hangs := instance(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	silent := instance(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, line("one"))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	for base, want := range map[string]string{hangs: hangs + ": no answer in time", silent: silent + ": the instance has stopped answering"} {
		var out writer
		follow := &tailer{output: &output{stdout: &out, stderr: &out, format: "table"}, silence: time.Second}
		if err := follow.run(t.Context(), []remote{{base: base}}); err == nil || err.Error() != want {
			t.Errorf("tail: %v, want %q", err, want)
		}
	}
	many := `{"lanes":[` + strings.Repeat(`{"account":"acme","subscription":"crm","state":"open","why":"`+strings.Repeat("y", 200)+`"},`, 10_000) + `{"account":"acme","subscription":"last","state":"parked"}]}`
	for _, test := range []struct {
		args string
		code int
		want string
	}{
		{"tail --admin " + instance(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, hostile)
		}), 1, "refuses the token (401)"},
		{"tail --admin " + instance(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>\n") }), 1, "not a fanout instance"},
		{"tail --limit 1 --admin " + instance(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, line(hostile)) }), 0, "owned"},
		{"top --tiers=false --admin " + instance(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, many) }), 0, "last"},
		{"top --tiers=false --admin " + instance(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"lanes":[{"account":"`+strings.Repeat("\u009b", 3)+`"}]}`)
		}), 0, "1 instance answered"},
		{"top --tiers=false --admin " + instance(func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = w.Write(make([]byte, 1<<20))
			}
		}), 1, "answers with more than 32 MiB"},
		{"top --tiers=false --admin " + instance(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, hostile) }), 1, "not a fanout instance"},
	} {
		code, stdout, stderr := b.fanout(t, "", strings.Split(test.args, " ")...)
		if code != test.code || !strings.Contains(stdout+stderr, test.want) || !clean(stdout) || !clean(stderr) {
			t.Errorf("fanout %s: exit %d, want %d with %q\n%q\n%q", test.args, code, test.code, test.want, stdout, stderr)
		}
	}
	origin := regexp.MustCompile(`"origin":"([^"]+)"`).FindStringSubmatch(b.ok(t, "", "deadletter", "list", "--account", "acme", "-o", "ndjson"))[1]
	asked.Store(0)
	if out := b.ok(t, "", "explain", origin, "--admin", hangs); strings.Count(out, "unknown: no answer in time") != 3 || asked.Load() != 1 {
		t.Errorf("explain asked %d times, want once for three subscriptions\n%s", asked.Load(), out)
	}
	if transport, ok := remoteClient().Transport.(*http.Transport); !ok || transport.Proxy != nil {
		t.Error("the admin token would be shown to a proxy")
	}
}

// With the name of a group that has never been, nothing can be missing: audit says so.
func TestOperatorsAuditOfAnotherGroup(t *testing.T) {
	t.Parallel()
	b := newBuried(t)
	code, stdout, stderr := b.fanout(t, "", "audit", "channel.email", "--kafka.group", "mistyped")
	if code != 0 || !strings.Contains(stderr, "group mistyped has committed nothing of channel.email") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
}

// A password in a URL is not for whoever looks over the operator's shoulder.
func TestOperatorsURLs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "channel.email")
	w.redis.HSet("fanout:account:acme", "crm", `{"url":"https://user:hunter2@example.com/hook?token=hunter2","events":["*"]}`)
	if out := w.ok(t, "", "subscriptions", "list"); strings.Contains(out, "hunter2") || !strings.Contains(out, "https://…@example.com/hook?…") {
		t.Errorf("list:\n%s", out)
	}
}

// A malformed record is repaired in the editor, and goes to its source topic as a new event that names its dead letter: once, however often
// the command is run.
func TestOperatorsRepair(t *testing.T) {
	t.Parallel()
	b := newBuried(t)
	b.status.Store(204)
	editor := filepath.Join(t.TempDir(), "editor")
	repaired := `{"accountId":"acme","channel":"EMAIL","type":"OPEN","trackingId":"t","notificationId":"n","userId":"u","id":"repaired"}`
	if err := os.WriteFile(editor, []byte("#!/bin/sh\nprintf %s '"+repaired+"' > \"$1\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	b.env = append(b.env, "EDITOR="+editor)
	letters := b.ok(t, "", "deadletter", "list", "--reason", "malformed_event", "-o", "ndjson")
	place := regexp.MustCompile(`"partition":(\d+),"offset":(\d+)`).FindStringSubmatch(letters)
	which := place[1] + "/" + place[2]
	admin := b.client(t)
	// Before it died, another dead letter lay in its place.
	ignored := `{"accountId":"acme","channel":"EMAIL","type":"DELIVERED","trackingId":"t","notificationId":"n","userId":"u"}`
	if _, err := admin.Produce(t.Context(), topic.Partition{Topic: "channel.email"}, []kafka.Record{{
		Time: time.Now().Add(-time.Hour), Value: kafka.NewBytes([]byte(ignored)), Headers: []kafka.Header{{Key: "fanout-dead-letter", Value: []byte(which)}},
	}}); err != nil {
		t.Fatal(err)
	}
	named := func() (values []string) {
		t.Helper()
		ranges, err := admin.Ranges(t.Context(), "channel.email", time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex // guards values
		if err := admin.Scan(t.Context(), "channel.email", ranges, nil, func(r *topic.Record) error {
			if r.Header("fanout-dead-letter") == which && time.Since(r.Time) < time.Minute {
				mu.Lock()
				defer mu.Unlock()
				values = append(values, string(r.Value))
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return values
	}
	for _, step := range []struct {
		args, want string
		sent       int
	}{
		{"--dry-run", "1 repaired and sent, 0 left as they are\n", 0},
		{"--yes", "1 repaired and sent, 0 left as they are\n", 1},
		{"--yes", "0 repaired and sent, 0 left as they are, 1 sent before (--again sends them again)\n", 1},
		{"--yes --again", "1 repaired and sent, 0 left as they are\n", 2},
	} {
		out := b.ok(t, "", append([]string{"deadletter", "replay", "--edit"}, strings.Fields(step.args)...)...)
		if got := named(); !strings.Contains(out, step.want) || len(got) != step.sent || slices.ContainsFunc(got, func(v string) bool { return v != repaired }) {
			t.Errorf("replay --edit %s: %s want %q\nthe source has %q, want %d", step.args, out, step.want, got, step.sent)
		}
	}
	b.await(t, "/metrics", 200, `fanout_outcomes_total{outcome="delivered",reason="",stage="first"} 3`)
}

// Kafka cannot be reached: that is said, with the address, and soon.
func TestOperatorsWithoutKafka(t *testing.T) {
	t.Parallel()
	env := []string{"FANOUT_KAFKA_BROKERS=" + nobody, "FANOUT_REDIS_URL=redis://" + nobody, "FANOUT_REDIS_SNAPSHOT_FILE=off"}
	for _, args := range []string{"deadletter stats", "deadletter replay --yes", "explain channel.email/0/0", "audit channel.email"} {
		var out writer
		code := run(context.WithoutCancel(t.Context()), strings.Split(args, " "), env, strings.NewReader(""), &out, &out)
		if code != 1 || !strings.Contains(out.String(), "is Kafka running at "+nobody+"?") {
			t.Errorf("fanout %s: exit %d\n%s", args, code, out.String())
		}
	}
}

// What a new configuration would make of the records of today, in exit status and words.
func TestOperatorsDiff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "channel.email")
	w.redis.HSet("fanout:account:acme", "crm", `{"url":"https://example.com","events":["*"]}`)
	w.ok(t, `{"accountId":"acme","channel":"EMAIL","type":"OPEN","trackingId":"t","notificationId":"n","userId":"u","who":"v"}`, "send", "--topic", "channel.email", "-")
	next := filepath.Join(t.TempDir(), "next.yaml")
	for name, c := range map[string]struct {
		config string
		code   int
		want   []string
	}{
		"the same":       {"sources: [{topic: channel.email}]", 0, []string{"1 record planned twice: nothing differs"}},
		"another field":  {"sources: [{topic: channel.email, fields: {userId: who}}]", 1, []string{"payload", `"userId":"u"`, `"userId":"v"`}},
		"only one event": {"sources: [{topic: channel.email, channel: SMS}]", 1, []string{"vanishes", "acme"}},
		"no source":      {"sources: [{topic: another}]", 1, []string{"vanishes", "topic channel.email is not a source of this configuration"}},
	} {
		if err := os.WriteFile(next, []byte(c.config), 0o600); err != nil {
			t.Fatal(err)
		}
		code, out, stderr := w.fanout(t, "", "diff", "--new-config", next, "channel.email")
		for _, want := range c.want {
			if code != c.code || !strings.Contains(out+stderr, want) {
				t.Errorf("%s: exit %d, want %d and %q\n%s%s", name, code, c.code, want, out, stderr)
			}
		}
	}
}

// explain does not tick what would become a dead letter, and says nothing of an invalid subscription's URL but what is
// wrong with it.
func TestOperatorsExplainInvalid(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "channel.email")
	for id, stored := range map[string]string{
		"bad": `{"url":"https://example.com/hook","events":["EMAIL_OPEN"],"maxInFlight":-1}`, "good": `{"url":"https://example.com/hook","events":["*"]}`,
		"inside": `{"url":"https://10.0.0.1/","events":["*"]}`, "off": `{"url":"https://example.com/hook","events":["*"],"enabled":false}`,
		"other": `{"url":"https://example.com/hook","events":["EMAIL_CLICK"]}`, "paused": `{"url":"https://example.com/hook","events":["*"],"paused":true}`,
	} {
		w.redis.HSet("fanout:account:acme", id, stored)
	}
	event := `{"accountId":"acme","channel":"EMAIL","type":"OPEN","trackingId":"t","notificationId":"n","userId":"u"}`
	out := w.ok(t, event, "explain", "--event", "-", "--admin", answering(t, `{"lanes":[]}`))
	for _, want := range []string{
		"\n! bad  selects EMAIL_OPEN\n  problem    a dead letter at once: invalid_subscription: maxInFlight: ", "\n✓ good  selects EMAIL_OPEN\n",
		"\n! inside  selects EMAIL_OPEN\n  problem    a dead letter at once: blocked_destination: ", "\n✗ off  disabled\n", "\n✗ other  does not select EMAIL_OPEN; it selects EMAIL_CLICK\n",
		"\n✓ paused  selects EMAIL_OPEN; it is paused, so the delivery is held back\n", "lane       http://127.0.0.1:", ": paused\n", ": idle\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("want %q\n%s", want, out)
		}
	}
	_, bad, _ := strings.Cut(out, "! bad")
	bad, _, _ = strings.Cut(bad, "✓ good")
	if strings.Contains(bad, "blocked") || strings.Contains(bad, "curl") || strings.Contains(bad, "url") {
		t.Errorf("of an invalid subscription's URL nothing is known:\n%s", bad)
	}
	var result operate.Explained
	if err := json.Unmarshal([]byte(w.ok(t, event, "explain", "--event", "-", "--admin", nobody, "-o", "json")), &result); err != nil {
		t.Fatal(err)
	}
	for _, m := range result.Subscriptions {
		if planned := m.Subscription != "off" && m.Subscription != "other"; m.Match != planned || (m.Problem != "") != (m.Subscription == "bad" || m.Subscription == "inside") {
			t.Errorf("%+v", m)
		}
	}
}

// The newest dead letter is the first, with what explain and show take, in a table and for a program.
func TestOperatorsListNewestFirst(t *testing.T) {
	t.Parallel()
	b := newBuried(t)
	out := b.ok(t, "", "deadletter", "list", "--account", "acme")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	var letters []topic.DeadLetter
	if err := json.Unmarshal([]byte(b.ok(t, "", "deadletter", "list", "--account", "acme", "-o", "json")), &letters); err != nil {
		t.Fatal(err)
	}
	if len(lines) != 4 || len(letters) != 3 || !slices.IsSortedFunc(letters, func(x, y topic.DeadLetter) int { return y.DeadAt.Compare(x.DeadAt) }) {
		t.Fatalf("%d lines, %d letters\n%s", len(lines), len(letters), out)
	}
	for i, d := range letters {
		if !strings.HasPrefix(lines[i+1], d.Position()+" ") || !strings.Contains(lines[i+1], " "+d.Origin+" ") {
			t.Errorf("line %d is %q, want the position %s and the origin %s", i+1, lines[i+1], d.Position(), d.Origin)
		}
		b.ok(t, "", "explain", d.Origin)
	}
	// What is kept of a dead letter is its own, not memory that the next one is read into.
	for _, args := range [][]string{{"--account", "acme"}, {"--reason", "malformed_event"}} {
		for line := range strings.Lines(b.ok(t, "", append([]string{"deadletter", "export"}, args...)...)) {
			var exported, shown []topic.DeadLetter
			if err := json.Unmarshal([]byte("["+line+"]"), &exported); err != nil {
				t.Fatal(err)
			}
			for _, which := range []string{exported[0].Position(), exported[0].ID} {
				if which == "" {
					continue
				}
				if err := json.Unmarshal([]byte(b.ok(t, "", "deadletter", "show", which, "-o", "json")), &shown); err != nil {
					t.Fatal(err)
				}
				if len(shown) != 1 || len(shown[0].Value) == 0 || string(shown[0].Value) != string(exported[0].Value) || string(shown[0].Key) != string(exported[0].Key) {
					t.Errorf("%s is shown as %q, with the key %q; want %q and %q", which, shown[0].Value, shown[0].Key, exported[0].Value, exported[0].Key)
				}
			}
		}
	}
	if out := b.ok(t, "", "deadletter", "list", "--limit", "1"); strings.Count(out, "\n") != 4 || !strings.Contains(out, "there are more than --limit 1") {
		t.Errorf("one of four:\n%s", out)
	}
}

// Every command that has a result has it as JSON.
func TestEveryCommandPrintsJSON(t *testing.T) {
	t.Parallel()
	b := newBuried(t)
	letters := b.ok(t, "", "deadletter", "list", "--account", "acme", "-o", "ndjson")
	place := regexp.MustCompile(`"partition":(\d+),"offset":(\d+)`).FindStringSubmatch(letters)
	origin := regexp.MustCompile(`"origin":"([^"]+)"`).FindStringSubmatch(letters)[1]
	next := filepath.Join(t.TempDir(), "next.yaml")
	if err := os.WriteFile(next, []byte("sources: [{topic: channel.email}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.status.Store(204)
	manifest := `{account: acme, id: other, url: "http://127.0.0.1:9999", events: ["*"], secrets: [` + secret + `]}`
	calls := map[string]string{ // in the order of their names
		"audit": "channel.email", "backfill": "channel.email --account acme --subscription crm --since 2d --dry-run --again", "check": "", "deadletter list": "", "deadletter replay": "--account acme --dry-run",
		"deadletter show": place[1] + "/" + place[2], "deadletter stats": "", "diff": "--new-config " + next + " channel.email", "explain": origin,
		"find": "--account acme", "group describe": "", "health": "--ready", "plan": "--events-per-second 1 --subscriptions 1", "release": "acme crm", "send": "--account acme --event EMAIL_OPEN",
		"subscriptions accept": "", "subscriptions apply": "-f -", "subscriptions delete": "acme other", "subscriptions get": "acme crm",
		"subscriptions list": "", "subscriptions rotate": "acme other", "subscriptions test": "acme crm", "top": "", "topics apply": "", "topics create": "", "topics describe": "",
		"token": "", "verify": "--secret " + secret + " --id msg_1 --timestamp 1 --signature v1,x", "version": "",
	}
	otherwise := []string{
		"completion",        // a script for a shell
		"deadletter export", // one object a line, whatever -o says
		"demo",              // a script runs it
		"group leave",       // TestGroup runs it
		"resend",            // TestResend runs it
		"run",               // it logs
		"schema",            // a document, whatever -o says; a script runs it
		"tail",              // one object a line, until it is stopped
	}
	root := (&app{stdout: io.Discard, stderr: io.Discard}).command(nil)
	eachCommand(root, func(cmd *cobra.Command) {
		name := strings.TrimPrefix(cmd.CommandPath(), "fanout ")
		if _, ok := calls[name]; !ok && !cmd.HasSubCommands() && !slices.Contains(otherwise, name) {
			t.Errorf("%s is not called here", cmd.CommandPath())
		}
	})
	order := slices.Sorted(maps.Keys(calls))
	order = append(slices.DeleteFunc(order, func(name string) bool { return name == "subscriptions delete" }), "subscriptions delete")
	for _, name := range order {
		args := strings.Fields(name + " " + calls[name] + " -o json")
		if cmd, _, err := root.Find(args); err == nil && cmd.Flags().Lookup("admin") != nil {
			args = append(args, "--admin", b.admin)
		}
		_, stdout, stderr := b.fanout(t, manifest, args...)
		if !json.Valid([]byte(stdout)) {
			t.Errorf("fanout %s:\n%s%s", strings.Join(args, " "), stdout, stderr)
		}
	}
}

// A table shows values as they are: a tab as a sign of its own, quotes and backslashes without escapes, and columns line up
// below wide characters. COLUMNS bounds it, where it is not a terminal too.
func TestTablesShowWhatIsThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "channel.email")
	w.ok(t, "", "topics", "create")
	admin := w.client(t)
	for account, detail := range map[string]string{"acme": "tab\there \"quoted\" C:\\dir", "顧客-一二三": "👍🏽 fine", "a\x1b[2Jb": "line\nend"} {
		if _, err := admin.Send(t.Context(), "fanout.dead-letter", []byte(account), []byte("{}"), []kafka.Header{
			{Key: "fanout-account", Value: []byte(account)},
			{Key: "fanout-subscription", Value: []byte("crm")},
			{Key: "fanout-reason", Value: []byte("expired")},
			{Key: "fanout-detail", Value: []byte(detail)},
			{Key: "fanout-event", Value: []byte("EMAIL_OPEN")},
			{Key: "fanout-origin", Value: []byte("channel.email/0/1")},
		}); err != nil {
			t.Fatal(err)
		}
	}
	out := w.ok(t, "", "deadletter", "list")
	for _, want := range []string{`tab␉here "quoted" C:\dir`, "顧客-一二三", "👍🏽 fine", "a␛[2Jb", "line␊end"} {
		if !strings.Contains(out, want) {
			t.Errorf("want %s\n%s", want, out)
		}
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	for _, line := range lines {
		for _, column := range []string{"SUBSCRIPTION", "EVENT", "ORIGIN"} {
			before, _, _ := strings.Cut(lines[0], column)
			at := 0
			for _, r := range line { // the cell that the column begins in
				if at == len(before) {
					if r == ' ' {
						t.Errorf("%s does not begin below its heading:\n%s", column, out)
					}
					break
				}
				at += terminal.Width(string(r))
			}
		}
	}
	w.env = append(w.env, "COLUMNS=70")
	narrow := w.ok(t, "", "deadletter", "list")
	for line := range strings.SplitSeq(narrow, "\n") {
		if terminal.Width(line) > 70 {
			t.Errorf("%d cells in 70: %s", terminal.Width(line), line)
		}
	}
	if !strings.Contains(narrow, "not shown for want of width: ") || !strings.Contains(narrow, "…") {
		t.Errorf("nothing gives way:\n%s", narrow)
	}
}
