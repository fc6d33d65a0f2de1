//go:build real

package main_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"fanout/cmd/internal/lab"
)

const kafkaPassword = "correct-horse"

// secured is a real Kafka that trusts nobody, and what a user has in files to sign in with.
type secured struct {
	*outside

	security *lab.KafkaSecurity
	admin    *kadm.Client // over the plaintext listener, where everything is allowed

	authority, client, stranger *lab.Certificate
	dir                         string
	table                       strings.Builder
}

// settings are keys of the configuration below kafka.
type settings map[string]any

func (s settings) with(more settings) settings {
	out := maps.Clone(s)
	maps.Copy(out, more)
	return out
}

// TestKafkaSecurity signs in to Apache Kafka in every way that the documentation names, with no right but those that it lists.
func TestKafkaSecurity(t *testing.T) {
	lab.RequireKafka(t)
	lab.RequireTools(t, "redis-server")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	s := newSecured(ctx, t)
	t.Run("modes", s.modes)
	t.Run("refused", s.refused)
	t.Run("rights", s.rights)
	t.Run("password rotates", s.passwordRotates)
	t.Run("certificates rotate", s.certificatesRotate) // last: it changes the broker's authority
	t.Logf("\n%-28s %-10s %s\n%s", "MODE", "RESULT", "FIRST DELIVERY", s.table.String())
}

func newSecured(ctx context.Context, t *testing.T) *secured {
	t.Helper()
	s := &secured{outside: &outside{t: t, ctx: ctx, lab: lab.ForTest(t)}, dir: t.TempDir()}
	var err error
	s.authority, err = lab.NewCertificate()
	check(t, err)
	broker, err := s.authority.Issue("broker")
	check(t, err)
	s.client, err = s.authority.Issue("fanout")
	check(t, err)
	s.stranger, err = lab.NewCertificate()
	check(t, err)
	s.security = &lab.KafkaSecurity{Username: "fanout", Password: kafkaPassword, Certificate: broker, Authorities: s.authority.CertPEM, Authorizer: true}
	s.kafka, err = s.lab.Kafka(ctx, lab.KafkaConfig{Secure: s.security, Properties: map[string]string{
		"listener.name.sasl_plaintext.sasl.enabled.mechanisms":           "PLAIN,SCRAM-SHA-256",
		"listener.name.sasl_ssl.scram-sha-512.connections.max.reauth.ms": "4000", // it closes connections that are older
		"listener.name.sasl_ssl.oauthbearer.connections.max.reauth.ms":   "4000",
	}})
	check(t, err)
	s.redis, err = s.lab.Redis(ctx)
	check(t, err)
	s.recv, err = s.lab.Receiver(lab.KeepIDs)
	check(t, err)
	s.program, err = s.lab.Build(ctx)
	check(t, err)
	client, err := kgo.NewClient(kgo.SeedBrokers(s.kafka.Brokers()...))
	check(t, err)
	t.Cleanup(client.Close)
	s.admin = kadm.NewClient(client)
	s.file("ca.pem", s.authority.CertPEM)
	s.file("stranger.pem", s.stranger.CertPEM)
	s.file("stranger-key.pem", s.stranger.KeyPEM)
	s.file("client.pem", s.client.CertPEM)
	s.file("client-key.pem", s.client.KeyPEM)
	s.file("password", []byte(kafkaPassword))
	s.file("password-line", []byte(kafkaPassword+"\r\n"))
	s.file("password-wrong", []byte("not-the-password"))
	s.file("password-empty", []byte("\n"))
	s.file("token", token(time.Hour))
	s.file("token-old", token(-time.Hour))
	s.grant(t)
	return s
}

// token is one that nobody has signed, as Kafka's own handler for tests takes it.
func token(valid time.Duration) []byte {
	part := func(json string) string { return base64.RawURLEncoding.EncodeToString([]byte(json)) }
	now := time.Now()
	return []byte(part(`{"alg":"none"}`) + "." + part(fmt.Sprintf(`{"sub":"fanout","iat":%d,"exp":%d}`, now.Add(-2*time.Hour).Unix(), now.Add(valid).Unix())) + ".")
}

func (s *secured) path(name string) string { return filepath.Join(s.dir, name) }

// file writes it as Kubernetes does: under another name, and then at once.
func (s *secured) file(name string, text []byte) {
	s.t.Helper()
	check(s.t, os.WriteFile(s.path(name)+".new", text, 0o600))
	check(s.t, os.Rename(s.path(name)+".new", s.path(name)))
}

// grant runs the commands of docs/kafka.md, word by word.
func (s *secured) grant(t *testing.T) {
	t.Helper()
	root, err := lab.Root()
	check(t, err)
	page, err := os.ReadFile(filepath.Join(root, "docs", "kafka.md"))
	check(t, err)
	commands := regexp.MustCompile(`(?m)^kafka-acls\.sh .*$`).FindAllString(string(page), -1)
	if len(commands) < 3 {
		t.Fatalf("docs/kafka.md has %d commands for ACLs", len(commands))
	}
	for _, command := range commands {
		args := strings.Fields(strings.ReplaceAll(command, "kafka:9092", s.kafka.Addr()))
		java := append([]string{"-XX:TieredStopAtLevel=1", "-cp", filepath.Join(root, ".real", "kafka", "lib", "*"), "org.apache.kafka.tools.AclCommand"}, args[1:]...)
		if out, err := exec.CommandContext(s.ctx, "java", java...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
	}
}

func (s *secured) at(listener string) []string {
	return []string{s.kafka.Nodes[0].SecureAddr(listener)}
}

func (s *secured) tls() settings {
	return settings{"tls.enabled": true, "tls.ca_file": s.path("ca.pem")}
}

func (s *secured) mutual() settings {
	return s.tls().with(settings{"brokers": s.at(lab.ListenerMutual), "tls.cert_file": s.path("client.pem"), "tls.key_file": s.path("client-key.pem")})
}

func (s *secured) sasl(listener, mechanism string) settings {
	base := settings{}
	if listener == lab.ListenerSASLTLS {
		base = s.tls()
	}
	return base.with(settings{"brokers": s.at(listener), "sasl.mechanism": mechanism, "sasl.username": "fanout", "sasl.password_file": s.path("password")})
}

func (s *secured) bearer(listener, file string) settings {
	return s.tls().with(settings{"brokers": s.at(listener), "sasl.mechanism": "OAUTHBEARER", "sasl.token_file": s.path(file)})
}

// launch starts fanout with topics and a group of that name, which is an account too.
func (s *secured) launch(t *testing.T, name string, with settings) *lab.Fanout {
	t.Helper()
	f, err := s.lab.Fanout(s.program, s.kafka, s.redis, func(c lab.Config) {
		c.Set("sources", []map[string]string{{"topic": "channel." + name}}).Set("kafka.group", "fanout-"+name).Set("topics.prefix", "fanout."+name).
			Set("delivery.schedule", []string{"1s"}).Set("lanes.park_min", "1s").Set("lanes.park_max", "1s").Set("lanes.park_after", 1000).
			Set("kafka.partitions", 1).Set("kafka.retry_partitions", 1)
		for key, value := range with {
			c.Set("kafka."+key, value)
		}
	})
	check(t, err)
	t.Cleanup(func() { _ = f.Kill() })
	return f
}

// prepare makes the source topic and two subscriptions: one that works, one that never does.
func (s *secured) prepare(t *testing.T, name string) {
	t.Helper()
	check(t, s.kafka.CreateTopics(s.ctx, lab.Topic{Name: "channel." + name}))
	for _, id := range []string{"good", "bad"} {
		check(t, s.redis.PutSubscription(s.ctx, name, id, fmt.Sprintf(`{"url":%q,"events":["*"]}`, s.recv.URL("/"+name+"/"+id))))
	}
	s.recv.On("/"+name+"/bad", lab.Always(lab.Answer{Status: 503}))
}

func (s *secured) produce(t *testing.T, name string, from, n int) {
	t.Helper()
	client := s.kafka.Client()
	defer lab.CloseClient(client)
	for s.ctx.Err() == nil {
		records := make([]kafka.Record, n) // again for each try, which reads them to their ends
		for i := range records {
			records[i].Value = kafka.NewBytes(fmt.Appendf(nil, `{"accountId":%q,"channel":"EMAIL","type":"OPEN","trackingId":"t%d","notificationId":"n","userId":"u"}`, name, from+i))
		}
		res, err := client.Produce(s.ctx, &kafka.ProduceRequest{Topic: "channel." + name, RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(records...)})
		if err == nil && res.Error == nil {
			return
		}
		time.Sleep(50 * time.Millisecond) // the broker may be restarting
	}
}

func (s *secured) until(t *testing.T, what string, within time.Duration, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, within)
	defer cancel()
	check(t, lab.Await(ctx, what, ok))
}

func (s *secured) holds(topic string) bool {
	ends, err := s.kafka.Ends(s.ctx, topic)
	for _, end := range ends {
		if err == nil && end > 0 {
			return true
		}
	}
	return false
}

// command runs an operator's command beside f, with its configuration; the password must be nowhere in what it says.
func (s *secured) command(t *testing.T, f *lab.Fanout, args ...string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.program, append(args, "--config", "fanout.yaml")...)
	cmd.Dir, cmd.Env = f.Dir(), []string{"HOME=" + f.Dir(), "TMPDIR=" + f.Dir()}
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok {
		check(t, err)
	} else if exit.ExitCode() < 0 {
		t.Errorf("fanout %s: %v", strings.Join(args, " "), err)
	}
	s.quiet(t, out)
	return string(out), cmd.ProcessState.ExitCode()
}

func (s *secured) quiet(t *testing.T, text []byte) {
	t.Helper()
	for _, secret := range []string{kafkaPassword, "not-the-password", "eyJhbGciOiJub25lIn0"} {
		if bytes.Contains(text, []byte(secret)) {
			t.Errorf("a secret is shown: %s", text)
		}
	}
}

func (s *secured) modes(t *testing.T) {
	for _, mode := range []struct {
		name string
		with settings
	}{
		{"tls", s.tls().with(settings{"brokers": s.at(lab.ListenerTLS)})},
		{"mutual-tls", s.mutual()},
		{"plain", s.sasl(lab.ListenerSASL, "PLAIN")},
		{"plain-tls", s.sasl(lab.ListenerSASLTLS, "PLAIN")},
		{"scram-256", s.sasl(lab.ListenerSASL, "SCRAM-SHA-256")},
		{"scram-256-tls", s.sasl(lab.ListenerSASLTLS, "SCRAM-SHA-256")},
		{"scram-512-tls", s.sasl(lab.ListenerSASLTLS, "SCRAM-SHA-512")},
		{"scram-256-newline", s.sasl(lab.ListenerSASL, "SCRAM-SHA-256").with(settings{"sasl.password_file": s.path("password-line")})},
		{"bearer-tls", s.bearer(lab.ListenerSASLTLS, "token")},
	} {
		t.Run(mode.name, func(t *testing.T) {
			s.prepare(t, mode.name)
			began := time.Now()
			s.produce(t, mode.name, 0, 1)
			f := s.launch(t, mode.name, mode.with)
			s.until(t, "a delivery", 30*time.Second, func() bool { return s.recv.Delivered("/"+mode.name+"/good") > 0 })
			took := time.Since(began)
			prefix := "fanout." + mode.name
			s.until(t, "a record in the retry topic", 10*time.Second, func() bool { return s.holds(prefix + ".retry.1s") })
			s.until(t, "a dead letter", 20*time.Second, func() bool { return s.holds(prefix + ".dead-letter") })
			for _, args := range [][]string{
				{"check"},
				{"topics", "describe"},
				{"topics", "create"},
				{"deadletter", "stats"},
				{"deadletter", "list"},
				{"explain", "channel." + mode.name + "/0/0"},
				{"deadletter", "replay", "--account", mode.name, "--name", "again", "--yes"},
			} {
				out, code := s.command(t, f, args...)
				if code != 0 {
					t.Errorf("fanout %s: exit status %d\n%s", strings.Join(args, " "), code, out)
				}
				if args[0] == "deadletter" && args[1] == "list" && !strings.Contains(out, mode.name) {
					t.Errorf("deadletter list does not show it:\n%s", out)
				}
			}
			s.until(t, "a replayed record", 10*time.Second, func() bool { return s.holds(prefix + ".replay") })
			s.until(t, "two rounds of attempts", 20*time.Second, func() bool { return s.recv.Seen("/"+mode.name+"/bad") >= 4 })
			check(t, f.Ready(s.ctx))
			check(t, f.Stop(s.ctx))
			text, err := os.ReadFile(f.Log())
			check(t, err)
			s.quiet(t, text)
			fmt.Fprintf(&s.table, "%-28s %-10s %v\n", mode.name, "ok", took.Round(time.Millisecond))
		})
	}
}

// refused are the mistakes. `check` and `run` name the key and what to do; run goes on trying, but for a file that it
// cannot begin without.
func (s *secured) refused(t *testing.T) {
	s.prepare(t, "refused")
	scram := s.sasl(lab.ListenerSASL, "SCRAM-SHA-256")
	for _, mistake := range []struct {
		name string
		with settings
		ends bool // run exits: a configuration that can never work
		says []string
	}{
		{"wrong password", scram.with(settings{"sasl.password_file": s.path("password-wrong")}), false, []string{"kafka.sasl.password_file", s.path("password-wrong"), "user fanout"}},
		{"wrong PLAIN password", s.sasl(lab.ListenerSASLTLS, "PLAIN").with(settings{"sasl.password_file": s.path("password-wrong")}), false, []string{"kafka.sasl.password_file", "user fanout"}},
		{"unknown user", scram.with(settings{"sasl.username": "nobody"}), false, []string{"kafka.sasl.username", "user nobody"}},
		{"mechanism not enabled", s.sasl(lab.ListenerSASL, "SCRAM-SHA-512"), false, []string{"kafka.sasl.mechanism", "SCRAM-SHA-512", "sasl.enabled.mechanisms"}},
		{"old token", s.bearer(lab.ListenerSASLTLS, "token-old"), false, []string{"kafka.sasl.token_file", s.path("token-old"), "expired"}},
		{"no SASL where it is asked for", settings{"brokers": s.at(lab.ListenerSASL)}, false, []string{"kafka.sasl.mechanism", s.at(lab.ListenerSASL)[0]}},
		{"SASL where none is", s.sasl(lab.ListenerSASLTLS, "PLAIN").with(settings{"brokers": s.at(lab.ListenerTLS)}), false, []string{"kafka.sasl.mechanism", "asks for no SASL"}},
		{"unknown authority", s.mutual().with(settings{"tls.ca_file": s.path("stranger.pem")}), false, []string{"kafka.tls.ca_file", s.path("stranger.pem")}},
		{"system's authorities", settings{"brokers": s.at(lab.ListenerTLS), "tls.enabled": true}, false, []string{"kafka.tls.ca_file", "system's roots"}},
		{"wrong host name", s.mutual().with(settings{"tls.server_name": "kafka.example.com"}), false, []string{"kafka.tls.server_name", "kafka.example.com"}},
		{"no client certificate", s.tls().with(settings{"brokers": s.at(lab.ListenerMutual)}), false, []string{"kafka.tls.cert_file", "key_file"}},
		{"a stranger's certificate", s.mutual().with(settings{"tls.cert_file": s.path("stranger.pem"), "tls.key_file": s.path("stranger-key.pem")}), false, []string{"kafka.tls.cert_file", s.path("stranger.pem")}},
		{"TLS to a plain port", s.tls().with(settings{"brokers": s.kafka.Brokers()}), false, []string{"kafka.tls.enabled", s.kafka.Addr(), "turn TLS off"}},
		{"plain to a TLS port", settings{"brokers": s.at(lab.ListenerTLS)}, false, []string{"kafka.tls.enabled", s.at(lab.ListenerTLS)[0], "true"}},
		{"plain SASL to a TLS port", scram.with(settings{"brokers": s.at(lab.ListenerSASLTLS)}), false, []string{"kafka.tls.enabled", "true"}},
		{"password file missing", scram.with(settings{"sasl.password_file": s.path("none")}), true, []string{"kafka.sasl.password_file", s.path("none")}},
		{"password file empty", scram.with(settings{"sasl.password_file": s.path("password-empty")}), true, []string{"kafka.sasl.password_file", s.path("password-empty"), "empty"}},
		{"authority file missing", s.tls().with(settings{"brokers": s.at(lab.ListenerTLS), "tls.ca_file": s.path("none")}), true, []string{"kafka.tls.ca_file", s.path("none")}},
		{"key of another certificate", s.mutual().with(settings{"tls.key_file": s.path("stranger-key.pem")}), true, []string{"kafka.tls.cert_file", "key_file"}},
	} {
		t.Run(mistake.name, func(t *testing.T) {
			began := time.Now()
			f := s.launch(t, "refused", mistake.with)
			out, code := s.command(t, f, "check")
			answered := time.Since(began)
			if code != 1 || answered > 20*time.Second {
				t.Errorf("check: exit status %d after %v", code, answered)
			}
			says := func(text string) bool {
				for _, part := range mistake.says {
					if !strings.Contains(text, part) {
						return false
					}
				}
				return true
			}
			if !says(out) {
				t.Errorf("check says\n%s\nwant it to name %q", out, mistake.says)
			}
			s.until(t, fmt.Sprintf("a log that names %q", mistake.says), 10*time.Second, func() bool {
				text, err := os.ReadFile(f.Log())
				return err == nil && says(string(text))
			})
			if mistake.ends {
				if code, err := f.Wait(s.ctx); err != nil || code != 1 {
					t.Errorf("run: exit status %d, %v", code, err)
				}
			} else if !f.Running() || f.IsReady(s.ctx) {
				t.Error("run has ended, or is ready")
			}
			text, err := os.ReadFile(f.Log())
			check(t, err)
			s.quiet(t, text)
			_ = f.Kill()
			fmt.Fprintf(&s.table, "%-28s %-10s check answered in %v\n", mistake.name, "refused", answered.Round(time.Millisecond))
		})
	}
}

// rights takes one right away at a time: the error names it, and once it is given, run goes on by itself.
func (s *secured) rights(t *testing.T) {
	for name, right := range map[string]struct {
		deny  *kadm.ACLBuilder
		says  []string
		check string // what check says of it
	}{
		"read-source":    {kadm.NewACLs().Topics("channel.read-source").Operations(kadm.OpRead), []string{"channel.read-source", "needs Read"}, "no Read on channel.read-source"},
		"see-source":     {kadm.NewACLs().Topics("channel.see-source").Operations(kadm.OpDescribe), []string{"channel.see-source", "needs Read and Describe"}, "needs Read and Describe"},
		"create":         {kadm.NewACLs().Topics("fanout.create.replay").Operations(kadm.OpCreate), []string{"fanout.create.replay", "needs Create"}, "fanout.create.replay cannot be created"},
		"write-retry":    {kadm.NewACLs().Topics("fanout.write-retry.retry.1s").Operations(kadm.OpWrite), []string{"fanout.write-retry.retry.1s", "needs Write"}, "no Write on fanout.write-retry.retry.1s"},
		"write-dead":     {kadm.NewACLs().Topics("fanout.write-dead.dead-letter").Operations(kadm.OpWrite), []string{"fanout.write-dead.dead-letter", "needs Write"}, "no Write on fanout.write-dead.dead-letter"},
		"read-group":     {kadm.NewACLs().Groups("fanout-read-group").Operations(kadm.OpRead), []string{"fanout-read-group", "groups with the prefix of kafka.group"}, "no Read on the group fanout-read-group"},
		"describe-group": {kadm.NewACLs().Groups("fanout-describe-group").Operations(kadm.OpDescribe), []string{"fanout-describe-group", "groups with the prefix of kafka.group"}, "needs Read on the source topics and on the group"},
	} {
		t.Run(name, func(t *testing.T) {
			s.prepare(t, name)
			deny := right.deny.Deny("User:fanout").DenyHosts("*").ResourcePatternType(kadm.ACLPatternLiteral)
			_, err := s.admin.CreateACLs(s.ctx, deny)
			check(t, err)
			s.produce(t, name, 0, 1)
			f := s.launch(t, name, s.sasl(lab.ListenerSASL, "SCRAM-SHA-256"))
			s.until(t, fmt.Sprintf("a log that names %q", right.says), 20*time.Second, func() bool {
				text, err := os.ReadFile(f.Log())
				for _, part := range right.says {
					if err != nil || !bytes.Contains(text, []byte(part)) {
						return false
					}
				}
				return true
			})
			out, code := s.command(t, f, "check")
			if text := strings.Join(strings.Fields(strings.ReplaceAll(out, "→ ", "")), " "); code != 1 || !strings.Contains(text, right.check) {
				t.Errorf("check: exit status %d, no %q in\n%s", code, right.check, out)
			}
			_, err = s.admin.DeleteACLs(s.ctx, deny)
			check(t, err)
			s.until(t, "a delivery", 30*time.Second, func() bool { return s.recv.Delivered("/"+name+"/good") > 0 })
			s.until(t, "a dead letter", 30*time.Second, func() bool { return s.holds("fanout." + name + ".dead-letter") })
			check(t, f.Stop(s.ctx))
			fmt.Fprintf(&s.table, "%-28s %-10s named, and goes on once given\n", "without "+name, "refused")
		})
	}
}

// load produces 40 events a second until change has returned, and then waits until each is delivered.
func (s *secured) load(t *testing.T, name string, f *lab.Fanout, change func()) {
	t.Helper()
	stop, sent := make(chan struct{}), make(chan int)
	go func() {
		for n := 0; ; n += 2 {
			select {
			case <-stop:
				sent <- n
				return
			case <-time.After(50 * time.Millisecond):
				s.produce(t, name, n, 2)
			}
		}
	}()
	s.until(t, "a delivery", 30*time.Second, func() bool { return s.recv.Delivered("/"+name+"/good") > 0 })
	began := time.Now()
	change()
	close(stop)
	n := <-sent
	t.Logf("the change took %v", time.Since(began).Round(time.Millisecond))
	defer func() {
		if t.Failed() {
			ends, _ := s.kafka.Ends(s.ctx, "channel."+name)
			committed, _ := s.kafka.Committed(s.ctx, "fanout-"+name, "channel."+name)
			t.Logf("%d sent, ends %v, committed %v, %d delivered", n, ends, committed, len(s.recv.IDs("/"+name+"/good")))
			m, _ := f.Metrics(s.ctx)
			for _, outcome := range []string{"delivered", "retry", "deferred", "dead", "discarded", "abandoned"} {
				t.Logf("%s: %v", outcome, m.Sum("fanout_outcomes_total", `outcome="`+outcome+`"`))
			}
			stats, _ := s.command(t, f, "deadletter", "stats")
			t.Log(stats)
		}
	}()
	s.until(t, "every event", 40*time.Second, func() bool { return len(s.recv.IDs("/"+name+"/good")) >= n })
	delivered := s.recv.Delivered("/" + name + "/good")
	fmt.Fprintf(&s.table, "%-28s %-10s %d events, none lost, %d repeats\n", name, "ok", n, delivered-int64(n))
}

// passwordRotates changes the password in the broker and in the file; the broker closes connections of more than 4 s.
func (s *secured) passwordRotates(t *testing.T) {
	const name, next = "rotates", "battery-staple"
	s.prepare(t, name)
	s.recv.On("/"+name+"/bad", lab.Always(lab.Answer{}))
	s.file("rotating", []byte(kafkaPassword))
	f := s.launch(t, name, s.sasl(lab.ListenerSASLTLS, "SCRAM-SHA-512").with(settings{"sasl.password_file": s.path("rotating")}))
	s.load(t, name, f, func() {
		res, err := s.admin.AlterUserSCRAMs(s.ctx, nil, []kadm.UpsertSCRAM{{User: "fanout", Mechanism: kadm.ScramSha512, Iterations: 4096, Password: next}})
		check(t, err)
		check(t, res.Error())
		s.file("rotating", []byte(next+"\n"))
		time.Sleep(9 * time.Second) // two lives of a connection
		s.recvAfter(t, name)
		// The old password has an end, and so has what was signed in with it.
		if out, code := s.command(t, s.launch(t, name, s.sasl(lab.ListenerSASLTLS, "SCRAM-SHA-512")), "check"); code != 1 || !strings.Contains(out, "kafka.sasl.password_file") {
			t.Errorf("check with the old password: %d\n%s", code, out)
		}
	})
	if out, code := s.command(t, f, "check"); code != 0 {
		t.Errorf("check: %d\n%s", code, out)
	}
	check(t, f.Stop(s.ctx))
}

// recvAfter waits for deliveries of events that are produced from now on.
func (s *secured) recvAfter(t *testing.T, name string) {
	t.Helper()
	seen := s.recv.Delivered("/" + name + "/good")
	s.until(t, "deliveries with the new credentials", 15*time.Second, func() bool { return s.recv.Delivered("/"+name+"/good") > seen+20 })
}

// certificatesRotate gives fanout a bundle of both authorities and a certificate of the new one; then the broker changes
// its own certificate, and trusts the new authority alone.
func (s *secured) certificatesRotate(t *testing.T) {
	const name = "rekeyed"
	s.prepare(t, name)
	s.recv.On("/"+name+"/bad", lab.Always(lab.Answer{}))
	f := s.launch(t, name, s.mutual())
	s.load(t, name, f, func() {
		authority, err := lab.NewCertificate()
		check(t, err)
		broker, err := authority.Issue("broker")
		check(t, err)
		client, err := authority.Issue("fanout")
		check(t, err)
		s.file("ca.pem", append(bytes.Clone(s.authority.CertPEM), authority.CertPEM...))
		s.file("client.pem", client.CertPEM)
		s.file("client-key.pem", client.KeyPEM)
		check(t, s.kafka.Stop(s.ctx))
		check(t, s.kafka.Nodes[0].Rekey(&lab.KafkaSecurity{Certificate: broker, Authorities: authority.CertPEM}))
		check(t, s.kafka.Start(s.ctx))
		s.recvAfter(t, name)
	})
	if out, code := s.command(t, f, "check"); code != 0 {
		t.Errorf("check: %d\n%s", code, out)
	}
	check(t, f.Stop(s.ctx))
}
