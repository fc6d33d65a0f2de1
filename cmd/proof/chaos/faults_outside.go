package main

import (
	"context"
	"time"

	"fanout/cmd/internal/lab"
)

// redisHang freezes Redis: nothing of it is on the path of an event.
func redisHang(ctx context.Context, w *world) error {
	return w.withoutRedis(ctx, w.redis.Pause, func() error { return w.redis.Resume() })
}

// redisKill kills Redis, and an instance with it: that one starts from its snapshot on disk.
func redisKill(ctx context.Context, w *world) error {
	return w.withoutRedis(ctx, w.redis.Kill, func() error { return w.redis.Start(ctx) })
}

// redisEmpty empties Redis, as a failover to an empty replica does: what is known stays in force.
func redisEmpty(ctx context.Context, w *world) error {
	return w.withoutRedis(ctx, func() error { return w.redis.FlushAll(ctx) }, func() error { return w.subscribe(ctx) })
}

func (w *world) withoutRedis(ctx context.Context, away, back func() error) error {
	if err := pause(ctx, 3*time.Second); err != nil {
		return err
	}
	f := w.fans[0]
	// Written within 10 s of a change: only then can a kill take the instance away.
	snapshot, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	if err := lab.Await(snapshot, "the snapshot", f.HasSnapshot); err != nil {
		return err
	}
	if err := away(); err != nil {
		return err
	}
	w.faultEnded()
	if err := pause(ctx, w.between(2*time.Second, 4*time.Second)); err != nil {
		return err
	}
	if err := w.kill(f); err != nil {
		return err
	}
	w.faultEnded()
	if err := w.restart(ctx, f); err != nil {
		return err
	}
	if err := pause(ctx, w.length(10*time.Second, 3*time.Second)); err != nil {
		return err
	}
	if err := back(); err != nil {
		return err
	}
	w.faultEnded()
	return pause(ctx, 5*time.Second)
}

// receiversDown takes every receiver away.
func receiversDown(ctx context.Context, w *world) error {
	if err := pause(ctx, 4*time.Second); err != nil {
		return err
	}
	from := time.Now()
	w.receiver.Stop()                            // it bounds itself
	w.crashed(from.Add(time.Second), time.Now()) // answers that were cut off
	w.sayf("receivers are down")
	if err := pause(ctx, w.length(time.Minute, 12*time.Second)); err != nil {
		return err
	}
	if err := w.receiver.Start(); err != nil {
		return err
	}
	w.faultEnded()
	return pause(ctx, 8*time.Second)
}
