package main

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"fanout/cmd/internal/lab"
)

// These scenarios measure how soon deliveries go on after an outage (docs/contract.md#targets): one instance, with
// fanout's own intervals. The run fails where the first delivery takes longer.

// backKilled starts an instance again that was killed: the group waits for the dead member's session.
func backKilled(ctx context.Context, w *world) error {
	if err := pause(ctx, w.between(3*time.Second, 5*time.Second)); err != nil {
		return err
	}
	if err := w.kill(w.fans[0]); err != nil {
		return err
	}
	w.faultEnded()
	if err := w.fans[0].Start(); err != nil {
		return err
	}
	return pause(ctx, 14*time.Second)
}

// backStopped starts an instance again that was stopped.
func backStopped(ctx context.Context, w *world) error {
	if err := pause(ctx, w.between(3*time.Second, 5*time.Second)); err != nil {
		return err
	}
	if err := w.stop(ctx, w.fans[0]); err != nil {
		return err
	}
	w.faultEnded()
	if err := w.fans[0].Start(); err != nil {
		return err
	}
	return pause(ctx, 5*time.Second)
}

// backRedis brings Redis back for an instance that has no snapshot, and so had to wait for it.
func backRedis(ctx context.Context, w *world) error {
	f := w.fans[0]
	if err := pause(ctx, 2*time.Second); err != nil {
		return err
	}
	if err := w.stop(ctx, f); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(f.Dir(), "subscriptions")); err != nil {
		return err
	}
	if err := w.redis.Kill(); err != nil {
		return err
	}
	if err := f.Start(); err != nil {
		return err
	}
	if err := pause(ctx, w.between(5*time.Second, 20*time.Second)); err != nil {
		return err
	}
	if err := w.redis.Start(ctx); err != nil {
		return err
	}
	w.faultEnded()
	return pause(ctx, 6*time.Second)
}

// backReceiver takes the receivers away for long enough that their lanes park. A parked lane asks again when its
// cool-down ends, so lanes.park_max bounds this; by default the cool-down is 30 s and more.
func backReceiver(ctx context.Context, w *world) error {
	_, err := w.add(ctx, func(c lab.Config) { c.Set("lanes.park_min", "2s").Set("lanes.park_max", "4s") })
	if err != nil {
		return err
	}
	if err := pause(ctx, 3*time.Second); err != nil {
		return err
	}
	from := time.Now()
	w.receiver.Stop() // it bounds itself
	w.crashed(from.Add(time.Second), time.Now())
	if err := pause(ctx, w.between(3*time.Second, 25*time.Second)); err != nil {
		return err
	}
	if err := w.receiver.Start(); err != nil {
		return err
	}
	w.faultEnded()
	return pause(ctx, 8*time.Second)
}

// backBroker kills the only broker and starts it again. What Java takes until the broker answers, which is the machine's
// affair, is noted and not counted.
func backBroker(ctx context.Context, w *world) error {
	if err := pause(ctx, w.between(3*time.Second, 5*time.Second)); err != nil {
		return err
	}
	if err := w.killNodes(ctx, w.between(0, 5*time.Second), w.kafka.Nodes...); err != nil {
		return err
	}
	return pause(ctx, 16*time.Second)
}
