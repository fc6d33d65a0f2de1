package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"fanout/operate"
)

// found runs find for a program.
func (b *buried) found(t *testing.T, args ...string) operate.Found {
	t.Helper()
	var out operate.Found
	if err := json.Unmarshal([]byte(b.ok(t, "", append([]string{"find", "-o", "json"}, args...)...)), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// A delivery is found by whatever a customer knows of it, the newest first, with its attempts and where it is.
func TestFind(t *testing.T) {
	t.Parallel()
	b := newBuried(t)
	b.status.Store(503)
	b.ok(t, "", "send", "--account", "acme", "--event", "SMS_FAILED", "--topic", "channel.email", "--tracking-id", "late one", "--user-id", "zoé")
	b.await(t, "/metrics", 200, `fanout_outcomes_total{outcome="retry",reason="status",stage="first"} 1`)
	b.ok(t, "", "send", "--account", "nobody", "--event", "SMS_FAILED", "--topic", "channel.email", "--tracking-id", "for nobody")
	b.await(t, "/metrics", 200, `fanout_records_total{result="unmatched",source="channel.email"} 1`)
	until(t, func() (bool, string) { // a record is written a moment after its outcome is counted
		out := b.found(t, "--account", "acme")
		return len(out.Deliveries) == 5, b.ok(t, "", "find", "--account", "acme")
	})

	all := b.found(t, "--account", "acme").Deliveries
	newest := all[0]
	if newest.TrackingID != "late one" || newest.Outcome != "retry" || newest.Waiting == nil || newest.Waiting.Topic != "fanout.retry.5s" || len(newest.Attempts) != 1 {
		t.Errorf("the newest: %+v", newest)
	}
	for i, d := range all[1:] {
		if d.Time.After(all[i].Time) {
			t.Errorf("%d is newer than the one before", i+1)
		}
	}
	for _, test := range []struct {
		args string
		want int
	}{
		{"--account acme --outcome dead", 3},
		{"--account acme --status 400", 3},
		{"--account acme --event EMAIL_CLICK", 1},
		{"--account acme --subscription crm --outcome delivered", 1},
		{"--account acme --subscription other", 0},
		{"--account acme --user-id zoé", 1},
		{"--webhook-id " + newest.ID, 1},
		{"--account acme --until 1h --since 2h", 0},
		{"--account globex", 0},
		{"--account acme --limit 2", 2},
	} {
		if out := b.found(t, strings.Fields(test.args)...); len(out.Deliveries) != test.want || (out.Cursor != "") != strings.Contains(test.args, "--limit") {
			t.Errorf("find %s: %d deliveries, want %d; cursor %q", test.args, len(out.Deliveries), test.want, out.Cursor)
		}
	}
	dead := b.found(t, "--account", "acme", "--outcome", "dead").Deliveries
	if len(dead) == 0 || dead[0].Dead == nil || dead[0].Dead.Reason != "permanent_status" {
		t.Fatalf("dead: %+v", dead)
	}
	for _, test := range []struct{ args, want string }{
		{"find|--account|acme|--tracking-id|late one", "waiting in fanout.retry.5"},
		{"find|--account|acme|--tracking-id|late one", "trackingId late one"},
		{"find|--account|acme|--outcome|dead", "dead letter"},
		{"find|--account|acme", "dead (permanent_status)"},
		{"find|--account|nobody|--tracking-id|for nobody", "no attempt was made; the sources hold 1 record"},
		{"find|--account|nobody|--tracking-id|for nobody", "the account has no subscription"},
		{"find|--account|acme|--tracking-id|never", "it was never produced"},
		{"explain|--account|acme|--tracking-id|late one", "selects SMS_FAILED"},
		{"explain|--account|nobody|--tracking-id|for nobody", "unmatched"},
		{"explain|--webhook-id|" + dead[0].ID, "attempt 1"},
	} {
		if out := b.ok(t, "", strings.Split(test.args, "|")...); !strings.Contains(out, test.want) {
			t.Errorf("fanout %s: no %q in\n%s", test.args, test.want, out)
		}
	}
	for _, test := range []struct{ args, want string }{
		{"find", "give --account, or --webhook-id"},
		{"find --account acme --outcome deliverd", "did you mean delivered?"},
		{"find --account acme --event EMAIL_OPENED", "did you mean EMAIL_OPEN?"},
		{"find --account acme --since yesterday", "want a time like"},
		{"find --account acme --since 1h --until 2h", "nothing lies between them"},
		{"find --account acme --limit -1", "--limit is not negative"},
		{"explain", "give one of"},
		{"explain channel.email/0/0 --account acme", "give one of"},
	} {
		if code, _, stderr := b.fanout(t, "", strings.Fields(test.args)...); code != 2 || !strings.Contains(stderr, test.want) {
			t.Errorf("fanout %s: exit %d, %s", test.args, code, stderr)
		}
	}
}

// Whatever shows attempts says in which batch a delivery went out, by the webhook-id that the receiver has seen, and how many it had.
func TestBatchesAreShown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "channel.email")
	w.env = append(w.env, "FANOUT_ATTEMPTS_TOPIC=true")
	var status atomic.Int64
	var last atomic.Value // webhook-id of the request
	status.Store(http.StatusNoContent)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		last.Store(r.Header.Get("webhook-id"))
		w.WriteHeader(int(status.Load()))
	}))
	t.Cleanup(receiver.Close)
	w.ok(t, `{account: acme, id: crm, url: "`+receiver.URL+`", events: ["*"], batch: {max: 3, wait: 5s}}`, "subscriptions", "apply", "-f", "-")
	r := w.start(t)
	r.await(t, "/readyz", 200, `"ready":true`)

	sent := func(name, outcome string) (*operate.FoundDelivery, string) {
		t.Helper()
		w.events(t, name, 3)
		var found operate.Found
		until(t, func() (bool, string) {
			out := w.ok(t, "", "find", "--account", "acme", "--outcome", outcome, "-o", "json")
			return json.Unmarshal([]byte(out), &found) == nil && len(found.Deliveries) == 3, out
		})
		return found.Deliveries[0], fmt.Sprint(last.Load())
	}
	d, batch := sent("fine", "delivered")
	if a := d.Attempts[0]; a.Batch != batch || a.BatchSize != 3 || a.ID == batch {
		t.Errorf("the attempt: %+v, want the batch %s", a, batch)
	}
	status.Store(http.StatusGone)
	dead, gone := sent("gone", "dead")
	for _, test := range []struct{ args, want string }{
		{"find --webhook-id " + d.ID, "delivered, one of 3 in " + batch},
		{"explain --webhook-id " + d.ID, "one of 3 in " + batch},
		{"audit channel.email --account acme --subscription crm", "delivered, one of 3 in " + batch},
		{"audit channel.email --account acme --subscription crm -o ndjson", `"batch":"` + batch + `","batchSize":3`},
		{"deadletter show " + dead.ID, "one of 3 in " + gone},
		{"deadletter show " + dead.ID, `[{"id":"` + dead.ID + `",`}, // the command that sends it again by hand
	} {
		until(t, func() (bool, string) { // a command reads the topics a moment after the receiver was asked
			out := w.ok(t, "", strings.Fields(test.args)...)
			return strings.Contains(strings.Join(strings.Fields(out), " "), test.want), fmt.Sprintf("fanout %s: no %q in\n%s", test.args, test.want, out)
		})
	}
}
