package config_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"

	"fanout/config"
	"fanout/event"
	"fanout/topic"
)

// write makes a configuration file.
func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "fanout.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// problems loads what must not load, and returns the lines of the error without the file's folder.
func problems(t *testing.T, text string, env ...string) string {
	t.Helper()
	file := write(t, text)
	_, _, err := config.Load(file, true, env, nil)
	if list, ok := errors.AsType[config.Problems](err); !ok || len(list) == 0 {
		t.Fatalf("Load = %v, want Problems", err)
	}
	return strings.ReplaceAll(err.Error(), filepath.Dir(file)+"/", "")
}

func TestExampleIsTheDefaults(t *testing.T) {
	t.Parallel()
	cfg, warnings, err := config.Load(write(t, config.Example), true, nil, nil)
	if err != nil || len(warnings) > 0 {
		t.Fatalf("Load = %v, %v", warnings, err)
	}
	if diff := cmp.Diff(config.Default(), cfg, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("example.yaml differs from Default (-default +example):\n%s", diff)
	}
}

func TestNoFile(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "fanout.yaml")
	cfg, _, err := config.Load(missing, false, nil, nil)
	if diff := cmp.Diff(config.Default(), cfg); err != nil || diff != "" {
		t.Fatalf("Load without a file = %v\n%s", err, diff)
	}
	if _, _, err := config.Load(missing, true, nil, nil); err == nil || !strings.Contains(err.Error(), missing+": no such file or directory: name the file with --config") {
		t.Fatalf("Load of a file that was asked for and is missing = %v", err)
	}
}

func TestCaseOfMapKeysSurvives(t *testing.T) {
	t.Parallel()
	cfg, _, err := config.Load(write(t, `
sources:
  - topic: channel.email
  - {topic: bounces, channel: EMAIL, fields: {trackingId: message.Tracking_ID}, types: {Bounced: FAILED, a.b: OPEN}}
delivery: {max_ages: {EMAIL_OPEN: 24h}}
`), true, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []topic.SourceConfig{{Topic: "channel.email"}, {Topic: "bounces", Mapping: event.Mapping{
		Channel: "EMAIL", Fields: map[string]string{"trackingId": "message.Tracking_ID"}, Types: map[string]string{"Bounced": "FAILED", "a.b": "OPEN"},
	}}}
	if diff := cmp.Diff(want, cfg.Sources); diff != "" {
		t.Errorf("sources (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]time.Duration{"EMAIL_OPEN": 24 * time.Hour}, cfg.Delivery.MaxAges); diff != "" {
		t.Errorf("max_ages (-want +got):\n%s", diff)
	}
}

func TestFlagsOverEnvironmentOverFile(t *testing.T) {
	t.Parallel()
	file := write(t, `
kafka: {brokers: [file:1, file:2], group: file, tls: {enabled: true, server_name: file}}
delivery: {schedule: [1s, 2s, 2s]}
log: {level: debug}
`)
	flags := pflag.NewFlagSet("fanout", pflag.ContinueOnError)
	config.AddFlags(flags)
	if err := flags.Parse([]string{"--kafka-group", "flag", "--attempts-topic"}); err != nil {
		t.Fatal(err)
	}
	cfg, warnings, err := config.Load(file, true, []string{
		"FANOUT_KAFKA_BROKERS=a:9092, b:9092", "FANOUT_KAFKA_GROUP=env", "FANOUT_KAFKA_TLS_SERVER_NAME=env", "FANOUT_LOG_LEVEL=",
		"FANOUT_DELIVERY_MAX_AGES=EMAIL_OPEN=24h,SMS_FAILED=1h", "FANOUT_SOURCES=one,two", "FANOUT_ADMIN_TOKEN=s3cret",
	}, flags)
	if err != nil || len(warnings) > 0 {
		t.Fatalf("Load = %v, %v", warnings, err)
	}
	want := config.Default()
	want.Kafka.Brokers, want.Kafka.Group = []string{"a:9092", "b:9092"}, "flag"
	want.Redis.Group = "flag"
	want.Kafka.TLS = topic.TLSConfig{Enabled: true, ServerName: "env"}
	want.Delivery.Schedule = []time.Duration{time.Second, 2 * time.Second, 2 * time.Second}
	want.Delivery.MaxAges = map[string]time.Duration{"EMAIL_OPEN": 24 * time.Hour, "SMS_FAILED": time.Hour}
	want.Sources = []topic.SourceConfig{{Topic: "one"}, {Topic: "two"}}
	want.Log.Level, want.Attempts.Topic, want.Admin.Token = "debug", true, "s3cret"
	if diff := cmp.Diff(want, cfg); diff != "" {
		t.Fatalf("Load (-want +got):\n%s", diff)
	}
}

func TestSourcesWithMappingsFromTheEnvironment(t *testing.T) {
	t.Parallel()
	cfg, _, err := config.Load("", false, []string{`FANOUT_SOURCES=[{"topic":"b","types":{"Bounced":"FAILED"}}]`}, nil)
	want := []topic.SourceConfig{{Topic: "b", Mapping: event.Mapping{Types: map[string]string{"Bounced": "FAILED"}}}}
	if diff := cmp.Diff(want, cfg.Sources); err != nil || diff != "" {
		t.Fatalf("Load = %v\n%s", err, diff)
	}
}

func TestAllProblemsTogether(t *testing.T) {
	t.Parallel()
	got := problems(t, `kafka:
  broker: [a:9092]
  partitions: many
  partitions: 3
  start: tomorrow
delivery:
  timeout: 10
  schedule: [1s, 5]
  max_ages: {EMAIL_OPENED: 24h}
  permanent_statuses: [410, 204, 99]
max_events_bytes: 1
lanes: 12
`, "FANOUT_LANES_PARK_MIN=2h", "FANOUT_REDIS_URL=localhost:6379")
	want := []string{
		`fanout.yaml:2: kafka.broker: unknown key; did you mean brokers?`,
		`fanout.yaml:3: kafka.partitions: "many": want a whole number, in digits alone`,
		`fanout.yaml:4: kafka: "partitions": given twice, first in line 3`,
		`fanout.yaml:7: delivery.timeout: "10": a duration needs a unit: write 10s for seconds, or 10ms`,
		`fanout.yaml:8: delivery.schedule[1]: "5": a duration needs a unit: write 5s for seconds, or 5ms`,
		`fanout.yaml:11: max_events_bytes: unknown key; did you mean max_event_bytes?`,
		`fanout.yaml:12: lanes: "12": want keys with values here, not a single value`,
		`fanout.yaml:5: kafka.start: "tomorrow": want earliest, latest or a time such as 2026-01-31T08:00:00Z`,
		`FANOUT_REDIS_URL: redis.url: want redis://, rediss://, redis+sentinel://, redis+cluster:// or unix://`,
		`fanout.yaml:9: delivery.max_ages.EMAIL_OPENED: unknown event name, want EMAIL_OPEN, EMAIL_CLICK, EMAIL_FAILED, SMS_FAILED, ` +
			`CALL_FAILED, PUSH_FAILED, WEB_PUSH_FAILED or INAPP_WEB_FAILED; did you mean EMAIL_OPEN?`,
		`fanout.yaml:10: delivery.permanent_statuses[1]: "204": 200 to 299 are successes, and cannot be permanent failures: remove it`,
		`fanout.yaml:10: delivery.permanent_statuses[2]: "99": want an HTTP status, 300 to 599`,
		`FANOUT_LANES_PARK_MIN: lanes.park_min: "2h": longer than lanes.park_max, which is 1h`,
	}
	if diff := cmp.Diff(want, strings.Split(got, "\n")); diff != "" {
		t.Fatalf("problems (-want +got):\n%s", diff)
	}
}

func TestEachProblem(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"delivery: {schedule: []}":                                     "delivery.schedule: 0 waits: want 1 to 20",
		"delivery: {schedule: [0s]}":                                   `delivery.schedule[0]: "0s": want 1ms to 168h`,
		"delivery: {schedule: [1us]}":                                  "want 1ms to 168h",
		"delivery: {schedule: [200h]}":                                 "want 1ms to 168h",
		"delivery: {schedule: 5s}":                                     "want a list: write [5s]",
		"delivery: {max_age: 3d}":                                      "write hours, as in 72h",
		"delivery: {max_age: -1h}":                                     "want a duration above 0",
		"delivery: {max_age: soon}":                                    "want a duration such as",
		"delivery: {max_ages: {EMAIL_OPEN: 0s}}":                       "want a duration above 0",
		"delivery: {timeout: {a: 1s}}":                                 "want one duration here, not a section",
		"kafka: {brokers: []}":                                         "no broker",
		"kafka: {brokers: [localhost]}":                                "want host:port, as in 127.0.0.1:9092",
		"kafka: {brokers: ['kafka://a:1']}":                            "want host:port",
		"kafka: {brokers: [':9092']}":                                  "want host:port",
		"kafka: {group: ''}":                                           "want a consumer group's name",
		"kafka: {partitions: 0}":                                       "want 1 or more",
		"kafka: {create_topics: yes}":                                  "want true or false",
		"kafka: {tls: {ca_file: a.pem}}":                               "write enabled: true",
		"kafka: {tls: {enabled: true, key_file: a}}":                   "belong together",
		"kafka: {sasl: {username: me}}":                                "no mechanism",
		"kafka: {sasl: {mechanism: plain, username: me, password: x}}": `"plain": want PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER; did you mean PLAIN?`,
		"kafka: {sasl: {mechanism: OAUTHBEARER, username: me}}":        "wants a file with a token",
		"kafka: {sasl: {mechanism: PLAIN, username: me, password: x, token_file: t}}": "only OAUTHBEARER has a token",
		"kafka: {sasl: {mechanism: PLAIN, username: me}}":                             "want either password or password_file",
		"sources: [{}]":                                "a source needs a topic",
		"sources: [a]":                                 "sources[0]: \"a\": want keys with values here",
		"sources: [{topic: a}, {topic: a}]":            "given twice, first in sources[0]",
		"sources: [{topic: a b}]":                      "letters, digits",
		"sources: [{topic: fanout.retry.5s}]":          "fanout's own",
		"sources: [{topic: a, channel: FAX}]":          `sources[0].channel: unknown channel "FAX"`,
		"sources: [{topic: a, fields: {tracking: x}}]": "sources[0].fields.tracking: unknown field",
		"sources: [{topic: a, field: {}}]":             "sources[0].field: unknown key; did you mean fields?",
		"kafka: {start: newest}":                       `kafka.start: "newest": want earliest, latest or a time such as 2026-01-31T08:00:00Z`,
		"kafka: {start: Latest}":                       "did you mean latest?",
		"sources: [{topic: a, start: earlist}]":        `fanout.yaml:1: sources[0].start: "earlist": want earliest, latest or a time such as 2026-01-31T08:00:00Z; did you mean earliest?`,
		"sources: [{topic: a, start: 2026-01-31}]":     `sources[0].start: "2026-01-31": want earliest, latest or a time`,
		"sources: [{topic: a, channel: EMAIL, types: {bounced: FAILD}}]": `fanout.yaml:1: sources[0].types.bounced: "FAILD": no event of channel EMAIL has this type: ` +
			`want OPEN, CLICK, FAILED or ignore; did you mean FAILED?`,
		"sources: [{topic: a, channel: sms, types: {seen: OPEN}}]": `sources[0].types.seen: "OPEN": no event of channel sms has this type: want FAILED or ignore`,
		"sources: [{topic: a, types: {sent: ignored}}]":            `sources[0].types.sent: "ignored": no event has this type: want OPEN, CLICK, FAILED or ignore; did you mean ignore?`,
		"topics: {prefix: 'a/b'}":                                  "a topic's name takes",
		"topics: {dead_letter_retention: 10s}":                     `topics.dead_letter_retention: "10s": want 1h or more`,
		"admin: {listen: 0.0.0.0:8080}":                            "needs a token",
		"admin: {listen: '8080'}":                                  "want host:port",
		"log: {level: warning}":                                    "did you mean warn?",
		"log: {format: text}":                                      "want json or console",
		"max_event_bytes: 10":                                      "want 256 to 16777216 bytes",
		"shutdown_timeout: 0s":                                     "want a duration above 0",
		"lanes: {queue: 0}":                                        "want 1 or more",
		"egress: {allow_cidrs: [10.0.0.0]}":                        "egress.allow_cidrs[0]",
		"egress: {allow_accounts: ['']}":                           "egress.allow_accounts[0]",
		"egress: {ports: [70000]}":                                 "egress.ports[0]",
		"Kafka: {}":                                                "Kafka: unknown key; did you mean kafka?",
		"kafka: [1]":                                               "want keys with values here, not a list",
		"kafka: {group: a\n":                                       "not YAML",
		"a: b: c":                                                  "fanout.yaml: not YAML: mapping values are not allowed",
	} {
		if got := problems(t, text); !strings.Contains(got, want) || strings.Count(got, "\n") > 0 {
			t.Errorf("%s\n got: %s\nwant: one line with %s", text, got, want)
		}
	}
}

// What says where sources begin, and what their types are mapped to, is taken in each form that is right.
func TestStartsAndTypes(t *testing.T) {
	t.Parallel()
	cfg, _, err := config.Load(write(t, `kafka: {start: 2026-01-31T08:00:00+01:00}
sources:
  - {topic: a, start: latest, types: {bounced: failed, seen: Open, sent: ignore}}
  - {topic: b, start: "2026-01-31T08:00:00Z", channel: SMS, types: {x: IGNORE}}
  - {topic: c}`), true, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{cfg.Kafka.Start, cfg.Sources[0].Start, cfg.Sources[1].Start, cfg.Sources[2].Start}
	if diff := cmp.Diff([]string{"2026-01-31T08:00:00+01:00", "latest", "2026-01-31T08:00:00Z", ""}, got); diff != "" {
		t.Errorf("starts (-want +got):\n%s", diff)
	}
}

func TestTracing(t *testing.T) {
	t.Parallel()
	cfg, _, err := config.Load(write(t, "tracing: {endpoint: 'https://otel.example:4318/base/', sample_ratio: 0.25}"), true, nil, nil)
	if err != nil || cfg.Tracing.SampleRatio != 0.25 || cfg.Tracing.URL() != "https://otel.example:4318/base/v1/traces" {
		t.Errorf("%+v, %s, %v", cfg.Tracing, cfg.Tracing.URL(), err)
	}
	whole := config.Tracing{Endpoint: "http://127.0.0.1:4318/v1/traces"}
	if whole.URL() != whole.Endpoint {
		t.Errorf("%s becomes %s", whole.Endpoint, whole.URL())
	}
	const shape = "tracing.endpoint: %q: want the URL of an OTLP/HTTP receiver, http or https without a query, as in http://127.0.0.1:4318"
	for _, endpoint := range []string{
		"127.0.0.1:4318", "collector", "grpc://a:4317", "http://", "http://:4318", "http://a:70000", "http://a:b", "http://a?x=1", "http://a#x", "http://[::1", "http://a b",
	} {
		if got, want := problems(t, "", "FANOUT_TRACING_ENDPOINT="+endpoint), "FANOUT_TRACING_ENDPOINT: "+fmt.Sprintf(shape, endpoint); got != want {
			t.Errorf("%s\n got: %s\nwant: %s", endpoint, got, want)
		}
	}
	for _, endpoint := range []string{"http://me:s3cret@a:4318", "http://me:s3cret@a b"} {
		if got := problems(t, "", "FANOUT_TRACING_ENDPOINT="+endpoint); strings.Contains(got, "s3cret") || !strings.Contains(got, "give credentials in OTEL_EXPORTER_OTLP_HEADERS") {
			t.Errorf("%s: %s", endpoint, got)
		}
	}
	for ratio, want := range map[string]string{"-0.1": "want 0 to 1", "1.01": "want 0 to 1", "NaN": "want 0 to 1", "all": "want a number, as in 0.5", "[1]": "want one number here, not a list"} {
		if got := problems(t, "tracing: {sample_ratio: "+ratio+"}"); !strings.HasPrefix(got, "fanout.yaml:1: tracing.sample_ratio: ") || !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", ratio, got, want)
		}
	}
}

func TestUnknownVariablesAreWarnings(t *testing.T) {
	t.Parallel()
	_, warnings, err := config.Load("", false, []string{"FANOUT_KAFKA_BROKER=a:1", "FANOUT_PORT_8080_TCP_ADDR=10.0.0.1", "FANOUT_CONFIG=x", "PATH=y"}, nil)
	want := []config.Warning{
		`environment variable "FANOUT_KAFKA_BROKER" means nothing to fanout; did you mean FANOUT_KAFKA_BROKERS?`,
		`environment variable "FANOUT_PORT_8080_TCP_ADDR" means nothing to fanout (Kubernetes sets it for a Service named fanout; enableServiceLinks: false keeps it away)`,
	}
	if diff := cmp.Diff(want, warnings); err != nil || diff != "" {
		t.Fatalf("Load = %v\n%s", err, diff)
	}
}

func TestSecretsStayHidden(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	cfg, _, err := config.Load("", false, []string{
		"FANOUT_ADMIN_TOKEN=" + secret, "FANOUT_REDIS_URL=redis://me:" + secret + "@127.0.0.1:6379/0", "FANOUT_KAFKA_SASL_MECHANISM=PLAIN",
		"FANOUT_KAFKA_SASL_USERNAME=me", "FANOUT_KAFKA_SASL_PASSWORD=" + secret, "FANOUT_EGRESS_PROXY=http://me:" + secret + "@proxy:3128",
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var dump strings.Builder
	if err := cfg.Dump(&dump); err != nil {
		t.Fatal(err)
	}
	if text := dump.String(); strings.Contains(text, secret) || !strings.Contains(text, "token: (set)") || !strings.Contains(text, "redis://me:xxxxx@127.0.0.1:6379/0") {
		t.Errorf("Dump shows\n%s", text)
	}
	for _, text := range []string{
		"kafka: {sasl: {password: [hunter2]}}", "redis: {url: 'me:hunter2@h'}", "egress: {proxy: 'ftp://me:hunter2@proxy'}",
		"redis: {url: 'redis://me:hunter2@ho st'}",
	} {
		if got := problems(t, text); strings.Contains(got, secret) {
			t.Errorf("%s shows the secret: %s", text, got)
		}
	}
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	config.AddFlags(flags)
	for _, name := range []string{"admin-token", "kafka-sasl-password"} {
		if flags.Lookup(name) != nil {
			t.Errorf("--%s is a flag: every user of the machine could read it", name)
		}
	}
}

func TestDumpLoads(t *testing.T) {
	t.Parallel()
	want := config.Default()
	want.Delivery.MaxAges = map[string]time.Duration{"EMAIL_OPEN": 24 * time.Hour}
	want.Sources = []topic.SourceConfig{{Topic: "a", Mapping: event.Mapping{Types: map[string]string{"Bounced": "FAILED"}}}}
	var dump strings.Builder
	if err := want.Dump(&dump); err != nil {
		t.Fatal(err)
	}
	got, _, err := config.Load(write(t, dump.String()), true, nil, nil)
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); err != nil || diff != "" {
		t.Fatalf("Load of a dump = %v\n%s\n%s", err, diff, dump.String())
	}
}

// What Changes writes is loaded as the same configuration, secrets included, and has no key at its default.
func TestChangesLoads(t *testing.T) {
	t.Parallel()
	want := config.Default()
	want.Kafka.Brokers, want.Kafka.CreateTopics = []string{"a:9092", "b:9092"}, false
	want.Kafka.SASL.Mechanism, want.Kafka.SASL.Username, want.Kafka.SASL.Password = "PLAIN", "me", "no: 'quote\" #"
	want.Redis.URL = "redis://me:hunter2@127.0.0.1:6379/0"
	want.Delivery.Schedule = []time.Duration{500 * time.Millisecond, 90 * time.Minute}
	want.Delivery.MaxAges = map[string]time.Duration{"EMAIL_OPEN": 24 * time.Hour}
	want.Delivery.PermanentStatuses = nil
	want.Admin.Token = "0123456789"
	want.Sources = []topic.SourceConfig{{Topic: "a"}, {Topic: "b", Mapping: event.Mapping{
		Channel: "EMAIL", Fields: map[string]string{"trackingId": "message.tracking_id"}, Types: map[string]string{"Bounced": "FAILED"},
	}}}
	text, err := want.Changes()
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := config.Load(write(t, string(text)), true, nil, nil)
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); err != nil || diff != "" {
		t.Fatalf("Load of the changes = %v\n%s\n%s", err, diff, text)
	}
	for _, key := range []string{"group", "timeout", "listen", "log", "max_age:", "format", "channel: \"\""} {
		if strings.Contains(string(text), key) {
			t.Errorf("%s is not changed, and it is written:\n%s", key, text)
		}
	}
	unchanged := config.Default()
	if text, err := unchanged.Changes(); err != nil || string(text) != "{}\n" {
		t.Errorf("the default differs from itself: %s, %v", text, err)
	}
}

func TestEveryFlagHasHelp(t *testing.T) {
	t.Parallel()
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	config.AddFlags(flags)
	flags.VisitAll(func(flag *pflag.Flag) {
		if flag.Usage == "" {
			t.Errorf("--%s has no comment in example.yaml", flag.Name)
		}
	})
}

// A password that is written where none belongs is shown nowhere.
func TestPasswordsAreKnownByTheirShape(t *testing.T) {
	for text, want := range map[string]string{
		"u:PASSWORD@h:9092":                                "…@h:9092",
		"SASL_SSL://me:PASSWORD@b2:9092":                   "SASL_SSL://…@b2:9092",
		"u:PASSWORD@h:9092,:PASSWORD@i:9092,plain:9092":    "…@h:9092,…@i:9092,plain:9092",
		"u:PASS@WORD@h":                                    "…@h",
		"u:PASSWORD/PASSWORD@h":                            "…@h",
		`metadata: dial tcp: lookup u:PASSWORD@h on [::1]`: `metadata: dial tcp: lookup …@h on [::1]`,
		`brokers[0]: "u:PASSWORD@h:9092": want host:port`:  `brokers[0]: "…@h:9092": want host:port`,
		"ops@example.com: at 10:30, write to h:9092":       "ops@example.com: at 10:30, write to h:9092",
		"fanout.yaml:1: kafka.group: \"a@b\"":              "fanout.yaml:1: kafka.group: \"a@b\"",
	} {
		if got := config.WithoutPasswords(text); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	cfg := config.Default()
	cfg.Kafka.Brokers = []string{"u:PASSWORD@h:9092", "SASL_SSL://me:PASSWORD@b2:9092"}
	var dumped strings.Builder
	if err := cfg.Dump(&dumped); err != nil || strings.Contains(dumped.String(), "PASSWORD") {
		t.Errorf("%v: %s", err, dumped.String())
	}
	text := "kafka: {brokers: ['u:PASSWORD@h:9092', 'SASL_SSL://me:PASSWORD@b2:9092']}\nadmin: {listen: 'u:PASSWORD@h:1'}\nsources: [{topic: 'u:PASSWORD@h'}]\n"
	_, _, err := config.Load(write(t, text), true, nil, nil)
	if err == nil || strings.Count(err.Error(), "…@") < 4 || strings.Contains(err.Error(), "PASSWORD") {
		t.Errorf("%v", err)
	}
}
