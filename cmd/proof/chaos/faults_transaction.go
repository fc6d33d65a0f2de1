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
	if err := w.caughtUp(ctx, 15*time.Second); err != nil {
		return err
	}
	w.notef("%d records aborted; lag 0", sum)
	return nil
}

// lag is how many records all instances say that they have not settled.
func (w *world) lag(ctx context.Context) (lag float64, err error) {
	for _, f := range w.fans {
		m, err := f.Metrics(ctx)
		if err != nil {
			return 0, err
		}
		lag += m.Sum("fanout_lag_records")
	}
	return lag, nil
}

// caughtUp waits until no instance has any lag.
func (w *world) caughtUp(ctx context.Context, within time.Duration) error {
	for began := time.Now(); ; {
		lag, err := w.lag(ctx)
		switch {
		case err != nil:
			return err
		case lag == 0:
			return nil
		case time.Since(began) > within:
			return fmt.Errorf("the lag stays at %v behind the last markers", lag)
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

// Producers of an open transaction, of whom one has a successor, and how soon the broker looks for transactions that have been open for too
// long (transaction.abort.timed.out.transaction.cleanup.interval.ms).
const (
	deadProducer      = 20
	succeededProducer = 21
	transactionLook   = 10 * time.Second
)

// openTransaction has two producers die within transactions. What is written behind the first record of theirs is not delivered before both
// have ended, one by its successor and the other by the broker. Then all of it arrives, and nothing of theirs.
func openTransaction(ctx context.Context, w *world) error {
	open := w.length(75*time.Second, 15*time.Second)
	for producer, timeout := range map[uint64]time.Duration{deadProducer: open, succeededProducer: 5 * time.Minute} {
		if err := w.dieInTransaction(ctx, producer, timeout); err != nil {
			return err
		}
	}
	if err := pause(ctx, open/2); err != nil {
		return err
	}
	held, err := w.lag(ctx)
	if err != nil {
		return err
	}
	if held == 0 {
		w.problems.addf("nothing lags while transactions are open")
	}
	if _, err := w.transact(ctx, succeededProducer, kgo.NoCompression(), time.Now()); err != nil {
		return err
	}
	if err := pause(ctx, open/2); err != nil {
		return err
	}
	if err := w.unload(ctx); err != nil {
		return err
	}
	if err := w.caughtUp(ctx, 2*transactionLook+15*time.Second); err != nil {
		return err
	}
	w.faultEnded()
	w.load(ctx, 20) // for the first delivery
	w.notef("%.0f records held back; lag 0 after the last transaction's end", held)
	return pause(ctx, 2*time.Second)
}

// dieInTransaction writes part of a transaction, and ends without a word to the broker, which ends the transaction after the time-out.
func (w *world) dieInTransaction(ctx context.Context, producer uint64, timeout time.Duration) error {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(w.kafka.Brokers()...), kgo.TransactionalID(fmt.Sprintf("chaos-%d", producer)), kgo.TransactionTimeout(timeout),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)),
	)
	if err != nil {
		return err
	}
	defer client.Close() // it closes the connections
	if err := client.BeginTransaction(); err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(w.seed, 1000+producer))
	for n := range 200 {
		n += int(producer) * 10_000_000 // a handful
		topic, value := draw(rng, n, false)
		client.Produce(ctx, &kgo.Record{Topic: topic, Key: []byte(strconv.Itoa(n)), Value: value}, nil)
	}
	return client.Flush(ctx)
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
