package consumer

import (
	"encoding/json"
	"time"

	"fanout/dispatcher"
)

// Attempt is one record of the attempts topic: an attempt, or a decision not to make one. Its key is the webhook-id.
type Attempt struct {
	Time         int64  `json:"time"` // Unix ms, when it was decided
	ID           string `json:"id"`   // webhook-id
	Account      string `json:"account"`
	Subscription string `json:"subscription"`
	Event        string `json:"event"`
	Origin       string `json:"origin"`
	Stage        string `json:"stage"`
	Outcome      string `json:"outcome"`
	Reason       string `json:"reason,omitempty"`
	Attempt      int    `json:"attempt,omitempty"` // which POST of the delivery this was; 0: none was made
	Status       int    `json:"status,omitempty"`
	TookMillis   int64  `json:"tookMs,omitempty"`
	Detail       string `json:"detail,omitempty"`
	Response     string `json:"response,omitempty"` // at most the first KiB
	Replay       string `json:"replay,omitempty"`
	DeadLetter   string `json:"deadLetter,omitempty"`
}

func (c *Consumer) attemptRecord(r *record, d *dispatcher.Delivery, out *dispatcher.Outcome, now time.Time) outgoing {
	a := Attempt{
		Time: now.UnixMilli(), ID: d.ID, Account: d.Account, Subscription: d.Subscription, Event: d.Event.String(),
		Origin: d.Origin.String(), Stage: d.Stage.String(), Outcome: out.Result.String(), Reason: out.Reason.String(),
		Status: out.Status, TookMillis: out.Took.Milliseconds(), Detail: out.Detail, Response: string(out.Response),
		Replay: d.Replay, DeadLetter: d.DeadLetter,
	}
	if out.Attempted {
		a.Attempt = d.Attempts + 1
	}
	value, err := json.Marshal(a)
	if err != nil {
		value = []byte("{}") // strings and numbers always marshal
	}
	return outgoing{topic: c.names.attempts, key: []byte(d.ID), value: value, acked: r.done}
}

// ParseAttempt reads a record of the attempts topic; false where it is none of ours.
func ParseAttempt(value []byte) (Attempt, bool) {
	var a Attempt
	err := json.Unmarshal(value, &a)
	return a, err == nil && a.ID != "" && a.Outcome != ""
}
