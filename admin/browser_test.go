//go:build browser

package admin_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// TestWalk is a person's: configure, receive, change, try, delete.
func TestWalk(t *testing.T) {
	w := newWorld(t, "")
	b := newBrowser(t, w)
	b.goTo("/")
	b.sees("Overview")
	b.submit(link("Settings"))
	b.sees("Type an account")
	b.pictures("settings-empty")
	b.do(chromedp.SendKeys(label("Account"), "acme"))
	if _, err := chromedp.RunResponse(b.ctx, chromedp.SendKeys(label("Account"), "\r")); err != nil {
		t.Fatal(err)
	}
	if got := b.text(`String(document.querySelectorAll("input[name=event]:checked").length)`); got != "0" {
		t.Errorf("%s events are ticked for a new webhook, want none", got)
	}
	if got := b.text(`document.activeElement.id + " " + document.title`); got != "url Events Webhook of acme · fanout" {
		t.Errorf("the focus and the title are %s", got)
	}
	// "all" of a channel, and of all.
	b.click(`//*[@aria-label="EMAIL"]//button`)
	ticked := func() string { return b.text(`String(document.querySelectorAll("input[name=event]:checked").length)`) }
	if got := ticked(); got != "3" {
		t.Errorf("all of EMAIL ticks %s", got)
	}
	b.sees("Not saved yet")
	b.click(`.choose button`)
	if got := ticked(); got != "8" {
		t.Errorf("all ticks %s", got)
	}
	b.click(`.choose button`)
	b.gone("Not saved yet")
	// A mistake is said where it was made.
	b.fill("Webhook URL", "ftp://nowhere")
	b.submit(button("Save Configuration"))
	b.sees("Nothing was saved")
	b.pictures("settings-problem")
	// What was typed is not lost by a slip: leaving asks first. Save stays within reach.
	if !b.asksBeforeLeaving() {
		t.Error("what was typed is lost without a question")
	}
	b.look(sizes()[0], "light")
	if got := b.text(`(() => { scrollTo(0, 0); const r = document.querySelector(".save .primary").getBoundingClientRect(); return String(r.top > 0 && r.bottom <= innerHeight); })()`); got != "true" {
		t.Error("Save cannot be reached on a phone without scrolling")
	}
	b.lookAway()

	b.fill("Webhook URL", w.recv.URL+"/hook")
	b.click(`#e-EMAIL_OPEN`)
	b.click(`#e-SMS_FAILED`)
	b.submit(button("Save Configuration"))
	b.sees("Saved.")
	if got := b.text(`location.search`); got != "?account=acme&id=webhook-1" {
		t.Errorf("after saving the address says %s", got)
	}
	secret := b.text(`document.getElementById("secret").value`)
	if !strings.HasPrefix(secret, "whsec_") {
		t.Errorf("the secret shown is %q", secret)
	}
	b.pictures("settings-saved")
	stored := w.redis.HGet("fanout:account:acme", "webhook-1")
	if !strings.Contains(stored, "EMAIL_OPEN") || !strings.Contains(stored, "SMS_FAILED") || !strings.Contains(stored, secret) {
		t.Errorf("Redis holds %s", stored)
	}
	w.open("t-1", "acme")
	w.until("the event", func() bool { return w.recv.count("t-1") == 1 })

	if b.asksBeforeLeaving() {
		t.Error("what is saved is asked about")
	}
	b.goTo("/settings/events-webhook")
	b.do(chromedp.SendKeys(label("Account"), "ac"))
	w.until("a proposal", func() bool { return b.text(`String(document.querySelectorAll("#accounts option").length)`) == "1" })
	b.inspect("settings-accounts")
	b.goTo("/settings/events-webhook?account=acme")
	if html := b.text(`document.documentElement.outerHTML`); strings.Contains(html, secret) {
		t.Error("the page shows the secret again")
	}
	w.recv.answers(200, "thank you")
	b.click(button("Send test event"))
	b.sees("thank you")
	b.pictures("settings-tested")
	b.click(`#e-EMAIL_OPEN`) // off
	b.submit(button("Save Configuration"))
	b.sees("Saved.")
	w.open("t-2", "acme")
	w.send("channel.sms", "acme", "SMS", "FAILED", "t-3")
	w.until("the event still selected", func() bool { return w.recv.count("t-3") == 1 })
	b.submit(button("Rotate the secret"))
	b.sees("The other secrets sign as well")
	b.pictures("settings-rotated")
	b.do(chromedp.Reload())
	b.sees("signs until you rotate it")
	if got := len(w.stored("webhook-1").Secrets); got != 2 {
		t.Errorf("a reload has rotated again: %d secrets", got)
	}
	b.submit(`//button[starts-with(normalize-space(.), "Remove now")]`)
	b.sees("A receiver that verifies with it alone refuses all of them")
	b.submit(button("Yes, remove the secret"))
	b.sees("no longer signed with that secret")
	b.submit(button("Delete"))
	b.sees("Nothing is sent to it any more")
	if !strings.Contains(b.text(`document.activeElement.textContent`), "Yes, delete it") {
		t.Error("the answer does not have the focus")
	}
	b.pictures("settings-question")
	b.submit(button("Yes, delete it"))
	b.sees("webhook-1 is deleted")
	w.send("channel.sms", "acme", "SMS", "FAILED", "t-4")
	b.submit(button("Undo"))
	b.sees("webhook-1 is back")
	w.send("channel.sms", "acme", "SMS", "FAILED", "t-5")
	w.until("an event after undo", func() bool { return w.recv.count("t-5") == 1 })
	if w.recv.count("t-2")+w.recv.count("t-4") != 0 {
		t.Error("an event came that was deselected, or whose webhook was deleted")
	}
}

// TestBreakage is an endpoint that breaks, is seen to, is mended, and gets what it missed.
func TestBreakage(t *testing.T) {
	w := newWorld(t, "")
	b := newBrowser(t, w)
	w.put("acme", "orders")
	w.put("globex", "crm")
	for i := range 20 {
		w.open(fmt.Sprintf("good-%d", i), "acme")
	}
	w.until("deliveries", func() bool { return w.recv.count("good-") == 20 })
	b.goTo("/")
	b.sees("None. Every webhook accepts what it gets.")
	w.recv.answers(503, "database <script>alert(1)</script> is down")
	for i := range 30 {
		w.open(fmt.Sprintf("bad-%d", i), "acme")
	}
	seen := b.within(4*time.Second, "acme / orders")
	t.Logf("the broken endpoint was on the dashboard %s after its first event", seen.Round(time.Millisecond))
	if seen > 2*time.Second {
		t.Errorf("it took %s, want at most 2 s", seen)
	}
	b.sees("attempts_exhausted")
	b.pictures("overview")
	b.goTo("/endpoints")
	b.sees("acme / orders")
	b.pictures("endpoints")
	b.submit(link("acme / orders"))
	b.sees("Recent attempts")
	b.click(`.attempts summary`)
	b.sees("database <script>alert(1)</script> is down")
	b.pictures("endpoint")
	b.hovers("#day-volume .area", "dead 30")
	b.picture("endpoint-tooltip")
	b.click(`#day-volume summary`)
	b.inspect("endpoint-figures")
	b.click(`#day-volume summary`)
	b.submit(button("Release now"))
	b.sees("It is released on every instance.")
	b.click(`.acts summary`)
	b.submit(button("Send test event"))
	b.sees("HTTP 503")
	b.inspect("endpoint-tested")
	b.submit(button("Pause"))
	b.sees("it is paused in its settings")
	b.inspect("endpoint-paused")
	b.submit(button("Resume"))
	b.sees("It is resumed.")
	b.click(`//summary[.="Backfill since …"]`)
	b.inspect("endpoint-acts")
	b.submit(button("Backfill…"))
	b.sees("would be sent")
	b.pictures("backfill-plan")
	b.submit(button("Begin the backfill"))
	b.sees("done")
	b.inspect("backfill")
	b.submit(`//nav[@aria-label="Webhook"]//a[.="Deliveries"]`)
	b.sees("HTTP 503")
	b.inspect("endpoint-deliveries")

	w.until("thirty dead letters", func() bool { return w.want(200, "GET", "/api/v1/dead-letters", "").json(t)["matched"] == 30.0 })
	before := w.recv.count("bad-")
	w.recv.answers(204, "")
	b.submit(`//nav[@aria-label="Main"]//a[.="Dead letters"]`)
	b.sees("30 shown of 30")
	b.pictures("dead-letters")
	b.submit(`//a[starts-with(@aria-label, "Inspect")]`)
	b.sees("webhook-id")
	b.pictures("dead-letter")
	b.goTo("/dead-letters?account=acme&reason=attempts_exhausted")
	b.submit(`//button[@value="all"]`)
	b.sees("30 would be sent")
	b.pictures("replay-plan")
	b.fill("Rate", "20")
	b.submit(button("Start the replay"))
	b.sees("of 30 sent")
	b.pictures("replay")
	b.sees("done")
	w.until("what was missed", func() bool { return w.recv.count("bad-") == before+30 })
	b.goTo("/endpoints/show?account=acme&id=orders")
	b.sees("delivered")
}

func TestSignInInTheBrowser(t *testing.T) {
	w := newWorld(t, "s3cret-token")
	b := newBrowser(t, w)
	b.goTo("/settings/events-webhook?account=acme")
	b.sees("Sign in")
	b.pictures("sign-in")
	b.fill("Token", "s3cret-token")
	b.submit(button("Sign in"))
	b.sees("The first webhook of acme")
	b.submit(button("Create a portal link"))
	b.sees("It is shown only this once")
	portal, err := url.Parse(b.text(`document.getElementById("link").value`))
	must(t, err)
	b.pictures("settings-portal-link")
	b.submit(button("Sign out"))
	b.sees("Sign in")
	b.goTo(portal.Path)
	b.sees("The first webhook of acme")
	b.fill("Webhook URL", w.recv.URL+"/hook")
	b.click(`#e-EMAIL_OPEN`)
	b.submit(button("Save Configuration"))
	b.sees("Saved.")
	b.pictures("portal-settings")
	w.recv.answers(410, "")
	w.open("t-1", "acme")
	w.until("a dead letter", func() bool { return w.want(200, "GET", "/api/v1/dead-letters", "").json(t)["matched"] == 1.0 })
	b.submit(link("Endpoints"))
	b.sees("webhook-1")
	b.pictures("portal-endpoints")
	b.submit(link("Dead letters"))
	b.sees("1 shown of 1")
	b.pictures("portal-dead-letters")
}
