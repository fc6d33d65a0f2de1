package contracts_test

import (
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"fanout/docs/contracts"
	"fanout/event"
	"fanout/webhook"
)

func catalogue(t *testing.T) *event.Catalogue {
	t.Helper()
	c, problems := event.NewCatalogue([]event.Row{
		{Name: "EMAIL_DELIVERED", Channel: "EMAIL", Type: "DELIVERED", EventType: "DELIVERED"}, {Name: "SLACK_FAILED", Channel: "SLACK", Type: "FAILED"},
	})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return c
}

func document(t *testing.T, name string, c *event.Catalogue, payload ...string) string {
	t.Helper()
	text, err := contracts.Document(name, c, payload)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func validate(t *testing.T, schema, value string) error {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(schema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("mem:schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("mem:schema.json")
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(value))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(v)
}

// Without a catalogue of its own a configuration has the files of the repository.
func TestDocumentsAreTheFiles(t *testing.T) {
	t.Parallel()
	for _, name := range contracts.Names() {
		file := name + ".json"
		if name == "asyncapi" {
			file = "asyncapi.yaml"
		}
		want, err := os.ReadFile(file)
		if err != nil || document(t, name, nil) != string(want) {
			t.Errorf("%s is not the file: %v", name, err)
		}
	}
	if _, err := contracts.Document("nothing", nil, nil); err == nil {
		t.Error("there is a document called nothing")
	}
}

// The schemas of a catalogue take what it adds, and the files do not.
func TestDocumentsOfACatalogue(t *testing.T) {
	t.Parallel()
	body := string(webhook.AppendKey(webhook.AppendPayload(nil, "DELIVERED", "t", "n", "EMAIL", "u"), "failureCode", "550", true))
	slack := string(webhook.AppendPayload(nil, "SLACK_FAILED", "t", "n", "SLACK", "u"))
	for _, c := range []struct{ name, value string }{
		{"payload", body},
		{"payload", slack},
		{"subscription", `{"url":"https://x","events":["EMAIL_OPEN","SLACK_FAILED"]}`},
		{"raw-event", `{"accountId":"a","channel":"Slack","type":"FAILED","trackingId":"t","notificationId":"n","userId":"u"}`},
	} {
		if err := validate(t, document(t, c.name, catalogue(t), "failureCode"), c.value); err != nil {
			t.Errorf("%s refuses %s: %v", c.name, c.value, err)
		}
		if validate(t, document(t, c.name, nil), c.value) == nil {
			t.Errorf("%s of the built-in events takes %s", c.name, c.value)
		}
	}
	if validate(t, document(t, "payload", catalogue(t)), strings.Replace(slack, "SLACK_", "EMAIL_", 1)) == nil {
		t.Error("the payload's channel and type need not belong together")
	}
	for _, name := range []string{"retry-record", "dead-letter-record", "attempt-record"} {
		if !strings.Contains(document(t, name, catalogue(t)), `"SLACK_FAILED"`) {
			t.Errorf("%s does not have SLACK_FAILED", name)
		}
	}
	var api struct {
		Channels   map[string]struct{ Address string }
		Operations map[string]struct{ Action string }
	}
	if err := yaml.Unmarshal([]byte(document(t, "asyncapi", catalogue(t))), &api); err != nil {
		t.Fatal(err)
	}
	if api.Channels["sourceSlack"].Address != "channel.slack" || api.Operations["readSlack"].Action != "receive" {
		t.Errorf("asyncapi lacks channel.slack: %v", api.Channels["sourceSlack"])
	}
}

func TestWithNames(t *testing.T) {
	t.Parallel()
	names := `"` + strings.Join(event.BuiltIn().Texts(), `","`) + `"`
	text := `{"a":[{"enum":[` + names + `,null]}],"b":["EMAIL_OPEN"]}`
	if got := string(contracts.WithNames([]byte(text), nil)); got != text {
		t.Errorf("without a catalogue: %s", got)
	}
	got := strings.Join(strings.Fields(string(contracts.WithNames([]byte(text), catalogue(t)))), "")
	if got != `{"a":[{"enum":[`+names+`,"EMAIL_DELIVERED","SLACK_FAILED",null]}],"b":["EMAIL_OPEN"]}` {
		t.Errorf("%s", got)
	}
}
