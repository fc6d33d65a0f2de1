package terminal

import (
	"slices"
	"strings"
)

// Column is one column of a Table.
type Column struct {
	Name  string // its heading
	Right bool   // numbers stand at the right

	// Least is how many cells the column may be cut down to where the table is too wide, though not below its heading: its
	// values then have … in their middle. 0: it keeps its width for as long as the others can give way.
	Least int
	// Leave says in which order columns are left out where cutting is not enough: the highest goes first. 0: never.
	Leave int
	// Wrap shows values on several lines, rather than cut. Least is then the width below which other columns are left out.
	Wrap bool
}

// Table is rows of values for a person.
type Table struct {
	Columns []Column
	Rows    [][]string // a row may be shorter than Columns
	NoHead  bool       // no heading is shown
}

const (
	gap       = 2 // between two columns
	narrowest = 2 // a column: any character fits
)

// Lines is the table in lines of at most so many cells, with the names of the columns that were left out to make it fit.
// A width of 0 means no limit. No line ends with a space, and values are made visible.
func (t *Table) Lines(width int) (lines, left []string) {
	cells := t.cells()
	shown, widths := t.fit(cells, width)
	for i := range t.Columns {
		if !slices.Contains(shown, i) {
			left = append(left, t.Columns[i].Name)
		}
	}
	if !t.NoHead {
		head := make([]string, len(t.Columns))
		for _, i := range shown {
			head[i] = CutEnd(t.Columns[i].Name, widths[i])
		}
		lines = t.row(lines, head, shown, widths)
	}
	for _, row := range cells {
		lines = t.row(lines, row, shown, widths)
	}
	return lines, left
}

// cells are the values as they are shown, one for each column.
func (t *Table) cells() [][]string {
	cells := make([][]string, len(t.Rows))
	for i, row := range t.Rows {
		cells[i] = make([]string, len(t.Columns))
		for j, value := range row[:min(len(row), len(t.Columns))] {
			cells[i][j] = Visible(value)
		}
	}
	return cells
}

// fit chooses the columns to show, and how wide each is.
func (t *Table) fit(cells [][]string, width int) (shown, widths []int) {
	widths = make([]int, len(t.Columns))
	least := make([]int, len(t.Columns))
	for i := range t.Columns {
		shown = append(shown, i)
		head := 0
		if !t.NoHead {
			head = Width(t.Columns[i].Name)
		}
		widths[i] = head
		for _, row := range cells {
			widths[i] = max(widths[i], Width(row[i]))
		}
		if least[i] = widths[i]; t.Columns[i].Least > 0 {
			least[i] = min(widths[i], max(head, t.Columns[i].Least))
		}
	}
	if width <= 0 {
		return shown, widths
	}
	for total(shown, least) > width {
		first := slices.MaxFunc(shown, func(a, b int) int { return t.Columns[a].Leave - t.Columns[b].Leave })
		if t.Columns[first].Leave == 0 {
			break
		}
		shown = slices.DeleteFunc(shown, func(i int) bool { return i == first })
	}
	for _, floor := range [][]int{least, make([]int, len(t.Columns))} { // the second: a table must fit, whatever it takes
		shrink(shown, widths, floor, width)
	}
	return shown, widths
}

// total is the width of a line.
func total(shown, widths []int) int {
	sum := gap * (len(shown) - 1)
	for _, i := range shown {
		sum += widths[i]
	}
	return sum
}

// shrink takes cells from the widest columns that may give some, until a line fits or none may.
func shrink(shown, widths, least []int, width int) {
	for excess := total(shown, widths) - width; excess > 0; {
		widest, next := -1, 0 // next: the width of the second, down to which the widest may go at once
		for _, i := range shown {
			switch floor := max(narrowest, least[i]); {
			case widths[i] <= floor:
			case widest < 0 || widths[i] > widths[widest]:
				if widest >= 0 {
					next = widths[widest]
				}
				widest = i
			default:
				next = max(next, widths[i])
			}
		}
		if widest < 0 {
			return
		}
		give := min(excess, max(1, widths[widest]-max(next, narrowest, least[widest])))
		widths[widest] -= give
		excess -= give
	}
}

// row adds a row's line, or lines where a value wraps.
func (t *Table) row(lines, cells []string, shown, widths []int) []string {
	parts := make([][]string, len(t.Columns))
	height := 1
	for _, i := range shown {
		if t.Columns[i].Wrap {
			parts[i] = Wrap(cells[i], widths[i])
		} else {
			parts[i] = []string{Cut(cells[i], widths[i])}
		}
		height = max(height, len(parts[i]))
	}
	for n := range height {
		var b strings.Builder
		for at, i := range shown {
			text := ""
			if n < len(parts[i]) {
				text = parts[i][n]
			}
			pad := strings.Repeat(" ", max(0, widths[i]-Width(text)))
			if at > 0 {
				b.WriteString(strings.Repeat(" ", gap))
			}
			if t.Columns[i].Right {
				b.WriteString(pad + text)
			} else {
				b.WriteString(text + pad)
			}
		}
		lines = append(lines, strings.TrimRight(b.String(), " "))
	}
	return lines
}
