package operate

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"fanout/topic"
)

// repairs tells which malformed dead letters were repaired and sent to their source topics before: an event that was sent so names the
// dead letter that it was made of (docs/contract.md#replay-edit).
type repairs struct {
	cluster *topic.Cluster
	since   map[string]time.Time           // by source topic, when the first of its dead letters died
	seen    map[string]map[int]topic.Range // how far it was read

	mu   sync.Mutex // guards sent
	sent map[repaired]time.Time
}

// repaired is a malformed dead letter, and the source topic that its event belongs to.
type repaired struct {
	source    string
	partition int
	offset    int64
}

// newRepairs knows of no dead letter yet.
func newRepairs(c *topic.Cluster) *repairs {
	return &repairs{cluster: c, since: make(map[string]time.Time), seen: make(map[string]map[int]topic.Range), sent: make(map[repaired]time.Time)}
}

// ask adds a malformed dead letter to those that look looks for. It may be called from several goroutines.
func (r *repairs) ask(d *topic.DeadLetter) {
	origin, err := topic.ParseOrigin(d.Origin)
	if err != nil {
		return // nothing is sent of it
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	first, known := r.since[origin.Topic]
	if at := d.DeadAt.Add(-topic.ClockSlack); !known || at.Before(first) {
		r.since[origin.Topic] = at
	}
	r.sent[repaired{origin.Topic, d.Partition, d.Offset}] = time.Time{}
}

// look reads the source topics: at first from the time on when the dead letters died, which are older than all that was made of them, and then
// what is new.
func (r *repairs) look(ctx context.Context, done *atomic.Int64, total func(int64)) error {
	for source, since := range r.since {
		held, err := r.cluster.Ranges(ctx, source, since)
		if topic.NoTopic(err) {
			continue // nothing of it can be sent either
		}
		if err != nil {
			return err
		}
		fresh := make(map[int]topic.Range, len(held))
		for id, h := range held {
			if from := max(h.From, r.seen[source][id].To); from < h.To {
				fresh[id] = topic.Range{From: from, To: h.To}
			}
		}
		if total != nil {
			total(topic.Total(fresh))
		}
		if err := r.cluster.Scan(ctx, source, fresh, done, r.take); err != nil {
			return err
		}
		r.seen[source] = held
	}
	return nil
}

func (r *repairs) take(m *topic.Record) error {
	at, err := parsePosition(m.Header(topic.HeaderDeadLetter))
	if err != nil {
		return nil // hardly any record has one
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	which := repaired{m.Topic, at.partition, at.offset}
	if last, asked := r.sent[which]; asked {
		r.sent[which] = later(last, m.Time)
	}
	return nil
}

// repaired says whether a dead letter that was asked for was sent before. What was sent before it had died was made of another one, which lay
// there before the topic was created again.
func (r *repairs) repaired(d *topic.DeadLetter) bool {
	origin, err := topic.ParseOrigin(d.Origin)
	if err != nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sent[repaired{origin.Topic, d.Partition, d.Offset}].After(d.DeadAt.Add(-topic.ClockSlack))
}
