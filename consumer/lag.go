package consumer

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fanout/topic"
	"fanout/topic/wire"
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
		t := topics[p.Topic]
		t.records += records
		t.seconds = max(t.seconds, age.Seconds())
		topics[p.Topic] = t
	}
	records, seconds := lagDescs()
	for name, t := range topics {
		ch <- prometheus.MustNewConstMetric(records, prometheus.GaugeValue, float64(t.records), name)
		ch <- prometheus.MustNewConstMetric(seconds, prometheus.GaugeValue, t.seconds, name)
	}
}

// Unread is how many records this instance could read and has not: what waits in Kafka while it is busy. What a retry topic holds until later is
// not among them.
func (c *Consumer) Unread() (n int64) {
	for _, p := range c.assigned() {
		n += p.unread()
	}
	return n
}

// quietFor is for how long a partition may go without a fetch before the end of its log is asked for: while reading waits for capacity,
// or for a record that cannot be written, producers go on, and the lag has to show it.
const quietFor = 10 * time.Second

// lookAhead keeps the lag of source partitions whose reading waits up to date, until ctx is done. Of a retry topic the lag is what is due,
// which its end does not tell.
func lookAhead(ctx context.Context, cluster *topic.Cluster, sources *group) {
	for topic.Sleep(ctx, quietFor/2) {
		quiet := make(map[topic.Partition]*partition)
		req := wire.OffsetRequest{At: make(map[topic.Partition]int64)}
		for _, p := range sources.partitions() {
			if _, state, unasked := p.position(time.Now()); state != topicDeleted && unasked > quietFor {
				quiet[p.Partition], req.At[p.Partition] = p, wire.Latest
			}
		}
		if len(quiet) == 0 {
			continue
		}
		asking, cancel := context.WithTimeout(ctx, commitTimeout)
		ends, _ := cluster.Offsets(asking, &req) // those that were answered are right; reading logs errors
		cancel()
		for name, end := range ends {
			quiet[name].sawLater(end)
		}
	}
}

// assigned are the partitions that this member has of both groups.
func (c *Consumer) assigned() (all []*partition) {
	for _, g := range c.groups() {
		all = append(all, g.partitions()...)
	}
	return all
}
