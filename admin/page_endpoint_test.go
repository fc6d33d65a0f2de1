package admin_test

import (
	"fmt"
	"html"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"fanout/dispatcher"
	"fanout/topic"
)

const hubOf = "/endpoints/show?account=acme&id=a"

// act presses a button of a webhook's page, and returns the page that the browser sees then.
func (w *world) act(at string, values url.Values, as ...func(*http.Request)) string {
	w.t.Helper()
	a := w.want(303, "POST", at, values.Encode(), append(as, form)...)
	var cookies []func(*http.Request)
	for _, text := range a.header.Values("Set-Cookie") {
		cookie, err := http.ParseSetCookie(text)
		must(w.t, err)
		cookies = append(cookies, func(r *http.Request) { r.AddCookie(cookie) })
	}
	return w.page(200, a.header.Get("Location"), append(as, cookies...)...)
}

// A parked webhook says until when and why it is held, and its page releases it.
func TestEndpointIsReleasedFromItsPage(t *testing.T) {
	t.Parallel()
	w := newWorldLanes(t, token, func(l *dispatcher.LanesConfig) {
		l.MaxInFlight = 1
		l.ParkAfter, l.ParkMin, l.ParkMax = 3, 10*time.Minute, time.Hour
	})
	w.put("acme", "a")
	w.recv.answers(503, "")
	for i := range 12 {
		w.open(fmt.Sprintf("t-%d", i), "acme")
	}
	base := w.link("acme")
	for _, at := range []string{hubOf, base + "/endpoints/show?id=a"} {
		var page string
		w.until("that it is held", func() bool {
			page = html.UnescapeString(w.page(200, at))
			return strings.Contains(page, ">✕</span> parked")
		})
		for _, want := range []string{"Held until <time", "because ", "in a row failed, the last with HTTP 503 since <time", "one delivery goes out as a probe", `value="release"`} {
			if !strings.Contains(page, want) {
				t.Errorf("%s does not say %q", at, want)
			}
		}
	}
	look, _ := w.enter(w.makeLink("acme", `{"kind":"read-only"}`))
	if page := w.page(200, look+"/endpoints/show?id=a", anonymous); strings.Contains(page, `value="release"`) || strings.Contains(page, "Send test event</button>") {
		t.Error("a read-only link offers to release or to send")
	}
	w.recv.answers(204, "")
	if page := w.act(hubOf, url.Values{"action": {"release"}}); !strings.Contains(page, "It is released on every instance.") {
		t.Error("the page does not say that it was released")
	}
	w.open("fresh", "acme") // which would wait for ten minutes, were it parked still
	w.until("what comes after the release", func() bool {
		return w.recv.count("fresh") == 1 && !strings.Contains(w.page(200, hubOf), ">✕</span> parked")
	})
	// A customer may release what is theirs, and nothing else.
	if page := w.act(base+"/endpoints/show?id=a", url.Values{"action": {"release"}}, anonymous); !strings.Contains(page, "It is released on every instance.") {
		t.Error("the portal does not say that it was released")
	}
	w.put("globex", "b")
	if a := w.do("POST", base+"/endpoints/show?account=globex&id=b", "action=pause", form, anonymous); a.status != 404 {
		t.Errorf("the portal pauses another account's webhook: %d", a.status)
	}
}

func TestEndpointIsPausedAndTriedFromItsPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	w.put("acme", "a")
	before := w.redis.HGet("fanout:account:acme", "a")
	if page := w.act(hubOf, url.Values{"action": {"pause"}}); !strings.Contains(page, "Deliveries are held until it is resumed, because it is paused in its settings.") || !strings.Contains(page, "It is paused.") {
		t.Errorf("after a pause: %s", page)
	}
	w.open("while-paused", "acme")
	if page := w.act(hubOf, url.Values{"action": {"test"}, "sample": {"SMS_FAILED"}}); !strings.Contains(page, "webhook-signature") || w.recv.count("SMS") != 1 {
		t.Errorf("the test event: %s", page)
	}
	if page := w.act(hubOf, url.Values{"action": {"resume"}}); !strings.Contains(page, "Nothing waits, and nothing is under way.") && !strings.Contains(page, "Deliveries go out") {
		t.Errorf("after resuming: %s", page)
	}
	if after := w.redis.HGet("fanout:account:acme", "a"); after != before {
		t.Errorf("a pause and its end have changed %s to %s", before, after)
	}
	w.until("what was held", func() bool { return w.recv.count("while-paused") == 1 })
	if strings.Contains(w.page(200, hubOf), "webhook-signature") {
		t.Error("the test event is told twice")
	}
	for _, wrong := range []string{"action=explode", ""} {
		w.checkPage(wrong, w.do("POST", hubOf, wrong, form, asBrowser), 422)
	}
	w.put("acme", "off")
	w.want(200, "PUT", acme+"/off", fmt.Sprintf(`{"url":%q,"events":["*"],"enabled":false}`, w.recv.URL))
	if page := w.page(200, "/endpoints/show?account=acme&id=off"); !strings.Contains(page, "Nothing is sent, and nothing is kept for later, because it is disabled") || strings.Contains(page, `value="pause"`) {
		t.Error("a webhook that is off does not say so, or can be paused")
	}
}

// The last 24 hours are counted from the attempts topic, so they are those of all instances.
func TestEndpointsDay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	w.put("acme", "a")
	add := func(at time.Time, outcome string, attempt, took int, account string) {
		value := fmt.Sprintf(`{"time":%d,"id":"msg_aaaaaaaaaaaaaaaaaaaaaaaaaa","account":%q,"subscription":"a","event":"EMAIL_OPEN","origin":"channel.email/0/7","stage":"first","outcome":%q,"attempt":%d,"tookMs":%d}`, at.UnixMilli(), account, outcome, attempt, took)
		_, err := w.kafka.Produce(t.Context(), topic.Partition{Topic: "fanout.attempts"}, []kafka.Record{{
			Time: at, Key: kafka.NewBytes([]byte(account)), Value: kafka.NewBytes([]byte(value)),
			Headers: []kafka.Header{{Key: topic.HeaderWebhookID, Value: []byte("msg_aaaaaaaaaaaaaaaaaaaaaaaaaa")}, {Key: topic.HeaderOutcome, Value: []byte(outcome)}},
		}})
		must(t, err)
	}
	now := time.Now()
	for range 6 {
		add(now.Add(-3*time.Hour), "delivered", 1, 40, "acme")
	}
	add(now.Add(-2*time.Hour), "retry", 1, 900, "acme")
	add(now.Add(-time.Hour), "dead", 2, 900, "acme")
	add(now.Add(-time.Hour), "delivered", 1, 5, "globex")
	tile := func(page, name string) string {
		_, rest, _ := strings.Cut(page, "<span>"+name+"</span><b>")
		text, _, _ := strings.Cut(rest, "</b>")
		return text
	}
	base := w.link("acme")
	for _, at := range []string{hubOf, base + "/endpoints/show?id=a"} {
		page := w.page(200, at)
		for name, want := range map[string]string{"Attempts": "8", "Success rate": "75.0 %", "Dead": "1"} {
			if got := tile(page, name); got != want {
				t.Errorf("%s: %s is %q, want %q", at, name, got, want)
			}
		}
		if got := strings.Count(page, `class="hit`); got != 3*48 {
			t.Errorf("%s has %d columns", at, got)
		}
		if !strings.Contains(page, "delivered 6.0, retried 0, dead 0, put off 0") {
			t.Errorf("%s does not have the figures of three hours ago", at)
		}
	}
	// What comes later is counted once.
	add(time.Now(), "delivered", 1, 40, "acme")
	w.within(20*time.Second, "the next one", func() bool { return tile(w.page(200, hubOf), "Attempts") == "9" })
	if got := tile(w.page(200, hubOf), "Attempts"); got != "9" {
		t.Errorf("then %s", got)
	}
}

// A backfill is seen before it begins, and followed.
func TestBackfillPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	w.put("acme", "a")
	for i := range 3 {
		w.open(fmt.Sprintf("early-%d", i), "acme")
	}
	w.until("the deliveries", func() bool { return w.recv.count("early-") == 3 })
	w.put("acme", "late")
	const at = "/endpoints/backfill?account=acme&id=late&topic=channel.email&from=2020-01-01T00:00&name=b-1"
	var page string
	w.until("a plan", func() bool { page = w.page(200, at); return strings.Contains(page, "<b>3</b> of the 3 events") })
	for query, field := range map[string]string{"from=": "from", "from=x": "from", "topic=nope": "topic", "rate=0": "rate", "rate=NaN": "rate", "maxFailures=x": "max", "to=2019-01-01T00:00": "to"} {
		name, _, _ := strings.Cut(query, "=")
		values, _ := url.ParseQuery(strings.TrimPrefix(at, "/endpoints/backfill?"))
		wrong, _ := url.ParseQuery(query)
		values[name] = wrong[name]
		if page := w.page(422, "/endpoints/backfill?"+values.Encode()); !strings.Contains(page, `href="#`+field+`"`) {
			t.Errorf("%s does not lead to the field", query)
		}
	}
	w.page(404, "/endpoints/backfill?account=acme&id=none")
	body := strings.TrimPrefix(at, "/endpoints/backfill?")
	for range 2 { // the second begins nothing
		if a := w.want(303, "POST", "/endpoints/backfill", body, form); a.header.Get("Location") != "/backfills/b-1" {
			t.Errorf("a backfill ends at %s", a.header.Get("Location"))
		}
	}
	w.until("its end", func() bool { page = w.page(200, "/backfills/b-1"); return strings.Contains(page, "> done") })
	w.livePart("/backfills/b-1")
	w.until("the deliveries", func() bool { return w.recv.count("early-") == 6 })
	if a := w.want(303, "POST", "/backfills/b-1/cancel", "", form); a.header.Get("Location") != "/backfills/b-1" {
		t.Errorf("a cancelled backfill ends at %s", a.header.Get("Location"))
	}
	w.page(404, "/backfills/none")
	if !strings.Contains(page, "<b>3</b> of 3 sent") {
		t.Errorf("it says %s", page)
	}
}

// A customer backfills a webhook of theirs as an operator does, within what a portal may cost, and reads nothing of ours or of others.
func TestPortalBackfill(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	w.put("acme", "a")
	w.put("globex", "crm")
	for i := range 3 {
		w.open(fmt.Sprintf("early-%d", i), "acme")
		w.open(fmt.Sprintf("other-%d", i), "globex")
	}
	w.until("the deliveries", func() bool { return w.recv.count("early-") == 3 && w.recv.count("other-") == 3 })
	w.put("acme", "late")
	base, others := w.link("acme"), w.link("globex")
	asking := func(pairs ...string) url.Values {
		q := url.Values{"id": {"late"}, "topic": {"1"}, "from": {"2020-01-01T00:00"}, "name": {"p-1"}, "rate": {"1"}}
		for i := 0; i < len(pairs); i += 2 {
			q.Set(pairs[i], pairs[i+1])
		}
		return q
	}
	plan := func(status int, base string, pairs ...string) string {
		t.Helper()
		page := w.page(status, base+"/endpoints/backfill?"+asking(pairs...).Encode(), anonymous)
		for _, ours := range []string{"channel.", "globex", `name="again"`} {
			if strings.Contains(page, ours) {
				t.Errorf("%v shows %s", pairs, ours)
			}
		}
		return page
	}
	page := w.page(200, base+"/endpoints/show?id=late", anonymous)
	if !strings.Contains(page, `action="`+base+`/endpoints/backfill"`) || !strings.Contains(page, ">EMAIL</option>") || strings.Contains(page, "channel.") {
		t.Errorf("the webhook's page:\n%s", page)
	}
	w.until("a plan", func() bool { return strings.Contains(plan(200, base), "<b>3</b> of the 3 events for this webhook") })
	for _, wrong := range [][2]string{{"rate", "51"}, {"rate", "0"}, {"maxFailures", "0"}, {"maxFailures", "101"}, {"again", "1"}, {"topic", "channel.email"}, {"topic", "99"}, {"from", ""}} {
		plan(422, base, wrong[:]...)
		w.want(422, "POST", base+"/endpoints/backfill", asking(wrong[:]...).Encode(), form, anonymous)
	}
	plan(404, base, "id", "crm", "account", "acme-2") // the account is the link's
	w.want(404, "POST", base+"/endpoints/backfill", asking("id", "crm", "account", "globex").Encode(), form, anonymous)

	look, cookie := w.enter(w.makeLink("acme", `{"kind":"read-only"}`))
	w.want(403, "GET", look+"/endpoints/backfill?"+asking().Encode(), "", carryingOnly(cookie))
	w.want(403, "POST", look+"/endpoints/backfill", asking().Encode(), form, carryingOnly(cookie))
	if page := w.want(200, "GET", look+"/endpoints/show?id=late", "", carryingOnly(cookie)); strings.Contains(string(page.body), "Backfill since") {
		t.Error("a link for looking only offers a backfill")
	}

	begin := func(name string, pairs ...string) {
		t.Helper()
		body := asking(append([]string{"name", name}, pairs...)...).Encode()
		for range 2 { // the second begins nothing
			if at := w.want(303, "POST", base+"/endpoints/backfill", body, form, anonymous).header.Get("Location"); at != base+"/backfills/"+name {
				t.Errorf("a backfill ends at %s", at)
			}
		}
	}
	begin("p-1")
	// One at a time, a replay included; nobody else sees or ends it.
	if a := w.want(409, "POST", base+"/endpoints/backfill", asking("name", "p-2").Encode(), form, anonymous); !strings.Contains(string(a.body), "Another replay or backfill is running") {
		t.Errorf("the second one: %s", a.body)
	}
	w.want(409, "POST", base+"/dead-letters/replay", url.Values{"which": {"all"}, "do": {"start"}, "name": {"r-1"}, "rate": {"50"}, "maxFailures": {"100"}}.Encode(), form, anonymous)
	w.want(404, "GET", others+"/backfills/p-1", "", anonymous)
	w.want(404, "POST", others+"/backfills/p-1/cancel", "", form, anonymous)
	w.want(409, "POST", others+"/endpoints/backfill", asking("id", "crm").Encode(), form, anonymous)
	if page := w.page(200, base+"/backfills/p-1", anonymous); !strings.Contains(page, base+"/backfills/p-1/cancel") || strings.Contains(page, "channel.") {
		t.Errorf("it says %s", page)
	}
	w.want(303, "POST", base+"/backfills/p-1/cancel", "", form, anonymous)
	w.until("its end", func() bool { return !strings.Contains(w.page(200, base+"/backfills/p-1", anonymous), "> running") })

	begin("p-3", "rate", "50")
	w.until("the end of the rest", func() bool { return strings.Contains(w.page(200, base+"/backfills/p-3", anonymous), "> done") })
	w.until("the deliveries of both", func() bool { return w.recv.count("early-") == 6 })
	if n := w.recv.count("other-"); n != 3 {
		t.Errorf("%d requests for another account, want 3", n)
	}
}
