package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
)

// DeadLetters reads the dead-letter topic. It changes nothing.
type DeadLetters struct {
	admin *Admin
	topic string
}

// DeadLetters of the configuration's dead-letter topic.
func (a *Admin) DeadLetters() *DeadLetters {
	return &DeadLetters{admin: a, topic: newNames(a.cfg.TopicPrefix).deadLetter}
}

// ErrNoPartition says that a selection names a partition which the topic does not have.
var ErrNoPartition = errors.New("the dead-letter topic has no such partition")

// Ranges is what must be read to see all that the filter may select, as of now: what dies later is not in it. A topic
// that does not exist yet holds nothing.
func (l *DeadLetters) Ranges(ctx context.Context, f *Filter) (map[int]Range, error) {
	since := f.Since
	if !since.IsZero() {
		since = since.Add(-clockSlack) // the filter looks at the time of death, Kafka at the record's timestamp
	}
	ranges, err := l.admin.Ranges(ctx, l.topic, since)
	if errors.Is(err, kafka.UnknownTopicOrPartition) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, id := range f.Partitions {
		if _, ok := ranges[id]; !ok {
			return nil, fmt.Errorf("%w: %d (it has 0 to %d)", ErrNoPartition, id, len(ranges)-1)
		}
	}
	for id, r := range ranges {
		if len(f.Partitions) > 0 && !slices.Contains(f.Partitions, id) {
			delete(ranges, id)
			continue
		}
		if f.Offsets != nil {
			r.From, r.To = max(r.From, f.Offsets.From), min(r.To, f.Offsets.To)
			ranges[id] = r
		}
	}
	return ranges, nil
}

// Each calls f, from one goroutine a partition, with each dead letter in the ranges that the filter selects. The dead
// letter is good until f returns.
func (l *DeadLetters) Each(ctx context.Context, filter *Filter, ranges map[int]Range, done *atomic.Int64, f func(*DeadLetter) error) error {
	pool := sync.Pool{New: func() any { return new(DeadLetter) }}
	match := filter.matcher()
	return l.admin.Scan(ctx, l.topic, ranges, done, func(m *Message) error {
		d, _ := pool.Get().(*DeadLetter)
		defer pool.Put(d)
		readDeadLetter(m, d)
		if !match(d) {
			return nil
		}
		return f(d)
	})
}

// Group is a row of statistics: how many dead letters share the key, and from when to when they died.
type Group struct {
	Account      string    `json:"account,omitempty"`
	Subscription string    `json:"subscription,omitempty"`
	Event        string    `json:"event,omitempty"`
	Reason       string    `json:"reason,omitempty"`
	Count        int       `json:"count"`
	Replayed     int       `json:"replayed"` // of these, how many had been replayed before they died again
	First        time.Time `json:"first"`
	Last         time.Time `json:"last"`
}

// By says what dead letters are counted by.
type By struct{ Subscription, Event, Reason bool }

// Stats counts what the filter selects; the largest groups come first.
func (l *DeadLetters) Stats(ctx context.Context, filter *Filter, by By, ranges map[int]Range, done *atomic.Int64) ([]Group, error) {
	type key struct{ account, subscription, event, reason string }
	perPartition := make(map[int]map[key]*Group) // filled before the scan, and then only read: a partition has one goroutine
	for id := range ranges {
		perPartition[id] = make(map[key]*Group)
	}
	err := l.Each(ctx, filter, ranges, done, func(d *DeadLetter) error {
		var k key
		if by.Subscription {
			k.account, k.subscription = d.Account, d.Subscription
		}
		if by.Event {
			k.event = d.Event
		}
		if by.Reason {
			k.reason = d.Reason
		}
		groups := perPartition[d.Partition]
		g := groups[k]
		if g == nil {
			g = &Group{k.account, k.subscription, k.event, k.reason, 0, 0, d.DeadAt, d.DeadAt}
			groups[k] = g
		}
		g.Count++
		if d.Replays > 0 {
			g.Replayed++
		}
		g.First, g.Last = earlier(g.First, d.DeadAt), later(g.Last, d.DeadAt)
		return nil
	})
	if err != nil {
		return nil, err
	}
	all := make(map[key]*Group)
	for _, groups := range perPartition {
		for k, g := range groups {
			sum := all[k]
			if sum == nil {
				all[k] = g
				continue
			}
			sum.Count += g.Count
			sum.Replayed += g.Replayed
			sum.First, sum.Last = earlier(sum.First, g.First), later(sum.Last, g.Last)
		}
	}
	list := make([]Group, 0, len(all))
	for g := range maps.Values(all) {
		list = append(list, *g)
	}
	slices.SortFunc(list, largestFirst)
	return list, nil
}

func largestFirst(a, b Group) int {
	return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Account, b.Account), cmp.Compare(a.Subscription, b.Subscription),
		cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Event, b.Event))
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// Get reads one dead letter; nil where the offset holds none.
func (l *DeadLetters) Get(ctx context.Context, partition int, offset int64) (*DeadLetter, error) {
	var found *DeadLetter
	err := l.admin.Scan(ctx, l.topic, map[int]Range{partition: {offset, offset + 1}}, nil, func(m *Message) error {
		if m.Offset == offset {
			found = new(DeadLetter)
			readDeadLetter(m, found)
		}
		return nil
	})
	return found, err
}
