package consumer

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fanout/dispatcher"
)

// recordResult is what a record turned out to be: the label result of fanout_records_total.
type recordResult uint8

const (
	recordEvent recordResult = iota
	recordIgnored
	recordMalformed
	recordUnmatched
	recordResults
)

func (r recordResult) String() string {
	return [recordResults]string{"event", "ignored", "malformed", "unmatched"}[r]
}

const stageCount = int(dispatcher.StageReplay) + 1

// metrics are the consumer's, with the names of DESIGN.md section 8. The label source is a topic that the configuration
// names, so the set is closed.
type metrics struct {
	records         *prometheus.CounterVec
	deliveries      *prometheus.CounterVec
	outcomes        *prometheus.CounterVec
	gaps            *prometheus.CounterVec
	deliverySeconds prometheus.Histogram

	inFlight [stageCount]atomic.Int64
	plannedN [stageCount]prometheus.Counter
	bySource map[string]*[recordResults]prometheus.Counter // filled before use, then read only
	byReason [stageCount][8][64]atomic.Pointer[prometheus.Counter]
}

func newMetrics(reg prometheus.Registerer, c *Consumer) *metrics {
	m := &metrics{
		records: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fanout_records_total", Help: "Records read, by what they turned out to be.",
		}, []string{"source", "result"}),
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fanout_deliveries_total", Help: "Deliveries planned or taken up again.",
		}, []string{"stage"}),
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fanout_outcomes_total", Help: "What became of deliveries.",
		}, []string{"stage", "outcome", "reason"}),
		gaps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fanout_gap_offsets_total", Help: "Offsets that were gone before they were read.",
		}, []string{"source"}),
		deliverySeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "fanout_delivery_seconds",
			Help:    "Time from a record's append to Kafka to the 2xx of its delivery.",
			Buckets: []float64{.001, .002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 36000, 259200},
		}),
		bySource: make(map[string]*[recordResults]prometheus.Counter),
	}
	for s := range stageCount {
		m.plannedN[s] = m.deliveries.WithLabelValues(dispatcher.Stage(s).String())
	}
	if reg == nil {
		return m
	}
	reg.MustRegister(m.records, m.deliveries, m.outcomes, m.gaps, m.deliverySeconds)
	for s := range stageCount {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "fanout_in_flight", Help: "Deliveries planned and not settled, waiting ones included.",
			ConstLabels: prometheus.Labels{"stage": dispatcher.Stage(s).String()},
		}, func() float64 { return float64(m.inFlight[s].Load()) }))
	}
	reg.MustRegister(lagCollector{c}, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "fanout_commit_age_seconds", Help: "Time since offsets were last known to be committed.",
	}, c.commitAge))
	return m
}

// source prepares the counters of a topic.
func (m *metrics) source(topic string) {
	if m.bySource[topic] != nil {
		return
	}
	var row [recordResults]prometheus.Counter
	for r := range recordResults {
		row[r] = m.records.WithLabelValues(topic, r.String())
	}
	m.bySource[topic] = &row
}

func (m *metrics) record(topic string, result recordResult) {
	if row := m.bySource[topic]; row != nil {
		row[result].Inc()
		return
	}
	m.records.WithLabelValues(topic, result.String()).Inc()
}

func (m *metrics) planned(stage dispatcher.Stage, n int) {
	m.inFlight[stage].Add(int64(n))
	m.plannedN[stage].Add(float64(n))
}

func (m *metrics) outcome(stage dispatcher.Stage, result dispatcher.Result, reason dispatcher.Reason) {
	slot := &m.byReason[stage][result][reason]
	counter := slot.Load()
	if counter == nil {
		c := m.outcomes.WithLabelValues(stage.String(), result.String(), reason.String())
		counter = &c
		slot.Store(counter)
	}
	(*counter).Inc()
	m.inFlight[stage].Add(-1)
}

func (m *metrics) delivered(after time.Duration) {
	m.deliverySeconds.Observe(after.Seconds())
}

func (m *metrics) gap(topic string, offsets int64) {
	m.gaps.WithLabelValues(topic).Add(float64(offsets))
}
