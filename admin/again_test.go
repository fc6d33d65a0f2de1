package admin_test

import (
	"fmt"
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
