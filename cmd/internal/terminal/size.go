package terminal

import (
	"io"
	"strconv"

	"golang.org/x/term"
)

// Is says whether a person sees what is written to w, or types what is read from it.
func Is(w any) bool {
	file, ok := w.(interface{ Fd() uintptr })
	return ok && term.IsTerminal(int(file.Fd()))
}

// defaultWidth and defaultHeight are those of a terminal that does not say its size.
const defaultWidth, defaultHeight = 80, 24

// Limit is how wide a line to w may be, in cells; 0 means no limit. columns is the value of COLUMNS: where it is a number
// above 0, it decides. Else a terminal's own width does, and what is not a terminal has no limit: a pipe or a file gets whole
// values.
func Limit(w io.Writer, columns string) int {
	if n, err := strconv.Atoi(columns); err == nil && n > 0 {
		return n
	}
	if !Is(w) {
		return 0
	}
	width, _ := size(w)
	return width
}

// size asks a terminal for its size.
func size(w any) (width, height int) {
	if file, ok := w.(interface{ Fd() uintptr }); ok {
		if width, height, err := term.GetSize(int(file.Fd())); err == nil && width > 0 && height > 0 {
			return width, height
		}
	}
	return defaultWidth, defaultHeight
}
