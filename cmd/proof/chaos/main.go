// Command chaos proves from outside that fanout loses nothing: it starts Apache Kafka, redis-server, receivers and
// instances of fanout as processes of their own, breaks them from a seed, and counts at the end
// (docs/contract.md#the-guarantee, docs/contract.md#targets). It prints one line a scenario and seed; the exit status is 1
// where anything was lost or a bound was broken.
//
// judge.go checks. The events that were sent are read back from Kafka with another client than fanout's, and a delivery
// has arrived when a receiver has answered it with 2xx.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"fanout/cmd/internal/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop has run
	}
}

// settings is what the command line says.
type settings struct {
	seed    uint64
	seeds   int
	names   string
	short   bool
	list    bool
	verbose bool
	rate    int
	keep    string
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var set settings
	fs := flag.NewFlagSet("chaos", flag.ContinueOnError)
	fs.SetOutput(out)
	fs.Uint64Var(&set.seed, "seed", 1, "what the faults and the events are drawn from")
	fs.IntVar(&set.seeds, "seeds", 1, "how many seeds, from -seed on")
	fs.StringVar(&set.names, "scenario", "", "only these, by name, with commas between")
	fs.BoolVar(&set.short, "short", false, "the scenarios and lengths of a CI run, some six minutes")
	fs.BoolVar(&set.list, "list", false, "list the scenarios")
	fs.BoolVar(&set.verbose, "v", false, "tell what happens")
	fs.IntVar(&set.rate, "rate", 500, "events a second")
	fs.StringVar(&set.keep, "keep", "", "a folder for the logs of a scenario that failed")
	if err := fs.Parse(args); err != nil {
		return err
	}
	chosen, err := choose(&set)
	if err != nil {
		return err
	}
	if set.list {
		for _, s := range chosen {
			fmt.Fprintf(out, "%-20s %s\n", s.name, s.about)
		}
		return nil
	}
	return playAll(ctx, &set, chosen, out)
}

func choose(set *settings) ([]scenario, error) {
	all := scenarios()
	if set.names == "" {
		return slices.DeleteFunc(all, func(s scenario) bool { return set.short && !s.short }), nil
	}
	var chosen []scenario
	for name := range strings.SplitSeq(set.names, ",") {
		i := slices.IndexFunc(all, func(s scenario) bool { return s.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no scenario %q: -list lists them", name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

func playAll(ctx context.Context, set *settings, chosen []scenario, out io.Writer) error {
	program, cleanup, err := build(ctx)
	if err != nil {
		return err
	}
	defer cleanup()
	began := time.Now()
	fmt.Fprintln(out, heading)
	failed := 0
	for _, s := range chosen {
		for seed := set.seed; seed < set.seed+uint64(max(set.seeds, 1)); seed++ {
			r := play(ctx, set, &s, seed, program, out)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			fmt.Fprint(out, r)
			if len(r.problems) > 0 {
				failed++
			}
		}
	}
	fmt.Fprintf(out, "%d of %d runs failed, in %v\n", failed, len(chosen)*max(set.seeds, 1), time.Since(began).Round(time.Second))
	if failed > 0 {
		return fmt.Errorf("%d runs failed", failed)
	}
	return nil
}

// build compiles fanout once for all runs.
func build(ctx context.Context) (program string, cleanup func(), err error) {
	l, err := lab.New()
	if err != nil {
		return "", nil, err
	}
	program, err = l.Build(ctx)
	if err != nil {
		l.Close()
		return "", nil, err
	}
	return program, l.Close, nil
}
