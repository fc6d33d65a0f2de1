package terminal

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hinshun/vt10x"
)

// glass is a terminal without its process: what is written to it can be looked at.
type glass struct {
	vt10x.Terminal
	width, height int
}

func newGlass(width, height int) *glass {
	return &glass{vt10x.New(vt10x.WithSize(width, height)), width, height}
}

// Write does what a terminal's line discipline does: a line end moves the cursor to the first cell too.
func (g *glass) Write(text []byte) (int, error) {
	_, err := g.Terminal.Write(bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n")))
	return len(text), err
}

func (g *glass) resize(width, height int) {
	g.width, g.height = width, height
	g.Resize(width, height)
}

// text is what stands there, without empty lines at the end.
func (g *glass) text() string {
	lines := strings.Split(g.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n")
}

func (g *glass) block() *Block {
	return &Block{out: g, size: func() (int, int) { return g.width, g.height }}
}

func (g *glass) shows(t *testing.T, want string) {
	t.Helper()
	if diff := cmp.Diff(strings.TrimSpace(want), g.text()); diff != "" {
		t.Errorf("the terminal (-want +got):\n%s", diff)
	}
}

func (b *Block) must(t *testing.T, lines ...string) {
	t.Helper()
	if err := b.Draw(lines); err != nil {
		t.Fatal(err)
	}
}

func TestBlockIsDrawnInItsPlace(t *testing.T) {
	t.Parallel()
	g := newGlass(20, 8)
	b := g.block()
	_, _ = g.Write([]byte("a heading\n"))
	b.must(t, "one", Red.Paint("two"))
	b.must(t, "three", "four", "five")
	g.shows(t, "a heading\nthree\nfour\nfive")
	b.must(t, Green.Paint("six"))
	g.shows(t, "a heading\nsix")
	if _, err := b.Write([]byte("a log line\nand another\n")); err != nil {
		t.Fatal(err)
	}
	g.shows(t, "a heading\na log line\nand another\nsix")
	if err := b.Clear(); err != nil {
		t.Fatal(err)
	}
	_, _ = g.Write([]byte("the end\n"))
	g.shows(t, "a heading\na log line\nand another\nthe end")
}

// What somebody types while the block is shown, such as ^C, is gone with the next drawing.
func TestBlockErasesWhatIsTyped(t *testing.T) {
	t.Parallel()
	g := newGlass(20, 8)
	b := g.block()
	b.must(t, "one")
	_, _ = g.Write([]byte("^C"))
	b.must(t, "two")
	g.shows(t, "two")
}

// A terminal that breaks lines again when it is made narrower leaves nothing behind. (vt10x cuts them, as xterm does: the
// other kind is made here.)
func TestBlockOnANarrowerTerminal(t *testing.T) {
	t.Parallel()
	g := newGlass(40, 10)
	b := g.block()
	_, _ = g.Write([]byte("a heading\n"))
	b.must(t, strings.Repeat("x", 39), "short")
	broken := newGlass(20, 10)
	_, _ = broken.Write([]byte("a heading\n" + strings.Repeat("x", 20) + "\n" + strings.Repeat("x", 19) + "\nshort\n"))
	b.out, b.size = broken, func() (int, int) { return 20, 10 }
	b.must(t, "new", "lines")
	broken.shows(t, "a heading\nnew\nlines")
}

// A line that fits the narrower terminal too is drawn in its place on both kinds.
func TestBlockOnATerminalThatCuts(t *testing.T) {
	t.Parallel()
	g := newGlass(80, 10)
	b := g.block()
	_, _ = g.Write([]byte("a heading\n"))
	b.must(t, strings.Repeat("x", 39), "short")
	g.resize(40, 10)
	b.must(t, "new", "lines")
	g.resize(80, 5)
	b.must(t, "newer", "lines")
	g.shows(t, "a heading\nnewer\nlines")
}

// On a terminal that is too low, the last lines are left out: never is a line drawn twice.
func TestBlockOnALowTerminal(t *testing.T) {
	t.Parallel()
	g := newGlass(20, 3)
	b := g.block()
	for range 5 {
		b.must(t, "one", "two", "three", "four")
	}
	g.shows(t, "one\ntwo")
	g.resize(20, 1)
	b.must(t, "one", "two")
}

func TestPaint(t *testing.T) {
	t.Parallel()
	if text := Red.Paint("dead") + Plain.Paint("plain") + Bold.Paint(""); text != "\x1b[31mdead\x1b[0mplain" || unpainted(text) != "deadplain" {
		t.Errorf("%q", text)
	}
	if Colours(&bytes.Buffer{}, func(string) string { return "" }) {
		t.Error("a buffer has no colours")
	}
}
