//go:build real

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9/logging"
	"github.com/segmentio/kafka-go"

	"fanout/cmd/internal/lab"
	"fanout/subscriptions"
)

// modes is a site whose Redis is one of the kinds that people run.
type modes struct {
	*site

	put   func(account, json string) // writes a subscription named hook, as a sync job does
	sent  int
	paths []string // where deliveries may have gone
}

// newModes makes a site that finds its Redis at url.
func newModes(t *testing.T, name, url string) *modes {
	t.Helper()
	s := newSite(t, name, lab.KeepIDs)
	must(t, s.redis.Kill())
	s.config.Set("redis.url", url)
	return &modes{site: s, paths: []string{"/hook"}}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// hook is a subscription that is delivered to path.
func (m *modes) hook(path string) string {
	return fmt.Sprintf(`{"url":%q,"events":["*"]}`, m.receiver.URL(path))
}

// send produces n events, of each account in turn. What was answered with an error is sent again: an event's id makes it
// the same one.
func (m *modes) send(t *testing.T, n int, accounts ...string) {
	t.Helper()
	from := m.sent
	m.sent += n
	client := m.kafka.Client()
	defer lab.CloseClient(client)
	var err error
	done := lab.Await(within(t, time.Minute), "events in Kafka", func() bool {
		records := make([]kafka.Record, n)
		for i := range records {
			records[i] = m.raw(accounts[i%len(accounts)], from+i)
		}
		var res *kafka.ProduceResponse
		res, err = client.Produce(t.Context(), &kafka.ProduceRequest{
			Topic: m.email(), Partition: m.sent % 3, RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(records...),
		})
		return err == nil && res.Error == nil || t.Context().Err() != nil
	})
	if done != nil {
		t.Errorf("%v: %v", done, err)
	}
}

// load sends about 500 events a second until it is stopped.
func (m *modes) load(t *testing.T, accounts ...string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			m.send(t, 50, accounts...)         //nolint:contextcheck // the test's own bounds it
			time.Sleep(100 * time.Millisecond) // a pace
		}
	}()
	return func() { cancel(); <-done }
}

// change points an account's subscription to a new path, and measures from the write to the first delivery there.
// Somebody has to send.
func (m *modes) change(t *testing.T, account string, bound time.Duration) time.Duration {
	t.Helper()
	path := fmt.Sprintf("/changed/%d", len(m.paths))
	m.paths = append(m.paths, path)
	m.put(account, m.hook(path))
	began := time.Now()
	await(t, bound, "the change of "+account, func() bool { return m.receiver.Seen(path) > 0 })
	return time.Since(began).Round(time.Millisecond)
}

// changeSending is change where nobody else sends.
func (m *modes) changeSending(t *testing.T, account string, bound time.Duration) time.Duration {
	t.Helper()
	stop := m.load(t, account)
	defer stop()
	return m.change(t, account, bound)
}

// complete waits until each event has come to a subscription at least once.
func (m *modes) complete(t *testing.T) {
	t.Helper()
	ids := make(map[string]lab.IDCount)
	err := lab.Await(within(t, 20*time.Second), "all deliveries", func() bool {
		for _, path := range m.paths {
			maps.Copy(ids, m.receiver.IDs(path))
		}
		return len(ids) >= m.sent
	})
	if err != nil || len(ids) != m.sent {
		t.Fatalf("%d different deliveries of %d events: %v", len(ids), m.sent, err)
	}
	m.settled(t, 20*time.Second, m.email())
	t.Logf("%d events, %d different deliveries, %d requests, none lost", m.sent, len(ids), m.receiver.Seen())
}

// subscriptions is how many fanout knows.
func (m *modes) subscriptions(t *testing.T) int {
	t.Helper()
	metrics, err := m.fanout.Metrics(t.Context())
	if err != nil {
		return -1
	}
	return int(metrics.Sum("fanout_subscriptions"))
}

// watch looks at the number of subscriptions until it is stopped: it must never fall below want.
func (m *modes) watch(t *testing.T, want int) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	least := want
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if n := m.subscriptions(t); n >= 0 { //nolint:contextcheck // the test's own bounds it
				least = min(least, n)
			}
			time.Sleep(20 * time.Millisecond) // a pace
		}
	}()
	return func() {
		t.Helper()
		cancel()
		<-done
		if least < want {
			t.Errorf("of %d subscriptions only %d were known at a time", want, least)
		}
	}
}

// logged waits for a line in fanout's log, from the byte on where the last one ended, that holds all parts.
func (m *modes) logged(t *testing.T, from int, parts ...string) string {
	t.Helper()
	found := ""
	err := lab.Await(within(t, 15*time.Second), strings.Join(parts, " … ")+" in the log", func() bool {
		text, _ := os.ReadFile(m.fanout.Log())
		for line := range strings.Lines(string(text[min(from, len(text)):])) {
			if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) }) {
				found = line
			}
		}
		return found != ""
	})
	if err != nil {
		text, _ := os.ReadFile(m.fanout.Log())
		t.Errorf("%v; it says\n%s", err, text[min(from, len(text)):])
	}
	return found
}

func (m *modes) logLength() int {
	text, _ := os.ReadFile(m.fanout.Log())
	return len(text)
}

// checked runs `fanout check` with a Redis section of its own, which must fail with all parts and without the password.
func (m *modes) checked(t *testing.T, what string, section lab.Config, parts ...string) {
	t.Helper()
	cfg := lab.NewConfig(m.kafka, m.redis, 0)
	maps.Copy(cfg, m.config)
	cfg["redis"] = section.Set("snapshot_file", "off")
	text, err := json.Marshal(cfg)
	must(t, err)
	file := filepath.Join(t.TempDir(), "check.yaml")
	must(t, os.WriteFile(file, text, 0o600))
	ctx := within(t, 2*time.Minute)
	cmd := exec.CommandContext(ctx, m.program, "check", "--config", file)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	r := finish(t, cmd)
	_, said, _ := strings.Cut(r.stdout, "redis ")
	said, _, _ = strings.Cut(said, "egress ")
	said = strings.TrimSpace(said)
	t.Logf("%s: in %s: %s", what, r.took.Round(10*time.Millisecond), said)
	if r.code != 1 || strings.Contains(r.stdout+r.stderr, secretWord) {
		t.Errorf("%s: exit %d, or the password is shown: %s%s", what, r.code, r.stdout, r.stderr)
	}
	if strings.Contains(said, "start Redis") && !strings.Contains(said, "connection refused") {
		t.Errorf("%s: that is no remedy: %s", what, said)
	}
	for _, part := range parts {
		if !strings.Contains(said, part) {
			t.Errorf("%s: want it to say %q: %s%s", what, part, r.stdout, r.stderr)
		}
	}
}

// secretWord is part of every password here.
const secretWord = "hunter2"

// aclLine is the line of docs/redis.md that makes a user, as redis-cli's arguments.
func aclLine(t *testing.T, user, password string) []string {
	t.Helper()
	root, err := lab.Root()
	must(t, err)
	page, err := os.ReadFile(filepath.Join(root, "docs", "redis.md"))
	must(t, err)
	return strings.Fields(strings.Replace(only(t, string(page), `(?m)^ACL SETUSER `+user+` on .*$`), ">PASSWORD", ">"+password, 1))
}

// aclCluster is the line of docs/redis.md that a Cluster wants besides.
func aclCluster(t *testing.T) []string {
	t.Helper()
	root, err := lab.Root()
	must(t, err)
	page, err := os.ReadFile(filepath.Join(root, "docs", "redis.md"))
	must(t, err)
	return strings.Fields(only(t, string(page), `(?m)^ACL SETUSER fanout \+cluster.*$`))
}

func only(t *testing.T, page, pattern string) string {
	t.Helper()
	lines := regexp.MustCompile(pattern).FindAllString(page, -1)
	if len(lines) != 1 {
		t.Fatalf("%d lines in docs/redis.md are %s", len(lines), pattern)
	}
	return lines[0]
}

func cli(t *testing.T, r *lab.Redis, args ...string) string {
	t.Helper()
	out, err := r.CLI(within(t, 20*time.Second), args...)
	must(t, err)
	return out
}

// syncJob runs docs/examples/sync-job.sh or one of the others.
func (m *modes) syncJob(t *testing.T, program, file string, r *lab.Redis, env []string, args ...string) {
	t.Helper()
	root, err := lab.Root()
	must(t, err)
	host, port, err := net.SplitHostPort(r.Addr())
	must(t, err)
	cmd := exec.CommandContext(within(t, 20*time.Second), program, append([]string{filepath.Join(root, "docs", "examples", file)}, args...)...)
	cmd.Env = append(append(os.Environ(), "REDIS_HOST="+host, "REDIS_PORT="+port), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v %s", file, args, err, out)
	}
}

// workout makes fanout ask Redis for everything that it ever asks for.
func (m *modes) workout(t *testing.T, account string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "subscriptions.json")
	must(t, os.WriteFile(file, []byte(fmt.Sprintf(`{"account":"applied","id":"hook","url":%q,"events":["SMS_FAILED"]}`, m.receiver.URL("/test"))), 0o600))
	m.must(t, "check")
	m.must(t, "subscriptions", "list", "--account", account)
	m.must(t, "subscriptions", "list")
	m.must(t, "subscriptions", "get", account, "hook")
	m.must(t, "subscriptions", "apply", "-f", file)
	m.must(t, "subscriptions", "test", "applied", "hook")
	m.must(t, "subscriptions", "delete", "applied", "hook")
	m.must(t, "subscriptions", "accept")
}

// TestRealRedisACL runs fanout and the sync jobs as the users that docs/redis.md makes, who may do no more.
func TestRealRedisACL(t *testing.T) {
	m := newModes(t, "redis-acl", "")
	own, err := m.lab.SecureRedis(within(t, 20*time.Second), lab.RedisSecurity{Password: secretWord + "-admin"})
	must(t, err)
	t.Cleanup(func() { _ = own.Kill() })
	cli(t, own, aclLine(t, "fanout", secretWord+"-one")...)
	cli(t, own, aclLine(t, "fanout-sync", secretWord+"-sync")...)
	password := filepath.Join(t.TempDir(), "password")
	must(t, os.WriteFile(password, []byte(secretWord+"-one\n"), 0o600))
	m.config.Set("redis.url", own.URL()).Set("redis.username", "fanout").Set("redis.password_file", password)
	m.put = func(account, json string) {
		m.syncJob(t, "bash", "sync-job.sh", own, []string{"REDIS_USER=fanout-sync", "REDISCLI_AUTH=" + secretWord + "-sync"}, account, "hook", json)
	}
	m.put("acme", m.hook("/hook"))
	m.put("gone", m.hook("/hook"))
	m.syncJob(t, "bash", "sync-job.sh", own, []string{"REDIS_USER=fanout-sync", "REDISCLI_AUTH=" + secretWord + "-sync"}, "gone", "hook")
	began := time.Now()
	m.start(t)
	m.send(t, 100, "acme")
	await(t, 10*time.Second, "a first delivery", func() bool { return m.receiver.Seen("/hook") > 0 })
	t.Logf("ACL user: first delivery %s after the start; a change in force after %s", time.Since(began).Round(time.Millisecond), m.changeSending(t, "acme", 5*time.Second))
	m.workout(t, "acme")
	m.put("unannounced", m.hook("/hook"))
	await(t, 5*time.Second, "another subscription", func() bool { return m.subscriptions(t) == 2 })
	cli(t, own, "DEL", "fanout:account:unannounced")
	m.must(t, "subscriptions", "accept")
	await(t, 10*time.Second, "it to be dropped", func() bool { return m.subscriptions(t) == 1 })
	store, err := subscriptions.NewStore(subscriptions.Config{URL: own.URL(), Username: "fanout", PasswordFile: password})
	must(t, err)
	if n, err := store.Count(t.Context(), "acme"); n != 1 || err != nil {
		t.Errorf("it has %d subscriptions: %v", n, err)
	}
	must(t, store.AddPortalLink(t.Context(), "acme", subscriptions.PortalLink{ID: "link", Kind: "full", Expires: time.Now().Add(time.Hour)}))
	if known, err := store.HasPortalLink(t.Context(), "acme", "link"); !known || err != nil {
		t.Errorf("stored: %t %v", known, err)
	}
	must(t, store.RevokePortalLink(t.Context(), "acme", "link"))
	if known, err := store.HasPortalLink(t.Context(), "acme", "link"); known || err != nil {
		t.Errorf("revoked: %t %v", known, err)
	}
	m.must(t, "subscriptions", "rotate", "acme", "hook")
	if _, err := store.Update(t.Context(), "acme", "hook", func(json.RawMessage) (json.RawMessage, error) { return nil, errors.New("not today") }); err == nil {
		t.Error("an update that was refused ended well")
	}
	must(t, store.Close())

	// Redis keeps count: nothing was refused, and what the line allows is in use.
	if denied := cli(t, own, "ACL", "LOG"); strings.TrimSpace(denied) != "" {
		t.Errorf("refused: %s", denied)
	}
	stats := cli(t, own, "INFO", "commandstats")
	unused := []string{}
	for _, word := range aclLine(t, "fanout", "") {
		if command, ok := strings.CutPrefix(word, "+"); ok && !strings.Contains(stats, "cmdstat_"+command+":calls=") {
			unused = append(unused, command)
		}
	}
	if !slices.Equal(unused, []string{"select"}) { // for a database that is not 0
		t.Errorf("allowed and not called: %v", unused)
	}

	t.Log("a line from before there were transactions")
	cli(t, own, "ACL", "SETUSER", "fanout", "-watch", "-unwatch", "-multi", "-exec")
	was := cli(t, own, "HGET", "fanout:account:acme", "hook")
	m.must(t, "subscriptions", "rotate", "acme", "hook")
	if is := cli(t, own, "HGET", "fanout:account:acme", "hook"); strings.Count(is, "whsec_") != strings.Count(was, "whsec_")+1 {
		t.Errorf("without transactions a rotation makes %s of %s", is, was)
	}
	cli(t, own, "ACL", "SETUSER", "fanout", "+watch", "+unwatch", "+multi", "+exec")

	t.Log("a wrong password")
	at := m.logLength()
	cli(t, own, "ACL", "SETUSER", "fanout", "resetpass", ">"+secretWord+"-two")
	cli(t, own, "CLIENT", "KILL", "USER", "fanout")
	line := m.logged(t, at, "redis is away", "password_file", "redis.username", "WRONGPASS")
	t.Logf("run says %s", strings.TrimSpace(line))
	m.checked(t, "wrong password in a file", lab.Config{"url": own.URL(), "username": "fanout", "password_file": password}, "password_file", "WRONGPASS", "ACL SETUSER")
	m.checked(t, "wrong password", lab.Config{"url": strings.Replace(own.URL(), "//", "//fanout:"+secretWord+"-x@", 1)}, "redis.password", "WRONGPASS")
	m.checked(t, "no password", lab.Config{"url": own.URL()}, "redis.password", "NOAUTH")
	before := m.receiver.Seen()
	m.send(t, 100, "acme")
	await(t, 10*time.Second, "deliveries from the last snapshot", func() bool { return m.receiver.Seen() >= before+100 })
	must(t, os.WriteFile(password, []byte(secretWord+"-two"), 0o600))
	t.Logf("a change in force %s after the file had the new password", m.changeSending(t, "acme", 5*time.Second))

	t.Log("a command that is not allowed")
	at = m.logLength()
	cli(t, own, "ACL", "SETUSER", "fanout", "-xread")
	line = m.logged(t, at, "redis is away", "xread", "+xread")
	t.Logf("run says %s", strings.TrimSpace(line))
	cli(t, own, "ACL", "SETUSER", "fanout", "+xread", "-scan")
	m.checked(t, "scan is not allowed", lab.Config{"url": own.URL(), "username": "fanout", "password_file": password}, "NOPERM", "+scan", "ACL SETUSER")
	cli(t, own, "ACL", "SETUSER", "fanout", "+scan", "resetkeys", "~fanout:account:*")
	m.logged(t, at, "NOPERM", "~fanout:*")
	cli(t, own, "ACL", "SETUSER", "fanout", "~fanout:*")
	t.Logf("a change in force %s after the rights were back", m.changeSending(t, "acme", 5*time.Second))
	m.complete(t)
	if text, _ := os.ReadFile(m.fanout.Log()); strings.Contains(string(text), secretWord) {
		t.Error("the log holds a password")
	}
}

// TestRealRedisTLS speaks mutual TLS, and rotates everything while fanout runs.
func TestRealRedisTLS(t *testing.T) {
	server, client := newCertificate(t), newCertificate(t)
	m := newModes(t, "redis-tls", "")
	own, err := m.lab.SecureRedis(within(t, 20*time.Second), lab.RedisSecurity{Password: secretWord + "-one", Certificate: server, Client: client})
	must(t, err)
	t.Cleanup(func() { _ = own.Kill() })
	plain, err := m.lab.Redis(within(t, 20*time.Second))
	must(t, err)
	t.Cleanup(func() { _ = plain.Kill() })
	dir := t.TempDir()
	write := func(file string, text []byte) string {
		must(t, os.WriteFile(filepath.Join(dir, file), text, 0o600))
		return filepath.Join(dir, file)
	}
	password := write("password", []byte(secretWord+"-one"))
	good := func() lab.Config {
		return lab.Config{"url": own.URL(), "password_file": password, "tls": lab.Config{
			"ca_file": write("ca.pem", server.CertPEM), "cert_file": write("client.pem", client.CertPEM), "key_file": write("client.key", client.KeyPEM),
		}}
	}
	m.config["redis"] = good()
	m.put = func(account, json string) { must(t, own.PutSubscription(t.Context(), account, "hook", json)) }
	m.put("acme", m.hook("/hook"))
	began := time.Now()
	m.start(t)
	m.send(t, 100, "acme")
	await(t, 10*time.Second, "a first delivery", func() bool { return m.receiver.Seen("/hook") > 0 })
	t.Logf("mutual TLS: first delivery %s after the start; a change in force after %s", time.Since(began).Round(time.Millisecond), m.changeSending(t, "acme", 5*time.Second))
	m.workout(t, "acme")

	other := newCertificate(t)
	m.checked(t, "wrong host", good().Set("tls.server_name", "redis.example.com"), "redis.tls.server_name", "localhost")
	m.checked(t, "unknown authority", good().Set("tls.ca_file", write("other.pem", other.CertPEM)), "redis.tls.ca_file", "unknown authority")
	m.checked(t, "no authority", lab.Config{"url": own.URL(), "password_file": password}, "redis.tls.ca_file", "system's roots")
	m.checked(t, "no client certificate", lab.Config{"url": own.URL(), "password_file": password, "tls": lab.Config{"ca_file": filepath.Join(dir, "ca.pem")}}, "redis.tls.cert_file")
	m.checked(t, "a foreign client certificate", good().Set("tls.cert_file", write("foreign.pem", other.CertPEM)).Set("tls.key_file", write("foreign.key", other.KeyPEM)), "redis.tls.cert_file")
	m.checked(t, "in the clear to a port with TLS", lab.Config{"url": "redis://" + own.Addr()}, "redis.url", "rediss://")
	m.checked(t, "TLS to a port in the clear", good().Set("url", "rediss://"+plain.Addr()), "redis.url", "redis://")
	m.checked(t, "nobody listens", lab.Config{"url": "redis://127.0.0.1:1"}, "connection refused")
	good() // the files as they were

	t.Log("everything rotates")
	at := m.logLength()
	must(t, own.Kill())
	server, client = newCertificate(t), newCertificate(t)
	must(t, own.Renew(lab.RedisSecurity{Password: secretWord + "-two", Certificate: server, Client: client}))
	must(t, own.Start(within(t, 20*time.Second)))
	t.Logf("run says %s", strings.TrimSpace(m.logged(t, at, "redis", "redis.tls.ca_file")))
	before := m.receiver.Seen()
	m.send(t, 100, "acme")
	await(t, 10*time.Second, "deliveries from the last snapshot", func() bool { return m.receiver.Seen() >= before+100 })
	good()
	write("password", []byte(secretWord+"-two"))
	t.Logf("a change in force %s after the files were new", m.changeSending(t, "acme", 5*time.Second))
	m.complete(t)
	if text, _ := os.ReadFile(m.fanout.Log()); strings.Contains(string(text), secretWord) {
		t.Error("the log holds a password")
	}
}

func newCertificate(t *testing.T) *lab.Certificate {
	t.Helper()
	c, err := lab.NewCertificate()
	must(t, err)
	return c
}

// TestRealRedisSentinel loses its master under load: killed, then with the host it shared with a sentinel.
func TestRealRedisSentinel(t *testing.T) {
	for _, kind := range []string{"clear", "tls"} {
		t.Run(kind, func(t *testing.T) {
			security := lab.RedisSecurity{Password: secretWord}
			if kind == "tls" {
				security.Certificate = newCertificate(t)
			}
			m := newModes(t, "redis-sentinel-"+kind, "")
			group, err := m.lab.Sentinels(within(t, time.Minute), security, 2, 3)
			must(t, err)
			t.Cleanup(func() {
				for _, r := range append(group.Servers, group.Sentinels...) {
					_ = r.Kill()
				}
			})
			file := filepath.Join(t.TempDir(), "password")
			must(t, os.WriteFile(file, []byte(secretWord), 0o600))
			m.config.Set("redis.url", group.URL()).Set("redis.password", secretWord).Set("redis.sentinel_password_file", file)
			if kind == "clear" {
				m.config.Set("redis.sentinel_username", "fanout")
				allowSentinels(t, group, secretWord)
			}
			if kind == "tls" {
				ca := filepath.Join(t.TempDir(), "ca.pem")
				must(t, os.WriteFile(ca, security.Certificate.CertPEM, 0o600))
				m.config.Set("redis.tls.ca_file", ca)
			}
			m.sentinel(t, group, file)
		})
	}
}

// allowSentinels makes fanout's user on the sentinels, or gives it another password and makes it sign in again.
func allowSentinels(t *testing.T, group *lab.Sentinels, password string) {
	t.Helper()
	for _, r := range group.Sentinels {
		cli(t, r, "ACL", "SETUSER", "fanout", "on", "resetpass", ">"+password, "allchannels", "+@all")
		cli(t, r, "CLIENT", "KILL", "USER", "fanout")
	}
}

func (m *modes) sentinel(t *testing.T, group *lab.Sentinels, passwordFile string) {
	t.Helper()
	accounts := many(200)
	m.put = func(account, json string) {
		must(t, group.Master(t.Context()).PutSubscription(t.Context(), account, "hook", json))
	}
	for _, account := range accounts {
		must(t, group.Servers[0].PutSubscription(t.Context(), account, "hook", m.hook("/hook")))
	}
	began := time.Now()
	m.start(t)
	m.send(t, 100, accounts...)
	await(t, 10*time.Second, "a first delivery", func() bool { return m.receiver.Seen("/hook") > 0 })
	t.Logf("sentinel: first delivery %s after the start", time.Since(began).Round(time.Millisecond))
	m.workout(t, accounts[0])
	if strings.Contains(t.Name(), "clear") {
		section := func() lab.Config {
			return lab.Config{"url": group.URL(), "password": secretWord, "sentinel_password": secretWord}
		}
		m.checked(t, "no password for the sentinels", section().Set("sentinel_password", ""), "redis.sentinel_password", "NOAUTH")
		m.checked(t, "wrong password for the sentinels", section().Set("sentinel_password", secretWord+"-x"), "redis.sentinel_password", "WRONGPASS")
		m.checked(t, "no password for the sentinels in the file", section().Set("sentinel_password", "").Set("sentinel_password_file", "/dev/null"), "redis.sentinel_password_file", "/dev/null is empty")
		m.checked(t, "wrong password for the master", section().Set("password", secretWord+"-x"), "redis.password", "WRONGPASS")
		m.checked(t, "another master's name", section().Set("url", strings.Replace(group.URL(), "=mymaster", "=other", 1)), "redis.url", "?master=")

		t.Log("the sentinels' password rotates")
		at := m.logLength()
		allowSentinels(t, group, secretWord+"-two")
		cli(t, group.Master(t.Context()), "CLIENT", "KILL", "TYPE", "normal") // who connects again asks them
		t.Logf("run says %s", strings.TrimSpace(m.logged(t, at, "redis is away", "sentinel_password_file", "WRONGPASS")))
		must(t, os.WriteFile(passwordFile, []byte(secretWord+"-two"), 0o600))
		t.Logf("a change in force %s after the file had the new password", m.changeSending(t, accounts[0], 5*time.Second))
	}

	watched := m.watch(t, len(accounts))
	stop := m.load(t, accounts...)
	t.Logf("a change in force after %s", m.change(t, accounts[1], 5*time.Second))
	lost := func(what string, old *lab.Redis, gone func()) {
		t.Helper()
		began := time.Now()
		gone()
		await(t, 30*time.Second, "a new master", func() bool { r := group.Master(t.Context()); return r != nil && r != old })
		promoted := time.Since(began).Round(time.Millisecond)
		took := m.change(t, accounts[2], 10*time.Second)
		t.Logf("%s: a new master after %s; a change on it in force after %s", what, promoted, took)
		if took > 5*time.Second {
			t.Errorf("%s: in force after %s, want 5s", what, took)
		}
	}
	old := group.Master(t.Context())
	lost("master killed", old, func() { must(t, old.Kill()) })
	must(t, old.Start(within(t, 20*time.Second)))
	await(t, 30*time.Second, "the old master as a replica", func() bool { return old.Role(t.Context()) == "slave" })

	// The host of the master, and of the sentinel that fanout listens to, is gone: nothing answers any more.
	second := group.Master(t.Context())
	asked := slices.IndexFunc(group.Sentinels, func(r *lab.Redis) bool {
		return strings.Contains(cli(t, r, "CLIENT", "LIST", "TYPE", "pubsub"), "sub=2 ")
	})
	if asked < 0 {
		t.Fatal("fanout listens to no sentinel")
	}
	silent := group.Sentinels[asked]
	alive := &lab.Sentinels{Servers: group.Servers, Sentinels: slices.Delete(slices.Clone(group.Sentinels), asked, asked+1)}
	m.put = func(account, json string) {
		must(t, alive.Master(t.Context()).PutSubscription(t.Context(), account, "hook", json))
	}
	whole := group
	group = alive
	lost("host of the master and of a sentinel gone", second, func() { must(t, second.Pause()); must(t, silent.Pause()) })
	must(t, silent.Resume())
	must(t, second.Resume())
	group = whole
	await(t, 30*time.Second, "the second master as a replica", func() bool { return second.Role(t.Context()) == "slave" })
	t.Logf("with all of them back, a change in force after %s", m.change(t, accounts[3], 5*time.Second))
	stop()
	watched()
	m.complete(t)
}

func many(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("acme-%d", i)
	}
	return list
}

// TestRealRedisOlder is a failover, behind one address, to a server that lacks the last writes: the position in the
// stream of changes is ahead of all that it holds, and its clock may be behind too.
func TestRealRedisOlder(t *testing.T) {
	m := newModes(t, "redis-older", "")
	primary, err := m.lab.Redis(within(t, 20*time.Second))
	must(t, err)
	t.Cleanup(func() { _ = primary.Kill() })
	replica, err := m.lab.Redis(within(t, 20*time.Second), "--replicaof", strings.Replace(primary.Addr(), ":", " ", 1))
	must(t, err)
	t.Cleanup(func() { _ = replica.Kill() })
	address := newSwitch(t, primary.Addr())
	m.config.Set("redis.url", "redis://"+address.addr())
	accounts := many(20)
	for _, account := range accounts {
		must(t, primary.PutSubscription(t.Context(), account, "hook", m.hook("/hook")))
	}
	m.start(t)
	m.put = func(account, json string) { must(t, primary.PutSubscription(t.Context(), account, "hook", json)) }
	m.changeSending(t, accounts[0], 5*time.Second)
	await(t, 10*time.Second, "the replica's copy", func() bool {
		return strings.Contains(cli(t, replica, "INFO", "replication"), "master_link_status:up") && cli(t, replica, "XLEN", "fanout:changes") == cli(t, primary, "XLEN", "fanout:changes")
	})
	cli(t, replica, "REPLICAOF", "NO", "ONE")
	kept := m.paths[len(m.paths)-1]
	t.Logf("lost with the primary: a change that was in force after %s", m.changeSending(t, accounts[0], 5*time.Second))
	lost := m.paths[len(m.paths)-1]
	must(t, primary.PutSubscription(t.Context(), "new", "hook", m.hook("/hook")))
	await(t, 5*time.Second, "a subscription that the replica will lack", func() bool { return m.subscriptions(t) == len(accounts)+1 })

	address.turn(replica.Addr())
	began := time.Now()
	must(t, primary.Kill())
	stop := m.load(t, accounts[0])
	seen := m.receiver.Seen(kept)
	await(t, 10*time.Second, "what the promoted one holds", func() bool { return m.receiver.Seen(kept) > seen })
	t.Logf("what the promoted one holds in force %s after the failover (%d deliveries to what was lost)", time.Since(began).Round(time.Millisecond), m.receiver.Seen(lost))
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("that took %s", took)
	}
	await(t, 10*time.Second, "the lost account gone", func() bool { return m.subscriptions(t) == len(accounts) })

	// Its clock is behind: it numbers its changes below what fanout has read.
	last := strings.Fields(cli(t, replica, "XREVRANGE", "fanout:changes", "+", "-", "COUNT", "1"))[0]
	t.Logf("its last change is %s", last)
	ms, _, _ := strings.Cut(last, "-")
	m.paths = append(m.paths, "/behind")
	cli(t, replica, "HSET", "fanout:account:"+accounts[0], "hook", m.hook("/behind"))
	cli(t, replica, "XADD", "fanout:changes", ms+"-999999", "account", accounts[0])
	began = time.Now()
	await(t, 5*time.Second, "a change with an id from before the failover", func() bool { return m.receiver.Seen("/behind") > 0 })
	t.Logf("a change with an id from before the failover in force after %s", time.Since(began).Round(time.Millisecond))
	stop()
	m.complete(t)
}

// aSwitch is one address in front of several servers.
type aSwitch struct {
	listener net.Listener
	mu       sync.Mutex // guards to and conns
	to       string
	conns    []net.Conn
}

func newSwitch(t *testing.T, to string) *aSwitch {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := &aSwitch{listener: listener, to: to}
	t.Cleanup(func() { _ = listener.Close(); s.turn("") })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go s.serve(conn)
		}
	}()
	return s
}

func (s *aSwitch) addr() string { return s.listener.Addr().String() }

func (s *aSwitch) serve(conn net.Conn) {
	s.mu.Lock()
	back, err := net.Dial("tcp", s.to)
	s.conns = append(s.conns, conn)
	if err == nil {
		s.conns = append(s.conns, back)
	}
	s.mu.Unlock()
	if err != nil {
		_ = conn.Close()
		return
	}
	go func() { _, _ = back.(*net.TCPConn).ReadFrom(conn); _ = back.Close() }()
	_, _ = conn.(*net.TCPConn).ReadFrom(back)
	_ = conn.Close()
}

// turn cuts every connection; the next ones go elsewhere.
func (s *aSwitch) turn(to string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.to = to
	for _, conn := range s.conns {
		_ = conn.Close()
	}
	s.conns = nil
}

// TestRealRedisCluster moves slots under load, with a thousand accounts over three masters.
func TestRealRedisCluster(t *testing.T) {
	logging.Disable() // our own client's, of nodes that are down
	m := newModes(t, "redis-cluster", "")
	cluster, err := m.lab.Cluster(within(t, time.Minute), lab.RedisSecurity{Password: secretWord + "-admin"}, 3, 1)
	must(t, err)
	t.Cleanup(func() {
		for _, r := range cluster.Nodes {
			_ = r.Kill()
		}
	})
	for _, r := range cluster.Nodes {
		allow(t, r)
		cli(t, r, aclLine(t, "fanout-sync", secretWord)...)
	}
	m.config.Set("redis.url", cluster.URL()).Set("redis.username", "fanout").Set("redis.password", secretWord)
	client := cluster.Client()
	t.Cleanup(func() { _ = client.Close() })
	m.put = func(account, json string) {
		must(t, lab.PutSubscription(t.Context(), client, account, "hook", json))
	}
	accounts := many(1000)
	for _, account := range accounts {
		m.put(account, m.hook("/hook"))
	}
	began := time.Now()
	m.start(t)
	ready := time.Since(began)
	m.send(t, 1000, accounts...)
	await(t, 10*time.Second, "deliveries of all accounts", func() bool { return m.receiver.Seen("/hook") >= 1000 })
	t.Logf("cluster: ready %s after the start, %d accounts delivered to after %s", ready.Round(time.Millisecond), len(accounts), time.Since(began).Round(time.Millisecond))
	m.workout(t, accounts[0])
	var took []time.Duration
	for _, account := range accounts[:20] {
		took = append(took, m.changeSending(t, account, 5*time.Second))
	}
	t.Logf("worst of %d changes, on every master, in force after %s", len(took), slices.Max(took))

	env := []string{"REDIS_USER=fanout-sync", "REDISCLI_AUTH=" + secretWord, "REDIS_PASSWORD=" + secretWord}
	for _, job := range [][]string{{"bash", "sync-job.sh"}, {"python3", "sync-job.py"}, {"node", "sync-job.mjs"}} {
		put := m.put
		m.put = func(account, json string) { m.syncJob(t, job[0], job[1], cluster.Nodes[0], env, account, "hook", json) }
		for _, account := range accounts[20:24] { // on several masters
			m.changeSending(t, account, 5*time.Second)
		}
		m.put = put
		t.Logf("%s: 4 accounts through one node, in force", job[1])
	}

	watched := m.watch(t, len(accounts))
	stop := m.load(t, accounts...)
	m.migrate(t, cluster, "fanout:changes", accounts[30])
	m.migrate(t, cluster, "fanout:account:"+accounts[31], accounts[31])
	stop()
	watched()
	m.complete(t)
}

// migrate moves the slot of a key to another master by hand, and stops in the middle, where the keys have moved and the
// slot has not: a change is made there, and everything is loaded.
func (m *modes) migrate(t *testing.T, cluster *lab.Cluster, key, account string) {
	t.Helper()
	from, err := cluster.Owner(t.Context(), key)
	must(t, err)
	var to *lab.Redis
	for _, r := range cluster.Nodes {
		if r != from && r.Role(t.Context()) == "master" {
			to = r
		}
	}
	id := func(r *lab.Redis) string { return strings.TrimSpace(cli(t, r, "CLUSTER", "MYID")) }
	slot := strings.TrimSpace(cli(t, from, "CLUSTER", "KEYSLOT", key))
	cli(t, to, "CLUSTER", "SETSLOT", slot, "IMPORTING", id(from))
	cli(t, from, "CLUSTER", "SETSLOT", slot, "MIGRATING", id(to))
	host, port, _ := net.SplitHostPort(to.Addr())
	cli(t, from, "MIGRATE", host, port, key, "0", "5000", "AUTH", secretWord+"-admin")
	middle := m.change(t, account, 10*time.Second)
	// A full load without a guard: what it does not find is dropped.
	loaded := m.logLength()
	m.must(t, "subscriptions", "accept")
	m.logged(t, loaded, "operator confirmed")
	time.Sleep(4 * time.Second) // the load, and its second question
	for _, r := range []*lab.Redis{to, from} {
		cli(t, r, "CLUSTER", "SETSLOT", slot, "NODE", id(to))
	}
	t.Logf("slot %s of %s moved live: a change in the middle in force after %s, one after it after %s", slot, key, middle, m.change(t, account, 10*time.Second))
	if now, err := cluster.Owner(t.Context(), key); err != nil || now != to {
		t.Errorf("the slot did not move: %v", err)
	}
}
