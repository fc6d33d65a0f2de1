package subscriptions

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// Run keeps the snapshot up to date until ctx is done: it reads the snapshot file, loads everything from Redis, follows
// the changes, and loads everything again every five minutes. Redis may come, hang and go as it likes. At the end it
// writes the snapshot file and closes the connections. It is called once, and returns nil.
//
// With a snapshot file it is ready once every change since has been applied. Where the stream does not have them all, it
// is ready once everything is loaded; and where Redis fails, with the file as it is.
func (d *Directory) Run(ctx context.Context) error {
	f := &follower{d: d, suspected: make(suspectedRemovals)}
	if file, ok := d.file.read(d.fill); ok {
		f.position, f.youngestRead, f.verify = file.position, millis(file.position), file.position != ""
		f.gap = file.foreign || file.position == streamStart // how much has come and been trimmed since, nothing tells
		if file.position != "" {
			d.full.ask()
		}
	}
	d.file.sweep()
	var group sync.WaitGroup
	group.Go(func() { f.run(ctx) })
	group.Go(func() { d.reconcileLoop(ctx) })
	group.Go(func() { d.file.run(ctx) })
	// A blocking read would hold the stop up for a second.
	context.AfterFunc(ctx, func() { _ = d.client.Close() })
	group.Wait()
	return nil
}

func (d *Directory) reconcileLoop(ctx context.Context) {
	// The first load waits for the follower's anchor: what changes during the load is then announced after it.
	var next time.Duration
	for {
		select {
		case <-d.full:
		case <-after(next):
		case <-ctx.Done():
			return
		}
		accepted := d.accepted.Swap(false)
		err := d.reconcile(ctx, !accepted)
		if ctx.Err() != nil {
			return
		}
		next = d.nextLoad(err)
		if err == nil {
			continue
		}
		if accepted {
			d.accepted.Store(true)
		}
		d.fresh.loadFailed(err)
		sleep(ctx, d.intervals.retry)
	}
}

// nextLoad is when to load again; jittered, so that instances do not load together.
func (d *Directory) nextLoad(err error) time.Duration {
	wait := d.intervals.reconcile
	switch {
	case err != nil:
		return d.intervals.retry
	case d.guard.refused() != nil:
		wait = min(wait, d.intervals.refused)
	}
	return wait - time.Duration(rand.Int64N(int64(wait/10)+1))
}

// after is a channel that fires once; never for zero.
func after(wait time.Duration) <-chan time.Time {
	if wait == 0 {
		return nil
	}
	return time.NewTimer(wait).C // collected when nobody waits for it, since Go 1.23
}
