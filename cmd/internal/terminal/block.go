package terminal

import (
	"fmt"
	"io"
	"strings"
	"sync"
)

// Block is a few lines at the bottom of a terminal that are drawn again and again in their place. Whatever else is written
// through it scrolls by above them. Its methods may be called from several goroutines.
//
// It asks for the terminal's size each time it draws, so it follows a terminal that is made narrower or wider.
type Block struct {
	mu    sync.Mutex // guards what follows
	out   io.Writer
	size  func() (width, height int)
	drawn []string // what is on the terminal now
}

// NewBlock returns a Block without lines. out must be a terminal.
func NewBlock(out io.Writer) *Block {
	return &Block{out: out, size: func() (int, int) { return size(out) }}
}

// Draw replaces the block's lines. The last ones are left out where the terminal is too low for all of them. A line may be
// painted (see Style), and should fit: a line that is too wide wraps.
func (b *Block) Draw(lines []string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.redraw("", lines)
}

// Write writes text, which must end with a line end, above the block.
func (b *Block) Write(text []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.redraw(string(text), b.drawn); err != nil {
		return 0, err
	}
	return len(text), nil
}

// Clear takes the block away.
func (b *Block) Clear() error { return b.Draw(nil) }

// redraw writes text in the block's place, and the lines below it: in one write, so that nothing flickers.
func (b *Block) redraw(text string, lines []string) error {
	width, height := b.size()
	lines = lines[:min(len(lines), max(0, height-1))] // the cursor stands on the line below them
	var out strings.Builder
	if up := rows(b.drawn, width); up > 0 {
		fmt.Fprintf(&out, "\x1b[%dA", up)
	}
	out.WriteString("\r")
	for line := range strings.Lines(text) {
		out.WriteString(wipe + line) // first: behind a line that is full, its last character would go
	}
	for _, line := range lines {
		out.WriteString(wipe + line + "\n")
	}
	out.WriteString(below)
	b.drawn = lines
	if _, err := io.WriteString(b.out, out.String()); err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	return nil
}

// rows is how many rows the lines take now. A terminal that was made narrower has broken those that no longer fit.
func rows(lines []string, width int) (n int) {
	for _, line := range lines {
		n += max(1, (Width(unpainted(line))+width-1)/width)
	}
	return n
}
