//go:build browser

package admin_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
)

// TestEveryPage looks at every page in each state that it can be in: it fits every window, moves only when asked to, says nothing on
// the console, and axe finds nothing. TestEmptyPagesInTheBrowser and TestOddIdentifiersInTheBrowser look at an empty
// instance, and at the longest and oddest names.
func TestEveryPage(t *testing.T) {
	w := newWorld(t, token)
	b := newBrowser(t, w)
	b.watchShifts()
	b.survey("signed-out", "/endpoints")
	b.signIn()

	// One of each.
	w.put("acme", "orders")
	w.recv.answers(410, "gone")
	w.open("one", "acme")
	w.until("a dead letter", func() bool { return w.do("GET", "/api/v1/dead-letters", "").json(t)["matched"] == 1.0 })
	w.want(202, "POST", "/api/v1/replays", `{"name":"one","account":"acme"}`)
	w.want(202, "POST", "/api/v1/backfills", `{"name":"b-one","account":"acme","subscription":"orders","topic":"channel.email","from":"2020-01-01T00:00:00Z"}`)
	w.recv.answers(204, "")
	w.want(200, "PUT", acme+"/orders", fmt.Sprintf(`{"url":"%s/orders","events":["*"]}`, w.recv.URL))
	var id string
	w.until("its delivery in the log", func() bool {
		list, _ := w.want(200, "GET", "/api/v1/deliveries?account=acme", "").json(t)["deliveries"].([]any)
		if len(list) > 0 {
			id, _ = list[0].(map[string]any)["id"].(string)
		}
		return id != ""
	})
	letter := w.want(200, "GET", "/api/v1/dead-letters", "").json(t)["deadLetters"].([]any)[0].(map[string]any)["id"].(string)
	one := func(portal bool) []string {
		paths, _ := addresses(t, portal, "acme", "orders", letter, "one")
		paths = append(paths, "/deliveries/show?id="+id, "/deliveries/resend?id="+id, "/endpoints/show?account=acme&id=nothing", "/dead-letters?q=nothing")
		if !portal {
			paths = append(paths, "/explain?q=one&account=acme", "/explain?q=nothing", "/backfills/b-one")
		}
		return paths
	}
	surveyAll := func(state, base string, paths []string) {
		t.Helper()
		for i, path := range paths {
			page, _, _ := strings.Cut(strings.Trim(path, "/"), "?")
			b.survey(fmt.Sprintf("%s-%02d-%s", state, i, strings.ReplaceAll(page, "/", "-")), base+path)
		}
	}
	b.expects("the server responded with a status of 404") // of what is not there
	surveyAll("one", "", one(false))
	portal := b.enter("acme")
	seen := map[string]bool{} // each page once
	surveyAll("one-portal", portal, slices.DeleteFunc(one(true), func(path string) bool {
		page, _, _ := strings.Cut(path, "?")
		again := seen[page]
		seen[page] = true
		return again
	}))

	// Ten thousand webhooks, attempts and dead letters.
	w.many(10_000)
	lists := []string{
		"/", "/endpoints", "/settings/events-webhook", "/settings/events-webhook?account=many-7", "/deliveries", "/dead-letters", "/dead-letters/replay?which=all&account=many-7", "/endpoints/show?account=acme&id=orders",
	}
	b.light = true // they are the same pages, with more rows, and axe looks at each
	surveyAll("many", "", lists)
	surveyAll("many-portal", portal, []string{"/endpoints", "/deliveries", "/dead-letters", "/endpoints/show?id=orders"})

	b.light = false

	// What fanout depends on is gone.
	few := []string{"/", "/endpoints?q=acme", "/settings/events-webhook", "/settings/events-webhook?account=acme", "/deliveries?q=one", "/dead-letters?account=acme", "/explain?q=one", "/endpoints/show?account=acme&id=orders", "/deliveries/show?id=" + id}
	b.expects("the server responded with a status of 503")
	w.gone.Store(true)
	w.until("that Kafka is missed", func() bool { return strings.Contains(w.page(200, "/endpoints"), "Kafka does not answer") })
	w.answersSoon("without-kafka", one(false))
	surveyAll("without-kafka", "", few)
	b.survey("without-kafka-portal", portal+"/deliveries")
	w.gone.Store(false)
	w.redis.Close()
	w.answersSoon("without-redis", one(false))
	surveyAll("without-redis", "", few)
	b.survey("without-redis-portal", portal+"/endpoints")
	must(t, w.redis.Restart())

	// The process is gone.
	b.goTo("/")
	b.sees("live")
	b.expects("net::ERR_CONNECTION")
	w.end()
	b.within(15*time.Second, "stale since")
	b.sees("Whether all is well is not known")
	b.inspect("without-process")

	for _, page := range b.pages {
		t.Logf("%-45s first paint after %4.0f ms, %6.0f bytes", page.name, page.paint, page.bytes)
	}
}

// answersSoon checks that each page comes, though it may be only to say what is missing.
func (w *world) answersSoon(state string, paths []string) {
	w.t.Helper()
	for _, path := range paths {
		began := time.Now()
		a := w.do("GET", path, "", asBrowser)
		took := time.Since(began)
		if a.status != 503 {
			w.checkPage(state+": "+path, a, a.status)
		}
		if took > 6*time.Second {
			w.t.Errorf("%s: %s takes %s", state, path, took.Round(time.Millisecond))
		}
	}
}

// many fills the world with n webhooks of a hundred accounts, n deliveries of acme's, and n dead letters.
func (w *world) many(n int) {
	w.t.Helper()
	var accounts []string
	for i := range n {
		account := fmt.Sprintf("many-%d", i%100)
		if i < 100 {
			accounts = append(accounts, account)
		}
		w.redis.HSet("fanout:account:"+account, fmt.Sprintf("hook-%d", i), fmt.Sprintf(`{"url":"%s/many","events":["EMAIL_CLICK"],"secrets":["whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"]}`, w.recv.URL))
	}
	must(w.t, w.dir.Refresh(w.t.Context(), accounts...))
	client := &kafka.Client{Addr: kafka.TCP(w.brokers...), Transport: &kafka.Transport{}}
	header := func(name, value string) kafka.Header {
		return kafka.Header{Key: "fanout-" + name, Value: []byte(value)}
	}
	now := time.Now()
	for from := 0; from < n; from += 1000 {
		var events, letters []kafka.Record
		for i := from; i < from+1000; i++ {
			events = append(events, kafka.Record{Time: now, Key: kafka.NewBytes([]byte("acme")), Value: kafka.NewBytes(fmt.Appendf(nil, `{"accountId":"acme","channel":"EMAIL","type":"OPEN","trackingId":"many-%d","notificationId":"welcome","userId":"user-%d"}`, i, i%7))})
			account := fmt.Sprintf("many-%d", i%100)
			letters = append(letters, kafka.Record{
				Time: now, Key: kafka.NewBytes([]byte(account + "/hook")), Value: kafka.NewBytes([]byte(`{"eventType":"OPEN"}`)),
				Headers: []kafka.Header{
					header("webhook-id", fmt.Sprintf("msg_%032d", i)), header("account", account), header("subscription", fmt.Sprintf("hook-%d", i%100)), header("event", "EMAIL_OPEN"), header("attempts", "8"),
					header("first-seen", "1700000000000"), header("origin", fmt.Sprintf("channel.email/0/%d", i)), header("reason", "attempts_exhausted"), header("status", "503"), header("detail", "503"), header("dead-at", strconv.FormatInt(now.UnixMilli(), 10)),
				},
			})
		}
		for topic, records := range map[string][]kafka.Record{"channel.email": events, "fanout.dead-letter": letters} {
			res, err := client.Produce(w.t.Context(), &kafka.ProduceRequest{Topic: topic, Partition: 0, RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(records...)})
			must(w.t, err)
			must(w.t, res.Error)
		}
	}
	w.within(time.Minute, "the deliveries", func() bool { return w.recv.count("many-") >= n })
}
