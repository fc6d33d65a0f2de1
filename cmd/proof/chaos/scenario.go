package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"fanout/cmd/internal/lab"
)

// scenario is one kind of fault.
type scenario struct {
	name, about string
	short       bool          // part of -short
	nodes       int           // of Kafka; 0 means one
	instances   int           // of fanout when it begins; 0 leaves it to run
	partitions  int           // of each source topic; 0 means 4
	plain       bool          // fanout's own times
	waits       bool          // retries outlive the run
	recreates   bool          // topics or offsets are replaced, so that audit cannot judge by them
	limit       time.Duration // of the first delivery after each fault; 0 means none
	kafka       func(*lab.KafkaConfig)
	run         func(context.Context, *world) error
}

// playLimit bounds a run, so that a harness that hangs is a failure rather than a mystery.
const playLimit = 6 * time.Minute

const heading = "scenario              seed  events deliveries kills  lost repeats (bound)  first after fault  took"

// result is what one run showed.
type result struct {
	name       string
	seed       uint64
	events     int
	deliveries int
	kills      int
	lost       int
	repeats    int
	bound      int
	first      time.Duration // the longest wait for a first delivery after a fault; negative: none came
	faults     int           // how many faults first is about
	took       time.Duration
	notes      []string
	problems   []string
}

// String is the line of the run, and a line for each note and problem.
func (r *result) String() string {
	var text strings.Builder
	first := "-"
	if r.faults > 0 {
		first = fmt.Sprintf("%.2f s", r.first.Seconds())
	}
	fmt.Fprintf(&text, "%-20s %5d %7d %10d %5d %5d %7d %7s  %17s  %3.0f s",
		r.name, r.seed, r.events, r.deliveries, r.kills, r.lost, r.repeats, fmt.Sprintf("(%d)", r.bound), first, r.took.Seconds())
	if len(r.notes) > 0 {
		text.WriteString("  " + strings.Join(r.notes, "; "))
	}
	text.WriteByte('\n')
	const most = 12
	for i, p := range r.problems {
		if i == most {
			fmt.Fprintf(&text, "  FAILED: … and %d more\n", len(r.problems)-most)
			break
		}
		fmt.Fprintf(&text, "  FAILED: %s\n", p)
	}
	return text.String()
}

// play runs a scenario in a lab of its own and judges it.
func play(ctx context.Context, set *settings, s *scenario, seed uint64, program string, out io.Writer) *result {
	began := time.Now()
	r := &result{name: s.name, seed: seed}
	ctx, cancel := context.WithTimeoutCause(ctx, playLimit, errors.New("the run took too long"))
	defer cancel()
	l, err := lab.New()
	if err != nil {
		r.problems = append(r.problems, err.Error())
		return r
	}
	w, err := newWorld(ctx, l, set, s, seed, program, out)
	if err == nil {
		err = w.play(ctx, r)
	}
	if err != nil {
		r.problems = append(r.problems, err.Error())
	}
	if w != nil {
		w.close()
		r.problems = append(r.problems, w.problems.list()...)
	}
	if len(r.problems) > 0 && set.keep != "" {
		keepLogs(l.Dir(), filepath.Join(set.keep, fmt.Sprintf("%s-%d", s.name, seed)))
	}
	l.Close()
	r.problems = append(r.problems, leftovers(l.Dir())...)
	r.took = time.Since(began)
	return r
}

// play lets events flow, breaks things, and waits until all that was sent is accounted for.
func (w *world) play(ctx context.Context, r *result) error {
	for range w.s.instances {
		if _, err := w.add(ctx, nil); err != nil {
			return err
		}
	}
	w.load(ctx, w.set.rate)
	w.watch(ctx)
	if err := w.s.run(ctx, w); err != nil {
		return err
	}
	if err := w.unload(ctx); err != nil {
		return err
	}
	w.sayf("load ended; waiting until all is settled")
	w.settle(ctx)
	w.unwatch()
	for _, f := range w.fans {
		if !f.Running() {
			continue
		}
		if err := w.stop(ctx, f); err != nil {
			w.problems.addf("%v", err)
		}
	}
	if err := w.judge(ctx, r); err != nil {
		return err
	}
	return w.audit(ctx, r)
}

// keepLogs copies what the processes said, before the lab is removed.
func keepLogs(from, to string) {
	logs, _ := filepath.Glob(filepath.Join(from, "*", "*.log"))
	_ = os.MkdirAll(to, 0o700)
	for _, path := range logs {
		if text, err := os.ReadFile(path); err == nil {
			name := filepath.Base(filepath.Dir(path)) + "-" + filepath.Base(path)
			_ = os.WriteFile(filepath.Join(to, name), text, 0o600) // the folder that -keep names
		}
	}
}

// leftovers says what of the lab is still there after it was closed.
func leftovers(dir string) (left []string) {
	if _, err := os.Stat(dir); err == nil {
		left = append(left, "files were left behind: "+dir)
	}
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range links {
		if cwd, err := os.Readlink(link); err == nil && strings.HasPrefix(cwd, dir) {
			left = append(left, "a process was left running: "+filepath.Base(filepath.Dir(link)))
		}
	}
	return left
}
