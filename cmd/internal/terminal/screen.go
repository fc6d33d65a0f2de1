package terminal

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// Screen is a terminal that shows one page at a time, drawn again in its place, and whose keys are read one by one. What
// was on the terminal before comes back when it is closed.
//
// While it is open, Ctrl-C is a key (Interrupt) and no signal, where keys can be read.
type Screen struct {
	out     *os.File
	in      *os.File // nil: no keys can be read
	before  *term.State
	keys    chan byte
	resized chan struct{}
	stop    func() // listening for another size
}

// Interrupt is the key Ctrl-C.
const Interrupt = 0x03

const (
	enter = "\x1b[?1049h\x1b[?25l" // the alternate screen, without a cursor
	leave = "\x1b[?25h\x1b[?1049l"
	home  = "\x1b[H"
	wipe  = "\x1b[K" // the line, from the cursor on
	below = "\x1b[J" // the screen, from the cursor on
)

// Open takes the terminal over. in is read for keys if it is a terminal too. Close it.
func Open(in io.Reader, out *os.File) (*Screen, error) {
	s := &Screen{out: out, resized: make(chan struct{}, 1)}
	if file, ok := in.(*os.File); ok && Is(file) {
		before, err := term.MakeRaw(int(file.Fd()))
		if err != nil {
			return nil, fmt.Errorf("terminal: %w", err)
		}
		s.in, s.before, s.keys = file, before, make(chan byte, 16)
		go s.read()
	}
	s.stop = onResize(s.resized)
	if _, err := io.WriteString(out, enter); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("terminal: %w", err)
	}
	return s, nil
}

// read passes keys on. A terminal cannot be read with a deadline: it ends with the process, or with the next key.
func (s *Screen) read() {
	buffer := make([]byte, 16)
	var filter keyFilter
	for {
		n, err := s.in.Read(buffer)
		if err != nil {
			return
		}
		for _, key := range buffer[:n] {
			if !filter.passes(key) {
				continue
			}
			select {
			case s.keys <- key:
			default: // nobody listens any more
			}
		}
	}
}

// keyFilter takes out the sequences of arrows and the like: ESC, [ or O, then numbers, then a letter.
type keyFilter struct{ escaped, inside bool }

func (f *keyFilter) passes(key byte) bool {
	switch {
	case f.inside:
		f.inside = key < '@' // up to the letter
		return false
	case f.escaped:
		f.escaped = false
		f.inside = key == '[' || key == 'O'
		return !f.inside
	case key == '\x1b':
		f.escaped = true
		return false
	}
	return true
}

// Keys are the keys that are typed; it is never closed, and nil where none can be read.
func (s *Screen) Keys() <-chan byte { return s.keys }

// Resized says that the terminal has another size, where the system tells.
func (s *Screen) Resized() <-chan struct{} { return s.resized }

// Size is how many cells a line has, and how many lines there are.
func (s *Screen) Size() (width, height int) { return size(s.out) }

// Draw shows the page. Lines beyond the height are left out, and what is too wide is cut.
func (s *Screen) Draw(lines []string) error {
	width, height := s.Size()
	lines = lines[:min(len(lines), height)]
	var b strings.Builder
	b.WriteString(home)
	for i, line := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		if i < len(lines)-1 { // before the text: behind a line that is full, its last character would go
			b.WriteString(wipe)
		} else {
			b.WriteString(below)
		}
		b.WriteString(CutEnd(line, width))
	}
	if _, err := s.out.WriteString(b.String()); err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	return nil
}

// Close gives the terminal back.
func (s *Screen) Close() error {
	s.stop()
	_, err := s.out.WriteString(leave)
	if s.before != nil {
		if restoreErr := term.Restore(int(s.in.Fd()), s.before); err == nil {
			err = restoreErr
		}
	}
	if err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	return nil
}
