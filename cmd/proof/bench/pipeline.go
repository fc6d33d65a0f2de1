package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"fanout/cmd/internal/lab"
)

// pair is a run of fanout between the yardsticks and a loop of its own client, close in time.
type pair struct {
	yardsticks

	own    figure
	fanout ran
}

func (p pair) ownRatio() float64 { return float64(p.fanout.cpu) / float64(p.own.cpu) }

// pipeline is the part of that name: events that wait in Kafka, each for one of many subscriptions, signed, commits on.
func pipeline(ctx context.Context, args []string, out io.Writer) error {
	return besideLoops(ctx, "pipeline", args, out)
}

// overTLS is the part named tls: the same over HTTPS with keep-alive, and bare loops that do so too.
func overTLS(ctx context.Context, args []string, out io.Writer) error {
	return besideLoops(ctx, "tls", args, out)
}

func besideLoops(ctx context.Context, name string, args []string, out io.Writer) error {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	var ld load
	ld.flags(fs)
	count := fs.Int("pairs", 3, "how often fanout and the loops take turns")
	attempts := fs.Bool("attempts", false, "with attempts.topic: true")
	w, end, err := beginProfiled(ctx, fs, args)
	if err != nil {
		return err
	}
	defer end()
	nginx, err := w.lab.Nginx(ctx)
	if err != nil {
		return err
	}
	to := receiverAt{url: nginx.URL(), addr: nginx.Addr()}
	if name == "tls" {
		to, err = trusted(nginx)
		if err != nil {
			return err
		}
	}
	w.attempts = *attempts
	if err := w.subscribe(ctx, ld.subscriptions, to.url); err != nil {
		return err
	}
	scheme, _, _ := strings.Cut(to.url, ":")
	fmt.Fprintf(out, "%s; %d events, %d subscriptions, signed, commits on; nginx answers 204 over %s; loops of %d connections; calls are read(2) and write(2) a delivery\n",
		machine(), ld.events, ld.subscriptions, scheme, ld.connections)
	fresh, few := to, ld
	fresh.closing, few.events = true, min(ld.events, 10_000)
	connecting, err := fasthttpLoop(ctx, fresh, few)
	if err != nil {
		return fmt.Errorf("loop of new connections: %w", err)
	}
	fmt.Fprintf(out, "a request on a connection of its own: %.0f µs in the fasthttp loop\n", micros(connecting.cpu))
	pairs := make([]pair, 0, *count)
	for i := range *count {
		p, err := w.pair(ctx, nginx, to, fmt.Sprintf("bench.%d", i), ld)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%d  bare %s   plain %s   fanout %s %4d MiB %.2f calls   post loop %s\n",
			i+1, p.bare, p.plain, p.fanout.figure, p.fanout.peak>>20, p.fanout.calls, p.own)
		pairs = append(pairs, p)
	}
	of := func(base func(pair) figure) string {
		return fmt.Sprintf("pace %.2f, CPU %.2f",
			median(pairs, func(p pair) float64 { pace, _ := p.fanout.of(base(p)); return pace }),
			median(pairs, func(p pair) float64 { _, cpu := p.fanout.of(base(p)); return cpu }))
	}
	fmt.Fprintf(out, "medians: fanout %.0f/s, %.1f µs CPU a delivery; of plain's %s; of the bare loop's %s; CPU %.2f of the post loop's\n",
		median(pairs, func(p pair) float64 { return p.fanout.pace }),
		micros(median(pairs, func(p pair) time.Duration { return p.fanout.cpu })),
		of(func(p pair) figure { return p.plain }), of(func(p pair) figure { return p.bare }), median(pairs, pair.ownRatio))
	return nil
}

// pair measures the yardsticks and a loop around one run of fanout, on a topic and with a consumer group of its own.
func (w *world) pair(ctx context.Context, nginx *lab.Nginx, to receiverAt, topic string, ld load) (p pair, err error) {
	if err = w.produce(ctx, topic, ld); err != nil {
		return p, err
	}
	if p.yardsticks, err = w.yardsticks(ctx, topic, to, ld); err != nil {
		return p, err
	}
	f, err := w.start(topic)
	if err != nil {
		return p, err
	}
	r := work{fleet: []*lab.Fanout{f}, group: topic, topic: topic, deliveries: ld.deliveries()}
	if p.fanout, err = w.drain(ctx, r, nginx); err != nil {
		return p, errors.Join(err, f.Kill(), tail(f))
	}
	stopping, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := errors.Join(f.Stop(stopping), w.keepProfile(f)); err != nil {
		return p, err
	}
	if p.own, err = postLoop(ctx, to, ld); err != nil {
		return p, fmt.Errorf("post loop: %w", err)
	}
	return p, nil
}

// start starts fanout on one topic; adjust may change its configuration.
func (w *world) start(topic string, adjust ...func(lab.Config)) (*lab.Fanout, error) {
	return w.lab.Fanout(w.fan, w.kafka, w.redis, func(c lab.Config) {
		c.Set("kafka.group", topic).
			Set("sources", []map[string]string{{"topic": topic}}).
			Set("topics.prefix", topic).
			Set("attempts.topic", w.attempts).
			Set("log.level", "warn")
		for _, change := range adjust {
			change(c)
		}
	})
}

// readyWithin bounds a start: with a million subscriptions it takes some ten seconds.
const readyWithin = 2 * time.Minute

// startReady is start, and waits until fanout is ready.
func (w *world) startReady(ctx context.Context, topic string, adjust ...func(lab.Config)) (*lab.Fanout, error) {
	f, err := w.start(topic, adjust...)
	if err != nil {
		return nil, err
	}
	starting, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	if err := f.Ready(starting); err != nil {
		return nil, errors.Join(err, tail(f))
	}
	return f, nil
}

// work is what one or more instances of fanout are to work off.
type work struct {
	fleet        []*lab.Fanout
	group, topic string
	deliveries   int
	failing      bool // some end otherwise than delivered
	batched      bool // a request has several: fewer requests come than there are deliveries
}

// ran is what it came to.
type ran struct {
	figure

	peak  int64         // bytes of the instance that had most
	first time.Duration // from the call to drain to the first request
	calls float64       // read(2) and write(2) a delivery

	broker time.Duration // CPU of Kafka a delivery
}

// drain waits while fanout works off what a topic holds, and measures from its first request to its last. Then it checks
// that each delivery was made once, that the loss account is even and that all is committed: a figure for less would be
// none.
func (w *world) drain(ctx context.Context, r work, nginx *lab.Nginx) (ran, error) {
	base, err := nginx.Requests(ctx)
	if err != nil {
		return ran{}, err
	}
	const (
		beginning = 2 * time.Millisecond
		working   = 20 * time.Millisecond
		still     = time.Second
		patience  = 60 * time.Second
	)
	// The last look before the first request is where the work begins: nothing is left out.
	var (
		called  = time.Now()
		began   time.Time
		started lab.Usage
		broker  lab.Usage
		seen    int64
		moved   = called
		n       = int64(r.deliveries)
	)
	tick := time.NewTicker(beginning)
	defer tick.Stop()
	for {
		at := time.Now()
		usage, err := r.usage()
		if err != nil {
			return ran{}, fmt.Errorf("fanout ended after %d of %d: %w", seen, n, err)
		}
		kafka, err := w.kafka.Nodes[0].Usage()
		if err != nil {
			return ran{}, err
		}
		requests, err := nginx.Requests(ctx)
		if err != nil {
			return ran{}, err
		}
		if requests-base > seen {
			if seen == 0 {
				tick.Reset(working)
				if err := w.profiled(r.fleet[0]); err != nil {
					return ran{}, err
				}
			}
			seen, moved = requests-base, at
		}
		if seen == 0 {
			began, started, broker = at, usage, kafka
		}
		if seen >= n || seen > 0 && at.Sub(moved) > still && (r.failing || r.batched) && r.settled(ctx, n) == nil {
			break
		}
		if at.Sub(moved) > patience {
			return ran{}, errors.Join(fmt.Errorf("no request for %s after %d of %d", patience, seen, n), r.settled(ctx, n))
		}
		select {
		case <-ctx.Done():
			return ran{}, context.Cause(ctx)
		case <-tick.C:
		}
	}
	took := time.Since(began)
	if seen < n {
		took = moved.Sub(began)
	}
	ended, err := r.usage()
	if err != nil {
		return ran{}, err
	}
	kafka, err := w.kafka.Nodes[0].Usage()
	if err != nil {
		return ran{}, err
	}
	if err := w.profiled(r.fleet[0]); err != nil {
		return ran{}, err
	}
	if seen > n || seen < n && !r.failing && !r.batched {
		return ran{}, fmt.Errorf("%d requests for %d deliveries", seen, n)
	}
	return ran{
		figure: newFigure(n, took, ended.CPU-started.CPU), peak: ended.Peak, first: began.Sub(called),
		calls:  float64(ended.Calls-started.Calls) / float64(n),
		broker: (kafka.CPU - broker.CPU) / time.Duration(n),
	}, w.settled(ctx, r)
}

// usage is the CPU of all instances, and the memory of the largest.
func (r work) usage() (lab.Usage, error) {
	var sum lab.Usage
	for _, f := range r.fleet {
		if !f.Running() {
			return sum, tail(f)
		}
		u, err := f.Usage()
		if err != nil {
			return sum, err
		}
		sum.CPU += u.CPU
		sum.Calls += u.Calls
		sum.Peak = max(sum.Peak, u.Peak)
	}
	return sum, nil
}

// settled waits until fanout has accounted for all deliveries and committed them.
func (w *world) settled(ctx context.Context, r work) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	ends, err := w.kafka.Ends(ctx, r.topic)
	if err != nil {
		return err
	}
	err = lab.Await(ctx, "the last commit", func() bool {
		committed, err := w.kafka.Committed(ctx, r.group, r.topic)
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
	return r.settled(ctx, int64(r.deliveries))
}

// settled checks the loss accounts of all instances together.
func (r work) settled(ctx context.Context, n int64) error {
	var outcomes, delivered, deferred float64
	for _, f := range r.fleet {
		m, err := f.Metrics(ctx)
		if err != nil {
			return err
		}
		if off := m.Unaccounted(); len(off) > 0 {
			return fmt.Errorf("the loss account is off: %v", off)
		}
		outcomes += m.Sum("fanout_outcomes_total")
		delivered += m.Sum("fanout_outcomes_total", `outcome="delivered"`)
		deferred += m.Sum("fanout_outcomes_total", `outcome="deferred"`)
	}
	if deferred > 0 {
		return fmt.Errorf("%w: %.0f of %d", errDeferred, deferred, n)
	}
	if r.failing {
		delivered = outcomes
	}
	if outcomes != float64(n) || delivered != float64(n) {
		return fmt.Errorf("%.0f outcomes, %.0f of them delivered, of %d deliveries", outcomes, delivered, n)
	}
	return nil
}

// profiled begins or ends the CPU profile that was asked for: see cmd/fanout/profile.go.
func (w *world) profiled(f *lab.Fanout) error {
	if w.profile == "" {
		return nil
	}
	return f.Signal(syscall.SIGUSR1)
}

// keepProfile moves the profile of a run to where it was asked for. The run has been stopped.
func (w *world) keepProfile(f *lab.Fanout) error {
	if w.profile == "" {
		return nil
	}
	text, err := os.ReadFile(filepath.Join(f.Dir(), "cpu.pprof"))
	if err != nil {
		return err
	}
	return os.WriteFile(w.profile, text, 0o600)
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
