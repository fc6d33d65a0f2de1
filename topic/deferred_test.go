package topic_test

import (
	"strconv"
	"testing"
	"time"

	"fanout/dispatcher"
	"fanout/topic"
)

// Every reason, and what a 429 or 503 asked for beyond the schedule's step: an opened lane ends the waits that it caused, and no others.
func TestWhatARecordWaitsFor(t *testing.T) {
	cfg := topic.Config{Schedule: []time.Duration{5 * time.Second, 5 * time.Minute}}
	appended := time.Now()
	waits := func(reason, status, attempts string, wait time.Duration) topic.Waits {
		at := strconv.FormatInt(appended.Add(wait).UnixMilli(), 10)
		return cfg.WaitsFor(&topic.Record{Time: appended, Headers: []topic.Header{
			{Key: topic.HeaderReason, Value: []byte(reason)},
			{Key: topic.HeaderStatus, Value: []byte(status)},
			{Key: topic.HeaderAttempts, Value: []byte(attempts)},
			{Key: topic.HeaderNotBefore, Value: []byte(at)},
		}})
	}
	for _, name := range dispatcher.ReasonNames() {
		want := topic.WaitsItself
		switch name {
		case "queue", "parked", "paused", "rate", "retry_after":
			want = topic.WaitsForLane
		}
		if got := waits(name, "500", "1", time.Hour); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	for _, test := range []struct {
		status, attempts string
		wait             time.Duration
		want             topic.Waits
	}{
		{"503", "1", time.Hour, topic.WaitsAsAsked},
		{"429", "2", time.Hour, topic.WaitsAsAsked},
		{"500", "1", time.Hour, topic.WaitsItself},
		{"", "1", time.Hour, topic.WaitsItself},
		{"503", "1", 5 * time.Second, topic.WaitsItself}, // the schedule's step
		{"503", "2", 5*time.Minute + 500*time.Millisecond, topic.WaitsItself},
		{"503", "0", time.Hour, topic.WaitsItself},
		{"503", "3", time.Hour, topic.WaitsItself}, // of another schedule
		{"503", "x", time.Hour, topic.WaitsItself},
	} {
		if got := waits("status", test.status, test.attempts, test.wait); got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
	}
	if got := cfg.WaitsFor(&topic.Record{}); got != topic.WaitsItself {
		t.Errorf("a record without headers: %v", got)
	}
}
