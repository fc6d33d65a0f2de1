package event_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"fanout/event"
)

// The files say by their names what they are; this says why the malformed ones are.
var problems = map[string]string{
	"not-json":                  "not JSON at byte 0",
	"empty":                     "not JSON at byte 0",
	"cut-off":                   "not JSON at byte 118",
	"not-an-object":             "not a JSON object",
	"trailing-garbage":          "not JSON at byte 139",
	"byte-order-mark":           "not JSON at byte 0",
	"leading-zero":              "not JSON at byte 148",
	"invalid-utf8":              "invalid UTF-8 at byte 133",
	"unpaired-surrogate":        "unpaired surrogate at byte 151",
	"nested-too-deep":           "nested deeper than 64",
	"field-twice":               "userId: given twice",
	"account-missing":           "accountId: missing",
	"account-too-long":          "accountId: longer than 256 bytes",
	"account-control-character": "accountId: has a control character",
	"channel-unknown":           `channel: unknown channel "FAX"`,
	"type-empty":                "type: empty",
	"tracking-null":             "trackingId: not a string",
	"user-number":               "userId: not a string",
}

func TestFiles(t *testing.T) {
	paths, err := filepath.Glob("../testdata/events/*.json")
	if err != nil || len(paths) != len(rows)+2+len(problems) {
		t.Fatalf("%d files, %v", len(paths), err)
	}
	d := compile(t, event.Mapping{})
	for _, path := range paths {
		what, name, _ := strings.Cut(strings.TrimSuffix(filepath.Base(path), ".json"), "-")
		t.Run(name, func(t *testing.T) {
			value, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got, err := d.Decode(value)
			switch what {
			case "valid":
				n, _ := event.BuiltIn().Parse(name)
				want := event.Event{
					Account: "acme", Name: n, TrackingID: "abc123", NotificationID: "welcome-email", UserID: "user-123",
					ID: "evt-1", OccurredAt: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
				}
				if err != nil || !same(got, want) {
					t.Errorf("Decode = %+v, %v, want %+v", got, err, want)
				}
			case "ignored":
				if !errors.Is(err, event.ErrIgnored) || !same(got, event.Event{}) {
					t.Errorf("Decode = %+v, %v, want ErrIgnored", got, err)
				}
			case "malformed":
				if _, ok := errors.AsType[*event.MalformedError](err); !ok || !same(got, event.Event{}) {
					t.Fatalf("Decode = %+v, %v, want a MalformedError", got, err)
				}
				if want := "malformed event: " + problems[name]; err.Error() != want {
					t.Errorf("%q, want %q", err, want)
				}
			default:
				t.Errorf("what is %s?", path)
			}
		})
	}
}

func TestNullValueIsIgnored(t *testing.T) {
	d := compile(t, event.Mapping{})
	if _, err := d.Decode(nil); !errors.Is(err, event.ErrIgnored) {
		t.Errorf("nil: %v", err)
	}
	if _, err := d.Decode([]byte{}); errors.Is(err, event.ErrIgnored) || err == nil {
		t.Errorf("an empty value is no null value: %v", err)
	}
}

// record is a good record with extra, which ends with a comma, in front.
func record(extra string) string {
	return "{" + extra + `"accountId":"acme","channel":"EMAIL","type":"OPEN","trackingId":"t","notificationId":"n","userId":"u"}`
}

// Each fragment stands in a field nobody reads: the whole record counts, not only what is read.
func TestStrictJSON(t *testing.T) {
	d := compile(t, event.Mapping{})
	good := []string{
		`0`, `-0`, `10`, `1.5`, `1e5`, `1E+5`, `-1.25e-7`, `true`, `false`, `null`, `""`, `"\"\\\/\b\f\n\r\t\u00e9"`, `"\uD83D\uDE00"`,
		`"é😀"`, `[]`, `{}`, "[ 1 ,\t2\r\n]", `{"x":{"x":1,"x":2}}`, strings.Repeat("[", 63) + strings.Repeat("]", 63),
		strings.Repeat(`{"a":`, 63) + "1" + strings.Repeat("}", 63), `"` + strings.Repeat("x", 100_000) + `"`, "\"\x7f\"", `"\u0000"`,
		"123456789012345678901234567890", `1e999`, `"accountId"`, `{"accountId":"other"}`,
	}
	bad := []string{
		``, `01`, `-`, `-01`, `+1`, `.5`, `1.`, `1e`, `1e+`, `0x1`, `NaN`, `Infinity`, `-Infinity`, `nul`, `True`, `truex`, `'a'`, `"a`, `"\x41"`, `"\u12"`, `"\u12g4"`,
		`"\`, "\"\x00\"", "\"\n\"", "\"\t\"", "\"\x1f\"", `[1,]`, `[,1]`, `[1 2]`, `[1`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{,}`, `{a:1}`, `{1:1}`, `{"a" 1}`, `{"a":1 "b":2}`,
		"\"\x80\"", "\"\xc0\xaf\"", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "\"\xe2\x82\"", `"\ud800"`, `"\udc00"`, `"\ud800\ud800"`, `"\udc00\ud800"`, `"\udc00\udc00"`, `"\ud83dx"`, `"\ud83d\n"`,
		`"\ud83d\u0041"`, `{"\ud800":1}`, "{\"\xff\":1}", strings.Repeat("[", 64) + strings.Repeat("]", 64), strings.Repeat(`{"a":`, 64) + "1" + strings.Repeat("}", 64),
		"1 /* c */", "\u00a01", "\f1",
	}
	for _, fragment := range good {
		if _, err := d.Decode([]byte(record(`"other":` + fragment + `,`))); err != nil {
			t.Errorf("%.40s: %v", fragment, err)
		}
	}
	for _, fragment := range bad {
		_, err := d.Decode([]byte(record(`"other":` + fragment + `,`)))
		if _, ok := errors.AsType[*event.MalformedError](err); !ok {
			t.Errorf("%.40q: %v, want malformed", fragment, err)
		}
	}
}

// A record that ends anywhere before its end is not a record, and nothing reads past it.
func TestEveryPrefixIsMalformed(t *testing.T) {
	d := compile(t, event.Mapping{})
	whole := []byte(record(`"a":[1.5e3,true,{"\u00e9":"\ud83d\ude00é"}],`))
	for n := range whole {
		if _, err := d.Decode(whole[:n:n]); err == nil {
			t.Errorf("%s: decoded", whole[:n])
		}
	}
}

func TestOptionalFields(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for extra, want := range map[string]event.Event{
		`"id":"e-1",`:                          {ID: "e-1"},
		`"id":"\u00e9\n\ud83d\ude00\"\/",`:     {ID: "é\n😀\"/"},
		`"id":42,`:                             {ID: "42"},
		`"id":-0,`:                             {ID: "-0"},
		`"id":123456789012345678901234567890,`: {ID: "123456789012345678901234567890"},
		`"id":1.0,`:                            {},
		`"id":1e3,`:                            {},
		`"id":"",`:                             {},
		`"id":null,`:                           {},
		`"id":true,`:                           {},
		`"id":{"a":1},`:                        {},
		`"\u0069d":"e-1",`:                     {ID: "e-1"},
		`"Id":"e-1",`:                          {},
		`"occurredAt":"2026-03-01T12:00:00Z",`: {OccurredAt: at},
		`"occurredAt":"2026-03-01t12:00:00z",`: {OccurredAt: at},
		`"occurredAt":"2026-03-01T14:00:00+02:00",`: {OccurredAt: at},
		`"occurredAt":"2026-03-01T12:00:00.5Z",`:    {OccurredAt: at.Add(time.Second / 2)},
		`"occurredAt":"2026-03-01",`:                {},
		`"occurredAt":"2026-02-30T12:00:00Z",`:      {},
		`"occurredAt":"2026-03-01T12:00:00,5Z",`:    {},
		`"occurredAt":"2026-03-01T12:00:00+24:00",`: {},
		`"occurredAt":"2026-03-01T12:00:00-10:60",`: {},
		`"occurredAt":"2026-03-01T12:00:00",`:       {},
		`"occurredAt":"Z",`:                         {},
		`"occurredAt":"2026-03-01T1:00:00Z",`:       {},
		`"occurredAt":"",`:                          {},
		`"occurredAt":1772366400,`:                  {},
	} {
		want.Account, want.Name, want.TrackingID, want.NotificationID, want.UserID = "acme", event.EmailOpen, "t", "n", "u"
		if got, err := compile(t, event.Mapping{}).Decode([]byte(record(extra))); err != nil || !same(got, want) {
			t.Errorf("%s Decode = %+v, %v, want %+v", extra, got, err, want)
		}
	}
}

func TestReadTwice(t *testing.T) {
	d := compile(t, event.Mapping{})
	for _, extra := range []string{`"accountId":"acme",`, `"type":null,`, `"id":1,"id":1,`, `"occurredAt":{},"occurredAt":"",`, `"user\u0049d":"u",`} {
		if _, err := d.Decode([]byte(record(extra))); err == nil || !strings.HasSuffix(err.Error(), "given twice") {
			t.Errorf("%s: %v", extra, err)
		}
	}
	if _, err := d.Decode([]byte(record(`"other":1,"other":2,`))); err != nil {
		t.Errorf("a field nobody reads: %v", err)
	}
}

func TestAccountBounds(t *testing.T) {
	d := compile(t, event.Mapping{})
	for account, ok := range map[string]bool{
		strings.Repeat("a", 256): true, strings.Repeat("a", 257): false, strings.Repeat("é", 128): true, strings.Repeat("é", 129): false,
		"a b/c:d": true, `a\u0000b`: false, `a\nb`: false, "a\x7fb": false, "a\u0085b": false, `\u0061cme`: true,
	} {
		value := strings.Replace(record(""), `"acme"`, `"`+account+`"`, 1)
		if _, err := d.Decode([]byte(value)); (err == nil) != ok {
			t.Errorf("%.20q (%d bytes): %v", account, len(account), err)
		}
	}
}

// Malformed wins over ignored, as Decode documents.
func TestMalformedBeforeIgnored(t *testing.T) {
	d := compile(t, event.Mapping{})
	_, err := d.Decode([]byte(`{"accountId":"acme","channel":"EMAIL","type":"DELIVERED","trackingId":"t","notificationId":"n"}`))
	if err == nil || err.Error() != "malformed event: userId: missing" {
		t.Errorf("%v", err)
	}
}

func TestErrorIsShort(t *testing.T) {
	d := compile(t, event.Mapping{})
	value := strings.Replace(record(""), `"EMAIL"`, `"`+strings.Repeat("é\\u0007", 10_000)+`"`, 1)
	_, err := d.Decode([]byte(value))
	if err == nil || len(err.Error()) > 256 {
		t.Errorf("%v", err)
	}
	long := (&event.MalformedError{Field: "x", Problem: strings.Repeat("é", 400)}).Error()
	if len(long) > 512 || len(long) < 500 || !utf8.ValidString(long) {
		t.Errorf("%d bytes, valid %v", len(long), utf8.ValidString(long))
	}
}

func TestPlainEventDoesNotAllocate(t *testing.T) {
	d := compile(t, event.Mapping{})
	for _, extra := range []string{"", `"id":"evt-1","occurredAt":"2026-03-01T12:00:00Z",`, `"id":7,"other":"\u00e9",`} {
		value := []byte(record(extra))
		if n := testing.AllocsPerRun(100, func() { _, _ = d.Decode(value) }); n != 0 {
			t.Errorf("%s: %v allocations", extra, n)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	for name, extra := range map[string]string{
		"plain":   `"id":"01JNQ7Y3M0W8","occurredAt":"2026-03-01T12:00:00Z",`,
		"escapes": `"id":"\u0030\u0031","occurredAt":"2026-03-01T12:00:00Z",`,
		"wide":    `"meta":{"subject":"Welcome to the product, we are glad to have you here","tags":["a","b","c"],"size":12345,"ok":true},`,
	} {
		b.Run(name, func(b *testing.B) {
			d, value := compile(b, event.Mapping{}), []byte(record(extra))
			b.SetBytes(int64(len(value)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.Decode(value); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func same(a, b event.Event) bool { return reflect.DeepEqual(a, b) }
