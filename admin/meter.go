package admin

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fanout/dispatcher"
)

// The meter keeps five minutes, a reading a second, and a day, a reading a minute; what is shown as "now" is the mean of the last five
// seconds.
const (
	meterEvery   = time.Second
	meterKept    = 310 // a column of the chart more
	meterMean    = 5
	meterMinutes = 24*60 + 31
)

// sample is the flow at one time.
type sample struct {
	Time               time.Time `json:"time"`
	EventsPerSecond    float64   `json:"eventsPerSecond"`
	DeliveredPerSecond float64   `json:"deliveredPerSecond"`
	FailedPerSecond    float64   `json:"failedPerSecond"`        // attempts without a 2xx
	SuccessRate        *float64  `json:"successRate,omitempty"`  // of the attempts, 0 to 1; absent while there are none, like the two below
	AttemptP50Ms       *float64  `json:"attemptP50Ms,omitempty"` // never above the deadline of an attempt
	AttemptP99Ms       *float64  `json:"attemptP99Ms,omitempty"`
	InFlight           int       `json:"inFlight"`
	LagRecords         int       `json:"lagRecords"` // of all topics; of a retry topic, those that are due
	LagSeconds         float64   `json:"lagSeconds"`
}

// topicLag is how far one topic is behind; of a retry topic, only records that are due count.
type topicLag struct {
	Topic   string  `json:"topic"`
	Records int     `json:"records"`
	Seconds float64 `json:"seconds"`
}

// reading is what the metrics say at one time, counters as they are.
type reading struct {
	time                      time.Time
	events, delivered, failed float64
	outcomes                  [4]float64 // as shownResults has them
	inFlight                  int
	attempts                  histogram // by duration, in seconds
	lanes                     map[string]int
	lag                       []topicLag
	sample                    sample // over the last seconds
}

// meter reads the registry once a second, as a scrape of /metrics would, so that the dashboard shows what is there.
type meter struct {
	metrics prometheus.Gatherer

	mu       sync.Mutex // guards readings and minutes
	readings []reading
	minutes  []reading
}

// shownResults are the outcomes that the charts show, from the bottom.
func shownResults() [4]dispatcher.Result {
	return [4]dispatcher.Result{dispatcher.Delivered, dispatcher.Retry, dispatcher.Dead, dispatcher.Deferred}
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
				for i, result := range shownResults() {
					if label["outcome"] == result.String() {
						r.outcomes[i] += metric.GetCounter().GetValue()
					}
				}
				switch {
				case label["outcome"] == "delivered":
					r.delivered += metric.GetCounter().GetValue()
				case failedAttempt(label["outcome"], label["reason"]):
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
				r.attempts.count = float64(metric.GetHistogram().GetSampleCount())
				for _, b := range metric.GetHistogram().GetBucket() {
					r.attempts.buckets = append(r.attempts.buckets, bucket{b.GetUpperBound(), float64(b.GetCumulativeCount())})
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
	if n := len(m.minutes); n == 0 || r.time.Sub(m.minutes[n-1].time) >= time.Minute-meterEvery/2 {
		m.minutes = append(m.minutes, r)
	}
	if len(m.minutes) > meterMinutes {
		m.minutes = slices.Delete(m.minutes, 0, len(m.minutes)-meterMinutes)
	}
}

// since returns the flow between an earlier reading and r.
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
	if attempts := r.attempts.since(was.attempts); attempts.count > 0 {
		s.AttemptP50Ms, s.AttemptP99Ms = new(attempts.quantile(0.5)*1000), new(attempts.quantile(0.99)*1000)
	}
	return s
}

// failedAttempt says whether an outcome that is not "delivered" is that of an attempt. A delivery can also be dead
// without one: it expired, or its receiver had answered an earlier one with 410.
func failedAttempt(outcome, reason string) bool {
	return outcome == dispatcher.Retry.String() ||
		outcome == dispatcher.Dead.String() && (reason == dispatcher.AttemptsExhausted.String() || reason == dispatcher.PermanentStatus.String())
}

func (m *meter) latest() (reading, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.readings) == 0 {
		return reading{sample: sample{Time: time.Now().UTC()}}, false
	}
	return m.readings[len(m.readings)-1], true
}

// after returns the flow second by second, oldest first, of everything later than t.
func (m *meter) after(t time.Time) []sample {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := []sample{}
	for i := range m.readings {
		if m.readings[i].time.After(t) {
			list = append(list, m.readings[i].sample)
		}
	}
	return list
}
