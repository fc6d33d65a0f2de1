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
	"time"

	"fanout/cmd/internal/lab"
)

// slowReceivers is what some of the receivers do.
type slowReceivers struct {
	name  string
	bad   int
	delay time.Duration // 0: they never answer
}

// slow is the part of that name: the same load with and without trouble, in turns; only the receivers that are well count.
func slow(ctx context.Context, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("slow", flag.ContinueOnError)
	ld := load{subscriptions: 100, partitions: 6}
	rate := fs.Int("rate", 4000, "events a second, spread evenly")
	span := fs.Duration("for", 30*time.Second, "how long each run is")
	warm := fs.Duration("warm", 3*time.Second, "how long at its beginning nothing is measured")
	pairs := fs.Int("pairs", 2, "how often the runs take turns")
	w, end, err := begin(ctx, fs, args, nil)
	if err != nil {
		return err
	}
	defer end()
	fmt.Fprintf(out, "%s; %d events a second over %d subscriptions for %s after %s, real Kafka\n", machine(), *rate, ld.subscriptions, *span, *warm)
	run := 0
	for _, t := range []slowReceivers{{"1 of 100 hangs", 1, 0}, {"10 of 100 hang", 10, 0}, {"1 of 100 answers after 9 s", 1, 9 * time.Second}} {
		var throughput, p99 []float64
		for range *pairs {
			results := make([]othersSaw, 0, 2)
			for _, now := range []slowReceivers{{}, t} {
				run++
				s := &steady{w: w, ld: ld, topic: "bench.slow." + strconv.Itoa(run), perTick: max(1, *rate*int(produceEvery)/int(time.Second))}
				ticks := int((*span + *warm) / produceEvery)
				s.sent, s.acked = make([]time.Time, ticks), make([]time.Time, ticks)
				saw, err := s.others(ctx, now, t.bad, int(*warm/produceEvery))
				if err != nil {
					return err
				}
				results = append(results, saw)
			}
			well, ill := results[0], results[1]
			throughput = append(throughput, ill.inTime/well.inTime)
			p99 = append(p99, float64(ill.p99)/float64(well.p99))
			fmt.Fprintf(out, "  %-27s  the others: in time %.4f, p50 %.2f ms, p99 %.2f ms; without it: in time %.4f, p50 %.2f ms, p99 %.2f ms\n",
				t.name, ill.inTime, millis(ill.p50), millis(ill.p99), well.inTime, millis(well.p50), millis(well.p99))
		}
		slices.Sort(throughput)
		slices.Sort(p99)
		fmt.Fprintf(out, "%-29s  the others: throughput %.3f of the run without it (target at least 0.95), p99 %.2f × (target at most 1.5)\n",
			t.name, throughput[len(throughput)/2], p99[len(p99)/2])
	}
	return nil
}

// othersSaw is how the receivers fared that are well.
type othersSaw struct {
	inTime   float64 // part of their events that came before the last one was produced, and a second more
	p50, p99 time.Duration
	dead     float64 // of all
}

// others makes one run. The first bad subscriptions do not count, whether or not they are in trouble.
func (s *steady) others(ctx context.Context, now slowReceivers, bad, warm int) (othersSaw, error) {
	n := s.perTick * len(s.sent)
	self, err := os.Executable()
	if err != nil {
		return othersSaw{}, err
	}
	receiver, err := s.w.lab.Server(ctx, receiverPart, func(addr string) []string {
		return []string{self, receiverPart, "-listen", addr, "-events", strconv.Itoa(n), "-bad", strconv.Itoa(now.bad), "-delay", now.delay.String()}
	})
	if err != nil {
		return othersSaw{}, err
	}
	defer receiver.Kill() //nolint:errcheck // the lab ends what is left
	if err := s.w.subscribe(ctx, s.ld.subscriptions, receiver.URL()); err != nil {
		return othersSaw{}, err
	}
	crowd := s.crowd
	if crowd == nil {
		crowd = &crowding{}
	}
	if err := crowd.store(ctx, s.w, receiver.URL()); err != nil {
		return othersSaw{}, err
	}
	if err := s.w.kafka.CreateTopics(ctx, lab.Topic{Name: s.topic, Partitions: s.ld.partitions}); err != nil {
		return othersSaw{}, err
	}
	f, err := s.w.startReady(ctx, s.topic, withToken)
	if err != nil {
		return othersSaw{}, err
	}
	defer f.Kill() //nolint:errcheck // the lab ends what is left
	end := func() error { return nil }
	if s.beside != nil {
		if end, err = s.beside(ctx, f); err != nil {
			return othersSaw{}, err
		}
	}
	if err := errors.Join(s.produceBeside(ctx), end()); err != nil {
		return othersSaw{}, err
	}
	until := time.Now().Add(time.Second)
	select {
	case <-time.After(5 * time.Second):
	case <-ctx.Done():
		return othersSaw{}, context.Cause(ctx)
	}
	body, err := receiver.Get(ctx, timesPath)
	if err != nil {
		return othersSaw{}, err
	}
	times := make([]int64, n)
	if _, err := binary.Decode(body, binary.BigEndian, times); err != nil {
		return othersSaw{}, err
	}
	m, err := f.Metrics(ctx)
	if err != nil {
		return othersSaw{}, err
	}
	if off := m.Unaccounted(); len(off) > 0 && now.bad == 0 && s.crowd == nil {
		return othersSaw{}, fmt.Errorf("the loss account is off: %v", off)
	}
	saw := othersSaw{dead: m.Sum("fanout_outcomes_total", `outcome="dead"`)}
	var took []time.Duration
	all, came := 0, 0
	for i, at := range times {
		t := i / s.perTick
		if t < warm || i%s.ld.subscriptions < bad {
			continue
		}
		all++
		if at != 0 && at <= until.UnixNano() {
			came++
		}
		if at != 0 {
			took = append(took, time.Duration(at-s.sent[t].UnixNano()))
		} else {
			took = append(took, time.Minute) // it has not come yet
		}
	}
	saw.inTime = float64(came) / float64(all)
	saw.p50, saw.p99 = quantile(took, 0.5), quantile(took, 0.99)
	return saw, nil
}
