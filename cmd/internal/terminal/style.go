package terminal

import (
	"io"
	"regexp"
)

// Style is how text looks on a terminal that shows colours. The zero Style is plain.
type Style string

// The styles that are used. The terminal's own palette decides what a colour looks like.
const (
	Plain  Style = ""
	Bold   Style = "1"
	Red    Style = "31"
	Green  Style = "32"
	Yellow Style = "33"
)

// Paint returns the text in this style.
func (s Style) Paint(text string) string {
	if s == Plain || text == "" {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

// Colours says whether text to w may be painted: w is a terminal that can show colours, and NO_COLOR is not set. variable
// looks an environment variable up.
func Colours(w io.Writer, variable func(name string) string) bool {
	return Is(w) && variable("NO_COLOR") == "" && variable("TERM") != "dumb"
}

var painted = regexp.MustCompile("\x1b\\[[0-9;]*m")

// unpainted is the text alone.
func unpainted(text string) string { return painted.ReplaceAllString(text, "") }
