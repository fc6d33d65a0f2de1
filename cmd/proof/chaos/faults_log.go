package main

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"fanout/cmd/internal/lab"
)

// logCut loses the end of both source logs with their only broker, as a disk cache that was never written does. One is
// written over at once, which only its leader epochs tell; to the other nothing is written for a while, so that the
// group's offsets lie behind its end. What was delivered is not sent again, and what is new arrives.
func logCut(ctx context.Context, w *world) error {
	w.named = true
	if err := pause(ctx, 5*time.Second); err != nil {
		return err
	}
	if err := w.unload(ctx); err != nil {
		return err
	}
	w.settle(ctx)
	w.unwatch() // what is committed lies behind the end, until it is committed anew
	from := time.Now()
	if err := w.kafka.Kill(); err != nil {
		return err
	}
	const lost = 20_000 // bytes of each partition
	for _, topic := range sources() {
		for p := range 4 {
			if err := w.kafka.Nodes[0].CutLog(topic, p, lost); err != nil {
				return err
			}
		}
	}
	if err := w.kafka.Start(ctx); err != nil {
		return err
	}
	n, err := w.witness.cut(ctx)
	if err != nil {
		return err
	}
	w.notef("%d records cut", n)
	w.crashed(from, time.Now())
	w.spared = topicSMS
	w.load(ctx, w.set.rate)
	w.faultEnded()
	if err := pause(ctx, 8*time.Second); err != nil {
		return err
	}
	if err := w.unload(ctx); err != nil {
		return err
	}
	w.spared = ""
	w.load(ctx, w.set.rate)
	return pause(ctx, 5*time.Second)
}

// cut finds out where the sources' logs end now. What lay behind is of the past: it was delivered, and other records
// will have its offsets.
func (t *witness) cut(ctx context.Context) (lost int, err error) {
	ends, err := t.admin.ListEndOffsets(ctx, sources()...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return 0, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	ends.Each(func(end kadm.ListedOffset) {
		at := topicPartition{end.Topic, end.Partition}
		records := t.source[at]
		kept := 0
		for kept < len(records) && records[kept].offset < end.Offset {
			kept++
		}
		lost += len(records) - kept
		t.past = append(t.past, records[kept:])
		t.source[at] = records[:kept:kept]
		t.checked[at] = min(t.checked[at], kept)
		t.next[at] = min(t.next[at], end.Offset)
	})
	clear(t.committed)
	return lost, nil
}

// dated lets producers date their records up to an hour ahead or back, or not at all, and keeps their times on the retry
// topics too: nothing waits for longer than its delay, and no lag is told of years (docs/contract.md#future-timestamps).
func dated(ctx context.Context, w *world) error {
	if err := w.unload(ctx); err != nil {
		return err
	}
	for _, delay := range []string{"1s", "2s", "5s"} {
		t := lab.Topic{Name: retryTopic + delay, Partitions: 2, Config: map[string]string{"message.timestamp.type": "CreateTime"}}
		if err := w.kafka.CreateTopics(ctx, t); err != nil {
			return err
		}
	}
	for range 2 {
		if _, err := w.add(ctx, nil); err != nil {
			return err
		}
	}
	w.faults.failing.Store(100)
	w.stamp = func(rng *rand.Rand) time.Time {
		if rng.IntN(4) == 0 {
			return time.UnixMilli(-1) // without a time
		}
		return time.Now().Add(time.Duration(rng.Int64N(int64(118*time.Minute))) - 59*time.Minute)
	}
	w.load(ctx, w.set.rate)
	for range 4 {
		if err := pause(ctx, 4*time.Second); err != nil {
			return err
		}
		for i, f := range w.fans {
			m, err := f.Metrics(ctx)
			if err != nil {
				return err
			}
			if behind := m.Sum("fanout_lag_seconds"); behind > 24*time.Hour.Seconds() {
				w.problems.addf("instance %d says that it lags by %v s", i, behind)
			}
		}
	}
	w.faults.failing.Store(20)
	return nil
}
