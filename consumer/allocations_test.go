package consumer_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"fanout/consumer"
	"fanout/dispatcher"
	"fanout/egress"
	"fanout/event"
	"fanout/subscriptions"
	"fanout/topic"
)

const (
	allocationsFile = "testdata/allocations.txt"
	allocationsText = "allocations a delivery: %f\nbytes a delivery: %f\n"
)

var updateAllocations = flag.Bool("update-allocations", false, "write "+allocationsFile+" again")

// The way of a record from the fetched message to the settled offset, with its signed POST over a connection to a
// receiver in this process that allocates nothing: what is allocated does not depend on the machine, times do.
func TestAllocations(t *testing.T) {
	w := newHotPath(t)
	const n = 20_000
	w.deliver(t, 4000) // connections, lanes and pools are made
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	w.deliver(t, n)
	runtime.ReadMemStats(&after)
	allocations, bytes := float64(after.Mallocs-before.Mallocs)/n, float64(after.TotalAlloc-before.TotalAlloc)/n
	t.Logf("%.2f allocations and %.0f bytes a delivery", allocations, bytes)
	if *updateAllocations {
		text := fmt.Sprintf("allocations a delivery: %.1f\nbytes a delivery: %.0f\n", allocations, bytes)
		if err := os.WriteFile(allocationsFile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(allocationsFile)
	if err != nil {
		t.Fatal(err)
	}
	var wantAllocations, wantBytes float64
	if _, err := fmt.Sscanf(string(text), allocationsText, &wantAllocations, &wantBytes); err != nil {
		t.Fatalf("%s: %v", allocationsFile, err)
	}
	// A collection empties pools, and goroutines that meet in another order take a little more of them.
	const slackAllocations, slackBytes = 0.5, 1.1
	if consumer.RaceDetector {
		return
	}
	if allocations > wantAllocations+slackAllocations || bytes > wantBytes*slackBytes {
		t.Errorf("%.2f allocations and %.0f bytes a delivery; %s allows %.1f and %.0f.\nIf that is worth it: go test ./consumer -run TestAllocations -update-allocations",
			allocations, bytes, allocationsFile, wantAllocations+slackAllocations, wantBytes*slackBytes)
	}
}

// BenchmarkHotPath is the same as a benchmark.
func BenchmarkHotPath(b *testing.B) {
	w := newHotPath(b)
	w.deliver(b, 4000)
	b.ReportAllocs()
	b.ResetTimer()
	w.deliver(b, b.N)
}

// hotPath is a consumer and a dispatcher that run, with one subscription and a partition that is fed by hand.
type hotPath struct {
	dispatcher *dispatcher.Dispatcher
	source     *consumer.Source
	value      []byte
	done       int64 // records so far
}

func newHotPath(tb testing.TB) *hotPath {
	tb.Helper()
	sub, bad := subscriptions.Parse("acme", "a", fmt.Appendf(nil, `{"url":"http://%s/hook","events":["*"],"secrets":["whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="]}`, quiet(tb)))
	if bad != nil {
		tb.Fatal(bad)
	}
	cfg := dispatcher.Config{
		Delivery: dispatcher.DeliveryConfig{
			MaxInFlight: 256, MaxAge: time.Hour, Timeout: 10 * time.Second, ConnectTimeout: 3 * time.Second, Schedule: []time.Duration{time.Second},
		},
		Lanes:     dispatcher.LanesConfig{MaxInFlight: 64, Queue: 1000, QueueAge: time.Minute, ParkAfter: 10, ParkMin: time.Second, ParkMax: time.Second},
		Egress:    egress.Config{AllowHTTP: true, AllowCIDRs: []string{"127.0.0.0/8"}},
		UserAgent: "fanout/1.0.0",
	}
	d, err := dispatcher.New(cfg, only{sub}, nil, nil)
	if err != nil {
		tb.Fatal(err)
	}
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	running.Go(func() { _ = d.Run(ctx) })
	tb.Cleanup(func() { cancel(); running.Wait() })
	c, err := consumer.New(consumer.Config{Config: topic.Config{
		Kafka: topic.KafkaConfig{Brokers: []string{"127.0.0.1:1"}}, Prefix: "fanout", Schedule: []time.Duration{time.Second},
		ParkMin: time.Second, ParkMax: time.Second, MaxAge: time.Hour, MaxEventBytes: 1 << 18,
	}}, d, nil, nil)
	if err != nil {
		tb.Fatal(err)
	}
	source := consumer.NewSource(c, "channel.email", 0)
	return &hotPath{
		dispatcher: d, source: source,
		value: []byte(`{"accountId":"acme","channel":"EMAIL","type":"OPEN","trackingId":"abc123","notificationId":"welcome-email","userId":"user-123"}`),
	}
}

// only is a directory of one subscription.
type only struct{ sub *subscriptions.Subscription }

func (o only) Match(dst []*subscriptions.Subscription, _ string, _ event.Name, _ string) []*subscriptions.Subscription {
	return append(dst, o.sub)
}

func (o only) Lookup(string, string) *subscriptions.Subscription { return o.sub }

func (o only) Version() uint64 { return 1 }

// deliver takes n records through, and waits until all are settled.
func (w *hotPath) deliver(tb testing.TB, n int) {
	tb.Helper()
	for range n {
		if err := w.dispatcher.WaitForCapacity(tb.Context()); err != nil {
			tb.Fatal(err)
		}
		w.source.Handle(w.value)
	}
	w.done += int64(n)
	for deadline := time.Now().Add(20 * time.Second); w.source.Committable() < w.done; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("%d of %d records are settled", w.source.Committable(), w.done)
		}
	}
}

// quiet is a receiver that answers every request with 204 and allocates nothing for it. It returns its address.
func quiet(tb testing.TB) net.Addr {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					tb.Error(err)
				}
				return
			}
			serving.Go(func() {
				defer c.Close()
				answer := []byte("HTTP/1.1 204 No Content\r\n\r\n")
				for buf := make([]byte, 4096); ; {
					if _, err := c.Read(buf); err != nil { // a request is one write
						return
					}
					if _, err := c.Write(answer); err != nil {
						return
					}
				}
			})
		}
	})
	tb.Cleanup(func() { l.Close(); serving.Wait() })
	return l.Addr()
}
