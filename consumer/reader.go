package consumer

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"fanout/dispatcher"
	"fanout/topic"
)

// Times of a reader.
const (
	registryPause = time.Second            // between questions to a schema registry that cannot be asked
	groupPause    = 50 * time.Millisecond  // between looks at whether the coordinator has been heard again
	capacityPause = 20 * time.Millisecond  // between looks at whether records can be written again
	clockInterval = 10 * time.Second       // how soon a wait for a due time notices that the clock was set
	heldPage      = time.Second            // a page whose next record is not due for longer is let go of, and fetched again
	quietAfter    = time.Second            // without a fetch, after which the topic may be another one
	failPause     = 100 * time.Millisecond // after a failed fetch, growing to failPauseMax
	failPauseMax  = time.Second
)

// reader reads one partition for as long as this member has it: it fetches, waits until records are due, tracks each, and hands it on. It
// runs in a goroutine of its own.
type reader struct {
	partition *partition
	fetcher   *topic.Fetcher
	identity  *topicIdentity
	intake    *intake
	strangers *strangers                      // nil: all that lies in the topic is ours
	lost      *lostOffsets                    // of the partitions that were given with this one
	looked    func()                          // the partition has been looked through for that
	capacity  func(ctx context.Context) error // waits until another record may be read
	writable  func() bool                     // false while a record cannot be written
	suspended func() bool                     // the coordinator is silent
	ahead     *scout                          // of a retry tier; else nil
	log       *zap.Logger

	seen    seen    // of a retry tier
	entries []entry // memory for the next records' entries
}

// entriesAtOnce is how many entries are allocated together: one that waits long keeps a KiB.
const entriesAtOnce = 64

// run reads until ctx is done.
func (r *reader) run(ctx context.Context) {
	if r.partition.isHeld() && !r.strangers.clear(ctx, r.partition, r.lost, r.looked) {
		return
	}
	r.looked()
	if r.ahead != nil {
		var scouting sync.WaitGroup
		scouting.Go(func() { r.ahead.run(ctx) })
		defer scouting.Wait()
	}
	var failures failures
	for ctx.Err() == nil {
		err := r.step(ctx)
		switch {
		case ctx.Err() != nil:
		case err == nil:
			failures.over()
		default:
			r.partition.on(brokerFailed)
			if topic.NoTopic(err) {
				r.partition.verifyTopic()
			}
			if failures.add(err, 20) {
				r.log.Warn("reading fails; it is tried again", zap.Error(err), zap.Int("failures", failures.count))
			}
			topic.Sleep(ctx, min(time.Duration(failures.count)*failPause, failPauseMax))
		}
	}
}

// step fetches once and hands on what came.
func (r *reader) step(ctx context.Context) error {
	if !r.mayRead(ctx) {
		return nil // it is not an error to be stopped
	}
	if err := r.identity.verify(ctx, r.partition); err != nil {
		return err
	}
	next, state, quiet := r.partition.position(time.Now())
	if state != topicDeleted && quiet > quietAfter && r.identity.forgotten(ctx, r.partition) {
		state = topicDeleted
	}
	if state == topicDeleted {
		return r.identity.checkRecreated(ctx, r.partition)
	}
	page, err := r.fetcher.Fetch(ctx, next)
	if topic.OutOfRange(err) {
		return r.identity.outOfRange(ctx, r.partition, next)
	}
	if err != nil {
		return err
	}
	defer page.Close()
	r.partition.sawEnd(page.End, page.High, time.Now())
	r.partition.on(goesOn)
	err = r.hand(ctx, page)
	r.partition.holdBack(err == nil && page.HeldBack(), time.Now())
	return err
}

// mayRead waits until another record may be read; false when ctx is done before.
func (r *reader) mayRead(ctx context.Context) bool {
	waited := false
	for r.suspended() {
		r.partition.on(groupSilent)
		if waited = true; !topic.Sleep(ctx, groupPause) {
			return false
		}
	}
	for !r.writable() || r.partition.open() >= maxReadAhead {
		r.partition.on(capacityMissing)
		if waited = true; !topic.Sleep(ctx, capacityPause) {
			return false
		}
	}
	if waited {
		r.partition.on(goesOn)
	}
	return r.capacity(ctx) == nil
}

// hand hands on a page's records, one after the other. What it stops before has not been tracked: it is fetched again, by this reader or
// by the partition's next owner.
func (r *reader) hand(ctx context.Context, page *topic.Page) error {
	from := page.Next()
	away, cut := false, false
	var later time.Time // when the next record is due, where the page is not kept until then
	err := page.EachInTurn(ctx, func(turn context.Context, record *topic.Record) (taken bool) {
		if cut {
			r.partition.on(goesOn) // it waited when its turn ended
		}
		defer func() { cut = !taken }()
		if record.Time.UnixMilli() < 0 {
			record.Time = time.Now() // its producer gave none: it counts from when it is read
		}
		if r.partition.stage == dispatcher.StageRetry {
			if due := r.dueAt(record, page); time.Until(due) > heldPage {
				later = due
				return false
			} else if !r.awaitDue(turn, due, record.Offset) {
				return false
			}
		}
		d, ok := r.intake.decode(ctx, record)
		if !ok {
			away = true
			return false
		}
		if !r.mayRead(turn) || r.partition.is(topicDeleted) {
			return false
		}
		r.take(ctx, record, &d)
		return true
	})
	r.partition.pass(page.Next())
	switch {
	case away:
		page.Close()
		r.awaitRegistry(ctx)
	case !later.IsZero():
		page.Close()
		r.awaitDue(ctx, later, page.Next())
	}
	if page.Next() > from {
		return nil // the records before the damage are good; the next fetch meets the damage alone
	}
	return err
}

func (r *reader) take(ctx context.Context, record *topic.Record, d *decoded) {
	if len(r.entries) == 0 {
		r.entries = make([]entry, entriesAtOnce)
	}
	e := &r.entries[0]
	r.entries = r.entries[1:]
	if u := r.partition.track(record, e, r.intake.flow); u != nil {
		r.intake.take(ctx, r.partition, u, record, d)
	}
}

// awaitRegistry waits before a record is fetched again that nobody can decode now. The log grows meanwhile: its end is asked for.
func (r *reader) awaitRegistry(ctx context.Context) {
	r.partition.on(registryAway)
	r.identity.look(ctx, r.partition)
	topic.Sleep(ctx, registryPause)
}

// seen is when a part of a tier's log was first seen to be there.
type seen struct {
	end int64 // of that part
	at  time.Time
}

// latest is when the record is due at the latest, whatever its timestamp says: the delay after it was seen to be in the log. All that is there
// when one of them is looked at counts from then, so that many records which are dated ahead are not waited for one after the other.
func (r *reader) latest(record *topic.Record, page *topic.Page, now time.Time) time.Time {
	if record.Offset >= r.seen.end {
		r.seen = seen{max(page.End, record.Offset+1), now}
	}
	return r.seen.at.Add(r.partition.delay + topic.TierSlack)
}

// dueAt is when the record is due: the tier's delay after it was appended. A timestamp that lies ahead, of another clock or a foreign writer,
// cannot hold it for longer; and what was taken ahead is waited for no more.
func (r *reader) dueAt(record *topic.Record, page *topic.Page) time.Time {
	due := dueTime(record, r.partition.delay)
	now := time.Now()
	if due.After(now) {
		if latest := r.latest(record, page, now); latest.Before(due) {
			due = latest
		}
		if r.partition.isAhead(record.Offset) {
			return now
		}
	}
	return due
}

// awaitDue waits until the record at the offset is due, or has been taken ahead. It is false where ctx is done before, or the topic is another.
func (r *reader) awaitDue(ctx context.Context, due time.Time, offset int64) bool {
	if time.Until(due) <= 0 {
		return ctx.Err() == nil
	}
	r.partition.on(notDue)
	for wait := time.Until(due); wait > 0 && !r.partition.isAhead(offset); wait = time.Until(due) {
		// Not all at once: the clock may be set, a machine that sleeps stops the timer, and the record may be taken ahead.
		if !topic.Sleep(ctx, min(wait, clockInterval)) {
			return false
		}
	}
	r.partition.on(goesOn)
	return !r.partition.is(topicDeleted)
}

// dueTime is when a record of a tier is due. Kafka has cut its time to milliseconds; and a fanout-not-before that lies just behind is
// waited for too, rather than in another round through a tier.
func dueTime(record *topic.Record, delay time.Duration) time.Time {
	due := record.Time.Add(delay + time.Millisecond)
	if at, err := topic.DecodeTime(record.Header(topic.HeaderNotBefore)); err == nil && at.After(due) && at.Sub(due) <= topic.TierSlack {
		return at.Add(time.Millisecond)
	}
	return due
}
