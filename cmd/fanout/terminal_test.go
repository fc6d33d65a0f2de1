//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"fanout/cmd/internal/terminal"
)

// console is fanout on a terminal of its own.
type console struct {
	tty *os.File
	cmd *exec.Cmd

	mu   sync.Mutex // guards seen
	seen bytes.Buffer
	end  chan struct{} // closed when all has been seen
}

func (w *world) onTerminal(t *testing.T, rows, columns uint16, args ...string) *console {
	t.Helper()
	c := &console{end: make(chan struct{})}
	c.cmd = exec.CommandContext(t.Context(), os.Args[0], args...)
	c.cmd.Env = append(append(os.Environ(), w.env...), asProgram+"=1", "TERM=xterm")
	var err error
	if c.tty, err = pty.StartWithSize(c.cmd, &pty.Winsize{Rows: rows, Cols: columns}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.tty.Close() })
	go func() {
		defer close(c.end)
		buffer := make([]byte, 4096)
		for {
			n, err := c.tty.Read(buffer)
			c.mu.Lock()
			c.seen.Write(buffer[:n])
			c.mu.Unlock()
			if err != nil { // the program has ended
				return
			}
		}
	}()
	return c
}

func (c *console) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen.String()
}

// escapes are what moves the cursor, or clears.
var escapes = regexp.MustCompile("\x1b\\[[?0-9;]*[A-Za-z]")

// page is what the screen shows last, in lines.
func (c *console) page() []string {
	text := c.text()
	at := strings.LastIndex(text, "\x1b[H")
	if at < 0 {
		return nil
	}
	return strings.Split(escapes.ReplaceAllString(text[at:], ""), "\r\n")
}

// shows waits until the page is so.
func (c *console) shows(t *testing.T, what string, ok func(page []string) bool) []string {
	t.Helper()
	var page []string
	until(t, func() (bool, string) {
		page = c.page()
		return len(page) > 0 && ok(page), "want " + what + "\n" + strings.Join(page, "\n")
	})
	return page
}

func (c *console) press(t *testing.T, keys string) {
	t.Helper()
	if _, err := c.tty.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

func (c *console) resize(t *testing.T, rows, columns uint16) {
	t.Helper()
	if err := pty.Setsize(c.tty, &pty.Winsize{Rows: rows, Cols: columns}); err != nil {
		t.Fatal(err)
	}
}

// exit waits for the program's end, and returns its status.
func (c *console) exit(t *testing.T) int {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- c.cmd.Wait() }()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatalf("it does not end; at last it shows\n%s", strings.Join(c.page(), "\n"))
	}
	<-c.end
	return c.cmd.ProcessState.ExitCode()
}

// fits says whether each line fits, and the page does.
func fits(t *testing.T, page []string, rows, columns int) {
	t.Helper()
	if len(page) > rows {
		t.Errorf("%d lines on a screen of %d", len(page), rows)
	}
	for _, line := range page {
		if terminal.Width(line) > columns {
			t.Errorf("%d cells in a line of %d: %s", terminal.Width(line), columns, line)
		}
	}
}

// manyLanes is an instance with 40 lanes, some of which have long ids, or ids of wide characters.
func manyLanes(t *testing.T) string {
	t.Helper()
	var lanes []map[string]any
	for n := range 40 {
		lane := map[string]any{"account": fmt.Sprintf("acme-%02d", n), "subscription": "crm", "state": "open", "inFlight": 40 - n, "limit": 64, "pace": 1.5}
		switch n {
		case 3:
			lane["account"] = strings.Repeat("very-long-", 12) + "account"
		case 5:
			lane["account"], lane["subscription"] = "顧客-一二三四五六七", "👍🏽"
		case 7:
			lane["state"], lane["failures"], lane["until"] = "parked", 12, time.Now().Add(time.Hour)
			lane["why"] = "parked: 12 failures in a row since 2026-11-28T21:33:02Z, last: status 503"
		}
		lanes = append(lanes, lane)
	}
	answer, err := json.Marshal(map[string]any{"lanes": lanes})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(answer) }))
	t.Cleanup(s.Close)
	return s.URL
}

// top fits whatever size the terminal has or gets, sorts by key, and q ends it.
func TestTopOnATerminal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "channel.email")
	c := w.onTerminal(t, 24, 80, "top", "--tiers=false", "--interval", "100ms", "--admin", manyLanes(t))
	lastLine := func(page []string) string { return page[len(page)-1] }
	page := c.shows(t, "24 lines with the keys on the last one", func(page []string) bool {
		return len(page) == 24 && strings.Contains(lastLine(page), "q:quit") && strings.Contains(lastLine(page), "[l:load]")
	})
	fits(t, page, 24, 80)
	text := strings.Join(page, "\n")
	for _, want := range []string{"in flight 820", "acme-00", "parked", "until ", "and ", "顧客"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not on the page:\n%s", want, text)
		}
	}
	c.press(t, "n")
	c.shows(t, "sorted by name", func(page []string) bool { return strings.Contains(lastLine(page), "[n:name]") && len(page) == 24 })
	c.resize(t, 12, 130)
	fits(t, c.shows(t, "12 lines", func(page []string) bool { return len(page) == 12 }), 12, 130)
	c.resize(t, 30, 40)
	fits(t, c.shows(t, "30 lines", func(page []string) bool { return len(page) == 30 }), 30, 40)
	c.resize(t, 5, 20)
	fits(t, c.shows(t, "5 lines", func(page []string) bool { return len(page) == 5 }), 5, 20)
	c.press(t, "\x1b[A") // an arrow is not a key
	c.press(t, "q")
	if code := c.exit(t); code != 0 {
		t.Errorf("exit %d", code)
	}
	if out := c.text(); !strings.HasPrefix(out, "\x1b[?1049h") || !strings.HasSuffix(out, "\x1b[?25h\x1b[?1049l") {
		t.Errorf("the terminal is not given back: it begins with %q and ends with %q", out[:20], out[len(out)-20:])
	}
}

// Ctrl-C ends top as q does, and so does a signal.
func TestTopEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "channel.email")
	for name, end := range map[string]func(*console){
		"Ctrl-C":  func(c *console) { c.press(t, "\x03") },
		"SIGTERM": func(c *console) { _ = c.cmd.Process.Signal(syscall.SIGTERM) },
	} {
		c := w.onTerminal(t, 24, 80, "top", "--tiers=false", "--admin", manyLanes(t))
		c.shows(t, "the keys", func(page []string) bool { return strings.Contains(page[len(page)-1], "q:quit") })
		end(c)
		if code := c.exit(t); code != 0 || !strings.HasSuffix(c.text(), "\x1b[?25h\x1b[?1049l") {
			t.Errorf("%s: exit %d", name, code)
		}
	}
}

// A table fits the terminal; what does not fit is named.
func TestTablesOnATerminal(t *testing.T) {
	t.Parallel()
	b := newBuried(t)
	for _, columns := range []int{60, 80, 200} {
		c := b.onTerminal(t, 24, uint16(columns), "deadletter", "list")
		if code := c.exit(t); code != 0 {
			t.Errorf("exit %d\n%s", code, c.text())
		}
		_, table, _ := strings.Cut(c.text(), "POSITION") // behind the progress bar
		lines := strings.Split(strings.TrimRight("POSITION"+escapes.ReplaceAllString(table, ""), "\r\n"), "\r\n")
		fits(t, lines, 24, columns)
		if text := strings.Join(lines, "\n"); !strings.Contains(text, "ORIGIN") || !strings.Contains(text, "/") ||
			strings.Contains(text, "not shown for want of width: ") != (columns < 200) {
			t.Errorf("%d columns:\n%s", columns, text)
		}
	}
}

// Accepting a loss asks for the number of what is left: neither a reflex nor another number is an answer.
func TestAcceptAsksForTheNumber(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 3 {
		w.redis.HSet("fanout:account:acme", fmt.Sprintf("hook-%d", i), `{"url":"http://127.0.0.1:9/","events":["*"]}`)
	}
	for answer, code := range map[string]int{"y\n": 1, "4\n": 1, "3\n": 0} {
		c := w.onTerminal(t, 24, 100, "subscriptions", "accept")
		until(t, func() (bool, string) { return strings.Contains(c.text(), "Type 3 to accept"), c.text() })
		c.press(t, answer)
		if got := c.exit(t); got != code || strings.Contains(c.text(), "accepted: 3 subscriptions") != (code == 0) {
			t.Errorf("%q: exit %d\n%s", answer, got, c.text())
		}
	}
}
