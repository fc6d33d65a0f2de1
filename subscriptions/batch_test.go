package subscriptions_test

import (
	"strings"
	"testing"
	"time"

	"fanout/subscriptions"
)

func TestBatch(t *testing.T) {
	for text, want := range map[string]subscriptions.Batch{
		`{"max":100,"wait":"1s"}`:       {Max: 100, Wait: time.Second},
		`{"wait":"1500ms","max":2}`:     {Max: 2, Wait: 1500 * time.Millisecond},
		`{"max":1000,"wait":"5s"}`:      {Max: 1000, Wait: 5 * time.Second},
		`{"max":1000}`:                  {Max: 1000},
		`{"max":3,"wait":null}`:         {Max: 3},
		`{"max":3,"wait":"0s","x":"y"}`: {Max: 3},
		`{"max":3,"wait":"1us"}`:        {Max: 3, Wait: time.Millisecond},
		`null`:                          {},
	} {
		review := subscriptions.ReviewSent("acme", "a", []byte(`{"url":"https://x","events":["*"],"batch":`+text+`}`), noon)
		if review.Invalid != nil || review.Subscription.Batch() != want {
			t.Errorf("%s: %+v, %v, want %+v", text, review.Subscription.Batch(), review.Invalid, want)
		}
	}
}

// A bad batch is refused where it is written; one that is stored has no effect, and is named.
func TestBadBatch(t *testing.T) {
	for text, field := range map[string]string{
		`100`:                     "batch: want an object",
		`[]`:                      "batch: want an object",
		`{}`:                      "batch.max: want a whole number from 2 to 1000",
		`{"max":1}`:               "batch.max",
		`{"max":1001}`:            "batch.max",
		`{"max":"100"}`:           "batch.max",
		`{"max":2.5}`:             "batch.max",
		`{"max":5,"wait":"6s"}`:   `batch.wait: want a time from "0s" to "5s"`,
		`{"max":5,"wait":"-1s"}`:  "batch.wait",
		`{"max":5,"wait":1}`:      "batch.wait",
		`{"max":5,"wait":"1"}`:    "batch.wait",
		`{"max":5,"max":6}`:       "batch.max: given twice",
		`{"max":5,"wiat":"1sec"}`: "batch.wiat: unknown key: it is kept, and has no effect; did you mean wait?",
	} {
		data := []byte(`{"url":"https://x","events":["*"],"batch":` + text + `}`)
		sent, stored := subscriptions.ReviewSent("acme", "a", data, noon), subscriptions.ReviewStored("acme", "a", data, noon)
		if strings.Contains(field, "unknown") {
			if sent.Invalid != nil || !strings.Contains(says(sent.Warnings), field) {
				t.Errorf("%s: %v, %q", text, sent.Invalid, says(sent.Warnings))
			}
			continue
		}
		if sent.Invalid == nil || !strings.Contains(sent.Invalid.Error(), field) {
			t.Errorf("%s: %v, want %s", text, sent.Invalid, field)
		}
		if stored.Invalid != nil || stored.Subscription.Batch() != (subscriptions.Batch{}) || !strings.Contains(says(stored.Warnings), field) {
			t.Errorf("%s: stored %v, %+v, %q", text, stored.Invalid, stored.Subscription.Batch(), says(stored.Warnings))
		}
	}
}
