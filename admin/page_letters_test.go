package admin_test

import (
	"context"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

var letterBox = regexp.MustCompile(`name="id" value="([0-9]+/[0-9]+)"`)

// older is the address of the page behind a page; empty where there is none.
func older(page string) string {
	before, _, more := strings.Cut(page, `" rel="next"`)
	if !more {
		return ""
	}
	return html.UnescapeString(before[strings.LastIndex(before, `href="`)+len(`href="`):])
}

// All dead letters can be walked through, each once, also where many died in one moment.
func TestDeadLettersPageByPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	const own, others = 230, 20
	w.until("the topic", func() bool { return w.do("GET", "/api/v1/dead-letters", "").status == 200 })
	for i := range own {
		w.letter("acme", "orders", "msg_"+strconv.Itoa(i)+"-")
	}
	for range others {
		w.letter("globex", "crm", "msg_other")
	}
	base := w.link("acme")
	for at, want := range map[string]int{"/dead-letters": own + others, "/dead-letters?account=acme&status=503": own, base + "/dead-letters": own, base + "/dead-letters?q=msg_7-": 1, "/dead-letters?event=EMAIL_OPEN&reason=expired": own + others} {
		var as []func(*http.Request)
		if strings.HasPrefix(at, base) {
			as = append(as, anonymous)
		}
		seen := map[string]bool{}
		for pages, next := 0, at; next != ""; pages++ {
			page := w.page(200, next, as...)
			for _, found := range letterBox.FindAllStringSubmatch(page, -1) {
				if seen[found[1]] {
					t.Errorf("%s shows %s twice", at, found[1])
				}
				seen[found[1]] = true
			}
			if strings.HasPrefix(at, base) && strings.Contains(page, "globex") {
				t.Errorf("%s shows another account", at)
			}
			if next = older(page); pages > 3 {
				t.Fatalf("%s has no end", at)
			}
		}
		if len(seen) != want {
			t.Errorf("%s shows %d, want %d", at, len(seen), want)
		}
	}
	for _, query := range []string{"event=SMS_FAILED", "status=404", "q=nowhere", "reason=gone", "last=24h", "before=0.0_1.0"} {
		if page := w.page(200, "/dead-letters?account=acme&"+query); letterBox.MatchString(page) {
			t.Errorf("%s finds something", query)
		}
	}
	for query, status := range map[string]int{"status=x": 422, "status=99": 422, "before=x": 400, "before=1/0/0": 400, "state=x": 422} {
		w.page(status, "/dead-letters?"+query)
	}

	// They are counted by webhook and reason, and a group leads to its own.
	var page string
	w.until("the groups", func() bool {
		page = w.page(200, "/dead-letters")
		return strings.Contains(page, "By webhook and reason")
	})
	if want := `/dead-letters?account=globex&amp;reason=expired&amp;subscription=crm`; !strings.Contains(page, want) || !strings.Contains(page, `data-label="Dead letters">230<`) {
		t.Errorf("the groups are %s", page)
	}
	if page := w.page(200, base+"/dead-letters", anonymous); strings.Contains(page, "By webhook and reason") {
		t.Error("one group is a table")
	}
}

// The filter is kept on the way to a replay and back, and a replay that ended stays in the list.
func TestReplayKeepsItsFilter(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	w.put("acme", "a")
	w.recv.answers(410, "")
	w.open("t-1", "acme")
	w.until("a dead letter", func() bool { return w.do("GET", "/api/v1/dead-letters", "").json(t)["matched"] == 1.0 })
	w.recv.answers(204, "")
	w.put("acme", "a")
	w.act(hubOf, url.Values{"action": {"release"}})
	filter := url.Values{"account": {"acme"}, "subscription": {"a"}, "event": {"EMAIL_OPEN"}, "reason": {"gone"}, "status": {"410"}}
	list := w.page(200, "/dead-letters?"+filter.Encode())
	for name, values := range filter {
		if !strings.Contains(list, `type="hidden" name="`+name+`" value="`+values[0]+`"`) {
			t.Errorf("%s is lost on the way to the replay", name)
		}
	}
	filter.Set("which", "all")
	if plan := w.page(200, "/dead-letters/replay?"+filter.Encode()); !strings.Contains(plan, "<b>1</b> would be sent") {
		t.Errorf("the plan: %s", plan)
	}
	for name, none := range map[string]string{"event": "SMS_FAILED", "status": "503"} {
		other, _ := url.ParseQuery(filter.Encode())
		other.Set(name, none)
		if plan := w.page(200, "/dead-letters/replay?"+other.Encode()); !strings.Contains(plan, "<b>0</b> would be sent") {
			t.Errorf("with another %s the plan is %s", name, plan)
		}
	}
	filter.Set("q", "x")
	w.page(422, "/dead-letters/replay?"+filter.Encode())
	filter.Del("q")
	filter.Set("do", "start")
	filter.Set("name", "kept")
	w.want(303, "POST", "/dead-letters/replay", filter.Encode(), form)
	var page string
	w.until("its end", func() bool { page = w.page(200, "/replays/kept"); return strings.Contains(page, "> done") })
	if !strings.Contains(html.UnescapeString(page), `href="/dead-letters?account=acme&event=EMAIL_OPEN&reason=gone&status=410&subscription=a"`) || !strings.Contains(page, "a second") {
		t.Errorf("the replay says %s", page)
	}
	if page := w.page(200, "/dead-letters"); !strings.Contains(page, "Replays (1)") || !strings.Contains(page, "1 of 1") {
		t.Error("the list does not have the replay")
	}

	// One that a customer asked for leads an operator back to the list of that account, and the customer to their own.
	base := w.link("acme")
	w.want(303, "POST", base+"/dead-letters/replay", url.Values{
		"which": {"all"}, "event": {"EMAIL_OPEN"}, "do": {"start"}, "name": {"theirs"}, "rate": {"50"}, "maxFailures": {"100"},
	}.Encode(), form, anonymous)
	if page := html.UnescapeString(w.page(200, "/replays/theirs")); !strings.Contains(page, `href="/dead-letters?account=acme&event=EMAIL_OPEN"`) {
		t.Errorf("an operator sees %s", page)
	}
	if page := html.UnescapeString(w.page(200, base+"/replays/theirs", anonymous)); !strings.Contains(page, `href="`+base+`/dead-letters?event=EMAIL_OPEN"`) {
		t.Errorf("the customer sees %s", page)
	}
}

// Once an index has caught up, an account's list comes from it, in the API and on the page. Until then the page says how far it looked.
func TestDeadLettersComeFromTheIndex(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	w.until("the topic", func() bool { return w.do("GET", "/api/v1/dead-letters", "").status == 200 })
	for i := range 210 {
		w.letter("acme", "orders", "msg_"+strconv.Itoa(i))
	}
	for range 10 {
		w.letter("globex", "crm", "msg_few")
	}
	const list = "/api/v1/dead-letters?account=globex"
	if got := w.do("GET", list, "").json(t); got["indexed"] != false || got["matched"] != 10.0 || got["read"] != 220.0 || got["counted"] != true {
		t.Errorf("without the index: %.200v", got)
	}
	if got := w.do("GET", "/api/v1/status", "").json(t); got["deadLetterIndex"] != nil {
		t.Errorf("the index is said to be %v", got["deadLetterIndex"])
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.index.Run(ctx) }()
	defer func() { cancel(); must(t, <-ended) }()
	w.until("the index", func() bool { s := w.index.Status(); return s.Records == 220 && s.Unread == 0 })
	if got := w.do("GET", list, "").json(t); got["indexed"] != true || got["matched"] != 10.0 || got["counted"] != true || got["cursor"] != nil {
		t.Errorf("by the index: %.200v", got)
	}
	first := w.do("GET", "/api/v1/dead-letters?account=acme&limit=150", "").json(t)
	cursor, _ := first["cursor"].(string)
	rest := w.do("GET", "/api/v1/dead-letters?account=acme&limit=150&cursor="+url.QueryEscape(cursor), "").json(t)
	a, _ := first["deadLetters"].([]any)
	b, _ := rest["deadLetters"].([]any)
	if first["matched"] != 210.0 || len(a) != 150 || len(b) != 60 || rest["cursor"] != nil {
		t.Errorf("%v matched, %d and then %d, %v behind", first["matched"], len(a), len(b), rest["cursor"])
	}
	w.want(400, "GET", "/api/v1/dead-letters?state=closed", "")
	status, _ := w.do("GET", "/api/v1/status", "").json(t)["deadLetterIndex"].(map[string]any)
	if status["caughtUp"] != true || status["accounts"] != 2.0 || status["full"] != false {
		t.Errorf("the index is said to be %v", status)
	}
	base := w.link("globex")
	for _, page := range []string{w.page(200, "/dead-letters?account=globex"), w.page(200, base+"/dead-letters", anonymous)} {
		if n := len(letterBox.FindAllString(page, -1)); n != 10 || !strings.Contains(page, "10 shown of 10") || strings.Contains(page, "looked at") {
			t.Errorf("the page shows %d", n)
		}
	}
}

// A list of open dead letters leaves out what was delivered since, and one of settled ones the others.
func TestOpenAndSettledDeadLetters(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	w.put("acme", "a")
	w.recv.answers(410, "")
	w.open("t-1", "acme")
	w.until("a dead letter", func() bool { return w.do("GET", "/api/v1/dead-letters", "").json(t)["matched"] == 1.0 })
	shown := func(state string) int {
		return len(letterBox.FindAllString(w.page(200, "/dead-letters?account=acme&state="+state), -1))
	}
	w.until("an attempt", func() bool { return shown("open") == 1 })
	if shown("settled") != 0 {
		t.Error("it is settled too")
	}
	w.recv.answers(204, "")
	w.put("acme", "a")
	w.act(hubOf, url.Values{"action": {"release"}})
	w.want(303, "POST", "/dead-letters/replay", url.Values{"account": {"acme"}, "state": {"open"}, "which": {"all"}, "do": {"start"}, "name": {"one"}}.Encode(), form)
	w.until("its end", func() bool { return shown("open") == 0 && shown("settled") == 1 })
	if page := w.page(200, "/dead-letters?account=acme&state=settled"); strings.Contains(page, "Replay all") || !strings.Contains(page, ">replayed</span>") {
		t.Errorf("settled ones: %s", page)
	}
	if got := w.do("GET", "/api/v1/dead-letters?state=settled", "").json(t); !strings.Contains(fmt.Sprint(got), "state:replayed") {
		t.Errorf("the API: %v", got)
	}
	w.page(422, "/dead-letters/replay?account=acme&state=settled&which=all")
}

// A replay that was canceled goes on from its page, and sends nothing twice. What is ticked may be too much for an address.
func TestReplayGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	w.put("acme", "a")
	w.recv.answers(410, "")
	const all = 6
	for i := range all {
		w.open("t-"+strconv.Itoa(i), "acme")
	}
	var list map[string]any
	w.until("the dead letters", func() bool {
		list = w.do("GET", "/api/v1/dead-letters", "").json(t)
		return list["matched"] == float64(all)
	})
	before := w.recv.count("t-")
	w.recv.answers(204, "")
	w.put("acme", "a")
	w.act(hubOf, url.Values{"action": {"release"}})
	ask := url.Values{"account": {"acme"}, "which": {"selected"}, "name": {"slow"}, "rate": {"1"}, "maxFailures": {"10"}}
	letters, _ := list["deadLetters"].([]any)
	for _, one := range letters {
		letter, _ := one.(map[string]any)
		ask.Add("id", fmt.Sprint(letter["position"]))
	}
	if plan := w.want(200, "POST", "/dead-letters/replay", ask.Encode(), form).body; !strings.Contains(string(plan), "<b>6</b> would be sent") {
		t.Errorf("the plan of what is ticked: %s", plan)
	}
	ask.Set("do", "start")
	w.want(303, "POST", "/dead-letters/replay", ask.Encode(), form)
	if page := w.page(200, "/replays/slow"); strings.Contains(page, "Go on…") {
		t.Errorf("it goes on while it runs: %s", page)
	}
	w.want(303, "POST", "/replays/slow/cancel", "", form)
	w.until("its end", func() bool { return strings.Contains(w.page(200, "/replays/slow"), "Go on…") })
	if page := w.page(200, "/dead-letters"); !strings.Contains(page, "Canceled, ") || !strings.Contains(page, "Go on…") {
		t.Errorf("the list: %s", page)
	}
	w.want(303, "POST", "/dead-letters/replay", ask.Encode(), form) // the form again starts nothing
	if page := w.page(200, "/replays/slow"); !strings.Contains(page, "> canceled") {
		t.Errorf("the form again: %s", page)
	}
	ask.Set("resume", "1")
	ask.Set("rate", "1000")
	w.want(303, "POST", "/dead-letters/replay", ask.Encode(), form)
	w.until("the rest", func() bool {
		page := w.page(200, "/replays/slow")
		return strings.Contains(page, "> done") && !strings.Contains(page, "Go on…")
	})
	w.until("all of them", func() bool { return w.recv.count("t-") >= before+all })
	if n := w.recv.count("t-"); n != before+all {
		t.Errorf("%d sent, want %d", n-before, all)
	}
	if page := w.page(200, "/dead-letters"); !strings.Contains(page, "none failed at first") {
		t.Errorf("the list: %s", page)
	}
}

// A search that is ended says on the page how far it came, and where it goes on, without a script.
func TestPageOfAnEndedSearch(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token)
	w.admin.SearchFor(time.Nanosecond)
	w.until("the topic", func() bool { return w.do("GET", "/api/v1/dead-letters", "").status == 200 })
	for range 30 {
		w.letter("acme", "orders", "msg_a")
	}
	const list = "/dead-letters?q=msg_a"
	page := w.page(200, list)
	if letterBox.MatchString(page) || !strings.Contains(page, "0 of 30 records looked at") || !strings.Contains(page, "1 of 2 partitions") || !strings.Contains(page, "Nothing found so far.") {
		t.Errorf("an ended search: %s", page)
	}
	if !strings.Contains(page, `">Look further</a>`) || strings.Contains(page, "There are no dead letters") {
		t.Errorf("an ended search has no way to go on: %s", page)
	}
	if strings.Count(page, `aria-current="true">any`) != 4 || strings.Contains(w.page(200, list+"&from=2020-01-01T00:00"), `aria-current="true">any time`) {
		t.Error("the presets in force are not marked")
	}
	if page := w.page(200, list+"&account=acme"); letterBox.FindAllString(page, -1) == nil { // what died since the index looked is read at once
		t.Errorf("with an account: %s", page)
	}
}
