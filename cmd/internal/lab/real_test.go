//go:build real

package lab_test

import (
	"context"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"

	"fanout/cmd/internal/lab"
)

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func kcat(ctx context.Context, t *testing.T, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(ctx, "kcat", args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("kcat %v: %v\n%s", args, err, &stderr)
	}
	return string(out)
}

func TestKafkaKeepsDataThroughKill(t *testing.T) {
	lab.RequireKafka(t)
	lab.RequireTools(t, "kcat")
	ctx := within(t, 2*time.Minute)
	l := lab.ForTest(t)

	began := time.Now()
	k, err := l.Kafka(ctx, lab.KafkaConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("kafka formatted and started in %.1f s", time.Since(began).Seconds())
	if err := k.CreateTopics(ctx, lab.Topic{Name: "channel.email", Partitions: 3}); err != nil {
		t.Fatal(err)
	}
	kcat(ctx, t, "a\nb\nc\n", "-b", k.Addr(), "-t", "channel.email", "-P", "-X", "acks=all")
	consume := []string{"-b", k.Addr(), "-t", "channel.email", "-C", "-e", "-q", "-o", "beginning"}
	if got := lines(kcat(ctx, t, "", consume...)); got != 3 {
		t.Fatalf("consumed %d records, want 3", got)
	}
	if u, err := k.Nodes[0].Usage(); err != nil || u.CPU == 0 || u.Resident == 0 {
		t.Errorf("usage %+v: %v", u, err)
	} else {
		t.Logf("kafka: %.1f s CPU, %d MiB resident", u.CPU.Seconds(), u.Resident>>20)
	}

	if err := k.Kill(); err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	if err := k.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("kafka back %.1f s after kill -9", time.Since(began).Seconds())
	if got := lines(kcat(ctx, t, "", consume...)); got != 3 {
		t.Fatalf("consumed %d records after kill -9, want 3", got)
	}
	ends, err := k.Ends(ctx, "channel.email")
	if err != nil || ends[0]+ends[1]+ends[2] != 3 {
		t.Errorf("ends %v: %v", ends, err)
	}

	if err := k.Pause(); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Ends(within(t, time.Second), "channel.email"); err == nil {
		t.Error("a frozen broker answered")
	}
	if err := k.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := k.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	if err := k.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if k.Nodes[0].Running() {
		t.Error("runs after Stop")
	}
}

func lines(text string) int { return strings.Count(text, "\n") }

func TestClusterElectsLeaders(t *testing.T) {
	lab.RequireKafka(t)
	ctx := within(t, 3*time.Minute)
	began := time.Now()
	k, err := lab.ForTest(t).Kafka(ctx, lab.KafkaConfig{
		Nodes:      3,
		Properties: map[string]string{"min.insync.replicas": "2"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("three nodes in %.1f s", time.Since(began).Seconds())
	if err := k.CreateTopics(ctx, lab.Topic{Name: "channel.sms", Partitions: 3, Copies: 3}); err != nil {
		t.Fatal(err)
	}
	kcat(ctx, t, "a\nb\n", "-b", strings.Join(k.Brokers(), ","), "-t", "channel.sms", "-P", "-X", "acks=all")
	if err := k.Nodes[1].Kill(); err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	if err := k.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("new leaders %.1f s after kill -9 of one node", time.Since(began).Seconds())
	kcat(ctx, t, "c\n", "-b", k.Addr(), "-t", "channel.sms", "-P", "-X", "acks=all")
	if err := k.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if got := lines(kcat(ctx, t, "", "-b", k.Addr(), "-t", "channel.sms", "-C", "-e", "-q", "-o", "beginning")); got != 3 {
		t.Errorf("consumed %d records, want 3", got)
	}
}

func TestSecureListeners(t *testing.T) {
	lab.RequireKafka(t)
	ctx := within(t, 2*time.Minute)
	cert, err := lab.NewCertificate()
	if err != nil {
		t.Fatal(err)
	}
	security := &lab.KafkaSecurity{Username: "fanout", Password: "correct-horse", Certificate: cert}
	k, err := lab.ForTest(t).Kafka(ctx, lab.KafkaConfig{Secure: security})
	if err != nil {
		t.Fatal(err)
	}
	scram256, err := scram.Mechanism(scram.SHA256, "fanout", "correct-horse")
	if err != nil {
		t.Fatal(err)
	}
	scram512, err := scram.Mechanism(scram.SHA512, "fanout", "correct-horse")
	if err != nil {
		t.Fatal(err)
	}
	wrong := plain.Mechanism{Username: "fanout", Password: "guess"}
	for _, mechanism := range []sasl.Mechanism{plain.Mechanism{Username: "fanout", Password: "correct-horse"}, scram256, scram512, wrong} {
		for _, listener := range []string{lab.ListenerSASL, lab.ListenerSASLTLS} {
			dialer := &kafka.Dialer{SASLMechanism: mechanism, Timeout: 10 * time.Second}
			if listener == lab.ListenerSASLTLS {
				dialer.TLS = cert.Client()
			}
			conn, err := dialer.DialContext(ctx, "tcp", k.Nodes[0].SecureAddr(listener))
			if refused := err != nil; refused != (mechanism == sasl.Mechanism(wrong)) {
				t.Errorf("%s by %s: %v", listener, mechanism.Name(), err)
			}
			if err == nil {
				_ = conn.Close()
			}
		}
	}
}

func TestRedisKeepsDataThroughKill(t *testing.T) {
	lab.RequireTools(t, "redis-server")
	ctx := within(t, time.Minute)
	r, err := lab.ForTest(t).Redis(ctx)
	if err != nil {
		t.Fatal(err)
	}
	client := r.Client()
	defer client.Close()
	if err := r.PutSubscription(ctx, "acme", "one", `{"url":"https://example.com","events":["*"]}`); err != nil {
		t.Fatal(err)
	}
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if n, err := client.HLen(ctx, "fanout:account:acme").Result(); err != nil || n != 1 {
		t.Errorf("%d subscriptions after kill -9: %v", n, err)
	}
	if n, err := client.XLen(ctx, "fanout:changes").Result(); err != nil || n != 1 {
		t.Errorf("%d announcements after kill -9: %v", n, err)
	}
	if err := r.FlushAll(ctx); err != nil {
		t.Fatal(err)
	}
	if n, err := client.DBSize(ctx).Result(); err != nil || n != 0 {
		t.Errorf("%d keys after FlushAll: %v", n, err)
	}
}

func TestNginxCounts(t *testing.T) {
	lab.RequireTools(t, "nginx")
	ctx := within(t, time.Minute)
	n, err := lab.ForTest(t).Nginx(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if answer := post(t, n.URL()+"/hook"); answer.StatusCode != http.StatusNoContent {
			t.Fatalf("answered %s", answer.Status)
		}
	}
	if got, err := n.Requests(ctx); err != nil || got != 3 {
		t.Errorf("counted %d: %v", got, err)
	}
	if got, err := n.Requests(ctx); err != nil || got != 3 {
		t.Errorf("counted %d the second time, with the first count in it: %v", got, err)
	}
}
