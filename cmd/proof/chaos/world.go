package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"fanout/cmd/internal/lab"
)

// world is all that a scenario plays with.
type world struct {
	lab      *lab.Lab
	set      *settings
	s        *scenario
	seed     uint64
	rng      *rand.Rand
	program  string
	out      io.Writer
	began    time.Time
	problems problems

	kafka    *lab.Kafka
	redis    *lab.Redis
	receiver *lab.Receiver
	faults   receiverFaults
	receipts *receipts
	witness  *witness

	fans []*lab.Fanout

	traffic   *traffic
	drawn     int
	loads     uint64
	named     bool                       // events have ids: their records' offsets may come again
	spared    string                     // a source topic that the next load leaves out
	stamp     func(*rand.Rand) time.Time // the records' times; nil: now
	unwritten atomic.Int64

	closers  []func()
	watching context.CancelFunc
	watcher  sync.WaitGroup

	crashes []span
	revokes []span
	denied  []span // when what failed could not be written
	kills   int
	marks   []time.Time
	excused map[string]bool // deliveries that somebody else has destroyed, such as whoever deleted a topic
	notes   []string
}

type span struct{ from, to time.Time }

// newWorld starts everything but fanout. The world is nil where nothing was started.
func newWorld(ctx context.Context, l *lab.Lab, set *settings, s *scenario, seed uint64, program string, out io.Writer) (*world, error) {
	w := &world{
		lab: l, set: set, s: s, seed: seed, rng: rand.New(rand.NewPCG(seed, 0)), program: program, out: out, began: time.Now(),
		excused: make(map[string]bool),
	}
	cfg := lab.KafkaConfig{
		Nodes: s.nodes,
		// Started quickly, small, and with nothing left in the folder of temporary files by a kill.
		JVM:        []string{"-Xms256m", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData"},
		Properties: map[string]string{"offsets.topic.num.partitions": "5", "transaction.state.log.num.partitions": "5"},
	}
	if s.nodes > 1 {
		cfg.Properties["min.insync.replicas"] = "2"
	}
	if s.kafka != nil {
		s.kafka(&cfg)
	}
	var err error
	if w.kafka, err = l.Kafka(ctx, cfg); err != nil {
		return nil, err
	}
	w.witness, err = newWitness(w.kafka.Brokers(), &w.problems)
	if err != nil {
		return nil, err
	}
	if w.redis, err = l.Redis(ctx); err != nil {
		return w, err
	}
	if w.receiver, err = l.Receiver(lab.KeepCount); err != nil {
		return w, err
	}
	w.receipts = newReceipts(&w.problems)
	w.receiver.Watch(w.receipts.note)
	w.faults.failing.Store(20)
	w.faults.slow.Store(2)
	for _, topic := range sources() {
		if err := w.createSource(ctx, topic); err != nil {
			return w, err
		}
	}
	w.sayf("world is up")
	return w, w.subscribe(ctx)
}

func (w *world) createSource(ctx context.Context, topic string) error {
	partitions := w.s.partitions
	if partitions == 0 {
		partitions = 4
	}
	return w.kafka.CreateTopics(ctx, lab.Topic{Name: topic, Partitions: partitions, Copies: max(w.s.nodes, 1)})
}

// subscribe stores everybody's subscriptions, as a config sync job does.
func (w *world) subscribe(ctx context.Context) error {
	for i := range accounts {
		account := accountName(i)
		wants := map[string]string{"main": `["*"]`}
		if isEven(account) {
			wants["opens"] = `["EMAIL_OPEN"]`
		}
		for id, events := range wants {
			path := "/" + account + "/" + id
			w.receiver.On(path, w.behave)
			json := fmt.Sprintf(`{"url":%q,"events":%s}`, w.receiver.URL(path), events)
			if err := w.redis.PutSubscription(ctx, account, id, json); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *world) close() {
	if w.traffic != nil {
		w.traffic.cancel()
		w.traffic.done.Wait()
		w.traffic.client.Close()
	}
	w.unwatch()
	for _, f := range w.fans {
		_ = f.Kill() // one that did not stop
	}
	for _, end := range w.closers {
		end()
	}
	w.witness.close()
}

// sayf tells what happens, with -v.
func (w *world) sayf(format string, args ...any) {
	if w.set.verbose {
		fmt.Fprintf(w.out, "  %6.1f s  %s\n", time.Since(w.began).Seconds(), fmt.Sprintf(format, args...))
	}
}

// notef adds something to the run's line.
func (w *world) notef(format string, args ...any) {
	w.notes = append(w.notes, fmt.Sprintf(format, args...))
	w.sayf(format, args...)
}

// length is the first of two, with -short the second.
func (w *world) length(long, short time.Duration) time.Duration {
	if w.set.short {
		return short
	}
	return long
}

// between draws a time of a range.
func (w *world) between(least, most time.Duration) time.Duration {
	return least + time.Duration(w.rng.Int64N(int64(most-least)+1))
}

// pause lets time pass.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
