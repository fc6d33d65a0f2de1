package subscriptions

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Run keeps the snapshot up to date until ctx is done: it reads the snapshot file, loads everything from Redis, follows
// the changes, and loads everything again every five minutes. Redis may come, hang and go as it likes. At the end it
// writes the snapshot file and closes the connections. It is called once, and returns nil.
//
// With a snapshot file it is ready once every change since has been applied. Where the stream does not have them all, it
// is ready once everything is loaded; and where Redis fails, with the file as it is.
func (d *Directory) Run(ctx context.Context) error {
	f := &follower{d: d, suspected: make(suspectedRemovals)}
	if file, ok := d.readSnapshot(); ok {
		f.position, f.youngestRead, f.verify = file.position, millis(file.position), file.position != ""
		f.gap = file.foreign || file.position == streamStart // how much has come and been trimmed since, nothing tells
		d.state.began = time.Now()
		if file.position != "" {
			d.askFull()
		}
	}
	d.sweep()
	var group sync.WaitGroup
	group.Go(func() { f.run(ctx) })
	group.Go(func() { d.reconcileLoop(ctx) })
	group.Go(func() { d.writeLoop(ctx) })
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
		d.loadFailed(describe(err))
		sleep(ctx, d.intervals.retry)
	}
}

// fallBack ends a start's waiting for a Redis that fails, where there is a snapshot file: when it has not answered since the
// start for intervals.start, and when changes or full loads have failed for intervals.patience, each time. An answer may be a
// moment away else, and the file may lack what Redis holds. The state is locked.
func (d *Directory) fallBack() {
	s, now := &d.state, time.Now()
	if s.began.IsZero() {
		return
	}
	long := func(since time.Time, wait time.Duration) bool { return !since.IsZero() && now.Sub(since) >= wait }
	if !s.answered && long(s.began, d.intervals.start) || long(s.failing, d.intervals.patience) || long(s.loadFailing, d.intervals.patience) {
		d.markReady()
	}
}

// loadFailed notes why, and logs a reason once.
func (d *Directory) loadFailed(reason string) {
	d.state.mu.Lock()
	was := d.state.loadErr
	d.state.loadErr = reason
	if d.state.loadFailing.IsZero() {
		d.state.loadFailing = time.Now()
	}
	d.fallBack()
	d.state.mu.Unlock()
	if was != reason {
		d.log.Warn("full load of subscriptions failed; trying again", zap.String("error", reason))
	}
}

// nextLoad is when to load again; jittered, so that instances do not load together.
func (d *Directory) nextLoad(err error) time.Duration {
	wait := d.intervals.reconcile
	d.state.mu.Lock()
	defer d.state.mu.Unlock()
	switch {
	case err != nil:
		return d.intervals.retry
	case d.state.shrink != nil:
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

// contact notes how talking to Redis went, and logs when that changes.
func (d *Directory) contact(err error, position string) {
	d.state.mu.Lock()
	away := len(d.state.reasons) > 0
	news := false
	if err != nil {
		if d.state.failing.IsZero() {
			d.state.failing = time.Now()
		}
		d.fallBack()
		d.state.err = describe(err)
		news = len(d.state.reasons) < maxReasons && !slices.Contains(d.state.reasons, d.state.err)
		if news {
			d.state.reasons = append(d.state.reasons, d.state.err)
		}
	} else {
		d.state.err, d.state.reasons = "", nil
		d.state.answered, d.state.failing = true, time.Time{}
		if d.state.source == "redis" || d.state.position != "" {
			d.state.position = position // without a gap since the table was filled
		}
		if d.state.source == "redis" && d.state.shrink == nil {
			d.state.contact = time.Now()
		}
	}
	now := d.state.err
	d.state.mu.Unlock()
	switch {
	case news:
		d.log.Warn("redis is away; going on with what is known", zap.String("error", now))
	case now == "" && away:
		d.log.Info("redis is back")
	}
}

// maxReasons bounds how many reasons of one outage are logged: it often begins with a closed connection, and what has to
// be mended comes later.
const maxReasons = 8
