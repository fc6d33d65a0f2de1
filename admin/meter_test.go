package admin_test

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fanout/admin"
)

// flow is a registry with the metrics that the meter reads.
type flow struct {
	outcomes *prometheus.CounterVec
	attempts prometheus.Histogram
	meter    *admin.Meter
	now      time.Time
}

// newFlow has attempts with the given bounds, in seconds.
func newFlow(bounds ...float64) *flow {
	f := &flow{
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fanout_outcomes_total", Help: "x"}, []string{"stage", "outcome", "reason"}),
		attempts: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "fanout_attempt_seconds", Help: "x", Buckets: bounds}),
		now:      time.Unix(1_700_000_000, 0),
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(f.outcomes, f.attempts)
	f.meter = admin.NewMeter(registry)
	f.meter.ReadAt(f.now)
	return f
}

func (f *flow) outcome(n float64, outcome, reason string) {
	f.outcomes.WithLabelValues("first", outcome, reason).Add(n)
}

// quantiles are p50 and p99 of the last second, in milliseconds; -1 where there are none.
func (f *flow) quantiles() (p50, p99 float64) {
	f.now = f.now.Add(time.Second)
	s := f.meter.ReadAt(f.now)
	p50, p99 = -1, -1
	if s.AttemptP50Ms != nil {
		p50 = *s.AttemptP50Ms
	}
	if s.AttemptP99Ms != nil {
		p99 = *s.AttemptP99Ms
	}
	return p50, p99
}

func TestQuantilesStayWithinTheBounds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		observed []float64 // seconds
		p50, p99 float64   // milliseconds
	}{
		"nothing":                            {nil, -1, -1},
		"in the middle of a bucket":          {[]float64{1.5, 1.5}, 1500, 1990},
		"in the first bucket":                {[]float64{0.5, 0.5}, 500, 990},
		"spread":                             {[]float64{0.5, 1.5, 1.5, 5}, 1500, 9680},
		"beyond the deadline":                {[]float64{10.002, 10.01, 10.3}, 10_000, 10_000},
		"half beyond the deadline":           {[]float64{0.5, 10.1}, 1000, 10_000},
		"beyond, with empty buckets between": {[]float64{0.1, 0.1, 0.1, 99}, 1000 * 2.0 / 3, 10_000},
	} {
		f := newFlow(1, 2, 10)
		for _, seconds := range c.observed {
			f.attempts.Observe(seconds)
		}
		p50, p99 := f.quantiles()
		if diff := max(p50-c.p50, c.p50-p50, p99-c.p99, c.p99-p99); diff > 1e-6 {
			t.Errorf("%s: p50 %v, p99 %v, want %v and %v", name, p50, p99, c.p50, c.p99)
		}
	}
}

// Only what was observed since the earlier reading counts.
func TestQuantilesAreOfTheLastSeconds(t *testing.T) {
	t.Parallel()
	f := newFlow(1, 2, 10)
	for range 100 {
		f.attempts.Observe(0.5)
	}
	f.quantiles()
	for range 10 {
		f.quantiles()
	}
	f.attempts.Observe(1.5)
	if p50, p99 := f.quantiles(); p50 != 1500 || p99 > 2000 {
		t.Errorf("p50 %v, p99 %v: the attempts of ten seconds ago count", p50, p99)
	}
}

func TestSuccessRateIsOfAttempts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		happen func(*flow)
		want   float64 // -1: there is none
	}{
		"nothing": {func(*flow) {}, -1},
		"decisions without an attempt": {func(f *flow) {
			for outcome, reason := range map[string]string{"deferred": "parked", "discarded": "deleted", "dead": "expired", "abandoned": ""} {
				f.outcome(5, outcome, reason)
			}
			f.outcome(5, "dead", "gone")
			f.outcome(5, "dead", "blocked_destination")
			f.outcome(5, "dead", "invalid_subscription")
		}, -1},
		"all good": {func(f *flow) { f.outcome(3, "delivered", "") }, 1},
		"all bad":  {func(f *flow) { f.outcome(3, "retry", "timeout") }, 0},
		"some of each": {func(f *flow) {
			f.outcome(6, "delivered", "")
			f.outcome(1, "retry", "status")
			f.outcome(1, "dead", "attempts_exhausted")
			f.outcome(1, "dead", "permanent_status")
			f.outcome(1, "retry", "connect")
			f.outcome(50, "dead", "expired")
		}, 0.6},
	} {
		f := newFlow(1)
		c.happen(f)
		f.now = f.now.Add(time.Second)
		s := f.meter.ReadAt(f.now)
		got := -1.0
		if s.SuccessRate != nil {
			got = *s.SuccessRate
		}
		if got != c.want {
			t.Errorf("%s: success rate %v, want %v", name, got, c.want)
		}
	}
}

// The charts go back five minutes second by second, and a day by the minute.
func TestFlowCharts(t *testing.T) {
	t.Parallel()
	f := newFlow(0.1, 1)
	for i := range 25 * 60 * 60 {
		if f.now = f.now.Add(time.Second); i%60 == 0 || i > 25*60*60-400 {
			f.outcome(60, "delivered", "")
			f.attempts.Observe(0.05)
			f.meter.ReadAt(f.now)
		}
	}
	f.outcome(60, "dead", "expired")
	f.meter.ReadAt(f.now.Add(time.Second))
	for span, columns := range map[string]int{"5m": 30, "1h": 30, "24h": 48} {
		charts := f.meter.ChartsAt(span, f.now)
		outcomes, latency := charts[0], charts[2]
		if len(outcomes.Times) != columns {
			t.Fatalf("%s has %d columns", span, len(outcomes.Times))
		}
		known := 0
		for _, row := range outcomes.Rows() {
			if row.Cells[0] != "–" && row.Cells[0] != "0" {
				known++
			}
		}
		if known < columns-1 {
			t.Errorf("%s: %d of %d columns are known", span, known, columns)
		}
		if dead := outcomes.Columns()[columns-1].Cells[2]; dead == "0" || dead == "–" {
			t.Errorf("%s: the newest column has %s dead", span, dead)
		}
		for i, ms := range latency.Series[1].Values[:columns-1] {
			if ms > 1000 {
				t.Errorf("%s: p99 is %v in column %d, beyond the last bound", span, ms, i)
			}
		}
	}
	if empty := newFlow(1).meter.ChartsAt("5m", f.now); !empty[0].Empty() || len(empty[0].Rows()) != 0 {
		t.Error("a meter that has just begun has something to show")
	}
}
