package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"

	"fanout/cmd/internal/lab"
)

// sizes: the same events for ever more subscriptions. Those of a million are once for as many as in the first variant,
// so that only the size differs, and once for all of them, each of which then has next to no traffic.
func sizes(ld load) []variant {
	of := func(db, n, busy int) variant {
		v := variant{name: strconv.Itoa(n), load: ld, db: db}
		v.load.subscriptions, v.load.busy = n, busy
		if busy > 0 {
			v.name += fmt.Sprintf(", %d busy", busy)
		}
		return v
	}
	const million = 1_000_000
	return []variant{of(0, 1000, 0), of(1, 1, 0), of(2, 100, 0), of(3, 10_000, 0), of(4, million, 1000), of(4, million, 0)}
}

// filtered: a million subscriptions without and with notificationIds, a thousand of them busy.
func filtered(ld load) []variant {
	ld.subscriptions, ld.busy = 1_000_000, 1000
	with := variant{name: "with notificationIds", load: ld, db: 1}
	with.load.filters = 2
	return []variant{{name: "without", load: ld}, with}
}

// fanOuts make about as many deliveries of fewer and fewer events.
func fanOuts(ld load) []variant {
	all := make([]variant, 0, 3)
	for db, n := range []int{1, 10, 100} {
		v := variant{name: strconv.Itoa(n) + " an event", load: ld, db: db}
		v.load.fanOut, v.load.events = n, ld.events/n
		all = append(all, v)
	}
	return all
}

// failures: what fails goes to a retry tier that does not come up within the run.
func failures(ld load) []variant {
	later := func(c lab.Config) { c.Set("delivery.schedule", []string{"1h"}) }
	all := []variant{{name: "none failing", load: ld, adjust: later}}
	for _, percent := range []string{"1", "10", "20"} {
		all = append(all, variant{
			name: percent + " % failing", load: ld, db: len(all), path: "/failing/" + percent, failing: true, adjust: later,
		})
	}
	return all
}

// fleets have joined and share the partitions before there is anything to do.
func fleets(ld load) []variant {
	all := make([]variant, 0, 3)
	for n := range 3 {
		all = append(all, variant{name: "instances " + strconv.Itoa(n+1), load: ld, instances: n + 1, warm: true})
	}
	return all
}

// single is fanout as it is, beside the yardsticks.
func single(ld load) []variant { return []variant{{name: "fanout", load: ld}} }

// batches: a hundred subscriptions, whose deliveries are made one by one, and in batches of several sizes.
func batches(ld load) []variant {
	ld.subscriptions = min(ld.subscriptions, 100)
	all := []variant{{name: "max 1", load: ld}}
	for db, size := range []int{10, 100, 1000} {
		v := variant{name: "max " + strconv.Itoa(size), load: ld, db: db + 1, batched: true}
		v.load.batch = size
		all = append(all, v)
	}
	return all
}

func audited(ld load) []variant {
	return []variant{
		{name: "off", load: ld},
		{name: "on", load: ld, adjust: func(c lab.Config) { c.Set("attempts.topic", true) }},
	}
}

func tiers(ld load) []variant {
	return []variant{{name: "first attempts", load: ld}, {name: "retries", load: ld, tier: true}}
}

// The retry tier that is measured: how its topic's name ends, that of the group that reads it, and its delay.
const (
	tierSuffix  = ".retry.5s"
	groupSuffix = ".retry"
	tierDelay   = 5 * time.Second
)

// produceRetries fills the topic of a tier with deliveries that have failed once, and waits until all are due.
func (w *world) produceRetries(ctx context.Context, topic string, ld load) error {
	now := time.Now()
	ms := strconv.FormatInt(now.UnixMilli(), 10)
	err := w.write(ctx, topic, ld.events, func(i int) kafka.Message { return retryRecord(i, ld.accounts(), ms) })
	if err != nil {
		return err
	}
	select {
	case <-time.After(tierDelay):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// retryRecord is what fanout would write of delivery number i (docs/contract.md#retry-record).
func retryRecord(i, accounts int, ms string) kafka.Message {
	id := []byte("msg_aaaaaaaaaaaaaaaaaaaaaaaaaa")
	for at, n := len(id)-1, i; n > 0; at, n = at-1, n/26 {
		id[at] = byte('a' + n%26)
	}
	m := kafka.Message{
		Key:   []byte(account(i%accounts) + "/" + subscription(0)),
		Value: fmt.Appendf(nil, `{"eventType":"OPEN","trackingId":"tracking-%08d","notificationId":"welcome-email","channel":"EMAIL","userId":"user-%08d"}`, i, i),
	}
	for _, h := range [...][2]string{
		{"fanout-webhook-id", string(id)},
		{"fanout-account", account(i % accounts)},
		{"fanout-subscription", subscription(0)},
		{"fanout-event", "EMAIL_OPEN"},
		{"fanout-attempts", "1"},
		{"fanout-not-before", ms},
		{"fanout-first-seen", ms},
		{"fanout-origin", "channel.email/0/" + strconv.Itoa(i)},
		{"fanout-reason", "status"},
		{"fanout-detail", ""},
		{"fanout-status", "503"},
	} {
		m.Headers = append(m.Headers, kafka.Header{Key: h[0], Value: []byte(h[1])})
	}
	return m
}
