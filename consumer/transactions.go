package consumer

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"fanout/topic"
)

// held is a transaction that holds a partition's records back.
type held struct {
	at      int64     // the offset from which on nothing may be read
	since   time.Time // when this process came to it
	records int64     // that lie there
}

// openTransactions names the transactions that hold records back (docs/contract.md#open-transactions).
type openTransactions struct {
	cluster  *topic.Cluster
	assigned func() []*partition
	log      *zap.Logger
	// after is for how long records are held back before the transaction is named. Producers end theirs within seconds; one that has died holds
	// for as long as it asked the broker for, or for ever.
	after time.Duration

	mu    sync.Mutex // guards named
	named map[topic.Partition]string
}

func newOpenTransactions(cluster *topic.Cluster, assigned func() []*partition, log *zap.Logger, after time.Duration) *openTransactions {
	return &openTransactions{cluster: cluster, assigned: assigned, log: log, after: after, named: make(map[topic.Partition]string)}
}

// watch looks now and then until ctx is done.
func (o *openTransactions) watch(ctx context.Context, interval time.Duration) {
	for topic.Sleep(ctx, interval) {
		o.look(ctx, time.Now())
	}
}

func (o *openTransactions) look(ctx context.Context, now time.Time) {
	still := make(map[topic.Partition]bool)
	for _, p := range o.assigned() {
		if h := p.heldBack(); h != nil && now.Sub(h.since) >= o.after {
			still[p.Partition] = true
			o.name(ctx, p, h)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for p := range o.named {
		if !still[p] {
			delete(o.named, p)
			o.log.Info("the open transaction holds no records back any more", zap.String("topic", p.Topic), zap.Int("partition", p.ID))
		}
	}
}

// name tells of a transaction, once. Who has begun it is asked for meanwhile.
func (o *openTransactions) name(ctx context.Context, p *partition, h *held) {
	text := fmt.Sprintf("%s: an open transaction holds records back from offset %d on", p.Partition, h.at)
	o.mu.Lock()
	known := strings.HasPrefix(o.named[p.Partition], text)
	o.mu.Unlock()
	if known {
		return
	}
	asking, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	open, err := o.cluster.OpenTransaction(asking, p.Partition, h.at)
	if ctx.Err() != nil {
		return
	}
	fields := []zap.Field{zap.String("topic", p.Topic), zap.Int("partition", p.ID), zap.Int64("offset", h.at), zap.Int64("count", h.records)}
	if err == nil {
		text += fmt.Sprintf(", of producer id %d", open.Producer)
		fields = append(fields, zap.Int64("producer_id", open.Producer))
		p.heldFrom(h.at, open.Began)
		if !open.Began.IsZero() {
			text += ", since " + open.Began.UTC().Format(time.RFC3339)
			fields = append(fields, zap.Time("oldest", open.Began))
		}
	} else {
		fields = append(fields, zap.Error(err))
	}
	o.log.Warn("an open transaction holds records back: nothing behind it is delivered before its producer ends it; if that one is gone, kafka-transactions.sh abort ends it at that offset", fields...)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.named[p.Partition] = text
}

// detail names them.
func (o *openTransactions) detail() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	lines := make([]string, 0, len(o.named))
	for _, text := range o.named {
		lines = append(lines, text)
	}
	slices.Sort(lines)
	return strings.Join(lines, "; ")
}

func transactionDesc() *prometheus.Desc {
	return prometheus.NewDesc("fanout_open_transaction_seconds", "Longest time that an open transaction has held records back; 0 where none does.", []string{"topic"}, nil)
}

// Describe implements prometheus.Collector.
func (o *openTransactions) Describe(ch chan<- *prometheus.Desc) { ch <- transactionDesc() }

// Collect implements prometheus.Collector.
func (o *openTransactions) Collect(ch chan<- prometheus.Metric) {
	longest := make(map[string]float64)
	for _, p := range o.assigned() {
		longest[p.Topic] = max(longest[p.Topic], 0)
		if h := p.heldBack(); h != nil {
			longest[p.Topic] = max(longest[p.Topic], time.Since(h.since).Seconds())
		}
	}
	for name, seconds := range longest {
		ch <- prometheus.MustNewConstMetric(transactionDesc(), prometheus.GaugeValue, seconds, name)
	}
}
