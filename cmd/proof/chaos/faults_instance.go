package main

import (
	"context"
	"time"

	"fanout/cmd/internal/lab"
)

// killing ends one instance after the other with SIGKILL and starts it again.
func killing(ctx context.Context, w *world) error {
	until := time.Now().Add(w.length(45*time.Second, 25*time.Second))
	for time.Now().Before(until) {
		if err := pause(ctx, w.between(2*time.Second, 5*time.Second)); err != nil {
			return err
		}
		f := w.fans[w.rng.IntN(len(w.fans))]
		if err := w.kill(f); err != nil {
			return err
		}
		if err := pause(ctx, w.between(0, 2*time.Second)); err != nil {
			return err
		}
		if err := f.Start(); err != nil {
			return err
		}
		w.faultEnded()
	}
	return pause(ctx, 3*time.Second)
}

// rolling restarts one instance after the other with SIGTERM, as a deployment does.
func rolling(ctx context.Context, w *world) error {
	rounds := 2
	if w.set.short {
		rounds = 1
	}
	for range rounds {
		for _, f := range w.fans {
			if err := pause(ctx, w.between(time.Second, 3*time.Second)); err != nil {
				return err
			}
			if err := w.stop(ctx, f); err != nil {
				return err
			}
			w.faultEnded()
			if err := w.restart(ctx, f); err != nil {
				return err
			}
		}
	}
	return pause(ctx, 2*time.Second)
}

// deploying is a deployment and a step of an autoscaler while one account's receivers hang: its deliveries are what is in flight whenever a
// partition moves.
func deploying(ctx context.Context, w *world) error {
	w.faults.hanging.Store(new(accountName(0)))
	if err := rolling(ctx, w); err != nil {
		return err
	}
	more, err := w.add(ctx, nil)
	if err != nil {
		return err
	}
	if err := pause(ctx, w.between(2*time.Second, 4*time.Second)); err != nil {
		return err
	}
	if err := w.stop(ctx, more); err != nil {
		return err
	}
	w.faultEnded()
	w.faults.hanging.Store(nil)
	return pause(ctx, 2*time.Second)
}

// freezing stops an instance as a suspended machine does, for longer than its session, and lets it go on when another
// has taken its partitions.
func freezing(ctx context.Context, w *world) error {
	if err := pause(ctx, w.between(3*time.Second, 5*time.Second)); err != nil {
		return err
	}
	f := w.fans[w.rng.IntN(len(w.fans))]
	at := time.Now()
	if err := f.Pause(); err != nil {
		return err
	}
	frozen := w.length(w.between(20*time.Second, 60*time.Second), 14*time.Second)
	w.notef("frozen %.0f s", frozen.Seconds())
	w.faultEnded()
	if err := pause(ctx, frozen); err != nil {
		return err
	}
	if err := f.Resume(); err != nil {
		return err
	}
	w.kills++
	w.crashed(at, at)
	w.faultEnded()
	w.sayf("goes on")
	return pause(ctx, 8*time.Second)
}

// rewinding sets the group's offsets to the start: everything comes again, with the webhook-ids it had.
func rewinding(ctx context.Context, w *world) error {
	if err := pause(ctx, 6*time.Second); err != nil {
		return err
	}
	if err := w.unload(ctx); err != nil {
		return err
	}
	w.settle(ctx)
	w.unwatch()
	for _, f := range w.fans {
		if err := w.stop(ctx, f); err != nil {
			return err
		}
	}
	before, err := w.countDeliveries(ctx)
	if err != nil {
		return err
	}
	if err := w.witness.rewind(ctx); err != nil {
		return err
	}
	w.rewound()
	w.crashed(w.began, time.Now()) // all may come again
	for _, f := range w.fans {
		if err := f.Start(); err != nil {
			return err
		}
	}
	w.faultEnded()
	w.watch(ctx)
	return lab.Await(ctx, "everything to come again", func() bool {
		now := w.receipts.counts()
		for id, n := range before.delivered {
			if now[id] <= n && !w.witness.isDead(id) {
				return false
			}
		}
		return true
	})
}
