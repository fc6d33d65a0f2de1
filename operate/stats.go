package operate

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"fanout/topic"
)

// DeadLetterCount is a row of statistics: how many dead letters share the key, and from when to when they died.
type DeadLetterCount struct {
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

// CountDeadLetters counts what the filter selects in the ranges; the largest counts come first.
func CountDeadLetters(ctx context.Context, l *topic.DeadLetters, filter *topic.Filter, by By, ranges map[int]topic.Range, done *atomic.Int64) ([]DeadLetterCount, error) {
	type key struct{ account, subscription, event, reason string }
	perPartition := make(map[int]map[key]*DeadLetterCount) // filled before the scan, and then only read: a partition has one goroutine
	for id := range ranges {
		perPartition[id] = make(map[key]*DeadLetterCount)
	}
	err := l.Each(ctx, filter, ranges, done, func(d *topic.DeadLetter) error {
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
		counts := perPartition[d.Partition]
		g := counts[k]
		if g == nil {
			g = &DeadLetterCount{k.account, k.subscription, k.event, k.reason, 0, 0, d.DeadAt, d.DeadAt}
			counts[k] = g
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
	all := make(map[key]*DeadLetterCount)
	for _, counts := range perPartition {
		for k, g := range counts {
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
	list := make([]DeadLetterCount, 0, len(all))
	for g := range maps.Values(all) {
		list = append(list, *g)
	}
	slices.SortFunc(list, largestFirst)
	return list, nil
}

func largestFirst(a, b DeadLetterCount) int {
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
