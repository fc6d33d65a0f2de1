//go:build browser

package admin_test

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"fanout/dispatcher"
	"fanout/subscriptions"
)

var busy = flag.Duration("busy", 8*time.Second, "how long the busy webhook is inspected")

// TestNewCustomer is a customer's: the link that they were sent, their first webhook, a test event, the first delivery.
func TestNewCustomer(t *testing.T) {
	w := newWorld(t, token)
	b := newBrowser(t, w)
	base := b.enter("newcomer")
	b.sees("The first webhook of newcomer")
	if got := b.text(`document.activeElement.id`); got != "url" {
		t.Errorf("one types into %q", got)
	}
	b.fill("Webhook URL", w.recv.URL+"/hook")
	b.click(`#e-EMAIL_OPEN`)
	b.submit(button("Save Configuration"))
	b.sees("Saved.")
	b.sees("It is shown only this once")
	b.click(button("Send test event"))
	b.sees("HTTP 204")
	b.inspect("walk-customer-tested")
	w.open("first-one", "newcomer")
	w.until("the first delivery", func() bool { return w.recv.count("first-one") == 1 })
	b.goTo(base + "/settings/events-webhook")
	b.submit(link("Deliveries"))
	w.until("it is in the log", func() bool {
		b.submit(button("Filter"))
		return strings.Contains(b.text(`document.body.innerText`), "first-one")
	})
	b.sees("delivered")
	b.inspect("walk-customer-deliveries")
	b.submit(link("Open"))
	b.sees("HTTP 204")
}

// TestWhyNothing is support's: a tracking id of which the customer got nothing, why, the setting, and what comes then.
func TestWhyNothing(t *testing.T) {
	w := newWorld(t, token)
	w.put("acme", "fails")
	w.want(200, "PUT", acme+"/fails", fmt.Sprintf(`{"url":"%s/fails","events":["SMS_FAILED"]}`, w.recv.URL))
	w.open("lost-one", "acme")
	b := newBrowser(t, w)
	b.signIn()
	b.became("lost-one")
	b.sees("No delivery matches")
	b.inspect("walk-nothing")
	b.submit(link("Look for the event in the sources"))
	b.sees("unmatched")
	b.sees("does not match")
	b.sees("does not select EMAIL_OPEN")
	b.inspect("walk-nothing-why")
	b.submit(link("fails"))
	b.submit(`//nav[@aria-label="Webhook"]//a[.="Settings"]`)
	b.click(`#e-EMAIL_OPEN`)
	b.submit(button("Save Configuration"))
	b.sees("Saved.")
	w.open("found-one", "acme")
	w.until("what is selected now", func() bool { return w.recv.count("found-one") == 1 })
}

// TestBreaksAndDrains is an operator's: the verdict line says that a webhook is parked, its page says why, it is mended and released,
// and what waited is seen to go.
func TestBreaksAndDrains(t *testing.T) {
	w := newWorldLanes(t, token, func(l *dispatcher.LanesConfig) { l.ParkAfter, l.ParkMin, l.ParkMax = 5, 15*time.Second, 15*time.Second })
	w.put("acme", "orders")
	b := newBrowser(t, w)
	b.signIn()
	b.sees("All is well")
	w.recv.answers(503, "under repair")
	for i := range 10 {
		w.open(fmt.Sprintf("fails-%d", i), "acme")
	}
	b.sees("1 webhook parked")
	for i := range 40 {
		w.open(fmt.Sprintf("waits-%d", i), "acme")
	}
	b.inspect("walk-parked")
	b.submit(`//*[@id="verdict"]//a[.="Show"]`)
	b.submit(link("acme / orders"))
	b.sees("Held")
	b.sees("deferred (parked)")
	b.sees("HTTP 503")
	b.inspect("walk-held")
	w.recv.answers(204, "")
	b.submit(button("Release now"))
	b.sees("It is released on every instance.")
	b.within(20*time.Second, "All is well")
	w.within(30*time.Second, "what waited", func() bool { return len(w.delivered("waits-")) == 40 })
	b.goTo("/endpoints/show?account=acme&id=orders")
	b.sees("0 waiting")
	b.sees("delivered")
	b.inspect("walk-drained")
}

// TestBusyWebhook inspects a webhook that gets 120 events a second: what is open stays open and still, the rest goes on.
func TestBusyWebhook(t *testing.T) {
	w := newWorld(t, token)
	w.put("acme", "orders")
	b := newBrowser(t, w)
	b.signIn()
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			for range 12 {
				n++
				w.open(fmt.Sprintf("busy-%d", n), "acme")
			}
		}
	}()
	defer func() { close(stop); <-ended }()
	b.goTo("/endpoints/show?account=acme&id=orders")
	b.sees("delivered")
	b.click(`.attempts li:nth-child(2) summary`)
	open := b.text(`document.querySelector("#attempts details[open]").closest("li").id`)
	b.sees("Show them")
	for end := time.Now().Add(*busy); time.Now().Before(end); {
		began := time.Now()
		if now := b.text(`(() => { const open = document.querySelector("#attempts details[open]"); return open ? open.closest("li").id : ""; })()`); now != open {
			t.Fatalf("%s was open, and now %q is", open, now)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("the page answers after %s", took)
		}
		w.until("a second of it", func() bool { return time.Since(began) > 500*time.Millisecond })
	}
	b.sees("paused")
	b.inspect("walk-busy")
	b.click(button("Show them"))
	b.sees("live")
	b.goTo("/")
	b.sees("Deliveries / s")
	b.inspect("walk-busy-overview")
}

// TestOneOfTwoIsKilled looks at one instance while the other goes: it is said, and the first takes over.
func TestOneOfTwoIsKilled(t *testing.T) {
	w := newWorld(t, token)
	other := w.another()
	w.put("acme", "orders")
	w.others.Store(&[]subscriptions.Instance{{Name: "test:2", URL: other.base}})
	b := newBrowser(t, w)
	b.signIn()
	b.sees("Other instances")
	b.sees("answers")
	b.sees("All is well")
	b.inspect("walk-two")
	for _, end := range other.endAll {
		end()
	}
	b.within(20*time.Second, "no answer")
	b.sees("What it does is in no figure.")
	b.inspect("walk-one-killed")
	for i := range 30 {
		w.open(fmt.Sprintf("after-%d", i), "acme")
	}
	w.until("the first takes over", func() bool { return len(w.delivered("after-")) == 30 })
	w.others.Store(&[]subscriptions.Instance{})
	b.within(20*time.Second, "All is well")
}

// delivered are the tracking ids that came, each once, of those that begin so.
func (w *world) delivered(prefix string) map[string]bool {
	w.recv.mu.Lock()
	defer w.recv.mu.Unlock()
	came := map[string]bool{}
	for _, one := range w.recv.got {
		if _, rest, ok := strings.Cut(one.body, `"trackingId":"`+prefix); ok {
			id, _, _ := strings.Cut(rest, `"`)
			came[id] = true
		}
	}
	return came
}

// became types into the box of every page, and presses Enter.
func (b *browser) became(id string) {
	b.t.Helper()
	b.do(chromedp.SendKeys(`input[type=search]`, id))
	if _, err := chromedp.RunResponse(b.ctx, chromedp.SendKeys(`input[type=search]`, "\r")); err != nil {
		b.t.Fatal(err)
	}
}
