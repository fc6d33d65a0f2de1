//go:build wire

package wire_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fanout/cmd/internal/lab"
)

// read is a request as a server read it.
type read struct{ method, target, host, length, id, port string }

// server is a receiver: a program that prints what it reads.
type server struct {
	name string
	port int

	// refuses reports whether the server itself answers 400 to such a target, whoever sends it.
	refuses func(target string) bool

	noEmptyQuery bool // it cannot tell "/?" from "/"

	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (s *server) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

// reads is what the server has read so far, by webhook-id.
func (s *server) reads() (all []read) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for line := range strings.Lines(s.text.String()) {
		if f := strings.Split(strings.TrimSpace(line), "\t"); len(f) == 6 && f[1] != "-" { // nginx's own refusal
			all = append(all, read{f[0], f[1], f[2], f[3], f[4], f[5]})
		}
	}
	return all
}

// encodedSlash is what servers that map paths to files or filters refuse by default.
func encodedSlash(target string) bool {
	path, _, _ := strings.Cut(target, "?")
	return strings.Contains(strings.ToLower(path), "%2f")
}

// aboveRoot is a path that leads out of what a server has.
func aboveRoot(target string) bool { return strings.HasPrefix(target, "/%2e%2e") }

func root(t *testing.T) string {
	t.Helper()
	dir, err := lab.Root()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// program starts a server that is a program, and waits until it listens.
func (s *server) program(t *testing.T, args ...string) *server {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), args[0], args[1:]...)
	var errors bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Dir = s, &errors, filepath.Join(root(t), "testdata", "wire")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s: %v: run `make test-wire`, which installs the servers", s.name, err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s printed\n%s%s", s.name, tail(s.text.String()), tail(errors.String()))
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := lab.Await(ctx, s.name, func() bool {
		c, err := net.Dial("tcp", s.addr())
		if err == nil {
			c.Close()
		}
		return err == nil
	}); err != nil {
		t.Fatal(err)
	}
	return s
}

func tail(text string) string { return text[max(0, len(text)-2000):] }

func (s *server) addr() string { return "127.0.0.1:" + strconv.Itoa(s.port) }

// servers starts them all.
func servers(t *testing.T) []*server {
	t.Helper()
	dir := t.TempDir()
	fetched := func(path ...string) string {
		return filepath.Join(append([]string{root(t), ".real", "wire"}, path...)...)
	}
	if _, err := os.Stat(fetched("stamp")); err != nil {
		t.Fatalf("%v: run `make test-wire`, which fetches the servers", err)
	}
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	none := func(string) bool { return false }
	next := func(name string, refuses func(string) bool) *server {
		return &server{name: name, port: freePort(t), refuses: refuses}
	}
	java := func(s *server, source string) *server {
		return s.program(t, "java", "-XX:TieredStopAtLevel=1", "-cp", fetched("lib", "*"), source, strconv.Itoa(s.port))
	}
	nginx := next("nginx", aboveRoot)
	conf := write("nginx.conf", fmt.Sprintf(`daemon off; master_process off; pid nginx.pid; error_log stderr warn;
events {}
http {
  log_format read '$request_method\t$request_uri\t$http_host\t$content_length\t$http_webhook_id\t$remote_port';
  access_log /dev/stdout read; keepalive_timeout 1s; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  server { listen %s; location / { return 204; } }
}`, nginx.addr()))
	caddy := next("caddy", none)
	caddyfile := write("Caddyfile", fmt.Sprintf("{\n\tadmin off\n\tauto_https off\n\tservers {\n\t\ttimeouts {\n\t\t\tidle 1s\n\t\t}\n\t}\n}\nhttp://%s {\n\tlog {\n\t\toutput stdout\n\t\tformat json\n\t}\n\trespond 204\n}\n", caddy.addr()))
	node, uvicorn, undertow := next("node", none), next("uvicorn", none), next("undertow", none)
	uvicorn.noEmptyQuery, undertow.noEmptyQuery = true, true
	all := []*server{
		nginx.program(t, nginxProgram(t), "-p", dir, "-e", "stderr", "-c", conf),
		node.program(t, "node", "server.mjs", strconv.Itoa(node.port)),
		uvicorn.program(t, fetched("python", "bin", "uvicorn"), "--host", "127.0.0.1", "--port", strconv.Itoa(uvicorn.port), "--timeout-keep-alive", "1", "--no-access-log", "receiver:app"),
		java(next("tomcat", func(target string) bool { return encodedSlash(target) || aboveRoot(target) }), "TomcatReceiver.java"),
		java(undertow, "UndertowReceiver.java"),
		java(next("jetty", func(target string) bool {
			return encodedSlash(target) || strings.Contains(target, "%2e%2e") || strings.Contains(target, "//") && !strings.Contains(target, "?") || strings.HasPrefix(target, "/;") || strings.Contains(target, "%25")
		}), "JettyReceiver.java"),
		caddy.program(t, "caddy", "run", "--config", caddyfile, "--adapter", "caddyfile"),
		goServer(t),
	}
	return all
}

func nginxProgram(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"nginx", "/usr/sbin/nginx"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("no nginx: run `make test-wire`, which installs it")
	return ""
}

// goServer is Go's own HTTP server.
func goServer(t *testing.T) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{name: "go", port: l.Addr().(*net.TCPAddr).Port, refuses: func(string) bool { return false }}
	h := &http.Server{IdleTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		_, port, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprintln(s, strings.Join([]string{r.Method, r.RequestURI, r.Host, strconv.FormatInt(n, 10), r.Header.Get("webhook-id"), port}, "\t"))
		w.WriteHeader(http.StatusNoContent)
	})}
	go func() { _ = h.Serve(l) }()
	t.Cleanup(func() { _ = h.Close() })
	return s
}

// caddyReads turns Caddy's access log into what the others print.
func caddyReads(s *server) (all []read) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for line := range strings.Lines(s.text.String()) {
		var entry struct {
			Request struct {
				Method, Host, URI string
				RemotePort        string `json:"remote_port"`
				Headers           map[string][]string
			}
		}
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Request.Method != "" {
			r := entry.Request
			header := func(name string) string { return strings.Join(r.Headers[http.CanonicalHeaderKey(name)], "") }
			all = append(all, read{r.Method, r.URI, r.Host, header("content-length"), header("webhook-id"), r.RemotePort})
		}
	}
	return all
}

func (s *server) all() []read {
	if s.name == "caddy" {
		return caddyReads(s)
	}
	return s.reads()
}

// site is `fanout run` on Kafka and Redis.
type site struct {
	kafka  *lab.Kafka
	redis  *lab.Redis
	fanout *lab.Fanout
}

func newSite(t *testing.T) *site {
	t.Helper()
	lab.RequireKafka(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	l, err := lab.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	s := &site{}
	program, err := l.Build(ctx)
	if err == nil {
		s.kafka, err = l.Kafka(ctx, lab.KafkaConfig{})
	}
	if err == nil {
		s.redis, err = l.Redis(ctx)
	}
	if err == nil {
		err = s.kafka.CreateTopics(ctx, lab.Topic{Name: "wire"})
	}
	if err != nil {
		t.Fatal(err)
	}
	s.fanout, err = l.Fanout(program, s.kafka, s.redis, func(c lab.Config) {
		c.Set("sources", []lab.Config{{"topic": "wire"}}).Set("kafka.retry_partitions", 1).Set("delivery.schedule", []string{"1h"}).
			Set("delivery.permanent_statuses", []int{400, 404, 410})
	})
	if err == nil {
		err = s.fanout.Ready(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) send(t *testing.T, account string, n int) {
	t.Helper()
	var values []byte
	for i := range n {
		values = fmt.Appendf(values, `{"accountId":%q,"channel":"EMAIL","type":"OPEN","trackingId":"t%d","notificationId":"n","userId":"u"}`+"\n", account, i)
	}
	cmd := exec.CommandContext(t.Context(), "kcat", "-P", "-b", s.kafka.Addr(), "-t", "wire")
	cmd.Stdin = bytes.NewReader(values)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func (s *site) metric(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	m, err := s.fanout.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return m.Sum(name, labels...)
}

func (s *site) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := lab.Await(ctx, what, ok); err != nil {
		t.Fatal(err)
	}
}

// TestWire has each server read each path of the corpus, byte for byte as it should go out, or refuse it as it refuses it from
// anybody; and then one request a second, just when the server closes what is idle: none fails, is lost or comes twice.
func TestWire(t *testing.T) {
	var corpus struct {
		Paths []struct{ Raw, Target string }
	}
	text, err := os.ReadFile(filepath.Join(root(t), "testdata", "urls.json"))
	if err == nil {
		err = json.Unmarshal(text, &corpus)
	}
	if err != nil || len(corpus.Paths) < 20 {
		t.Fatalf("testdata/urls.json: %d paths, %v", len(corpus.Paths), err)
	}
	all, s := servers(t), newSite(t)
	subscribed := 0
	for _, to := range all {
		for i, p := range corpus.Paths {
			subscription, err := json.Marshal(map[string]any{"url": "http://" + to.addr() + p.Raw, "events": []string{"*"}})
			if err == nil {
				err = s.redis.PutSubscription(t.Context(), to.name, fmt.Sprint("p", i), string(subscription))
			}
			if err != nil {
				t.Fatal(err)
			}
			subscribed++
		}
	}
	s.await(t, "subscriptions", func() bool { return s.metric(t, "fanout_subscriptions", `state="enabled"`) == float64(subscribed) })
	for _, to := range all {
		s.send(t, to.name, 1)
	}
	s.await(t, "all outcomes", func() bool { return s.metric(t, "fanout_outcomes_total") >= float64(subscribed) })
	time.Sleep(time.Second) // Caddy and nginx write their logs after they have answered
	refusals := 0
	for _, to := range all {
		t.Run(to.name, func(t *testing.T) {
			got := map[string]read{}
			for _, r := range to.all() {
				if _, twice := got[r.id]; twice {
					t.Errorf("%s came twice", r.id)
				}
				got[r.id] = r
			}
			var targets []string
			for _, r := range got {
				targets = append(targets, r.target)
				if r.method != "POST" || r.host != to.addr() || r.length == "0" {
					t.Errorf("read %+v", r)
				}
			}
			refused := 0
			for _, p := range corpus.Paths {
				want := p.Target
				if path, query, _ := strings.Cut(want, "?"); to.noEmptyQuery && query == "" {
					want = path
				}
				i := slices.Index(targets, want)
				switch {
				case i >= 0:
					targets = slices.Delete(targets, i, i+1)
				case to.refuses(p.Target):
					refused++
				default:
					t.Errorf("%s was sent as %s, and not read so", p.Raw, p.Target)
				}
			}
			if len(targets) > 0 {
				t.Errorf("read as something else: %q", targets)
			}
			refusals += refused
			t.Logf("%d paths sent, %d read byte for byte, %d refused by the server's own rules", len(corpus.Paths), len(got), refused)
		})
	}
	if dead := s.metric(t, "fanout_outcomes_total", `outcome="dead"`); int(dead) != refusals {
		t.Errorf("%v deliveries are dead, and %d were refused", dead, refusals)
	}
	if retried := s.metric(t, "fanout_outcomes_total", `outcome="retry"`); retried != 0 {
		t.Errorf("%v deliveries are retried", retried)
	}
	s.idle(t, all)
}

// idle sends one event a second to one subscription of each server.
func (s *site) idle(t *testing.T, all []*server) {
	t.Helper()
	const times = 15
	for _, to := range all {
		if err := s.redis.PutSubscription(t.Context(), "idle-"+to.name, "s", `{"url":"http://`+to.addr()+`/idle","events":["*"]}`); err != nil {
			t.Fatal(err)
		}
	}
	before := s.metric(t, "fanout_subscriptions", `state="enabled"`)
	s.await(t, "subscriptions", func() bool { return s.metric(t, "fanout_subscriptions", `state="enabled"`) >= before })
	time.Sleep(2 * time.Second)
	outcomes := s.metric(t, "fanout_outcomes_total")
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for range times {
		<-tick.C
		for _, to := range all {
			s.send(t, "idle-"+to.name, 1)
		}
	}
	s.await(t, "all outcomes", func() bool { return s.metric(t, "fanout_outcomes_total") >= outcomes+float64(times*len(all)) })
	time.Sleep(time.Second)
	if retried := s.metric(t, "fanout_outcomes_total", `outcome="retry"`); retried != 0 {
		t.Errorf("%v deliveries are retried", retried)
	}
	for _, to := range all {
		ids, ports := map[string]int{}, map[string]bool{}
		for _, r := range to.all() {
			if r.target == "/idle" {
				ids[r.id]++
				ports[r.port] = true
			}
		}
		if len(ids) != times {
			t.Errorf("%s read %d of %d", to.name, len(ids), times)
		}
		for id, n := range ids {
			if n != 1 {
				t.Errorf("%s read %s %d times", to.name, id, n)
			}
		}
		t.Logf("%s: one request a second, %d read once each, over %d connections", to.name, len(ids), len(ports))
	}
}
