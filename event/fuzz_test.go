package event_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"fanout/event"
)

// FuzzDecode compares the decoder with a slow one on top of encoding/json, in what it accepts and in what it reads.
func FuzzDecode(f *testing.F) {
	paths, err := filepath.Glob("../testdata/events/*.json")
	if err != nil || len(paths) == 0 {
		f.Fatal(paths, err)
	}
	for _, path := range paths {
		value, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(value)
	}
	for _, extra := range []string{
		`"a":[1,-2.5e3,true,null],`, `"m":{"id":"x"},`, `"m":{"id":1},"m":2,`, `"\ud83d\ude00":"\u0069\ud800",`, `"id":1,"\u0069d":2,`, `"m":[{"id":"x"}],`,
		`"occurredAt":"2026-03-01T14:00:00+02:00",`,
	} {
		f.Add([]byte(record(extra)))
	}
	plain := compile(f, event.Mapping{})
	mapped := compile(f, event.Mapping{Channel: "EMAIL", Fields: map[string]string{"id": "m.id", "userId": "m.user.id", "occurredAt": "userId"}})
	f.Fuzz(func(t *testing.T, value []byte) {
		compare(t, plain, value, reference{
			paths: fieldPaths,
		})
		compare(t, mapped, value, reference{
			channel: "EMAIL",
			paths:   []string{"accountId", "", "type", "trackingId", "notificationId", "m.user.id", "m.id", "userId"},
		})
	})
}

// FuzzMapping compares any mapping, on any record, with the reference: what Compile takes reads what the paths say.
func FuzzMapping(f *testing.F) {
	f.Add("EMAIL", "id", "m.id", "userId", "m.user.id", "bounced", "FAILED", []byte(record(`"m":{"id":"x","user":{"id":"y"}},`)))
	f.Add("", "TRACKINGID", "type", "type", "type", "Open", "click", []byte(record("")))
	f.Add("email", "channel", "accountId", "accountid", "a.b", "", "OPEN", []byte(record(`"a":{"b":"z"},`)))
	f.Add("sms", "occurredAt", "é.\"", "id", strings.Repeat("a.", 63)+"a", "failed", "nope", []byte(`{"a":{"a":{}}}`))
	f.Add("", "id", "m", "userId", "m.a", "x", "", []byte(record("")))
	f.Fuzz(func(t *testing.T, channel, key1, path1, key2, path2, theirs, ours string, value []byte) {
		m := event.Mapping{Channel: channel, Fields: map[string]string{key1: path1}, Types: map[string]string{theirs: ours}}
		if fold(key1) != fold(key2) { // which of two spellings counts is not said
			m.Fields[key2] = path2
		}
		d, err := m.Compile(nil)
		if err != nil {
			if d != nil || err.Error() == "" {
				t.Errorf("%+v: %v, %v", m, d, err)
			}
			return
		}
		r := reference{channel: fold(channel), paths: slices.Clone(fieldPaths), types: m.Types}
		for key, path := range m.Fields {
			i := slices.IndexFunc(fieldPaths, func(name string) bool { return fold(name) == fold(key) })
			if i < 0 {
				t.Fatalf("Compile takes the field %q", key)
			}
			r.paths[i] = path
		}
		if channel != "" {
			r.paths[1] = ""
		}
		compare(t, d, value, r)
	})
}

// fieldPaths are where the documented shape has its fields, in the order in which they are looked at.
var fieldPaths = []string{"accountId", "channel", "type", "trackingId", "notificationId", "userId", "id", "occurredAt"}

func compare(t *testing.T, d *event.Decoder, value []byte, r reference) {
	t.Helper()
	before := bytes.Clone(value)
	got, err := d.Decode(value)
	want, wantErr := r.decode(value)
	_, malformed := errors.AsType[*event.MalformedError](err)
	if !same(got, want) || malformed != errors.Is(wantErr, errReference) || errors.Is(err, event.ErrIgnored) != errors.Is(wantErr, event.ErrIgnored) {
		t.Errorf("%q\nDecode    = %+v, %v\nreference = %+v, %v", value, got, err, want, wantErr)
	}
	if err != nil && (len(err.Error()) > 512 || !utf8.ValidString(err.Error())) {
		t.Errorf("error %q", err)
	}
	if !bytes.Equal(before, value) {
		t.Errorf("Decode wrote to %q", before)
	}
}

var errReference = errors.New("malformed")

// A reference decodes through a tree of encoding/json tokens.
type reference struct {
	channel string
	paths   []string
	types   map[string]string
}

type member struct {
	key   string
	value any // []member, []any, string, json.Number, bool or nil
}

// A surrogate escape that no pair took before it is the second alternative.
var escapes = regexp.MustCompile(`\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F]..)|.)`)

var rfc3339 = regexp.MustCompile(`^[-0-9]{10}[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[-+]([01]\d|2[0-3]):[0-5]\d)$`)

func (r reference) decode(value []byte) (event.Event, error) {
	if value == nil {
		return event.Event{}, event.ErrIgnored
	}
	if !utf8.Valid(value) || !json.Valid(value) {
		return event.Event{}, errReference
	}
	for _, m := range escapes.FindAllSubmatch(value, -1) {
		if m[1] != nil {
			return event.Event{}, errReference
		}
	}
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.UseNumber()
	tree, deepest := parse(dec, 1)
	object, ok := tree.([]member)
	if !ok || deepest > 64 {
		return event.Event{}, errReference
	}
	values := make([]any, len(r.paths))
	for i, path := range r.paths {
		if path == "" {
			values[i] = r.channel
			continue
		}
		if values[i], ok = walk(object, strings.Split(path, ".")); !ok {
			return event.Event{}, errReference
		}
	}
	var text [6]string
	for i := range text {
		if text[i], _ = values[i].(string); text[i] == "" {
			return event.Event{}, errReference
		}
	}
	if len(text[0]) > 256 || strings.ContainsFunc(text[0], unicode.IsControl) {
		return event.Event{}, errReference
	}
	for theirs, ours := range r.types {
		if fold(theirs) == fold(text[2]) {
			text[2] = ours
			break
		}
	}
	e := event.Event{Account: text[0], TrackingID: text[3], NotificationID: text[4], UserID: text[5]}
	known := false
	for _, row := range rows {
		if fold(text[1]) == row.channel {
			known = true
			if fold(text[2]) == row.raw {
				e.Name = row.name
			}
		}
	}
	if !known {
		return event.Event{}, errReference
	}
	if e.Name == (event.Name{}) {
		return event.Event{}, event.ErrIgnored
	}
	switch id := values[6].(type) {
	case string:
		e.ID = id
	case json.Number:
		if !strings.ContainsAny(id.String(), ".eE") {
			e.ID = id.String()
		}
	}
	if s, ok := values[7].(string); ok && len(s) <= 64 {
		var at time.Time
		if at.UnmarshalText([]byte(strings.ToUpper(s))) == nil && rfc3339.MatchString(s) {
			e.OccurredAt = at.UTC()
		}
	}
	return e, nil
}

// fold is upper case for ASCII alone.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' {
			return r - 'a' + 'A'
		}
		return r
	}, s)
}

// walk finds the value at a path; ok is false where a key on it is given twice.
func walk(object []member, path []string) (value any, ok bool) {
	named := func(m member) bool { return m.key == path[0] }
	i := slices.IndexFunc(object, named)
	if i < 0 {
		return nil, true
	}
	if slices.ContainsFunc(object[i+1:], named) {
		return nil, false
	}
	if len(path) == 1 {
		return object[i].value, true
	}
	inner, _ := object[i].value.([]member)
	return walk(inner, path[1:])
}

// parse reads one value of valid JSON, and says how deep it goes.
func parse(dec *json.Decoder, depth int) (value any, deepest int) {
	token, _ := dec.Token()
	switch token {
	case json.Delim('{'):
		members := []member{}
		deepest = depth
		for dec.More() {
			key, _ := dec.Token()
			v, d := parse(dec, depth+1)
			members = append(members, member{key.(string), v})
			deepest = max(deepest, d)
		}
		_, _ = dec.Token()
		return members, deepest
	case json.Delim('['):
		items := []any{}
		deepest = depth
		for dec.More() {
			v, d := parse(dec, depth+1)
			items = append(items, v)
			deepest = max(deepest, d)
		}
		_, _ = dec.Token()
		return items, deepest
	}
	return token, 0
}
