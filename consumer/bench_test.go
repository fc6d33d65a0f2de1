package consumer_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"fanout/consumer"
	"fanout/dispatcher"
	"fanout/event"
	"fanout/subscriptions"
	"fanout/topic"
)

// refuser has one subscription that is planned for and then discarded: all of the way but the POST.
type refuser struct{ sub *subscriptions.Subscription }

func (d refuser) Match(dst []*subscriptions.Subscription, _ string, _ event.Name, _ string) []*subscriptions.Subscription {
	return append(dst, d.sub)
}

func (d refuser) Lookup(string, string) *subscriptions.Subscription { return d.sub }

func (d refuser) Version() uint64 { return 1 }

// BenchmarkHandle is the path of one event from the fetched message through decoding, planning and submitting to the
// settled record, with a commit computed every thousand.
func BenchmarkHandle(b *testing.B) {
	sub, bad := subscriptions.Parse("acme", "a", []byte(`{"url":"https://example.com","events":["*"],"enabled":false}`))
	if bad != nil {
		b.Fatal(bad)
	}
	d, err := dispatcher.New(dispatcher.Config{Delivery: dispatcher.DeliveryConfig{MaxInFlight: 10, MaxAge: time.Hour}}, refuser{sub}, nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	c, err := consumer.New(consumer.Config{Config: topic.Config{
		Kafka: topic.KafkaConfig{Brokers: []string{"127.0.0.1:1"}}, Prefix: "fanout", Schedule: []time.Duration{time.Second},
		ParkMin: time.Second, ParkMax: time.Second, MaxAge: time.Hour, MaxEventBytes: 1 << 18,
	}}, d, nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	value := []byte(`{"accountId":"acme","channel":"EMAIL","type":"OPEN","trackingId":"abc123","notificationId":"welcome-email","userId":"user-123"}`)
	for _, parallel := range []bool{false, true} {
		b.Run(fmt.Sprintf("parallel=%v", parallel), func(b *testing.B) {
			b.ReportAllocs()
			var partitions atomic.Int32
			run := func(more func() bool) {
				s := consumer.NewSource(c, "channel.email", int(partitions.Add(1)))
				var n int64
				for more() {
					s.Handle(value)
					n++
				}
				if got := s.Committable(); got != n {
					b.Errorf("%d of %d records are settled", got, n)
				}
			}
			if !parallel {
				run(b.Loop)
				return
			}
			b.RunParallel(func(pb *testing.PB) { run(pb.Next) })
		})
	}
}
