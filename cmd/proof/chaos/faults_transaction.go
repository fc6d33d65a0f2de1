package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
)

// transactions writes events in transactions, with every compression, and aborts a third of them. Only what was
// committed may arrive, and the lag must go to 0 past the markers that end the log.
func transactions(ctx context.Context, w *world) error {
	if err := w.unload(ctx); err != nil {
		return err
	}
	codecs := []kgo.CompressionCodec{
		kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression(),
	}
	until := time.Now().Add(w.length(25*time.Second, 12*time.Second))
	var producers errgroup.Group
	aborted := make([]int, len(codecs))
	for i, codec := range codecs {
		producers.Go(func() (err error) {
			aborted[i], err = w.transact(ctx, uint64(i), codec, until) // an index
			return err
		})
	}
	if err := producers.Wait(); err != nil {
		return err
	}
	sum := 0
	for _, n := range aborted {
		sum += n
	}
	w.faultEnded()
	w.load(ctx, 20) // for the first delivery
	if err := pause(ctx, 2*time.Second); err != nil {
		return err
	}
	if err := w.unload(ctx); err != nil {
		return err
	}
	if _, err := w.transact(ctx, uint64(len(codecs)), codecs[0], time.Now()); err != nil { // an aborted one at the end of the log
		return err
	}
	w.settle(ctx)
	for began := time.Now(); ; {
		lag := 0.0
		for _, f := range w.fans {
			m, err := f.Metrics(ctx)
			if err != nil {
				return err
			}
			lag += m.Sum("fanout_lag_records")
		}
		if lag == 0 {
			w.notef("%d records aborted; lag 0", sum)
			return nil
		}
		if time.Since(began) > 15*time.Second {
			return fmt.Errorf("the lag stays at %v behind the last markers", lag)
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

// transact writes transactions until a time, at least one; the last one is aborted. It returns how many records were
// aborted.
func (w *world) transact(ctx context.Context, producer uint64, codec kgo.CompressionCodec, until time.Time) (aborted int, err error) {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(w.kafka.Brokers()...), kgo.TransactionalID(fmt.Sprintf("chaos-%d", producer)),
		kgo.ProducerBatchCompression(codec), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)),
	)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	rng := rand.New(rand.NewPCG(w.seed, 1000+producer))
	n := int(producer+1) * 10_000_000 // a handful
	for last := false; !last; {
		last = time.Now().After(until)
		if err := client.BeginTransaction(); err != nil {
			return aborted, err
		}
		size := 1 + rng.IntN(60)
		for range size {
			n++
			topic, value := draw(rng, n, false)
			client.Produce(ctx, &kgo.Record{Topic: topic, Key: []byte(strconv.Itoa(n)), Value: value}, nil)
		}
		if err := client.Flush(ctx); err != nil {
			return aborted, err
		}
		end := kgo.TransactionEndTry(!last && rng.IntN(3) > 0)
		if !end {
			aborted += size
		}
		if err := client.EndTransaction(ctx, end); err != nil {
			return aborted, fmt.Errorf("end a transaction: %w", err)
		}
		if err := pause(ctx, time.Duration(rng.IntN(200))*time.Millisecond); err != nil {
			return aborted, err
		}
	}
	return aborted, nil
}
