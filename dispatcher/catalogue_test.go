package dispatcher_test

import (
	"testing"
	"time"

	"fanout/dispatcher"
	"fanout/event"
)

// The further keys follow the five; without them the body is the five, byte for byte.
func TestBodyWithExtra(t *testing.T) {
	ev := event.Event{Name: event.EmailClick, TrackingID: "t", NotificationID: "n", UserID: "u"}
	const five = `{"eventType":"CLICK","trackingId":"t","notificationId":"n","channel":"EMAIL","userId":"u"`
	if got := string(dispatcher.Body(&ev)); got != five+"}" {
		t.Errorf("%s", got)
	}
	ev.Extra = []event.Extra{{Key: "clickedLink", Value: "https://x/?a=\"b\"\n", Text: true}, {Key: "code", Value: "-1.50e3"}, {Key: "empty", Text: true}}
	if got := string(dispatcher.Body(&ev)); got != five+`,"clickedLink":"https://x/?a=\"b\"\n","code":-1.50e3,"empty":""}` {
		t.Errorf("%s", got)
	}
}

// What a retry record asks for of an event that this instance does not know waits for one that does, and dies of age only.
func TestUnknownEventIsDeferred(t *testing.T) {
	unknown, _ := event.BuiltIn().ParseAny("EMAIL_DELIVERED")
	in(t, config(), func(w *world) {
		w.set("s", "")
		for age, want := range map[time.Duration]dispatcher.Outcome{
			time.Hour: {Result: dispatcher.Deferred, Reason: dispatcher.UnknownEvent}, 73 * time.Hour: {Result: dispatcher.Dead, Reason: dispatcher.Expired},
		} {
			del := w.delivery("s")
			del.Event, del.FirstSeen, del.Stage = unknown, time.Now().Add(-age), dispatcher.StageRetry
			w.d.Submit(del)
			if out := w.outcome(del); out.Result != want.Result || out.Reason != want.Reason {
				t.Errorf("after %s: %s %s", age, out.Result, out.Reason)
			}
		}
		if got := w.got("s"); len(got) != 0 {
			t.Errorf("sent: %+v", got)
		}
	})
}

// A retry follows what the subscription wants now, as the body says what it is about.
func TestNotificationNoLongerWanted(t *testing.T) {
	in(t, config(), func(w *world) {
		w.set("s", `,"notificationIds":["promo-*"]`)
		for id, want := range map[string]dispatcher.Result{"promo-7": dispatcher.Delivered, "welcome-email": dispatcher.Discarded} {
			del := w.delivery("s")
			ev := event.Event{Name: del.Event, TrackingID: "t", NotificationID: id, UserID: "u"}
			del.Body, del.Stage = dispatcher.Body(&ev), dispatcher.StageRetry
			w.d.Submit(del)
			time.Sleep(time.Second)
			if out := w.outcome(del); out.Result != want || want == dispatcher.Discarded && out.Reason != dispatcher.Deselected {
				t.Errorf("%s: %s %s", id, out.Result, out.Reason)
			}
		}
	})
}
