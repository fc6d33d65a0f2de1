package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"
)

const avroSchema = `{"type":"record","name":"Open","fields":[{"name":"accountId","type":"string"},{"name":"type","type":"string"},
	{"name":"trackingId","type":"string"},{"name":"notificationId","type":"string"},{"name":"userId","type":"string"}]}`

// What operators do with records of a schema registry: see that it answers, explain one, account for all, and have what
// was dead for want of a schema delivered once it is registered.
func TestOperatorsSchemaRegistry(t *testing.T) {
	t.Parallel()
	stub := srfake.New()
	t.Cleanup(stub.Close)
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(receiver.Close)
	w := newWorld(t, "opens")
	w.env = append(w.env, "FANOUT_SOURCES=[{topic: opens, format: confluent, channel: EMAIL}]", "FANOUT_SCHEMA_REGISTRY_URL="+stub.URL(), "FANOUT_ATTEMPTS_TOPIC=true")
	w.ok(t, `{account: acme, id: crm, url: "`+receiver.URL+`", events: ["*"]}`, "subscriptions", "apply", "-f", "-")
	r := w.start(t)
	r.await(t, "/readyz", 200, `"schema registry"`)
	if out := w.ok(t, "", "check"); !strings.Contains(out, stub.URL()+" answers") {
		t.Errorf("check:\n%s", out)
	}

	stub.SeedSchema("opens-value", 1, 7, sr.Schema{Type: sr.TypeAvro, Schema: avroSchema})
	value, err := avro.MustParse(avroSchema).Encode(map[string]any{"accountId": "acme", "type": "OPEN", "trackingId": "t1", "notificationId": "n", "userId": "u"})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "open.avro")
	send := func(id byte, want string) {
		t.Helper()
		if err := os.WriteFile(file, append([]byte{0, 0, 0, 0, id}, value...), 0o600); err != nil {
			t.Fatal(err)
		}
		if out := w.ok(t, "", "send", "--topic", "opens", file); !strings.Contains(out, want) {
			t.Errorf("send:\n%s; want %q", out, want)
		}
	}
	send(7, "opens/")
	r.await(t, "/metrics", 200, `fanout_outcomes_total{outcome="delivered",reason="",stage="first"} 1`)
	send(8, "fanout will not deliver this: malformed event: schema 8: the schema registry does not know it")
	r.await(t, "/metrics", 200, `fanout_records_total{result="malformed",source="opens"} 1`)
	if code, _, out := w.fanout(t, "", "explain", "--event", file, "--topic", "opens"); code != 1 || !strings.Contains(out, "schema 8: the schema registry does not know it") {
		t.Errorf("explain: exit %d\n%s", code, out)
	}
	replay := func(want string) {
		t.Helper()
		until(t, func() (bool, string) { // the dead letter may be on its way
			code, out, stderr := w.fanout(t, "", "deadletter", "replay", "--edit", "--yes")
			return code == 0 && strings.Contains(out, want), out + stderr
		})
	}
	replay("still malformed (malformed event: schema 8: the schema registry does not know it), and not text that can be edited; left")
	stub.SeedSchema("later-value", 1, 8, sr.Schema{Type: sr.TypeAvro, Schema: avroSchema})
	replay("1 repaired and sent, 0 left as they are")
	r.await(t, "/metrics", 200, `fanout_outcomes_total{outcome="delivered",reason="",stage="first"} 2`)
	if out := w.ok(t, "", "audit", "opens"); !strings.Contains(out, "2 delivered") || !strings.Contains(out, "1 dead") || !strings.Contains(out, "0 missing") {
		t.Errorf("audit:\n%s", out)
	}

	stub.Close()
	for _, args := range []string{"check", "audit opens", "explain --topic opens --event " + file} {
		var out writer
		code := run(context.WithoutCancel(t.Context()), strings.Split(args, " "), w.env, strings.NewReader(""), &out, &out)
		if code != 1 || !strings.Contains(out.String(), "refused") || !strings.Contains(out.String(), "schema registry") || strings.Contains(out.String(), "malformed") {
			t.Errorf("fanout %s: exit %d\n%s", args, code, out.String())
		}
	}
}
