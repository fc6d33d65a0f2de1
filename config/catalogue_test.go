package config_test

import (
	"fmt"
	"strings"
	"testing"

	"fanout/config"
	"fanout/event"
)

func load(t *testing.T, text string, env ...string) (config.Config, []config.Warning, error) {
	t.Helper()
	return config.Load(write(t, text), true, env, nil)
}

const catalogued = `events:
  - {name: EMAIL_DELIVERED, channel: EMAIL, type: DELIVERED, eventType: DELIVERED, description: Arrived}
  - {name: SLACK_FAILED, channel: SLACK, type: FAILED}
payload: [occurredAt, failureCode]
delivery: {max_ages: {SLACK_FAILED: 1h}}
`

// What is added is known wherever the configuration names events, and to those who are told of it.
func TestCatalogue(t *testing.T) {
	t.Parallel()
	if _, _, err := load(t, catalogued+"sources: [{topic: s, channel: slack, types: {gone: failed, seen: ignore}, fields: {failureCode: error.code}}]\n"); err != nil {
		t.Fatal(err)
	}
	cfg, _, err := load(t, catalogued)
	if err != nil {
		t.Fatal(err)
	}
	if got := cfg.Catalogue().Texts(); len(got) != len(event.BuiltIn().Names())+2 || got[len(got)-1] != "SLACK_FAILED" {
		t.Errorf("catalogue %v", got)
	}
	topics := cfg.Topic()
	if sources := topics.AllSources(); len(sources) != 7 || sources[6].Topic != "channel.slack" || fmt.Sprint(topics.Payload) != "[occurredAt failureCode]" {
		t.Errorf("sources %+v, payload %v", sources, topics.Payload)
	}
	if _, ok := cfg.Redis.Reader().Catalogue.Parse("EMAIL_DELIVERED"); !ok {
		t.Error("subscriptions do not know the catalogue")
	}
	if fallback := config.Default(); fallback.Catalogue() != nil || len(fallback.Payload) > 0 {
		t.Error("the default adds something")
	}
	same, _, err := load(t, "", `FANOUT_EVENTS=[{name: EMAIL_DELIVERED, channel: EMAIL, type: DELIVERED}]`, "FANOUT_PAYLOAD=a,b")
	if err != nil || len(same.Catalogue().Names()) != len(event.BuiltIn().Names())+1 || fmt.Sprint(same.Payload) != "[a b]" {
		t.Errorf("from the environment: %v %v, %v", same.Catalogue().Texts(), same.Payload, err)
	}
}

func TestCatalogueProblems(t *testing.T) {
	t.Parallel()
	for _, tt := range [][2]string{
		{"events: [{name: EMAIL_OPEN, channel: EMAIL, type: X}]", `events[0].name: "EMAIL_OPEN": this event name is built in`},
		{"events: [{name: A, channel: EMAIL, type: open}]", `events[0].type: "open": channel EMAIL and type open are EMAIL_OPEN already`},
		{"events: [{name: A, channel: X}]", "events[0].type: want the type of the raw event"},
		{"events: [{name: A, channel: X, type: Y, eventTyp: Z}]", "events[0].eventTyp: unknown key; did you mean eventType?"},
		{"events: {name: A}", "events: "},
		{"payload: [userId]", `payload[0]: "userId": the payload has this key already`},
		{"payload: [a, A]", `payload[1]: "A": given twice`},
		{"payload: [a-b]", "want a letter or _"},
		{"payload: [code]\nsources: [{topic: s, fields: {coda: x}}]", "sources[0].fields.coda: unknown field, want one of accountId,"},
		{"payload: [code]\nsources: [{topic: s, fields: {code: message.x, userId: message}}]", "sources[0].fields.code: "},
		{"sources: [{topic: s, channel: SLACK}]", "sources[0].channel: unknown channel"},
		{"sources: [{topic: s, channel: EMAIL, types: {bounced: DELIVERD}}]\n" + catalogued, `sources[0].types.bounced: "DELIVERD": no event of channel EMAIL has this type: want OPEN, CLICK, FAILED, DELIVERED or ignore; did you mean DELIVERED?`},
	} {
		text, want := tt[0], tt[1]
		if got := problems(t, text); !strings.Contains(got, want) {
			t.Errorf("%s\n got %s\nwant %s", text, got, want)
		}
	}
	if got := problems(t, "", "FANOUT_EVENTS=EMAIL_DELIVERED"); !strings.Contains(got, "FANOUT_EVENTS: events: ") || !strings.Contains(got, "want a list") {
		t.Errorf("no list: %s", got)
	}
}

// The configuration as a file is read as the same one.
func TestCatalogueIsWritten(t *testing.T) {
	t.Parallel()
	cfg, _, err := load(t, catalogued)
	if err != nil {
		t.Fatal(err)
	}
	text, err := cfg.Changes()
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := load(t, string(text))
	if err != nil || fmt.Sprint(again.Events, again.Payload) != fmt.Sprint(cfg.Events, cfg.Payload) {
		t.Errorf("%v\n%s", err, text)
	}
}
