package subscriptions_test

import (
	"testing"

	"fanout/subscriptions"
)

func TestMasked(t *testing.T) {
	for in, want := range map[string]string{
		`{"url":"u","secrets":["whsec_abc","whsk_d","odd"],"headers":{"a":"b"},"x":{"y": 1}}`: `{"url":"u","secrets":["whsec_…","whsk_…","…"],"headers":{"a":"…"},"x":{"y": 1}}`,
		`{"secrets":"whsec_abc","headers":7}`:                                                 `{"secrets":"…","headers":"…"}`,
		`{"secrets":[["whsec_abc"]]}`:                                                         `{"secrets":["…"]}`,
		`whsec_abc`:                                                                           `null`,
	} {
		if got := string(subscriptions.Masked([]byte(in))); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestMerge(t *testing.T) {
	const stored = `{"url":"u","secrets":["whsec_1","whsk_2"],"headers":{"A":"1","b":"2"},"description":"d","owner":{"t": 1}}`
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
	} {
		got, err := subscriptions.Merge([]byte(c.stored), []byte(c.sent))
		if (err != nil) != (c.want == "") || string(got) != c.want {
			t.Errorf("%s: %s %v, want %s", c.name, got, err, c.want)
		}
	}
}
