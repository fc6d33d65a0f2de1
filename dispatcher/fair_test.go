package dispatcher_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fanout/dispatcher"
	"fanout/egress"
	"fanout/event"
	"fanout/subscriptions"
)

// latencies notes how long each delivery took from Submit to its outcome.
type latencies struct {
	mu       sync.Mutex
	list     []time.Duration
	deferred int
	open     atomic.Int64
}

func (l *latencies) Settle(del *dispatcher.Delivery, out dispatcher.Outcome) {
	took := time.Since(del.FirstSeen)
	l.mu.Lock()
	if out.Result == dispatcher.Delivered {
		l.list = append(l.list, took)
	} else {
		l.deferred++
	}
	l.mu.Unlock()
	l.open.Add(-1)
}

// BenchmarkFairness sends 4 000 deliveries a second over 100 lanes, over real sockets, with some of the receivers
// hanging or slow, and reports what the others get: deliveries a second, and the time from Submit to the outcome.
// Run it with -benchtime 1x -count 3: the cases are interleaved.
func BenchmarkFairness(b *testing.B) {
	for _, c := range []struct {
		name      string
		bad       int
		badAnswer time.Duration
	}{{"none", 0, 0}, {"1-hangs", 1, time.Hour}, {"none", 0, 0}, {"10-hang", 10, time.Hour}, {"none", 0, 0}, {"1-answers-after-9s", 1, 9 * time.Second}} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				fairness(b, c.bad, c.badAnswer, 12*time.Second)
			}
		})
	}
}

func fairness(b *testing.B, bad int, badAnswer, span time.Duration) {
	b.Helper()
	const lanes, perSecond = 100, 4000
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/bad" {
			select {
			case <-time.After(badAnswer):
			case <-release:
			}
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	defer server.Close()
	defer close(release)
	cfg := config()
	cfg.Egress = egress.Config{AllowHTTP: true, AllowCIDRs: []string{"127.0.0.0/8"}}
	dir := &directory{subs: make(map[[2]string]*subscriptions.Subscription)}
	subs := make([]*subscriptions.Subscription, lanes)
	for i := range subs {
		path := "/good"
		if i < bad {
			path = "/bad"
		}
		id := fmt.Sprintf("s%d", i)
		sub, err := subscriptions.Parse("a", id, fmt.Appendf(nil, `{"url":"%s%s","events":["*"],"secrets":["%s"]}`, server.URL, path, secret))
		if err != nil {
			b.Fatal(err)
		}
		dir.subs[[2]string{"a", id}], subs[i] = sub, sub
	}
	d, err := dispatcher.New(cfg, dir, nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = d.Run(ctx) })
	good, others := &latencies{}, &latencies{}
	start := time.Now()
	sent := 0
	for time.Since(start) < span {
		due := int(time.Since(start).Seconds() * perSecond)
		for ; sent < due; sent++ {
			if err := d.WaitForCapacity(ctx); err != nil {
				b.Fatal(err)
			}
			of := good
			if sent%lanes < bad {
				of = others
			}
			of.open.Add(1)
			del := &dispatcher.Delivery{
				ID: fmt.Sprintf("msg_%026d", sent), Account: "a", Subscription: subs[sent%lanes].ID(), Event: event.EmailOpen,
				Body:      []byte(`{"eventType":"OPEN","trackingId":"abc123","notificationId":"welcome-email","channel":"EMAIL","userId":"user-123"}`),
				FirstSeen: time.Now(), Settler: of,
			}
			d.Submit(del)
		}
		time.Sleep(time.Millisecond)
	}
	took := time.Since(start)
	for good.open.Load() > 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	running.Wait()
	slices.Sort(good.list)
	b.ReportMetric(float64(len(good.list))/took.Seconds()*lanes/float64(lanes-bad), "norm/s") // as if of all lanes
	b.ReportMetric(float64(good.deferred), "put-off")
	b.ReportMetric(float64(good.list[len(good.list)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(good.list[len(good.list)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(0, "ns/op")
}
