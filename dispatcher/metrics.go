package dispatcher

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	attempts prometheus.Histogram
	batches  prometheus.Histogram
	tests    *prometheus.CounterVec
}

// newMetrics registers the dispatcher's metrics (docs/contract.md#metrics). A nil registerer is fine.
func newMetrics(reg prometheus.Registerer, cfg *Config, ls *lanes) *metrics {
	m := &metrics{
		attempts: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "fanout_attempt_seconds",
			Help:    "Time one HTTP attempt took, whatever its outcome.",
			Buckets: attemptBuckets(cfg.Delivery.Timeout),
		}),
		batches: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "fanout_batch_deliveries", Help: "Deliveries in one request, where the subscription asks for batches.",
			Buckets: []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000},
		}),
		tests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fanout_test_events_total", Help: "Test events sent, by what they led to; they are no deliveries.",
		}, []string{"outcome"}),
	}
	if reg != nil {
		reg.MustRegister(m.attempts, m.batches, m.tests, laneCollector{ls, &cfg.Lanes, prometheus.NewDesc(
			"fanout_lanes", "Subscriptions with work or something to remember, by the state of their lane.", []string{"state"}, nil)})
	}
	return m
}

// attemptBuckets are the bounds, in seconds, of how long an attempt takes. The last one is the deadline: no quantile that
// is computed from them lies beyond it.
func attemptBuckets(deadline time.Duration) []float64 {
	bounds := []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300}
	last := deadline.Seconds()
	for i, bound := range bounds {
		if bound >= last {
			bounds = bounds[:i]
			break
		}
	}
	return append(bounds, last)
}

// laneCollector counts the lanes when it is asked.
type laneCollector struct {
	lanes *lanes
	cfg   *LanesConfig
	desc  *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c laneCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect implements prometheus.Collector.
func (c laneCollector) Collect(ch chan<- prometheus.Metric) {
	count := map[string]float64{"open": 0, "limited": 0, "parked": 0}
	now := time.Now()
	c.lanes.each(func(l *lane) { count[l.state(now, c.cfg)]++ })
	for state, n := range count {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, n, state)
	}
}
