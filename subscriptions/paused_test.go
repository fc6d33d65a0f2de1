package subscriptions_test

import (
	"testing"

	"fanout/subscriptions"
)

func TestPauseChangesNothingElse(t *testing.T) {
	t.Parallel()
	for stored, want := range map[string][2]string{
		`{"url":"https://a.example/","mine":[1, 2],"secrets":["x"]}`: {`{"url":"https://a.example/","mine":[1, 2],"secrets":["x"],"paused":true}`, `{"url":"https://a.example/","mine":[1, 2],"secrets":["x"]}`},
		`{"paused":false,"url":1}`:                                   {`{"paused":true,"url":1}`, `{"url":1}`},
		`{"paused":true}`:                                            {`{"paused":true}`, `{}`},
	} {
		for i, paused := range []bool{true, false} {
			if got, err := subscriptions.WithPaused([]byte(stored), paused); err != nil || string(got) != want[i] {
				t.Errorf("%s, paused %t: %s, %v, want %s", stored, paused, got, err, want[i])
			}
		}
	}
	if _, err := subscriptions.WithPaused([]byte(`[1]`), true); err == nil {
		t.Error("what is no subscription is paused")
	}
}
