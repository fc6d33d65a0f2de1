package dispatcher

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	attempts prometheus.Histogram
}

// newMetrics registers the dispatcher's metrics (DESIGN.md section 8). A nil registerer is fine.
func newMetrics(reg prometheus.Registerer, d *Dispatcher) *metrics {
	m := &metrics{
		attempts: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "fanout_attempt_seconds",
			Help:    "Time one HTTP attempt took, whatever its outcome.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}),
	}
	if reg != nil {
		reg.MustRegister(m.attempts, laneCollector{d, prometheus.NewDesc(
			"fanout_lanes", "Subscriptions with work or something to remember, by the state of their lane.", []string{"state"}, nil)})
	}
	return m
}

// laneCollector counts the lanes when it is asked.
type laneCollector struct {
	d    *Dispatcher
	desc *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c laneCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect implements prometheus.Collector.
func (c laneCollector) Collect(ch chan<- prometheus.Metric) {
	count := map[string]float64{"open": 0, "limited": 0, "parked": 0}
	now := time.Now()
	c.d.eachLane(func(l *lane) { count[l.state(now, &c.d.cfg.Lanes)]++ })
	for state, n := range count {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, n, state)
	}
}

// eachLane calls f with each lane, locked.
func (d *Dispatcher) eachLane(f func(*lane)) {
	for i := range d.shards {
		s := &d.shards[i]
		s.mu.Lock()
		lanes := make([]*lane, 0, len(s.lanes))
		for _, l := range s.lanes {
			lanes = append(lanes, l)
		}
		s.mu.Unlock()
		for _, l := range lanes {
			l.mu.Lock()
			f(l)
			l.mu.Unlock()
		}
	}
}
