package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/twmb/franz-go/pkg/kfake"

	"fanout/dispatcher/resolve"
	"fanout/webhook"
)

// writer is a buffer that one goroutine may read while another writes.
type writer struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (w *writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

func (w *writer) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// nobody is an address where nobody listens.
const nobody = "127.0.0.1:1"

// world is what a run needs, with its environment.
type world struct {
	kafka *kfake.Cluster
	redis *miniredis.Miniredis
	env   []string

	network resolve.Config // how receivers are reached
}

func newWorld(t *testing.T, topics ...string) *world {
	t.Helper()
	kafka, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, topics...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kafka.Close)
	w := &world{kafka: kafka, redis: miniredis.RunT(t)}
	w.env = []string{
		"FANOUT_KAFKA_BROKERS=" + kafka.ListenAddrs()[0], "FANOUT_REDIS_URL=redis://" + w.redis.Addr(), "FANOUT_REDIS_SNAPSHOT_FILE=off",
		"FANOUT_ADMIN_LISTEN=127.0.0.1:0", "FANOUT_EGRESS_ALLOW_HTTP=true", "FANOUT_EGRESS_ALLOW_CIDRS=127.0.0.0/8",
	}
	return w
}

// fanout runs a command to its end.
func (w *world) fanout(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs writer
	a := &app{env: w.env, stdin: strings.NewReader(stdin), stdout: &out, stderr: &errs, network: w.network}
	code = a.execute(t.Context(), args)
	return code, out.String(), errs.String()
}

// running is a running `fanout run`.
type running struct {
	admin string     // its base URL
	log   *writer    // what it has logged
	stop  func() int // interrupts it, and returns its exit status
}

// start begins `fanout run` and waits until it listens.
func (w *world) start(t *testing.T, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{log: &writer{}}
	code := make(chan int, 1)
	a := &app{env: w.env, stdout: r.log, stderr: r.log, network: w.network}
	go func() { code <- a.execute(ctx, append([]string{"run"}, args...)) }()
	r.stop = sync.OnceValue(func() int {
		cancel()
		return <-code
	})
	t.Cleanup(func() { r.stop() })
	until(t, func() (bool, string) {
		found := regexp.MustCompile(`"admin":"([0-9.:]+)"`).FindStringSubmatch(r.log.String())
		if found != nil {
			r.admin = "http://" + found[1]
		}
		return found != nil, r.log.String()
	})
	return r
}

// until asks until the condition holds, and fails with its last answer where it does not within 20 seconds.
func until(t *testing.T, condition func() (ok bool, answer string)) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		ok, answer := condition()
		if ok {
			return
		}
		select {
		case <-poll.C:
		case <-deadline.C:
			t.Fatalf("not within 20 s; the last answer was\n%s", answer)
		}
	}
}

// await asks a path until the answer has that status and contains the text.
func (r *running) await(t *testing.T, path string, status int, text string) {
	t.Helper()
	until(t, func() (bool, string) {
		got, _, body, err := remote{base: r.admin}.ask(t.Context(), path)
		return err == nil && got == status && strings.Contains(string(body), text),
			fmt.Sprintf("%s: %d %s %v, want %d with %q\n%s", path, got, body, err, status, text, r.log)
	})
}

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// received is a webhook as it was received.
type received struct {
	header http.Header
	body   string
}

func TestRunDeliversSignedPost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "channel.email")
	posts := make(chan received, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		posts <- received{r.Header, string(body)}
	}))
	defer receiver.Close()
	subscription := `{account: acme, id: crm, url: "` + receiver.URL + `", events: [EMAIL_OPEN], secrets: [` + secret + `]}`
	if code, _, stderr := w.fanout(t, subscription, "subscriptions", "apply", "-f", "-"); code != 0 {
		t.Fatalf("apply: %s", stderr)
	}

	r := w.start(t)
	r.await(t, "/readyz", 200, `"ready":true`)
	if code, stdout, stderr := w.fanout(t, "", "health", "--ready", "--admin", r.admin); code != 0 || !strings.Contains(stdout, r.admin+"  ready") {
		t.Errorf("health --ready: exit %d, %s%s", code, stdout, stderr)
	}
	code, stdout, stderr := w.fanout(t, "", "send", "--account", "acme", "--event", "EMAIL_OPEN", "--tracking-id", "abc123",
		"--notification-id", "welcome-email", "--user-id", "user-123", "--id", "e1")
	if code != 0 || !strings.HasPrefix(stdout, "channel.email/") {
		t.Fatalf("send: exit %d, %s%s", code, stdout, stderr)
	}
	var got received
	until(t, func() (bool, string) {
		select {
		case got = <-posts:
			return true, ""
		default:
			return false, r.log.String()
		}
	})
	const want = `{"eventType":"OPEN","trackingId":"abc123","notificationId":"welcome-email","channel":"EMAIL","userId":"user-123"}`
	if got.body != want {
		t.Errorf("body = %s, want %s", got.body, want)
	}
	key, err := webhook.ParseSecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	h := got.header
	if _, err := webhook.Verify([]webhook.Secret{key}, h.Get("webhook-id"), h.Get("webhook-timestamp"), h.Get("webhook-signature"), []byte(got.body), time.Now(), time.Minute); err != nil {
		t.Error(err)
	}
	if id := webhook.EventID("acme", "EMAIL_OPEN", "e1", "crm"); h.Get("webhook-id") != id || !strings.HasPrefix(h.Get("User-Agent"), "fanout/") {
		t.Errorf("webhook-id %s, want %s; User-Agent %s", h.Get("webhook-id"), id, h.Get("User-Agent"))
	}
	r.await(t, "/metrics", 200, `fanout_outcomes_total{outcome="delivered",reason="",stage="first"} 1`)
	r.await(t, "/metrics", 200, `fanout_build_info{`)
	r.await(t, "/metrics", 200, "fanout_ready 1\n")

	if code := r.stop(); code != 0 {
		t.Errorf("exit %d after a stop, want 0\n%s", code, r.log)
	}
}

func TestRunWaitsForRedisAndSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "channel.email")
	address := w.redis.Addr()
	w.redis.Close()
	r := w.start(t)
	r.await(t, "/readyz", 503, "waiting for Redis")
	r.await(t, "/metrics", 200, "fanout_ready 0\n")
	r.await(t, "/healthz", 200, "ok")
	if err := w.redis.StartAddr(address); err != nil {
		t.Fatal(err)
	}
	r.await(t, "/readyz", 200, `"ready":true`)
	if code := r.stop(); code != 0 {
		t.Errorf("exit %d, want 0\n%s", code, r.log)
	}
}

func TestRunStopsWhileItWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.start(t, "--kafka-brokers", nobody, "--redis.url", "redis://"+nobody)
	r.await(t, "/readyz", 503, `"ready":false`)
	if code := r.stop(); code != 0 {
		t.Errorf("exit %d, want 0\n%s", code, r.log)
	}
}

func TestRunEndsWhereASourceIsMissing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "channel.email")
	code, _, stderr := w.fanout(t, "", "run", "--sources", "channel.email,bounces")
	if code != 1 || !strings.Contains(stderr, "source topic bounces does not exist; create it:") || strings.Contains(stderr, "goroutine") {
		t.Errorf("exit %d, want 1 with the topic and the command to create it:\n%s", code, stderr)
	}
}

func TestSubscriptionsTest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "channel.email")
	status := http.StatusOK
	receiver := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("webhook-signature") == "" {
			t.Error("the sample is not signed")
		}
		rw.WriteHeader(status)
		_, _ = io.WriteString(rw, "no such tenant")
	}))
	defer receiver.Close()
	w.redis.HSet("fanout:account:acme", "crm", `{"url":"`+receiver.URL+`","events":["*"],"secrets":["`+secret+`"]}`)

	code, stdout, stderr := w.fanout(t, "", "subscriptions", "test", "acme", "crm", "-o", "json")
	var result tested
	if err := json.Unmarshal([]byte(stdout), &result); err != nil || code != 0 || result.Outcome != "delivered" || result.Status != 200 || result.Event != "EMAIL_OPEN" {
		t.Errorf("exit %d, %+v, %v, %s", code, result, err, stderr)
	}
	status = http.StatusNotFound
	code, stdout, _ = w.fanout(t, "", "subscriptions", "test", "acme", "crm", "--event", "SMS_FAILED")
	for _, want := range []string{"retry status", "404", "no such tenant", `"eventType":"SMS_FAILED"`} {
		if code != 1 || !strings.Contains(stdout, want) {
			t.Errorf("exit %d, want 1 with %q in\n%s", code, want, stdout)
		}
	}
}
