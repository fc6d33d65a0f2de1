//go:build clients

package clients_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fanout/cmd/internal/lab"
)

// stage is what the tests share: Apache Kafka and the built program.
type stage struct {
	lab     *lab.Lab
	kafka   *lab.Kafka
	program string
}

var theStage = sync.OnceValues(func() (*stage, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	l, err := lab.New()
	if err != nil {
		return nil, err
	}
	atEnd = l.Close
	s := &stage{lab: l}
	if s.program, err = l.Build(ctx); err == nil {
		s.kafka, err = l.Kafka(ctx, lab.KafkaConfig{})
	}
	return s, err
})

// atEnd ends what the tests share.
var atEnd = func() {}

func TestMain(m *testing.M) {
	code := m.Run()
	atEnd()
	os.Exit(code)
}

// site is one test's part of the stage: a Redis, a receiver, topics that bear its name, and `fanout run` on them.
type site struct {
	*stage

	redis    *lab.Redis
	receiver *lab.Receiver
	fanout   *lab.Fanout

	subscribed int
}

// newSite starts fanout on source topics of one partition.
func newSite(t *testing.T, name string, topics ...string) *site {
	t.Helper()
	lab.RequireKafka(t)
	lab.RequireTools(t, "kcat", "redis-server", "redis-cli")
	if _, err := os.Stat(fetched(t, "stamp")); err != nil {
		t.Fatalf("%v: run `make test-clients`, which fetches the clients", err)
	}
	shared, err := theStage()
	if err != nil {
		t.Fatal(err)
	}
	s := &site{stage: shared}
	ctx := within(t, time.Minute)
	if s.receiver, err = s.lab.Receiver(lab.KeepAll); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.receiver.Stop)
	if s.redis, err = s.lab.Redis(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.redis.Kill() })
	var sources []lab.Config
	var create []lab.Topic
	for _, topic := range topics {
		sources = append(sources, lab.Config{"topic": topic})
		create = append(create, lab.Topic{Name: topic})
	}
	if err := s.kafka.CreateTopics(ctx, create...); err != nil {
		t.Fatal(err)
	}
	s.fanout, err = s.lab.Fanout(s.program, s.kafka, s.redis, func(c lab.Config) {
		c.Set("topics.prefix", name).Set("kafka.group", name).Set("kafka.retry_partitions", 1).Set("sources", sources).
			Set("delivery.schedule", []string{"1s", "1h"})
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if text, err := os.ReadFile(s.fanout.Log()); t.Failed() && err == nil {
			t.Logf("fanout's log ends with\n%s", text[max(0, len(text)-4000):])
		}
		_ = s.fanout.Kill()
	})
	if err := s.fanout.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	return s
}

// subscribe writes a subscription that takes all events, and waits until it is in force.
func (s *site) subscribe(t *testing.T, account, id, url, rest string) {
	t.Helper()
	s.subscribed++
	if err := s.redis.PutSubscription(t.Context(), account, id, `{"url":"`+url+`","events":["*"]`+rest+`}`); err != nil {
		t.Fatal(err)
	}
	s.inForce(t, s.subscribed)
}

// inForce waits until fanout knows n subscriptions, and says how long that took: docs/contract.md#changes-in-force promises
// a second.
func (s *site) inForce(t *testing.T, n int) time.Duration {
	t.Helper()
	began := time.Now()
	await(t, 5*time.Second, strconv.Itoa(n)+" subscriptions in force", func() bool {
		m, err := s.fanout.Metrics(t.Context())
		return err == nil && m.Sum("fanout_subscriptions", `state="enabled"`) == float64(n)
	})
	return time.Since(began)
}

// events are n raw events of an account, one a line. They look alike, so that each codec has something to save.
func events(account string, from, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"accountId":%q,"channel":"EMAIL","type":"OPEN","trackingId":"t%d","notificationId":"Grüße “✓” 日本","userId":"user-123","id":"%s-%d"}`+"\n", account, from+i, account, from+i)
	}
	return b.String()
}

// body is the payload that receivers get for one of events.
func body(i int) string {
	return fmt.Sprintf(`{"eventType":"OPEN","trackingId":"t%d","notificationId":"Grüße “✓” 日本","channel":"EMAIL","userId":"user-123"}`, i)
}

// client is a program that is not ours.
type client struct {
	name string
	args []string
	dir  string
	env  []string

	onlyV1 bool // a receiver whose language has no Ed25519
}

// ran is what it did.
type ran struct {
	code   int
	output string // of stdout and stderr
}

func (c client) run(t *testing.T, stdin io.Reader, env []string, args ...string) ran {
	t.Helper()
	var output bytes.Buffer
	cmd := c.command(within(t, time.Minute), env, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &output, &output
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return ran{cmd.ProcessState.ExitCode(), output.String()}
}

func (c client) command(ctx context.Context, env []string, args ...string) *exec.Cmd {
	args = append(append([]string(nil), c.args...), args...)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = c.dir
	cmd.Env = append(append(os.Environ(), c.env...), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// example is the path of a file of docs/examples.
func example(t *testing.T, path ...string) string {
	t.Helper()
	return filepath.Join(append([]string{rootOf(t), "docs", "examples"}, path...)...)
}

// fetched is the path of what testdata/clients/fetch.sh brought.
func fetched(t *testing.T, path ...string) string {
	t.Helper()
	return filepath.Join(append([]string{rootOf(t), ".real", "clients"}, path...)...)
}

func rootOf(t *testing.T) string {
	t.Helper()
	root, err := lab.Root()
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// python runs a file of docs/examples with what was fetched from PyPI.
func python(t *testing.T, path ...string) client {
	t.Helper()
	return client{name: "python", args: []string{fetched(t, "python", "bin", "python3"), example(t, path...)}}
}

// node does so with what npm brought: it looks for that above the file, so the file is copied.
func node(t *testing.T, path ...string) client {
	t.Helper()
	dir := t.TempDir()
	text, err := os.ReadFile(example(t, path...))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "main.mjs"), text, 0o600)
	}
	if err == nil {
		err = os.Symlink(fetched(t, "node_modules"), filepath.Join(dir, "node_modules"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return client{name: "node", args: []string{"node", filepath.Join(dir, "main.mjs")}}
}

// java compiles and runs one file, with Kafka's client where the broker's jars are.
func java(t *testing.T, path ...string) client {
	t.Helper()
	jars := filepath.Join(rootOf(t), ".real", "kafka", "lib", "*")
	return client{name: "java", args: []string{"java", "-XX:TieredStopAtLevel=1", "-cp", jars, example(t, path...)}}
}

// php serves a file with PHP's own server, which remembers nothing from one request to the next.
func php(t *testing.T, path ...string) client {
	t.Helper()
	return client{name: "php", args: []string{"sh", "-c", `exec php -S "$1" "$0"`, example(t, path...)}, env: []string{"WEBHOOK_SEEN=" + t.TempDir()}}
}

// csharp compiles a file and runs it with Mono.
func csharp(t *testing.T, path ...string) client {
	t.Helper()
	program := filepath.Join(t.TempDir(), "main.exe")
	build := exec.CommandContext(t.Context(), "mcs", "-warnaserror", "-r:System.Runtime.Serialization", "-out:"+program, example(t, path...))
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return client{name: "csharp", args: []string{"mono", program}, onlyV1: true}
}

func shell(t *testing.T, path ...string) client {
	t.Helper()
	return client{name: "shell", args: []string{"bash", example(t, path...)}}
}

// within is the test's context with a bound.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// await waits until the condition holds.
func await(t *testing.T, bound time.Duration, what string, ok func() bool) {
	t.Helper()
	if err := lab.Await(within(t, bound), what, ok); err != nil {
		t.Fatal(err)
	}
}
