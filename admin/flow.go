package admin

import (
	"math"
	"slices"
	"sort"
	"time"
)

// span is how far back the charts of the overview go.
type span struct {
	Name, Text string // in the address, and on the page
	step       time.Duration
	columns    int
}

// spans are those that can be chosen; the first is shown unless asked otherwise.
func spans() []span {
	return []span{{"5m", "5 min", 10 * time.Second, 30}, {"1h", "1 h", 2 * time.Minute, 30}, {"24h", "24 h", 30 * time.Minute, 48}}
}

func spanOf(name string) span {
	for _, one := range spans() {
		if one.Name == name {
			return one
		}
	}
	return spans()[0]
}

// charts are the flow of this instance over a span, as its metrics have it.
func (m *meter) charts(s span, now time.Time) []*chart {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := m.readings
	if s.step >= time.Minute && len(m.readings) > 0 {
		list = append(slices.Clip(m.minutes), m.readings[len(m.readings)-1])
	}
	events := series{Name: "events", Class: "s-1"}
	outcomes := []series{{Name: "delivered", Class: "s-good"}, {Name: "retried", Class: "s-warn"}, {Name: "dead", Class: "s-bad"}, {Name: "put off", Class: "s-idle"}}
	p50, p99 := series{Name: "p50", Class: "s-1"}, series{Name: "p99", Class: "s-warn"}
	var times []time.Time
	var parked []bool
	end := now.Truncate(s.step).Add(s.step)
	for at := end.Add(-s.step * time.Duration(s.columns)); at.Before(end); at = at.Add(s.step) {
		c := columnOf(list, at, at.Add(s.step))
		times, parked = append(times, at.UTC()), append(parked, c.parked)
		events.Values = append(events.Values, c.events)
		for i := range outcomes {
			outcomes[i].Values = append(outcomes[i].Values, c.outcomes[i])
		}
		p50.Values, p99.Values = append(p50.Values, c.p50), append(p99.Values, c.p99)
	}
	const says = " of this instance over the last "
	return []*chart{
		{ID: "flow-outcomes", Title: "Outcomes a second", Says: "Outcomes a second" + says + s.Text + ".", Times: times, Series: outcomes, Stacked: true, Format: number, Marks: parked, Mark: "webhooks parked"},
		{ID: "flow-events", Title: "Events a second", Says: "Events a second" + says + s.Text + ".", Times: times, Series: []series{events}, Format: number},
		{ID: "flow-latency", Title: "Latency", Says: "Median and 99th percentile of the duration of an attempt" + says + s.Text + ".", Times: times, Series: []series{p50, p99}, Format: millis},
	}
}

// flowColumn is what happened between two times, a second; NaN where that is not known.
type flowColumn struct {
	events, p50, p99 float64
	outcomes         [4]float64
	parked           bool
}

func columnOf(list []reading, from, to time.Time) flowColumn {
	nan := math.NaN()
	c := flowColumn{nan, nan, nan, [4]float64{nan, nan, nan, nan}, false}
	upTo := func(t time.Time) int {
		return sort.Search(len(list), func(i int) bool { return list[i].time.After(t) }) - 1
	}
	first, last := max(0, upTo(from)), upTo(to)
	if last <= first {
		return c
	}
	was, is := &list[first], &list[last]
	seconds := is.time.Sub(was.time).Seconds()
	c.events = (is.events - was.events) / seconds
	for i := range c.outcomes {
		c.outcomes[i] = (is.outcomes[i] - was.outcomes[i]) / seconds
	}
	if attempts := is.attempts.since(was.attempts); attempts.count > 0 {
		c.p50, c.p99 = attempts.quantile(0.5)*1000, attempts.quantile(0.99)*1000
	}
	for i := first + 1; i <= last; i++ {
		c.parked = c.parked || list[i].lanes["parked"] > 0
	}
	return c
}
