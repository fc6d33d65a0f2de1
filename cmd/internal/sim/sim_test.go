package sim

import (
	"context"
	"flag"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"fanout/event"
)

var (
	seeds  = flag.Int("seeds", 0, "how many seeds TestSeeds runs")
	sizes  = flag.String("plan", "long", "long: with the real retry schedule; short: with one of minutes")
	first  = flag.Uint64("first", 1, "the first of them")
	traced = flag.Bool("trace", false, "say what was done, for a seed that went well too")
)

// TestShort runs a few seeds with a schedule of minutes: with one instance, and with several. In the last two Kafka refuses what is put off.
func TestShort(t *testing.T) {
	for _, seed := range slices.Concat([]uint64{1, 2, 3, 4, 5, 102, 108}, kept) {
		run(t, seed, short)
	}
}

// TestCalm runs seeds in which nothing goes wrong while webhooks are made and backfilled, secrets rotated, and one account has far more to
// send than the others: each event comes, and comes once, and those of the other accounts come at once.
func TestCalm(t *testing.T) {
	p := short
	p.happens, p.before, p.prompt = calm, 20*time.Second, 5*time.Second
	for seed := range uint64(4) {
		run(t, seed+1, p)
	}
}

// TestNewName runs seeds in which instances get a new event name one after the other, while its events come.
func TestNewName(t *testing.T) {
	p := short
	p.happens, p.least, p.steps = rolling, p.instances, 12
	p.adds = []event.Row{{Name: "EMAIL_DELIVERED", Channel: "EMAIL", Type: "DELIVERED"}}
	for seed := range uint64(8) {
		run(t, seed+1, p)
	}
}

// TestOff runs seeds with the real schedule, in which nobody works for more than a week after receivers have failed: Kafka has forgotten the
// group's offsets when somebody does.
func TestOff(t *testing.T) {
	p := long
	p.happens, p.steps, p.pause, p.events = failing, 4, 6*time.Second, 25
	p.moods, p.stands = []mood{down, held}, []time.Duration{retention + 2*time.Hour}
	p.lastly = func(w *world) {
		time.Sleep(time.Minute) // all is read, and put off
		w.stopped(w.stand)
	}
	for seed := range uint64(4) {
		run(t, seed+1, p)
	}
}

// kept are seeds that have found something, with what that was.
var kept = []uint64{
	475, // a partition's reader waited for ever for an answer that was lost on an open connection: who leads it
}

// TestSeeds runs what `make sim` asks for.
func TestSeeds(t *testing.T) {
	p := long
	if *sizes == "short" {
		p = short
	}
	for n := range *seeds {
		run(t, *first+uint64(n), p)
	}
}

// run simulates one seed.
func run(t *testing.T, seed uint64, p plan) {
	t.Helper()
	began := time.Now()
	var virtual time.Duration
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, seed, p)
		defer w.close()
		simulate(t, w)
		virtual = time.Since(w.begun)
		if *traced {
			for _, line := range w.trace {
				t.Log(line)
			}
		}
		t.Logf("seed %d: %d records, %d deliveries, %d dead letters, %d faults", seed, w.judge.records, len(w.judge.wanted), len(w.judge.dead), w.faults)
	})
	t.Logf("seed %d: %v in %v", seed, virtual.Round(time.Second), time.Since(began).Round(10*time.Millisecond))
}

// simulate lets things happen, one after the other, and looks at everything after each; then it lets all come to its end. For some seeds
// the dead are then replayed, and it does so once more.
func simulate(t *testing.T, w *world) {
	t.Helper()
	ctx := t.Context()
	for range max(w.plan.least, 1+w.dice.IntN(w.plan.instances)) {
		w.start()
	}
	time.Sleep(w.plan.before)
	if len(w.plan.adds) > 0 {
		w.roll()
	}
	for range w.plan.steps {
		w.traffic(ctx)
		f := w.plan.happens[w.dice.IntN(len(w.plan.happens))]
		w.note("%s", f.name)
		f.do(w)
		time.Sleep(w.plan.pause/2 + time.Duration(w.dice.Int64N(int64(w.plan.pause))))
		w.supervise()
		if w.judge.check(ctx); t.Failed() {
			return
		}
	}
	if w.plan.lastly != nil {
		w.note("lastly")
		w.plan.lastly(w)
	}
	if len(w.plan.adds) > 0 && !w.rollAll() {
		return
	}
	if !w.rest(ctx) || !w.backfillAll() || !w.rest(ctx) {
		return
	}
	if w.judge.end(ctx); !t.Failed() && w.plan.lastly == nil && w.faults > 0 && w.dice.IntN(2) == 0 {
		if w.replay(); !w.rest(ctx) {
			return
		}
		w.judge.end(ctx)
	}
	for len(w.instances) > 0 {
		w.halt(w.instances[0])
	}
}

// rest waits until nothing is left to be done. What is attempted just before it is too old waits for its next step all the same.
func (w *world) rest(ctx context.Context) bool {
	return w.eventually(w.plan.maxAge+slices.Max(w.plan.schedule)+w.plan.parkMax+5*time.Minute, "rest", func() error {
		w.supervise() //nolint:contextcheck // an instance outlives the wait
		return w.judge.rest(ctx)
	})
}
