package consumer

import (
	"slices"
	"time"

	"fanout/dispatcher"
	"fanout/event"
	"fanout/topic"
)

// settler carries out what became of deliveries. Delivered and discarded are done; everything else is done when its record is
// acknowledged by all in-sync replicas (docs/contract.md#settled).
type settler struct {
	out      outbox
	retries  topic.RetryTopics
	names    topic.Names
	group    string                                     // which writes the records
	attempts *attemptsLog                               // each outcome has a record of its own; nil: none has
	died     func(account, subscription, reason string) // nil: nobody asks
	maxAge   func(event.Name) time.Duration
	metrics  *metrics
}

// outbox takes records that are to be written. send never blocks; the record's acked is called once all in-sync replicas have it,
// and never where the process ends before.
type outbox interface {
	send(r outgoingRecord)
}

// settle is called once for each delivery.
func (s *settler) settle(r *unsettledRecord, d *dispatcher.Delivery, out dispatcher.Outcome) {
	now := time.Now()
	if s.attempts != nil && out.Result != dispatcher.Abandoned {
		s.attempts.add(r, d, &out, now)
	}
	switch out.Result {
	case dispatcher.Delivered:
		s.metrics.delivered(now.Sub(d.AppendedAt))
		s.finish(r, d.Stage, out.Result, out.Reason)
	case dispatcher.Discarded, dispatcher.Abandoned:
		s.finish(r, d.Stage, out.Result, out.Reason)
	case dispatcher.Retry, dispatcher.Deferred, dispatcher.Dead:
		s.write(r, d, &out, now)
	}
}

func (s *settler) finish(r *unsettledRecord, stage dispatcher.Stage, result dispatcher.Result, reason dispatcher.Reason) {
	s.metrics.outcome(stage, result, reason)
	r.done()
}

// write sends the delivery to its tier, or to the dead letters.
func (s *settler) write(r *unsettledRecord, d *dispatcher.Delivery, out *dispatcher.Outcome, now time.Time) {
	result, reason := out.Result, out.Reason
	o := outgoingRecord{key: topic.RecordKey(d), value: d.Body, acked: func() { s.finish(r, d.Stage, result, reason) }}
	if result == dispatcher.Dead {
		o.topic = s.names.DeadLetter
		o.headers = append(topic.DeliveryHeaders(s.group, d, out, now), header(topic.HeaderDeadAt, topic.UnixMilli(now)))
		if d.Replays == 0 {
			o.headers = append(o.headers, header(topic.HeaderReplays, "0"))
		}
		if s.died != nil {
			s.died(d.Account, d.Subscription, reason.String())
		}
		s.out.send(o)
		return
	}
	delay := s.retries.Choose(d, out, now, s.maxAge(d.Event))
	notBefore := out.NotBefore
	if reason == dispatcher.QueueFull || reason == dispatcher.Rate || notBefore.IsZero() {
		notBefore = now.Add(delay) // an estimate: it may be attempted as soon as it is due
	}
	kept := *out
	if topic.OwnWait(d, out) { // what it waits for is still what the attempt led to
		kept.Reason = d.Last.Reason
	}
	o.topic, o.headers = s.retries.Name(delay), topic.DeliveryHeaders(s.group, d, &kept, notBefore)
	s.out.send(o)
}

func header(key, value string) topic.Header { return topic.Header{Key: key, Value: []byte(value)} }

// deadLetter writes a record that is not an event, or not a delivery, to the dead-letter topic byte for byte, with its own key and
// headers. It counts in fanout_records_total only.
func (s *settler) deadLetter(r *unsettledRecord, record *topic.Record, detail string) {
	now := time.Now()
	own := record.Clone() // it waits for longer than the page that it lies in
	headers := append(slices.Clip(own.Headers),
		header(topic.HeaderGroup, s.group),
		header(topic.HeaderOrigin, own.Origin().String()),
		header(topic.HeaderReason, dispatcher.MalformedEvent.String()),
		header(topic.HeaderDetail, topic.Clip(detail, topic.MaxDetail)),
		header(topic.HeaderDeadAt, topic.UnixMilli(now)),
		header(topic.HeaderReplays, "0"),
	)
	r.hold()
	s.out.send(outgoingRecord{
		topic: s.names.DeadLetter, key: own.Key, value: own.Value, headers: headers, malformed: true, foreign: len(own.Headers), full: own.Size, acked: r.done,
	})
}

// again sends a delivery that is due before its time to a tier once more, without spending an attempt.
func again(r *unsettledRecord, d *dispatcher.Delivery) {
	reason := d.Last.Reason
	if reason.Of() != dispatcher.Deferred { // its own wait, which only a Retry-After makes longer than a tier
		reason = dispatcher.RetryAfter
	}
	r.Settle(d, dispatcher.Outcome{
		Result: dispatcher.Deferred, Reason: reason, Status: d.Last.Status, Detail: d.Last.Detail, NotBefore: d.NotBefore,
	})
}
