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

	sent  atomic.Int64 // acknowledged by Kafka
	names [16]atomic.Int64
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
		t.names[name(n)].Add(1)
	}
	return nil
}

func name(n int) event.Name { return event.Names()[n%len(event.Names())] }

// record is raw event n. Every receiver's account gets its share, whatever the event name.
func (t *traffic) record(run string, n int) *kgo.Record {
	account, turn := "", n/len(event.Names())%10
	for _, r := range t.receivers {
		if turn -= r.share; turn < 0 {
			account = r.account
			break
		}
	}
	value, err := json.Marshal(map[string]string{
		"accountId": account, "channel": name(n).Channel(), "type": name(n).RawType(), "id": run + "-" + strconv.Itoa(n),
		"trackingId": "trk-" + strconv.Itoa(n), "notificationId": "welcome", "userId": "user-" + strconv.Itoa(n%1000),
		"occurredAt": time.Now().UTC().Format(time.RFC3339Nano),
	})
	if err != nil {
		panic(err) // strings always marshal
	}
	return &kgo.Record{Topic: sourceTopic(name(n)), Key: []byte(account), Value: value}
}
