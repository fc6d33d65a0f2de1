package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"

	"fanout/cmd/internal/lab"
	"fanout/topic/wire"
)

const deployTopic = "bench.deploy"

// rollout is a fleet while it is deployed again, under a steady load.
type rollout struct {
	*steady

	fleet []*lab.Fanout
	group *wire.Group
	steps []deployStep
}

// deployStep is one thing that is done to the fleet, and what became of the partitions.
type deployStep struct {
	name     string
	from, to time.Time
	moved    map[int]bool
}

// deploy is the part of that name: three instances, one of twenty receivers hanging; each instance is restarted in turn, one more is started
// and stopped. What the other receivers notice is counted apart for the partitions that moved in a step and those that stayed.
func deploy(ctx context.Context, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("deploy", flag.ContinueOnError)
	ld := load{subscriptions: 20, partitions: 12}
	rate := fs.Int("rate", 1500, "events a second, spread evenly")
	before := fs.Duration("before", 15*time.Second, "how long nothing is done, after a warm-up")
	span := fs.Duration("for", 60*time.Second, "how long events are produced, all in all")
	w, end, err := begin(ctx, fs, args, nil)
	if err != nil {
		return err
	}
	defer end()
	r := &rollout{steady: w.steady(deployTopic, ld, *rate, *span)}
	transport := &kafka.Transport{}
	defer transport.CloseIdleConnections()
	r.group = wire.NewClient(transport, kafka.TCP(w.kafka.Brokers()...), "bench").Group(deployTopic)
	fmt.Fprintf(out, "%s; %d events a second on %d partitions, %d subscriptions of which one hangs, 3 instances, real Kafka\n",
		machine(), r.perTick*int(time.Second/produceEvery), ld.partitions, ld.subscriptions)
	return r.run(ctx, *before, out)
}

const deployWarm = 5 * time.Second

func (r *rollout) run(ctx context.Context, before time.Duration, out io.Writer) error {
	n := r.perTick * len(r.sent)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	receiver, err := r.w.lab.Server(ctx, receiverPart, func(addr string) []string {
		return []string{self, receiverPart, "-listen", addr, "-events", strconv.Itoa(n), "-bad", "1"}
	})
	if err != nil {
		return err
	}
	if err := r.w.subscribe(ctx, r.ld.subscriptions, receiver.URL()); err != nil {
		return err
	}
	if err := r.w.kafka.CreateTopics(ctx, lab.Topic{Name: r.topic, Partitions: r.ld.partitions}); err != nil {
		return err
	}
	for range 3 {
		if _, err := r.more(ctx); err != nil {
			return err
		}
	}
	producing := make(chan error, 1)
	go func() { producing <- r.produce(ctx) }()
	began := time.Now()
	if err := lab.Await(ctx, "the end of the quiet time", func() bool { return time.Since(began) > deployWarm+before }); err != nil {
		return err
	}
	if err := errors.Join(r.rollOut(ctx), <-producing); err != nil {
		return err
	}
	end := time.Now()
	if err := lab.Await(ctx, "what is left", func() bool { return time.Since(end) > 10*time.Second }); err != nil {
		return err
	}
	body, err := receiver.Get(ctx, timesPath)
	if err != nil {
		return err
	}
	times := make([]int64, n)
	if _, err := binary.Decode(body, binary.BigEndian, times); err != nil {
		return err
	}
	again, err := receiver.Get(ctx, againPath)
	if err != nil {
		return err
	}
	r.report(out, times, began.Add(deployWarm), string(again))
	return nil
}

// more starts one more instance.
func (r *rollout) more(ctx context.Context) (*lab.Fanout, error) {
	f, err := r.w.start(r.topic)
	if err != nil {
		return nil, err
	}
	r.fleet = append(r.fleet, f)
	return f, r.ready(ctx, f)
}

func (r *rollout) ready(ctx context.Context, f *lab.Fanout) error {
	starting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := f.Ready(starting); err != nil {
		return errors.Join(err, tail(f))
	}
	return nil
}

func (r *rollout) rollOut(ctx context.Context) error {
	stop := func(f *lab.Fanout) error {
		if err := f.Stop(ctx); err != nil {
			return err
		}
		_, err := f.Wait(ctx)
		return err
	}
	for i, f := range slices.Clone(r.fleet) {
		if err := r.step(ctx, fmt.Sprintf("instance %d stops", i+1), func() error { return stop(f) }); err != nil {
			return err
		}
		if err := r.step(ctx, fmt.Sprintf("instance %d starts", i+1), func() error { return errors.Join(f.Start(), r.ready(ctx, f)) }); err != nil {
			return err
		}
	}
	var fourth *lab.Fanout
	if err := r.step(ctx, "one more starts", func() (err error) { fourth, err = r.more(ctx); return err }); err != nil {
		return err
	}
	return r.step(ctx, "one stops", func() error { return stop(fourth) })
}

// step does something, gives the group time to come to rest, and looks at what has moved.
func (r *rollout) step(ctx context.Context, name string, do func() error) error {
	before, err := r.owners(ctx)
	if err != nil {
		return err
	}
	s := deployStep{name: name, from: time.Now(), moved: make(map[int]bool)}
	if err := do(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	resting := time.Now().Add(2 * time.Second)
	var after map[int]string
	if err := lab.Await(ctx, "the group to come to rest", func() bool {
		if time.Now().Before(resting) {
			return false
		}
		after, err = r.owners(ctx)
		return err == nil && len(after) == r.ld.partitions
	}); err != nil {
		return errors.Join(err, ctx.Err())
	}
	for p := range r.ld.partitions {
		s.moved[p] = before[p] != after[p]
	}
	s.to = time.Now()
	r.steps = append(r.steps, s)
	return nil
}

// owners is the member that has each partition.
func (r *rollout) owners(ctx context.Context) (map[int]string, error) {
	d, err := r.group.Describe(ctx)
	if err != nil {
		return nil, err
	}
	owners := make(map[int]string)
	for _, m := range d.Members {
		a, err := wire.ParseAssignment(m.Assignment)
		if err != nil {
			return nil, err
		}
		for _, p := range a.Partitions {
			owners[p.ID] = m.ID
		}
	}
	return owners, nil
}

// noticed is what receivers that are well notice of some partitions in some time.
type noticed struct {
	took []time.Duration
	gap  time.Duration // the longest between two records of one partition
	n    int           // partitions, each counted once a step
}

func (n *noticed) String() string {
	return fmt.Sprintf("p50 %.1f ms, p99 %.1f ms, most %.1f ms; longest gap %.0f ms (%d × a partition)",
		millis(quantile(n.took, 0.5)), millis(quantile(n.took, 0.99)), millis(quantile(n.took, 1)), millis(n.gap), n.n)
}

// see adds what came of the partition's records that were sent in the span.
func (r *rollout) see(n *noticed, times []int64, partition int, from, to time.Time) {
	n.n++
	var came []int64
	for t := partition; t < len(r.sent); t += r.ld.partitions {
		if r.sent[t].Before(from) || !r.sent[t].Before(to) {
			continue
		}
		for i := t * r.perTick; i < (t+1)*r.perTick; i++ {
			if r.isWell(i) && times[i] != 0 {
				n.took = append(n.took, time.Duration(times[i]-r.sent[t].UnixNano()))
				came = append(came, times[i])
			}
		}
	}
	slices.Sort(came)
	for i := 1; i < len(came); i++ {
		n.gap = max(n.gap, time.Duration(came[i]-came[i-1]))
	}
}

func (r *rollout) isWell(event int) bool { return event%r.ld.subscriptions != 0 }

func (r *rollout) report(out io.Writer, times []int64, quiet time.Time, again string) {
	var before, stayed, moved noticed
	for p := range r.ld.partitions {
		r.see(&before, times, p, quiet, r.steps[0].from)
	}
	for _, s := range r.steps {
		var here noticed
		for _, p := range slices.Sorted(maps.Keys(s.moved)) {
			to := &stayed
			if s.moved[p] {
				to = &moved
				r.see(&here, times, p, s.from, s.to)
			}
			r.see(to, times, p, s.from, s.to)
		}
		fmt.Fprintf(out, "  %-18s took %4.1f s with 2 s of rest; %2d of %d partitions moved; their longest gap %.0f ms\n",
			s.name, s.to.Sub(s.from).Seconds(), here.n, r.ld.partitions, millis(here.gap))
	}
	missing := 0
	for i, at := range times {
		if at == 0 && r.isWell(i) {
			missing++
		}
	}
	fmt.Fprintf(out, "before:             %v\n", &before)
	fmt.Fprintf(out, "through it, stayed: %v (target: as before)\n", &stayed)
	fmt.Fprintf(out, "through it, moved:  %v (target: at most 1500 ms)\n", &moved)
	fmt.Fprintf(out, "missing %d, repeated %s (targets 0, 0), of %d events for receivers that are well\n", missing, again, len(times)-len(times)/r.ld.subscriptions)
}
