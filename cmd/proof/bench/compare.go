package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"fanout/cmd/internal/lab"
)

// variant is one way to run fanout, beside others.
type variant struct {
	name      string
	load      load
	path      string // of the receiver, where it matters
	db        int    // Redis' database with its subscriptions; variants with the same ones share it
	instances int    // 0 is 1
	failing   bool   // some deliveries are not made
	batched   bool   // a request has several
	tier      bool   // the deliveries come up from a retry tier
	warm      bool   // the instances have joined before there is anything to do
	adjust    func(lab.Config)
}

// comparison is a part that runs variants in turns, and relates each to the yardsticks and to the first one of its turn.
func comparison(name string, variants func(ld load) []variant) func(context.Context, []string, io.Writer) error {
	return func(ctx context.Context, args []string, out io.Writer) error {
		fs := flag.NewFlagSet(name, flag.ContinueOnError)
		var ld load
		ld.flags(fs)
		pairs := fs.Int("pairs", 3, "how often the variants take turns")
		attempts := fs.Bool("attempts", false, "with attempts.topic: true")
		only := fs.String("only", "", "keep the first variant, and of the others those whose name holds this")
		profiles := fs.String("profile", "", "write a CPU profile of each variant's last run to this folder")
		w, end, err := begin(ctx, fs, args, func() ([]string, error) {
			if *profiles == "" {
				return nil, nil
			}
			return profiled(), os.MkdirAll(*profiles, 0o700)
		})
		if err != nil {
			return err
		}
		defer end()
		nginx, err := w.lab.Nginx(ctx)
		if err != nil {
			return err
		}
		w.attempts = *attempts
		to := receiverAt{url: nginx.URL(), addr: nginx.Addr()}
		all := variants(ld)
		all = slices.Concat(all[:1], slices.DeleteFunc(all[1:], func(v variant) bool { return !strings.Contains(v.name, *only) }))
		stored := make(map[int]bool)
		for _, v := range all {
			if stored[v.db] {
				continue
			}
			stored[v.db] = true
			if err := w.store(ctx, v.load, v.db, nginx.URL()+v.path); err != nil {
				return err
			}
		}
		fmt.Fprintf(out, "%s; %d events, %d subscriptions where nothing else is said, signed, commits on; nginx answers\n", machine(), ld.events, ld.subscriptions)
		rounds := make([]round, 0, *pairs)
		for i := range *pairs {
			topic := fmt.Sprintf("bench.%s.%d.plain", name, i)
			if err := w.produce(ctx, topic, all[0].load); err != nil {
				return err
			}
			beside, err := w.yardsticks(ctx, topic, to, all[0].load)
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "%d  %-28s %s\n%d  %-28s %s\n", i+1, "bare", beside.bare, i+1, "plain", beside.plain)
			turn := round{yardsticks: beside}
			for j := range all {
				topic := fmt.Sprintf("bench.%s.%d.%d", name, i, j)
				if *profiles != "" {
					w.profile = filepath.Join(*profiles, strings.NewReplacer(" ", "-", ",", "").Replace(all[j].name)+".pprof")
				}
				r, err := w.variant(ctx, nginx, &all[j], topic)
				for again := range maxAgain {
					if !errors.Is(err, errDeferred) {
						break
					}
					fmt.Fprintf(out, "%d  %-28s once more, since %v\n", i+1, all[j].name, errDeferred)
					r, err = w.variant(ctx, nginx, &all[j], fmt.Sprintf("%s.%d", topic, again))
				}
				if err != nil {
					return fmt.Errorf("%s: %w", all[j].name, err)
				}
				fmt.Fprintf(out, "%d  %-28s %s %5d MiB   first delivery after %5.2f s   broker %5.1f µs\n",
					i+1, all[j].name, r.figure, r.peak>>20, r.first.Seconds(), micros(r.broker))
				turn.runs = append(turn.runs, r)
			}
			rounds = append(rounds, turn)
		}
		fmt.Fprint(out, summary(name, all, rounds))
		return nil
	}
}

// errDeferred is of a run in which deliveries waited longer than a lane's queue holds them, and went to a retry tier: the
// machine has stood still for seconds, and what was measured is not fanout.
var errDeferred = errors.New("deliveries were deferred: the machine stood still")

// maxAgain bounds how often such a run is repeated.
const maxAgain = 3

// round is one turn: the yardsticks, and a run of each variant.
type round struct {
	yardsticks

	runs []ran
}

// summary is the medians in a table. Pace and CPU are parts of those of the plain pipeline, of the bare loop and of the
// first variant in the same turn.
func summary(name string, all []variant, rounds []round) string {
	var text strings.Builder
	fmt.Fprintf(&text, "medians of %-18s      pace     CPU   peak   first  broker    of plain     of bare  of %s\n", name, all[0].name)
	for j, v := range all {
		pick := func(get func(r ran) float64) float64 {
			return median(rounds, func(turn round) float64 { return get(turn.runs[j]) })
		}
		of := func(base func(turn round) figure) string {
			pace := median(rounds, func(turn round) float64 { pace, _ := turn.runs[j].of(base(turn)); return pace })
			cpu := median(rounds, func(turn round) float64 { _, cpu := turn.runs[j].of(base(turn)); return cpu })
			return fmt.Sprintf("%5.2f %5.2f", pace, cpu)
		}
		fmt.Fprintf(&text, "%-28s %7.0f/s %4.1f µs %4.0f MiB %5.1f s %4.1f µs %s %s %s\n", v.name,
			pick(func(r ran) float64 { return r.pace }), pick(func(r ran) float64 { return micros(r.cpu) }),
			pick(func(r ran) float64 { return float64(r.peak >> 20) }), pick(func(r ran) float64 { return r.first.Seconds() }),
			pick(func(r ran) float64 { return micros(r.broker) }),
			of(func(turn round) figure { return turn.plain }), of(func(turn round) figure { return turn.bare }),
			of(func(turn round) figure { return turn.runs[0].figure }))
	}
	return text.String()
}

// variant measures one run, on topics and with consumer groups of its own.
func (w *world) variant(ctx context.Context, nginx *lab.Nginx, v *variant, topic string) (ran, error) {
	r := work{group: topic, topic: topic, deliveries: v.load.deliveries(), failing: v.failing, batched: v.batched}
	if v.tier {
		r.group += groupSuffix
		r.topic += tierSuffix
		if err := w.kafka.CreateTopics(ctx, lab.Topic{Name: topic}); err != nil {
			return ran{}, err
		}
	}
	if err := w.kafka.CreateTopics(ctx, lab.Topic{Name: r.topic, Partitions: v.load.partitions}); err != nil {
		return ran{}, err
	}
	fill := func() error {
		if v.tier {
			return w.produceRetries(ctx, r.topic, v.load)
		}
		return w.produceTo(ctx, r.topic, v.load)
	}
	if !v.warm {
		if err := fill(); err != nil {
			return ran{}, err
		}
	}
	for range max(1, v.instances) {
		f, err := w.start(topic, func(c lab.Config) {
			c.Set("redis.url", fmt.Sprintf("redis://%s/%d", w.redis.Addr(), v.db))
			if v.adjust != nil {
				v.adjust(c)
			}
		})
		if err != nil {
			return ran{}, err
		}
		defer f.Kill() //nolint:errcheck // the lab ends what is left
		r.fleet = append(r.fleet, f)
	}
	if v.warm {
		if err := r.hold(ctx, fill); err != nil {
			return ran{}, err
		}
	}
	result, err := w.drain(ctx, r, nginx)
	if err != nil {
		return ran{}, errors.Join(err, tail(r.fleet[0]))
	}
	for _, f := range r.fleet {
		stopping, cancel := context.WithTimeout(ctx, 30*time.Second)
		err := f.Stop(stopping)
		cancel()
		if err != nil {
			return ran{}, err
		}
	}
	return result, w.keepProfile(r.fleet[0])
}

// hold waits until every instance is ready, and freezes them while their topic is filled: for less than a member of a
// group may be silent.
func (r work) hold(ctx context.Context, fill func() error) error {
	for _, f := range r.fleet {
		starting, cancel := context.WithTimeout(ctx, time.Minute)
		err := f.Ready(starting)
		cancel()
		if err != nil {
			return errors.Join(err, tail(f))
		}
	}
	select { // the last rebalance
	case <-time.After(2 * time.Second):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for _, f := range r.fleet {
		if err := f.Pause(); err != nil {
			return err
		}
	}
	began := time.Now()
	err := fill()
	for _, f := range r.fleet {
		err = errors.Join(err, f.Resume())
	}
	if took := time.Since(began); err == nil && took > silence {
		return fmt.Errorf("filling the topic took %s: the group may have gone on without its members; ask for fewer -events", took.Round(time.Millisecond))
	}
	return err
}

// silence is how long an instance may be frozen: well below its session's time-out of 8 s, and a commit's of 5 s.
const silence = 4 * time.Second
