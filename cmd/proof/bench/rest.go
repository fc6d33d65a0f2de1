package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"fanout/cmd/internal/lab"
)

// rest is the part of that name: what an instance costs that has nothing to do, and a delivery where there are few.
func rest(ctx context.Context, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("rest", flag.ContinueOnError)
	ld := load{}
	ld.flags(fs)
	span := fs.Duration("for", 20*time.Second, "how long each is looked at")
	rates := fs.String("rates", "500,2000,5000", "events a second, in steps of 500")
	w, end, err := begin(ctx, fs, args, nil)
	if err != nil {
		return err
	}
	defer end()
	if err := w.subscribe(ctx, ld.subscriptions, "http://127.0.0.1:9"); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s; %d subscriptions, %d partitions, attempts.topic off\n", machine(), ld.subscriptions, ld.partitions)
	if err := w.idleFor(ctx, "bench.rest", ld, *span, out); err != nil {
		return err
	}
	for text := range strings.SplitSeq(*rates, ",") {
		rate, err := strconv.Atoi(text)
		if err != nil || rate < 1 || rate%500 != 0 {
			return fmt.Errorf("-rates: %q is no multiple of 500 events a second", text)
		}
		s := w.steady("bench.rest."+text, ld, rate, *span)
		times, err := s.run(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%5d events a second: %6.1f µs CPU a delivery, %.3f cores, %d requests\n", rate, s.fanout/float64(rate)*1e6, s.fanout, len(times))
	}
	return nil
}

// idleFor looks at an instance that has nothing to do.
func (w *world) idleFor(ctx context.Context, topic string, ld load, span time.Duration, out io.Writer) error {
	if err := w.kafka.CreateTopics(ctx, lab.Topic{Name: topic, Partitions: ld.partitions}); err != nil {
		return err
	}
	f, err := w.startReady(ctx, topic)
	if err != nil {
		return err
	}
	if err := sleep(ctx, 5*time.Second); err != nil {
		return err
	}
	before, err := f.Usage()
	if err != nil {
		return err
	}
	if err := sleep(ctx, span); err != nil {
		return err
	}
	after, err := f.Usage()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "nothing to do: %.1f ms CPU and %.0f read(2) and write(2) a second, %d MiB\n",
		float64((after.CPU-before.CPU).Milliseconds())/span.Seconds(), float64(after.Calls-before.Calls)/span.Seconds(), after.Resident>>20)
	return f.Kill()
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
