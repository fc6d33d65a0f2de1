package admin_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// Deliveries are found by what a customer knows of them, page by page, and one by its webhook-id.
func TestDeliveriesAreFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.put("acme", "a")
	w.put("globex", "a")
	for i := range 3 {
		w.open(fmt.Sprintf("t-%d", i), "acme")
	}
	w.open("t-0", "globex")
	find := func(query string) (list []map[string]any, cursor string) {
		t.Helper()
		answer := w.want(200, "GET", "/api/v1/deliveries?"+query, "").json(t)
		all, _ := answer["deliveries"].([]any)
		for _, one := range all {
			list = append(list, one.(map[string]any))
		}
		cursor, _ = answer["cursor"].(string)
		return list, cursor
	}
	w.until("the attempts", func() bool { list, _ := find(""); return len(list) == 4 })
	for query, want := range map[string]int{
		"account=acme": 3, "account=acme&trackingId=t-0": 1, "trackingId=t-0": 2, "account=acme&outcome=delivered&status=204": 3,
		"account=acme&outcome=dead": 0, "to=2020-01-01T00:00:00Z": 0, "event=EMAIL_CLICK": 0, "account=globex&subscription=a&userId=u-1": 0,
	} {
		if list, cursor := find(query); len(list) != want || cursor != "" {
			t.Errorf("%s: %d deliveries, want %d; cursor %q", query, len(list), want, cursor)
		}
	}
	seen := map[any]bool{}
	for query := "account=acme&limit=2"; query != ""; {
		list, cursor := find(query)
		for _, one := range list {
			seen[one["id"]] = true
		}
		if query = ""; cursor != "" {
			query = "account=acme&limit=2&cursor=" + cursor
		}
	}
	if len(seen) != 3 {
		t.Errorf("%d deliveries page by page", len(seen))
	}
	list, _ := find("account=globex")
	one := w.want(200, "GET", "/api/v1/deliveries/"+list[0]["id"].(string), "").json(t)
	if attempts, _ := one["attempts"].([]any); len(attempts) != 1 || one["outcome"] != "delivered" || one["trackingId"] != "t-0" {
		t.Errorf("one: %v", one)
	}
	w.want(404, "GET", "/api/v1/deliveries/msg_aaaaaaaaaaaaaaaaaaaaaaaaaa", "")
	w.want(404, "GET", "/api/v1/deliveries/x", "")
	for _, bad := range []string{"cursor=x", "outcome=lost", "event=EMAIL_OPENED", "status=0", "limit=201", "from=yesterday", "colour=red", "from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z"} {
		w.want(400, "GET", "/api/v1/deliveries?"+bad, "")
	}
}

// Through a portal link a customer finds the deliveries of their own account, by cookie or with the link's token, and reads nothing of ours.
func TestPortalDeliveries(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	w.put("acme", "a")
	w.put("globex", "a")
	w.recv.answers(500, "broken")
	w.open("t-1", "acme")
	w.open("t-2", "globex")
	w.until("the attempts", func() bool {
		all, _ := w.want(200, "GET", "/api/v1/deliveries", "").json(t)["deliveries"].([]any)
		return len(all) == 2
	})
	made := w.makeLink("acme", "")
	bearer, _, _ := strings.Cut(strings.TrimPrefix(made["url"].(string), w.portalBase+"/portal/"), "/")
	at := "/portal/" + made["id"].(string) + "/api/v1/deliveries"
	holding := func(r *http.Request) {
		carryingOnly()(r)
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	a := w.portal("GET", at, holding)
	body := string(a.body)
	if a.status != 200 || !strings.Contains(body, "t-1") || strings.Contains(body, "t-2") || strings.Contains(body, "channel.email/") || !strings.Contains(body, "500") {
		t.Errorf("%d %s", a.status, body)
	}
	for path, status := range map[string]int{at + "?trackingId=t-1": 200, at + "?account=globex": 400, "/portal/other/api/v1/deliveries": 401} {
		if a := w.portal("GET", path, holding); a.status != status {
			t.Errorf("%s = %d %s", path, a.status, a.body)
		}
	}
	w.want(204, "DELETE", "/api/v1/accounts/acme/portal-links/"+made["id"].(string), "")
	if a := w.portal("GET", at, holding); a.status != 401 {
		t.Errorf("revoked: %d", a.status)
	}
}
