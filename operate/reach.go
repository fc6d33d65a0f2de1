package operate

import (
	"context"
	"strconv"
	"sync"
	"time"

	"fanout/dispatcher"
	"fanout/topic"
)

// reach is how far back a topic knows: what was written before has expired.
type reach struct {
	first      time.Time         // of all that it holds; zero: it is empty
	partitions map[int]time.Time // of those whose oldest records have expired
	size       int
}

// reachOf looks at the first record of each partition.
func reachOf(ctx context.Context, c *topic.Cluster, name string) (reach, error) {
	r := reach{partitions: make(map[int]time.Time)}
	ranges, err := c.Ranges(ctx, name, time.Time{})
	if err != nil {
		return r, err
	}
	r.size = len(ranges)
	now := time.Now()
	heads := make(map[int]topic.Range)
	for id, held := range ranges {
		if held.From > 0 {
			r.partitions[id] = now // unless there is something left
		}
		if held.From < held.To {
			heads[id] = topic.Range{From: held.From, To: held.From + 1}
		}
	}
	var mu sync.Mutex // guards r
	err = c.Scan(ctx, name, heads, nil, func(m *topic.Record) error {
		mu.Lock()
		defer mu.Unlock()
		if _, expired := r.partitions[m.ID]; expired {
			r.partitions[m.ID] = m.Time
		}
		if r.first.IsZero() || m.Time.Before(r.first) {
			r.first = m.Time
		}
		return nil
	})
	return r, err
}

// of is since when what an account's attempts led to is known: the attempts topic keeps them in one partition.
func (r *reach) of(account string) time.Time {
	began := r.first.Add(-firstSlack) // the topic may have been made then
	if r.size == 0 {
		return began
	}
	return later(began, r.partitions[topic.AccountPartition(account, r.size)])
}

// all is since when the topic has what was written to any partition; zero: all that ever was.
func (r *reach) all() (since time.Time) {
	for _, at := range r.partitions {
		since = later(since, at)
	}
	return since
}

func sourceOf(o dispatcher.Origin) string { return o.Topic + "/" + strconv.Itoa(o.Partition) }
