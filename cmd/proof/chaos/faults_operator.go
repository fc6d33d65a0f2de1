package main

import (
	"context"
	"fmt"
	"time"

	"fanout/cmd/internal/lab"
)

// operators do what they do all day, while instances are killed: subscriptions are paused, slowed down and renewed, and
// dead letters are replayed.
func operators(ctx context.Context, w *world) error {
	w.faults.refuses.Store(20)
	until := time.Now().Add(w.length(40*time.Second, 20*time.Second))
	for n := 0; time.Now().Before(until); n++ {
		account := accountName(w.rng.IntN(accounts))
		var err error
		switch n % 4 {
		case 0:
			err = w.while(ctx, account, `,"paused":true`)
		case 1:
			err = w.while(ctx, account, `,"maxPerSecond":10`)
		case 2:
			err = w.while(ctx, account, `,"headers":{"x-turn":"2"},"maxInFlight":3`)
		case 3:
			w.replayUnderKill(ctx, account, n)
		}
		if err != nil {
			return err
		}
	}
	w.faults.refuses.Store(0)
	return pause(ctx, 3*time.Second)
}

// while stores the account's main subscription with something added, kills an instance, and stores it as it was.
func (w *world) while(ctx context.Context, account, added string) error {
	w.sayf("%s has %s", account, added)
	if err := w.putMain(ctx, account, added); err != nil {
		return err
	}
	if err := pause(ctx, w.between(time.Second, 2*time.Second)); err != nil {
		return err
	}
	f := w.fans[w.rng.IntN(len(w.fans))]
	if err := w.kill(f); err != nil {
		return err
	}
	if err := f.Start(); err != nil {
		return err
	}
	w.faultEnded()
	if err := pause(ctx, w.between(time.Second, 3*time.Second)); err != nil {
		return err
	}
	return w.putMain(ctx, account, "")
}

func (w *world) putMain(ctx context.Context, account, added string) error {
	json := fmt.Sprintf(`{"url":%q,"events":["*"]%s}`, w.receiver.URL("/"+account+"/main"), added)
	return w.redis.PutSubscription(ctx, account, "main", json)
}

// replayUnderKill replays the account's dead letters; whoever runs the replay is killed, and it goes on under its name.
func (w *world) replayUnderKill(ctx context.Context, account string, n int) {
	w.sayf("dead letters of %s are replayed", account)
	replay := func(limit time.Duration) (int, error) {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		_, code, err := w.fanout(ctx, "deadletter", "replay", "--account", account, "--rate", "50", "--name", fmt.Sprintf("chaos-%d", n), "--yes")
		return code, err
	}
	_, _ = replay(w.between(300*time.Millisecond, time.Second)) // killed, or done before
	code, err := replay(30 * time.Second)
	if err != nil || code != 0 {
		w.problems.addf("replay for %s: status %d, %v", account, code, err)
	}
}

// scheduleChanged replaces each instance by one with other delays, and again by one with the first: what waits in the
// topics of a schedule that nobody has any more is delivered all the same (docs/contract.md#old-tiers).
func scheduleChanged(ctx context.Context, w *world) error {
	w.faults.failing.Store(200)
	replace := func(adjust func(lab.Config)) error {
		for _, f := range w.fans {
			if !f.Running() {
				continue
			}
			if err := pause(ctx, w.between(time.Second, 2*time.Second)); err != nil {
				return err
			}
			if _, err := w.add(ctx, adjust); err != nil {
				return err
			}
			if err := w.stop(ctx, f); err != nil {
				return err
			}
			w.faultEnded()
		}
		return nil
	}
	if err := replace(func(c lab.Config) {
		c.Set("delivery.schedule", []string{"3s", "4s", "4s", "4s", "4s", "4s", "4s", "4s"})
	}); err != nil {
		return err
	}
	if err := pause(ctx, 4*time.Second); err != nil {
		return err
	}
	if err := replace(nil); err != nil {
		return err
	}
	w.faults.failing.Store(20)
	return pause(ctx, 2*time.Second)
}
