//go:build !nodemo

package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"fanout/event"
)

// traffic plays the channel services: it produces raw events at a steady rate.
type traffic struct {
	receivers receivers
	brokers   []string
	rate      int // events a second

	sent  atomic.Int64    // events that Kafka has acknowledged
	names [8]atomic.Int64 // the same, by event name, in the order of those that are built in
}

// perSecond is how often a second a batch is produced.
const perSecond = 20

// run produces until ctx ends; tick is called about twice a second.
func (t *traffic) run(ctx context.Context, tick func()) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(t.brokers...), kgo.ProducerLinger(0))
	if err != nil {
		return fmt.Errorf("produce: %w", err)
	}
	defer client.Close()
	clock := time.NewTicker(time.Second / perSecond)
	defer clock.Stop()
	start, run, ticks := time.Now(), rand.Text()[:8], 0
	for made := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case now := <-clock.C:
			due := int(now.Sub(start).Seconds() * float64(t.rate))
			// A batch that has begun is produced whole: what was sent is then known for sure.
			if err := t.produce(context.WithoutCancel(ctx), client, run, made, due); err != nil {
				return err
			}
			made = max(made, due)
			if ticks++; ticks%(perSecond/2) == 0 {
				tick()
			}
		}
	}
}

func (t *traffic) produce(ctx context.Context, client *kgo.Client, run string, from, to int) error {
	var records []*kgo.Record
	for n := from; n < to; n++ {
		records = append(records, t.record(run, n))
	}
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return fmt.Errorf("produce: %w", err)
	}
	t.sent.Add(int64(len(records)))
	for n := from; n < to; n++ {
		t.names[n%len(t.names)].Add(1)
	}
	return nil
}

func name(n int) event.Name { return event.BuiltIn().Names()[n%len(event.BuiltIn().Names())] }

// record is raw event n. Every receiver's account gets its share, whatever the event name.
func (t *traffic) record(run string, n int) *kgo.Record {
	raw := map[string]any{
		"accountId": t.account(n), "id": run + "-" + strconv.Itoa(n),
		"notificationId": "welcome-email", "userId": "user-" + strconv.Itoa(n%1000),
		"occurredAt": time.Now().UTC().Format(time.RFC3339Nano),
	}
	topic, trackingID := sourceTopic(name(n)), "trk-"+strconv.Itoa(n)
	if topic == bounces { // its producer's own shape
		raw["type"], raw["message"] = "bounced", map[string]string{"tracking_id": trackingID}
	} else {
		raw["channel"], raw["type"], raw["trackingId"] = name(n).Channel(), name(n).RawType(), trackingID
	}
	value, err := json.Marshal(raw)
	if err != nil {
		panic(err) // strings always marshal
	}
	return &kgo.Record{Topic: topic, Key: []byte(fmt.Sprint(raw["userId"])), Value: value}
}

// account is whom raw event n is of.
func (t *traffic) account(n int) string {
	turn := n / len(event.BuiltIn().Names()) % 10
	for _, r := range t.receivers {
		if turn -= r.share; turn < 0 {
			return r.account
		}
	}
	return "" // the shares are 10 in all
}
