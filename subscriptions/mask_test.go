package subscriptions_test

import (
	"strings"
	"testing"
	"time"

	"fanout/subscriptions"
)

// token is long and random.
const token = "s3Jq8vKz1LmX4pRt7WbY2dNf"

func TestMasked(t *testing.T) {
	for in, want := range map[string]string{
		`{"url":"u","secrets":["whsec_abc","whsk_d","odd"],"headers":{"a":"b"},"x":{"y": 1}}`: `{"url":"u","secrets":["whsec_…","whsk_…","…"],"headers":{"a":"…"},"x":{"y": 1}}`,
		`{"secrets":"whsec_abc","headers":7}`:                                                 `{"secrets":"…","headers":"…"}`,
		`{"secrets":[["whsec_abc"]]}`:                                                         `{"secrets":["…"]}`,
		`whsec_abc`:                                                                           `null`,
		// By shape, wherever it stands.
		`{"secret":"` + secret + `","owner":{"team": "growth"}}`:                                     `{"secret":"whsec_…","owner":{"team": "growth"}}`,
		`{"x":{"y":[1, {"z":"Bearer hunter2"}, "fine"],"t": "` + token + `"}}`:                       `{"x":{"y":[1,{"z":"…"},"fine"],"t":"…"}}`,
		`{"description":"uses ` + secret + `","paused":false}`:                                       `{"description":"…","paused":false}`,
		`{"callback":"https://me:pw@example.com/","docs":"https://example.com/a?page=2"}`:            `{"callback":"…","docs":"https://example.com/a?page=2"}`,
		`{"next":"https://example.com/?access_token=x","id":"550e8400-e29b-41d4-a716-446655440000"}`: `{"next":"…","id":"550e8400-e29b-41d4-a716-446655440000"}`,
		// url and events never, since they come back.
		`{"url":"https://example.com/?token=` + token + `","events":["` + secret + `"]}`: `{"url":"https://example.com/?token=` + token + `","events":["` + secret + `"]}`,
	} {
		if got := string(subscriptions.Masked([]byte(in))); got != want {
			t.Errorf("%s:\n%s, want\n%s", in, got, want)
		}
	}
}

func TestMerge(t *testing.T) {
	const stored = `{"url":"u","secrets":["whsec_1","whsk_2"],"headers":{"A":"1","b":"2"},"description":"d","owner":{"t": 1}}`
	const odd = `{"url":"u","events":["*"],"secret":"whsec_3","a":{"b":["x","whsec_4",{"c":"Bearer 5"}]},"description":"Bearer 6","n":7}`
	for _, c := range []struct{ name, stored, sent, want string }{
		{"left out", stored, `{"url":"v"}`, `{"url":"v","secrets":["whsec_1","whsk_2"],"headers":{"A":"1","b":"2"},"owner":{"t": 1}}`},
		{"removed", stored, `{"secrets":[],"headers":{}}`, `{"secrets":[],"headers":{},"owner":{"t": 1}}`},
		{"null removes", stored, `{"secrets":null,"headers":null,"owner":2}`, `{"secrets":null,"headers":null,"owner":2}`},
		{"masked", stored, `{"secrets":["whsec_…","whsk_…"],"headers":{"a":"…","c":"3"}}`, `{"secrets":["whsec_1","whsk_2"],"headers":{"a":"1","c":"3"},"owner":{"t": 1}}`},
		{"added", stored, `{"secrets":["whsec_new","whsec_…","whsk_…"],"headers":{}}`, `{"secrets":["whsec_new","whsec_1","whsk_2"],"headers":{},"owner":{"t": 1}}`},
		{"ambiguous", stored, `{"secrets":["whsec_…"]}`, ""},
		{"nothing behind", stored, `{"headers":{"zzz":"…"}}`, ""},
		{"new", ``, `{"url":"v","secrets":["whsec_1"]}`, `{"url":"v","secrets":["whsec_1"]}`},
		{"new, masked", ``, `{"secrets":["whsec_…"]}`, ""},
		{"broken before", `{`, `{"url":"v"}`, `{"url":"v"}`},
		{"no object", stored, `[]`, ""},
		// Whatever its key, and however deep.
		{
			"masked anywhere", odd, `{"url":"v","events":["*"],"secret":"whsec_…","a":{"b":["y","whsec_…",{"c":"…"}]},"description":"…","n":8}`,
			`{"url":"v","events":["*"],"secret":"whsec_3","a":{"b":["y","whsec_4",{"c":"Bearer 5"}]},"description":"Bearer 6","n":8}`,
		},
		{"moved in its array", odd, `{"a":{"b":["whsec_…","z"]}}`, `{"a":{"b":["whsec_4","z"]},"secret":"whsec_3","n":7}`},
		{"a mask of no secret keeps it too", odd, `{"n":"…"}`, `{"n":7,"secret":"whsec_3","a":{"b":["x","whsec_4",{"c":"Bearer 5"}]}}`},
		{"no mask in url and events", odd, `{"url":"…","events":["…"],"a":1,"secret":2,"n":3}`, `{"url":"…","events":["…"],"a":1,"secret":2,"n":3}`},
		{"nothing behind it, deep down", odd, `{"a":{"d":"…"}}`, ""},
		{"nothing behind it, another key", odd, `{"secrets":["whsec_…"]}`, ""},
		{"one element is which", odd, `{"a":{"b":["whsec_…","whsec_…"]}}`, ""},
		{"in an array of another length", odd, `{"a":{"b":[{"c":"…"}]}}`, ""},
	} {
		got, err := subscriptions.Merge([]byte(c.stored), []byte(c.sent), time.Now())
		if (err != nil) != (c.want == "") || string(got) != c.want {
			t.Errorf("%s: %s %v, want %s", c.name, got, err, c.want)
		}
	}
}

// What is shown can be sent back, and changes nothing.
func TestMaskedComesBack(t *testing.T) {
	for _, stored := range []string{
		`{"url":"https://me:pw@example.com/?token=` + token + `","events":["*"],"secret":"` + secret + `","secrets":["` + secret + `"],"headers":{"authorization":"Bearer x"}}`,
		`{"a":[["` + token + `"],{"b":[{"c":"` + token + `"},"…"]}],"…":"…","secrets":[1,"…"],"headers":{"a":{"b":1}}}`,
		`{"secrets":7,"headers":[1]}`,
	} {
		shown := subscriptions.Masked([]byte(stored))
		got, err := subscriptions.Merge([]byte(stored), shown, time.Now())
		if err != nil || string(got) != stored {
			t.Errorf("%s\nis shown as %s\nand stored as %s %v", stored, shown, got, err)
		}
	}
}

// However deep a value nests, it costs little, and comes back.
func TestMaskedNestsDeep(t *testing.T) {
	deep := `{"url":"https://x","events":["*"],"a":` + strings.Repeat(`[{"x":"…","b":`, 4000) + `"` + secret + `"` + strings.Repeat(`}]`, 4000) + `}`
	began := time.Now()
	shown := subscriptions.Masked([]byte(deep))
	if strings.Contains(string(shown), secret[7:]) {
		t.Error("a secret that lies deep is shown")
	}
	got, err := subscriptions.Merge([]byte(deep), shown, time.Now())
	if err != nil || string(got) != deep {
		t.Errorf("%.200s is stored as %.200s, %v", shown, got, err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %s", took)
	}
}
