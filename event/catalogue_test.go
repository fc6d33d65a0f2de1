package event_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"fanout/event"
)

func delivered() []event.Row {
	return []event.Row{
		{Name: "EMAIL_DELIVERED", Channel: "EMAIL", Type: "DELIVERED", EventType: "DELIVERED", Description: "Arrived"},
		{Name: "SLACK_FAILED", Channel: "SLACK", Type: "FAILED"},
	}
}

func catalogue(t *testing.T, rows ...event.Row) *event.Catalogue {
	t.Helper()
	c, problems := event.NewCatalogue(rows)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return c
}

// What the configuration adds follows the eight, which stay as they are.
func TestCatalogueAdds(t *testing.T) {
	c := catalogue(t, delivered()...)
	names := c.Names()
	if builtIn := event.BuiltIn().Names(); !slices.Equal(names[:len(names)-2], builtIn) {
		t.Errorf("%v, built in are %v", names, builtIn)
	}
	for _, want := range []struct{ name, channel, raw, eventType, description string }{
		{"EMAIL_DELIVERED", "EMAIL", "delivered", "DELIVERED", "Arrived"}, {"SLACK_FAILED", "slack", "FAILED", "SLACK_FAILED", ""},
	} {
		n, ok := c.Lookup(want.channel, want.raw)
		if again, parsed := c.Parse(want.name); !ok || !parsed || again != n || n.String() != want.name || !n.Known() {
			t.Errorf("%s: %v %v, %v %v", want.name, n, ok, again, parsed)
		}
		if n.PayloadType() != want.eventType || n.Description() != want.description || n.Channel() != strings.ToUpper(want.channel) {
			t.Errorf("%s: %s %s %q", n, n.PayloadType(), n.Channel(), n.Description())
		}
		if _, ok := event.BuiltIn().Parse(want.name); ok {
			t.Errorf("%s is built in", n)
		}
		if set := event.Set(0).With(n); !set.Has(n) || set.Has(event.EmailOpen) || !slices.Equal(set.Names(c), []event.Name{n}) || !event.AllNames.Has(n) {
			t.Errorf("%s: the set %v", n, set.Names(c))
		}
	}
	if got := c.Channels(); !slices.Equal(got, []string{"EMAIL", "SMS", "CALL", "PUSH", "WEB_PUSH", "INAPP_WEB", "SLACK"}) {
		t.Errorf("channels %v", got)
	}
	if same := catalogue(t, delivered()...); !slices.Equal(same.Names(), names) {
		t.Error("the same rows make other names")
	}
}

func TestCatalogueProblems(t *testing.T) {
	row := func(change func(*event.Row)) event.Row {
		r := event.Row{Name: "EMAIL_DELIVERED", Channel: "EMAIL", Type: "DELIVERED"}
		change(&r)
		return r
	}
	for _, c := range []struct {
		row  event.Row
		key  string
		text string
	}{
		{row(func(r *event.Row) { r.Name = "email_delivered" }), "name", "upper-case"},
		{row(func(r *event.Row) { r.Name = strings.Repeat("A", 65) }), "name", "63"},
		{row(func(r *event.Row) { r.Name = "EMAIL_OPEN" }), "name", "built in"},
		{row(func(r *event.Row) { r.Name = "SLACK_FAILED" }), "name", "given twice"},
		{row(func(r *event.Row) { r.Channel = "Email" }), "channel", "upper-case"},
		{row(func(r *event.Row) { r.Channel = strings.Repeat("A", 33) }), "channel", "31"},
		{row(func(r *event.Row) { r.Type = "" }), "type", "DELIVERED"},
		{row(func(r *event.Row) { r.Type = "Ignore" }), "type", "dropped"},
		{row(func(r *event.Row) { r.Type = "open" }), "type", "EMAIL_OPEN already"},
		{row(func(r *event.Row) { r.Channel, r.Type = "SLACK", "Failed" }), "type", "SLACK_FAILED already"},
		{row(func(r *event.Row) { r.EventType = "\x7f" }), "eventType", "printable"},
		{row(func(r *event.Row) { r.Description = strings.Repeat("x", 513) }), "description", "512"},
	} {
		got, problems := event.NewCatalogue([]event.Row{delivered()[1], c.row})
		if len(problems) != 1 || problems[0].Row != 1 || problems[0].Key != c.key || !strings.Contains(problems[0].Text, c.text) {
			t.Errorf("%+v: %+v, want %s: … %s", c.row, problems, c.key, c.text)
		}
		if _, ok := got.Parse("SLACK_FAILED"); !ok || len(got.Names()) != len(event.BuiltIn().Names())+1 {
			t.Errorf("%+v: the good row is lost, or the bad one added", c.row)
		}
	}
	var rows []event.Row
	room := event.MaxNames - len(event.BuiltIn().Names())
	for i := range room + 1 {
		rows = append(rows, event.Row{Name: fmt.Sprintf("X_%d", i), Channel: "X", Type: fmt.Sprint("T", i)})
	}
	c, problems := event.NewCatalogue(rows)
	if len(problems) != 1 || problems[0].Row != room || !strings.Contains(problems[0].Text, "more than 64") {
		t.Errorf("one row more than there is room for: %+v", problems)
	}
	for i, n := range c.Names() {
		if set := event.Set(0).With(n); set != 1<<i {
			t.Errorf("%s is bit %b", n, set)
		}
	}
}

// A name of another instance's catalogue has a text, and is in no set.
func TestUnknownNames(t *testing.T) {
	n, ok := event.BuiltIn().ParseAny("EMAIL_DELIVERED")
	if !ok || n.Known() || n.String() != "EMAIL_DELIVERED" || event.AllNames.Has(n) || event.Set(0).With(n) != 0 {
		t.Errorf("%v %v", n, ok)
	}
	if known, ok := event.BuiltIn().ParseAny("EMAIL_OPEN"); !ok || known != event.EmailOpen {
		t.Errorf("%v %v", known, ok)
	}
	for _, text := range []string{"", "*", "email_open", "1A", "A B", "A\n", strings.Repeat("A", 65)} {
		if n, ok := event.BuiltIn().ParseAny(text); ok || n != (event.Name{}) {
			t.Errorf("%q is taken as %v", text, n)
		}
	}
}

// The payload's further keys, wherever the source has them; what has no value, or one that cannot be used, is left out.
func TestExtra(t *testing.T) {
	const head = `{"accountId":"acme","channel":"EMAIL","type":"DELIVERED","trackingId":"t","notificationId":"n","userId":"u"`
	c, keys := catalogue(t, delivered()...), []string{"occurredAt", "failureCode", "clickedLink"}
	mapped := event.Mapping{Fields: map[string]string{"failurecode": "error.code", "occurredAt": "at"}}
	long := strings.Repeat("x", 8<<10)
	for _, test := range []struct {
		mapping event.Mapping
		more    string
		want    []event.Extra
	}{
		{event.Mapping{}, ``, nil},
		{event.Mapping{}, `,"clickedLink":"https://x/?a=b","failureCode":550`, []event.Extra{{"failureCode", "550", false}, {"clickedLink", "https://x/?a=b", true}}},
		{event.Mapping{}, `,"occurredAt":"yesterday","failureCode":-1.50e+3`, []event.Extra{{"occurredAt", "yesterday", true}, {"failureCode", "-1.50e+3", false}}},
		{event.Mapping{}, `,"occurredAt":true,"failureCode":false,"clickedLink":""`, []event.Extra{{"occurredAt", "true", false}, {"failureCode", "false", false}, {"clickedLink", "", true}}},
		{event.Mapping{}, `,"occurredAt":null,"failureCode":{"a":1},"clickedLink":[1]`, nil},
		{event.Mapping{}, `,"failureCode":"a\u0022\n\u00e9"`, []event.Extra{{"failureCode", "a\"\né", true}}},
		{event.Mapping{}, `,"failureCode":"` + long + `"`, []event.Extra{{"failureCode", long, true}}},
		{event.Mapping{}, `,"failureCode":"` + long + `y"`, nil},
		{mapped, `,"failureCode":1,"error":{"code":2,"text":"x"},"at":7`, []event.Extra{{"occurredAt", "7", false}, {"failureCode", "2", false}}},
	} {
		d, err := test.mapping.Compile(c, keys...)
		if err != nil {
			t.Fatal(err)
		}
		got, err := d.Decode([]byte(head + test.more + "}"))
		if err != nil || got.Name.String() != "EMAIL_DELIVERED" || !slices.Equal(got.Extra, test.want) {
			t.Errorf("%.80s: %+v, %v, want %+v", test.more, got.Extra, err, test.want)
		}
	}
	d, err := new(event.Mapping).Compile(c, keys...)
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Decode([]byte(head + `,"failureCode":1,"failureCode":2}`))
	if bad, ok := errors.AsType[*event.MalformedError](err); !ok || bad.Field != "failureCode" {
		t.Errorf("a key that is read, given twice: %v", err)
	}
	if _, err := d.Decode([]byte(strings.Replace(head, "DELIVERED", "SEEN", 1) + "}")); !errors.Is(err, event.ErrIgnored) {
		t.Errorf("no row: %v", err)
	}
}

func TestPayloadKeys(t *testing.T) {
	for key, want := range map[string]string{
		"failureCode": "", "_x9": "", strings.Repeat("k", 64): "", "occurredAt": "", "accountId": "", "type": "",
		"": "letter", "9x": "letter", "a-b": "letter", strings.Repeat("k", 65): "letter", "userId": "already", "channel": "already", "eventType": "already",
		"id": "webhook-id", "given": "twice",
	} {
		if got := event.PayloadKeyProblem(key, []string{"given"}); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
	if got := event.PayloadKeyProblem("k", make([]string, 16)); !strings.Contains(got, "more than 16") {
		t.Errorf("the 17th: %q", got)
	}
	m := event.Mapping{Fields: map[string]string{"nothing": "x"}}
	if _, err := m.Compile(nil, "failureCode"); err == nil || !strings.Contains(err.Error(), "occurredAt, failureCode") {
		t.Errorf("a field that nobody reads: %v", err)
	}
}
