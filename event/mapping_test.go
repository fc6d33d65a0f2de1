package event_test

import (
	"slices"
	"strings"
	"testing"

	"fanout/event"
)

func TestCompileRefuses(t *testing.T) {
	fields := func(kv ...string) event.Mapping {
		m := event.Mapping{Fields: map[string]string{}}
		for i := 0; i < len(kv); i += 2 {
			m.Fields[kv[i]] = kv[i+1]
		}
		return m
	}
	for name, test := range map[string]struct {
		mapping event.Mapping
		want    []string
	}{
		"unknown channel":     {event.Mapping{Channel: "FAX"}, []string{"channel", `"FAX"`}},
		"unknown field":       {fields("tracking", "x"), []string{"fields.tracking", "trackingId"}},
		"empty path":          {fields("userId", ""), []string{"fields.userId", `""`}},
		"empty key in a path": {fields("userId", "a..b"), []string{"fields.userId", `"a..b"`}},
		"path ends with dot":  {fields("userId", "a."), []string{"fields.userId", `"a."`}},
		"path too deep":       {fields("userId", strings.Repeat("a.", 64)+"a"), []string{"fields.userId", "64"}},
		"value and object":    {fields("userId", "a.b", "trackingId", "a"), []string{"fields.userId", "trackingId"}},
		"object and value":    {fields("userId", "a", "trackingId", "a.b"), []string{"fields.userId", `"a"`}},
		"below another field": {fields("userId", "type.id"), []string{"fields.userId", "type"}},
		"empty target type":   {event.Mapping{Types: map[string]string{"bounced": ""}}, []string{"types.bounced"}},
		"empty type":          {event.Mapping{Types: map[string]string{"": "FAILED"}}, []string{"types", `"FAILED"`}},
		"type twice":          {event.Mapping{Types: map[string]string{"Open": "OPEN", "open": "CLICK"}}, []string{"types.open", "twice"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := test.mapping.Compile(nil)
			if err == nil {
				t.Fatal("compiled")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not name %s", err, want)
				}
			}
		})
	}
}

// A target that no event of the source has is told from one that is to be dropped.
func TestUnknownTypes(t *testing.T) {
	for name, test := range map[string]struct {
		channel string
		types   map[string]string
		want    []string
	}{
		"none":                   {"EMAIL", nil, nil},
		"known, in any case":     {"email", map[string]string{"a": "OPEN", "b": "click", "c": "Failed"}, nil},
		"to be dropped":          {"EMAIL", map[string]string{"a": "ignore", "b": "IGNORE"}, nil},
		"misspelt":               {"EMAIL", map[string]string{"b": "FAILD", "a": "OPENED", "c": "OPEN"}, []string{"a", "b"}},
		"another channel's":      {"SMS", map[string]string{"a": "OPEN", "b": "FAILED"}, []string{"a"}},
		"any channel's":          {"", map[string]string{"a": "OPEN", "b": "FAILED", "c": "SENT"}, []string{"c"}},
		"a letter like another":  {"EMAIL", map[string]string{"a": "CLIC\u212a"}, []string{"a"}},
		"of an unknown channel":  {"FAX", map[string]string{"a": "OPEN"}, nil},
		"empty, Compile says it": {"EMAIL", map[string]string{"a": ""}, nil},
	} {
		m := event.Mapping{Channel: test.channel, Types: test.types}
		if got := m.UnknownTypes(nil); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

func TestMappedShapes(t *testing.T) {
	plain := func(n event.Name) event.Event {
		return event.Event{Account: "acme", Name: n, TrackingID: "t", NotificationID: "n", UserID: "u"}
	}
	withID := plain(event.EmailFailed)
	withID.ID = "t"
	for name, test := range map[string]struct {
		mapping event.Mapping
		value   string
		want    event.Event
	}{
		"fixed channel, own one not read": {
			event.Mapping{Channel: "email"},
			`{"accountId":"acme","channel":7,"channel":"FAX","type":"OPEN","trackingId":"t","notificationId":"n","userId":"u"}`,
			plain(event.EmailOpen),
		},
		"fixed channel, none in the record": {
			event.Mapping{Channel: "SMS"},
			`{"accountId":"acme","type":"FAILED","trackingId":"t","notificationId":"n","userId":"u"}`,
			plain(event.SMSFailed),
		},
		"nested paths, folded keys": {
			event.Mapping{Fields: map[string]string{"trackingid": "message.tracking_id", "USERID": "message.to.user", "accountId": "tenant"}},
			`{"tenant":"acme","channel":"EMAIL","type":"CLICK","trackingId":1,"message":{"to":{"user":"u"},"tracking_id":"t"},"notificationId":"n"}`,
			plain(event.EmailClick),
		},
		"one path for two fields": {
			event.Mapping{Fields: map[string]string{"id": "trackingId"}},
			`{"accountId":"acme","channel":"EMAIL","type":"FAILED","trackingId":"t","notificationId":"n","userId":"u"}`,
			withID,
		},
		"swapped": {
			event.Mapping{Fields: map[string]string{"trackingId": "userId", "userId": "trackingId"}},
			`{"accountId":"acme","channel":"EMAIL","type":"FAILED","trackingId":"u","notificationId":"n","userId":"t"}`,
			plain(event.EmailFailed),
		},
		"type name of the producer": {
			event.Mapping{Types: map[string]string{"hard bounce": "failed"}},
			`{"accountId":"acme","channel":"EMAIL","type":"Hard Bounce","trackingId":"t","notificationId":"n","userId":"u"}`,
			plain(event.EmailFailed),
		},
		"type name of ours beside a table": {
			event.Mapping{Types: map[string]string{"bounced": "FAILED"}},
			`{"accountId":"acme","channel":"EMAIL","type":"open","trackingId":"t","notificationId":"n","userId":"u"}`,
			plain(event.EmailOpen),
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := compile(t, test.mapping).Decode([]byte(test.value))
			if err != nil || !same(got, test.want) {
				t.Errorf("Decode = %+v, %v, want %+v", got, err, test.want)
			}
		})
	}
}

// As many and as deep paths as there can be.
func TestDeepestPaths(t *testing.T) {
	m := event.Mapping{Fields: map[string]string{}}
	var b strings.Builder
	for i, name := range []string{"accountId", "channel", "type", "trackingId", "notificationId", "userId", "id", "occurredAt"} {
		top := string(rune('a' + i))
		m.Fields[name] = top + strings.Repeat(".x", 63)
		text := map[string]string{"channel": "EMAIL", "type": "OPEN"}[name]
		b.WriteString(`,"` + top + `":` + strings.Repeat(`{"x":`, 63) + `"` + text + top + `"` + strings.Repeat("}", 63))
	}
	value := strings.NewReplacer("EMAILb", "EMAIL", "OPENc", "OPEN").Replace("{" + b.String()[1:] + "}")
	got, err := compile(t, m).Decode([]byte(value))
	want := event.Event{Account: "a", Name: event.EmailOpen, TrackingID: "d", NotificationID: "e", UserID: "f", ID: "g"}
	if err != nil || !same(got, want) {
		t.Errorf("Decode = %+v, %v", got, err)
	}
}

func TestMappedIgnoredAndMalformed(t *testing.T) {
	const tail = `"notificationId":"n","userId":"u"}`
	nested := event.Mapping{Fields: map[string]string{"trackingId": "message.tracking_id"}}
	for name, test := range map[string]struct {
		mapping event.Mapping
		value   string
		want    string
	}{
		"type mapped to nothing": {
			event.Mapping{Types: map[string]string{"open": "NOISE"}},
			`{"accountId":"acme","channel":"EMAIL","type":"OPEN","trackingId":"t",` + tail, "ignored",
		},
		"type mapped to ignore": {
			event.Mapping{Channel: "EMAIL", Types: map[string]string{"open": "Ignore"}},
			`{"accountId":"acme","type":"OPEN","trackingId":"t",` + tail, "ignored",
		},
		"type mapped to ignore, on an unknown channel": {
			event.Mapping{Types: map[string]string{"open": "ignore"}},
			`{"accountId":"acme","channel":"FAX","type":"OPEN","trackingId":"t",` + tail, `malformed event: channel: unknown channel "FAX"`,
		},
		"intermediate object twice": {
			nested, `{"accountId":"acme","channel":"EMAIL","type":"OPEN","message":{},"message":{"tracking_id":"t"},` + tail,
			"malformed event: trackingId: given twice",
		},
		"leaf twice": {
			nested, `{"accountId":"acme","channel":"EMAIL","type":"OPEN","message":{"tracking_id":"t","tracking\u005fid":"t"},` + tail,
			"malformed event: trackingId: given twice",
		},
		"intermediate is no object": {
			nested, `{"accountId":"acme","channel":"EMAIL","type":"OPEN","message":[{"tracking_id":"t"}],` + tail,
			"malformed event: trackingId: missing",
		},
		"own name not read any more": {
			nested, `{"accountId":"acme","channel":"EMAIL","type":"OPEN","trackingId":"t",` + tail,
			"malformed event: trackingId: missing",
		},
		"dots are no keys": {
			nested, `{"accountId":"acme","channel":"EMAIL","type":"OPEN","message.tracking_id":"t",` + tail,
			"malformed event: trackingId: missing",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := compile(t, test.mapping).Decode([]byte(test.value)); err == nil || err.Error() != test.want {
				t.Errorf("Decode: %v, want %s", err, test.want)
			}
		})
	}
}

func compile(tb testing.TB, m event.Mapping) *event.Decoder {
	tb.Helper()
	d, err := m.Compile(nil)
	if err != nil {
		tb.Fatal(err)
	}
	return d
}
