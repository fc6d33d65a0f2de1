package terminal

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/clipperhouse/displaywidth"
)

// Visible returns text on one line, with nothing in it that acts on a terminal or hides: a tab is shown as ␉, a line end
// as ␊, an escape as ␛, another invisible character as its code (<U+202E>), a byte that is no UTF-8 as �. Everything else
// stays as it is, quotes and backslashes too.
func Visible(text string) string {
	if plain(text) {
		return text
	}
	var b strings.Builder
	for at, r := range text {
		switch {
		case r == utf8.RuneError, strconv.IsPrint(r), joins(text, at, r):
			b.WriteRune(r) // a byte that is no UTF-8 comes as RuneError, and is written as U+FFFD
		case r < ' ':
			b.WriteRune('␀' + r)
		case r == 0x7f:
			b.WriteRune('␡')
		default:
			fmt.Fprintf(&b, "<U+%04X>", r)
		}
	}
	return b.String()
}

// VisibleLines is Visible for text whose line ends are kept.
func VisibleLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = Visible(line)
	}
	return strings.Join(lines, "\n")
}

// plain says whether text is made of printable ASCII only, as most is.
func plain(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}

// joins says whether the character at that place is a joiner inside a word of another script or inside an emoji. Between
// Latin letters, it would only hide.
func joins(text string, at int, r rune) bool {
	const zeroWidthNonJoiner, zeroWidthJoiner = '\u200c', '\u200d'
	if r != zeroWidthNonJoiner && r != zeroWidthJoiner {
		return false
	}
	before, _ := utf8.DecodeLastRuneInString(text[:at])
	after, _ := utf8.DecodeRuneInString(text[at+utf8.RuneLen(r):])
	return visibleOutsideLatin(before) && visibleOutsideLatin(after)
}

func visibleOutsideLatin(r rune) bool {
	return r >= 0x0300 && r != utf8.RuneError && strconv.IsPrint(r)
}

// Width is how many cells text takes. It must be visible text.
func Width(text string) int {
	if plain(text) {
		return len(text)
	}
	return displaywidth.String(text)
}

// Cut shortens visible text that is wider than so many cells: … stands in its middle, so that both ends can be recognized.
func Cut(text string, width int) string {
	if Width(text) <= width {
		return text
	}
	if width < 1 {
		return ""
	}
	pieces, widths := graphemes(text)
	head, left := 0, width/2 // of width-1 cells, the larger half
	for left >= widths[head] {
		left -= widths[head]
		head++
	}
	tail := len(pieces)
	for left += (width - 1) - width/2; tail > head && left >= widths[tail-1]; tail-- {
		left -= widths[tail-1]
	}
	return strings.Join(pieces[:head], "") + "…" + strings.Join(pieces[tail:], "")
}

// CutEnd is Cut with the … at the end.
func CutEnd(text string, width int) string {
	if Width(text) <= width {
		return text
	}
	if width < 1 {
		return ""
	}
	pieces, widths := graphemes(text)
	head, left := 0, width-1
	for left >= widths[head] {
		left -= widths[head]
		head++
	}
	return strings.Join(pieces[:head], "") + "…"
}

// graphemes are the characters of text as a reader counts them, with the cells that each takes.
func graphemes(text string) (pieces []string, widths []int) {
	g := displaywidth.StringGraphemes(text)
	for g.Next() {
		pieces, widths = append(pieces, g.Value()), append(widths, g.Width())
	}
	return pieces, widths
}

// Wrap breaks visible text into lines of at most so many cells, between words where that is possible. A width of 0 or
// less breaks nothing. There is always one line.
func Wrap(text string, width int) []string {
	if width <= 0 || Width(text) <= width {
		return []string{text}
	}
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && Width(line)+1+Width(word) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
		for line != "" && Width(line) > width {
			head := fill(line, width)
			lines, line = append(lines, line[:head]), line[head:]
		}
	}
	if line == "" && len(lines) > 0 {
		return lines
	}
	return append(lines, line)
}

// fill is how many bytes of text fit into so many cells: one character at least.
func fill(text string, width int) (size int) {
	pieces, widths := graphemes(text)
	for i, piece := range pieces {
		if width -= widths[i]; width < 0 && i > 0 {
			break
		}
		size += len(piece)
	}
	return size
}
