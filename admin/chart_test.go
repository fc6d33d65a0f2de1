package admin_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"fanout/admin"
)

func TestChart(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	c := admin.Chart{Times: []time.Time{noon, noon.Add(time.Minute), noon.Add(2 * time.Minute)}, Stacked: true, Format: admin.Number, Marks: []bool{false, true}, Mark: "1 parked"}
	c.Series = append(c.Series, admin.NewSeries("delivered", 30, 0, 10), admin.NewSeries("dead", 10, 0, 0))
	if got := c.Ticks(); !slices.Equal(got, []string{"40", "20", "0"}) {
		t.Errorf("the scale is %v", got)
	}
	if got := c.Shapes()[0].Path; got != "M1 100.0h8v-75.0h-8zM21 100.0h8v-25.0h-8z" {
		t.Errorf("the lower bars are %s", got)
	}
	if got := c.Shapes()[1].Path; got != "M1 25.0h8v-25.0h-8z" {
		t.Errorf("the upper bars are %s", got)
	}
	rows := c.Rows()
	if len(rows) != 3 || !rows[0].Time.Equal(noon.Add(2*time.Minute)) || !rows[1].Marked || rows[1].Tip != "delivered 0, dead 0, 1 parked" {
		t.Errorf("the rows are %v", rows)
	}
	c.Marks = nil
	if rows := c.Rows(); len(rows) != 2 {
		t.Errorf("a column without figures is a row: %v", rows)
	}

	// A line has a gap where nothing is known, and does not leave the picture.
	line := admin.Chart{Times: c.Times, Top: 1, Format: admin.Number}
	line.Series = append(line.Series, admin.NewSeries("success", 0.5, math.NaN(), 2))
	if got := line.Shapes()[0].Path; got != "M0 50.0h10M20 0.0h10" {
		t.Errorf("the line is %s", got)
	}
	if line.Empty() || !(&admin.Chart{Times: c.Times, Stacked: true}).Empty() {
		t.Error("a chart does not know whether it is empty")
	}
	for v, want := range map[float64]float64{0: 2, 1.5: 2, 2.1: 4, 7: 8, 9: 10, 11: 20, 61: 80, 99: 100, 100: 100, 12345: 20000} {
		if got := admin.RoundUp(v); got != want {
			t.Errorf("the scale for %v ends at %v, want %v", v, got, want)
		}
	}
}
