package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"fanout/cmd/internal/lab"
)

// tailFigure is what one turn at one rate came to.
type tailFigure struct {
	p50, p99 time.Duration // from the producer's call to the receipt
	cpu      time.Duration // of the process that delivers, a delivery
}

// tails is the part of that name: how long events take at steady rates through fanout and through the plain pipeline, in turns.
// The producer and the receiver keep to one core. Kafka's log lies in memory where TMPDIR does.
func tails(ctx context.Context, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("tails", flag.ContinueOnError)
	ld := load{}
	ld.flags(fs)
	rates := fs.String("rates", "2000,5000,10000", "events a second, in steps of 500")
	turns := fs.Int("pairs", 7, "how often they take turns; from 6 on, the interval has 95 % confidence or more")
	span := fs.Duration("for", 6*time.Second, "how long")
	warm := fs.Duration("warm", 2*time.Second, "how long at the beginning nothing is measured")
	attempts := fs.Bool("attempts", false, "with attempts.topic: true")
	w, end, err := beginProfiled(ctx, fs, args)
	if err != nil {
		return err
	}
	defer end()
	w.attempts = *attempts
	fmt.Fprintf(out, "%s; %s after %s of warming up, %d subscriptions, signed, attempts.topic %v; the log lies in %s\n", machine(), *span, *warm, ld.subscriptions, *attempts, os.TempDir())
	for text := range strings.SplitSeq(*rates, ",") {
		rate, err := strconv.Atoi(text)
		if err != nil || rate < 500 || rate%500 != 0 {
			return fmt.Errorf("-rates: %q is no multiple of 500 events a second", text)
		}
		if err := w.tailsAt(ctx, ld, rate, *turns, *span, *warm, out); err != nil {
			return fmt.Errorf("at %d/s: %w", rate, err)
		}
	}
	return nil
}

func (w *world) tailsAt(ctx context.Context, ld load, rate, turns int, span, warm time.Duration, out io.Writer) error {
	pipelines := [2]struct {
		name  string
		start func(s *steady, ctx context.Context, receiver *lab.Server) (delivering, error)
	}{{"plain", (*steady).startPlain}, {"fanout", (*steady).startFanout}}
	var all [2][]tailFigure
	for turn := range turns {
		fmt.Fprint(out, turn+1)
		for i, p := range pipelines {
			s := w.steady(fmt.Sprintf("bench.tails.%d.%d.%s", rate, turn, p.name), ld, rate, span+warm)
			times, err := s.through(ctx, p.start)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			f := s.tail(times, int(warm/produceEvery))
			all[i] = append(all[i], f)
			fmt.Fprintf(out, "   %-6s p50 %6.2f ms  p99 %6.2f ms  %6.1f µs", p.name, millis(f.p50), millis(f.p99), micros(f.cpu))
		}
		fmt.Fprintln(out)
	}
	fmt.Fprintf(out, "%d/s, fanout of plain: p50 %s; p99 %s; CPU %s\n", rate,
		ofPlain(all, func(f tailFigure) time.Duration { return f.p50 }),
		ofPlain(all, func(f tailFigure) time.Duration { return f.p99 }),
		ofPlain(all, func(f tailFigure) time.Duration { return f.cpu }))
	return nil
}

// delivering is a process that reads a topic and delivers to the receiver.
type delivering interface {
	Usage() (lab.Usage, error)
	Kill() error
}

func (s *steady) startFanout(ctx context.Context, receiver *lab.Server) (delivering, error) {
	if err := s.w.subscribe(ctx, s.ld.subscriptions, receiver.URL()); err != nil {
		return nil, err
	}
	return s.w.startReady(ctx, s.topic)
}

func (s *steady) startPlain(ctx context.Context, receiver *lab.Server) (delivering, error) {
	return s.w.ownPart(ctx, plainPart, "-brokers", strings.Join(s.w.kafka.Brokers(), ","), "-topic", s.topic, "-partitions", strconv.Itoa(s.ld.partitions),
		"-to", strings.TrimPrefix(receiver.URL(), "http://"), "-accounts", strconv.Itoa(s.ld.accounts()))
}

// through produces to what start starts, waits until all has arrived, and returns when each event came, as Unix nanoseconds.
func (s *steady) through(ctx context.Context, start func(*steady, context.Context, *lab.Server) (delivering, error)) ([]int64, error) {
	n := s.perTick * len(s.sent)
	receiver, err := s.w.receiver(ctx, n)
	if err != nil {
		return nil, err
	}
	if err := keepTo(ctx, receiver.PID(), lastCore()); err != nil {
		return nil, err
	}
	if err := s.w.kafka.CreateTopics(ctx, lab.Topic{Name: s.topic, Partitions: s.ld.partitions}); err != nil {
		return nil, err
	}
	err = lab.Await(ctx, "a leader of each partition", func() bool {
		_, err := s.w.kafka.Ends(ctx, s.topic)
		return err == nil
	})
	if err != nil {
		return nil, err
	}
	p, err := start(s, ctx, receiver)
	if err != nil {
		return nil, err
	}
	// Only while it produces: what is started by this process would keep to the core as well.
	err = keepTo(ctx, os.Getpid(), lastCore())
	if err == nil {
		err = s.profiled(p, func() error { return s.observed(ctx, p) })
	}
	if err = errors.Join(err, keepTo(ctx, os.Getpid(), "0-"+lastCore())); err != nil {
		return nil, err
	}
	var times []int64
	waiting, cancel := context.WithTimeout(ctx, arriveWithin)
	defer cancel()
	err = lab.Await(waiting, "the last of what was produced", func() bool {
		times, err = arrivals(ctx, receiver, n)
		return err == nil && !slices.Contains(times, 0)
	})
	return times, errors.Join(err, p.Kill(), s.keep(p), receiver.Kill())
}

// profiled makes a CPU profile of fanout, where that was asked for, while do runs.
func (s *steady) profiled(p delivering, do func() error) error {
	f, ok := p.(*lab.Fanout)
	if !ok {
		return do()
	}
	if err := s.w.profiled(f); err != nil {
		return err
	}
	return errors.Join(do(), s.w.profiled(f))
}

// keep moves the profile of an instance that has ended to where it was asked for.
func (s *steady) keep(p delivering) error {
	if f, ok := p.(*lab.Fanout); ok {
		return s.w.keepProfile(f)
	}
	return nil
}

const arriveWithin = 15 * time.Second

func lastCore() string { return strconv.Itoa(runtime.NumCPU() - 1) }

// keepTo has all threads of a process run on those cores only.
func keepTo(ctx context.Context, pid int, cores string) error {
	if text, err := exec.CommandContext(ctx, "taskset", "-acp", cores, strconv.Itoa(pid)).CombinedOutput(); err != nil {
		return fmt.Errorf("taskset: %w: %s", err, text)
	}
	return nil
}

// ofPlain is the median of the turns' ratios, and its interval of confidence.
func ofPlain(all [2][]tailFigure, pick func(tailFigure) time.Duration) string {
	ratios := make([]float64, len(all[0]))
	for i := range ratios {
		ratios[i] = float64(pick(all[1][i])) / float64(pick(all[0][i]))
	}
	low, high := interval(ratios)
	return fmt.Sprintf("%.2f (%.2f to %.2f)", median(ratios, func(r float64) float64 { return r }), low, high)
}

// interval is the shortest one between two of the values that has the median of what they are drawn from in it with 95 % confidence, where
// there are six or more; else it goes from the least to the greatest. It assumes nothing of how they are distributed: how many of n draws
// lie below the median is binomial.
func interval(values []float64) (low, high float64) {
	values = slices.Sorted(slices.Values(values))
	n := len(values)
	if n == 0 {
		return 0, 0
	}
	// outside is how likely it is that the median lies below values[cut]: at most cut draws are below it.
	outside, chance := 0.0, 1.0
	for range n {
		chance /= 2
	}
	cut := 0
	for k := range n / 2 {
		outside += chance
		if 2*outside > 0.05 {
			break
		}
		cut = k
		chance *= float64(n-k) / float64(k+1)
	}
	return values[cut], values[n-1-cut]
}

// tail sorts out what came, without what was produced while things were warming up.
func (s *steady) tail(times []int64, warm int) tailFigure {
	took := make([]time.Duration, 0, len(times))
	for i, at := range times {
		if t := i / s.perTick; t >= warm {
			took = append(took, time.Duration(at-s.sent[t].UnixNano()))
		}
	}
	cores := s.fanout * float64(time.Second)
	return tailFigure{p50: quantile(took, 0.5), p99: quantile(took, 0.99), cpu: time.Duration(cores / float64(s.perTick*int(time.Second/produceEvery)))}
}
