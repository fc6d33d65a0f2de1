package lab_test

import (
	"testing"

	"fanout/cmd/internal/lab"
)

const scrape = `# HELP fanout_outcomes_total Outcomes.
# TYPE fanout_outcomes_total counter
fanout_deliveries_total{stage="first"} 10
fanout_deliveries_total{stage="retry"} 1
fanout_outcomes_total{outcome="delivered",reason="",stage="first"} 6
fanout_outcomes_total{outcome="retry",reason="status",stage="first"} 2
fanout_in_flight{stage="first"} 2
fanout_attempt_seconds_sum 1.5e-01
`

func TestMetricsSumAndAccount(t *testing.T) {
	m, err := lab.ParseMetrics(scrape)
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Sum("fanout_outcomes_total", `stage="first"`); got != 8 {
		t.Errorf("outcomes of stage first: %v", got)
	}
	if got := m.Sum("fanout_outcomes_total", `outcome="delivered"`, `stage="first"`); got != 6 {
		t.Errorf("delivered: %v", got)
	}
	if got := m["fanout_attempt_seconds_sum"]; got != 0.15 {
		t.Errorf("a series without labels: %v", got)
	}
	if off := m.Unaccounted(); len(off) != 1 || off["retry"] != 1 {
		t.Errorf("unaccounted: %v, want the one retry", off)
	}
}

func TestMetricsRefuseWhatIsNone(t *testing.T) {
	for _, text := range []string{"fanout_up\n", "fanout_up yes\n"} {
		if m, err := lab.ParseMetrics(text); err == nil {
			t.Errorf("%q: read as %v", text, m)
		}
	}
}
