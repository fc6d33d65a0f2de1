package docs_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"fanout/config"
	"fanout/dispatcher"
	"fanout/event"
	"fanout/subscriptions"
	"fanout/topic"
	"fanout/webhook"
)

// beyondSchema are the malformed events that no schema can tell from good ones, once JSON was parsed.
func beyondSchema() []string {
	return []string{
		"malformed-field-twice.json", "malformed-invalid-utf8.json", "malformed-nested-too-deep.json", "malformed-unpaired-surrogate.json",
	}
}

// The schema of raw events agrees with the decoder on every event of testdata.
func TestRawEventSchema(t *testing.T) {
	t.Parallel()
	s := schema(t, "raw-event.json")
	decoder, err := new(event.Mapping).Compile(nil)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(root, "testdata", "events", "*.json"))
	if err != nil || len(files) < 20 {
		t.Fatalf("%d events, %v", len(files), err)
	}
	for _, file := range files {
		value, name := read(t, file), filepath.Base(file)
		_, decodeErr := decoder.Decode([]byte(value))
		good := decodeErr == nil || errors.Is(decodeErr, event.ErrIgnored)
		bySchema := check(s, value)
		switch {
		case slices.Contains(beyondSchema(), name):
			if good || bySchema != nil {
				t.Errorf("%s: decoder %v, schema %v: it is not beyond the schema", name, decodeErr, bySchema)
			}
		case good != (bySchema == nil):
			t.Errorf("%s: the decoder says %v, the schema %v", name, decodeErr, bySchema)
		}
	}
	for _, c := range []string{"sms", "Web_Push", "ſms", "FAX", "EMAIL "} {
		value := fmt.Sprintf(`{"accountId":"a","channel":%q,"type":"x","trackingId":"t","notificationId":"n","userId":"u"}`, c)
		_, err := decoder.Decode([]byte(value))
		if good := errors.Is(err, event.ErrIgnored); good != (check(s, value) == nil) {
			t.Errorf("channel %q: the decoder says %v, the schema %v", c, err, check(s, value))
		}
	}
}

// The schema of payloads takes what is sent for each event name, and nothing else.
func TestPayloadSchema(t *testing.T) {
	t.Parallel()
	s := schema(t, "payload.json")
	for _, name := range event.BuiltIn().Names() {
		body := string(webhook.AppendPayload(nil, name.PayloadType(), "t\"1", "welcome\n", name.Channel(), "user–1"))
		if err := check(s, body); err != nil {
			t.Errorf("%s: %v", body, err)
		}
		if err := check(s, strings.Replace(body, `"channel":"`, `"channel":"X`, 1)); err == nil {
			t.Errorf("%s with another channel is valid too", name)
		}
		if err := check(s, strings.TrimSuffix(body, "}")+`,"more":1}`); err == nil {
			t.Errorf("%s with a sixth key is valid too", name)
		}
	}
}

// The schema of subscriptions agrees with what may be written.
func TestSubscriptionSchema(t *testing.T) {
	t.Parallel()
	s := schema(t, "subscription.json")
	with := func(member string) string {
		return `{"url":"https://example.com","events":["EMAIL_OPEN"],` + member + `}`
	}
	for _, value := range []string{
		read(t, root, "testdata", "subscriptions", "full.json"),
		`{"url":"https://example.com","events":["*"]}`,
		`{"url":"https://example.com","events":["*","EMAIL_OPEN"]}`,
		`{"url":"https://example.com","events":[]}`,
		`{"url":"https://example.com","events":["EMAIL_OPENED"]}`,
		`{"url":"https://example.com","events":"*"}`,
		`{"url":"https://example.com"}`, `{"events":["*"]}`, `{"url":"","events":["*"]}`, `{"url":null,"events":["*"]}`, `[]`, `"x"`, `{`,
		with(`"enabled":false`), with(`"enabled":"no"`), with(`"enabled":null`), with(`"paused":1`),
		with(`"secrets":[]`), with(`"secrets":["nonsense"]`), with(`"secrets":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"`),
		with(`"secrets":["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]`),
		with(`"headers":{"x-a":"b"}`), with(`"headers":{"Host":"b"}`), with(`"headers":{"Content-Length":"1"}`), with(`"headers":{"webhook-id":"1"}`),
		with(`"headers":{"a b":"c"}`), with(`"headers":{"x":"a\nb"}`), with(`"headers":{"x":1}`), with(`"headers":{"TraceParent":"b"}`),
		with(`"maxInFlight":0`), with(`"maxInFlight":1`), with(`"maxInFlight":1.5`), with(`"maxPerSecond":0`), with(`"maxPerSecond":0.5`),
		with(`"description":1`), with(`"owner":{"team":"growth"}`),
		with(`"headers":{"Via":"b"}`), with(`"headers":{"x_forwarded_for":"b"}`), with(`"headers":{"X-Forwarded-Host":"b"}`), with(`"headers":{"content_md5":"b"}`),
		with(`"headers":{"Range":"b"}`), with(`"headers":{"x_http-method_override":"b"}`), with(`"headers":{"x_api_key":"b"}`), with(`"headers":{"expected":"b"}`),
		with(`"secretExpiry":{}`), with(`"secretExpiry":null`), with(`"secretExpiry":[]`), with(`"secretExpiry":{"0123456789abcdef":"2026-03-02T12:00:00Z"}`),
		with(`"secretExpiry":{"0123456789abcde":"2026-03-02T12:00:00Z"}`), with(`"secretExpiry":{"0123456789abcdef":"tomorrow"}`), with(`"secretExpiry":{"0123456789abcdef":1}`),
		with(`"notificationIds":["promo-*"]`), with(`"notificationIds":null`), with(`"notificationIds":[]`), with(`"notificationIds":[""]`), with(`"notificationIds":"x"`),
		with(`"notificationIds":[1]`), with(`"notificationIds":["a\u0000"]`), with(`"notificationIds":[` + strings.Repeat(`"x",`, 99) + `"x"]`), with(`"notificationIds":[` + strings.Repeat(`"x",`, 100) + `"x"]`),
		with(`"batch":{"max":2}`),
	} {
		var problem error
		if bad := subscriptions.ReviewSent("acme", "crm", []byte(value), time.Now()).Invalid; bad != nil {
			problem = bad
		}
		if bySchema := check(s, value); (problem == nil) != (bySchema == nil) {
			t.Errorf("%s: the parser says %v, the schema %v", value, problem, bySchema)
		}
	}
}

// The schemas of records know the headers that package topic knows, and require those that are always written. That
// real records are valid is shown in cmd/fanout.
func TestRecordSchemasNameTheHeaders(t *testing.T) {
	t.Parallel()
	constants, written := recordHeaders(t)
	always := func(names []string, but ...string) []string {
		var list []string
		for _, name := range names {
			if !slices.Contains(but, constants[name]) {
				list = append(list, constants[name])
			}
		}
		slices.Sort(list)
		return slices.Compact(list)
	}
	retry, dead := schema(t, "retry-record.json"), schema(t, "dead-letter-record.json")
	if diff := cmp.Diff(always(written["DeliveryHeaders"]), properties(retry)); diff != "" {
		t.Errorf("retry-record.json: headers written (-), headers of the schema (+):\n%s", diff)
	}
	if diff := cmp.Diff(slices.Sorted(maps.Values(constants)), properties(dead)); diff != "" {
		t.Errorf("dead-letter-record.json: headers of package topic (-), headers of the schema (+):\n%s", diff)
	}
	if diff := cmp.Diff(always(written["deadLetter"]), slices.Sorted(slices.Values(dead.Required))); diff != "" {
		t.Errorf("dead-letter-record.json: headers of a malformed record (-), required by the schema (+):\n%s", diff)
	}
	optional := []string{"fanout-group", "fanout-status", "fanout-replays", "fanout-replay", "fanout-dead-letter", "fanout-batch-max", "fanout-batch-refused", "traceparent", "tracestate"}
	if diff := cmp.Diff(always(written["DeliveryHeaders"], optional...), slices.Sorted(slices.Values(retry.Required))); diff != "" {
		t.Errorf("retry-record.json: headers always written (-), required by the schema (+):\n%s", diff)
	}
}

// recordHeaders reads the source of packages topic and consumer: the header constants, and which of them each function names.
func recordHeaders(t *testing.T) (constants map[string]string, written map[string][]string) {
	t.Helper()
	constants, written = map[string]string{}, map[string][]string{}
	for _, name := range []string{"topic/headers.go", "consumer/settle.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, name), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, declaration := range file.Decls {
			within := ""
			if function, ok := declaration.(*ast.FuncDecl); ok {
				within = function.Name.Name
			}
			ast.Inspect(declaration, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.ValueSpec:
					if within == "" && strings.HasPrefix(n.Names[0].Name, "Header") && len(n.Values) == 1 {
						if literal, ok := n.Values[0].(*ast.BasicLit); ok {
							constants[n.Names[0].Name], _ = strconv.Unquote(literal.Value)
						}
					}
				case *ast.Ident:
					if within != "" && constants[n.Name] != "" {
						written[within] = append(written[within], n.Name)
					}
				}
				return true
			})
		}
	}
	if len(constants) < 15 || len(written["DeliveryHeaders"]) == 0 || len(written["deadLetter"]) == 0 {
		t.Fatalf("the source is not as this test knows it: %v, %v", constants, written)
	}
	return constants, written
}

// The schemas list every reason, and no other.
func TestRecordSchemasNameTheReasons(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff(dispatcher.DeadReasons(), reasons(t, "dead-letter-record.json", "fanout-reason")); diff != "" {
		t.Errorf("dead-letter-record.json: reasons of the code (-), of the schema (+):\n%s", diff)
	}
	for _, list := range [][]string{reasons(t, "retry-record.json", "fanout-reason"), reasons(t, "attempt-record.json", "reason")} {
		for _, reason := range list {
			if _, ok := dispatcher.ParseReason(reason); !ok {
				t.Errorf("there is no reason %s", reason)
			}
		}
	}
	all := reasons(t, "attempt-record.json", "reason")
	for _, name := range deliveryReasons() {
		if !slices.Contains(all, name) {
			t.Errorf("attempt-record.json does not have the reason %s", name)
		}
	}
	// A record of a tier says why its delivery waits, or why the one that is replayed had died.
	waiting := reasons(t, "retry-record.json", "fanout-reason")
	for _, name := range deliveryReasons() {
		if r, _ := dispatcher.ParseReason(name); r.Of() != dispatcher.Discarded && !slices.Contains(waiting, name) {
			t.Errorf("retry-record.json does not have the reason %s", name)
		}
	}
}

// deliveryReasons are those that a delivery can have: a malformed record makes none.
func deliveryReasons() []string {
	return slices.DeleteFunc(dispatcher.ReasonNames(), func(name string) bool { return name == dispatcher.MalformedEvent.String() })
}

func reasons(t *testing.T, file, property string) (list []string) {
	t.Helper()
	for _, value := range schema(t, file).Properties[property].Enum.Values {
		list = append(list, fmt.Sprint(value))
	}
	return list
}

// The schema of attempts has the keys that are written.
func TestAttemptSchema(t *testing.T) {
	t.Parallel()
	s := schema(t, "attempt-record.json")
	var keys, always []string
	for field := range reflect.TypeFor[topic.Attempt]().Fields() {
		key, option, _ := strings.Cut(field.Tag.Get("json"), ",")
		keys = append(keys, key)
		if option == "" {
			always = append(always, key)
		}
	}
	slices.Sort(keys)
	if diff := cmp.Diff(keys, properties(s)); diff != "" {
		t.Errorf("keys written (-), keys of the schema (+):\n%s", diff)
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values(always)), slices.Sorted(slices.Values(s.Required))); diff != "" {
		t.Errorf("keys always written (-), keys required (+):\n%s", diff)
	}
	attempt := topic.Attempt{ID: "msg_2mbk7qbnrzvv2pfh3esgfzy4ea", Account: "a", Subscription: "s", Event: "EMAIL_OPEN", Origin: "t/0/1", Stage: "first", Outcome: "delivered"}
	if err := check(s, text(t, attempt)); err != nil {
		t.Error(err)
	}
}

// The AsyncAPI document names the topics of the default configuration, and only files and messages that are there.
func TestAsyncAPI(t *testing.T) {
	t.Parallel()
	var document struct {
		Version  string `yaml:"asyncapi"`
		Channels map[string]struct {
			Address string `yaml:"address"`
		} `yaml:"channels"`
		Operations map[string]struct {
			Action  string            `yaml:"action"`
			Channel map[string]string `yaml:"channel"`
		} `yaml:"operations"`
	}
	source := read(t, "contracts", "asyncapi.yaml")
	var tree any
	for _, to := range []any{&document, &tree} {
		if err := yaml.Unmarshal([]byte(source), to); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.HasPrefix(document.Version, "3.") {
		t.Errorf("asyncapi: %s", document.Version)
	}
	var topics, addresses []string
	cfg := config.Default()
	cfg.Attempts.Topic = true
	owned := cfg.Consumer()
	for _, spec := range owned.Owned() {
		topics = append(topics, spec.Name)
	}
	for _, s := range topic.DefaultSources(event.BuiltIn()) {
		topics = append(topics, s.Topic)
	}
	used := map[string]bool{}
	for _, operation := range document.Operations {
		used[strings.TrimPrefix(operation.Channel["$ref"], "#/channels/")] = true
	}
	for name, channel := range document.Channels {
		addresses = append(addresses, channel.Address)
		if !used[name] {
			t.Errorf("channel %s has no operation", name)
		}
	}
	slices.Sort(topics)
	slices.Sort(addresses)
	if diff := cmp.Diff(topics, addresses); diff != "" {
		t.Errorf("default topics (-), channels (+):\n%s", diff)
	}
	eachRef(tree, func(ref string) {
		inside, ok := strings.CutPrefix(ref, "#/")
		if !ok {
			if _, err := os.Stat(filepath.Join("contracts", ref)); err != nil {
				t.Error(err)
			}
			return
		}
		at := tree
		for step := range strings.SplitSeq(inside, "/") {
			node, _ := at.(map[string]any)
			at = node[step]
		}
		if at == nil {
			t.Errorf("$ref %s leads nowhere", ref)
		}
	})
}

func eachRef(tree any, f func(string)) {
	switch node := tree.(type) {
	case map[string]any:
		for key, value := range node {
			if ref, ok := value.(string); ok && key == "$ref" {
				f(ref)
			}
			eachRef(value, f)
		}
	case []any:
		for _, value := range node {
			eachRef(value, f)
		}
	}
}
