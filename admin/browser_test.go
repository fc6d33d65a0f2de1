//go:build browser

package admin_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// screenshots is where the pictures go; git ignores it.
const screenshots = "../.browser"

// browser is a tab of Debian's Chromium. What its console says, and every request to another host, fails the test.
type browser struct {
	t   *testing.T
	ctx context.Context //nolint:containedctx // it is chromedp's handle of the tab
	w   *world

	mu      sync.Mutex // guards trouble
	trouble []string
}

func newBrowser(t *testing.T, w *world) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	must(t, err)
	options := []chromedp.ExecAllocatorOption{chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1280, 900)}
	for _, flag := range []string{"headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking", "disable-component-update", "disable-sync", "hide-scrollbars"} {
		options = append(options, chromedp.Flag(flag, true))
	}
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	must(t, chromedp.Do(ctx)) // the browser lives as long as this context
	ctx, cancel = context.WithTimeout(ctx, 3*time.Minute)
	t.Cleanup(cancel)
	b := &browser{t: t, ctx: ctx, w: w}
	note := func(format string, args ...any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.trouble = append(b.trouble, fmt.Sprintf(format, args...))
	}
	must(t, chromedp.Listen(ctx, func(ev any) {
		switch ev := ev.(type) {
		case *runtime.EventConsoleAPICalled:
			note("console %s: %v", ev.Type, ev.Args)
		case *runtime.EventExceptionThrown:
			note("exception: %v", ev.ExceptionDetails)
		case *log.EventEntryAdded:
			note("log %s: %s %s", ev.Entry.Level, ev.Entry.Text, ev.Entry.URL)
		case *network.EventRequestWillBeSent:
			if !strings.HasPrefix(ev.Request.URL, w.base) && !strings.HasPrefix(ev.Request.URL, "data:") {
				note("request to another host: %s", ev.Request.URL)
			}
		case *page.EventJavascriptDialogOpening:
			note("dialog: %s", ev.Message)
		}
	}))
	call(b, network.Enable, network.EnableParams{})
	call(b, runtime.Enable, cdp.Empty{})
	call(b, log.Enable, cdp.Empty{})
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, what := range b.trouble {
			t.Errorf("the browser says: %s", what)
		}
	})
	return b
}

// call sends a command of the protocol.
func call[P, R any](b *browser, cmd cdp.Command[P, R], params P) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, cmd, params)
	must(b.t, err)
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.picture("failed-" + strings.ReplaceAll(b.t.Name(), "/", "-"))
		b.t.Fatal(err)
	}
}

func (b *browser) goTo(path string) { b.t.Helper(); b.do(chromedp.Navigate(b.w.base + path)) }

// label and button find things as a person does: by what is written there.
func label(text string) string {
	return fmt.Sprintf(`//*[@id=//label[starts-with(normalize-space(.), %q)]/@for]`, text)
}
func button(text string) string { return fmt.Sprintf(`//button[normalize-space(.)=%q]`, text) }
func link(text string) string   { return fmt.Sprintf(`//a[normalize-space(.)=%q]`, text) }

func (b *browser) fill(name, text string) {
	b.t.Helper()
	b.do(chromedp.SetValue(label(name), text))
}

func (b *browser) click(what string) {
	b.t.Helper()
	b.do(chromedp.Click(what))
}

// submit clicks what loads another page, and waits for it.
func (b *browser) submit(what string) {
	b.t.Helper()
	_, err := chromedp.RunResponse(b.ctx, chromedp.Click(what))
	if err != nil {
		b.picture("failed")
		b.t.Fatalf("%s: %v", what, err)
	}
}

// sees waits until the page says so.
func (b *browser) sees(text string) {
	b.t.Helper()
	b.within(10*time.Second, text)
}

func (b *browser) within(limit time.Duration, text string) time.Duration {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, limit)
	defer cancel()
	began := time.Now()
	_, err := chromedp.Run(ctx, chromedp.Poll[bool](fmt.Sprintf(`document.body.innerText.includes(%q)`, text), chromedp.WithPollingInterval(50*time.Millisecond)))
	if err != nil {
		b.picture("failed")
		b.t.Fatalf("the page does not say %q within %s: %v\n%s", text, limit, err, b.text(`document.body.innerText`))
	}
	return time.Since(began)
}

func (b *browser) text(js string) string {
	b.t.Helper()
	text, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](js, chromedp.EvalAwaitPromise))
	must(b.t, err)
	return text
}

// picture takes a screenshot of the whole page.
func (b *browser) picture(name string) {
	png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		b.t.Logf("screenshot: %v", err)
		return
	}
	must(b.t, os.MkdirAll(screenshots, 0o750))
	must(b.t, os.WriteFile(filepath.Join(screenshots, name+".png"), png, 0o600))
}

// pictures takes the page light and dark, wide and as a phone has it, and lets axe look at each.
func (b *browser) pictures(name string) {
	b.t.Helper()
	for _, size := range []struct {
		name          string
		width, height int64
	}{{"wide", 1280, 900}, {"phone", 390, 844}} {
		for _, scheme := range []string{"light", "dark"} {
			call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: size.width, Height: size.height, DeviceScaleFactor: 1, Mobile: size.name == "phone"})
			call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}})
			b.picture(name + "-" + size.name + "-" + scheme)
			b.axe(name + " " + size.name + " " + scheme)
			if got := b.text(`String(document.documentElement.scrollWidth)`); got != strconv.FormatInt(size.width, 10) {
				b.t.Errorf("%s: the page is %s px wide in a window of %d", name, got, size.width)
			}
		}
	}
	call(b, emulation.ClearDeviceMetricsOverride, cdp.Empty{})
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{})
}

// axeSource is the npm package's file, fetched by npm.
var axeSource = sync.OnceValues(func() (string, error) {
	dir, err := filepath.Abs(filepath.Join(screenshots, "axe"))
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "node_modules", "axe-core", "axe.min.js")
	if _, err := os.Stat(file); err != nil {
		if out, err := exec.Command("npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", dir, "axe-core@4.14.1").CombinedOutput(); err != nil {
			return "", fmt.Errorf("npm: %w: %s", err, out)
		}
	}
	source, err := os.ReadFile(file)
	return string(source), err
})

func (b *browser) axe(where string) {
	b.t.Helper()
	source, err := axeSource()
	must(b.t, err)
	b.do(chromedp.Evaluate[chromedp.Void](source + "; null"))
	found := b.text(`axe.run().then(r => JSON.stringify(r.violations.map(v => ({id: v.id, help: v.help, nodes: v.nodes.map(n => n.html.slice(0, 200) + ' ' + n.failureSummary).slice(0, 3)}))))`)
	var violations []json.RawMessage
	must(b.t, json.Unmarshal([]byte(found), &violations))
	for _, v := range violations {
		b.t.Errorf("axe, %s: %s", where, v)
	}
}

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
	// A mistake is said where it was made.
	b.fill("Webhook URL", "ftp://nowhere")
	b.submit(button("Save Configuration"))
	b.sees("It is not saved")
	b.pictures("settings-problem")

	b.fill("Webhook URL", w.recv.URL+"/hook")
	b.click(`#e-EMAIL_OPEN`)
	b.click(`#e-SMS_FAILED`)
	b.submit(button("Save Configuration"))
	b.sees("Saved.")
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
	b.sees("The old one does too")
	b.submit(button("End the rotation"))
	b.sees("only the newest secret signs")
	b.submit(button("Delete"))
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
	b.sees("None. Every endpoint takes what it gets.")
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

	w.until("thirty dead letters", func() bool { return w.want(200, "GET", "/api/v1/dead-letters", "").json(t)["matched"] == 30.0 })
	before := w.recv.count("bad-")
	w.recv.answers(204, "")
	b.submit(link("Dead letters"))
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
	b.sees("It is shown this once")
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
