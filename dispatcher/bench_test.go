package dispatcher_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fanout/dispatcher"
	"fanout/dispatcher/post"
	"fanout/egress"
	"fanout/event"
	"fanout/subscriptions"
)

type counter struct{ n atomic.Int64 }

func (c *counter) Settle(*dispatcher.Delivery, dispatcher.Outcome) { c.n.Add(1) }

// plain is a running Dispatcher whose receivers answer at once.
func plain(tb testing.TB, cfg dispatcher.Config) (*dispatcher.Dispatcher, *directory) {
	tb.Helper()
	dir := &directory{subs: make(map[[2]string]*subscriptions.Subscription)}
	noop := func(_ *egress.Target, _, _ []byte, _ time.Time, resp *post.Response) error {
		resp.Status = 204
		return nil
	}
	d, err := dispatcher.New(cfg, dir, nil, nil, dispatcher.WithExchange(dispatcher.ExchangeFunc(noop)))
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	var running sync.WaitGroup
	running.Go(func() { _ = d.Run(ctx) })
	tb.Cleanup(func() { cancel(); running.Wait() })
	return d, dir
}

func parse(tb testing.TB, id string) *subscriptions.Subscription {
	tb.Helper()
	sub, err := subscriptions.Parse("a", id, []byte(`{"url":"https://x.example.com/","events":["*"]}`))
	if err != nil {
		tb.Fatal(err)
	}
	return sub
}

// BenchmarkDeliver is Submit to Settle with a receiver that costs nothing: signing included, HTTP not.
func BenchmarkDeliver(b *testing.B) {
	for _, lanes := range []int{1, 100} {
		b.Run(fmt.Sprintf("lanes=%d", lanes), func(b *testing.B) {
			d, dir := plain(b, config())
			subs := make([]*subscriptions.Subscription, lanes)
			for i := range subs {
				id := fmt.Sprintf("s%d", i)
				subs[i] = parse(b, id)
				dir.subs[[2]string{"a", id}] = subs[i]
			}
			var settled counter
			all := make([]dispatcher.Delivery, 1<<12)
			body := []byte(`{"eventType":"OPEN","trackingId":"abc123","notificationId":"welcome-email","channel":"EMAIL","userId":"user-123"}`)
			now := time.Now()
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if n%len(all) == 0 {
					for settled.n.Load() < int64(n) {
						runtime.Gosched()
					}
				}
				if err := d.WaitForCapacity(b.Context()); err != nil {
					b.Fatal(err)
				}
				del := &all[n%len(all)]
				*del = dispatcher.Delivery{
					ID: "msg_abcdefghijklmnopqrstuvwxyz", Account: "a", Subscription: subs[n%lanes].ID(), Event: event.EmailOpen,
					Body: body, FirstSeen: now, Settler: &settled,
				}
				dispatcher.PlannedWith(del, subs[n%lanes])
				d.Submit(del)
				n++
			}
			for settled.n.Load() < int64(n) {
				runtime.Gosched()
			}
		})
	}
}

// BenchmarkFirstDelivery is the same for a subscription that has had no traffic for a while: a lane is made for it.
func BenchmarkFirstDelivery(b *testing.B) {
	const lanes = 20_000
	body := []byte(`{"eventType":"OPEN","trackingId":"abc123","notificationId":"welcome-email","channel":"EMAIL","userId":"user-123"}`)
	now := time.Now()
	subs := make([]*subscriptions.Subscription, lanes)
	byKey := make(map[[2]string]*subscriptions.Subscription, lanes)
	for i := range subs {
		id := fmt.Sprintf("s%d", i)
		sub, err := subscriptions.Parse("a", id, []byte(`{"url":"https://hooks.example.com/`+id+`","events":["EMAIL_OPEN"],"secrets":["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]}`))
		if err != nil {
			b.Fatal(err)
		}
		subs[i] = sub
		byKey[[2]string{"a", id}] = sub
	}
	all := make([]dispatcher.Delivery, lanes)
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += lanes {
		b.StopTimer()
		d, dir := plain(b, config())
		dir.subs = byKey
		var settled counter
		b.StartTimer()
		count := min(lanes, b.N-n)
		for i := range count {
			if err := d.WaitForCapacity(b.Context()); err != nil {
				b.Fatal(err)
			}
			del := &all[i]
			*del = dispatcher.Delivery{
				ID: "msg_abcdefghijklmnopqrstuvwxyz", Account: "a", Subscription: subs[i].ID(), Event: event.EmailOpen,
				Body: body, FirstSeen: now, Settler: &settled,
			}
			dispatcher.PlannedWith(del, subs[i])
			d.Submit(del)
		}
		for settled.n.Load() < int64(count) {
			runtime.Gosched()
		}
	}
}
