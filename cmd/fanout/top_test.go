package main

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"fanout/config"
	"fanout/operate"
	"fanout/topic"
)

// answering is an instance that answers so to every question.
func answering(t *testing.T, body string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }))
	t.Cleanup(s.Close)
	return s.URL
}

// hanging is an address that takes connections and never says a word.
func hanging(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
		}
	}()
	return l.Addr().String()
}

// While Kafka hangs, top does not say that nothing waits: it says that this is unknown, and why.
func TestTopWhileKafkaHangs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cfg, _, err := config.Load("", false, append(w.env, "FANOUT_KAFKA_BROKERS="+hanging(t)), nil)
	if err != nil {
		t.Fatal(err)
	}
	admin, err := topic.NewCluster(cfg.Topic())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	for format, wants := range map[string][]string{
		"table": {"in flight 0  queued 0  waiting in retry topics ?\n", "the retry topics cannot be read: no answer from Kafka\n", "nothing is under way; what waits in the retry topics is unknown\n"},
		"json":  {`"inFlight": 0`, `"waiting": null`, `"tiersProblem": "no answer from Kafka"`},
	} {
		var out writer
		instances := &fleet{admins: []string{answering(t, `{"lanes":[]}`)}}
		top := &topper{output: &output{stdout: &out, stderr: &out, format: format}, fleet: instances, cfg: &cfg, rows: 30, sort: "load", backlog: operate.NewBacklogReader(admin, 300*time.Millisecond)}
		if err := top.once(t.Context()); err != nil {
			t.Errorf("%s: %v", format, err)
		}
		for _, want := range wants {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: want %q\n%s", format, want, out.String())
			}
		}
	}
}

// What an instance says is amiss stands above the load: an open transaction holds back what no lane knows of.
func TestTopShowsWhatIsAmiss(t *testing.T) {
	t.Parallel()
	cfg, _, err := config.Load("", false, newWorld(t).env, nil)
	if err != nil {
		t.Fatal(err)
	}
	one := answering(t, `{"lanes":[],"ready":true,"checks":[{"name":"redis","ready":true},{"name":"kafka","ready":true,"detail":"email/0: an open transaction"}]}`)
	for format, want := range map[string]string{
		"table": one + " says: kafka: email/0: an open transaction\n",
		"json":  `"notes": {` + "\n    \"" + one + `": "kafka: email/0: an open transaction"`,
	} {
		var out writer
		top := &topper{output: &output{stdout: &out, stderr: &out, format: format}, fleet: &fleet{admins: []string{one}}, cfg: &cfg, rows: 30, sort: "load"}
		if err := top.once(t.Context()); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("%s: %v, want %q\n%s", format, err, want, out.String())
		}
	}
}

// What was read of the retry topics stays, with its time, when they cannot be read any more.
func TestTopKeepsWhatWasRead(t *testing.T) {
	t.Parallel()
	read := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	view := operate.NewTop(read.Add(time.Minute), []operate.InstanceLanes{{Instance: "http://one"}}, operate.BacklogState{
		Backlogs: map[string]*operate.Backlog{"acme/crm": {Account: "acme", Subscription: "crm", Waiting: map[string]int{"fanout.retry.5m": 7}, Oldest: read}},
		Read:     read, Problem: errors.New("no answer from Kafka"),
	}, true)
	text := strings.Join(topLines(&view, 0, 10), "\n")
	if !strings.Contains(text, "waiting in retry topics 7\nthe retry topics are shown as of 03:04:05, they cannot be read: no answer from Kafka") || !strings.Contains(text, "5m:7") {
		t.Error(text)
	}
}

// The states of subscriptions that no instance has a lane for: as Redis has them, and unknown where that is not enough.
func TestTopStates(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "channel.email")
	for id, stored := range map[string]string{
		"held": `{"url":"https://example.com/","events":["*"],"paused":true}`, "off": `{"url":"https://example.com/","events":["*"],"enabled":false}`,
		"on": `{"url":"https://example.com/","events":["*"]}`,
	} {
		w.redis.HSet("fanout:account:acme", id, stored)
	}
	w.ok(t, "", "topics", "create")
	admin := w.client(t)
	for _, id := range []string{"held", "off", "on", "gone"} {
		if _, err := admin.Send(t.Context(), "fanout.retry.5m", []byte("acme/"+id), []byte("{}"), nil); err != nil {
			t.Fatal(err)
		}
	}
	until := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	lanes := answering(t, `{"lanes":[
		{"account":"b","subscription":"asked","state":"open","why":"the receiver asked for a pause (Retry-After)","until":"`+until+`","inFlight":2,"queued":1},
		{"account":"b","subscription":"ill","state":"parked","why":"parked: 12 failures in a row since 2026-11-28T21:33:02Z, last: status 503","since":"2026-11-28T21:33:02Z","until":"`+until+`","failures":12},
		{"account":"b","subscription":"paused","state":"limited","paused":true,"why":"paused by its configuration"}]}`)
	states := func(args ...string) (map[string]operate.TopRow, map[string]any) {
		t.Helper()
		out := w.ok(t, "", append([]string{"top", "-o", "json"}, args...)...)
		var view struct{ Subscriptions []operate.TopRow }
		var plain map[string]any
		if err := errors.Join(json.Unmarshal([]byte(out), &view), json.Unmarshal([]byte(out), &plain)); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		rows := map[string]operate.TopRow{}
		for _, r := range view.Subscriptions {
			rows[r.Subscription] = r
		}
		return rows, plain
	}
	rows, _ := states("--admin", lanes)
	for id, want := range map[string]string{"held": "paused", "off": "disabled", "on": "idle", "gone": "deleted", "asked": "held", "ill": "parked", "paused": "paused"} {
		if r := rows[id]; r.State != want || r.Share == nil || r.Waiting == nil {
			t.Errorf("%s is %s, want %s: %+v", id, r.State, want, r)
		}
	}
	if r := rows["ill"]; r.Why != "12 failures in a row, last: status 503" || r.Until == nil {
		t.Errorf("why it is parked: %q until %v", r.Why, r.Until)
	}

	// An instance that does not answer may have lanes that nobody knows of.
	rows, plain := states("--admin", lanes, "--admin", nobody)
	if rows["on"].State != "unknown" || rows["held"].State != "paused" || rows["asked"].State != "held" || rows["on"].Share != nil {
		t.Errorf("with an instance away: %+v", rows)
	}
	if silent, _ := plain["silent"].(map[string]any); len(silent) != 1 {
		t.Errorf("silent: %v", plain["silent"])
	}
	text := w.ok(t, "", "top", "--admin", lanes, "--admin", nobody)
	for _, want := range []string{"1 instance answered\nno answer: http://" + nobody + ": connection refused\n", `\? +acme +on +unknown`, `b +asked +held .* until \d\d:\d\d:\d\d: the receiver asked for a pause`} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("want %s\n%s", want, text)
		}
	}

	// With no instance at all, what is under way is unknown.
	rows, plain = states("--admin", nobody)
	if r := rows["on"]; r.State != "unknown" || r.InFlight != nil || r.Queued != nil || plain["inFlight"] != nil || plain["waiting"] != 4.0 {
		t.Errorf("with no instance: %+v, %v", r, plain)
	}

	// And without Redis, how subscriptions are configured is.
	rows, plain = states("--admin", lanes, "--redis-url", "redis://"+nobody)
	if rows["held"].State != "unknown" || rows["gone"].State != "unknown" || rows["paused"].State != "paused" || plain["statesProblem"] == nil {
		t.Errorf("without Redis: %+v, %v", rows, plain)
	}
}

// Each order is that of its name, and ends with the names.
func TestTopOrders(t *testing.T) {
	t.Parallel()
	long, short := time.Now().Add(-time.Hour), time.Now().Add(-time.Minute)
	rows := []operate.TopRow{
		{Account: "a", InFlight: new(1), Queued: new(0), Waiting: new(90), Pace: new(1.0), Oldest: &short},
		{Account: "b", InFlight: new(50), Queued: new(0), Waiting: new(0), Pace: new(9.0), FailingSince: &short},
		{Account: "c", InFlight: new(0), Queued: new(60), Waiting: new(0), Pace: new(0.5), Oldest: &long, FailingSince: &long},
		{Account: "d"},
	}
	for order, want := range map[string]string{
		"load": "acbd", "in-flight": "bacd", "waiting": "acbd", "pace": "bacd", "oldest": "cabd", "failing": "cbad", "name": "abcd", "": "acbd",
	} {
		view := operate.Top{Rows: append([]operate.TopRow{rows[3], rows[1]}, rows[0], rows[2])}
		view.Sort(order)
		var accounts []string
		for _, r := range view.Rows {
			accounts = append(accounts, r.Account)
		}
		if got := strings.Join(accounts, ""); got != want {
			t.Errorf("by %s: %s, want %s", order, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 45 * time.Second: "45s", 12 * time.Minute: "12m", 3*time.Hour + 5*time.Minute: "3h5m", 52 * time.Hour: "2d4h",
	} {
		if got := ageText(d); got != want {
			t.Errorf("%s is shown as %s, want %s", d, got, want)
		}
	}
	if got := tierText(map[string]int{"fanout.retry.30m": 7, "fanout.retry.5s": 3, "fanout.replay": 1, "fanout.retry.1m30s": 2}); got != "replay:1 5s:3 1m30s:2 30m:7" {
		t.Errorf("tiers: %s", got)
	}
}
