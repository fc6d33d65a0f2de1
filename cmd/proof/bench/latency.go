package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"fanout/cmd/internal/lab"
)

const latencyTopic = "bench.latency"

// latency is the part of that name. When a record is appended lies between the producer's call and its answer; both are
// shown. The producer sends every 2 ms, to one partition after the other, with acks=1.
func latency(ctx context.Context, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("latency", flag.ContinueOnError)
	ld := load{}
	ld.flags(fs)
	rate := fs.Int("rate", 0, "events a second; 0 means half of what fanout delivers beside the producer, offered more than that")
	span := fs.Duration("for", 20*time.Second, "how long")
	warm := fs.Duration("warm", 5*time.Second, "how long at the beginning nothing is measured")
	w, end, err := begin(ctx, fs, args, nil)
	if err != nil {
		return err
	}
	defer end()
	if *rate == 0 {
		if *rate, err = w.half(ctx, ld, out); err != nil {
			return err
		}
	}
	s := w.steady(latencyTopic, ld, *rate, *span+*warm)
	fmt.Fprintf(out, "%s; %d events a second for %s after %s of warming up, %d subscriptions, signed\n",
		machine(), s.perTick*int(time.Second/produceEvery), *span, *warm, ld.subscriptions)
	times, err := s.run(ctx)
	if err != nil {
		return err
	}
	s.report(out, times, int(*warm/produceEvery))
	return nil
}

// half of the pace that fanout keeps on this machine while the producer is at work beside it: offered what it drains
// without one, which is more than the two can do together.
func (w *world) half(ctx context.Context, ld load, out io.Writer) (int, error) {
	nginx, err := w.lab.Nginx(ctx)
	if err != nil {
		return 0, err
	}
	if err := w.subscribe(ctx, ld.subscriptions, nginx.URL()); err != nil {
		return 0, err
	}
	const topic = "bench.pace"
	if err := w.produce(ctx, topic, ld); err != nil {
		return 0, err
	}
	f, err := w.start(topic)
	if err != nil {
		return 0, err
	}
	drained, err := w.drain(ctx, work{fleet: []*lab.Fanout{f}, group: topic, topic: topic, deliveries: ld.events}, nginx)
	if err != nil {
		return 0, errors.Join(err, tail(f))
	}
	if err := errors.Join(f.Kill(), nginx.Kill()); err != nil {
		return 0, err
	}
	s := w.steady("bench.offered", ld, int(drained.pace), offeredFor)
	times, err := s.run(ctx)
	if err != nil {
		return 0, err
	}
	last := slices.Max(times)
	arrived := len(slices.DeleteFunc(times, func(at int64) bool { return at == 0 })) // the others wait for a retry
	pace := float64(arrived) / time.Duration(last-s.sent[0].UnixNano()).Seconds()
	fmt.Fprintf(out, "drained without a producer: %.0f/s; beside it, offered as much: %.0f/s\n", drained.pace, pace)
	return int(pace / 2), nil
}

// offeredFor is how long more is offered than fanout can deliver: what waits at its end is delivered within seconds.
const offeredFor = 6 * time.Second

const produceEvery = 2 * time.Millisecond

// steady is a producer with a steady rate, and the receiver of what becomes of it.
type steady struct {
	w           *world
	ld          load
	topic       string
	perTick     int
	crowd       *crowding                                                        // nil: none
	beside      func(context.Context, *lab.Fanout) (end func() error, err error) // what goes on while it produces; nil: nothing
	sent, acked []time.Time                                                      // of each tick's batch
	busy        float64                                                          // part of the machine's CPU time that was used while it produced
	fanout      float64                                                          // cores that fanout used in that time
}

func (w *world) steady(topic string, ld load, rate int, span time.Duration) *steady {
	ticks := int(span / produceEvery)
	return &steady{
		w: w, ld: ld, topic: topic, perTick: max(1, rate*int(produceEvery)/int(time.Second)),
		sent: make([]time.Time, ticks), acked: make([]time.Time, ticks),
	}
}

// run produces, waits until all has arrived, and returns when each event came, as Unix nanoseconds.
func (s *steady) run(ctx context.Context) ([]int64, error) {
	n := s.perTick * len(s.sent)
	receiver, err := s.w.receiver(ctx, n)
	if err != nil {
		return nil, err
	}
	if err := s.w.subscribe(ctx, s.ld.subscriptions, receiver.URL()); err != nil {
		return nil, err
	}
	if err := s.w.kafka.CreateTopics(ctx, lab.Topic{Name: s.topic, Partitions: s.ld.partitions}); err != nil {
		return nil, err
	}
	f, err := s.w.startReady(ctx, s.topic)
	if err != nil {
		return nil, err
	}
	if err := s.observed(ctx, f); err != nil {
		return nil, err
	}
	if err := s.w.settled(ctx, work{fleet: []*lab.Fanout{f}, group: s.topic, topic: s.topic, deliveries: n}); err != nil {
		return nil, errors.Join(err, tail(f))
	}
	times, err := arrivals(ctx, receiver, n)
	if err != nil {
		return nil, err
	}
	return times, errors.Join(f.Kill(), receiver.Kill())
}

// receiver starts the part of that name for n events.
func (w *world) receiver(ctx context.Context, n int) (*lab.Server, error) {
	return w.ownPart(ctx, receiverPart, "-events", strconv.Itoa(n))
}

// ownPart starts this program again, with a part that listens.
func (w *world) ownPart(ctx context.Context, name string, args ...string) (*lab.Server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return w.lab.Server(ctx, name, func(addr string) []string {
		return append([]string{self, name, "-listen", addr}, args...)
	})
}

// arrivals are when the receiver got each of n events, in Unix nanoseconds; 0: not yet.
func arrivals(ctx context.Context, receiver *lab.Server, n int) ([]int64, error) {
	body, err := receiver.Get(ctx, timesPath)
	if err != nil {
		return nil, err
	}
	times := make([]int64, n)
	_, err = binary.Decode(body, binary.BigEndian, times)
	return times, err
}

// observed produces, and notes how busy the machine and the process that delivers are meanwhile.
func (s *steady) observed(ctx context.Context, f interface{ Usage() (lab.Usage, error) }) error {
	began := time.Now()
	all, idle, err := machineTime()
	if err != nil {
		return err
	}
	before, err := f.Usage()
	if err != nil {
		return err
	}
	if err := s.produce(ctx); err != nil {
		return err
	}
	after, err := f.Usage()
	if err != nil {
		return err
	}
	allAfter, idleAfter, err := machineTime()
	if err != nil {
		return err
	}
	s.fanout = (after.CPU - before.CPU).Seconds() / time.Since(began).Seconds()
	s.busy = 1 - float64(idleAfter-idle)/float64(allAfter-all)
	return nil
}

// machineTime is the first line of /proc/stat (proc(5)): all time of all cores, and what of it was idle, in ticks.
func machineTime() (all, idle int64, err error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	for i, field := range strings.Fields(line)[1:] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("/proc/stat: %w", err)
		}
		if i < 8 { // what guests used is in user's and nice's time
			all += n
		}
		if i == 3 || i == 4 { // idle, iowait
			idle += n
		}
	}
	return all, idle, nil
}

func (s *steady) produce(ctx context.Context) error {
	client := s.w.kafka.Client()
	var (
		wg   sync.WaitGroup
		errs = make([]error, len(s.sent))
	)
	tick := time.NewTicker(produceEvery)
	defer tick.Stop()
	for t := range s.sent {
		select {
		case <-ctx.Done():
			wg.Wait()
			return context.Cause(ctx)
		case <-tick.C:
		}
		records := make([]kafka.Record, s.perTick)
		for i := range records {
			number := t*s.perTick + i
			m := rawEvent(number, s.ld.subscriptions, trackPrefix+strconv.Itoa(number))
			records[i] = kafka.Record{Key: kafka.NewBytes(m.Key), Value: kafka.NewBytes(m.Value)}
		}
		s.sent[t] = time.Now()
		wg.Go(func() {
			answer, err := client.Produce(ctx, &kafka.ProduceRequest{
				Topic: s.topic, Partition: t % s.ld.partitions, RequiredAcks: kafka.RequireOne, Records: kafka.NewRecordReader(records...),
			})
			s.acked[t] = time.Now()
			if err == nil {
				err = answer.Error
			}
			errs[t] = err
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("produce: %w", err)
	}
	return nil
}

func (s *steady) report(out io.Writer, times []int64, warm int) {
	fromCall := make([]time.Duration, 0, len(times))
	fromAnswer := make([]time.Duration, 0, len(times))
	missing := 0
	for i, at := range times {
		t := i / s.perTick
		if at == 0 {
			missing++
			continue
		}
		if t >= warm {
			fromCall = append(fromCall, time.Duration(at-s.sent[t].UnixNano()))
			fromAnswer = append(fromAnswer, max(0, time.Duration(at-s.acked[t].UnixNano())))
		}
	}
	line := func(what string, d []time.Duration) {
		fmt.Fprintf(out, "%s: p50 %.2f ms, p90 %.2f ms, p99 %.2f ms, p99.9 %.2f ms, most %.2f ms\n", what,
			millis(quantile(d, 0.5)), millis(quantile(d, 0.9)), millis(quantile(d, 0.99)), millis(quantile(d, 0.999)), millis(quantile(d, 1)))
	}
	line("from the producer's call to the receipt  ", fromCall)
	line("from the broker's answer to the receipt  ", fromAnswer)
	fmt.Fprintf(out, "fanout used %.2f cores; the machine, with Kafka, the producer and the receiver, was %.0f %% busy\n", s.fanout, 100*s.busy)
	fmt.Fprintf(out, "%d requests, %d missing (targets: p50 at most 2 ms, p99 at most 10 ms)\n", len(times)-missing, missing)
}

func millis(d time.Duration) float64 { return micros(d) / 1000 }
