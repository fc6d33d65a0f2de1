package webhook_test

import (
	"testing"

	"fanout/webhook"
)

func TestAppendElement(t *testing.T) {
	const id = "msg_gelqjjl52b4qjyvnvyzywnhuye"
	for payload, want := range map[string]string{
		`{"eventType":"OPEN","userId":"é"}`: `{"id":"` + id + `","eventType":"OPEN","userId":"é"}`,
		`{}`:                                `{"id":"` + id + `"}`,
		" {\n \"a\":1 }\n":                  `{"id":"` + id + `","a":1 }`,
		`[1]`:                               `[1]`, // a stranger wrote it into a retry topic
	} {
		got := string(webhook.AppendElement(nil, id, []byte(payload)))
		if got != want {
			t.Errorf("%s: %s, want %s", payload, got, want)
		}
		if len(got)+1 > len(payload)+webhook.ElementOverhead {
			t.Errorf("%s: %d bytes more than the payload has", payload, len(got)-len(payload))
		}
	}
}
