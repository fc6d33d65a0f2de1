package consumer

import (
	"context"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"fanout/dispatcher"
	"fanout/event"
)

// portionSize is how many deliveries of one event are submitted at once. What an event has beyond that is planned beside reading, in
// portions, so that it holds nobody up who comes after it.
const portionSize = 256

// Bounds of what is left for later: with more events of one account waiting, or with a partition half as far ahead of its first unsettled
// record as reading may run, portions do not wait for their account's turn any more. The dispatcher then defers what is too much.
const (
	maxLargeWaiting = 256
	maxLargeAhead   = maxReadAhead / 2
)

// largeEvents plans the events that make more deliveries than a portion. Those of one account are planned one after the other, as the
// account has room for more: until its turn comes, an event costs its few bytes, however many deliveries it makes.
type largeEvents struct {
	submit         func(*unsettledRecord)
	portions       func(*event.Event, *dispatcher.RecordMetadata) iter.Seq[[]dispatcher.Delivery]
	capacity       func(context.Context) error         // waits until there is capacity for more deliveries
	accountsTurn   func(context.Context, string) error // waits until the account should be given more than others wait for
	mu             sync.Mutex                          // guards waiting
	waiting        map[string][]*largeEvent
	workersRunning sync.WaitGroup // a goroutine for each account that has some
}

// largeEvent is such an event. Its record is settled once all portions are; a portion is a record of its own.
type largeEvent struct {
	partition *partition
	record    *unsettledRecord
	reading   context.Context //nolint:containedctx // the event outlives the call; it is done when the partition is not read any more
	event     event.Event
	metadata  dispatcher.RecordMetadata

	mu        sync.Mutex // guards all below
	portions  map[*unsettledRecord]struct{}
	left      bool // it was not begun when reading ended: whoever reads the partition next plans it
	abandoned bool
}

// add takes over the event of a record that is tracked.
func (l *largeEvents) add(reading context.Context, p *partition, r *unsettledRecord, ev *event.Event, metadata *dispatcher.RecordMetadata) {
	e := &largeEvent{partition: p, record: r, reading: reading, event: *ev, metadata: *metadata, portions: make(map[*unsettledRecord]struct{})}
	for _, text := range []*string{&e.event.Account, &e.event.ID, &e.event.TrackingID, &e.event.NotificationID, &e.event.UserID} {
		*text = strings.Clone(*text) // they are pieces of a fetch, which must not be kept for long
	}
	e.event.Extra = slices.Clone(ev.Extra)
	for i := range e.event.Extra {
		e.event.Extra[i].Value = strings.Clone(e.event.Extra[i].Value)
	}
	r.large = e
	r.hold()
	l.mu.Lock()
	defer l.mu.Unlock()
	account := e.event.Account
	l.waiting[account] = append(l.waiting[account], e)
	if len(l.waiting[account]) == 1 {
		l.workersRunning.Go(func() { l.run(account) })
	}
}

// wait returns when every event has been planned or left. No event may be added meanwhile.
func (l *largeEvents) wait() { l.workersRunning.Wait() }

// run plans the account's events until there are none.
func (l *largeEvents) run(account string) {
	for {
		l.mu.Lock()
		e := l.waiting[account][0]
		l.mu.Unlock()
		l.plan(e)
		l.mu.Lock()
		rest := l.waiting[account][1:]
		if len(rest) == 0 {
			delete(l.waiting, account)
			l.mu.Unlock()
			return
		}
		l.waiting[account] = rest
		l.mu.Unlock()
	}
}

func (l *largeEvents) plan(e *largeEvent) {
	if e.reading.Err() != nil && e.leave() {
		return
	}
	for deliveries := range l.portions(&e.event, &e.metadata) {
		if l.capacity(e.reading) == nil && !l.late(e) {
			_ = l.accountsTurn(e.reading, e.event.Account) // where reading has ended, what is begun is brought to its end
		}
		portion, ok := e.portion(deliveries)
		if !ok {
			break
		}
		l.submit(portion)
		portion.done()
	}
	e.record.done()
}

// late says whether the account's turn cannot be waited for.
func (l *largeEvents) late(e *largeEvent) bool {
	l.mu.Lock()
	n := len(l.waiting[e.event.Account])
	l.mu.Unlock()
	return n > maxLargeWaiting || e.partition.open() > maxLargeAhead
}

// portion makes a record of deliveries that are to be submitted; false where the partition has been lost.
func (e *largeEvent) portion(deliveries []dispatcher.Delivery) (*unsettledRecord, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.abandoned {
		return nil, false
	}
	portion := newUnsettled(nil, e.record.flow, deliveryBytes*int64(len(deliveries)), e.record.time)
	portion.large, portion.deliveries = e, deliveries
	e.portions[portion] = struct{}{}
	e.record.hold()
	return portion, true
}

// settled notes that all deliveries of a portion are settled.
func (e *largeEvent) settled(portion *unsettledRecord) {
	e.mu.Lock()
	delete(e.portions, portion)
	e.mu.Unlock()
	e.partition.progressed(time.Now())
	e.record.done()
}

// leave leaves an event that was not begun to whoever reads the partition next; false where the partition has been lost already.
func (e *largeEvent) leave() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.abandoned {
		return false
	}
	e.left = true
	e.partition.leave()
	return true
}

// abandon lets no further portion be submitted.
func (e *largeEvent) abandon() {
	e.mu.Lock()
	left := e.left
	e.abandoned, e.left = true, false
	e.mu.Unlock()
	if left {
		e.record.done()
	}
}

// open is the portions that are not settled.
func (e *largeEvent) open() (portions []*unsettledRecord) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for portion := range e.portions {
		portions = append(portions, portion)
	}
	return portions
}
