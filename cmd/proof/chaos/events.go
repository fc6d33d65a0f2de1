package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"

	"fanout/webhook"
)

// Who there is: more accounts than a full load of subscriptions must hold before it is guarded against shrinking.
const accounts = 12

const (
	topicEmail = "channel.email"
	topicSMS   = "channel.sms"
)

func sources() []string { return []string{topicEmail, topicSMS} }

func accountName(i int) string { return fmt.Sprintf("tenant-%02d", i) }

// raw is an event as a channel service would write it.
type raw struct {
	Account      string `json:"accountId"`
	Channel      string `json:"channel"`
	Type         string `json:"type"`
	Tracking     string `json:"trackingId"`
	Notification string `json:"notificationId"`
	User         string `json:"userId"`
	ID           string `json:"id,omitempty"`
}

// draw makes the n-th record: mostly events that are wanted, a few that nobody wants, and a few that are not events.
// With named, each has an id of its producer's, else about half of them.
func draw(rng *rand.Rand, n int, named bool) (topic string, value []byte) {
	e := raw{
		Account: accountName(rng.IntN(accounts)), Channel: "EMAIL", Type: "OPEN",
		Tracking: fmt.Sprintf("t-%d", n), Notification: "welcome-email", User: fmt.Sprintf("user-%d", n%1000),
	}
	if rng.IntN(2) == 0 || named {
		e.ID = fmt.Sprintf("e-%d", n)
	}
	topic = topicEmail
	switch k := rng.IntN(100); {
	case k < 45:
	case k < 65:
		e.Type = "CLICK"
	case k < 70:
		e.Type = "FAILED"
	case k < 73:
		e.Type = "DELIVERED" // ignored
	case k < 75:
		e.Account = "nobody" // unmatched
	case k < 76:
		return topic, fmt.Appendf(nil, `{"accountId":"tenant-00","trackingId":"t-%d",`, n)
	default:
		topic, e.Channel, e.Type = topicSMS, "SMS", "FAILED"
	}
	value, err := json.Marshal(e)
	if err != nil {
		panic(err) // strings only
	}
	return topic, value
}

// wanted says which deliveries a record leads to, by webhook-id; a malformed record leads to a dead letter, by its
// origin. The rules are written down a second time here, so that a mistake in fanout's own matching is seen.
func wanted(topic string, partition int32, offset int64, value []byte) (ids []string) {
	var e raw
	if json.Unmarshal(value, &e) != nil {
		return []string{origin(topic, partition, offset)}
	}
	if e.Account == "nobody" || e.Type == "DELIVERED" {
		return nil
	}
	name := e.Channel + "_" + e.Type
	subscribed := []string{"main"}
	if name == "EMAIL_OPEN" && isEven(e.Account) {
		subscribed = append(subscribed, "opens")
	}
	for _, s := range subscribed {
		if e.ID != "" {
			ids = append(ids, webhook.EventID(e.Account, name, e.ID, s))
		} else {
			ids = append(ids, webhook.OffsetID(topic, int(partition), offset, s))
		}
	}
	return ids
}

func origin(topic string, partition int32, offset int64) string {
	return fmt.Sprintf("%s/%d/%d", topic, partition, offset)
}

func isEven(account string) bool { return (account[len(account)-1]-'0')%2 == 0 }
