package consumer

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/segmentio/kafka-go"

	"fanout/dispatcher"
)

// lagCollector tells how far each topic's partitions that this instance has are behind.
type lagCollector struct{ c *Consumer }

func lagDescs() (records, seconds *prometheus.Desc) {
	return prometheus.NewDesc("fanout_lag_records", "Records from the committed offset to the end; of a retry topic those that are due.", []string{"topic"}, nil),
		prometheus.NewDesc("fanout_lag_seconds", "Age of the oldest record that is not settled; of a retry topic since it was due.", []string{"topic"}, nil)
}

// Describe implements prometheus.Collector.
func (l lagCollector) Describe(ch chan<- *prometheus.Desc) {
	records, seconds := lagDescs()
	ch <- records
	ch <- seconds
}

// Collect implements prometheus.Collector.
func (l lagCollector) Collect(ch chan<- prometheus.Metric) {
	now := time.Now()
	type lag struct {
		records int64
		seconds float64
	}
	topics := make(map[string]lag)
	for _, p := range l.c.assigned() {
		records, age := p.lag(now)
		t := topics[p.topic]
		t.records += records
		t.seconds = max(t.seconds, age.Seconds())
		topics[p.topic] = t
	}
	records, seconds := lagDescs()
	for topic, t := range topics {
		ch <- prometheus.MustNewConstMetric(records, prometheus.GaugeValue, float64(t.records), topic)
		ch <- prometheus.MustNewConstMetric(seconds, prometheus.GaugeValue, t.seconds, topic)
	}
}

// lag is how many records are not settled, and for how long the oldest of them has been there.
func (p *partition) lag(now time.Time) (records int64, age time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.ledger.committable()
	if p.ledger.open() > 0 {
		records = p.ledger.next - at
		if r := p.ledger.first(); r != nil {
			age = max(0, now.Sub(r.time.Add(p.delay)))
		}
	}
	unread := max(0, p.end-p.ledger.next)
	if p.stage == dispatcher.StageRetry && p.waiting {
		return records, age // what comes next is not due, so neither is what lies behind it
	}
	if unread > 0 && age == 0 && !p.lastRead.IsZero() {
		age = max(0, now.Sub(p.lastRead.Add(p.delay)))
	}
	return records + unread, age
}

// lookInterval is for how long a partition may go without a fetch before the end of its log is asked for: while reading
// waits for room, or for a record that cannot be written, producers go on, and the lag has to show it.
const lookInterval = 10 * time.Second

// lookAhead keeps the lag of partitions whose reading waits up to date, until ctx is done. Of a retry topic the lag is what
// is due, which its end does not tell.
func (s *session) lookAhead(ctx context.Context) {
	if s.g.stage == dispatcher.StageRetry {
		return
	}
	for sleep(ctx, lookInterval/2) {
		req := make(map[string][]kafka.OffsetRequest)
		for _, p := range s.partitions {
			if p.unlooked(time.Now()) {
				req[p.topic] = append(req[p.topic], kafka.LastOffsetOf(p.id))
			}
		}
		if len(req) == 0 {
			continue
		}
		asking, cancel := context.WithTimeout(ctx, commitTimeout)
		ends := make(map[string]int64)
		_ = offsetsAt(asking, s.g.client, req, ends) // what was answered before an error is right; reading logs errors
		cancel()
		for _, p := range s.partitions {
			if end, ok := ends[p.String()]; ok {
				p.sawEnd(end)
			}
		}
	}
}

func (p *partition) unlooked(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.gone && now.Sub(p.fetched) > lookInterval
}

func (p *partition) sawEnd(end int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.gone {
		p.end = max(p.end, end)
	}
}
