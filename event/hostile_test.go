package event_test

import (
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"fanout/event"
)

// many joins n pieces with commas.
func many(n int, piece string) string {
	return strings.TrimSuffix(strings.Repeat(piece+",", n), ",")
}

// What a producer that is broken, or hostile, may write. Whatever it is, the reason is said, and the cost is bounded: no
// memory but for the error and for a text with escapes that is read, and time by the length alone.
func TestHostileRecords(t *testing.T) {
	const mib = 1 << 20
	d := compile(t, event.Mapping{})
	mapped := compile(t, event.Mapping{Channel: "EMAIL", Fields: map[string]string{"userId": "a.b.c.d.e.f"}})
	for name, test := range map[string]struct {
		value string
		want  string // in the error; empty: it is an event
	}{
		"1 MiB in a field that is not read":    {record(`"x":"` + strings.Repeat("x", mib) + `",`), ""},
		"1 MiB in a field that is read":        {record(`"id":"` + strings.Repeat("x", mib) + `",`), ""},
		"1 MiB of escapes that are read":       {record(`"id":"` + strings.Repeat(`\u0041`, mib/6) + `",`), ""},
		"1 MiB of white space":                 {record("") + strings.Repeat(" ", mib), ""},
		"1 MiB of digits":                      {record(`"x":` + strings.Repeat("9", mib) + `,`), ""},
		"an id of 1 MiB of digits":             {record(`"id":` + strings.Repeat("9", mib) + `,`), ""},
		"1 MiB as the time":                    {record(`"occurredAt":"` + strings.Repeat("2", mib) + `",`), ""},
		"1 MiB as the account":                 {strings.Replace(record(""), `"acme"`, `"`+strings.Repeat("a", mib)+`"`, 1), "accountId: longer than 256 bytes"},
		"1 MiB as the channel":                 {strings.Replace(record(""), `"EMAIL"`, `"`+strings.Repeat("a", mib)+`"`, 1), "channel: unknown channel"},
		"a key of 1 MiB":                       {record(`"` + strings.Repeat("k", mib) + `":1,`), ""},
		"a key of 1 MiB of escapes":            {record(`"` + strings.Repeat(`\u0041`, mib/6) + `":1,`), ""},
		"a million keys":                       {record(many(1_000_000, `"k":1`) + ","), ""},
		"a million keys with escapes":          {record(many(1_000_000, `"\u006b":1`) + ","), ""},
		"a million elements":                   {record(`"x":[` + many(1_000_000, `{}`) + `],`), ""},
		"a million times a field that is read": {record(many(1_000_000, `"id":"x"`) + ","), "id: given twice"},
		"a field twice, once with escapes":     {record(`"id":1,"\u0069\u0064":2,`), "id: given twice"},
		"a million open arrays":                {strings.Repeat("[", 1_000_000), "nested deeper than 64"},
		"a million open objects":               {strings.Repeat(`{"a":`, 1_000_000), "nested deeper than 64"},
		"nested 65 deep":                       {record(`"x":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `,`), "nested deeper than 64"},
		"invalid UTF-8 after 1 MiB":            {record(`"x":"` + strings.Repeat("x", mib) + "\xff" + `",`), "invalid UTF-8 at byte"},
		"a surrogate alone after 1 MiB":        {record(`"x":"` + strings.Repeat("x", mib) + `\ud800` + `",`), "unpaired surrogate at byte"},
		"1 MiB of binary zeros":                {strings.Repeat("\x00", mib), "not JSON at byte 0"},
		"cut off after 1 MiB":                  {`{"x":"` + strings.Repeat("x", mib), "not JSON at byte"},
		"rubbish after 1 MiB":                  {record("") + strings.Repeat(" ", mib) + "x", "not JSON at byte"},
	} {
		t.Run(name, func(t *testing.T) {
			value := []byte(test.value)
			for _, d := range []*event.Decoder{d, mapped} {
				var err error
				var before, after runtime.MemStats
				began := time.Now()
				runtime.ReadMemStats(&before)
				_, err = d.Decode(value)
				runtime.ReadMemStats(&after)
				if took := time.Since(began); took > 5*time.Second { // it takes some milliseconds
					t.Errorf("it took %v", took)
				}
				if grew := after.TotalAlloc - before.TotalAlloc; grew > uint64(len(value))+16<<10 {
					t.Errorf("%d bytes allocated for a record of %d", grew, len(value))
				}
				if n := after.Mallocs - before.Mallocs; n > 60 {
					t.Errorf("%d allocations", n)
				}
				if d == mapped {
					continue // only its cost matters
				}
				bad, malformed := errors.AsType[*event.MalformedError](err)
				if malformed != (test.want != "") || malformed && !strings.Contains(bad.Error(), test.want) {
					t.Errorf("Decode = %.200v, want %q", err, test.want)
				}
				if malformed && len(bad.Error()) > 512 {
					t.Errorf("an error of %d bytes", len(bad.Error()))
				}
			}
		})
	}
}
