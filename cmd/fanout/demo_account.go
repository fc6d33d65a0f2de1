//go:build !nodemo

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"fanout/config"
	"fanout/event"
)

// lossAccount says of every event that the demo has sent, and of every delivery that was planned, what became of it.
type lossAccount struct {
	Seconds   float64        `json:"seconds"`
	Sent      map[string]int `json:"sent"`   // the demo's events, by name
	Events    int            `json:"events"` // in all
	Others    int            `json:"otherRecords"`
	Malformed int            `json:"malformed"`
	Ignored   int            `json:"ignored"`
	Unmatched int            `json:"unmatched"`

	Deliver   int            `json:"deliveries"` // planned, replays included
	Replayed  int            `json:"replayed"`
	Delivered int            `json:"delivered"`
	Dead      int            `json:"dead"`
	Reasons   map[string]int `json:"deadReasons"`
	Discarded int            `json:"discarded"`
	Waiting   int            `json:"waiting"` // sent and not read yet, or planned and without an end
	InFlight  int            `json:"inFlight"`
	Lost      int            `json:"lost"`

	Retried  int `json:"retried"`  // failed attempts that are made again
	Deferred int `json:"deferred"` // times that a delivery was put off without an attempt
	Received int `json:"received"` // different webhook-ids that the demo's receivers took
	Unsigned int `json:"unsigned"` // requests that they refused, since the signature did not verify

	Settled  bool `json:"settled"`  // nothing waits anywhere
	Shared   bool `json:"shared"`   // other instances took part, whose numbers are not here
	Balanced bool `json:"balanced"` // everything is accounted for

	parked    int  // lanes
	records   int  // read from the sources
	untouched bool // nobody has changed a subscription or replayed a delivery
	staged    bool // in each stage, what was planned is what came out of it and what is in flight
}

// problem is what keeps the account from balancing; nil where it does.
func (a *lossAccount) problem() error {
	switch {
	case a.Balanced:
		return nil
	case !a.Settled:
		return fmt.Errorf("%d of the deliveries had not ended after %s", a.Waiting, drainWithin)
	}
	return errors.New("the account does not balance")
}

// judge decides whether the account balances, once it is known whether nothing waits any more.
func (a *lossAccount) judge(settled bool) {
	a.Settled = settled
	if settled {
		a.Lost, a.Waiting = a.Waiting, 0
	}
	if a.Shared { // a delivery that this instance planned may have ended in another one
		a.Lost, a.Balanced = 0, settled && a.staged
		return
	}
	// Whoever plays with the demo may make deliveries that its receivers do not see, or see twice.
	seen := !a.untouched || a.Received >= a.Delivered && a.Unsigned == 0
	a.Balanced = settled && a.staged && a.Lost == 0 && a.InFlight == 0 && seen
}

// books keep the demo's account.
type books struct {
	cfg      *config.Config
	registry prometheus.Gatherer
	outside  *outside
	traffic  *traffic
	start    time.Time
	shared   bool
}

// account is how things stand, from the metrics that a scrape would see. It is called from one goroutine.
func (b *books) account() *lossAccount {
	a := &lossAccount{Seconds: time.Since(b.start).Seconds(), Sent: map[string]int{}, Events: int(b.traffic.sent.Load())}
	for i, name := range event.BuiltIn().Names() {
		a.Sent[name.String()] = int(b.traffic.names[i].Load())
	}
	for _, r := range b.outside.receivers {
		a.Received += r.received()
		a.Unsigned += int(r.unsigned.Load())
	}
	b.shared = b.shared || b.outside.instances() > 1
	a.Shared = b.shared
	families, err := b.registry.Gather()
	if err != nil {
		return a // nothing is known: the account does not balance
	}
	a.read(families)
	a.untouched = a.Replayed == 0 && b.outside.subscriptions() == b.outside.stored
	return a
}

// read takes in an instance's metrics.
func (a *lossAccount) read(families []*dto.MetricFamily) {
	a.Reasons = map[string]int{}
	ended, again := 0, 0 // deliveries; those that are planned once more, since a partition was lost
	planned, passed := map[string]int{}, map[string]int{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			labels, n := labelsOf(m), int(m.GetCounter().GetValue()+m.GetGauge().GetValue())
			switch family.GetName() {
			case "fanout_records_total":
				a.records += n
				a.record(labels["result"], n)
			case "fanout_deliveries_total":
				planned[labels["stage"]] += n
			case "fanout_in_flight":
				passed[labels["stage"]] += n
				a.InFlight += n
			case "fanout_outcomes_total":
				passed[labels["stage"]] += n
				ended += a.outcome(labels, n)
				if labels["outcome"] == "abandoned" && labels["stage"] != "retry" {
					again += n
				}
			case "fanout_lanes":
				if labels["state"] == "parked" {
					a.parked += n
				}
			}
		}
	}
	a.Replayed = planned["replay"]
	a.Deliver = planned["first"] + planned["replay"] - again
	a.Others = max(0, a.records-a.Events)
	a.Waiting = max(0, a.Events-a.records) + a.Deliver - ended
	a.staged = true
	for stage := range planned {
		a.staged = a.staged && planned[stage] == passed[stage]
	}
}

func (a *lossAccount) record(result string, n int) {
	switch result {
	case "malformed":
		a.Malformed += n
	case "ignored":
		a.Ignored += n
	case "unmatched":
		a.Unmatched += n
	}
}

// outcome counts outcomes, and returns how many deliveries ended with them.
func (a *lossAccount) outcome(labels map[string]string, n int) (ended int) {
	switch labels["outcome"] {
	case "delivered":
		a.Delivered += n
		return n
	case "dead":
		a.Dead += n
		if n > 0 {
			a.Reasons[labels["reason"]] += n
		}
		return n
	case "discarded":
		a.Discarded += n
		return n
	case "retry":
		a.Retried += n
	case "deferred":
		a.Deferred += n
	}
	return 0
}

func labelsOf(m *dto.Metric) map[string]string {
	labels := map[string]string{}
	for _, pair := range m.GetLabel() {
		labels[pair.GetName()] = pair.GetValue()
	}
	return labels
}

// drain waits until nothing waits any more, or ctx ends, and returns the account. show is called ten times a second.
func (b *books) drain(ctx context.Context, show func(*lossAccount)) *lossAccount {
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for {
		before := b.account()
		show(before)
		settled := before.InFlight == 0 && b.atRest(ctx)
		account := b.account()
		if settled = settled && account.InFlight == 0 && before.same(account); settled || ctx.Err() != nil {
			account.judge(settled)
			return account
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
		}
	}
}

// same says whether nothing was read and planned between two accounts. Somebody else may send events until the end.
func (a *lossAccount) same(other *lossAccount) bool {
	return a.records == other.records && a.Deliver == other.Deliver
}

func (b *books) atRest(ctx context.Context) bool {
	settled, err := b.outside.atRest(ctx, b.cfg)
	return err == nil && settled // a question that had no answer is asked again
}
