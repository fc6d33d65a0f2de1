package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fanout/operate"
	"fanout/webhook"
)

// ids counts the requests of a receiver by webhook-id; its status may be changed.
type ids struct {
	url    string
	status atomic.Int64

	mu   sync.Mutex // guards seen
	seen map[string]int
}

func newIDs(t *testing.T) *ids {
	t.Helper()
	r := &ids{seen: make(map[string]int)}
	r.status.Store(http.StatusNoContent)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		r.mu.Lock()
		r.seen[q.Header.Get("webhook-id")]++
		r.mu.Unlock()
		w.WriteHeader(int(r.status.Load()))
	}))
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

func (r *ids) got() (different, all int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.seen {
		different, all = different+1, all+n
	}
	return different, all
}

func (r *ids) times(id string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen[id]
}

// apply writes a subscription to all events.
func (w *world) apply(t *testing.T, id, url string) {
	t.Helper()
	w.ok(t, `{account: acme, id: `+id+`, url: "`+url+`", events: ["*"]}`, "subscriptions", "apply", "-f", "-")
}

// events sends n events with ids that begin with name.
func (w *world) events(t *testing.T, name string, n int) {
	t.Helper()
	var lines strings.Builder
	for i := range n {
		fmt.Fprintf(&lines, `{"accountId":"acme","channel":"EMAIL","type":"OPEN","trackingId":"t","notificationId":"n","userId":"u","id":"%s%d"}`+"\n", name, i)
	}
	w.ok(t, lines.String(), "send", "--topic", "channel.email", "--lines", "-")
}

// A webhook that was made too late gets what it has missed, each event once although the backfill is interrupted, with the ids that live
// deliveries would have had, and nothing that it had got.
func TestBackfill(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "channel.email")
	w.env = append(w.env, "FANOUT_ATTEMPTS_TOPIC=true", "FANOUT_KAFKA_PARTITIONS=2")
	first, late := newIDs(t), newIDs(t)
	w.apply(t, "first", first.url)
	r := w.start(t)
	r.await(t, "/readyz", 200, `"ready":true`)
	w.events(t, "missed", 40)
	until(t, func() (bool, string) { n, _ := first.got(); return n == 40, strconv.Itoa(n) })
	w.apply(t, "late", late.url)
	until(t, func() (bool, string) {
		_, _, body, err := remote{base: r.admin}.ask(t.Context(), "/api/v1/accounts/acme/subscriptions")
		return err == nil && strings.Contains(string(body), `"late"`), string(body)
	})
	until(t, func() (bool, string) { // it is in force
		w.events(t, "probe", 1)
		n, _ := late.got()
		return n == 1, strconv.Itoa(n)
	})
	w.events(t, "live", 3)
	until(t, func() (bool, string) { n, _ := late.got(); return n == 4, strconv.Itoa(n) })

	args := []string{"backfill", "channel.email", "--account", "acme", "--subscription", "late", "--since", "1h", "--name", "late", "--yes", "--admin", r.admin}
	out := w.ok(t, "", append(args, "--dry-run")...)
	if !strings.Contains(out, "would send 40 events to acme/late") || !strings.Contains(out, "4 not sent: delivered") {
		t.Fatal(out)
	}
	if n, _ := late.got(); n != 4 {
		t.Fatalf("a dry run sent %d", n-4)
	}

	ctx, interrupt := context.WithCancel(t.Context())
	var output writer
	a := &app{env: w.env, stdin: strings.NewReader(""), stdout: &output, stderr: &output, network: w.network}
	ended := make(chan int, 1)
	go func() { ended <- a.execute(ctx, append(args, "--rate", "20")) }()
	until(t, func() (bool, string) { n, _ := late.got(); return n > 8, strconv.Itoa(n) + output.String() })
	interrupt()
	if code := <-ended; code != 1 || !strings.Contains(output.String(), "repeat the command with --name late") {
		t.Fatalf("exit %d: %s", code, output.String())
	}
	out = w.ok(t, "", args...)
	if !strings.Contains(out, "not sent: this backfill sent them before") {
		t.Error(out)
	}
	until(t, func() (bool, string) { n, _ := late.got(); return n == 44, strconv.Itoa(n) })
	if n, all := late.got(); n != 44 || all != 44+late.times(webhook.EventID("acme", "EMAIL_OPEN", "probe0", "late"))-1 {
		t.Errorf("%d deliveries in %d requests", n, all)
	}
	for i := range 40 {
		if id := webhook.EventID("acme", "EMAIL_OPEN", fmt.Sprintf("missed%d", i), "late"); late.times(id) != 1 {
			t.Errorf("missed%d, %s: %d times", i, id, late.times(id))
		}
	}
	until(t, func() (bool, string) {
		out = w.ok(t, "", append(args, "--dry-run")...)
		return strings.Contains(out, "would send 0 events"), out
	})
	if n, _ := first.got(); n < 40 {
		t.Errorf("%d", n)
	}
	for _, test := range []struct {
		args string
		code int
		want string
	}{
		{"backfill channel.email --account acme --subscription nobody --since 1h --yes", 1, "account acme has no subscription nobody"},
		{"backfill channel.fax --account acme --subscription late --since 1h --yes", 2, "channel.fax"},
		{"backfill channel.email --account acme --subscription late --yes", 2, `"since" not set`},
		{"backfill channel.email --account acme --subscription late --since 1h --until 2h", 2, "nothing lies between them"},
		{"backfill channel.email --account acme --subscription late --since 1h --rate -1", 2, "must not be negative"},
	} {
		code, stdout, stderr := w.fanout(t, "", strings.Fields(test.args)...)
		if code != test.code || !strings.Contains(stdout+stderr, test.want) {
			t.Errorf("%s: exit %d, %s%s", test.args, code, stdout, stderr)
		}
	}
}

// A delivery is sent again with its id, be it delivered or dead; one that waits is refused, and a dead letter that was resent counts as
// replayed.
func TestResend(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "channel.email")
	w.env = append(w.env, "FANOUT_ATTEMPTS_TOPIC=true", "FANOUT_KAFKA_PARTITIONS=2", "FANOUT_DELIVERY_PERMANENT_STATUSES=400,410")
	receiver := newIDs(t)
	w.apply(t, "crm", receiver.url)
	r := w.start(t)
	r.await(t, "/readyz", 200, `"ready":true`)
	id := func(event string) string { return webhook.EventID("acme", "EMAIL_OPEN", event, "crm") }
	resend := func(event string, code int, want string) {
		t.Helper()
		until(t, func() (bool, string) { // what is in flight until the commit is refused
			got, stdout, stderr := w.fanout(t, "", "resend", id(event), "--yes", "--admin", r.admin)
			return got == code && strings.Contains(stdout+stderr, want), fmt.Sprintf("exit %d: %s%s", got, stdout, stderr)
		})
	}

	w.events(t, "good", 1)
	until(t, func() (bool, string) { n := receiver.times(id("good0")); return n == 1, strconv.Itoa(n) })
	resend("good0", 0, "which is delivered; its body is from the source record")
	until(t, func() (bool, string) { n := receiver.times(id("good0")); return n == 2, strconv.Itoa(n) })

	receiver.status.Store(http.StatusServiceUnavailable)
	w.events(t, "slow", 1)
	until(t, func() (bool, string) { n := receiver.times(id("slow0")); return n == 1, strconv.Itoa(n) })
	resend("slow0", 1, "it waits in fanout.retry.")

	receiver.status.Store(http.StatusBadRequest)
	w.events(t, "dead", 1)
	until(t, func() (bool, string) { n := receiver.times(id("dead0")); return n == 1, strconv.Itoa(n) })
	receiver.status.Store(http.StatusNoContent)
	resend("dead0", 0, "which is dead; its body is from the dead letter")
	until(t, func() (bool, string) { n := receiver.times(id("dead0")); return n == 2, strconv.Itoa(n) })
	if out := w.ok(t, "", "deadletter", "replay", "--id", id("dead0"), "--dry-run"); !strings.Contains(out, "sends 0 dead letters") && !strings.Contains(out, "would send 0 dead letters") {
		t.Error(out)
	}

	resend("unknown", 1, "nothing is known of such a delivery")
	if code, _, stderr := w.fanout(t, "", "resend", id("good0"), "--account", "other", "--yes"); code != 1 || !strings.Contains(stderr, "nothing is known") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if code, _, stderr := w.fanout(t, "", "resend", "msg_x"); code != 2 || !strings.Contains(stderr, "is not a webhook-id") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	w.ok(t, "", "subscriptions", "delete", "acme", "crm")
	resend("good0", 1, "there is no such subscription any more")
}

// A dry run of a replay says which receivers do not get at once what is sent: parked on any instance, paused, off, or gone.
func TestReplaySaysWhoDoesNotGetIt(t *testing.T) {
	t.Parallel()
	b := newBuried(t)
	until := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"lanes":[{"account":"acme","subscription":"crm","state":"parked","why":"parked: 12 failures in a row, last: status 503","until":"`+until+`"}]}`)
	}))
	t.Cleanup(other.Close)
	ask := func(admin ...string) string {
		t.Helper()
		args := []string{"deadletter", "replay", "--account", "acme", "--dry-run"}
		for _, one := range admin {
			args = append(args, "--admin", one)
		}
		return b.ok(t, "", args...)
	}
	if out := ask(b.admin); strings.Contains(out, "which is") {
		t.Errorf("of a receiver that is well:\n%s", out)
	}
	if out := ask(b.admin, other.URL); !strings.Contains(out, "3 of these go to acme/crm, which is parked until ") || !strings.Contains(out, "12 failures in a row, last: status 503") {
		t.Errorf("where another instance has it parked:\n%s", out)
	}
	apply := func(rest string) {
		t.Helper()
		b.ok(t, `{account: acme, id: crm, url: "`+other.URL+`", events: ["*"], `+rest+`}`, "subscriptions", "apply", "-f", "-")
	}
	apply("paused: true")
	if out := ask(b.admin); !strings.Contains(out, "3 of these go to acme/crm, which is paused: they wait") {
		t.Errorf("paused:\n%s", out)
	}
	apply("enabled: false")
	if out := ask(b.admin); !strings.Contains(out, "3 of these go to acme/crm, which is off: they will be discarded") {
		t.Errorf("off:\n%s", out)
	}
	b.ok(t, "", "subscriptions", "delete", "acme", "crm")
	other.Close()
	code, stdout, stderr := b.fanout(t, "", "deadletter", "replay", "--account", "acme", "--dry-run", "-o", "json", "--admin", other.URL)
	var plan operate.ReplayPlan
	if err := json.Unmarshal([]byte(stdout), &plan); err != nil || code != 0 {
		t.Fatalf("exit %d, %v: %s", code, err, stdout)
	}
	if len(plan.Receivers) != 1 || plan.Receivers[0].State != operate.ReceiverGone || plan.Receivers[0].Send != 3 || len(plan.Silent) != 1 || !strings.Contains(stderr, "whether receivers are parked is not known") {
		t.Errorf("gone: %+v, %s", plan, stderr)
	}
}
