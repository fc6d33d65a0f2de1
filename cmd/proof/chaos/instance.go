package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"fanout/cmd/internal/lab"
)

// configure makes waits short, so that a run sees the end of them.
func (w *world) configure(c lab.Config) {
	list := make([]map[string]string, 0, 2)
	for _, topic := range sources() {
		list = append(list, map[string]string{"topic": topic})
	}
	c.Set("sources", list).
		Set("kafka.replication", max(w.s.nodes, 1)).
		Set("kafka.partitions", 3).
		Set("kafka.retry_partitions", 2)
	if w.s.plain {
		return
	}
	c.Set("delivery.schedule", []string{"1s", "2s", "5s", "5s", "5s", "5s", "5s", "5s", "5s", "5s", "5s", "5s"}).
		Set("delivery.permanent_statuses", []int{410, 422}).
		Set("lanes.park_min", "2s").
		Set("lanes.park_max", "5s")
}

// add starts one more instance and waits until it is ready.
func (w *world) add(ctx context.Context, adjust func(lab.Config)) (*lab.Fanout, error) {
	defer func(from time.Time) { w.revoked(from, time.Now().Add(time.Second)) }(time.Now()) // the others hand over
	f, err := w.addAtOnce(adjust)
	if err != nil {
		return nil, err
	}
	return f, w.ready(ctx, f)
}

// restart starts an instance that has ended, and waits until it is ready.
func (w *world) restart(ctx context.Context, f *lab.Fanout) error {
	defer func(from time.Time) { w.revoked(from, time.Now().Add(time.Second)) }(time.Now()) // the others hand over
	if err := f.Start(); err != nil {
		return err
	}
	return w.ready(ctx, f)
}

// addAtOnce starts one more instance.
func (w *world) addAtOnce(adjust func(lab.Config)) (*lab.Fanout, error) {
	f, err := w.lab.Fanout(w.program, w.kafka, w.redis, func(c lab.Config) {
		w.configure(c)
		if adjust != nil {
			adjust(c)
		}
	})
	if err != nil {
		return nil, err
	}
	w.fans = append(w.fans, f)
	return f, nil
}

// readyLimit is how long an instance may take until it is ready, with the machine shared by a broker that starts.
const readyLimit = 45 * time.Second

func (w *world) ready(ctx context.Context, f *lab.Fanout) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	if err := f.Ready(ctx); err != nil {
		return fmt.Errorf("instance %d: %w", slices.Index(w.fans, f), err)
	}
	return nil
}

// kill ends an instance with SIGKILL.
func (w *world) kill(f *lab.Fanout) error {
	now := time.Now()
	w.sayf("kill -9 of instance %d", slices.Index(w.fans, f))
	w.kills++
	w.crashed(now, now)
	return f.Kill()
}

// crashed notes a span whose attempts may be repeated, and those that were settled in the commit interval before it
// (docs/contract.md#repeats).
func (w *world) crashed(from, to time.Time) {
	const commitInterval = time.Second
	w.crashes = append(w.crashes, span{from.Add(-commitInterval), to})
}

// revoked notes a span in which instances hand partitions over, or end: an attempt that takes longer than they may wait
// is deferred while it is under way, and is so made twice (docs/contract.md#stop-and-revoke).
func (w *world) revoked(from, to time.Time) {
	w.revokes = append(w.revokes, span{from, to})
}

// faultEnded notes a moment after which deliveries should go on.
func (w *world) faultEnded() { w.marks = append(w.marks, time.Now()) }

// stop ends an instance with SIGTERM: within its time, with status 0, and with nothing but its own files left.
func (w *world) stop(ctx context.Context, f *lab.Fanout) error {
	index := slices.Index(w.fans, f)
	w.sayf("SIGTERM to instance %d", index)
	defer func(from time.Time) { w.revoked(from, time.Now().Add(time.Second)) }(time.Now())
	ctx, cancel := context.WithTimeout(ctx, 27*time.Second) // shutdown_timeout and a little
	defer cancel()
	if err := f.Stop(ctx); err != nil {
		return fmt.Errorf("stop instance %d: %w", index, err)
	}
	if code, err := f.Wait(ctx); err != nil || code != 0 {
		w.problems.addf("instance %d ended with status %d after SIGTERM", index, code)
	}
	entries, err := os.ReadDir(f.Dir())
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !slices.Contains([]string{"fanout.yaml", "fanout.log", "subscriptions", "subscriptions.dead-letters"}, e.Name()) {
			w.problems.addf("instance %d left %s behind", index, e.Name())
		}
	}
	return nil
}
