package event_test

import (
	"slices"
	"strings"
	"testing"

	"fanout/event"
)

// rows is the table of docs/contract.md#event-names.
var rows = []struct {
	name                          event.Name
	text, channel, raw, eventType string
}{
	{event.EmailOpen, "EMAIL_OPEN", "EMAIL", "OPEN", "OPEN"},
	{event.EmailClick, "EMAIL_CLICK", "EMAIL", "CLICK", "CLICK"},
	{event.EmailFailed, "EMAIL_FAILED", "EMAIL", "FAILED", "EMAIL_FAILED"},
	{event.SMSFailed, "SMS_FAILED", "SMS", "FAILED", "SMS_FAILED"},
	{event.CallFailed, "CALL_FAILED", "CALL", "FAILED", "CALL_FAILED"},
	{event.PushFailed, "PUSH_FAILED", "PUSH", "FAILED", "PUSH_FAILED"},
	{event.WebPushFailed, "WEB_PUSH_FAILED", "WEB_PUSH", "FAILED", "WEB_PUSH_FAILED"},
	{event.InAppWebFailed, "INAPP_WEB_FAILED", "INAPP_WEB", "FAILED", "INAPP_WEB_FAILED"},
}

func TestNameTable(t *testing.T) {
	for _, row := range rows {
		n := row.name
		if n.String() != row.text || n.Channel() != row.channel || n.RawType() != row.raw || n.PayloadType() != row.eventType {
			t.Errorf("%s %s %s %s, want %+v", n, n.Channel(), n.RawType(), n.PayloadType(), row)
		}
		if !strings.HasPrefix(n.Description(), "Triggered when a") {
			t.Errorf("%s: description %q", n, n.Description())
		}
		if got, ok := event.BuiltIn().Parse(row.text); got != n || !ok {
			t.Errorf("Parse(%q) = %v, %v", row.text, got, ok)
		}
	}
	if len(event.BuiltIn().Names()) != len(rows) {
		t.Errorf("Names() = %v", event.BuiltIn().Names())
	}
}

func TestRawTypes(t *testing.T) {
	for channel, want := range map[string][]string{
		"EMAIL": {"OPEN", "CLICK", "FAILED"}, "web_push": {"FAILED"}, "": {"OPEN", "CLICK", "FAILED"}, "FAX": nil,
	} {
		if got := event.BuiltIn().RawTypes(channel); !slices.Equal(got, want) {
			t.Errorf("RawTypes(%q) = %v, want %v", channel, got, want)
		}
	}
}

func TestNoName(t *testing.T) {
	var n event.Name
	if n.String() != "" || n.Channel() != "" || n.PayloadType() != "" || n.Description() != "" || n.Known() {
		t.Errorf("the zero Name = %q, want nothing", n)
	}
	if event.AllNames.Has(n) || event.Set(0).With(n) != 0 {
		t.Error("the zero Name is in a set")
	}
	for _, s := range []string{"", "*", "email_open", "EMAIL_OPEN ", "SMS_OPEN"} {
		if n, ok := event.BuiltIn().Parse(s); ok || n != (event.Name{}) {
			t.Errorf("Parse(%q) = %v, %v", s, n, ok)
		}
	}
}

// Every pair of a channel and a type, in any case, is an event, ignored or unknown.
func TestLookup(t *testing.T) {
	for _, channel := range []string{"EMAIL", "SMS", "CALL", "PUSH", "WEB_PUSH", "INAPP_WEB", "FAX", "", "ſms", "EMAIL "} {
		for _, raw := range []string{"OPEN", "CLICK", "FAILED", "DELIVERED", "", "FAILEd\x00"} {
			var want event.Name
			known := false
			for _, row := range rows {
				known = known || row.channel == channel
				if row.channel == channel && row.raw == raw {
					want = row.name
				}
			}
			for _, fold := range []func(string) string{strings.ToLower, strings.ToUpper, strings.Clone} {
				c, r := fold(channel), fold(raw)
				if c == "SMS" && channel == "ſms" {
					continue // ToUpper made it the real one
				}
				if got, ok := event.BuiltIn().Lookup(c, r); got != want || ok != known {
					t.Errorf("Lookup(%q, %q) = %v, %v, want %v, %v", c, r, got, ok, want, known)
				}
			}
		}
	}
	if n := testing.AllocsPerRun(100, func() { event.BuiltIn().Lookup("inapp_web", "failed") }); n != 0 {
		t.Errorf("Lookup allocates %v times", n)
	}
}

func TestSet(t *testing.T) {
	var s event.Set
	s = s.With(event.SMSFailed).With(event.EmailOpen).With(event.SMSFailed)
	for _, n := range event.BuiltIn().Names() {
		if s.Has(n) != (n == event.SMSFailed || n == event.EmailOpen) {
			t.Errorf("Has(%s) = %v", n, s.Has(n))
		}
		if !event.AllNames.Has(n) {
			t.Errorf("AllNames lacks %s", n)
		}
	}
	if got := s.Names(event.BuiltIn()); !slices.Equal(got, []event.Name{event.EmailOpen, event.SMSFailed}) {
		t.Errorf("Names() = %v", got)
	}
}
