package subscriptions_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"go.uber.org/zap/zapcore"

	"fanout/event"
	"fanout/subscriptions"
)

func TestParse(t *testing.T) {
	data, err := os.ReadFile("../testdata/subscriptions/full.json")
	if err != nil {
		t.Fatal(err)
	}
	s, bad := subscriptions.Parse("acme", "hook-1", data)
	if bad != nil {
		t.Fatal(bad)
	}
	got := fmt.Sprint(s.Account(), s.ID(), s.URL(), s.Events().Names(nil), s.Enabled(), s.Paused(), s.MaxInFlight(), s.MaxPerSecond(), s.Description(), s.Invalid())
	want := "acmehook-1https://example.com/hooks[EMAIL_OPEN SMS_FAILED] false true 64 100.5orders “eu”"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if h := s.Headers(); len(h) != 2 || h[0].Name != "X-Tenant" || h[0].Value != "ac:me" || h[1].Name != "x-zone" || h[1].Value != "" {
		t.Errorf("headers %v", h)
	}
	if len(s.Secrets()) != 2 {
		t.Errorf("%d secrets", len(s.Secrets()))
	}
	enc := zapcore.NewMapObjectEncoder()
	_ = s.MarshalLogObject(enc)
	for _, shown := range []string{fmt.Sprintf("%v %+v %#v %s", s, s, s, s), fmt.Sprint(enc.Fields), fmt.Sprintf("%v %+v %#v", s.Headers(), s.Headers(), s.Headers())} {
		if strings.Contains(shown, "MfKQ") || strings.Contains(shown, "ac:me") {
			t.Errorf("shows what is private: %s", shown)
		}
	}
}

func TestParseDefaults(t *testing.T) {
	s, bad := subscriptions.Parse("acme", "a", []byte(` { "url" : "https://x" , "unknown":{"a":[1,{"b":"}"}]}, "events" : [ "*" ] , "secrets":null } `))
	if bad != nil {
		t.Fatal(bad)
	}
	if !s.Enabled() || s.Paused() || s.MaxInFlight() != 0 || s.MaxPerSecond() != 0 || s.Events() != event.AllNames || s.URL() != "https://x" {
		t.Errorf("%+v", s)
	}
}

func TestParseInvalid(t *testing.T) {
	const ok = `"url":"https://x","events":["EMAIL_OPEN"]`
	for _, c := range []struct{ json, fields string }{
		{``, ""},
		{`[]`, ""},
		{"{\"url\":\"\xff\"}", ""},
		{`{}`, "url,events"},
		{`{"url":null,"events":null}`, "url,events"},
		{`{"url":"","events":[]}`, "url,events"},
		{`{"url":7,"events":"EMAIL_OPEN"}`, "url,events"},
		{`{"url":"https://x\u0000","events":[1]}`, "url,events"},
		{`{"url":"` + strings.Repeat("x", 2049) + `","events":["EMAIL_OPEN"]}`, "url"},
		{`{"url":"https://x","events":[["EMAIL_OPEN"]]}`, "events"},
		{`{"url":"https://x","events":["*","EMAIL_OPEN"]}`, "events"},
		{`{` + ok + `,"url":"https://y"}`, "url"},
		{`{` + ok + `,"enabled":"true"}`, "enabled"},
		{`{` + ok + `,"paused":1,"maxInFlight":0,"maxPerSecond":0}`, "paused,maxInFlight,maxPerSecond"},
		{`{` + ok + `,"maxInFlight":1.5,"maxPerSecond":"1"}`, "maxInFlight,maxPerSecond"},
		{`{` + ok + `,"description":[]}`, "description"},
		{`{` + ok + `,"secrets":["hello"]}`, "secrets[0]"},
		{`{` + ok + `,"secrets":"x"}`, "secrets"},
		{`{` + ok + `,"headers":["x"]}`, "headers"},
		{`{` + ok + `,"headers":{"x":1,"a b":"","a:b":""}}`, "headers.x,headers.a b,headers.a:b"},
		{`{` + ok + `,"headers":{"x":"a\r\nb: c"}}`, "headers.x"},
		{`{` + ok + `,"headers":{"x":"1","X":"2"}}`, "headers.X"},
		{`{` + ok + `,"headers":{"x":"` + strings.Repeat("y", 9000) + `"}}`, "headers"},
	} {
		s, bad := subscriptions.Parse("acme", "a", []byte(c.json))
		if bad == nil {
			t.Errorf("%.80s is taken", c.json)
			continue
		}
		var fields []string
		for _, p := range bad.Problems {
			fields = append(fields, p.Field)
		}
		if got := strings.Join(fields, ","); got != c.fields {
			t.Errorf("%.80s: %s, want %s", c.json, got, c.fields)
		}
		if s == nil || s.Invalid() != bad.Error() || s.Events() == 0 {
			t.Errorf("%.80s: %v invalid %q", c.json, s.Events().Names(nil), s.Invalid())
		}
	}
	s, _ := subscriptions.Parse("acme", "a", []byte(`{"url":7,"events":["SMS_FAILED","NOPE"]}`))
	if got := fmt.Sprint(s.Events().Names(nil)); got != "[SMS_FAILED]" {
		t.Errorf("an invalid one names %s", got)
	}
}

func TestCheckIdentity(t *testing.T) {
	for _, c := range []struct {
		account, id string
		good        bool
	}{
		{"acme", "A-z_0.9", true},
		{"Ünïcode 7", "a", true},
		{strings.Repeat("a", 256), strings.Repeat("b", 64), true},
		{"", "a", false},
		{"a\n", "a", false},
		{"a\xff", "a", false},
		{strings.Repeat("a", 257), "a", false},
		{"a", "", false},
		{"a", "a b", false},
		{"a", "ä", false},
		{"a", strings.Repeat("b", 65), false},
	} {
		if bad := subscriptions.CheckIdentity(c.account, c.id); (bad == nil) != c.good {
			t.Errorf("%.20q %.20q: %v", c.account, c.id, bad)
		}
	}
}
