package admin

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The meter keeps five minutes, a reading a second; what is shown as "now" is the mean of the last five seconds.
const (
	meterEvery = time.Second
	meterKept  = 300
	meterMean  = 5
)

// sample is the flow at one time.
type sample struct {
	Time               time.Time `json:"time"`
	EventsPerSecond    float64   `json:"eventsPerSecond"`
	DeliveredPerSecond float64   `json:"deliveredPerSecond"`
	FailedPerSecond    float64   `json:"failedPerSecond"`       // attempts that are retried, and what is dead
	SuccessRate        *float64  `json:"successRate,omitempty"` // 0 to 1; absent while nothing is attempted
	AttemptP50Ms       *float64  `json:"attemptP50Ms,omitempty"`
	AttemptP99Ms       *float64  `json:"attemptP99Ms,omitempty"`
	InFlight           int       `json:"inFlight"`
	LagRecords         int       `json:"lagRecords"` // source topics
	LagSeconds         float64   `json:"lagSeconds"`
}

// topicLag is how far one topic is behind; of a retry topic what is due counts.
type topicLag struct {
	Topic   string  `json:"topic"`
	Records int     `json:"records"`
	Seconds float64 `json:"seconds"`
}

// reading is what the metrics say at one time, counters as they are.
type reading struct {
	time                      time.Time
	events, delivered, failed float64
	inFlight                  int
	buckets                   []bucket // of attempts, cumulative
	lanes                     map[string]int
	lag                       []topicLag
	sample                    sample // over the last seconds
}

type bucket struct{ bound, count float64 }

// meter reads the registry once a second, as a scrape of /metrics would, so that the dashboard shows what is there.
type meter struct {
	metrics prometheus.Gatherer

	mu       sync.Mutex // guards readings
	readings []reading
}

func (m *meter) run(ctx context.Context) {
	tick := time.NewTicker(meterEvery)
	defer tick.Stop()
	for {
		m.read(time.Now())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (m *meter) read(now time.Time) {
	families, err := m.metrics.Gather()
	if err != nil && len(families) == 0 {
		return
	}
	r := reading{time: now, lanes: map[string]int{}}
	lag := map[string]*topicLag{}
	of := func(topic string) *topicLag {
		if lag[topic] == nil {
			lag[topic] = &topicLag{Topic: topic}
		}
		return lag[topic]
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			label := map[string]string{}
			for _, pair := range metric.GetLabel() {
				label[pair.GetName()] = pair.GetValue()
			}
			switch family.GetName() {
			case "fanout_records_total":
				if label["result"] == "event" || label["result"] == "unmatched" {
					r.events += metric.GetCounter().GetValue()
				}
			case "fanout_outcomes_total":
				switch label["outcome"] {
				case "delivered":
					r.delivered += metric.GetCounter().GetValue()
				case "retry", "dead":
					r.failed += metric.GetCounter().GetValue()
				}
			case "fanout_in_flight":
				r.inFlight += int(metric.GetGauge().GetValue())
			case "fanout_lanes":
				r.lanes[label["state"]] = int(metric.GetGauge().GetValue())
			case "fanout_lag_records":
				of(label["topic"]).Records = int(metric.GetGauge().GetValue())
			case "fanout_lag_seconds":
				of(label["topic"]).Seconds = metric.GetGauge().GetValue()
			case "fanout_attempt_seconds":
				for _, b := range metric.GetHistogram().GetBucket() {
					r.buckets = append(r.buckets, bucket{b.GetUpperBound(), float64(b.GetCumulativeCount())})
				}
			}
		}
	}
	for _, l := range lag {
		r.lag = append(r.lag, *l)
	}
	slices.SortFunc(r.lag, func(a, b topicLag) int { return cmp.Compare(a.Topic, b.Topic) })
	m.add(r)
}

func (m *meter) add(r reading) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r.sample = r.since(nil)
	if n := len(m.readings); n > 0 {
		r.sample = r.since(&m.readings[max(0, n-meterMean)])
	}
	m.readings = append(m.readings, r)
	if len(m.readings) > meterKept {
		m.readings = slices.Delete(m.readings, 0, len(m.readings)-meterKept)
	}
}

// since is the flow between two readings.
func (r *reading) since(was *reading) sample {
	s := sample{Time: r.time.UTC(), InFlight: r.inFlight}
	for _, l := range r.lag {
		s.LagRecords += l.Records
		s.LagSeconds = max(s.LagSeconds, l.Seconds)
	}
	if was == nil || !r.time.After(was.time) {
		return s
	}
	seconds := r.time.Sub(was.time).Seconds()
	delivered, failed := r.delivered-was.delivered, r.failed-was.failed
	s.EventsPerSecond = (r.events - was.events) / seconds
	s.DeliveredPerSecond, s.FailedPerSecond = delivered/seconds, failed/seconds
	if delivered+failed > 0 {
		s.SuccessRate = new(delivered / (delivered + failed))
	}
	s.AttemptP50Ms, s.AttemptP99Ms = quantile(was.buckets, r.buckets, 0.5), quantile(was.buckets, r.buckets, 0.99)
	return s
}

// quantile is that of what was observed between two readings of a histogram, in milliseconds, as Prometheus computes
// it: linear within a bucket.
func quantile(was, now []bucket, q float64) *float64 {
	if len(was) != len(now) || len(now) == 0 {
		return nil
	}
	total := now[len(now)-1].count - was[len(was)-1].count
	if total <= 0 {
		return nil
	}
	lower, below := 0.0, 0.0
	for i := range now {
		count := now[i].count - was[i].count
		if count >= q*total {
			if count > below {
				lower += (now[i].bound - lower) * (q*total - below) / (count - below)
			}
			return new(lower * 1000)
		}
		lower, below = now[i].bound, count
	}
	return new(lower * 1000)
}

func (m *meter) latest() (reading, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.readings) == 0 {
		return reading{sample: sample{Time: time.Now().UTC()}}, false
	}
	return m.readings[len(m.readings)-1], true
}

// history is the flow second by second, oldest first.
func (m *meter) history() []sample {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]sample, len(m.readings))
	for i := range m.readings {
		list[i] = m.readings[i].sample
	}
	return list
}
