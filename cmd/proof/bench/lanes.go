package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"fanout/cmd/internal/lab"
)

// singleReceiver is a Kafka, a Redis and a receiver for a single subscription, account-000000/main.
type singleReceiver struct {
	*world
	receiver *lab.Receiver
	seconds  *perSecond
}

// perSecond counts requests by second from a beginning.
type perSecond struct {
	mu    sync.Mutex // guards the counts
	began time.Time
	count map[int]int
	times []time.Time
}

func (p *perSecond) note(at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count[int(at.Sub(p.began)/time.Second)]++
	p.times = append(p.times, at)
}

// list is the counts of the seconds from, to and those between.
func (p *perSecond) list(from, to int) []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]int, 0, to-from+1)
	for s := from; s <= to; s++ {
		out = append(out, p.count[s])
	}
	return out
}

func (w *world) singleReceiver() (*singleReceiver, error) {
	r, err := w.lab.Receiver(lab.KeepIDs)
	if err != nil {
		return nil, err
	}
	o := &singleReceiver{world: w, receiver: r}
	r.Watch(func(q lab.Request, _ bool) {
		if strings.HasPrefix(q.Path, "/hooks/0") {
			o.seconds.note(q.At)
		}
	})
	return o, nil
}

func (o *singleReceiver) restart() {
	o.seconds = &perSecond{began: time.Now(), count: make(map[int]int)}
}

// feed produces events for the first subscription at a steady rate, to one partition or to all in turn.
func (o *singleReceiver) feed(ctx context.Context, topic string, rate int, span time.Duration, partitions, from int) error {
	client := o.kafka.Client()
	const every = 20 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	sent := 0
	for n := range int(span / every) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		due := rate * (n + 1) * int(every) / int(time.Second)
		if due == sent {
			continue
		}
		records := make([]kafka.Record, 0, due-sent)
		for ; sent < due; sent++ {
			m := rawEvent(0, 1, trackPrefix+strconv.Itoa(from+sent))
			records = append(records, kafka.Record{Key: kafka.NewBytes(m.Key), Value: kafka.NewBytes(m.Value)})
		}
		answer, err := client.Produce(ctx, &kafka.ProduceRequest{
			Topic: topic, Partition: n % partitions, RequiredAcks: kafka.RequireOne, Records: kafka.NewRecordReader(records...),
		})
		if err == nil {
			err = answer.Error
		}
		if err != nil {
			return fmt.Errorf("produce: %w", err)
		}
	}
	return nil
}

func (o *singleReceiver) put(ctx context.Context, extra string) error {
	return o.redis.PutSubscription(ctx, account(0), "main", fmt.Sprintf(`{"url":"%s","events":["*"],"secrets":["%s"]%s}`, o.receiver.URL("/hooks/0"), secret(), extra))
}

// outage is the part of that name.
func outage(ctx context.Context, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("outage", flag.ContinueOnError)
	rate := fs.Int("rate", 300, "events a second for the subscription")
	span := fs.Duration("for", 60*time.Second, "how long the receiver fails")
	status := fs.Int("status", 500, "what it answers meanwhile")
	patience := fs.Duration("patience", 8*time.Minute, "how long to wait for the backlog")
	w, end, err := begin(ctx, fs, args, nil)
	if err != nil {
		return err
	}
	defer end()
	o, err := w.singleReceiver()
	if err != nil {
		return err
	}
	const topic = "bench.outage"
	if err := errors.Join(o.put(ctx, ""), o.kafka.CreateTopics(ctx, lab.Topic{Name: topic, Partitions: 6})); err != nil {
		return err
	}
	f, err := o.startReady(ctx, topic)
	if err != nil {
		return err
	}
	o.restart()
	o.receiver.On("/hooks/0", lab.Always(lab.Answer{Status: *status}))
	if err := o.feed(ctx, topic, *rate, *span, 6, 0); err != nil {
		return err
	}
	during := o.receiver.Seen("/hooks/0")
	o.receiver.On("/hooks/0", lab.Always(lab.Answer{}))
	back := time.Now()
	total := int64(*rate) * int64(*span/time.Second)
	fmt.Fprintf(out, "%d events a second for %s, all answered %d: %d requests for %d events\n", *rate, *span, *status, during, total)
	waiting, cancelWaiting := context.WithTimeout(ctx, *patience)
	defer cancelWaiting()
	firstErr := lab.Await(waiting, "the first of the backlog", func() bool { return o.receiver.Delivered("/hooks/0") > 0 })
	if firstErr != nil {
		return errors.Join(firstErr, tail(f))
	}
	opened := time.Now()
	fmt.Fprintf(out, "the first came %s after it was back\n", opened.Sub(back).Round(100*time.Millisecond))
	err = lab.Await(waiting, "the backlog", func() bool { return o.receiver.Delivered("/hooks/0") >= total })
	took := time.Since(back)
	fmt.Fprintf(out, "%d of %d delivered %s after it was back, %s after the first\n", o.receiver.Delivered("/hooks/0"), total, took.Round(100*time.Millisecond), time.Since(opened).Round(100*time.Millisecond))
	from := int(back.Sub(o.seconds.began) / time.Second)
	list := o.seconds.list(from, from+int(took/time.Second))
	fmt.Fprintf(out, "requests in each second from then on: %s\n", shorten(list))
	m, metricsErr := f.Metrics(ctx)
	if metricsErr == nil {
		fmt.Fprintf(out, "dead %.0f, lost account off by %v\n", m.Sum("fanout_outcomes_total", `outcome="dead"`), m.Unaccounted())
	}
	return err
}

// shorten leaves out runs of zeros.
func shorten(list []int) string {
	var parts []string
	for i := 0; i < len(list); {
		j := i
		for j < len(list) && list[j] == 0 {
			j++
		}
		if j-i > 3 {
			parts = append(parts, fmt.Sprintf("(%d s nothing)", j-i))
			i = j
			continue
		}
		parts = append(parts, strconv.Itoa(list[i]))
		i++
	}
	return strings.Join(parts, " ")
}

// limits is the part named rate: maxPerSecond and Retry-After.
func limits(ctx context.Context, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("rate", flag.ContinueOnError)
	span := fs.Duration("for", 30*time.Second, "how long each run is")
	w, end, err := begin(ctx, fs, args, nil)
	if err != nil {
		return err
	}
	defer end()
	o, err := w.singleReceiver()
	if err != nil {
		return err
	}
	if err := o.put(ctx, `,"maxPerSecond":50`); err != nil {
		return err
	}
	for run, c := range []struct{ instances, partitions int }{{1, 6}, {3, 6}, {3, 1}} {
		if err := o.limited(ctx, out, "bench.rate."+strconv.Itoa(run), c.instances, c.partitions, *span); err != nil {
			return err
		}
	}
	return o.retryAfter(ctx, out)
}

func (o *singleReceiver) limited(ctx context.Context, out io.Writer, topic string, instances, partitions int, span time.Duration) error {
	if err := o.kafka.CreateTopics(ctx, lab.Topic{Name: topic, Partitions: 6}); err != nil {
		return err
	}
	fleet := make([]*lab.Fanout, 0, instances)
	for range instances {
		f, err := o.start(topic)
		if err != nil {
			return err
		}
		fleet = append(fleet, f)
	}
	for _, f := range fleet {
		starting, cancel := context.WithTimeout(ctx, 60*time.Second)
		err := f.Ready(starting)
		cancel()
		if err != nil {
			return errors.Join(err, tail(f))
		}
	}
	o.restart()
	if err := o.feed(ctx, topic, 150, span, partitions, 0); err != nil {
		return err
	}
	seconds := o.seconds.list(5, int(span/time.Second)-1)
	sum := 0
	for _, n := range seconds {
		sum += n
	}
	dead := 0.0
	for _, f := range fleet {
		if m, err := f.Metrics(ctx); err == nil {
			dead += m.Sum("fanout_outcomes_total", `outcome="dead"`)
		}
		if err := f.Kill(); err != nil {
			return err
		}
	}
	slices.Sort(seconds)
	fmt.Fprintf(out, "maxPerSecond 50, 150 events a second on %d of 6 partitions, %d instances: %.1f requests a second (least %d, most %d in one second), dead %.0f (target 45 to 55, 0)\n",
		partitions, instances, float64(sum)/float64(len(seconds)), seconds[0], seconds[len(seconds)-1], dead)
	return nil
}

// retryAfter sees that a 429 with Retry-After holds the whole lane, and nobody else's.
func (o *singleReceiver) retryAfter(ctx context.Context, out io.Writer) error {
	const topic = "bench.retryafter"
	if err := errors.Join(o.put(ctx, ""), o.kafka.CreateTopics(ctx, lab.Topic{Name: topic, Partitions: 6})); err != nil {
		return err
	}
	if err := o.redis.PutSubscription(ctx, account(0), "other", fmt.Sprintf(`{"url":"%s","events":["*"]}`, o.receiver.URL("/other"))); err != nil {
		return err
	}
	f, err := o.startReady(ctx, topic)
	if err != nil {
		return err
	}
	o.restart()
	var first sync.Once
	asked := time.Time{}
	o.receiver.On("/hooks/0", func(int64, *lab.Request) lab.Answer {
		a := lab.Answer{}
		first.Do(func() {
			a, asked = lab.Answer{Status: 429, RetryAfter: "20"}, time.Now()
		})
		return a
	})
	before := o.receiver.Seen("/other")
	if err := o.feed(ctx, topic, 50, 18*time.Second, 6, 0); err != nil {
		return err
	}
	others := o.receiver.Seen("/other") - before
	select {
	case <-time.After(12 * time.Second):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	o.seconds.mu.Lock()
	defer o.seconds.mu.Unlock()
	slices.SortFunc(o.seconds.times, func(a, b time.Time) int { return a.Compare(b) })
	early, next := 0, time.Duration(0)
	for _, at := range o.seconds.times {
		switch wait := at.Sub(asked); {
		case wait < 100*time.Millisecond: // what was on its way
		case wait < 20*time.Second:
			early++
		case next == 0:
			next = wait
		}
	}
	fmt.Fprintf(out, "Retry-After 20 on a 429: %d requests in the 20 s after it, the next one after %.1f s; the other subscription got %d of 900 meanwhile\n",
		early, next.Seconds(), others)
	return f.Kill()
}

// idle is the part of that name.
func idle(ctx context.Context, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("idle", flag.ContinueOnError)
	ld := load{partitions: 6}
	fs.IntVar(&ld.subscriptions, "subscriptions", 1_000_000, "subscriptions, each of which gets one delivery")
	w, end, err := begin(ctx, fs, args, nil)
	if err != nil {
		return err
	}
	defer end()
	ld.events = ld.subscriptions
	nginx, err := w.lab.Nginx(ctx)
	if err != nil {
		return err
	}
	if err := w.subscribe(ctx, ld.subscriptions, nginx.URL()); err != nil {
		return err
	}
	const topic = "bench.idle"
	if err := w.kafka.CreateTopics(ctx, lab.Topic{Name: topic, Partitions: ld.partitions}); err != nil {
		return err
	}
	began := time.Now()
	f, err := w.startReady(ctx, topic)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s; ready with %d subscriptions after %.1f s\n", machine(), ld.subscriptions, time.Since(began).Seconds())
	show := func(when string) error {
		m, err := f.Metrics(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%-28s resident %4.0f MiB, heap in use %4.0f MiB, %5.0f goroutines, %7.0f lanes\n", when,
			m.Sum("process_resident_memory_bytes")/(1<<20), m.Sum("go_memstats_heap_inuse_bytes")/(1<<20), m.Sum("go_goroutines"), m.Sum("fanout_lanes"))
		return nil
	}
	if err := show("before"); err != nil {
		return err
	}
	if err := w.produceTo(ctx, topic, ld); err != nil {
		return err
	}
	working, cancelWorking := context.WithTimeout(ctx, 5*time.Minute)
	defer cancelWorking()
	if err := lab.Await(working, "all deliveries", func() bool {
		m, err := f.Metrics(ctx)
		return err == nil && m.Sum("fanout_outcomes_total", `outcome="delivered"`) >= float64(ld.events)
	}); err != nil {
		return err
	}
	if err := show("just after"); err != nil {
		return err
	}
	for _, wait := range []time.Duration{20 * time.Second, 40 * time.Second, 130 * time.Second} {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := show(fmt.Sprintf("%s later", wait)); err != nil {
			return err
		}
	}
	usage, err := f.Usage()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "peak %d MiB\n", usage.Peak>>20)
	return nil
}
