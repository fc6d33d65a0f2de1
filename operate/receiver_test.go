package operate_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fanout/operate"
)

// A plan names the receivers that do not get at once what is sent to them, whichever instance knows it.
func TestPlanNamesItsReceivers(t *testing.T) {
	t.Parallel()
	now := time.Now()
	later, past := now.Add(time.Minute), now.Add(-time.Minute)
	lane := func(id, state string, until *time.Time) operate.Lane {
		return operate.Lane{Account: "acme", Subscription: id, State: state, Until: until, Why: state + ": 503"}
	}
	p := &operate.ReplayPlan{}
	for _, id := range []string{"well", "gone", "off", "paused", "parked", "held", "was-held", "both", "parked"} {
		p.Groups = append(p.Groups, operate.DeadLetterCount{Account: "acme", Subscription: id, Count: len(p.Groups) + 1})
	}
	configured := func(_, id string) string {
		return map[string]string{"gone": operate.ReceiverGone, "off": operate.ReceiverOff, "paused": operate.ReceiverPaused}[id]
	}
	p.Look(configured, []operate.Lane{
		lane("well", "open", nil), lane("paused", "parked", &later), lane("parked", "parked", &later), lane("held", "limited", &later),
		lane("was-held", "limited", &past), lane("both", "parked", &later), lane("both", "limited", &later), lane("elsewhere", "parked", &later),
	}, []string{"http://away:8080"}, now)
	want := []operate.Receiver{
		{Account: "acme", Subscription: "parked", Send: 14, State: operate.ReceiverParked, Why: "503", Until: &later},
		{Account: "acme", Subscription: "both", Send: 8, State: operate.ReceiverParked, Why: "503", Until: &later},
		{Account: "acme", Subscription: "held", Send: 6, State: operate.ReceiverHeld, Why: "limited: 503", Until: &later},
		{Account: "acme", Subscription: "paused", Send: 4, State: operate.ReceiverPaused},
		{Account: "acme", Subscription: "off", Send: 3, State: operate.ReceiverOff},
		{Account: "acme", Subscription: "gone", Send: 2, State: operate.ReceiverGone},
	}
	if diff := cmp.Diff(want, p.Receivers); diff != "" || len(p.Silent) != 1 {
		t.Errorf("%s; silent %v", diff, p.Silent)
	}
}
