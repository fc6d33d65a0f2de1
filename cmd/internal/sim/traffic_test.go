package sim

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"

	"fanout/topic"
)

var accounts = []string{"acme", "globex", "initech", "umbrella"}

var sourceTopics = sources

var notifications = []string{"welcome", "promo-spring", "promo-autumn"}

func split(name string) (account, subscription string) {
	account, subscription, _ = strings.Cut(name, "/")
	return account, subscription
}

// traffic produces some records of all kinds.
func (w *world) traffic(ctx context.Context) {
	n := 1 + w.dice.IntN(w.plan.events)
	batches := make(map[topic.Partition][]kafka.Record)
	for range n {
		p := topic.Partition{Topic: sources[w.dice.IntN(len(sources))], ID: w.dice.IntN(2)}
		batches[p] = append(batches[p], w.event(p.Topic))
	}
	for _, name := range sources {
		for id := range 2 {
			p := topic.Partition{Topic: name, ID: id}
			if len(batches[p]) > 0 {
				w.produce(ctx, p, batches[p])
			}
		}
	}
	w.note("%d records", n)
}

// produce writes records, however long it takes. After an error they may be there twice.
func (w *world) produce(ctx context.Context, p topic.Partition, records []kafka.Record) {
	for ctx.Err() == nil {
		for i := range records { // a value can be read once
			value, err := kafka.ReadAll(records[i].Value)
			if err != nil {
				w.t.Fatal(err)
			}
			records[i].Value = kafka.NewBytes(value)
		}
		again := make([]kafka.Record, len(records))
		for i := range records {
			value, _ := kafka.ReadAll(records[i].Value)
			records[i].Value = kafka.NewBytes(value)
			again[i] = kafka.Record{Time: time.Now(), Value: kafka.NewBytes(value)}
		}
		if _, err := w.admin.Produce(ctx, p, again); err == nil {
			return
		}
		time.Sleep(500 * time.Millisecond)
	}
}

// event is one record: mostly an event, with an id of its producer's or without.
func (w *world) event(source string) kafka.Record {
	w.sent++
	account := accounts[w.dice.IntN(len(accounts))]
	channel, kind := "EMAIL", []string{"OPEN", "CLICK", "FAILED"}[w.dice.IntN(3)]
	if source == "channel.sms" {
		channel, kind = "SMS", "FAILED"
	} else if len(w.plan.adds) > 0 && w.dice.IntN(2) == 0 {
		kind = w.plan.adds[0].Type
	}
	id := ""
	if w.dice.IntN(2) == 0 || w.named {
		id = fmt.Sprintf(`,"id":"e%d"`, w.sent)
	}
	value := fmt.Sprintf(`{"accountId":%q,"channel":%q,"type":%q,"trackingId":"t%d","notificationId":%q,"userId":"u"%s}`, account, channel, kind, w.sent, notifications[w.dice.IntN(len(notifications))], id)
	switch w.dice.IntN(20) {
	case 0:
		value = `{"accountId":"` + account + `"` // no JSON
	case 1:
		value = strings.Replace(value, "trackingId", "tracking", 1)
	case 2:
		value = strings.Replace(value, kind, "DELIVERED", 1) // ignored
	case 3:
		value = strings.Replace(value, account, "nobody", 1) // unmatched
	}
	return kafka.Record{Value: kafka.NewBytes([]byte(value))}
}

// flood has an account send far more than the others: in which these must not have to wait.
func (w *world) flood() {
	if w.flooded == "" {
		w.flooded = accounts[w.dice.IntN(len(accounts))]
	}
	batches := make(map[topic.Partition][]kafka.Record)
	for range 20 * w.plan.events {
		w.sent++
		value := fmt.Sprintf(`{"accountId":%q,"channel":"EMAIL","type":"OPEN","trackingId":"t%d","notificationId":"welcome","userId":"u"}`, w.flooded, w.sent)
		p := topic.Partition{Topic: sources[0], ID: w.dice.IntN(2)}
		batches[p] = append(batches[p], kafka.Record{Value: kafka.NewBytes([]byte(value))})
	}
	for id := range 2 {
		p := topic.Partition{Topic: sources[0], ID: id}
		w.produce(w.t.Context(), p, batches[p])
	}
	w.note("%d records of %s", 20*w.plan.events, w.flooded)
	w.traffic(w.t.Context())
}
