package admin_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A backfill sends what a webhook has missed, and a dead delivery is sent again; both by the API, each once.
func TestBackfillAndResend(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.put("acme", "early")
	for i := range 5 {
		w.open(fmt.Sprintf("missed-%d", i), "acme")
	}
	w.until("delivered", func() bool { return w.recv.count("missed-") == 5 })
	w.put("acme", "late")
	ask := fmt.Sprintf(`{"topic":"channel.email","account":"acme","subscription":"late","from":%q,"again":true`, time.Now().Add(-time.Hour).UTC().Format(time.RFC3339))
	if plan := w.want(200, "POST", "/api/v1/backfills", ask+`,"dryRun":true}`).json(t); plan["send"] != 5.0 || plan["matched"] != 5.0 {
		t.Errorf("plan %v", plan)
	}
	if n := w.recv.count("missed-"); n != 5 {
		t.Errorf("a dry run sent %d", n-5)
	}
	a := w.want(202, "POST", "/api/v1/backfills", ask+`,"name":"b1","maxFailures":0}`)
	if at := a.header.Get("Location"); at != "/api/v1/backfills/b1" {
		t.Error(at)
	}
	w.until("the backfill's end", func() bool { return w.want(200, "GET", "/api/v1/backfills/b1", "").json(t)["state"] == "done" })
	w.until("backfilled", func() bool { return w.recv.count("missed-") == 10 })
	w.want(202, "POST", "/api/v1/backfills", ask+`,"name":"b1","maxFailures":0}`)
	w.until("the second one's end", func() bool { return w.want(200, "GET", "/api/v1/backfills/b1", "").json(t)["state"] == "done" })
	if one := w.want(200, "GET", "/api/v1/backfills/b1", "").json(t); one["sent"] != 0.0 {
		t.Errorf("the same name sent again: %v", one)
	}
	w.want(204, "DELETE", "/api/v1/backfills/b1", "")
	w.want(404, "GET", "/api/v1/backfills/none", "")
	w.want(404, "DELETE", "/api/v1/backfills/none", "")
	w.want(422, "POST", "/api/v1/backfills", `{"topic":"channel.fax","account":"acme","subscription":"nobody","from":"2026-01-01T00:00:00Z","rate":-1,"name":"a b"}`)
	w.want(422, "POST", "/api/v1/backfills", `{}`)

	w.want(404, "POST", "/api/v1/deliveries/msg_x/resend", "")
	w.want(404, "POST", "/api/v1/deliveries/msg_2mbk7qbnrzvv2pfh3esgfzy4ea/resend", "")
}

// Whoever plans a replay, a resend or a backfill reads that the receiver does not get it at once; a customer is not told why.
func TestPlansSayWhoDoesNotGetIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	w.put("acme", "a")
	w.recv.answers(503, "down")
	w.open("dies", "acme")
	w.until("a dead letter", func() bool { return w.want(200, "GET", "/api/v1/dead-letters", "").json(t)["matched"] == 1.0 })
	for i := range 250 { // and then it is parked
		w.open(fmt.Sprintf("t-%d", i), "acme")
	}
	receivers := func() []any {
		list, _ := w.want(200, "POST", "/api/v1/replays", `{"account":"acme","dryRun":true}`).json(t)["receivers"].([]any)
		return list
	}
	w.until("a plan that says parked", func() bool {
		list := receivers()
		return len(list) == 1 && strings.Contains(fmt.Sprint(list), "state:parked") && strings.Contains(fmt.Sprint(list), "503")
	})
	base := w.link("acme")
	if page := w.page(200, "/dead-letters/replay?which=all&account=acme"); !strings.Contains(page, "which is parked") || !strings.Contains(page, "last: status 503") {
		t.Errorf("the page:\n%s", page)
	}
	if page := w.page(200, base+"/dead-letters/replay?which=all", anonymous); !strings.Contains(page, "which is parked") || strings.Contains(page, "in a row") {
		t.Errorf("the customer's page:\n%s", page)
	}
	w.recv.answers(204, "")
	w.want(200, "PUT", "/api/v1/accounts/acme/subscriptions/a", fmt.Sprintf(`{"url":"%s/a","events":["*"],"paused":true}`, w.recv.URL))
	if list := receivers(); len(list) != 1 || !strings.Contains(fmt.Sprint(list), "state:paused") {
		t.Errorf("paused: %v", list)
	}
	letters, _ := w.want(200, "GET", "/api/v1/dead-letters?account=acme&limit=1", "").json(t)["deadLetters"].([]any)
	first, _ := letters[0].(map[string]any)
	id, _ := first["id"].(string)
	w.until("a resend that says paused", func() bool {
		a := w.do("POST", "/api/v1/deliveries/"+id+"/resend", `{"dryRun":true}`)
		return a.status == 200 && strings.Contains(string(a.body), `"state":"paused"`)
	})
	if page := w.page(200, "/deliveries/resend?id="+id); !strings.Contains(page, "The webhook is paused") {
		t.Errorf("the page:\n%s", page)
	}
	ask := fmt.Sprintf(`{"topic":"channel.email","account":"acme","subscription":"a","from":%q,"again":true,"dryRun":true}`, time.Now().Add(-time.Hour).UTC().Format(time.RFC3339))
	if plan := w.want(200, "POST", "/api/v1/backfills", ask).json(t); !strings.Contains(fmt.Sprint(plan["receiver"]), "state:paused") {
		t.Errorf("a backfill: %v", plan)
	}
}
