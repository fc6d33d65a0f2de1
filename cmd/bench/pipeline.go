package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"fanout/cmd/internal/lab"
)

// pair is a run of fanout between two bare loops, close in time.
type pair struct {
	fast, fanout, own figure
	peak              int64 // bytes, fanout's
}

func (p pair) paceRatio() float64 { return p.fanout.pace / p.fast.pace }
func (p pair) cpuRatio() float64  { return float64(p.fanout.cpu) / float64(p.fast.cpu) }
func (p pair) ownRatio() float64  { return float64(p.fanout.cpu) / float64(p.own.cpu) }

// pipeline is the part of that name: events that wait in Kafka, each for one of many subscriptions, signed, commits on.
func pipeline(ctx context.Context, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("pipeline", flag.ContinueOnError)
	var ld load
	ld.flags(fs)
	count := fs.Int("pairs", 3, "how often fanout and the loops take turns")
	attempts := fs.Bool("attempts", false, "with attempts.topic: true")
	if err := fs.Parse(args); err != nil {
		return err
	}
	l, err := lab.New()
	if err != nil {
		return err
	}
	defer l.Close()
	w, err := newWorld(ctx, l)
	if err != nil {
		return err
	}
	w.attempts = *attempts
	nginx, err := l.Nginx(ctx)
	if err != nil {
		return err
	}
	if err := w.subscribe(ctx, ld.subscriptions, nginx.URL()); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s; %d events, %d subscriptions, signed, commits on; nginx answers 204; loops of %d connections\n",
		machine(), ld.events, ld.subscriptions, ld.connections)
	pairs := make([]pair, 0, *count)
	for i := range *count {
		p, err := w.pair(ctx, nginx, fmt.Sprintf("bench.%d", i), ld)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%d  fasthttp loop %6.0f/s %5.1f µs   fanout %6.0f/s %5.1f µs %4d MiB   post loop %6.0f/s %5.1f µs   pace %.2f, CPU %.2f of fasthttp, %.2f of post\n",
			i+1, p.fast.pace, micros(p.fast.cpu), p.fanout.pace, micros(p.fanout.cpu), p.peak>>20,
			p.own.pace, micros(p.own.cpu), p.paceRatio(), p.cpuRatio(), p.ownRatio())
		pairs = append(pairs, p)
	}
	fmt.Fprintf(out, "medians: fanout %.0f/s, %.1f µs CPU a delivery; pace %.2f of the loop's (target at least 0.60), CPU %.2f (target at most 1.50)\n",
		median(pairs, func(p pair) float64 { return p.fanout.pace }),
		micros(median(pairs, func(p pair) time.Duration { return p.fanout.cpu })),
		median(pairs, pair.paceRatio), median(pairs, pair.cpuRatio))
	return nil
}

// pair measures the loops around one run of fanout, on a topic and with a consumer group of its own.
func (w *world) pair(ctx context.Context, nginx *lab.Nginx, topic string, ld load) (p pair, err error) {
	if err = w.produce(ctx, topic, ld); err != nil {
		return p, err
	}
	if p.fast, err = fasthttpLoop(ctx, nginx.Addr(), ld); err != nil {
		return p, fmt.Errorf("fasthttp loop: %w", err)
	}
	f, err := w.start(topic)
	if err != nil {
		return p, err
	}
	if p.fanout, p.peak, err = w.drain(ctx, f, nginx, topic, ld.events); err != nil {
		return p, errors.Join(err, f.Kill(), tail(f))
	}
	stopping, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := f.Stop(stopping); err != nil {
		return p, err
	}
	if p.own, err = postLoop(ctx, nginx.Addr(), ld); err != nil {
		return p, fmt.Errorf("post loop: %w", err)
	}
	return p, nil
}

// start starts fanout on one topic.
func (w *world) start(topic string) (*lab.Fanout, error) {
	return w.lab.Fanout(w.fan, w.kafka, w.redis, func(c lab.Config) {
		c.Set("kafka.group", topic).
			Set("sources", []map[string]string{{"topic": topic}}).
			Set("topics.prefix", topic).
			Set("attempts.topic", w.attempts).
			Set("log.level", "warn")
	})
}

// drain waits while fanout works off n events, and measures from its first request to its last. Then it checks that
// each was delivered once, that the loss account is even and that all is committed: a figure for less would be none.
func (w *world) drain(ctx context.Context, f *lab.Fanout, nginx *lab.Nginx, topic string, n int) (figure, int64, error) {
	base, err := nginx.Requests(ctx)
	if err != nil {
		return figure{}, 0, err
	}
	const (
		beginning = 2 * time.Millisecond
		working   = 20 * time.Millisecond
		patience  = 30 * time.Second
	)
	// The last look before the first request is where the work begins: nothing is left out.
	var (
		began   time.Time
		started lab.Usage
		seen    int64
		moved   = time.Now()
	)
	tick := time.NewTicker(beginning)
	defer tick.Stop()
	for {
		at := time.Now()
		usage, err := f.Usage()
		if err != nil || !f.Running() {
			return figure{}, 0, fmt.Errorf("fanout ended after %d of %d", seen, n)
		}
		requests, err := nginx.Requests(ctx)
		if err != nil {
			return figure{}, 0, err
		}
		if requests-base > seen {
			if seen == 0 {
				tick.Reset(working)
			}
			seen, moved = requests-base, at
		}
		if seen == 0 {
			began, started = at, usage
		}
		if seen >= int64(n) {
			break
		}
		if at.Sub(moved) > patience {
			return figure{}, 0, fmt.Errorf("no request for %s after %d of %d", patience, seen, n)
		}
		select {
		case <-ctx.Done():
			return figure{}, 0, context.Cause(ctx)
		case <-tick.C:
		}
	}
	took := time.Since(began)
	ended, err := f.Usage()
	if err != nil {
		return figure{}, 0, err
	}
	if seen != int64(n) {
		return figure{}, 0, fmt.Errorf("%d requests for %d events", seen, n)
	}
	return newFigure(int64(n), took, ended.CPU-started.CPU), ended.Peak, w.settled(ctx, f, topic, n)
}

// settled waits until fanout has accounted for all n deliveries and committed them.
func (w *world) settled(ctx context.Context, f *lab.Fanout, topic string, n int) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	ends, err := w.kafka.Ends(ctx, topic)
	if err != nil {
		return err
	}
	err = lab.Await(ctx, "the last commit", func() bool {
		committed, err := w.kafka.Committed(ctx, topic, topic)
		if err != nil {
			return false
		}
		for p, end := range ends {
			if committed[p] < end {
				return false
			}
		}
		return true
	})
	if err != nil {
		return err
	}
	m, err := f.Metrics(ctx)
	if err != nil {
		return err
	}
	if off := m.Unaccounted(); len(off) > 0 {
		return fmt.Errorf("the loss account is off: %v", off)
	}
	if delivered := m.Sum("fanout_outcomes_total", `outcome="delivered"`); delivered != float64(n) {
		return fmt.Errorf("%.0f outcomes are delivered, of %d", delivered, n)
	}
	return nil
}

// tail is the end of fanout's log, as an error.
func tail(f *lab.Fanout) error {
	const most = 2 << 10
	text, err := os.ReadFile(f.Log())
	if err != nil {
		return err
	}
	return fmt.Errorf("fanout's log ends with\n%s", text[max(0, len(text)-most):])
}
