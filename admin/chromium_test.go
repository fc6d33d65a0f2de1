//go:build browser

package admin_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
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

	pages []loaded // of survey
	light bool     // survey leaves the dark colours out

	mu       sync.Mutex // guards all below
	trouble  []string
	expected []string // parts of what the console may say
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
	ctx, cancel = context.WithTimeout(ctx, 5*time.Minute)
	t.Cleanup(cancel)
	return watched(ctx, t, w)
}

// tab opens another tab of the same browser.
func (b *browser) tab() *browser {
	b.t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx)
	b.t.Cleanup(cancel)
	must(b.t, chromedp.Do(ctx))
	return watched(ctx, b.t, b.w)
}

// watched is the tab of ctx, with everything noted that a person should not see.
func watched(ctx context.Context, t *testing.T, w *world) *browser {
	t.Helper()
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
			if !slices.ContainsFunc(b.expected, func(part string) bool { return strings.Contains(what, part) }) {
				t.Errorf("the browser says: %s", what)
			}
		}
	})
	return b
}

// expects lets the console say so: a test that cuts the network off expects an error.
func (b *browser) expects(part string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expected = append(b.expected, part)
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
	says := chromedp.Poll[bool](fmt.Sprintf(`document.body.innerText.includes(%q)`, text), chromedp.WithPollingInterval(50*time.Millisecond))
	_, err := chromedp.Run(ctx, says)
	for err != nil && ctx.Err() == nil && strings.Contains(err.Error(), "context") { // another page was just loaded
		_, err = chromedp.Run(ctx, says)
	}
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

// size is a window, in CSS pixels.
type size struct {
	name          string
	width, height int64
}

func sizes() []size {
	return []size{{"phone", 390, 844}, {"tablet", 768, 1024}, {"wide", 1440, 900}}
}

// look sees the page in a window and a colour scheme.
func (b *browser) look(s size, scheme string) {
	b.t.Helper()
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: s.width, Height: s.height, DeviceScaleFactor: 1, Mobile: s.name == "phone"})
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}})
}

// lookAway goes back to the window as it is.
func (b *browser) lookAway() {
	b.t.Helper()
	call(b, emulation.ClearDeviceMetricsOverride, cdp.Empty{})
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{})
}

// pictures takes the page in each window, light and dark, and inspects it in each.
func (b *browser) pictures(name string) {
	b.t.Helper()
	for _, s := range sizes() {
		for _, scheme := range []string{"light", "dark"} {
			b.look(s, scheme)
			b.picture(name + "-" + s.name + "-" + scheme)
			b.axe(name+" "+s.name+" "+scheme, scheme == "dark")
		}
		b.fits(name, s)
	}
	b.lookAway()
}

// inspect does the same with two pictures only, and without axe in the window between the others.
func (b *browser) inspect(name string) {
	b.t.Helper()
	for _, s := range sizes() {
		b.look(s, "light")
		b.fits(name, s)
		if s.name == "tablet" {
			continue
		}
		b.axe(name+" "+s.name+" light", false)
		b.picture(name + "-" + s.name)
		b.look(s, "dark")
		b.axe(name+" "+s.name+" dark", true)
	}
	b.lookAway()
}

// glance checks that the page fits each window, lets axe look at it once, and takes one picture.
func (b *browser) glance(name string) {
	b.t.Helper()
	for _, s := range sizes() {
		b.look(s, "light")
		b.fits(name, s)
	}
	b.axe(name, false)
	b.picture(name)
	b.lookAway()
}

// loaded is what a page has cost.
type loaded struct {
	name         string
	paint, bytes float64 // ms until its first paint; bytes of its HTML, as they came
	shift        float64 // of its layout, after that
}

// watchShifts counts how much the pages that are loaded from now on move by themselves.
func (b *browser) watchShifts() {
	b.t.Helper()
	call(b, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: `window.shifts = []; new PerformanceObserver((list) => {
		for (const e of list.getEntries()) if (!e.hadRecentInput) window.shifts.push([e.value, e.sources.map(s => s.node && (s.node.id || s.node.className || s.node.nodeName)).join(" ")]);
	}).observe({ type: "layout-shift", buffered: true })`})
}

// survey loads a page on a phone, and checks that it does not move by itself, fits every window, and can be used by everybody,
// in light and in dark colours.
func (b *browser) survey(name, path string) {
	b.t.Helper()
	b.look(sizes()[0], "light")
	b.goTo(path)
	if b.text(`String(Boolean(document.getElementById("dot")))`) == "true" {
		b.w.until("the first renewal of "+name, func() bool { return b.text(`String(document.getElementById("dot").hidden)`) == "false" })
	}
	var one loaded
	_, err := fmt.Sscan(b.text(`(() => { const n = performance.getEntriesByType("navigation")[0], p = performance.getEntriesByName("first-contentful-paint")[0];
		return [p ? p.startTime - n.responseStart : 0, n.encodedBodySize, window.shifts.reduce((sum, s) => sum + s[0], 0)].join(" "); })()`), &one.paint, &one.bytes, &one.shift)
	must(b.t, err)
	if one.shift > 0.01 {
		b.t.Errorf("%s moves by itself: %s", name, b.text(`JSON.stringify(window.shifts)`))
	}
	one.name = name
	b.pages = append(b.pages, one)
	b.fits(name, sizes()[0])
	b.axe(name, false)
	b.picture(name + "-phone")
	for _, s := range sizes()[1:] {
		b.look(s, "light")
		b.fits(name, s)
	}
	b.picture(name + "-wide")
	if b.light {
		return
	}
	b.look(sizes()[2], "dark")
	b.axe(name+" dark", true)
}

// fits checks that nothing has to be scrolled sideways, neither the page nor a box on it; code keeps its lines.
func (b *browser) fits(name string, s size) {
	b.t.Helper()
	wide := b.text(`[...document.querySelectorAll("*")].filter(e =>
		e.scrollWidth > e.clientWidth + 1 && (e === document.documentElement || ["auto", "scroll"].includes(getComputedStyle(e).overflowX)) && !e.matches("pre, input, textarea"))
		.map(e => e.tagName + "." + e.className + " " + e.scrollWidth + " in " + e.clientWidth).join("; ")`)
	if wide != "" {
		b.t.Errorf("%s, %d px: has to be scrolled sideways: %s", name, s.width, wide)
	}
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

// axe finds what people with disabilities cannot use. With coloursOnly it looks at the contrast alone: the same page in
// other colours has the same markup.
func (b *browser) axe(where string, coloursOnly bool) {
	b.t.Helper()
	source, err := axeSource()
	must(b.t, err)
	if b.text(`typeof axe`) == "undefined" {
		b.do(chromedp.Evaluate[chromedp.Void](source + "; null"))
	}
	options := "{}"
	if coloursOnly {
		options = `{runOnly: {type: "rule", values: ["color-contrast"]}}`
	}
	found := b.text(`axe.run(document, ` + options + `).then(r => JSON.stringify(r.violations.map(v => ({id: v.id, help: v.help, nodes: v.nodes.map(n => n.html.slice(0, 200) + ' ' + n.failureSummary).slice(0, 3)}))))`)
	var violations []json.RawMessage
	must(b.t, json.Unmarshal([]byte(found), &violations))
	for _, v := range violations {
		b.t.Errorf("axe, %s: %s", where, v)
	}
}

// asksBeforeLeaving says whether the page keeps a person from leaving it unasked.
func (b *browser) asksBeforeLeaving() bool {
	b.t.Helper()
	return b.text(`(() => { const e = new Event("beforeunload", { cancelable: true }); dispatchEvent(e); return String(e.defaultPrevented); })()`) == "true"
}

// gone waits until the page no longer says so.
func (b *browser) gone(text string) {
	b.t.Helper()
	b.w.until("no "+text, func() bool {
		return b.text(fmt.Sprintf(`String(document.body.innerText.includes(%q))`, text)) == "false"
	})
}

// hovers puts the pointer at the newest column of a chart, and sees what it tells.
func (b *browser) hovers(area, text string) {
	b.t.Helper()
	at := b.text(fmt.Sprintf(`(() => { const e = document.querySelector(%q); e.scrollIntoView({block: "center"}); const r = e.getBoundingClientRect(); return (r.right - 2) + " " + (r.top + r.height / 2); })()`, area))
	var x, y float64
	_, err := fmt.Sscan(at, &x, &y)
	must(b.t, err)
	call(b, input.DispatchMouseEvent, input.DispatchMouseEventParams{Type: input.DispatchMouseEventTypeMouseMoved, X: x, Y: y})
	b.sees(text)
}
