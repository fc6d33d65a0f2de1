package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/segmentio/kafka-go"

	"fanout/cmd/internal/lab"
)

// backlog is what one account of a crowd has waiting in the retry topics while the others are looked at.
type backlog struct {
	events   int
	patience time.Duration // until all of it has been read
	settle   time.Duration // after that

	read    time.Duration // how long it took to read it
	before  float64       // deferrals until then
	during  float64       // deferrals while the others were looked at
	written float64       // bytes a second that the broker's log grew by meanwhile
	looked  time.Duration
	size    int64     // of the log, when looking began
	began   time.Time // to look
}

// waiting is the part of that name: what all others notice while very many deliveries of one account wait in the retry topics.
func waiting(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("waiting", flag.ContinueOnError)
	ld := load{subscriptions: 80, partitions: 6}
	b := backlog{}
	flags.IntVar(&b.events, "events", 1_000_000, "events of the account, for a receiver that answers 204 after 9 s")
	flags.DurationVar(&b.patience, "patience", 15*time.Minute, "how long to wait until they have been read")
	flags.DurationVar(&b.settle, "settle", 20*time.Second, "how long to wait after that")
	rate := flags.Int("rate", 1500, "events a second of all the others")
	span := flags.Duration("for", 60*time.Second, "how long each run is")
	warm := flags.Duration("warm", 5*time.Second, "how long at its beginning nothing is measured")
	w, end, err := begin(ctx, flags, args, nil)
	if err != nil {
		return err
	}
	defer end()
	fmt.Fprintf(out, "%s; the others: %d accounts, %d events a second for %s after %s, real Kafka\n", machine(), ld.subscriptions, *rate, *span, *warm)
	alone, err := w.steady("bench.waiting.none", ld, *rate, *span+*warm).others(ctx, slowReceivers{}, 0, int(*warm/produceEvery))
	if err != nil {
		return err
	}
	s := w.steady("bench.waiting.many", ld, *rate, *span+*warm)
	s.crowd = &crowding{accounts: 1, webhooks: 1, answers: []string{pathSlow}}
	s.beside = func(ctx context.Context, f *lab.Fanout) (func() error, error) {
		if err := errors.Join(b.produce(ctx, s), b.wait(ctx, s, f)); err != nil {
			return nil, err
		}
		return func() error { return b.look(ctx, s, f) }, nil
	}
	beside, err := s.others(ctx, slowReceivers{}, 0, int(*warm/produceEvery))
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d events of one account read in %s (%.0f a second), deferred %.0f times by then\n", b.events, b.read.Round(time.Second), float64(b.events)/b.read.Seconds(), b.before)
	fmt.Fprintf(out, "while they wait: %.3f rewrites a delivery and minute, %.2f MB a second to the broker, dead %.0f\n",
		b.during/float64(b.events)/b.looked.Minutes(), b.written/1e6, beside.dead)
	fmt.Fprintf(out, "the others: in time %.4f, p50 %.2f ms, p99 %.2f ms; without it: in time %.4f, p50 %.2f ms, p99 %.2f ms; p99 %.2f × (target at most 1.5)\n",
		beside.inTime, millis(beside.p50), millis(beside.p99), alone.inTime, millis(alone.p50), millis(alone.p99), float64(beside.p99)/float64(alone.p99))
	return nil
}

// produce fills the topic with the events of the crowd's first account.
func (b *backlog) produce(ctx context.Context, s *steady) error {
	return s.w.write(ctx, s.topic, b.events, func(i int) kafka.Message {
		m := rawEvent(i, 1, fmt.Sprintf("crowd-%d", i))
		m.Value = fmt.Appendf(nil, `{"accountId":"%s","channel":"EMAIL","type":"OPEN","trackingId":"crowd-%d","notificationId":"n","userId":"u"}`, s.crowd.account(0), i)
		return m
	})
}

// wait returns when all of it has been read, and some time after.
func (b *backlog) wait(ctx context.Context, s *steady, f *lab.Fanout) error {
	began := time.Now()
	waiting, cancel := context.WithTimeout(ctx, b.patience)
	defer cancel()
	err := lab.Await(waiting, "the backlog to be read", func() bool {
		m, err := f.Metrics(ctx)
		return err == nil && m.Sum("fanout_deliveries_total", `stage="first"`) >= float64(b.events)
	})
	if err != nil {
		return errors.Join(err, tail(f))
	}
	b.read = time.Since(began)
	select {
	case <-time.After(b.settle):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if b.before, err = deferrals(ctx, f); err != nil {
		return err
	}
	b.began = time.Now()
	b.size, err = logSize(s.w.kafka)
	return err
}

// look notes what happened since wait has returned.
func (b *backlog) look(ctx context.Context, s *steady, f *lab.Fanout) error {
	n, err := deferrals(ctx, f)
	if err != nil {
		return err
	}
	size, err := logSize(s.w.kafka)
	if err != nil {
		return err
	}
	b.looked = time.Since(b.began)
	b.during, b.written = n-b.before, float64(size-b.size)/b.looked.Seconds()
	return nil
}

func deferrals(ctx context.Context, f *lab.Fanout) (float64, error) {
	m, err := f.Metrics(ctx)
	if err != nil {
		return 0, err
	}
	return m.Sum("fanout_outcomes_total", `outcome="deferred"`), nil
}

// logSize is how many bytes the brokers' logs have.
func logSize(k *lab.Kafka) (n int64, err error) {
	for _, node := range k.Nodes {
		err = errors.Join(err, filepath.WalkDir(node.LogDir(), func(path string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) || err == nil && filepath.Ext(path) != ".log" { // deleted meanwhile, or no log
				return nil
			}
			if err != nil {
				return err
			}
			info, err := entry.Info()
			if err == nil {
				n += info.Size()
			}
			return nil
		}))
	}
	return n, err
}
