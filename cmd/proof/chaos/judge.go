package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// watch checks, while the scenario runs, what must hold at each moment: no committed offset passes an unsettled record,
// and none moves back.
func (w *world) watch(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	w.watching = cancel
	w.watcher.Go(func() {
		for pause(ctx, 1500*time.Millisecond) == nil {
			asking, done := context.WithTimeout(ctx, 15*time.Second)
			if err := w.checkCommits(asking); err != nil { // Kafka may be down: then it is checked later
				w.sayf("commits cannot be checked: %v", err)
			}
			done()
		}
	})
}

func (w *world) unwatch() {
	if w.watching != nil {
		w.watching()
		w.watcher.Wait()
	}
}

// checkCommits reads the commits first and then what became of the records: what was settled when an offset was
// committed is so for ever.
func (w *world) checkCommits(ctx context.Context) error {
	committed, err := w.witness.commits(ctx)
	if err != nil {
		return err
	}
	if err := w.witness.catchUp(ctx); err != nil {
		return err
	}
	delivered := w.receipts.counts()
	w.witness.mu.Lock()
	defer w.witness.mu.Unlock()
	for at, offset := range committed {
		key := fmt.Sprintf("%s of %s/%d", groupOf(at.topic), at.topic, at.partition)
		if before, ok := w.witness.committed[key]; ok && offset < before {
			w.problems.addf("the commit of group %s moved back from %d to %d", key, before, offset)
		}
		w.witness.committed[key] = offset
		records, checked := w.witness.source[at], w.witness.checked[at]
		for ; checked < len(records) && records[checked].offset < offset; checked++ {
			for _, id := range records[checked].ids {
				if delivered[id] == 0 && !w.witness.unsuccessful[id] && !w.excused[id] {
					w.problems.addf("%s/%d is committed to %d, and %s of offset %d is not settled", at.topic, at.partition, offset, id, records[checked].offset)
				}
			}
		}
		w.witness.checked[at] = checked
	}
	return nil
}

// rewound forgets what was committed: somebody has moved the offsets, or replaced a topic.
func (w *world) rewound() {
	w.witness.mu.Lock()
	defer w.witness.mu.Unlock()
	clear(w.witness.committed)
	clear(w.witness.checked)
}

// account is where all deliveries are.
type account struct {
	expected  map[string]int // webhook-id → how many source records lead to it
	delivered map[string]int
	dead      int
	waiting   int      // in a retry topic, to come
	missing   []string // nowhere
}

// countDeliveries says where every delivery is. It reads the commits last, so that a retry record that is due meanwhile
// still counts as waiting.
func (w *world) countDeliveries(ctx context.Context) (*account, error) {
	if err := w.witness.catchUp(ctx); err != nil {
		return nil, err
	}
	committed, err := w.witness.commits(ctx)
	if err != nil {
		return nil, err
	}
	a := &account{expected: make(map[string]int), delivered: w.receipts.counts()}
	t := w.witness
	t.mu.Lock()
	defer t.mu.Unlock()
	waiting := make(map[string]bool)
	for at, records := range t.retry {
		for _, r := range records {
			if r.offset >= committed[at] {
				waiting[r.ids[0]] = true
			}
		}
	}
	for _, r := range t.allSource() {
		for _, id := range r.ids {
			a.expected[id]++
		}
	}
	for id := range a.expected {
		switch {
		case a.delivered[id] > 0:
		case t.dead[id]:
			a.dead++
		case waiting[id]:
			a.waiting++
		case !w.excused[id]:
			a.missing = append(a.missing, id)
		}
	}
	return a, nil
}

// settleLimit is how long all may take to be settled when the load has ended.
const settleLimit = 100 * time.Second

// settle waits until nothing is missing, nothing waits, and every instance's account balances.
func (w *world) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	for {
		a, err := w.countDeliveries(ctx)
		unbalanced := w.unbalanced(ctx)
		if err == nil && len(a.missing) == 0 && (a.waiting == 0 || w.s.waits) && unbalanced == "" {
			w.sayf("settled")
			return
		}
		if pause(ctx, 500*time.Millisecond) != nil {
			if err != nil {
				w.problems.addf("Kafka cannot be read: %v", err)
			} else {
				w.problems.addf("after %v %d deliveries are nowhere, %d still wait in retry topics; %s", settleLimit, len(a.missing), a.waiting, unbalanced)
			}
			return
		}
	}
}

// unbalanced names a running instance whose loss account is off (docs/contract.md#loss-account); empty: none is.
func (w *world) unbalanced(ctx context.Context) string {
	for i, f := range w.fans {
		if !f.Running() {
			continue
		}
		asking, cancel := context.WithTimeout(ctx, 2*time.Second)
		m, err := f.Metrics(asking)
		cancel()
		switch {
		case err != nil:
			return fmt.Sprintf("instance %d does not answer: %v", i, err)
		case len(m.Unaccounted()) > 0:
			return fmt.Sprintf("instance %d's account is off by %v", i, m.Unaccounted())
		case m.Sum("fanout_in_flight") != 0:
			return fmt.Sprintf("instance %d has %v in flight", i, m.Sum("fanout_in_flight"))
		}
	}
	return ""
}

// siblings counts the deliveries that share their source record with one of the given. As long as that one's retry record
// cannot be written, the source record is in flight, and whoever reads it after a crash makes all its deliveries again
// (docs/contract.md#repeats).
func (t *witness) siblings(given map[string]bool) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.allSource() {
		unwritten := 0
		for _, id := range r.ids {
			if given[id] {
				unwritten++
			}
		}
		if unwritten > 0 {
			n += len(r.ids) - unwritten
		}
	}
	return n
}

// judge counts when everything has stopped.
func (w *world) judge(ctx context.Context, r *result) error {
	if err := w.checkCommits(ctx); err != nil {
		return err
	}
	a, err := w.countDeliveries(ctx)
	if err != nil {
		return err
	}
	r.events, r.kills, r.notes = w.witness.events, w.kills, w.notes
	r.lost = len(a.missing)
	for id, n := range a.delivered {
		r.deliveries += n
		if a.expected[id] == 0 && !w.excused[id] {
			w.problems.addf("delivered, and no event: %s", id)
		}
		r.repeats += max(0, n-max(a.expected[id], 1))
	}
	for _, c := range w.crashes {
		r.bound += w.receipts.under(c.from, c.to, 0)
	}
	const drain = 2 * time.Second // what an instance that hands partitions over surely waits
	for _, c := range w.revokes {
		r.bound += w.receipts.under(c.from, c.to, drain)
	}
	for _, d := range w.denied {
		r.bound += w.witness.siblings(w.receipts.failed(d))
	}
	if r.lost > 0 {
		w.problems.addf("%d deliveries are lost, such as %v", r.lost, slices.Sorted(slices.Values(a.missing))[:min(3, r.lost)])
	}
	if r.repeats > r.bound {
		w.problems.addf("%d repeats, and no more than %d are explained", r.repeats, r.bound)
	}
	if n := w.unwritten.Load(); n > 0 {
		w.notes = append(w.notes, fmt.Sprintf("%d events were never written", n))
	}
	if a.waiting > 0 {
		r.notes = append(slices.Clone(r.notes), fmt.Sprintf("%d wait for a retry", a.waiting))
	}
	if a.dead > 0 {
		r.notes = append(slices.Clone(r.notes), fmt.Sprintf("%d dead letters", a.dead))
	}
	for _, at := range w.marks {
		wait, ok := w.receipts.first(at)
		if !ok {
			w.problems.addf("nothing was delivered after a fault had ended")
			continue
		}
		r.faults++
		r.first = max(r.first, wait)
		if w.s.limit > 0 && wait > w.s.limit {
			w.problems.addf("the first delivery took %.2f s, and no more than %v are allowed", wait.Seconds(), w.s.limit)
		}
	}
	return nil
}
