package consumer

import (
	"maps"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fanout/dispatcher"
)

// recordResult says what a record turned out to be: the label result of fanout_records_total.
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

// metrics are the consumer's (docs/contract.md#metrics). The label source is a topic that the configuration names, so the set is closed.
type metrics struct {
	records         *prometheus.CounterVec
	deliveries      *prometheus.CounterVec
	outcomes        *prometheus.CounterVec
	gaps            *prometheus.CounterVec
	unread          *prometheus.GaugeVec
	deliverySeconds prometheus.Histogram
	unwritten       prometheus.Counter
	rebalances      *prometheus.CounterVec
	generation      *prometheus.GaugeVec
	handover        *prometheus.HistogramVec

	inFlight [stageCount]atomic.Int64
	plannedN [stageCount]prometheus.Counter
	bySource atomic.Pointer[map[string]*[recordResults]prometheus.Counter] // a map that is stored is not changed
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
		unread: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fanout_source_unread", Help: "1 while a source stays unread: it holds old records, and no start says whether they are to be sent.",
		}, []string{"source"}),
		deliverySeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "fanout_delivery_seconds",
			Help:    "Time from a record's append to Kafka to the 2xx of its delivery.",
			Buckets: []float64{.001, .002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 36000, 259200},
		}),
	}
	m.unwritten = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "fanout_attempts_unwritten_total", Help: "Attempts records that could not be written in time: audit cannot judge what they would tell of.",
	})
	m.rebalances = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "fanout_group_rebalances_total", Help: "Times that the consumer group was shared again, of the sources or of the retry topics.",
	}, []string{"group"})
	m.generation = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "fanout_group_generation", Help: "Generation of the consumer group that this instance is part of.",
	}, []string{"group"})
	m.handover = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "fanout_group_handover_seconds", Help: "Time that a partition which moved to this instance was read by nobody.",
		Buckets: []float64{.05, .1, .25, .5, 1, 1.5, 2.5, 5, 10, 30, 120},
	}, []string{"group"})
	for s := range stageCount {
		m.plannedN[s] = m.deliveries.WithLabelValues(dispatcher.Stage(s).String())
	}
	if reg == nil {
		return m
	}
	reg.MustRegister(m.records, m.deliveries, m.outcomes, m.gaps, m.unread, m.deliverySeconds, m.unwritten, m.rebalances, m.generation, m.handover)
	for s := range stageCount {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "fanout_in_flight", Help: "Deliveries planned and not settled, waiting ones included.",
			ConstLabels: prometheus.Labels{"stage": dispatcher.Stage(s).String()},
		}, func() float64 { return float64(m.inFlight[s].Load()) }))
	}
	reg.MustRegister(partitionCollector{c}, lagCollector{c}, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "fanout_commit_age_seconds", Help: "Time since offsets were last known to be committed.",
	}, c.commitAge), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "fanout_replicas_given_up", Help: "Brokers that are not read as the nearest replica for a while, since they failed.",
	}, func() float64 { return float64(c.cluster.ReplicasGivenUp()) }))
	return m
}

// sources prepares the counters of the topics that are read. It is called before they are, and again when others have come.
func (m *metrics) sources(all ...map[string]int) {
	known := make(map[string]*[recordResults]prometheus.Counter)
	if before := m.bySource.Load(); before != nil {
		maps.Copy(known, *before)
	}
	for _, sizes := range all {
		for name := range sizes {
			if known[name] == nil {
				known[name] = m.source(name)
			}
		}
	}
	m.bySource.Store(&known)
}

func (m *metrics) source(name string) *[recordResults]prometheus.Counter {
	var row [recordResults]prometheus.Counter
	for r := range recordResults {
		row[r] = m.records.WithLabelValues(name, r.String())
	}
	return &row
}

func (m *metrics) record(name string, result recordResult) {
	if known := m.bySource.Load(); known != nil {
		if row := (*known)[name]; row != nil {
			row[result].Inc()
			return
		}
	}
	m.records.WithLabelValues(name, result.String()).Inc()
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

func (m *metrics) gap(name string, offsets int64) {
	m.gaps.WithLabelValues(name).Add(float64(offsets))
}

// groupMetrics are those of one consumer group.
type groupMetrics struct {
	rebalances prometheus.Counter
	generation prometheus.Gauge
	handover   prometheus.Observer
}

// group prepares the metrics of a group: "sources" or "retry".
func (m *metrics) group(label string) *groupMetrics {
	return &groupMetrics{rebalances: m.rebalances.WithLabelValues(label), generation: m.generation.WithLabelValues(label), handover: m.handover.WithLabelValues(label)}
}

func (g *groupMetrics) rebalanced(generation int32) {
	g.rebalances.Inc()
	g.generation.Set(float64(generation))
}

// stood notes for how long nobody read a partition that was handed over. The clocks of two machines are compared.
func (g *groupMetrics) stood(d time.Duration) { g.handover.Observe(d.Seconds()) }

// partitionCollector counts the partitions that this instance has.
type partitionCollector struct{ c *Consumer }

func partitionsDesc() *prometheus.Desc {
	return prometheus.NewDesc("fanout_partitions", "Partitions that this instance reads.", []string{"topic"}, nil)
}

// Describe implements prometheus.Collector.
func (p partitionCollector) Describe(ch chan<- *prometheus.Desc) { ch <- partitionsDesc() }

// Collect implements prometheus.Collector.
func (p partitionCollector) Collect(ch chan<- prometheus.Metric) {
	count := make(map[string]int)
	for _, one := range p.c.assigned() {
		count[one.Topic]++
	}
	for name, n := range count {
		ch <- prometheus.MustNewConstMetric(partitionsDesc(), prometheus.GaugeValue, float64(n), name)
	}
}

// commitAge is the longest time, in seconds, that a joined group's offsets have not been known to be committed.
func (c *Consumer) commitAge() float64 {
	age := time.Duration(0)
	for _, g := range c.groups() {
		if g.membership.ready() == nil {
			age = max(age, g.watch.commitAge(time.Now()))
		}
	}
	return age.Seconds()
}
