package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"time"

	"fanout/cmd/internal/lab"
)

// inFlight is the part of that name: receivers that take seconds to answer, until so many attempts are under way.
func inFlight(ctx context.Context, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("inflight", flag.ContinueOnError)
	ld := load{subscriptions: 4000, partitions: 6}
	most := fs.Int("attempts", 10_000, "attempts in flight")
	fs.IntVar(&ld.events, "events", 40_000, "events; they must last until so many are in flight")
	delay := fs.Duration("delay", 8*time.Second, "how long the receivers take to answer")
	pairs := fs.Int("pairs", 3, "how often")
	fs.BoolVar(&ld.spread, "tls", false, "over TLS, each webhook at a host of its own")
	w, end, err := begin(ctx, fs, args, nil)
	if err != nil {
		return err
	}
	defer end()
	fmt.Fprintf(out, "%s; %d subscriptions whose receivers answer after %s, signed\n", machine(), ld.subscriptions, *delay)
	peaks := make([]int64, 0, *pairs)
	for i := range *pairs {
		c, err := w.inFlightRun(ctx, "bench.inflight."+strconv.Itoa(i), ld, *most, *delay)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%d  %s\n", i+1, &c)
		peaks = append(peaks, c.usage.Peak)
	}
	fmt.Fprintf(out, "medians, inflight: %d attempts in flight: peak %d MiB (target at most 256)\n", *most, quantile(peaks, 0.5)>>20)
	return nil
}

// inFlightRun is what one run came to.
type inFlightRun struct {
	open    int // requests at the receiver at once
	usage   lab.Usage
	metrics lab.Metrics
}

func (c *inFlightRun) String() string {
	mib := func(name string) float64 { return c.metrics.Sum(name) / (1 << 20) }
	return fmt.Sprintf("%d requests open at the receiver at once, %.0f deliveries not settled: resident %d MiB, peak %d MiB; heap in use %.0f MiB, the next collection at %.0f MiB; %.0f goroutines, their stacks %.0f MiB",
		c.open, c.metrics.Sum("fanout_in_flight"), c.usage.Resident>>20, c.usage.Peak>>20, mib("go_memstats_heap_inuse_bytes"),
		mib("go_memstats_next_gc_bytes"), c.metrics.Sum("go_goroutines"), mib("go_memstats_stack_inuse_bytes"))
}

// inFlightRun makes one run: until so many requests have been open at once, and a little longer.
func (w *world) inFlightRun(ctx context.Context, topic string, ld load, most int, delay time.Duration) (c inFlightRun, err error) {
	receiver, err := w.httpsReceiver(ctx, "-bad", strconv.Itoa(ld.subscriptions), "-delay", delay.String())
	if err != nil {
		return c, err
	}
	defer receiver.Kill() //nolint:errcheck // the lab ends what is left
	url := receiver.URL()
	if ld.spread {
		if url, err = receiver.secureURL(ctx); err != nil {
			return c, err
		}
	}
	if err := errors.Join(w.store(ctx, ld, 0, url), w.produce(ctx, topic, ld)); err != nil {
		return c, err
	}
	f, err := w.start(topic, func(c lab.Config) { c.Set("delivery.max_in_flight", most).Set("lanes.queue_age", "1h") })
	if err != nil {
		return c, err
	}
	defer f.Kill() //nolint:errcheck // the lab ends what is left
	waiting, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	err = lab.Await(waiting, "attempts in flight", func() bool {
		text, err := receiver.Get(ctx, openPath)
		if err == nil {
			c.open, err = strconv.Atoi(string(text))
		}
		return err != nil || c.open >= most || !f.Running()
	})
	if err != nil {
		return c, fmt.Errorf("%w: %d", err, c.open)
	}
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return c, context.Cause(ctx)
	}
	if c.usage, err = f.Usage(); err != nil {
		return c, errors.Join(err, tail(f))
	}
	c.metrics, err = f.Metrics(ctx)
	return c, err
}
