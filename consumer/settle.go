package consumer

import (
	"slices"
	"time"

	"github.com/segmentio/kafka-go"

	"fanout/dispatcher"
)

// settle carries out what became of a delivery. Delivered and discarded are done; everything else is done when its
// record is acknowledged by all in-sync replicas.
func (c *Consumer) settle(r *record, d *dispatcher.Delivery, out dispatcher.Outcome) {
	now := time.Now()
	if c.cfg.AttemptsTopic && out.Result != dispatcher.Abandoned {
		r.hold()
		c.writer.send(c.attemptRecord(r, d, &out, now))
	}
	switch out.Result {
	case dispatcher.Delivered:
		c.metrics.delivered(now.Sub(d.AppendedAt))
		c.finish(r, d.Stage, out.Result, out.Reason)
	case dispatcher.Discarded, dispatcher.Abandoned:
		c.finish(r, d.Stage, out.Result, out.Reason)
	case dispatcher.Retry, dispatcher.Deferred, dispatcher.Dead:
		c.write(r, d, &out, now)
	}
}

func (c *Consumer) finish(r *record, stage dispatcher.Stage, result dispatcher.Result, reason dispatcher.Reason) {
	c.metrics.outcome(stage, result, reason)
	r.done()
}

// write sends the delivery to its tier, or to the dead letters.
func (c *Consumer) write(r *record, d *dispatcher.Delivery, out *dispatcher.Outcome, now time.Time) {
	result, reason := out.Result, out.Reason
	o := outgoing{key: recordKey(d), value: d.Body, acked: func() { c.finish(r, d.Stage, result, reason) }}
	if result == dispatcher.Dead {
		o.topic = c.names.deadLetter
		o.headers = append(deliveryHeaders(d, out, now), kafka.Header{Key: headerDeadAt, Value: []byte(unixMilli(now))})
		if d.Replays == 0 {
			o.headers = append(o.headers, kafka.Header{Key: headerReplays, Value: []byte("0")})
		}
		c.writer.send(o)
		return
	}
	delay := c.tier(out, now)
	notBefore := out.NotBefore
	if notBefore.IsZero() || reason == dispatcher.QueueFull || reason == dispatcher.Rate || reason == dispatcher.Shutdown {
		notBefore = now.Add(delay) // an estimate: it may be tried as soon as it comes up
	}
	o.topic, o.headers = c.ladder.topic(delay), deliveryHeaders(d, out, notBefore)
	c.writer.send(o)
}

// tier is the delay of the retry topic that the delivery goes to (DESIGN.md section 4).
func (c *Consumer) tier(out *dispatcher.Outcome, now time.Time) time.Duration {
	wait := out.NotBefore.Sub(now)
	switch {
	case out.Reason == dispatcher.Shutdown:
		return c.ladder.delays[0]
	case out.LaneWait:
		return c.ladder.covering(wait)
	default:
		// Some microseconds have passed since the step was added: they must not cost a tier.
		return c.ladder.within(wait + tierSlack)
	}
}

// tierSlack is how much shorter than a tier's delay a wait may be and still go there.
const tierSlack = 50 * time.Millisecond

// bury writes a record that is no event, or no delivery, to the dead-letter topic byte for byte, with its own key and
// headers. It counts in fanout_records_total only.
func (c *Consumer) bury(r *record, m *message, detail string) {
	origin := dispatcher.Origin{Topic: m.topic, Partition: m.partition, Offset: m.offset}
	headers := append(slices.Clip(m.headers),
		kafka.Header{Key: headerOrigin, Value: []byte(origin.String())},
		kafka.Header{Key: headerReason, Value: []byte(dispatcher.MalformedEvent.String())},
		kafka.Header{Key: headerDetail, Value: []byte(clip(detail, 512))},
		kafka.Header{Key: headerDeadAt, Value: []byte(unixMilli(time.Now()))},
		kafka.Header{Key: headerReplays, Value: []byte("0")},
	)
	r.hold()
	c.writer.send(outgoing{topic: c.names.deadLetter, key: m.key, value: m.value, headers: headers, raw: true, foreign: len(m.headers), acked: r.done})
}
