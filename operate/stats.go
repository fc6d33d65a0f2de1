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
	// States are how many of them are in each state, where that was looked for.
	States map[LetterState]int `json:"states,omitempty"`
}

// By says what dead letters are counted by.
type By struct{ Subscription, Event, Reason bool }

// StatsConfig says which dead letters are counted, and by what.
type StatsConfig struct {
	Filter topic.Filter
	Ranges map[int]topic.Range
	By     By
	Open   bool // only those that are open
	Done   *atomic.Int64
	Total  func(int64) // told how many more offsets there are; may be nil
}

// CountDeadLetters counts dead letters, each in its state; the largest counts come first. They are read twice: to judge one, what became of it is
// read in between. since is since when what was delivered is known; zero: nothing is.
func CountDeadLetters(ctx context.Context, c *topic.Cluster, cfg *StatsConfig) (list []DeadLetterCount, since time.Time, err error) {
	l, states := c.DeadLetters(), newLetterJudge(c)
	if cfg.Total != nil {
		cfg.Total(2 * topic.Total(cfg.Ranges))
	}
	if err := states.look(ctx, func(ask func(*topic.DeadLetter) error) error {
		return l.Each(ctx, &cfg.Filter, cfg.Ranges, cfg.Done, ask)
	}, cfg.Done, cfg.Total); err != nil {
		return nil, since, err
	}
	by := cfg.By
	type key struct{ account, subscription, event, reason string }
	perPartition := make(map[int]map[key]*DeadLetterCount) // filled before the scan, and then only read: a partition has one goroutine
	for id := range cfg.Ranges {
		perPartition[id] = make(map[key]*DeadLetterCount)
	}
	err = l.Each(ctx, &cfg.Filter, cfg.Ranges, cfg.Done, func(d *topic.DeadLetter) error {
		state := states.state(d)
		if cfg.Open && state != LetterOpen {
			return nil
		}
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
			g = &DeadLetterCount{k.account, k.subscription, k.event, k.reason, 0, 0, d.DeadAt, d.DeadAt, make(map[LetterState]int)}
			for _, s := range LetterStates() {
				g.States[s] = 0 // a program finds each of them
			}
			counts[k] = g
		}
		g.Count++
		g.States[state]++
		if d.Replays > 0 {
			g.Replayed++
		}
		g.First, g.Last = earlier(g.First, d.DeadAt), later(g.Last, d.DeadAt)
		return nil
	})
	if err != nil {
		return nil, since, err
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
			for state, n := range g.States {
				sum.States[state] += n
			}
			sum.First, sum.Last = earlier(sum.First, g.First), later(sum.Last, g.Last)
		}
	}
	list = make([]DeadLetterCount, 0, len(all))
	for g := range maps.Values(all) {
		list = append(list, *g)
	}
	slices.SortFunc(list, largestFirst)
	return list, states.since(), nil
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
