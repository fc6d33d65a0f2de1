package admin_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"fanout/admin"
	"fanout/event"
)

const acme = "/api/v1/accounts/acme/subscriptions"

func TestDocumentAndHandlersListTheSame(t *testing.T) {
	t.Parallel()
	var documented []string
	paths, _ := document()["paths"].(map[string]any)
	for path, item := range paths {
		for method := range item.(map[string]any) {
			documented = append(documented, strings.ToUpper(method)+" "+path)
		}
	}
	routes := admin.Routes()
	slices.Sort(documented)
	slices.Sort(routes)
	if !slices.Equal(documented, routes) {
		t.Fatalf("the document has %q, the handlers %q", documented, routes)
	}
}

func TestSubscriptionsOverTheAPI(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	const secret = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"
	sent := fmt.Sprintf(`{"url":"%s/a","events":["EMAIL_OPEN"],"secrets":[%q],"headers":{"x-tenant":"hush"},"own":1}`, w.recv.URL, secret)

	a := w.want(201, "PUT", acme+"/a", sent)
	if a.header.Get("Location") != acme+"/a" {
		t.Errorf("Location = %q", a.header.Get("Location"))
	}
	if got := w.redis.HGet("fanout:account:acme", "a"); !strings.Contains(got, secret) || !strings.Contains(got, "hush") {
		t.Errorf("Redis holds %s, want what was sent", got)
	}
	if list, err := w.redis.Stream("fanout:changes"); err != nil || len(list) != 1 {
		t.Errorf("the stream of changes has %v, %v, want one entry", list, err)
	}
	// It is in force when the PUT is answered.
	w.open("t-1", "acme")
	w.until("the delivery", func() bool { return w.recv.count("t-1") == 1 })

	for _, a := range []answer{a, w.want(200, "GET", acme+"/a", ""), w.want(200, "GET", acme, ""), w.want(200, "PUT", acme+"/a", sent)} {
		if strings.Contains(string(a.body), secret[7:]) || strings.Contains(string(a.body), "hush") {
			t.Errorf("an answer shows a secret: %s", a.body)
		}
	}
	// What comes masked, or not at all, is kept; [] and {} remove.
	masked := w.want(200, "GET", acme+"/a", "").body
	w.want(200, "PUT", acme+"/a", string(masked))
	w.want(200, "PUT", acme+"/a", fmt.Sprintf(`{"url":"%s/a","events":["*"]}`, w.recv.URL))
	if got := w.redis.HGet("fanout:account:acme", "a"); !strings.Contains(got, secret) || !strings.Contains(got, "hush") {
		t.Errorf("Redis holds %s after masked PUTs, want the secret and the header kept", got)
	}
	w.want(200, "PUT", acme+"/a", fmt.Sprintf(`{"url":"%s/a","events":["*"],"secrets":[],"headers":{}}`, w.recv.URL))
	if got := w.redis.HGet("fanout:account:acme", "a"); strings.Contains(got, secret) || strings.Contains(got, "hush") {
		t.Errorf("Redis holds %s, want no secret and no header", got)
	}
	// Idempotent.
	w.want(204, "DELETE", acme+"/a", "")
	w.want(204, "DELETE", acme+"/a", "")
	w.want(404, "GET", acme+"/a", "")
	w.open("t-2", "acme")
	w.want(201, "PUT", acme+"/b", fmt.Sprintf(`{"url":"%s/b","events":["SMS_FAILED"]}`, w.recv.URL))
	w.send("channel.sms", "acme", "SMS", "FAILED", "t-3")
	w.until("the delivery to b", func() bool { return w.recv.count("t-3") == 1 })
	if w.recv.count("t-2") != 0 {
		t.Error("a deleted subscription got an event")
	}
}

func TestBadSubscriptionNamesEachField(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	for sent, fields := range map[string][]string{
		`{"url":"https://169.254.169.254/x","events":["NOPE"],"maxInFlight":0}`: {"url", "events", "maxInFlight"},
		`{"url":"https://u:p@example.com/","events":[],"secrets":["x"]}`:        {"url", "events", "secrets[0]"},
		`{"url":"https://example.com/","events":["*"],"headers":{"host":"x"}}`:  {"headers"},
		`{}`:       {"url", "events"},
		`[]`:       {""},
		`nonsense`: {""},
		``:         {""},
		`{"url":"https://example.com/","events":["*"],"secrets":["whsec_…"]}`: {"secrets"},
	} {
		a := w.want(422, "PUT", acme+"/a", sent)
		var got struct {
			Errors []struct {
				Field string `json:"field"`
			} `json:"errors"`
		}
		if err := json.Unmarshal(a.body, &got); err != nil {
			t.Fatal(err)
		}
		var named []string
		for _, e := range got.Errors {
			named = append(named, e.Field)
		}
		for _, field := range fields {
			if !slices.ContainsFunc(named, func(n string) bool {
				return n == field || strings.HasPrefix(n, field+".") || strings.HasPrefix(n, field+"[")
			}) {
				t.Errorf("PUT %s names %q, want %q among them", sent, named, field)
			}
		}
	}
	w.want(413, "PUT", acme+"/a", `{"url":"`+strings.Repeat("x", 70<<10)+`"}`)
	w.want(422, "PUT", acme+"/a%20b", `{"url":"https://example.com/","events":["*"]}`)
	w.want(404, "GET", "/api/v1/nothing", "")
	if a := w.want(405, "POST", acme, ""); a.header.Get("Allow") != "GET" || a.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("405 has Allow %q and %q", a.header.Get("Allow"), a.header.Get("Content-Type"))
	}
	w.want(400, "GET", acme+"?limit=0", "")
	w.want(400, "GET", acme+"?nonsense=1", "")
	w.want(400, "GET", "/api/v1/dead-letters?from=yesterday&reason=x", "")
	w.want(422, "POST", "/api/v1/replays", `{"rate":-1,"reasons":["x"],"name":"a b"}`)
	w.want(422, "POST", "/api/v1/replays", `{"nope":1}`)
	w.want(422, "POST", "/api/v1/replays", `[]`)
}

func TestSecretsAreShownOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	a := w.put("acme", "a")
	secrets := func(a answer) []any { list, _ := a.json(t)["secrets"].([]any); return list }
	first := fmt.Sprint(secrets(a)[0])
	if a.status != 201 || len(first) < 40 {
		t.Fatalf("PUT = %d %s, want the new secret", a.status, a.body)
	}
	if got := fmt.Sprint(secrets(w.want(200, "GET", acme+"/a", ""))); strings.Contains(got, first) || got != "[whsec_…]" {
		t.Errorf("GET shows %s", got)
	}
	second, _ := w.want(200, "POST", acme+"/a/rotate-secret", "").json(t)["secret"].(string)
	if got := w.redis.HGet("fanout:account:acme", "a"); !strings.Contains(got, fmt.Sprintf(`["%s","%s"]`, second, first)) {
		t.Errorf("Redis holds %s, want the new secret first and the old one kept", got)
	}
	w.want(200, "POST", acme+"/a/test", "")
	if got := w.recv.got[0].header.Get("webhook-signature"); len(strings.Fields(got)) != 2 {
		t.Errorf("webhook-signature = %q, want two while secrets rotate", got)
	}
	w.want(200, "POST", acme+"/a/rotate-secret", `{"keep":0}`)
	if got := w.redis.HGet("fanout:account:acme", "a"); strings.Contains(got, first) || strings.Contains(got, second) {
		t.Errorf("Redis holds %s, want no old secret", got)
	}
	w.want(422, "POST", acme+"/a/rotate-secret", `{"keep":9}`)
	w.want(404, "POST", acme+"/none/rotate-secret", "")
}

func TestTestEventShowsWhatCameBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.put("acme", "a", event.SMSFailed)
	w.recv.answers(503, "come again")
	got := w.want(200, "POST", acme+"/a/test", "").json(t)
	if got["outcome"] != "retry" || got["status"] != 503.0 || got["response"] != "come again" || got["event"] != "SMS_FAILED" || got["sent"] != true {
		t.Errorf("test = %v", got)
	}
	if got := w.want(200, "POST", acme+"/a/test", `{"event":"EMAIL_OPEN"}`).json(t); got["event"] != "EMAIL_OPEN" {
		t.Errorf("test = %v", got)
	}
	w.want(422, "POST", acme+"/a/test", `{"event":"NOPE"}`)
	w.want(404, "POST", acme+"/none/test", "")
}

func TestListIsPaged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	for i := range 5 {
		w.put("acme", fmt.Sprintf("w%d", i))
	}
	w.redis.HSet("fanout:account:acme", "zz", "broken")
	var ids []string
	for next := ""; ; {
		page := w.want(200, "GET", acme+"?limit=2&after="+next, "").json(t)
		for _, item := range page["subscriptions"].([]any) {
			one := item.(map[string]any)
			ids = append(ids, one["id"].(string))
			if _, bad := one["problems"]; bad != (one["id"] == "zz") {
				t.Errorf("%v", one)
			}
		}
		var more bool
		if next, more = page["next"].(string); !more {
			break
		}
	}
	if got := strings.Join(ids, " "); got != "w0 w1 w2 w3 w4 zz" {
		t.Errorf("ids = %s", got)
	}
}

func TestDeadLettersAreReplayed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.put("acme", "a")
	w.put("globex", "a")
	w.recv.answers(500, "broken <b>")
	w.open("t-1", "acme")
	w.open("t-2", "globex")
	list := func(query string) []any {
		letters, _ := w.want(200, "GET", "/api/v1/dead-letters?"+query, "").json(t)["deadLetters"].([]any)
		return letters
	}
	w.until("two dead letters", func() bool { return len(list("")) == 2 })
	if got := list("account=acme&subscription=a&reason=attempts_exhausted&from=2020-01-01T00:00:00Z&limit=1"); len(got) != 1 || !strings.Contains(fmt.Sprint(got), "t-1") {
		t.Errorf("filtered: %v", got)
	}
	if got := list("to=2020-01-01T00:00:00Z"); len(got) != 0 {
		t.Errorf("dead before 2020: %v", got)
	}
	attempts := w.want(200, "GET", acme+"/a/attempts", "").json(t)["attempts"].([]any)
	if len(attempts) == 0 || !strings.Contains(fmt.Sprint(attempts), "broken <b>") {
		t.Errorf("attempts = %v", attempts)
	}

	if plan := w.want(200, "POST", "/api/v1/replays", `{"account":"acme","dryRun":true}`).json(t); plan["send"] != 1.0 {
		t.Errorf("plan = %v", plan)
	}
	w.recv.answers(204, "")
	before := w.recv.count("t-1")
	a := w.want(202, "POST", "/api/v1/replays", `{"account":"acme","name":"r1","maxFailures":0}`)
	if a.header.Get("Location") != "/api/v1/replays/r1" {
		t.Errorf("Location = %q", a.header.Get("Location"))
	}
	w.until("the replay's end", func() bool { return w.want(200, "GET", "/api/v1/replays/r1", "").json(t)["state"] == "done" })
	w.until("the delivery", func() bool { return w.recv.count("t-1") == before+1 })
	if w.recv.count("t-2") != 3 {
		t.Errorf("globex got %d requests, want its 3 attempts", w.recv.count("t-2"))
	}
	w.want(204, "DELETE", "/api/v1/replays/r1", "")
	w.want(404, "GET", "/api/v1/replays/none", "")
	w.want(404, "DELETE", "/api/v1/replays/none", "")
}

func TestSlowReplayIsCanceled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.put("acme", "a")
	w.recv.answers(410, "")
	for i := range 30 {
		w.open(fmt.Sprintf("t-%d", i), "acme")
	}
	w.until("thirty dead letters", func() bool {
		return w.want(200, "GET", "/api/v1/dead-letters", "").json(t)["matched"] == 30.0
	})
	w.want(202, "POST", "/api/v1/replays", `{"name":"slow","rate":1}`)
	w.want(409, "POST", "/api/v1/replays", `{"name":"slow","rate":1}`)
	w.want(204, "DELETE", "/api/v1/replays/slow", "")
	w.until("its end", func() bool { return w.want(200, "GET", "/api/v1/replays/slow", "").json(t)["state"] == "canceled" })
}

func TestStatusLanesAndTail(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.put("acme", "a")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.base+"/api/v1/tail?account=acme&limit=2", http.NoBody)
	must(t, err)
	res, err := http.DefaultTransport.RoundTrip(r)
	must(t, err)
	defer res.Body.Close()
	w.open("t-0", "globex")
	w.open("t-1", "acme")
	w.open("t-2", "acme")
	lines := bufio.NewScanner(res.Body)
	n := 0
	for lines.Scan() {
		var one map[string]any
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil || one["account"] != "acme" || one["outcome"] != "delivered" || one["status"] != 204.0 {
			t.Errorf("line %s: %v", lines.Bytes(), err)
		}
		n++
	}
	if n != 2 {
		t.Errorf("tail ended after %d lines, want 2", n)
	}
	w.want(200, "GET", "/api/v1/lanes?account=acme", "")
	w.want(400, "GET", "/api/v1/lanes?state=x", "")
	w.until("a reading with the events", func() bool {
		now, _ := w.want(200, "GET", "/api/v1/status", "").json(t)["now"].(map[string]any)
		return now["eventsPerSecond"].(float64) > 0
	})
	w.want(204, "POST", "/api/v1/subscriptions/accept", "")
	w.want(200, "GET", "/api/v1/openapi.json", "")
}

func TestRedisAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.put("acme", "a")
	w.redis.SetError("LOADING")
	for _, one := range [][3]string{{"GET", acme, ""}, {"PUT", acme + "/a", `{"url":"https://example.com/","events":["*"]}`}, {"DELETE", acme + "/a", ""}} {
		a := w.want(503, one[0], one[1], one[2])
		if strings.Contains(string(a.body), w.redis.Addr()) {
			t.Errorf("the answer names an address: %s", a.body)
		}
	}
}
