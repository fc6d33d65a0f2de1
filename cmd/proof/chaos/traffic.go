package main

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"fanout/cmd/internal/lab"
)

// traffic is a producer of events at a steady rate. It goes on through everything that happens to Kafka: what it is
// not told to be written it writes again, and an idempotent producer writes nothing twice.
type traffic struct {
	client *kgo.Client
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// load begins to write so many events a second; unload ends it. Only one runs at a time.
func (w *world) load(ctx context.Context, rate int) {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(w.kafka.Brokers()...), kgo.MetadataMaxAge(2*time.Second), kgo.MetadataMinAge(250*time.Millisecond),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerLinger(2*time.Millisecond), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)),
		kgo.MaxBufferedRecords(1_000_000),
	)
	if err != nil {
		w.problems.addf("producer: %v", err)
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	t := &traffic{client: client, cancel: cancel}
	w.traffic = t
	w.loads++
	spared, stamp := w.spared, w.stamp
	rng := rand.New(rand.NewPCG(w.seed, w.loads))
	t.done.Go(func() {
		const tick = 20 * time.Millisecond
		ticker := time.NewTicker(tick)
		defer ticker.Stop()
		began, sent := time.Now(), 0
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			for due := int(time.Since(began).Seconds() * float64(rate)); sent < due; sent++ {
				w.drawn++
				topic, value := draw(rng, w.drawn, w.named)
				if topic == spared {
					continue
				}
				r := &kgo.Record{Topic: topic, Key: []byte(strconv.Itoa(w.drawn)), Value: value}
				if stamp != nil {
					r.Timestamp = stamp(rng)
				}
				client.Produce(context.WithoutCancel(ctx), r, func(_ *kgo.Record, err error) {
					if err != nil {
						w.unwritten.Add(1)
					}
				})
			}
		}
	})
}

// unload ends the load, when all that it has sent is written.
func (w *world) unload(ctx context.Context) error {
	t := w.traffic
	if t == nil {
		return nil
	}
	w.traffic = nil
	t.cancel()
	t.done.Wait()
	defer t.client.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := t.client.Flush(ctx); err != nil {
		return fmt.Errorf("the harness's own producer: %w", err)
	}
	return nil
}

// receiverFaults says how many requests the receivers answer badly, in parts of a thousand.
type receiverFaults struct {
	failing atomic.Int64 // answers with 500
	refuses atomic.Int64 // answers with 422, for good
	slow    atomic.Int64 // takes three seconds

	hanging atomic.Pointer[string] // the account whose receivers take longer than is waited for; nil: none
}

// behave is the receivers' behaviour: a little of everything, decided by the seed.
func (w *world) behave(n int64, r *lab.Request) lab.Answer {
	h := fnv.New64a()
	fmt.Fprintf(h, "%d %d %s", w.seed, n, r.Path)
	x := h.Sum64()
	pick := func(part *atomic.Int64) bool {
		k := int64(x % 1000)
		x /= 1000
		return k < part.Load()
	}
	a := lab.Answer{Delay: time.Duration(x>>40%4) * time.Millisecond}
	account := w.faults.hanging.Load()
	switch {
	case account != nil && strings.HasPrefix(r.Path, "/"+*account+"/"):
		a.Status, a.Delay = 500, 20*time.Second
	case pick(&w.faults.failing):
		a.Status = 500
	case pick(&w.faults.refuses):
		a.Status = 422
	case pick(&w.faults.slow):
		a.Delay = 3 * time.Second
	}
	return a
}
