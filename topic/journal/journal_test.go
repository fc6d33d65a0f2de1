package journal_test

import (
	"context"
	"errors"
	"io"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/segmentio/kafka-go"

	"fanout/dispatcher"
	"fanout/topic"
	"fanout/topic/journal"
)

// log is a topic of two partitions, of which some cannot be written.
type log struct {
	mu      sync.Mutex // guards all below
	failing map[int]bool
	events  []topic.EndpointEvent
	keys    []string
	calls   int
}

func (l *log) PartitionCount(context.Context, string) (int, error) { return 2, nil }

func (l *log) Produce(_ context.Context, p topic.Partition, records []kafka.Record) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	if l.failing[p.ID] {
		return 0, errors.New("no leader")
	}
	for _, r := range records {
		key, _ := io.ReadAll(r.Key)
		value, _ := io.ReadAll(r.Value)
		e, ok := topic.ParseEndpointEvent(value)
		if !ok {
			return 0, errors.New("not an event: " + string(value))
		}
		l.events, l.keys = append(l.events, e), append(l.keys, string(key))
	}
	return 0, nil
}

func (l *log) fail(ids ...int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failing = make(map[int]bool)
	for _, id := range ids {
		l.failing[id] = true
	}
}

func (l *log) details() (list []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		list = append(list, e.Detail)
	}
	return list
}

// run runs a journal in a bubble until stop is called.
func run(l *log) (j *journal.Journal, reg *prometheus.Registry, stop func()) {
	reg = prometheus.NewRegistry()
	j = journal.New(l, "fanout.events", nil, reg)
	ctx, cancel := context.WithCancel(context.Background()) //nolint:forbidigo // it ends with stop
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = j.Run(ctx)
	}()
	return j, reg, func() {
		cancel()
		<-done
	}
}

func told(n int) topic.EndpointEvent {
	return topic.EndpointEvent{Kind: topic.KindUpdated, Account: "acme", Subscription: "crm", Detail: strconv.Itoa(n)}
}

// What is told is written with the key of its endpoint, the time and whoever did it; also what waits when it stops.
func TestJournalWrites(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := new(log)
		j, _, stop := run(l)
		now := time.Now().UnixMilli()
		j.Tell(told(1))
		synctest.Wait()
		j.Tell(topic.EndpointEvent{Kind: topic.KindAccepted, Actor: "operator"})
		stop()
		want := []topic.EndpointEvent{
			{Time: now, Kind: "updated", Account: "acme", Subscription: "crm", Detail: "1", Actor: "fanout"},
			{Time: now, Kind: "accepted", Actor: "operator"},
		}
		if diff := cmp.Diff(want, l.events); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"acme/crm", ""}, l.keys); diff != "" {
			t.Error(diff)
		}
	})
}

// A partition that cannot be written is gone round; where none can, each event is given up after ten seconds and counted,
// and nobody waits for it.
func TestJournalGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := new(log)
		j, reg, stop := run(l)
		defer stop()
		for id := range 2 {
			l.fail(id)
			j.Tell(told(id))
			synctest.Wait()
		}
		if diff := cmp.Diff([]string{"0", "1"}, l.details()); diff != "" {
			t.Fatal(diff)
		}
		l.fail(0, 1)
		j.Tell(told(2))
		time.Sleep(5 * time.Second)
		j.Tell(told(3))
		time.Sleep(6 * time.Second)
		l.fail()
		time.Sleep(time.Second)
		if diff := cmp.Diff([]string{"0", "1", "3"}, l.details()); diff != "" {
			t.Error(diff)
		}
		if n, err := testutil.GatherAndCount(reg); err != nil || n != 1 {
			t.Error(n, err)
		}
		families, err := reg.Gather()
		if err != nil || families[0].GetMetric()[0].GetCounter().GetValue() != 1 {
			t.Errorf("%v, %v", families, err)
		}
	})
}

// What waits is bounded while the topic cannot be written.
func TestJournalIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := new(log)
		l.fail(0, 1)
		j, reg, stop := run(l)
		defer stop()
		for n := range 12_000 {
			j.Tell(told(n))
		}
		families, err := reg.Gather()
		if err != nil || families[0].GetMetric()[0].GetCounter().GetValue() < 1000 {
			t.Errorf("%v, %v", families, err)
		}
	})
}

// The first death in an hour is told, with how many there were since the last one that was told.
func TestDeaths(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got []topic.EndpointEvent
		d := journal.NewDeaths(func(e topic.EndpointEvent) { got = append(got, e) }, "one")
		begun := time.Now().UTC().Format(time.RFC3339)
		for range 5 {
			d.Died("acme", "crm", "attempts_exhausted")
		}
		d.Died("acme", "other", "gone")
		time.Sleep(time.Hour)
		d.Died("acme", "crm", "expired")
		d.Died("acme", "crm", "expired")
		want := []topic.EndpointEvent{
			{Kind: "dead", Account: "acme", Subscription: "crm", Instance: "one", Detail: "attempts_exhausted: 1 delivery is dead"},
			{Kind: "dead", Account: "acme", Subscription: "other", Instance: "one", Detail: "gone: 1 delivery is dead"},
			{Kind: "dead", Account: "acme", Subscription: "crm", Instance: "one", Detail: "expired: 5 deliveries are dead since " + begun},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

// That a lane opened is told where it was told that it had shut, and not where it only has room again.
func TestLanes(t *testing.T) {
	t.Parallel()
	var got []string
	lanes := journal.NewLanes(func(e topic.EndpointEvent) { got = append(got, e.Kind+" "+e.Subscription+": "+e.Detail) }, "one")
	for _, e := range []dispatcher.LaneEvent{
		{Subscription: "a", Kind: dispatcher.LaneOpened, Why: "it has room again"},
		{Subscription: "a", Kind: dispatcher.LaneParked, Why: "10 failures"},
		{Subscription: "a", Kind: dispatcher.LaneProbeDue},
		{Subscription: "a", Kind: dispatcher.LaneUnparked, Why: "a 2xx"},
		{Subscription: "a", Kind: dispatcher.LaneOpened, Why: "it has room again"},
		{Subscription: "a", Kind: dispatcher.LaneUnparked, Why: "of an outage that nobody was told of"},
		{Subscription: "b", Kind: dispatcher.LaneStopped, Why: "410 Gone"},
	} {
		lanes.Observe(e)
	}
	lanes.Forget("", "b")
	lanes.Observe(dispatcher.LaneEvent{Subscription: "b", Kind: dispatcher.LaneUnparked})
	if diff := cmp.Diff([]string{"parked a: 10 failures", "opened a: a 2xx", "gone b: 410 Gone"}, got); diff != "" {
		t.Error(diff)
	}
}
