package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
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
		{"deadletter stats --reason nonsense", 2, "--reason nonsense: nothing dies for that; use one of malformed_event, attempts_exhausted, expired, gone, permanent_status, blocked_destination, invalid_subscription"},
		{"deadletter list --reason timeout", 2, "--reason timeout: nothing dies for that"},
		{"deadletter stats --event EMAIL_OPENED --offsets 9-3 --since yesterday", 2, "--event EMAIL_OPENED: no event has that name; use one of EMAIL_OPEN,"},
		{"deadletter stats --event EMAIL_OPENED --offsets 9-3 --since yesterday", 2, "--offsets 9-3: is no range"},
		{"deadletter stats --event EMAIL_OPENED --offsets 9-3 --since yesterday", 2, "--since yesterday: is neither a time"},
		{"deadletter list --since 1h --until 2h", 2, "--until 2h: is not after --since 1h"},
		{"deadletter list --partition -1", 2, "partitions count from 0"},
		{"deadletter list --partition 7", 2, "the dead-letter topic has no such partition: 7 (it has 0 to 1)"},
		{"deadletter list --account nobody", 0, "no dead letters that the flags select (4 records read)"},
		{"deadletter list --account nobody -o json", 0, "[]"},
		{"deadletter stats --until 1d", 0, "no dead letters that the flags select"},
		{"deadletter stats --by colour", 2, "--by colour: want subscription, event or reason"},
		{"deadletter list -o xml", 2, "-o xml: want table, json or ndjson"},
		{"deadletter stats -o ndjson", 2, "-o ndjson: want table or json"},
		{"deadletter show 0/999", 1, "no dead letter is 0/999"},
		{"deadletter show 9/0", 2, "no such partition: 9"},
		{"deadletter show msg_nothing", 1, "no dead letter is msg_nothing"},
		{"deadletter show x/y", 2, "x/y is no PARTITION/OFFSET"},
		{"deadletter show", 2, "accepts 1 arg"},
		{"deadletter replay --account nobody --yes", 0, "0 to send"},
		{"deadletter replay --account acme", 2, "nobody is there to be asked"},
		{"deadletter replay --rate -1 --yes", 2, "not negative"},
		{"deadletter replay --name a\tb --yes", 2, "at most 200 bytes without spaces"},
		{"deadletter replay --from-file nowhere.ndjson --yes", 1, "nowhere.ndjson: no such file"},
		{"deadletter replay --from-file - --id 0/1", 2, "--id and --from-file both say which"},
		{"explain channel.email/0/99", 1, "has no offset 99"},
		{"explain channel.email/9/0", 1, "has no partition 9; it has 0 to 1"},
		{"explain channel.fax/0/0", 1, "topic channel.fax"},
		{"explain channel.email", 2, "is no topic/partition/offset"},
		{"explain", 2, "give either TOPIC/PARTITION/OFFSET or --event FILE"},
		{"audit channel.email/0/7-3", 2, "7-3 is no range"},
		{"audit channel.email/0/0-99999", 2, "is not all there"},
		{"audit channel.email/9", 2, "has no partition 9; it has 0 to 1"},
		{"audit fanout.replay", 2, "is no source"},
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
	if !strings.Contains(dry, "replay first: 3 would send") || !strings.Contains(dry, "1 not sent: malformed records (--edit mends them)") || b.seen.Load() != before {
		t.Errorf("dry run:\n%s", dry)
	}
	b.status.Store(204)
	two := strings.Join(lines[:2], "")
	if out := b.ok(t, two, "deadletter", "replay", "--from-file", "-", "--name", "first", "--yes"); !strings.Contains(out, "sent 2 of 2") {
		t.Errorf("replay of two lines:\n%s", out)
	}
	b.await(t, "/metrics", 200, `fanout_outcomes_total{outcome="delivered",reason="",stage="replay"} 2`)
	rest := b.ok(t, "", "deadletter", "replay", "--account", "acme", "--name", "second", "--yes")
	if !strings.Contains(rest, "sent 1 of 1") || !strings.Contains(rest, "2 not sent: an earlier replay has sent them (--again sends them)") {
		t.Errorf("replay of the rest:\n%s", rest)
	}
	b.await(t, "/metrics", 200, `fanout_outcomes_total{outcome="delivered",reason="",stage="replay"} 3`)
	if out := b.ok(t, "", "audit", "channel.email"); !regexp.MustCompile(`4 delivered\n +0 missing\n +4 deliveries`).MatchString(out) {
		t.Errorf("audit:\n%s", out)
	}
	b.ok(t, "", "subscriptions", "delete", "acme", "crm")
	if out := b.ok(t, "", "deadletter", "replay", "--account", "acme", "--again", "--dry-run"); !strings.Contains(out, "3 of these go to a subscription that does not exist any more") {
		t.Errorf("replay for a subscription that is gone:\n%s", out)
	}
}

// A malformed record is mended in the editor, and goes to its source topic as a new event.
func TestOperatorsMend(t *testing.T) {
	t.Parallel()
	b := newBuried(t)
	b.status.Store(204)
	editor := filepath.Join(t.TempDir(), "editor")
	mended := `{"accountId":"acme","channel":"EMAIL","type":"OPEN","trackingId":"t","notificationId":"n","userId":"u","id":"mended"}`
	if err := os.WriteFile(editor, []byte("#!/bin/sh\nprintf %s '"+mended+"' > \"$1\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	b.env = append(b.env, "EDITOR="+editor)
	if out := b.ok(t, "", "deadletter", "replay", "--edit", "--yes"); !strings.Contains(out, "1 mended and sent, 0 left as they are") || !strings.Contains(out, "sent as channel.email/") {
		t.Errorf("replay --edit:\n%s", out)
	}
	b.await(t, "/metrics", 200, `fanout_outcomes_total{outcome="delivered",reason="",stage="first"} 2`)
}

// Kafka cannot be reached: that is said, with the address, and soon.
func TestOperatorsWithoutKafka(t *testing.T) {
	t.Parallel()
	env := []string{"FANOUT_KAFKA_BROKERS=" + nobody, "FANOUT_REDIS_URL=redis://" + nobody, "FANOUT_REDIS_SNAPSHOT_FILE=off"}
	for _, args := range []string{"deadletter stats", "deadletter replay --yes", "explain channel.email/0/0", "audit channel.email"} {
		var out writer
		code := run(context.WithoutCancel(t.Context()), strings.Split(args, " "), env, strings.NewReader(""), &out, &out)
		if code != 1 || !strings.Contains(out.String(), "kafka.brokers is "+nobody) {
			t.Errorf("fanout %s: exit %d\n%s", args, code, out.String())
		}
	}
}
