package dispatcher_test

import (
	"testing"
	"time"

	"fanout/dispatcher"
	"fanout/event"
	"fanout/subscriptions"
)

// A Planner needs a Directory and nothing else.
func TestPlan(t *testing.T) {
	dir := &directory{subs: make(map[[2]string]*subscriptions.Subscription)}
	for id, events := range map[string]string{"opens": `["EMAIL_OPEN"]`, "all": `["*"]`, "sms": `["SMS_FAILED"]`} {
		sub, err := subscriptions.Parse("a", id, []byte(`{"url":"https://x.example.com/","events":`+events+`}`))
		if err != nil {
			t.Fatal(err)
		}
		dir.subs[[2]string{"a", id}] = sub
	}
	now := time.Unix(1_800_000_000, 0)
	rec := &dispatcher.RecordMetadata{
		Origin: dispatcher.Origin{Topic: "channel.email", Partition: 3, Offset: 42}, AppendedAt: now.Add(-time.Second), TraceParent: "00-1", TraceState: "x=y",
	}
	ev := &event.Event{Account: "a", Name: event.EmailOpen, TrackingID: "t", NotificationID: "n", UserID: "u"}
	planned := dispatcher.NewPlanner(dir).Plan(nil, ev, rec, now)
	if len(planned) != 2 {
		t.Fatalf("%d deliveries, want 2", len(planned))
	}
	for _, d := range planned {
		if d.Subscription == "sms" || d.Account != "a" || d.Event != event.EmailOpen || d.Stage != dispatcher.StageFirst || d.FirstSeen != now ||
			d.Origin != rec.Origin || d.AppendedAt != rec.AppendedAt || d.TraceParent != rec.TraceParent || d.TraceState != rec.TraceState {
			t.Errorf("delivery %+v", d)
		}
		if want := dispatcher.WebhookID(ev, rec.Origin, d.Subscription); d.ID != want {
			t.Errorf("webhook-id %s, want %s", d.ID, want)
		}
		if want := `{"eventType":"OPEN","trackingId":"t","notificationId":"n","channel":"EMAIL","userId":"u"}`; string(d.Body) != want {
			t.Errorf("body %s, want %s", d.Body, want)
		}
	}
	ev.Account = "nobody"
	if planned = dispatcher.NewPlanner(dir).Plan(nil, ev, rec, now); len(planned) != 0 {
		t.Errorf("%d deliveries of an account without subscriptions", len(planned))
	}
}
