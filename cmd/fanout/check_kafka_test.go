package main

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// allowed are the rights that docs/kafka.md gives, and denials that a test adds.
func allowed(denied ...kfake.ACL) []kfake.ACL {
	var acls []kfake.ACL
	add := func(kind kmsg.ACLResourceType, name string, operations ...kmsg.ACLOperation) {
		for _, o := range operations {
			acls = append(acls, kfake.ACL{Resource: kind, Name: name, Pattern: kmsg.ACLResourcePatternTypePrefixed, Operation: o, Allow: true})
		}
	}
	add(kmsg.ACLResourceTypeTopic, "channel.", kmsg.ACLOperationRead, kmsg.ACLOperationDescribe, kmsg.ACLOperationDescribeConfigs)
	add(kmsg.ACLResourceTypeTopic, "fanout.", kmsg.ACLOperationCreate, kmsg.ACLOperationRead, kmsg.ACLOperationWrite, kmsg.ACLOperationDescribe, kmsg.ACLOperationDescribeConfigs)
	add(kmsg.ACLResourceTypeGroup, "fanout", kmsg.ACLOperationRead, kmsg.ACLOperationDescribe)
	for _, d := range denied {
		d.Pattern = kmsg.ACLResourcePatternTypePrefixed
		acls = append(acls, d)
	}
	return acls
}

// What `fanout run` needs is tried: each thing that is missing is named with its remedy, and a cluster where nothing is missing passes.
func TestCheckTriesWhatRunNeeds(t *testing.T) {
	t.Parallel()
	topicACL := kmsg.ACLResourceTypeTopic
	readOnly := filepath.Join(t.TempDir(), "file")
	writeFile(t, readOnly, nil)
	for name, c := range map[string]struct {
		acls   []kfake.ACL
		refuse kmsg.Key // a request that is answered as Apache Kafka does without the right on the group; the embedded broker does not look
		opts   []kfake.Opt
		flags  []string
		want   []string // nil: all is well
	}{
		"all is well":           {acls: allowed()},
		"no Write":              {acls: allowed(kfake.ACL{Resource: topicACL, Name: "fanout.", Operation: kmsg.ACLOperationWrite}), want: []string{"no Write on fanout.dead-letter, fanout.replay", "see ACLs in docs/kafka.md"}},
		"no Read on the source": {acls: allowed(kfake.ACL{Resource: topicACL, Name: "channel.", Operation: kmsg.ACLOperationRead}), want: []string{"no Read on channel.email"}},
		"no Read on the group":  {refuse: kmsg.Heartbeat, want: []string{"no Read on the group fanout", "no Read on the group fanout.retry", "see ACLs in docs/kafka.md"}},
		"no Create":             {acls: allowed(kfake.ACL{Resource: topicACL, Name: "fanout.retry", Operation: kmsg.ACLOperationCreate}), want: []string{"fanout.retry.10h", "cannot be created", "needs Create"}},
		"replication":           {flags: []string{"--kafka.replication", "3"}, want: []string{"cannot be created", "set kafka.replication to the number of brokers at most"}},
		"the shortest session":  {opts: []kfake.Opt{kfake.BrokerConfigs(map[string]string{"group.min.session.timeout.ms": "20000"})}, want: []string{"group.min.session.timeout.ms, 20s", "set kafka.session_timeout: 20s"}},
		"the snapshot's folder": {flags: []string{"--redis.snapshot_file", filepath.Join(readOnly, "snapshot")}, want: []string{"cannot be written", "make its folder writable"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := append([]kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(1, "channel.email")}, c.opts...)
			if c.want != nil {
				opts = append(opts, kfake.SeedTopics(1, "fanout.dead-letter", "fanout.replay"))
			}
			var env []string
			if c.acls != nil {
				opts = append(opts, kfake.EnableSASL(), kfake.EnableACLs(), kfake.User("PLAIN", "fanout", "secret", c.acls...))
				env = []string{"FANOUT_KAFKA_SASL_MECHANISM=PLAIN", "FANOUT_KAFKA_SASL_USERNAME=fanout", "FANOUT_KAFKA_SASL_PASSWORD=secret"}
			}
			cluster, err := kfake.NewCluster(opts...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(cluster.Close)
			if c.refuse == kmsg.Heartbeat {
				cluster.ControlKey(c.refuse.Int16(), func(r kmsg.Request) (kmsg.Response, error, bool) {
					cluster.KeepControl()
					answer, _ := r.ResponseKind().(*kmsg.HeartbeatResponse)
					answer.ErrorCode = kerr.GroupAuthorizationFailed.Code
					return answer, nil, true
				})
			}
			w := &world{kafka: cluster, redis: miniredis.RunT(t)}
			w.env = append(env, "FANOUT_KAFKA_BROKERS="+cluster.ListenAddrs()[0], "FANOUT_REDIS_URL=redis://"+w.redis.Addr())
			if c.flags == nil || c.flags[0] != "--redis.snapshot_file" {
				w.env = append(w.env, "FANOUT_REDIS_SNAPSHOT_FILE=off")
			}
			if c.want == nil {
				w.ok(t, "", "topics", "create")
			}
			code, out, errs := w.fanout(t, "", append([]string{"check"}, c.flags...)...)
			checked(t, code, out+errs, c.want)
		})
	}
}

// checked compares the end of `check` with what it must name.
func checked(t *testing.T, code int, out string, want []string) {
	t.Helper()
	text := strings.Join(strings.Fields(strings.ReplaceAll(out, "→ ", "")), " ")
	for _, part := range want {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in\n%s", part, out)
		}
	}
	if problem := code == exitProblem; problem != (want != nil) {
		t.Errorf("exit %d\n%s", code, out)
	}
}

// A broker that gives itself a name which does not exist here: what it wants is advertised.listeners, and no rights.
func TestCheckNamesAnAdvertisedName(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "channel.email")
	proxy := renaming(t, w.kafka.ListenAddrs()[0])
	began := time.Now()
	code, out, _ := w.fanout(t, "", "check", "--kafka-brokers", proxy)
	text := strings.Join(strings.Fields(out), " ")
	if code != exitProblem || !strings.Contains(text, "a broker advertises itself as k.invalid:") || !strings.Contains(text, "advertised.listeners") || strings.Contains(text, "ACLs") {
		t.Errorf("exit %d after %s\n%s", code, time.Since(began), out)
	}
	r := w.start(t, "--kafka-brokers", proxy)
	until(t, func() (bool, string) {
		log := r.log.String()
		return strings.Contains(log, "k.invalid") && strings.Contains(log, "advertised.listeners"), log
	})
}

// renaming stands in front of a broker, and has it call itself k.invalid in place of 127.0.0.1, which is as long.
func renaming(t *testing.T, broker string) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", broker)
			if err != nil {
				_ = client.Close()
				return
			}
			go func() { _, _ = io.Copy(server, client); _ = server.Close() }()
			go func() {
				defer client.Close()
				answer := make([]byte, 1<<20)
				for {
					n, err := server.Read(answer)
					if err != nil {
						return
					}
					if _, err := client.Write(bytes.ReplaceAll(answer[:n], []byte("127.0.0.1"), []byte("k.invalid"))); err != nil {
						return
					}
				}
			}()
		}
	}()
	return listener.Addr().String()
}

// Nothing is left of the file that was tried.
func TestCheckLeavesNoFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "channel.email")
	dir := t.TempDir()
	if _, out, _ := w.fanout(t, "", "check", "--redis.snapshot_file", filepath.Join(dir, "snapshot")); !strings.Contains(out, "can be written") {
		t.Error(out)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v %v", left, err)
	}
}
