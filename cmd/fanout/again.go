package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"fanout/config"
	"fanout/operate"
	"fanout/subscriptions"
)

// sending is a replay or a backfill that runs.
type sending interface {
	Sent() int64
	Taken() int64
	Failures() int64
	Sending() time.Duration
}

// sentResult is what it did, for programs.
type sentResult struct {
	Name     string  `json:"name"`
	Sent     int64   `json:"sent"`
	Taken    int64   `json:"taken"` // sent by another one since the plan was made
	Failures int64   `json:"failures"`
	Seconds  float64 `json:"seconds"`
	Error    string  `json:"error,omitempty"`
	Plan     any     `json:"plan"`
}

// watchSending shows how far it has come while it runs.
func (a *app) watchSending(s sending, total int, run func() error) error {
	done, setTotal, end := a.progress("sending")
	setTotal(int64(total))
	watching := make(chan struct{})
	var follow sync.WaitGroup
	follow.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			done.Store(s.Sent())
			select {
			case <-watching:
				return
			case <-tick.C:
			}
		}
	})
	err := run()
	close(watching)
	follow.Wait()
	end()
	return err
}

// warnReceiver says on standard error what keeps the subscription's receiver from getting at once what is sent to it. An instance
// that does not answer is named: nothing is known of its lane. It returns the same for programs.
func (a *app) warnReceiver(ctx context.Context, cfg *config.Config, sub *subscriptions.Subscription, send int) *operate.Receiver {
	if sub.Paused() {
		fmt.Fprintln(a.stderr, "warning: the subscription is paused: what is sent waits until it is resumed, for max_age at most")
	}
	now := time.Now()
	var lanes []operate.Lane
	for _, instance := range a.lanes(ctx, cfg) {
		if instance.Err != nil {
			fmt.Fprintf(a.stderr, "warning: whether the receiver is parked is not known: %v\n", instance.Err)
		}
		for i := range instance.Lanes {
			l := &instance.Lanes[i]
			if l.Account == sub.Account() && l.Subscription == sub.ID() && (l.State == "parked" || l.Condition(now) == "held") {
				fmt.Fprintf(a.stderr, "warning: %s: the receiver is %s\n", instance.Instance, laneWords(l, now))
			}
		}
		lanes = append(lanes, instance.Lanes...)
	}
	return operate.NewReceiver(sub.Account(), sub.ID(), send, operate.Configured(sub), lanes, now)
}
