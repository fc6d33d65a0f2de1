package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"fanout/dispatcher"
	"fanout/event"
	"fanout/topic"
)

// intake turns the records of one stage into deliveries and hands them to the dispatcher.
type intake struct {
	flow        *flow
	sources     *topic.Sources // of the first stage
	dispatcher  *dispatcher.Dispatcher
	metrics     *metrics
	maxAge      func(event.Name) time.Duration
	catalogue   *event.Catalogue
	large       *largeEvents // of the first stage
	strangers   *strangers   // of the retry and replay topics
	largestBody int          // of a delivery that is taken up from a retry or replay topic, in bytes
}

// decoded is a source record that was looked at: an event, ignored (event.ErrIgnored) or malformed.
type decoded struct {
	event event.Event
	err   error
}

// decode says what a source record is. ok is false where nobody can say before the schema registry can be asked; the record has not
// been tracked then. Retry and replay records need no decoding.
func (in *intake) decode(ctx context.Context, record *topic.Record) (d decoded, ok bool) {
	if in.flow.stage != dispatcher.StageFirst {
		return decoded{}, true
	}
	d.event, d.err = in.sources.Decode(ctx, record)
	return d, !errors.Is(d.err, topic.ErrRegistryUnavailable)
}

// take turns a record that the partition tracks into deliveries and submits them. It keeps nothing of the record's memory. reading is done
// when the partition is not read any more.
func (in *intake) take(reading context.Context, p *partition, r *unsettledRecord, record *topic.Record, d *decoded) {
	switch in.flow.stage {
	case dispatcher.StageFirst:
		in.plan(reading, p, r, record, d)
	case dispatcher.StageRetry, dispatcher.StageReplay:
		in.takeUp(p, r, record, false)
	}
	r.done()
}

// fetch does the same with a record of a retry tier that is not due: its wait is over early.
func (in *intake) fetch(p *partition, r *unsettledRecord, record *topic.Record) {
	in.takeUp(p, r, record, true)
	r.done()
}

// plan makes an event's deliveries. Very many are made beside reading.
func (in *intake) plan(reading context.Context, p *partition, r *unsettledRecord, record *topic.Record, d *decoded) {
	switch {
	case errors.Is(d.err, event.ErrIgnored):
		in.metrics.record(record.Topic, recordIgnored)
		return
	case d.err != nil:
		in.metrics.record(record.Topic, recordMalformed)
		in.flow.settler.deadLetter(r, record, d.err.Error())
		return
	}
	metadata := record.Metadata()
	deliveries, n := in.dispatcher.Planner().PlanSome(r.one[:0], &d.event, &metadata, time.Now(), portionSize)
	if n == 0 {
		in.metrics.record(record.Topic, recordUnmatched)
		return
	}
	in.metrics.record(record.Topic, recordEvent)
	if n > portionSize {
		in.large.add(reading, p, r, &d.event, &metadata)
		return
	}
	r.deliveries = deliveries
	r.grow(deliveryBytes * int64(len(r.deliveries)-1))
	in.submit(r)
}

// takeUp makes the delivery that a retry or replay record carries. early says that it is welcome before the time that the record names.
func (in *intake) takeUp(p *partition, r *unsettledRecord, record *topic.Record, early bool) {
	if in.strangers.passesOver(record) {
		return
	}
	d, err := topic.DecodeDelivery(in.catalogue, record, in.flow.stage)
	if err == nil && len(d.Body) > in.largestBody {
		err = fmt.Errorf("it has %d bytes; at most %d are taken", len(d.Body), in.largestBody)
	}
	if err != nil {
		in.metrics.record(record.Topic, recordMalformed)
		in.flow.settler.deadLetter(r, record, "not a delivery of fanout's: "+err.Error())
		return
	}
	if lost := p.lostPart(); lost.judges(record.Offset) && time.Since(d.FirstSeen) > in.maxAge(d.Event) {
		if lost.delivered(&d, record.Time) {
			return
		}
		d.Uncertain = true
	}
	d.Body = slices.Clone(d.Body)
	if now := time.Now(); d.FirstSeen.After(now) {
		d.FirstSeen = now // of another clock, or a foreign writer: it would never become too old
	}
	d.Tier = p.delay
	if early {
		d.NotBefore = time.Time{}
	}
	r.deliveries = append(r.one[:0], d)
	in.submit(r)
}

func (in *intake) submit(r *unsettledRecord) {
	in.metrics.planned(in.flow.stage, len(r.deliveries))
	r.pending.Add(int32(len(r.deliveries)))
	for i := range r.deliveries {
		d := &r.deliveries[i]
		d.Settler = r
		if time.Until(d.NotBefore) > 0 && time.Since(d.FirstSeen) <= in.maxAge(d.Event) {
			again(r, d)
			continue
		}
		in.dispatcher.Submit(d)
	}
}
