//go:build !nodemo

package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/twmb/franz-go/pkg/kadm"

	"fanout/config"
)

// demoProcess is a running `fanout demo`, as a process of its own.
type demoProcess struct {
	cmd            *exec.Cmd
	stdout, stderr writer
	file           string // its configuration
	dashboard      string
	ended          chan struct{}
}

// startDemo starts a demo and waits until it is ready.
func startDemo(t *testing.T, env []string, args ...string) *demoProcess {
	t.Helper()
	d := &demoProcess{ended: make(chan struct{}), file: filepath.Join(t.TempDir(), "demo.yaml")}
	d.cmd = exec.CommandContext(t.Context(), "fanout", append([]string{"demo", "--config-file", d.file}, args...)...)
	d.cmd.Env = append(withoutFanout(), env...)
	d.cmd.Stdout, d.cmd.Stderr = &d.stdout, &d.stderr
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(d.ended)
		_ = d.cmd.Wait() // ProcessState has the status
	}()
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill()
		<-d.ended
	})
	until(t, func() (bool, string) {
		found := regexp.MustCompile(`(?m)^dashboard: (http://\S+)$`).FindStringSubmatch(d.stdout.String() + d.stderr.String())
		if found != nil {
			d.dashboard = found[1]
		}
		return found != nil, d.stdout.String() + d.stderr.String()
	})
	return d
}

// withoutFanout is this process's environment without what would configure fanout.
func withoutFanout() []string {
	return slices.DeleteFunc(os.Environ(), func(pair string) bool { return strings.HasPrefix(pair, "FANOUT_") })
}

// stop interrupts the demo, and returns its exit status once it has ended.
func (d *demoProcess) stop(t *testing.T) int {
	t.Helper()
	if err := d.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	return d.wait(t)
}

func (d *demoProcess) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-d.ended:
	case <-time.After(45 * time.Second):
		t.Fatalf("the demo goes on\n%s%s", d.stdout.String(), d.stderr.String())
	}
	return d.cmd.ProcessState.ExitCode()
}

// fanout runs a command in a second terminal, so to speak. What goes on until it is interrupted is interrupted after patience.
func (d *demoProcess) fanout(t *testing.T, patience time.Duration, stdin string, args ...string) (code int, output string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "fanout", args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	cmd.Dir, cmd.Env, cmd.Stdin = filepath.Dir(d.file), append(withoutFanout(), "FANOUT_CONFIG="+d.file), strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), string(out)
	}
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("fanout %s: %v", strings.Join(args, " "), err)
	}
	return 0, string(out)
}

func (d *demoProcess) ok(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	code, output := d.fanout(t, 20*time.Second, stdin, args...)
	if code != 0 {
		t.Fatalf("fanout %s: exit %d\n%s", strings.Join(args, " "), code, output)
	}
	return output
}

// testEvent asks the dashboard's instance for one.
func (d *demoProcess) testEvent(t *testing.T, account, id string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.dashboard+"/api/v1/accounts/"+account+"/subscriptions/"+id+"/test", strings.NewReader(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := new(http.Client).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Errorf("a test event: %s", answer.Status)
	}
}

// Whatever somebody does in a second terminal, the account balances: it counts deliveries, of which an event may have
// several, or none.
func TestDemoIsAPlayground(t *testing.T) {
	t.Parallel()
	d := startDemo(t, nil, "-o", "json")
	if info, err := os.Stat(d.file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the configuration: %v, %v; want mode 0600", info.Mode(), err)
	}
	var took atomic.Int64
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		took.Add(1)
	}))
	defer receiver.Close()
	d.ok(t, `{account: acme, id: mine, url: "`+receiver.URL+`", events: ["*"]}`, "subscriptions", "apply", "-f", "-")
	until(t, func() (bool, string) { return took.Load() > 20, "deliveries to the webhook that was added" })
	d.ok(t, "", "send", "--account", "acme", "--event", "EMAIL_OPEN", "--count", "3")
	d.ok(t, "", "send", "--account", "nobody", "--event", "EMAIL_OPEN")
	d.ok(t, `{"accountId":"acme","channel":"SMS","type":"OPEN","trackingId":"t","notificationId":"n","userId":"u"}`, "send", "--topic", "channel.sms", "-")
	d.ok(t, `{"accountId":`, "send", "--topic", "channel.email", "-")
	d.ok(t, "", "subscriptions", "test", "acme", "mine")
	d.testEvent(t, "acme", "mine")
	until(t, func() (bool, string) {
		code, output := d.fanout(t, 20*time.Second, "", "deadletter", "list", "--account", "initech", "--limit", "1", "-o", "json")
		return code == 0 && strings.Contains(output, "legacy"), output
	})
	d.ok(t, "", "deadletter", "replay", "--account", "initech", "--yes", "--max-failures", "0")
	d.ok(t, "", "subscriptions", "delete", "globex", "analytics")

	code := d.stop(t)
	var a lossAccount
	if err := json.Unmarshal([]byte(d.stdout.String()), &a); err != nil || code != 0 {
		t.Fatalf("exit %d, want 0 with an account: %v\n%s%s", code, err, d.stdout.String(), d.stderr.String())
	}
	if !a.Balanced || !a.Settled || a.Lost != 0 || a.Waiting != 0 || a.Deliver != a.Delivered+a.Dead+a.Discarded {
		t.Errorf("it does not balance: %+v", a)
	}
	if a.Others != 6 || a.Malformed != 1 || a.Ignored != 1 || a.Unmatched < 1 || a.Replayed < 1 || a.Deliver <= a.Events {
		t.Errorf("not all that was done is in the account: %+v", a)
	}
	if _, err := os.Stat(d.file); !os.IsNotExist(err) {
		t.Errorf("the configuration is still there: %v", err)
	}
}

// The dashboard listens where it is told to, or on a free port where that one is taken, and says so.
func TestDemoPorts(t *testing.T) {
	t.Parallel()
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	free, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = free.Close() // nobody else is given this port soon
	for name, c := range map[string]struct {
		env  []string
		args []string
		want string // the address; empty: any free one
	}{
		"variable":           {[]string{"FANOUT_ADMIN_LISTEN=" + free.Addr().String()}, nil, free.Addr().String()},
		"variable, taken":    {[]string{"FANOUT_ADMIN_LISTEN=" + taken.Addr().String()}, nil, ""},
		"flag over variable": {[]string{"FANOUT_ADMIN_LISTEN=127.0.0.1:1"}, []string{"--admin.listen", "127.0.0.1:0"}, ""},
		"neither":            {nil, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := startDemo(t, c.env, append(c.args, "--for", "200ms")...)
			if c.want != "" && d.dashboard != "http://"+c.want || d.dashboard == "http://"+taken.Addr().String() || strings.HasSuffix(d.dashboard, ":1") {
				t.Errorf("the dashboard is at %s, want %s", d.dashboard, c.want)
			}
			if status, _, _, err := (remote{base: d.dashboard}).ask(t.Context(), "/readyz"); err != nil || status != 200 {
				t.Errorf("/readyz: %d, %v", status, err)
			}
			if code := d.wait(t); code != 0 {
				t.Errorf("exit %d\n%s%s", code, d.stdout.String(), d.stderr.String())
			}
			if said := strings.Contains(d.stdout.String(), "("+taken.Addr().String()+" is taken)"); said != (name == "variable, taken") {
				t.Errorf("that the port is taken: %v\n%s", said, d.stdout.String())
			}
		})
	}
}

// An admin token that is set is asked for, and the written configuration has it.
func TestDemoWithToken(t *testing.T) {
	t.Parallel()
	token := strings.Repeat("s3cret-", 6)
	d := startDemo(t, []string{"FANOUT_ADMIN_TOKEN=" + token, "FANOUT_ADMIN_LISTEN=0.0.0.0:0", "FANOUT_KAFKA_BROKERS=" + nobody})
	if !strings.HasPrefix(d.dashboard, "http://127.0.0.1:") {
		t.Errorf("the dashboard is at %s", d.dashboard)
	}
	if status, _, _, err := (remote{base: d.dashboard}).ask(t.Context(), "/api/v1/status"); err != nil || status != http.StatusUnauthorized {
		t.Errorf("without the token: %d, %v", status, err)
	}
	d.ok(t, "", "top", "--once")
	if output := d.stdout.String(); strings.Contains(output, token) || !strings.Contains(output, "unset FANOUT_ADMIN_LISTEN FANOUT_KAFKA_BROKERS") {
		t.Errorf("want the variables that lead elsewhere, and no token:\n%s", output)
	}
}

// A second signal ends a demo that waits for its last deliveries, and the first one says so.
func TestDemoEndsAtOnce(t *testing.T) {
	t.Parallel()
	for _, second := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		d := startDemo(t, nil)
		until(t, func() (bool, string) { return strings.Contains(d.stdout.String(), "delivered"), d.stdout.String() })
		if err := d.cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		until(t, func() (bool, string) {
			return strings.Contains(d.stdout.String(), "Ctrl-C again ends the demo at once"), d.stdout.String()
		})
		began := time.Now()
		if err := d.cmd.Process.Signal(second); err != nil {
			t.Fatal(err)
		}
		if code := d.wait(t); code != 130 || time.Since(began) > 5*time.Second {
			t.Errorf("exit %d after %s, want 130 at once", code, time.Since(began))
		}
		if output := d.stdout.String(); !strings.Contains(output, "not all have ended") || strings.Contains(output, "nothing lost") {
			t.Errorf("the account says\n%s", output)
		}
		if _, err := os.Stat(d.file); !os.IsNotExist(err) {
			t.Errorf("the configuration is still there: %v", err)
		}
	}
}

// Each command of the README works on the demo, in its tables and in its blocks.
func TestReadmeOnTheDemo(t *testing.T) {
	t.Parallel()
	page := documents(t)["README.md"]
	d := startDemo(t, nil)
	text, err := os.ReadFile(d.file)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(d.file)
	next := strings.Replace(string(text), "bounced: FAILED", "bounce: FAILED", 1)
	if err := os.WriteFile(filepath.Join(dir, "next.yaml"), []byte(next), 0o600); err != nil || next == string(text) {
		t.Fatalf("another mapping: %v\n%s", err, next)
	}
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer receiver.Close()
	if err := os.WriteFile(filepath.Join(dir, "subscriptions.yaml"), []byte(`{account: acme, id: second, url: "`+receiver.URL+`", events: [EMAIL_OPEN]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, func() (bool, string) { // what explain is asked about is there soon
		code, output := d.fanout(t, 20*time.Second, "", "explain", "channel.email/3/42")
		return code == 0, output
	})
	commands := append(inlineCommands(page, true), []string{"check"}) // which running text names
	for _, line := range commandLines(page) {
		if line.whole {
			commands = append(commands, line.words)
		}
	}
	ran := 0
	for _, words := range commands {
		command, want := strings.Join(words, " "), 0
		switch words[0] {
		case "demo":
			continue // it is what runs
		case "diff":
			want = 1 // deliveries vanish
		case "audit":
			want = 3 // a subscription was added after some of the records: of their account, audit cannot judge
		}
		ran++
		patience := time.Minute
		if words[0] == "tail" {
			patience = 2 * time.Second
		}
		if code, output := d.fanout(t, patience, "", words...); code != want || len(output) == 0 {
			t.Errorf("fanout %s: exit %d, want %d\n%s", command, code, want, output)
		}
	}
	if ran < 10 {
		t.Errorf("only %d commands were run", ran)
	}
	redis := regexp.MustCompile(`(?m)^Redis: +redis://([0-9.]+):(\d+)/0$`).FindStringSubmatch(d.stdout.String())
	job := regexp.MustCompile(`(?m)^ *(redis-cli .*)$`).FindAllString(page, -1)
	if redis == nil || len(job) != 2 {
		t.Fatalf("Redis is at %v, and the page has %d commands for it", redis, len(job))
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-euc", respInBash+strings.Join(job, "\n"))
	cmd.Env = append(os.Environ(), "REDIS="+redis[1], "REDIS_PORT="+redis[2])
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("a config sync job: %v\n%s", err, output)
	}
	if code := d.stop(t); code != 0 {
		t.Errorf("exit %d\n%s%s", code, d.stdout.String(), d.stderr.String())
	}
}

// A configuration that somebody else has written is left alone; that of a demo which was killed is not.
func TestDemoFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "fanout.yaml")
	if err := os.WriteFile(file, []byte("kafka: {brokers: [kafka-1:9092]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out writer
	code := run(t.Context(), []string{"demo", "--for", "100ms", "--config-file", file}, nil, nil, &out, &out)
	if text, err := os.ReadFile(file); code != 1 || err != nil || !strings.Contains(string(text), "kafka-1") || !strings.Contains(out.String(), file) {
		t.Errorf("exit %d, want 1 and the file as it was: %s, %v\n%s", code, text, err, out.String())
	}
	if err := os.WriteFile(file, []byte(demoHeading+"kafka: {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if code := run(t.Context(), []string{"demo", "--for", "100ms", "--config-file", file}, nil, nil, &out, &out); code != 0 {
		t.Errorf("exit %d, want 0\n%s", code, out.String())
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("the file is still there: %v", err)
	}
}

// What makes no sense is refused, with the remedy.
func TestDemoBadInput(t *testing.T) {
	t.Parallel()
	for args, c := range map[string]struct {
		env  string
		code int
		want []string
	}{
		"--for -1s":          {"", 2, []string{"--for -1s: want a duration above 0, as in 10s, or 0 to run until it is stopped"}},
		"--for soon":         {"", 2, []string{"soon"}},
		"--rate 0":           {"", 2, []string{"--rate 0: want 1 to 10000 events a second"}},
		"--rate 10001":       {"", 2, []string{"want 1 to 10000"}},
		"--config demo.yaml": {"", 2, []string{"--config demo.yaml: the demo reads no configuration", "--config-file says where it writes its own"}},
		"now":                {"", 2, []string{"now"}},
		"--for 1s":           {"FANOUT_ADMIN_LISTEN=0.0.0.0:0", 1, []string{"admin.listen", "0.0.0.0:0", "needs a token"}},
		"--for 2s":           {"FANOUT_ADMIN_LISTEN=192.0.2.1:8080", 1, []string{"needs a token"}},
		"--admin-listen x":   {"", 1, []string{"--admin-listen", "want host:port"}},
		"--for 1s --config-file " + filepath.Join(t.TempDir(), "nowhere", "demo.yaml"): {"", 1, []string{"--config-file", "no such file or directory"}},
		"--for 3s": {"FANOUT_ADMIN_LISTEN=127.0.0.1:1", 1, []string{"--admin-listen or FANOUT_ADMIN_LISTEN says where"}},
	} {
		if c.env == "FANOUT_ADMIN_LISTEN=127.0.0.1:1" && os.Getuid() == 0 {
			continue // who may listen everywhere
		}
		var out writer
		code := run(t.Context(), append([]string{"demo"}, strings.Fields(args)...), []string{c.env}, nil, &out, &out)
		for _, want := range c.want {
			if code != c.code || !strings.Contains(out.String(), want) {
				t.Errorf("%s %s: exit %d, want %d with %q\n%s", c.env, args, code, c.code, want, out.String())
			}
		}
		if strings.Contains(out.String(), "dashboard") && c.code == 2 {
			t.Errorf("%s: it began\n%s", args, out.String())
		}
	}
}

// Whoever stops the demo before it is ready has nothing to be told.
func TestDemoStoppedEarly(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out writer
	file := filepath.Join(t.TempDir(), "demo.yaml")
	if code := run(ctx, []string{"demo", "--config-file", file}, nil, nil, &out, &out); code != 0 || !strings.Contains(out.String(), "Stopped before it was ready") {
		t.Errorf("exit %d, want 0\n%s", code, out.String())
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("the configuration is still there: %v", err)
	}
}

// Old records are deleted, so that a demo may run for days, and what was settled stays so.
func TestDemoForgets(t *testing.T) {
	t.Parallel()
	o, err := newOutside(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer o.close()
	cfg := config.Default()
	o.configure(&cfg)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	traffic := &traffic{receivers: o.receivers, brokers: cfg.Kafka.Brokers, rate: 1000}
	if err := traffic.run(ctx, func() {}); err != nil {
		t.Fatal(err)
	}
	held := func() (n int64) {
		starts, err := o.client.ListStartOffsets(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ends, err := o.client.ListEndOffsets(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ends.Each(func(end kadm.ListedOffset) {
			start, _ := starts.Lookup(end.Topic, end.Partition)
			n += end.Offset - start.Offset
		})
		return n
	}
	sent := traffic.sent.Load()
	o.deleteBefore(t.Context(), time.Now().Add(-time.Minute))
	if n := held(); n != sent || sent == 0 {
		t.Errorf("%d records are held of the %d that were sent just now", n, sent)
	}
	if rest, err := o.atRest(t.Context(), &cfg); rest || err != nil {
		t.Errorf("nobody has read them, and they are settled: %v", err)
	}
	o.deleteBefore(t.Context(), time.Now().Add(time.Minute))
	if n := held(); n != 0 {
		t.Errorf("%d records are held, want none", n)
	}
}

// A receiver counts a webhook-id once, and remembers no more of them than it has to.
func TestReceiverRemembers(t *testing.T) {
	t.Parallel()
	r := &receiver{recent: map[string]struct{}{}}
	for n := range 3 * remembered {
		id := strconv.Itoa(n)
		r.take(id)
		r.take(id)
		r.take(strconv.Itoa(max(0, n-remembered/2))) // a repeat
	}
	if r.received() != 3*remembered || len(r.recent)+len(r.older) > 2*remembered {
		t.Errorf("%d were counted, want %d; %d are remembered", r.received(), 3*remembered, len(r.recent)+len(r.older))
	}
}

// The account notices what is lost, and takes nothing else for a loss.
func TestLossAccount(t *testing.T) {
	t.Parallel()
	type counts map[string]float64 // by metric and labels, as in "outcomes first delivered"
	metricNames := map[string]string{
		"records": "fanout_records_total", "deliveries": "fanout_deliveries_total", "in_flight": "fanout_in_flight", "outcomes": "fanout_outcomes_total",
	}
	labelsOfMetric := map[string][]string{"records": {"result"}, "deliveries": {"stage"}, "in_flight": {"stage"}, "outcomes": {"stage", "outcome"}}
	plain := func(more counts) counts {
		all := counts{"records event": 10, "deliveries first": 10, "outcomes first delivered": 6, "outcomes first retry": 4, "deliveries retry": 4, "outcomes retry dead": 4}
		for name, n := range more {
			all[name] += n
		}
		return all
	}
	for name, c := range map[string]struct {
		counts   counts
		change   func(*lossAccount)
		balanced bool
		lost     int
	}{
		"plain":                        {plain(nil), nil, true, 0},
		"an event that was never read": {plain(counts{"records event": -1, "deliveries first": -1, "outcomes first delivered": -1}), nil, false, 1},
		"a delivery without an end":    {plain(counts{"outcomes retry dead": -1, "deliveries retry": -1}), nil, false, 1},
		"a stage that swallows one":    {plain(counts{"outcomes first delivered": -1}), nil, false, 1},
		"one delivery that ends twice": {plain(counts{"outcomes retry dead": 1, "deliveries retry": 1}), nil, false, -1},
		"a webhook was added":          {plain(counts{"deliveries first": 5, "outcomes first delivered": 5}), func(a *lossAccount) { a.untouched = false }, true, 0},
		"the receivers did not see it": {plain(nil), func(a *lossAccount) { a.Received = 5 }, false, 0},
		"a signature is bad":           {plain(nil), func(a *lossAccount) { a.Unsigned = 1 }, false, 0},
		"a replay":                     {plain(counts{"deliveries replay": 2, "outcomes replay delivered": 2}), func(a *lossAccount) { a.untouched = false }, true, 0},
		"a partition moved":            {plain(counts{"records event": 3, "deliveries first": 3, "outcomes first abandoned": 3}), nil, true, 0},
		"a retry's partition moved":    {plain(counts{"deliveries retry": 3, "outcomes retry abandoned": 3}), nil, true, 0},
		"discarded":                    {plain(counts{"outcomes retry dead": -1, "outcomes retry discarded": 1}), nil, true, 0},
		"unmatched and malformed":      {plain(counts{"records unmatched": 3, "records malformed": 2}), nil, true, 0},
		"in flight":                    {plain(counts{"deliveries first": 1, "in_flight first": 1}), nil, false, 1},
		"another instance": {plain(counts{"outcomes retry dead": -4, "deliveries retry": -4}), func(a *lossAccount) {
			a.Shared = true
		}, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			families := make(map[string]*dto.MetricFamily)
			for name, n := range c.counts {
				words := strings.Fields(name)
				metric := &dto.Metric{Counter: &dto.Counter{Value: &n}}
				for i, label := range labelsOfMetric[words[0]] {
					metric.Label = append(metric.Label, &dto.LabelPair{Name: &label, Value: &words[i+1]})
				}
				family := families[words[0]]
				if family == nil {
					family = &dto.MetricFamily{Name: new(metricNames[words[0]])}
					families[words[0]] = family
				}
				family.Metric = append(family.Metric, metric)
			}
			a := lossAccount{Events: 10, Received: 6, untouched: true}
			a.read(slices.Collect(maps.Values(families)))
			if c.change != nil {
				c.change(&a)
			}
			a.judge(true)
			if a.Balanced != c.balanced || a.Lost != c.lost || (a.problem() == nil) != c.balanced {
				t.Errorf("balanced %v, lost %d, %v; want %v, %d\n%+v", a.Balanced, a.Lost, a.problem(), c.balanced, c.lost, a)
			}
			if a.judge(false); a.Balanced || a.problem() == nil {
				t.Errorf("not all has ended, and it balances: %+v", a)
			}
		})
	}
}
