//go:build unix && !nodemo

package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/creack/pty"
	"github.com/hinshun/vt10x"
)

// glass is a terminal with a program in it: keys go in, and what stands on its screen can be read.
type glass struct {
	t      *testing.T
	screen vt10x.Terminal
	keys   *os.File
	cmd    *exec.Cmd

	mu  sync.Mutex // guards raw
	raw strings.Builder
}

// newGlass starts fanout in a terminal of that size.
func newGlass(t *testing.T, width, height int, env []string, args ...string) *glass {
	t.Helper()
	g := &glass{t: t, screen: vt10x.New(vt10x.WithSize(width, height))}
	g.cmd = exec.CommandContext(t.Context(), "fanout", args...)
	g.cmd.Env = append(append(withoutFanout(), "TERM=xterm", "NO_COLOR="), env...)
	var err error
	if g.keys, err = pty.StartWithSize(g.cmd, &pty.Winsize{Cols: uint16(width), Rows: uint16(height)}); err != nil {
		t.Fatal(err)
	}
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		buffer := make([]byte, 4096)
		for {
			n, err := g.keys.Read(buffer)
			g.mu.Lock()
			g.raw.Write(buffer[:n])
			_, _ = g.screen.Write(buffer[:n])
			g.mu.Unlock()
			if err != nil {
				return // the program has ended
			}
		}
	}()
	t.Cleanup(func() {
		_ = g.cmd.Process.Kill()
		_ = g.keys.Close()
		<-shown
	})
	return g
}

// resize makes the terminal another size. Like xterm, it cuts lines that are too long, and the program is told.
func (g *glass) resize(width, height int) {
	g.t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.screen.Resize(width, height)
	if err := pty.Setsize(g.keys, &pty.Winsize{Cols: uint16(width), Rows: uint16(height)}); err != nil {
		g.t.Fatal(err)
	}
}

func (g *glass) press(keys string) {
	g.t.Helper()
	if _, err := g.keys.WriteString(keys); err != nil {
		g.t.Fatal(err)
	}
}

// lines are those of the screen, without the empty ones at its end.
func (g *glass) lines() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	lines := strings.Split(g.screen.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// await waits until a line of the screen matches.
func (g *glass) await(pattern string) {
	g.t.Helper()
	re := regexp.MustCompile(pattern)
	until(g.t, func() (bool, string) {
		text := strings.Join(g.lines(), "\n")
		return re.MatchString(text), "want " + pattern + " on\n" + text
	})
}

// end is the exit status, once the program has ended.
func (g *glass) end() int {
	g.t.Helper()
	err := g.cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		g.t.Fatal(err)
	}
	return 0
}

// numbers are the block's, each on a line by itself that is there once.
func (g *glass) numbers(above string) {
	g.t.Helper()
	text := strings.Join(g.lines(), "\n")
	block := regexp.MustCompile(`(?m)` + above + `\nsent +\d+  200/s\ndelivered +\d+\nretried +\d+\nwaiting +\d+(  \d parked)?\ndead +\d+$`)
	if !block.MatchString(text) || strings.Count(text, "delivered") != 1 {
		g.t.Errorf("want the block once, and nothing torn:\n%s", text)
	}
}

// The demo fits 80 × 24, goes on when the terminal is made narrower, and wide again; Ctrl-C is answered.
func TestDemoOnATerminal(t *testing.T) {
	t.Parallel()
	g := newGlass(t, 80, 24, []string{"TMPDIR=" + t.TempDir()}, "demo")
	g.await(`(?m)^delivered +[1-9]`)
	g.await(`(?m)^retried +[1-9]`)
	text := strings.Join(g.lines(), "\n")
	for _, want := range []string{"dashboard: http://127.0.0.1:", "Kafka:     127.0.0.1:", "Redis:     redis://127.0.0.1:", "  initech/legacy    dead: hangs up on every connection", "  export FANOUT_CONFIG=/"} {
		if strings.Count(text, want) != 1 {
			t.Errorf("want %q once on\n%s", want, text)
		}
	}
	const running = `^Running for \d+s; Ctrl-C stops it\.`
	g.numbers(running)
	for _, width := range []int{40, 100, 41} {
		g.resize(width, 24)
		before := strings.Join(g.lines(), "\n")
		until(t, func() (bool, string) { return strings.Join(g.lines(), "\n") != before, before })
		g.numbers(running)
	}
	g.press("\x03")
	g.await(`Ctrl-C again ends the demo at once\.`)
	g.numbers(`^Stopping: no more events are sent\.\nThe last deliveries have \d+ s to end\.\nCtrl-C again ends the demo at once\.`)
	if code := g.end(); code != 0 {
		t.Errorf("exit %d, want 0", code)
	}
	g.await(`(?m)^lost +0 `)
	text = strings.Join(g.lines(), "\n")
	if strings.Contains(text, "Stopping") || strings.Count(text, "delivered ") < 1 || !strings.Contains(strings.Join(strings.Fields(text), " "), "nothing lost") {
		t.Errorf("want the account in the block's place:\n%s", text)
	}
}

// At 40 cells nothing that is written runs over the edge but what is to be copied whole, and a second Ctrl-C ends it.
func TestDemoOnANarrowTerminal(t *testing.T) {
	t.Parallel()
	g := newGlass(t, 40, 30, []string{"TMPDIR=" + t.TempDir()}, "demo")
	g.await(`(?m)^dead +[1-9]`)
	g.numbers(`^Running for \d+s; Ctrl-C stops it\.`)
	g.press("\x03")
	g.await(`Ctrl-C again ends the demo at once\.`)
	g.press("\x03")
	if code := g.end(); code != 130 {
		t.Errorf("exit %d, want 130", code)
	}
	g.await(`(?m)^lost +0 `)
	g.mu.Lock()
	defer g.mu.Unlock()
	for line := range strings.Lines(plainText(g.raw.String())) {
		line = strings.TrimRight(line, "\r\n")
		if len([]rune(line)) > 40 && !strings.Contains(line, "export FANOUT_CONFIG=") && !strings.Contains(line, "config:") {
			t.Errorf("%d cells are wide: %s", len([]rune(line)), line)
		}
	}
}

// plainText is what a terminal was sent, without control sequences.
func plainText(text string) string {
	return regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]").ReplaceAllString(text, "")
}

// Colours are for terminals, and for those who want them.
func TestDemoColours(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		env  string
		want bool
	}{{"TERM=xterm", true}, {"NO_COLOR=1", false}, {"TERM=dumb", false}} {
		g := newGlass(t, 80, 24, []string{c.env, "TMPDIR=" + t.TempDir()}, "demo", "--for", "300ms")
		code := g.end()
		g.await(`nothing lost`)
		g.mu.Lock()
		raw := g.raw.String()
		g.mu.Unlock()
		if got := strings.Contains(raw, "\x1b[32m"); code != 0 || got != c.want {
			t.Errorf("%s: exit %d, coloured: %v, want %v\n%q", c.env, code, got, c.want, raw)
		}
		if c.env == "TERM=dumb" && strings.Contains(raw, "\x1b") {
			t.Errorf("a dumb terminal was sent control sequences: %q", raw)
		}
	}
}

// The configuration is a file of its own in the temporary folder, for its owner only, and is gone at the end.
func TestDemoFileIsInTheTemporaryFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	g := newGlass(t, 200, 40, []string{"TMPDIR=" + dir}, "demo", "--for", "1s")
	g.await(`export FANOUT_CONFIG=` + regexp.QuoteMeta(dir) + `/fanout-demo-\d+\.yaml`)
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	if info, err := os.Stat(files[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v; want mode 0600", info.Mode(), err)
	}
	if code := g.end(); code != 0 {
		t.Errorf("exit %d", code)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "*")); len(files) > 0 {
		t.Errorf("%v are still there", files)
	}
}
