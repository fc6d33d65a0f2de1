package admin_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"fanout/admin"
	"fanout/event"
	"fanout/topic"
	"fanout/webhook"
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

// A value of the wrong kind is told by the key that the body has.
func TestWrongKindNamesItsField(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	for _, path := range []string{"/api/v1/replays", "/api/v1/backfills"} {
		for field, value := range map[string]string{"name": `5`, "rate": `"fast"`, "dryRun": `"yes"`, "again": `1`, "account": `5`} {
			a := w.want(422, "POST", path, fmt.Sprintf(`{%q:%s}`, field, value))
			if want := fmt.Sprintf(`"field":%q`, field); !strings.Contains(string(a.body), want) {
				t.Errorf("POST %s with %s of the wrong kind answers %s, want %s", path, field, a.body, want)
			}
		}
	}
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
	rotated := w.want(200, "POST", acme+"/a/rotate-secret", "").json(t)
	second, _ := rotated["secret"].(string)
	stored := w.stored("a")
	if got := stored.Secrets; !slices.Equal(got, []string{second, first}) {
		t.Errorf("Redis holds %q, want the new secret first and the old one kept", got)
	}
	if until := stored.Expiry[webhook.Fingerprint(first)]; len(stored.Expiry) != 1 || time.Until(until).Round(time.Minute) != 24*time.Hour {
		t.Errorf("the old secret expires %v, want in 24 hours", stored.Expiry)
	}
	if got := fmt.Sprint(rotated["signing"]); !strings.Contains(got, webhook.Fingerprint(second)) || !strings.Contains(got, webhook.Fingerprint(first)) {
		t.Errorf("signing: %s", got)
	}
	w.want(200, "POST", acme+"/a/test", "")
	if got := w.recv.got[0].header.Get("webhook-signature"); len(strings.Fields(got)) != 2 {
		t.Errorf("webhook-signature = %q, want two while secrets rotate", got)
	}
	w.want(200, "POST", acme+"/a/rotate-secret", `{"expiresInSeconds":0}`)
	if got := w.redis.HGet("fanout:account:acme", "a"); strings.Contains(got, second) || !strings.Contains(got, first) {
		t.Errorf("Redis holds %s, want no leaked secret, and the one that has been promised to sign", got)
	}
	w.want(422, "POST", acme+"/a/rotate-secret", `{"expiresInSeconds":2592001}`)
	w.want(422, "POST", acme+"/a/rotate-secret", `{"expiresInSeconds":-1}`)
	w.want(404, "POST", acme+"/none/rotate-secret", "")
}

// storedSecrets are what Redis holds of a subscription's secrets.
type storedSecrets struct {
	Secrets []string             `json:"secrets"`
	Expiry  map[string]time.Time `json:"secretExpiry"`
}

func (w *world) stored(id string) (s storedSecrets) {
	w.t.Helper()
	must(w.t, json.Unmarshal([]byte(w.redis.HGet("fanout:account:acme", id)), &s))
	return s
}

// A rotation that would make a secret fall out which receivers verify with is refused, in words.
func TestRotationNeverDropsASecretInUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.put("acme", "a")
	for range 9 {
		w.want(200, "POST", acme+"/a/rotate-secret", `{"expiresInSeconds":3600}`)
	}
	before := w.redis.HGet("fanout:account:acme", "a")
	a := w.want(409, "POST", acme+"/a/rotate-secret", "")
	if got := w.redis.HGet("fanout:account:acme", "a"); got != before || !strings.Contains(string(a.body), "10 secrets sign already") || !strings.Contains(string(a.body), "expires at ") {
		t.Errorf("%s\nand Redis holds %s", a.body, got)
	}
	w.want(200, "POST", acme+"/a/test", "")
	if got := w.recv.got[0].header.Get("webhook-signature"); len(strings.Fields(got)) != 10 {
		t.Errorf("%d signatures, want 10", len(strings.Fields(got)))
	}
}

// A secret ceases to sign at its expiry, without a change in Redis, and goes with the next write.
func TestSecretExpires(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.put("acme", "a")
	w.want(200, "POST", acme+"/a/rotate-secret", `{"expiresInSeconds":2}`)
	n := 0
	signatures := func() int {
		n++
		w.open(fmt.Sprintf("t-%d", n), "acme")
		w.until("the delivery", func() bool { return w.recv.count(fmt.Sprintf(`"t-%d"`, n)) == 1 })
		w.recv.mu.Lock()
		defer w.recv.mu.Unlock()
		return len(strings.Fields(w.recv.got[len(w.recv.got)-1].header.Get("webhook-signature")))
	}
	if got := signatures(); got != 2 {
		t.Errorf("%d signatures before the expiry, want 2", got)
	}
	w.until("the expiry", func() bool { return signatures() == 1 })
	if got := w.stored("a"); len(got.Secrets) != 2 {
		t.Errorf("Redis was written: %v", got.Expiry)
	}
	w.want(200, "PUT", acme+"/a", fmt.Sprintf(`{"url":"%s/a","events":["*"]}`, w.recv.URL))
	if got := w.stored("a"); len(got.Secrets) != 1 || len(got.Expiry) != 0 {
		t.Errorf("after a write %d secrets are stored, with %v", len(got.Secrets), got.Expiry)
	}
}

// What is odd is said, with the nearest known key, and nothing that looks like a secret is shown; what is shown can be sent
// back, and changes nothing.
func TestPutWarns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	const secret = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"
	sent := fmt.Sprintf(`{"url":"%s/a?token=hush","events":["EMAIL_OPEN"],"secret":%q,"enbled":false,"owner":{"token":"Bearer hush-hush","team":"growth"},"batch":{"max":2,"wiat":"1s"}}`, w.recv.URL, secret)
	put := w.want(201, "PUT", acme+"/a", sent)
	for _, want := range []string{"did you mean secrets?", "did you mean enabled?", `"field":"owner"`, "unsigned", "did you mean wait?", `"secret":"whsec_…"`, `"token":"…"`, `"team":"growth"`, "?token=hush"} {
		if !strings.Contains(string(put.body), want) {
			t.Errorf("the answer lacks %s: %s", want, put.body)
		}
	}
	get := w.want(200, "GET", acme+"/a", "")
	list := w.want(200, "GET", acme, "")
	if !strings.Contains(string(list.body), "did you mean secrets?") || !strings.Contains(string(list.body), "unsigned") {
		t.Errorf("the list does not warn: %s", list.body)
	}
	before := w.redis.HGet("fanout:account:acme", "a")
	for _, a := range []answer{put, get, list} {
		if strings.Contains(string(a.body), secret[7:]) || strings.Contains(string(a.body), "hush-hush") {
			t.Errorf("a secret is shown: %s", a.body)
		}
	}
	item, err := json.Marshal(list.json(t)["subscriptions"].([]any)[0])
	must(t, err)
	for _, back := range []string{string(put.body), string(get.body), string(item)} {
		w.want(200, "PUT", acme+"/a", back)
		var is, was any
		must(t, json.Unmarshal([]byte(w.redis.HGet("fanout:account:acme", "a")), &is))
		must(t, json.Unmarshal([]byte(before), &was))
		if !reflect.DeepEqual(is, was) {
			t.Errorf("%s sent back is stored as %v, want %v", back, is, was)
		}
	}
	a := w.want(422, "PUT", acme+"/a", strings.Replace(sent, `"team"`, `"key":"…","team"`, 1))
	if !strings.Contains(string(a.body), `"field":"owner.key"`) || !strings.Contains(string(a.body), "nothing is stored behind the mask") {
		t.Errorf("%s", a.body)
	}
	if good := w.put("acme", "b"); strings.Contains(string(good.body), "warnings") {
		t.Errorf("nothing is odd about %s", good.body)
	}
}

// A rule that is newer than a stored subscription leaves it in force, but for what breaks the rule, and refuses it when it is
// written.
func TestNewerRulesRefuseWhatIsWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	stored := fmt.Sprintf(`{"url":"%s/a","events":["*"],"secrets":["whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"],"headers":{"X-Forwarded-For":"10.0.0.1","x-tenant":"acme"}}`, w.recv.URL)
	w.redis.HSet("fanout:account:acme", "a", stored)
	must(t, w.dir.Refresh(t.Context(), "acme"))
	w.open("t-1", "acme")
	w.until("the delivery", func() bool { return w.recv.count("t-1") == 1 })
	if h := w.recv.got[0].header; h.Get("X-Forwarded-For") != "" || h.Get("X-Tenant") != "acme" {
		t.Errorf("it was sent with %v", h)
	}
	if list := w.want(200, "GET", acme, ""); !strings.Contains(string(list.body), "headers.X-Forwarded-For") || strings.Contains(string(list.body), `"problems"`) {
		t.Errorf("the list says %s", list.body)
	}
	if a := w.want(422, "PUT", acme+"/b", stored); !strings.Contains(string(a.body), `"field":"headers.X-Forwarded-For"`) {
		t.Errorf("%s", a.body)
	}
	w.want(422, "PUT", acme+"/a", fmt.Sprintf(`{"url":"%s/b","events":["*"]}`, w.recv.URL))
	// Its secret can be replaced all the same.
	w.want(200, "POST", acme+"/a/rotate-secret", "")
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

// Again sends one dead letter of each delivery, by the API and on the page, whatever replays sent the others.
func TestReplayAgainSendsTheNewest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.put("acme", "a")
	w.recv.answers(410, "")
	w.open("t-1", "acme")
	matched := func(n float64) bool { return w.want(200, "GET", "/api/v1/dead-letters", "").json(t)["matched"] == n }
	w.until("a dead letter", func() bool { return matched(1) })
	for i, name := range []string{"r1", "r2"} {
		w.want(202, "POST", "/api/v1/replays", `{"name":"`+name+`","maxFailures":0}`)
		w.until("it dies again", func() bool { return matched(float64(i + 2)) })
		w.until("the end", func() bool { return w.want(200, "GET", "/api/v1/replays/"+name, "").json(t)["state"] == "done" })
	}
	w.until("nothing is on its way", func() bool {
		plan := w.want(200, "POST", "/api/v1/replays", `{"again":true,"dryRun":true}`).json(t)
		return plan["send"] == 1.0 && plan["older"] == 2.0
	})
	if page := w.page(200, "/dead-letters/replay?which=all&again=1"); !strings.Contains(page, "<b>1</b> would be sent") || !strings.Contains(page, "2 left out: of the same deliveries") {
		t.Error(page)
	}
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
	w.want(201, "PUT", "/api/v1/accounts/held/subscriptions/p", `{"url":"https://example.com/","events":["*"],"paused":true}`)
	w.until("a lane that is said to be paused", func() bool { // it is forgotten a second after it was last used
		w.open("t-3", "held")
		return strings.Contains(string(w.want(200, "GET", "/api/v1/lanes?account=held", "").body), `"paused":true`)
	})
	w.until("a reading with the events", func() bool {
		now, _ := w.want(200, "GET", "/api/v1/status", "").json(t)["now"].(map[string]any)
		return now["eventsPerSecond"].(float64) > 0
	})
	w.want(204, "POST", "/api/v1/subscriptions/accept", "")
	w.want(204, "POST", acme+"/a/release", "")
	w.want(404, "POST", acme+"/nobody/release", "")
	w.want(422, "POST", acme+"/no%20id/release", "")
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

// Go's decoder leaves a member that is null as it was, so what is optional may be null: clients that write each of their
// fields do so. The document says it for each member, or a client that is made from it would refuse what is taken.
func TestOptionalMembersOfRequestsMayBeNull(t *testing.T) {
	t.Parallel()
	doc := document()
	resolve := func(schema map[string]any) map[string]any {
		ref, _ := schema["$ref"].(string)
		name := strings.TrimPrefix(ref, "#/components/schemas/")
		if name == ref {
			return schema
		}
		return doc["components"].(map[string]any)["schemas"].(map[string]any)[name].(map[string]any)
	}
	members := 0
	for path, item := range doc["paths"].(map[string]any) {
		for method, operation := range item.(map[string]any) {
			request, ok := operation.(map[string]any)["requestBody"].(map[string]any)
			if !ok {
				continue
			}
			schema := resolve(request["content"].(map[string]any)["application/json"].(map[string]any)["schema"].(map[string]any))
			required, _ := schema["required"].([]any)
			for name, member := range schema["properties"].(map[string]any) {
				if slices.Contains(required, any(name)) {
					continue
				}
				members++
				types, _ := member.(map[string]any)["type"].([]any)
				if !slices.Contains(types, any("null")) {
					t.Errorf("%s %s: %s may not be null", strings.ToUpper(method), path, name)
				}
			}
		}
	}
	if members == 0 {
		t.Fatal("no request body of the document has an optional member")
	}
}

// A dead letter has one form: whatever the commands show of one, the API shows and documents.
func TestDeadLettersAreThoseOfTheCommands(t *testing.T) {
	t.Parallel()
	schema := document()["components"].(map[string]any)["schemas"].(map[string]any)["DeadLetter"].(map[string]any)
	properties := schema["properties"].(map[string]any)
	for field := range reflect.TypeFor[topic.DeadLetter]().Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name != "-" && properties[name] == nil {
			t.Errorf("the document does not have %s of a dead letter", name)
		}
	}
}
