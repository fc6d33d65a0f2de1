package admin

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// chart is figures over time as a picture that needs no script, and as the table beside it.
type chart struct {
	ID, Title string
	Says      string // what it shows, for people who cannot see it
	Series    []series
	Times     []time.Time // when each column begins, the oldest first
	Stacked   bool        // bars, each series upon the one before; else lines
	Top       float64     // of the scale; 0: as the figures ask
	Format    func(float64) string
	Marks     []bool // columns that are marked; may be nil
	Mark      string // what the marks mean
}

// series is one line, or one part of the bars. NaN means that nothing is known, or there is nothing to say.
type series struct {
	Name, Class string
	Values      []float64
}

// A chart's picture has columns of this width and this height, in units of its own: the page stretches it over the card.
const (
	columnWidth = 10
	plotHeight  = 100
)

// Width is the picture's, in its own units.
func (c *chart) Width() int { return columnWidth * len(c.Times) }

// value is a figure of the chart, 0 where there is none.
func (s *series) value(i int) float64 {
	if i >= len(s.Values) || math.IsNaN(s.Values[i]) {
		return 0
	}
	return s.Values[i]
}

// Empty says whether no column has anything to show.
func (c *chart) Empty() bool {
	for i := range c.Series {
		for k := range c.Times {
			if c.known(i, k) && (c.Series[i].Values[k] != 0 || !c.Stacked) {
				return false
			}
		}
	}
	return true
}

func (c *chart) known(i, column int) bool {
	return column < len(c.Series[i].Values) && !math.IsNaN(c.Series[i].Values[column])
}

// top is the highest value of the scale: round, and so is half of it.
func (c *chart) top() float64 {
	if c.Top > 0 {
		return c.Top
	}
	most := 0.0
	for column := range c.Times {
		sum := 0.0
		for i := range c.Series {
			v := c.Series[i].value(column)
			if sum += v; !c.Stacked {
				sum = v
			}
			most = max(most, sum)
		}
	}
	return roundUp(most)
}

// roundUp is the least of 1, 2, 4, 6 and 8 times a power of ten that is not below v, and 2 at least.
func roundUp(v float64) float64 {
	if v <= 2 {
		return 2
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, n := range []float64{1, 2, 4, 6, 8} {
		if v <= n*power {
			return n * power
		}
	}
	return 10 * power
}

// Ticks are the values beside the picture, from the top.
func (c *chart) Ticks() []string {
	top := c.top()
	return []string{c.Format(top), c.Format(top / 2), "0"}
}

// Labels are the times under the picture: of a few columns, at even distances.
func (c *chart) Labels() []time.Time {
	const shown = 4
	var list []time.Time
	for i := range min(shown, len(c.Times)) {
		list = append(list, c.Times[i*len(c.Times)/shown])
	}
	return list
}

// shape is what is drawn of a series.
type shape struct{ Class, Path string }

// Shapes are the series as paths of SVG.
func (c *chart) Shapes() []shape {
	if c.Stacked {
		return c.bars()
	}
	return c.lines()
}

func (c *chart) bars() (list []shape) {
	top, base := c.top(), make([]float64, len(c.Times))
	for i := range c.Series {
		var d strings.Builder
		for column := range c.Times {
			v := c.Series[i].value(column)
			if v <= 0 {
				continue
			}
			high := v / top * plotHeight
			d.WriteString("M" + strconv.Itoa(column*columnWidth+1) + " " + coordinate(plotHeight-base[column]) + "h8v-" + coordinate(high) + "h-8z")
			base[column] += high
		}
		list = append(list, shape{c.Series[i].Class, d.String()})
	}
	return list
}

func (c *chart) lines() (list []shape) {
	top := c.top()
	for i := range c.Series {
		var d strings.Builder
		for column := range c.Times {
			if !c.known(i, column) {
				continue
			}
			y := coordinate(plotHeight - min(1, c.Series[i].Values[column]/top)*plotHeight)
			// A step as wide as its column: a figure that stands alone is seen too.
			if column == 0 || !c.known(i, column-1) {
				d.WriteString("M" + strconv.Itoa(column*columnWidth) + " " + y)
			} else {
				d.WriteString("V" + y)
			}
			d.WriteString("h" + strconv.Itoa(columnWidth))
		}
		list = append(list, shape{c.Series[i].Class, d.String()})
	}
	return list
}

func coordinate(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) }

// figures are one column, for the pointer and for the table.
type figures struct {
	Time   time.Time
	X      int
	Cells  []string
	Marked bool
	Tip    string
	empty  bool
}

// Columns are all columns.
func (c *chart) Columns() (list []figures) {
	for column, at := range c.Times {
		f := figures{Time: at, X: column * columnWidth, empty: true, Marked: column < len(c.Marks) && c.Marks[column]}
		var parts []string
		for i := range c.Series {
			text := "–"
			if c.known(i, column) {
				text = c.Format(c.Series[i].Values[column])
				f.empty = f.empty && c.Stacked && c.Series[i].Values[column] == 0
			}
			f.Cells = append(f.Cells, text)
			parts = append(parts, c.Series[i].Name+" "+text)
		}
		if f.Marked {
			parts = append(parts, c.Mark)
		}
		f.Tip = strings.Join(parts, ", ")
		list = append(list, f)
	}
	return list
}

// Rows are the columns that have something to say, the newest first.
func (c *chart) Rows() (list []figures) {
	for _, one := range slices.Backward(c.Columns()) {
		if !one.empty || one.Marked {
			list = append(list, one)
		}
	}
	return list
}
