package topic_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/segmentio/kafka-go"
	"pgregory.net/rapid"

	"fanout/dispatcher"
	"fanout/event"
	"fanout/topic"
	"fanout/webhook"
)

// wantAttempt is the record of a delivery and its outcome, without the payload's keys.
func wantAttempt(d *dispatcher.Delivery, out *dispatcher.Outcome, at time.Time) topic.Attempt {
	a := topic.Attempt{
		Time: at.UnixMilli(), ID: d.ID, Account: d.Account, Subscription: d.Subscription, Event: d.Event.String(),
		Origin: d.Origin.String(), Stage: d.Stage.String(), Outcome: out.Result.String(), Reason: out.Reason.String(),
		Status: out.Status, TookMillis: out.Took.Milliseconds(), Batch: out.Batch, BatchSize: out.BatchSize, Detail: out.Detail, Response: string(out.Response),
		Replay: d.Replay, DeadLetter: d.DeadLetter, Instance: "here:1",
	}
	if out.Attempted {
		a.Attempt = d.Attempts + 1
	}
	return a
}

// What is written by hand reads as what is meant, whatever the texts are.
func TestAttemptRecord(t *testing.T) {
	t.Parallel()
	w := topic.AttemptWriter{Instance: "here:1", Response: true}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.StringMatching(`[a-z0-9 ./-]{0,12}`), rapid.String())
		tracking, notification, channel, user := text.Draw(t, "tracking"), text.Draw(t, "notification"), text.Draw(t, "channel"), text.Draw(t, "user")
		d := dispatcher.Delivery{
			ID: "msg_" + text.Draw(t, "id"), Account: text.Draw(t, "account"), Subscription: text.Draw(t, "subscription"), Event: event.SMSFailed,
			Body:   webhook.AppendPayload(nil, "SMS_FAILED", tracking, notification, channel, user),
			Origin: dispatcher.Origin{Topic: "t" + text.Draw(t, "topic"), Partition: rapid.IntRange(0, 99).Draw(t, "partition"), Offset: rapid.Int64Min(0).Draw(t, "offset")},
			Stage:  dispatcher.StageRetry, Attempts: rapid.IntRange(0, 7).Draw(t, "attempts"), Replay: text.Draw(t, "replay"), DeadLetter: text.Draw(t, "letter"),
		}
		out := dispatcher.Outcome{
			Result: dispatcher.Retry, Reason: dispatcher.StatusFailed, Status: rapid.IntRange(0, 999).Draw(t, "status"), Batch: text.Draw(t, "batch"), BatchSize: rapid.IntRange(0, 1000).Draw(t, "size"),
			Detail: text.Draw(t, "detail"), Response: []byte(text.Draw(t, "response")), Attempted: rapid.Bool().Draw(t, "attempted"),
			Took: time.Duration(rapid.IntRange(0, 20_000).Draw(t, "took")) * time.Millisecond,
		}
		at := time.UnixMilli(rapid.Int64Range(0, 1<<42).Draw(t, "at"))
		written := w.Append(nil, &d, &out, at)
		got, ok := topic.ParseAttempt(written)
		want := wantAttempt(&d, &out, at)
		want.TrackingID, want.NotificationID, want.Channel, want.UserID = tracking, notification, channel, user
		if !ok {
			t.Fatalf("not an attempt: %s", written)
		}
		// What passes over records by their bytes passes over none that is meant.
		if id, ok := topic.AttemptID(written); ok && string(id) != got.ID || !ok && !bytes.Contains(topic.AttemptText("id", got.ID), []byte{'\\'}) {
			t.Fatalf("%s has the id %q, %v", written, id, ok)
		}
		if !topic.OfDelivery(d.ID)(nil, written) || topic.OfDelivery(d.ID+"x")(nil, written) {
			t.Fatalf("%s is of %q", written, d.ID)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

// Anybody may write to a retry topic: whatever the body is, the attempt's record can be read.
func TestAttemptRecordOfForeignBodies(t *testing.T) {
	t.Parallel()
	good := `{"eventType":"OPEN","trackingId":"t","notificationId":"n","channel":"EMAIL","userId":"u"}`
	bodies := map[string]string{
		good:                               "t",
		strings.TrimSuffix(good, "}"):      "", // no JSON
		good[:len(good)-1] + `,"more":1}`:  "t",
		` ` + good:                         "t",
		`{"trackingId":"t"}`:               "t",
		`{"eventType":"O","trackingId":7}`: "",
		`{"eventType":"O","trackingId":"`:  "",
		`[]`:                               "",
		"no JSON":                          "",
		"":                                 "",
		strings.Replace(good, `"t"`, `"\u0074"`, 1):     "t",
		strings.Replace(good, `"t"`, "\"t\x01\"", 1):    "",
		strings.Replace(good, `"t"`, "\"\xff\xfe\"", 1): "\ufffd\ufffd",
	}
	w := topic.AttemptWriter{}
	for body, tracking := range bodies {
		d := dispatcher.Delivery{ID: "msg_x", Body: []byte(body), Event: event.SMSFailed, Origin: dispatcher.Origin{Topic: "t"}}
		written := w.Append(nil, &d, &dispatcher.Outcome{Response: []byte("not kept")}, time.UnixMilli(1))
		got, ok := topic.ParseAttempt(written)
		if !ok || !json.Valid(written) || body != strings.TrimSuffix(good, "}") && got.TrackingID != tracking || got.Response != "" {
			t.Errorf("%q: %s", body, written)
		}
	}
}

// A gap's mark is told from an attempt.
func TestAttemptsGap(t *testing.T) {
	t.Parallel()
	want := topic.AttemptsGap{Kind: topic.KindGap, Source: "a/b/3", From: 5, To: 9, Time: 1, Instance: "here:1"}
	value, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := topic.ParseAttemptsGap(value); !ok || got != want {
		t.Errorf("%s: %v, %v", value, got, ok)
	}
	if _, ok := topic.ParseAttempt(value); ok {
		t.Errorf("%s is read as an attempt", value)
	}
	for _, text := range []string{"", "{}", `{"kind":"gap"}`, `{"kind":"gap","source":"a/0","from":5,"to":4}`, `{"kind":"other","source":"a/0"}`, `{"time":1,"id":"msg_x","outcome":"dead"}`} {
		if got, ok := topic.ParseAttemptsGap([]byte(text)); ok {
			t.Errorf("%s is read as %v", text, got)
		}
	}
}

// An account's attempts lie where any client puts records of that key.
func TestAccountPartition(t *testing.T) {
	t.Parallel()
	ids := make([]int, 12)
	for i := range ids {
		ids[i] = i
	}
	rapid.Check(t, func(t *rapid.T) {
		account := rapid.String().Draw(t, "account")
		want := kafka.Murmur2Balancer{}.Balance(kafka.Message{Key: []byte(account)}, ids...)
		if got := topic.AccountPartition(account, len(ids)); got != want {
			t.Fatalf("%q: %d, want %d", account, got, want)
		}
	})
}
